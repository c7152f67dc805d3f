package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestErrorsOfServices(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct {
		err    error
		status int
		reason string
		code   codes.Code
	}{
		{rpc.Unauthenticated(errorv1.Reason_REASON_UNAUTHENTICATED, "who are you"), 401, "UNAUTHENTICATED", codes.Unauthenticated},
		{rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "no"), 403, "PERMISSION_DENIED", codes.PermissionDenied},
		{rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "no such list"), 404, "NOT_FOUND", codes.NotFound},
		{rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "displayName", "is empty"), 400, "INVALID_FIELD", codes.InvalidArgument},
		{rpc.Invalid(errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED, "requestId", "was used"), 422, "IDEMPOTENCY_KEY_REUSED", codes.InvalidArgument},
		{rpc.Aborted(errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE, "still running"), 409, "IDEMPOTENCY_KEY_IN_USE", codes.Aborted},
		{rpc.Aborted(errorv1.Reason_REASON_ETAG_MISMATCH, "changed"), 409, "ETAG_MISMATCH", codes.Aborted},
		{rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "taken"), 409, "ALREADY_EXISTS", codes.AlreadyExists},
		{rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "needs 3 more"), 400, "NOT_ELIGIBLE", codes.FailedPrecondition},
		{rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "too many rows"), 413, "TOO_LARGE", codes.ResourceExhausted},
		{rpc.Exhausted(errorv1.Reason_REASON_RATE_LIMITED, "slow down"), 429, "RATE_LIMITED", codes.ResourceExhausted},
		{rpc.Invalid(errorv1.Reason_REASON_UNSUPPORTED_MEDIA_TYPE, "", "what is this"), 415, "UNSUPPORTED_MEDIA_TYPE", codes.InvalidArgument},
		{rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "away"), 503, "TIER_UNAVAILABLE", codes.Unavailable},
		{rpc.OutOfRange(errorv1.Reason_REASON_INVALID_FIELD, "beyond"), 400, "INVALID_FIELD", codes.OutOfRange},
		{rpc.Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "no such method"), 501, "UNKNOWN_ROUTE", codes.Unimplemented},
		{errors.New("boom, says ada@example.org"), 500, "INTERNAL", codes.Internal},
		{bare(codes.DataLoss, "boom"), 500, "INTERNAL", codes.Internal},
		{bare(codes.ResourceExhausted, "message larger than max"), 500, "INTERNAL", codes.Internal},
		{bare(codes.DeadlineExceeded, "late"), 504, "CANCELLED", codes.DeadlineExceeded},
	} {
		w.refuses(c.err)
		got := w.do(http.MethodGet, listPath, "")
		body := got.wantError(t, c.status, c.reason)
		if body["code"] != float64(c.code) || body["message"] != body["detail"] {
			t.Errorf("%s: code %v, message %q, detail %q", c.reason, body["code"], body["message"], body["detail"])
		}
		if strings.Contains(got.body, "boom") || strings.Contains(got.body, "@example") {
			t.Errorf("%s: the cause is told: %s", c.reason, got.body)
		}
	}
}

// bare is an error of gRPC's own, without a reason.
func bare(code codes.Code, message string) error {
	return status.FromProto(&spb.Status{Code: int32(code), Message: message}).Err()
}

func TestErrorKeepsItsDetails(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refuses(rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "needs <3> & more").
		With("convert", 3).Field("standingEtag", "is old").RetryAfter(1500 * time.Millisecond))
	got := w.do(http.MethodGet, listPath, "")
	body := got.wantError(t, http.StatusBadRequest, "NOT_ELIGIBLE")
	if body["title"] != "Not eligible" {
		t.Errorf("title is %q", body["title"])
	}
	info := body["details"].([]any)[0].(map[string]any)
	if info["metadata"].(map[string]any)["convert"] != "3" {
		t.Errorf("metadata: %v", info)
	}
	if said := got.wantField(t, "standingEtag"); said != "is old" {
		t.Errorf("of the field it says %q", said)
	}
	if got.header.Get("Retry-After") != "2" || !strings.Contains(got.body, "<3> & more") {
		t.Errorf("%v %s", got.header, got.body)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refuses(rpc.Unauthenticated(errorv1.Reason_REASON_UNAUTHENTICATED, "sign in"))
	if got := w.do(http.MethodGet, listPath, "").header.Get("WWW-Authenticate"); got != `Bearer realm="chapterhouse"` {
		t.Errorf("without a token: %q", got)
	}
	forged := w.do(http.MethodGet, listPath, "", "Authorization: Bearer x").header.Get("WWW-Authenticate")
	if forged != `Bearer realm="chapterhouse", error="invalid_token"` {
		t.Errorf("with a bad token: %q", forged)
	}
}

func TestRateLimitSaysWhen(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refuses(rpc.Exhausted(errorv1.Reason_REASON_RATE_LIMITED, "slow down").With("retryAfterSeconds", 7))
	if got := w.do(http.MethodGet, listPath, "").header.Get("Retry-After"); got != "7" {
		t.Errorf("Retry-After is %q", got)
	}
}

func TestServiceDown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.services["local"].server.Stop()
	got := w.do(http.MethodGet, listPath, "")
	got.wantError(t, http.StatusServiceUnavailable, "TIER_UNAVAILABLE")
	if got.header.Get("Retry-After") != "1" || strings.Contains(got.body, "127.0.0.1") {
		t.Errorf("%v %s", got.header, got.body)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.RequestTimeout = 50 * time.Millisecond })
	on(w, localv1.ListService_GetList_FullMethodName, func(ctx context.Context, _ *localv1.GetListRequest) (*localv1.List, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	w.do(http.MethodGet, listPath, "", "Grpc-Timeout: 1H").wantError(t, http.StatusGatewayTimeout, "CANCELLED")
}

// A page of errors that lacks a reason would be a broken link in every such error.
func TestErrorsPageHasEveryReason(t *testing.T) {
	t.Parallel()
	w := setup(t)
	page := w.do(http.MethodGet, "/docs/errors", "")
	for number, name := range errorv1.Reason_name {
		name = strings.TrimPrefix(name, "REASON_")
		_, entry, found := strings.Cut(page.body, `<dt id="`+name+`"><code>`+name+"</code></dt>\n<dd>")
		if number != 0 && (!found || strings.HasPrefix(entry, "</dd>")) {
			t.Errorf("%s is not explained", name)
		}
	}
}
