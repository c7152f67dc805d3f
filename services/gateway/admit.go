package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const mediaJSON = "application/json"

// admit stands before every handler of the API. It refuses what the generated handlers would pass over in silence:
// unknown parameters, bodies of another media type, bodies where none belongs.
func (g *gateway) admit(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		if impossible(params) {
			g.fail(w, r, g.unroutable(r, http.StatusNotFound))
			return
		}
		nameSpan(r, pattern.String())
		if err := checkHeaders(r.Header); err != nil {
			g.fail(w, r, err)
			return
		}
		matched := g.routes.find(r.Method, pattern.String())
		if matched == nil {
			next(w, r, params)
			return
		}
		g.formOf(next, w, r, matched)(w, r, params)
	}
}

// formOf chooses between the JSON of a method and the forms of its export.
func (g *gateway) formOf(next runtime.HandlerFunc, w http.ResponseWriter, r *http.Request, matched *route) runtime.HandlerFunc {
	exported := g.exports[matched.pattern]
	if exported == nil || matched.method != http.MethodGet {
		return g.call(next, matched)
	}
	w.Header().Add("Vary", "Accept")
	if form := wantedForm(r.Header); form != "" {
		return g.answerExport(exported, form, matched)
	}
	return g.call(next, matched)
}

// call checks the query and the body, and bounds the time that the answer may take.
func (g *gateway) call(next runtime.HandlerFunc, matched *route) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		query, err := parseQuery(r)
		if err == nil {
			err = matched.checkQuery(query)
		}
		if err != nil {
			g.fail(w, r, err)
			return
		}
		body, err := g.readBody(w, r, matched)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		wait := matched.wait(query)
		ctx, cancel := context.WithTimeout(r.Context(), g.cfg.RequestTimeout+wait)
		defer cancel()
		if wait > 0 {
			ctx, cancel = untilStop(ctx)
			defer cancel()
		}
		r = r.Clone(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if matched.mask(query, body) || matched.since(query) {
			r.URL.RawQuery = query.Encode()
		}
		if r.Method == http.MethodGet {
			w = &conditional{ResponseWriter: w, request: r}
		}
		next(w, r, params)
	}
}

// readBody reads the whole body, which must be JSON for the route's message.
func (g *gateway) readBody(w http.ResponseWriter, r *http.Request, matched *route) ([]byte, error) {
	if r.ContentLength == 0 || r.Body == http.NoBody {
		return nil, nil
	}
	if err := checkJSONType(r.Header); err != nil && matched.body != "" {
		return nil, err
	}
	if r.ContentLength > g.cfg.MaxBodyBytes {
		return nil, tooLarge(g.cfg.MaxBodyBytes)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, g.cfg.MaxBodyBytes+1))
	if err != nil {
		return nil, interrupted(err)
	}
	if int64(len(body)) > g.cfg.MaxBodyBytes {
		return nil, tooLarge(g.cfg.MaxBodyBytes)
	}
	unhurried(w)
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if matched.body == "" {
		return nil, rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "this method takes no body; what it takes are query parameters")
	}
	return body, readJSON(body, matched.bodyMessage())
}

// unhurried takes the deadline off a connection whose request was read to its end. Left on, it would end the
// request: net/http reads on, to see the client go.
func unhurried(w http.ResponseWriter) { setReadDeadline(w, never) }

func checkJSONType(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return unsupportedMedia("a body of this path cannot be compressed")
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != mediaJSON {
		return unsupportedMedia("send the body with Content-Type: application/json (curl -d sends a form unless it is told otherwise)")
	}
	return nil
}

func unsupportedMedia(remedy string) error {
	return rpc.Invalid(errorv1.Reason_REASON_UNSUPPORTED_MEDIA_TYPE, "", "%s", remedy)
}

func tooLarge(limit int64) error {
	return rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "the body is larger than the %d bytes that this path takes", limit).With("limit", limit)
}

// interrupted says why a body could not be read to its end.
func interrupted(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return rpc.Aborted(errorv1.Reason_REASON_UPLOAD_INTERRUPTED, "the body did not arrive in time; nothing was changed").Because(err)
	}
	return rpc.Aborted(errorv1.Reason_REASON_UPLOAD_INTERRUPTED, "the body ended early; nothing was changed").Because(err)
}

func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "the query string is not well-formed")
	}
	return query, nil
}

// bodyMessage is an empty message of the kind that the body holds.
func (r *route) bodyMessage() proto.Message {
	if r.body == "*" {
		return r.input.New().Interface()
	}
	input := r.input.New()
	return input.NewField(input.Descriptor().Fields().ByName(fieldName(r.body))).Message().Interface()
}

// wait is how long the caller lets the service hold its answer back, on top of the time that any call may take. It is
// less than what observe leaves for writing the answer.
func (r *route) wait(query url.Values) time.Duration {
	const parameter, longest = "waitSeconds", 25
	if r.query[parameter] == nil {
		return 0
	}
	seconds, _ := strconv.Atoi(query.Get(parameter)) // checkQuery has read it
	return time.Duration(min(max(seconds, 0), longest)) * time.Second
}

// since takes the etag out of an ETag header that was passed on as it is, and says whether it changed the query.
func (r *route) since(query url.Values) bool {
	const parameter = "since"
	if r.query[parameter] == nil || !query.Has(parameter) {
		return false
	}
	query.Set(parameter, bareETag(query.Get(parameter)))
	return true
}

// mask makes of an update's body the mask that it stands for, where the query has none, and writes the mask of the
// query in the proto's names, as the services know them. It says whether it changed the query.
func (r *route) mask(query url.Values, body []byte) bool {
	const parameter = "updateMask"
	if r.query[parameter] == nil {
		return false
	}
	resource := r.bodyMessage()
	var paths []string
	if given := query.Get(parameter); given != "" {
		for path := range strings.SplitSeq(given, ",") {
			paths = append(paths, protoPath(resource, strings.TrimSpace(path)))
		}
	} else if found, err := runtime.FieldMaskFromRequestBody(bytes.NewReader(body), resource); err == nil {
		// The name is the path's, and the etag a condition: a resource that was read, changed and sent back has both.
		paths = slices.DeleteFunc(found.GetPaths(), func(path string) bool { return path == "name" || path == "etag" })
	}
	query.Set(parameter, strings.Join(paths, ","))
	return true
}
