package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestHeadersReachTheService(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_GetList_FullMethodName, func(ctx context.Context, _ *localv1.GetListRequest) (*localv1.List, error) {
		_ = grpc.SetHeader(ctx, metadata.Pairs(rpc.ReplayedHeader, "true", "secret", "1"))
		return &localv1.List{Name: "chapters/golang-paris/lists/members", Etag: "17-4"}, nil
	})
	got := w.do(http.MethodGet, listPath, "", "Authorization: Bearer abc", "Idempotency-Key: key-1", `If-Match: "17-3"`,
		"X-Request-Id: caller-1", "Grpc-Metadata-Authorization: Bearer other", "Cookie: a=b", "X-Secret: 1")
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	md := w.lastCall().metadata
	for key, want := range map[string]string{
		"authorization": "Bearer abc", "idempotency-key": "key-1", "if-match": `"17-3"`, "x-request-id": "caller-1",
	} {
		if values := md.Get(key); len(values) != 1 || values[0] != want {
			t.Errorf("%s is %q, want %q", key, values, want)
		}
	}
	for key := range md {
		if strings.Contains(key, "cookie") || strings.Contains(key, "secret") {
			t.Errorf("%s is handed on", key)
		}
	}
	for header, want := range map[string]string{
		"ETag": `"17-4"`, "X-Request-Id": "caller-1", "Idempotent-Replayed": "true", "X-Content-Type-Options": "nosniff",
		"Cache-Control": "private, no-cache", "Vary": "Authorization", "Access-Control-Allow-Origin": "", "Grpc-Metadata-Secret": "",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if value := got.header.Get(header); value != want {
			t.Errorf("%s is %q, want %q", header, value, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, offered := range []string{"", "a b", "x\"y", strings.Repeat("a", 129)} {
		got := w.do(http.MethodGet, "/v1/nothing", "", "X-Request-Id: "+offered)
		if id := got.header.Get("X-Request-Id"); id == offered || id == "" {
			t.Errorf("for %q the id is %q", offered, id)
		}
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, headers := range [][]string{
		{"Idempotency-Key: " + strings.Repeat("k", 201)},
		{"Idempotency-Key: a b"},
		{"Idempotency-Key: é"},
		{"Idempotency-Key: a", "Idempotency-Key: b"},
		{`If-Match: "é"`},
		{"Authorization: a", "Authorization: b"},
	} {
		got := w.do(http.MethodPost, "/v1/members", `{}`, append(headers, asJSON)...)
		got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		name, _, _ := strings.Cut(headers[0], ":")
		got.wantField(t, name)
	}
	if w.called() != 0 {
		t.Errorf("%d calls reached a service", w.called())
	}
}

func TestNoETagWithoutOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, internationalv1.MemberService_ListMembers_FullMethodName, func(context.Context, *internationalv1.ListMembersRequest) (*internationalv1.ListMembersResponse, error) {
		return &internationalv1.ListMembersResponse{Members: []*internationalv1.Member{{Etag: "1-1"}}}, nil
	})
	if got := w.do(http.MethodGet, "/v1/members", ""); got.header.Get("ETag") != "" {
		t.Errorf("a page has the ETag %q", got.header.Get("ETag"))
	}
}
