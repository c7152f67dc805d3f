package rpc_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func header(parent string) *localv1.CreateSyncRequest {
	return &localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: &localv1.CreateSyncHeader{
		Parent: parent, Mode: localv1.Sync_MERGE, Source: "crm", ContentType: "text/csv",
	}}}
}

func chunk(content string) *localv1.CreateSyncRequest {
	return &localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: []byte(content)}}
}

const parisMembers = "chapters/golang-paris/lists/members"

// upload sends the messages and returns the answer's error.
func upload(t *testing.T, client localv1.SyncServiceClient, messages ...*localv1.CreateSyncRequest) error {
	t.Helper()
	stream, err := client.CreateSync(t.Context())
	must(t, err)
	for _, message := range messages {
		if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer is there already
			t.Fatal(err)
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// reading counts the messages that the handler gets to see.
func reading(seen chan<- int) *service {
	return &service{createSync: func(stream localv1.SyncService_CreateSyncServer) error {
		for n := 0; ; n++ {
			_, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				seen <- n
				return stream.SendAndClose(&localv1.Sync{Name: authz.FromContext(stream.Context()).Subject})
			}
			if err != nil {
				seen <- n
				return err
			}
		}
	}}
}

func TestStreamIsAdmittedByItsFirstMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		messages []*localv1.CreateSyncRequest
		seen     int
		code     codes.Code
		reason   errorv1.Reason
	}{
		{"AnotherChapter", []*localv1.CreateSyncRequest{header("chapters/rust-tokyo/lists/members")}, 0, codes.PermissionDenied, denied},
		{"Malformed", []*localv1.CreateSyncRequest{header("chapters/Golang/lists/members")}, 0, codes.InvalidArgument, invalidField},
		{"RuleBroken", []*localv1.CreateSyncRequest{header(parisMembers + "/more")}, 0, codes.InvalidArgument, invalidField},
		{"NoHeader", []*localv1.CreateSyncRequest{chunk("a")}, 0, codes.PermissionDenied, denied},
		{"Empty", nil, 0, codes.PermissionDenied, denied},
		{"MovesToAnotherChapter", []*localv1.CreateSyncRequest{header(parisMembers), chunk("a"), header("chapters/rust-tokyo/lists/members")}, 2, codes.PermissionDenied, denied},
		{"TooLarge", []*localv1.CreateSyncRequest{header(parisMembers), chunk(strings.Repeat("a", 5<<20))}, 1, codes.ResourceExhausted, errorv1.Reason_REASON_UNSPECIFIED},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan int, 1)
			w := setup(t, reading(seen))
			err := upload(t, w.paris(), c.messages...)
			wantError(t, err, c.code, c.reason)
			if n := received(t, seen); n != c.seen {
				t.Errorf("the handler saw %d messages, want %d", n, c.seen)
			}
			if c.name == "TooLarge" { // gRPC answers that by itself, so only the log has the reason
				testkit.Eventually(t, limit, func() (bool, string) {
					return strings.Contains(w.log.String(), `"reason":"TOO_LARGE"`), w.log.String()
				})
			}
		})
	}
}

func TestStreamPasses(t *testing.T) {
	t.Parallel()
	seen := make(chan int, 1)
	w := setup(t, reading(seen))
	// Later messages are the handler's own to judge, and may repeat the scope.
	must(t, upload(t, w.paris(), header(parisMembers), chunk("a"), chunk(""), header(parisMembers)))
	if n := received(t, seen); n != 4 {
		t.Errorf("the handler saw %d messages", n)
	}
}

func TestStreamUnauthenticated(t *testing.T) {
	t.Parallel()
	w := setup(t, reading(make(chan int, 1)))
	wantError(t, upload(t, localv1.NewSyncServiceClient(w.as("", "")), header("x")), codes.Unauthenticated, unauthenticated)
}

func TestStreamAnswersNothingBeforeItIsAdmitted(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{createSync: func(stream localv1.SyncService_CreateSyncServer) error {
		return stream.SendAndClose(&localv1.Sync{Name: "secret"})
	}})
	wantError(t, upload(t, w.paris(), header("chapters/rust-tokyo/lists/members")), codes.Internal, internal)
}
