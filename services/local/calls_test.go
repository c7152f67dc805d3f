package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// request is one call of CreateSync.
type request struct {
	header *localv1.CreateSyncHeader
	body   []byte
	key    string
}

// replace, merge and apply are the shapes of most calls.
func replace(source, body string) request {
	return request{header: &localv1.CreateSyncHeader{Parent: members, Mode: localv1.Sync_REPLACE, Source: source, ContentType: "text/csv"}, body: []byte(body)}
}

func merge(source, body string) request {
	u := replace(source, body)
	u.header.Mode = localv1.Sync_MERGE
	return u
}

func (u request) applied() request {
	u.header.Apply = true
	return u
}

func (u request) to(list string) request {
	u.header.Parent = list
	return u
}

func (u request) confirming(n int32) request {
	u.header.ConfirmRemovals = &n
	return u
}

func (u request) as(contentType string) request {
	u.header.ContentType = contentType
	return u
}

func (u request) keyed(key string) request {
	u.key = key
	return u
}

func (u request) start(ctx context.Context, client localv1.SyncServiceClient) (grpc.ClientStreamingClient[localv1.CreateSyncRequest, localv1.Sync], error) {
	if u.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, rpc.IdempotencyHeader, u.key)
	}
	stream, err := client.CreateSync(ctx)
	if err != nil {
		return nil, err
	}
	header, _ := proto.Clone(u.header).(*localv1.CreateSyncHeader)
	return stream, stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: header}})
}

func sendChunk(stream grpc.ClientStreamingClient[localv1.CreateSyncRequest, localv1.Sync], chunk []byte) error {
	return stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: chunk}})
}

// send makes the call, with the body in pieces.
func (u request) send(ctx context.Context, client localv1.SyncServiceClient) (*localv1.Sync, error) {
	stream, err := u.start(ctx, client)
	for rest := u.body; err == nil && len(rest) > 0; {
		n := min(len(rest), 256<<10)
		err, rest = sendChunk(stream, rest[:n]), rest[n:]
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

func (w *world) sync(u request) *localv1.Sync {
	w.t.Helper()
	sync, err := u.send(w.t.Context(), w.syncs)
	w.must(err)
	return sync
}

func (w *world) refusesSync(u request, reason errorv1.Reason) error {
	w.t.Helper()
	_, err := u.send(w.t.Context(), w.syncs)
	refuses(w.t, err, reason)
	return err
}

// counts writes the counts of a sync that are not zero.
func counts(s *localv1.Sync) string {
	c, text := s.GetCounts(), strings.Builder{}
	for _, one := range []struct {
		name string
		n    int32
	}{
		{"add", c.GetAdd()},
		{"update", c.GetUpdate()},
		{"unchanged", c.GetUnchanged()},
		{"remove", c.GetRemove()},
		{"kept", c.GetKept()},
		{"suppressed", c.GetSuppressed()},
		{"rejected", c.GetRejected()},
		{"duplicate", c.GetDuplicate()},
	} {
		if one.n != 0 {
			fmt.Fprintf(&text, "%s %d ", one.name, one.n)
		}
	}
	return strings.TrimSpace(text.String())
}

func (w *world) expect(sync *localv1.Sync, state localv1.Sync_State, want string) {
	w.t.Helper()
	if sync.GetState() != state || counts(sync) != want {
		w.t.Fatalf("the sync is %s with %q, want %s with %q", sync.GetState(), counts(sync), state, want)
	}
}

// people writes the CSV of so many addresses, from one number on.
func people(from, n int) string {
	var csv strings.Builder
	csv.WriteString("email,name\n")
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&csv, "%s,Person %d\n", person(i), i)
	}
	return csv.String()
}

func person(i int) string { return fmt.Sprintf("person%d@example.org", i) }

// refuses asserts that a call was refused with the reason.
func refuses(t testing.TB, err error, reason errorv1.Reason) {
	t.Helper()
	if !rpc.Is(err, reason) {
		t.Fatalf("got %v, want %s", err, reason)
	}
}

func hasCode(t testing.TB, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// refusesField asserts that a call was refused because of one field.
func refusesField(t testing.TB, err error, field string) {
	t.Helper()
	if violations := rpc.ViolationsOf(err); len(violations) != 1 || violations[field] == "" {
		t.Fatalf("got %v with %v, want %s refused", err, violations, field)
	}
}
