package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	mediaProblem = "application/problem+json"
	errorsPage   = "/docs/errors"
)

// problem is the one body of all errors: a problem of RFC 9457 and a google.rpc.Status in one object.
type problem struct {
	Type     string            `json:"type"`
	Title    string            `json:"title"`
	Status   int               `json:"status"`
	Detail   string            `json:"detail"`
	Instance string            `json:"instance"`
	Code     codes.Code        `json:"code"`
	Message  string            `json:"message"`
	Details  []json.RawMessage `json:"details"`

	reason string
	header http.Header
}

// routeError is an error of the routing itself, whose HTTP status no gRPC code has.
type routeError struct {
	error
	status int
	allow  []string
}

func (e *routeError) Unwrap() error { return e.error }

// unroutable says what is wrong with a path that no handler takes.
func (g *gateway) unroutable(r *http.Request, httpStatus int) error {
	if httpStatus == http.StatusBadRequest {
		return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "the path is not well-formed")
	}
	if allowed := g.routes.methodsAt(r); len(allowed) > 0 {
		return methodNotAllowed(allowed...)
	}
	return noSuchPath()
}

func noSuchPath() error {
	return rpc.NotFound(errorv1.Reason_REASON_UNKNOWN_ROUTE, "there is no such path; /docs lists all of them")
}

func methodNotAllowed(allowed ...string) error {
	return &routeError{
		error:  rpc.Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "this path takes %s only", strings.Join(allowed, ", ")),
		status: http.StatusMethodNotAllowed,
		allow:  allowed,
	}
}

// fail answers with an error.
func (g *gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	exchange := exchangeOf(r.Context())
	p := g.problemOf(r, err)
	exchange.reason = p.reason
	header := w.Header()
	for name, values := range p.header {
		header[name] = values
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", challenge(r))
	}
	header.Set("Content-Type", mediaProblem)
	header.Set("Cache-Control", "no-store")
	header.Del("ETag")
	writeJSON(w, p.Status, p)
}

// writeJSON answers with a value of ours. Its length is stated, so that a client need not wait for a connection that
// closes later to know that the answer is whole.
func writeJSON(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Errorf("marshal an answer: %w", err)) // it is made of texts and numbers
	}
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the caller is gone: nobody is left to be told
}

