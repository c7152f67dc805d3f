package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

func TestMembersAreExported(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, internationalv1.MemberService_ListMembers_FullMethodName, func(_ context.Context, r *internationalv1.ListMembersRequest) (*internationalv1.ListMembersResponse, error) {
		if r.GetState() != internationalv1.Member_ACTIVE || r.GetPageSize() != 1000 {
			t.Errorf("the service got %v", r)
		}
		if r.GetPageToken() == "" {
			return &internationalv1.ListMembersResponse{NextPageToken: "2", Members: []*internationalv1.Member{{
				Name: "members/ada", DisplayName: "=Ada", State: internationalv1.Member_ACTIVE,
				Addresses:   []*internationalv1.Address{{Address: "old@example.org"}, {Address: "ada@example.org", Verified: true}},
				TermEndTime: timestamppb.New(time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)),
			}}}, nil
		}
		return &internationalv1.ListMembersResponse{Members: []*internationalv1.Member{{Name: "members/bob", DisplayName: "Bob"}}}, nil
	})
	got := w.do(http.MethodGet, "/v1/members?state=ACTIVE", "", acceptCSV, "Authorization: Bearer abc")
	const want = "memberId,displayName,address,otherAddresses,state,termStartTime,termEndTime,activeUntilTime,createTime\n" +
		"ada,'=Ada,ada@example.org,old@example.org,ACTIVE,,2027-06-30T00:00:00Z,,\nbob,Bob,,,STATE_UNSPECIFIED,,,,\n"
	if got.status != http.StatusOK || got.body != want || got.header.Get("Content-Disposition") != `attachment; filename="members.csv"` {
		t.Errorf("%d %v\n%s", got.status, got.header, got.body)
	}
	lines := w.do(http.MethodGet, "/v1/members?state=ACTIVE", "", "Accept: application/x-ndjson", "Authorization: Bearer abc")
	if n := strings.Count(lines.body, "\n"); lines.status != http.StatusOK || n != 2 || !strings.Contains(lines.body, `"verified":true`) {
		t.Errorf("%d\n%s", lines.status, lines.body)
	}
}

func TestMembersAreImported(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var header *internationalv1.ImportMembersHeader
	var received strings.Builder
	w.stream(internationalv1.MemberImportService_ImportMembers_FullMethodName, func(stream grpc.ServerStream) error {
		for {
			var message internationalv1.ImportMembersRequest
			err := stream.RecvMsg(&message)
			if errors.Is(err, io.EOF) {
				return stream.SendMsg(&internationalv1.MemberImport{Name: "memberImports/x", State: internationalv1.MemberImport_APPLIED, Etag: "7"})
			}
			if err != nil {
				return err
			}
			if message.GetHeader() != nil {
				header = message.GetHeader()
			}
			received.Write(message.GetChunk())
		}
	})
	file := "address,displayName\n" + strings.Repeat("ada@example.org,Ada\n", 50_000)
	got := w.do(http.MethodPost, "/v1/members:import?apply=true", file, "Content-Type: text/csv", "Authorization: Bearer abc", "Idempotency-Key: once")
	if got.status != http.StatusOK || !strings.Contains(got.body, `"state":"APPLIED"`) || got.header.Get("ETag") != `"7"` {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	if received.String() != file || !header.GetApply() || header.GetRequestId() != "once" || header.GetContentType() != "text/csv" {
		t.Errorf("the service got %v and %d bytes of %d", header, received.Len(), len(file))
	}
	for name, c := range map[string]struct {
		path   string
		header string
		status int
	}{
		"UnknownParameter": {"/v1/members:import?mode=REPLACE", "Content-Type: text/csv", http.StatusBadRequest},
		"NoBoolean":        {"/v1/members:import?apply=perhaps", "Content-Type: text/csv", http.StatusBadRequest},
		"TwoKeys":          {"/v1/members:import?requestId=a&requestId=b", "Content-Type: text/csv", http.StatusBadRequest},
		"NoSource":         {"/v1/members:import", "Content-Type: image/png", http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.do(http.MethodPost, c.path, "x", c.header, "Authorization: Bearer abc"); got.status != c.status {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	if got := w.do(http.MethodGet, "/v1/members:import", ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", got.status, got.header)
	}
}
