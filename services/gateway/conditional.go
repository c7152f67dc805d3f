package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
)

// setETag repeats the etag of a single resource as a header.
func setETag(_ context.Context, w http.ResponseWriter, message proto.Message) error {
	if message == nil {
		return nil
	}
	field := message.ProtoReflect().Descriptor().Fields().ByName("etag")
	if field == nil {
		return nil
	}
	if etag := message.ProtoReflect().Get(field).String(); etag != "" {
		w.Header().Set("ETag", quoted(etag))
	}
	return nil
}

func quoted(etag string) string { return `"` + etag + `"` }

// formSuffixes tell the forms of an export apart: a strong ETag names one representation (RFC 9110, 8.8.1), while the
// service's etag names the list's state, whatever the form.
var formSuffixes = map[string]string{mediaCSV: "-csv", mediaNDJSON: "-ndjson"}

// withoutForms takes the forms out of the ETags of an If-Match.
func withoutForms(match string) string {
	named := splitList(match)
	for i, etag := range named {
		for _, suffix := range formSuffixes {
			if state, ok := strings.CutSuffix(etag, suffix+`"`); ok {
				named[i] = state + `"`
			} else {
				named[i] = strings.TrimSuffix(named[i], suffix)
			}
		}
	}
	return strings.Join(named, ", ")
}

// bareETag is the service's etag out of an ETag header, or of what a caller made of one.
func bareETag(etag string) string {
	return strings.Trim(strings.TrimPrefix(withoutForms(etag), "W/"), `"`)
}

// conditional answers a GET with 304 where its If-None-Match names what would be answered.
type conditional struct {
	http.ResponseWriter
	request   *http.Request
	decided   bool
	unchanged bool
}

func (c *conditional) WriteHeader(status int) {
	if c.decided {
		return
	}
	c.decided = true
	if status == http.StatusOK && notModified(c.ResponseWriter, c.request) {
		c.unchanged = true
		return
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *conditional) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.unchanged {
		return len(p), nil
	}
	return c.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *conditional) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// notModified answers 304 where the request's If-None-Match names the ETag that w has, and says whether it did.
//
// What has an ETag may be kept, by its reader alone and never to be used unasked. A 304 means "use what you stored" (RFC
// 9111, 4.3.3), and no-store forbids to store (5.2.2.5), so that the two together would contradict each other; private
// keeps it out of shared caches (5.2.2.7), and no-cache has each use confirmed by us, with the permission of whoever asks
// (5.2.2.4). Vary keeps a cache that several people share a browser with from answering one with what another read.
func notModified(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	etag := header.Get("ETag")
	if etag == "" {
		return false
	}
	header.Set("Cache-Control", "private, no-cache")
	header.Add("Vary", "Authorization")
	if !noneMatchNames(r.Header.Values("If-None-Match"), etag) {
		return false
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Disposition"} {
		header.Del(name)
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// noneMatchNames compares weakly, as If-None-Match is to be (RFC 9110, 13.1.2).
func noneMatchNames(values []string, etag string) bool {
	for _, value := range values {
		if strings.TrimSpace(value) == "*" {
			return true
		}
		if slices.ContainsFunc(splitList(value), func(named string) bool {
			return strings.TrimPrefix(named, "W/") == strings.TrimPrefix(etag, "W/")
		}) {
			return true
		}
	}
	return false
}