func challenge(r *http.Request) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="chapterhouse"`
	}
	return `Bearer realm="chapterhouse", error="invalid_token"`
}

func (g *gateway) problemOf(r *http.Request, err error) *problem {
	id := rpc.RequestID(r.Context())
	known := g.reasoned(r, err, id)
	info := rpc.InfoOf(known)
	st := statusOf(known)
	p := &problem{
		Type:     errorsPage + "#" + info.GetReason(),
		Title:    titleOf(info.GetReason()),
		Status:   httpStatus(st.Code(), info.GetReason()),
		Detail:   st.Message(),
		Instance: "urn:chapterhouse:request:" + id,
		Code:     st.Code(),
		Message:  st.Message(),
		Details:  detailsOf(st.Proto().GetDetails()),
		reason:   info.GetReason(),
		header:   http.Header{},
	}
	if route, ok := errors.AsType[*routeError](err); ok {
		p.Status = route.status
		p.header.Set("Allow", strings.Join(route.allow, ", "))
	}
	if after := retryAfter(st, info); after != "" {
		p.header.Set("Retry-After", after)
	}
	return p
}

// reasoned gives an error that carries no reason of ours one: it comes from gRPC itself, from the generated code, or
// is a fault of the gateway's.
func (g *gateway) reasoned(r *http.Request, err error, id string) error {
	if rpc.InfoOf(err) != nil {
		return err
	}
	if malformed, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "%s", http.StatusText(malformed.HTTPStatus))
	}
	if errors.Is(context.Cause(r.Context()), errStopping) {
		return rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "this server is stopping; ask again").RetryAfter(time.Second)
	}
	code := status.Code(err)
	if ended := r.Context().Err(); ended != nil {
		code = status.FromContextError(ended).Code()
	}
	switch code {
	case codes.InvalidArgument:
		return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "the request is not well-formed")
	case codes.Unauthenticated:
		return rpc.Unauthenticated(errorv1.Reason_REASON_UNAUTHENTICATED, "sign in first")
	case codes.PermissionDenied:
		return rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "not permitted")
	case codes.Unimplemented:
		return rpc.Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "the service behind this path does not know this method")
	case codes.Canceled, codes.DeadlineExceeded:
		return &foreign{code, errorv1.Reason_REASON_CANCELLED, "the answer was not ready in time, or nobody waited for it; it is not known whether anything was changed"}
	case codes.Unavailable:
		g.log.WarnContext(r.Context(), "service unreachable", "request_id", id, "cause", status.Convert(err).Message())
		return rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "the service behind this path cannot be reached; try again")
	case codes.Unknown: // from no server of ours, so that its text could be anything
		g.log.ErrorContext(r.Context(), "internal error", "request_id", id, "cause", fmt.Sprintf("%T", err))
		return internal(r)
	default:
		g.log.ErrorContext(r.Context(), "internal error", "request_id", id, "code", code.String(), "cause", status.Convert(err).Message())
		return internal(r)
	}
}

func internal(r *http.Request) error {
	return &foreign{codes.Internal, errorv1.Reason_REASON_INTERNAL, "internal error; quote request id " + rpc.RequestID(r.Context())}
}

// statusOf takes the status out of whatever wraps it, without the wrapping's words.
func statusOf(err error) *status.Status {
	carrier, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return status.Convert(err)
	}
	return carrier.GRPCStatus()
}

// foreign is an error of a code that only gRPC itself and faults have.
type foreign struct {
	code    codes.Code
	reason  errorv1.Reason
	message string
}

func (f *foreign) Error() string { return f.message }

// GRPCStatus is the error as the services would send it.
func (f *foreign) GRPCStatus() *status.Status {
	st := &spb.Status{Code: int32(f.code), Message: f.message}
	if info, err := anypb.New(&errdetails.ErrorInfo{Reason: nameOf(f.reason), Domain: rpc.Domain}); err == nil {
		st.Details = append(st.Details, info)
	}
	return status.FromProto(st)
}

func nameOf(reason errorv1.Reason) string { return strings.TrimPrefix(reason.String(), "REASON_") }

// statuses are the reasons for which HTTP has a better word than for their code.
var statuses = map[string]int{
	"IDEMPOTENCY_KEY_REUSED": http.StatusUnprocessableEntity,
	"IDEMPOTENCY_KEY_IN_USE": http.StatusConflict,
	"TOO_LARGE":              http.StatusRequestEntityTooLarge,
	"UNSUPPORTED_MEDIA_TYPE": http.StatusUnsupportedMediaType,
	"UPLOAD_INTERRUPTED":     http.StatusRequestTimeout,
	"RATE_LIMITED":           http.StatusTooManyRequests,
}

func httpStatus(code codes.Code, reason string) int {
	if better, ok := statuses[reason]; ok {
		return better
	}
	return runtime.HTTPStatusFromCode(code)
}

// retryAfter is in whole seconds, rounded up.
func retryAfter(st *status.Status, info *errdetails.ErrorInfo) string {
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			wait := retry.GetRetryDelay()
			seconds := wait.GetSeconds()
			if wait.GetNanos() > 0 {
				seconds++
			}
			return strconv.FormatInt(seconds, 10)
		}
	}
	return info.GetMetadata()["retryAfterSeconds"]
}

// detailsOf writes the details as protojson does an Any. What is of a type that this program does not know says
// nothing to its callers either.
func detailsOf(details []*anypb.Any) []json.RawMessage {
	written := []json.RawMessage{}
	for _, detail := range details {
		if text, err := protojson.Marshal(detail); err == nil {
			written = append(written, text)
		}
	}
	return written
}

// titleOf writes a reason in words: NOT_ELIGIBLE is "Not eligible".
func titleOf(reason string) string {
	text := bytes.ReplaceAll([]byte(reason), []byte("_"), []byte(" "))
	for i := 1; i < len(text); i++ {
		if text[i] >= 'A' && text[i] <= 'Z' {
			text[i] += 'a' - 'A'
		}
	}
	return string(text)
}
