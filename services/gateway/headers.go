package gateway

import (
	"context"
	"net/http"
	"regexp"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	headerIfMatch        = "If-Match"
	headerRequestID      = "X-Request-Id"
)

// handedOn are the headers that the services get as metadata. Authorization is handed on by the generated code.
var handedOn = map[string]string{
	headerIdempotencyKey: rpc.IdempotencyHeader,
	headerIfMatch:        rpc.IfMatchHeader,
}

var (
	idempotencyKey = regexp.MustCompile(`^[!-~]{1,200}$`)
	etags          = regexp.MustCompile(`^[ -~]{1,200}$`)
	headerRules    = map[string]*regexp.Regexp{headerIdempotencyKey: idempotencyKey, headerIfMatch: etags, "Authorization": regexp.MustCompile(`^[ -~]*$`)}
)

// checkHeaders refuses what could not be handed on as it is: a key or a condition that gets lost on its way would
// make the call another one.
func checkHeaders(header http.Header) error {
	for name, rule := range headerRules {
		values := header.Values(name)
		switch {
		case len(values) > 1:
			return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, name, "is given more than once")
		case len(values) == 1 && !rule.MatchString(values[0]):
			return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, name, "must be printable ASCII of at most 200 characters, an Idempotency-Key without spaces")
		}
	}
	return nil
}

// metadataOf is what the services get to know of a request beside its message.
func metadataOf(ctx context.Context, r *http.Request) metadata.MD {
	md := metadata.Pairs(rpc.RequestIDHeader, rpc.RequestID(ctx))
	for header, key := range handedOn {
		if value := r.Header.Get(header); value != "" {
			md.Set(key, value)
		}
	}
	if match := r.Header.Get(headerIfMatch); match != "" {
		md.Set(rpc.IfMatchHeader, withoutForms(match))
	}
	return md
}

// outgoingHeader chooses what of a service's metadata the caller gets to know.
func outgoingHeader(key string) (string, bool) {
	if key == rpc.ReplayedHeader {
		return "Idempotent-Replayed", true
	}
	return "", false
}

// secure is for all answers: nothing runs in them, nothing frames them, nobody keeps them. Pages ask for what they need.
func secure(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
}

// nameSpan names the request's span after its route, once that is known, and tells the log.
func nameSpan(r *http.Request, pattern string) {
	exchangeOf(r.Context()).route = pattern
	trace.SpanFromContext(r.Context()).SetName(r.Method + " " + pattern)
}
