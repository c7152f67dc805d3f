package rpc_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

const (
	keyReused = errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED
	keyInUse  = errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE
)

func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testkit.Pool(t, postgres.Migration{Name: "rpc", Files: rpc.Migrations})
}

// register enters members into a table; the number of rows is what a call did.
type register struct{ pool *pgxpool.Pool }

func newRegister(t *testing.T) register {
	t.Helper()
	r := register{database(t)}
	_, err := r.pool.Exec(t.Context(), "CREATE TABLE member (number bigserial, name text)")
	must(t, err)
	return r
}

func (r register) create(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
	return rpc.InTx(ctx, r.pool, func(tx pgx.Tx) (*internationalv1.Member, error) {
		return r.insert(ctx, tx, req.GetMember().GetDisplayName())
	})
}

func (r register) renew(ctx context.Context, req *internationalv1.RenewMemberRequest) (*internationalv1.Member, error) {
	return rpc.InTx(ctx, r.pool, func(tx pgx.Tx) (*internationalv1.Member, error) { return r.insert(ctx, tx, req.GetName()) })
}

func (r register) insert(ctx context.Context, tx pgx.Tx, name string) (*internationalv1.Member, error) {
	var number int64
	err := tx.QueryRow(ctx, "INSERT INTO member (name) VALUES ($1) RETURNING number", name).Scan(&number)
	return &internationalv1.Member{Name: fmt.Sprintf("members/%d", number), DisplayName: name}, err
}

func (r register) wantRows(t *testing.T, want int) {
	t.Helper()
	var got int
	must(t, r.pool.QueryRow(t.Context(), "SELECT count(*) FROM member").Scan(&got))
	if got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
}

func keyed(name, key string) *internationalv1.CreateMemberRequest {
	return &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{DisplayName: name}, RequestId: key}
}

func TestSameRequestHappensOnce(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	w := setup(t, &service{createMember: r.create})
	var header metadata.MD
	first, err := w.staff().CreateMember(t.Context(), keyed("Ada", "k1"), grpc.Header(&header))
	must(t, err)
	if len(header.Get(rpc.ReplayedHeader)) != 0 {
		t.Error("the first answer says that it is a replay")
	}
	again, err := w.staff().CreateMember(t.Context(), keyed("Ada", "k1"), grpc.Header(&header))
	must(t, err)
	if again.GetName() != first.GetName() || len(header.Get(rpc.ReplayedHeader)) != 1 {
		t.Errorf("got %v, then %v (%v)", first, again, header)
	}
	// The header stands for the field.
	viaHeader, err := w.staff().CreateMember(withMetadata(t, rpc.IdempotencyHeader, "k1"), keyed("Ada", ""))
	must(t, err)
	if viaHeader.GetName() != first.GetName() {
		t.Errorf("by header: got %v", viaHeader)
	}
	r.wantRows(t, 1)
}

func TestRequestKeys(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	w := setup(t, &service{createMember: r.create, renewMember: r.renew})
	staff := w.staff()
	_, err := staff.CreateMember(t.Context(), keyed("Ada", "k1"))
	must(t, err)

	_, err = staff.CreateMember(t.Context(), keyed("Grace", "k1"))
	wantError(t, err, codes.InvalidArgument, keyReused)
	_, err = staff.CreateMember(withMetadata(t, rpc.IdempotencyHeader, "k2"), keyed("Ada", "k1"))
	wantError(t, err, codes.InvalidArgument, invalidField)
	_, err = staff.CreateMember(t.Context(), keyed("Ada", "two words"))
	wantError(t, err, codes.InvalidArgument, invalidField)
	r.wantRows(t, 1)

	// The key is this caller's, for this method: it means nothing elsewhere.
	_, err = staff.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{Name: "members/1", TermEndTime: timestamppb.New(noon), RequestId: "k1"})
	must(t, err)
	other := authz.Principal{Subject: "another", Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: authz.Federation}}}
	token, err := authz.Mint(w.signer, other, time.Hour, noon)
	must(t, err)
	_, err = internationalv1.NewMemberServiceClient(w.dial(rpc.StaticToken(token))).CreateMember(t.Context(), keyed("Ada", "k1"))
	must(t, err)
	r.wantRows(t, 3)

	// Without a key, each call counts.
	for range 2 {
		_, err = staff.CreateMember(t.Context(), keyed("Ada", ""))
		must(t, err)
	}
	r.wantRows(t, 5)
}

func TestRefusalsAreNotKept(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	refusals := make(chan error, 1)
	refusals <- rpc.Precondition(errorv1.Reason_REASON_TERM_END_INVALID, "not now")
	w := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		return rpc.InTx(ctx, r.pool, func(tx pgx.Tx) (*internationalv1.Member, error) {
			member, err := r.insert(ctx, tx, req.GetMember().GetDisplayName())
			select {
			case err = <-refusals:
			default:
			}
			return member, err
		})
	}})
	_, err := w.staff().CreateMember(t.Context(), keyed("Ada", "k1"))
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_TERM_END_INVALID)
	r.wantRows(t, 0)
	_, err = w.staff().CreateMember(t.Context(), keyed("Ada", "k1"))
	must(t, err)
	r.wantRows(t, 1)
}

func TestRehearsalIsNotKept(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	w := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		if req.GetValidateOnly() {
			return rpc.InTx(ctx, r.pool, func(pgx.Tx) (*internationalv1.Member, error) { return &internationalv1.Member{}, nil })
		}
		return r.create(ctx, req)
	}})
	rehearsal := keyed("Ada", "k1")
	rehearsal.ValidateOnly = true
	_, err := w.staff().CreateMember(t.Context(), rehearsal)
	must(t, err)
	_, err = w.staff().CreateMember(t.Context(), keyed("Ada", "k1"))
	must(t, err)
	r.wantRows(t, 1)
}

func TestSecondCallWaitsItsTurn(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	inside, proceed := make(chan struct{}), make(chan struct{})
	w := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		return rpc.InTx(ctx, r.pool, func(tx pgx.Tx) (*internationalv1.Member, error) {
			inside <- struct{}{}
			<-proceed
			return r.insert(ctx, tx, req.GetMember().GetDisplayName())
		})
	}})
	first := make(chan error, 1)
	staff := w.staff()
	go func() {
		_, err := staff.CreateMember(context.Background(), keyed("Ada", "k1"))
		first <- err
	}()
	received(t, inside)
	_, err := staff.CreateMember(t.Context(), keyed("Ada", "k1"))
	wantError(t, err, codes.Aborted, keyInUse)
	close(proceed)
	must(t, received(t, first))
	_, err = staff.CreateMember(t.Context(), keyed("Ada", "k1"))
	must(t, err)
	r.wantRows(t, 1)
}

// TestManyRetriesHaveOneEffect: whatever way concurrent retries of the same calls meet, each call has one effect and all
// its answers are equal.
func TestManyRetriesHaveOneEffect(t *testing.T) {
	t.Parallel()
	const calls, retries = 5, 8
	r := newRegister(t)
	staff := setup(t, &service{createMember: r.create}).staff()
	var group sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]map[string]bool{}
	for n := range calls * retries {
		group.Go(func() {
			key := fmt.Sprintf("k%d", n%calls)
			for {
				member, err := staff.CreateMember(t.Context(), keyed("Ada "+key, key))
				if rpc.Is(err, keyInUse) {
					continue
				}
				mu.Lock()
				defer mu.Unlock()
				if answers[key] == nil {
					answers[key] = map[string]bool{}
				}
				answers[key][fmt.Sprint(member.GetName(), err)] = true
				return
			}
		})
	}
	group.Wait()
	r.wantRows(t, calls)
	for key, different := range answers {
		if len(different) != 1 {
			t.Errorf("%s: got %v", key, different)
		}
	}
}

func TestStreamHappensOnce(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	w := setup(t, &service{createSync: func(stream localv1.SyncService_CreateSyncServer) error {
		hash := sha256.New()
		for {
			message, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			hash.Write(message.GetChunk())
		}
		ctx := rpc.WithIdempotency(stream.Context(), rpc.IdempotencyKey(stream.Context()), hash.Sum(nil))
		sync, err := rpc.InTx(ctx, r.pool, func(tx pgx.Tx) (*localv1.Sync, error) {
			member, err := r.insert(ctx, tx, "sync")
			return &localv1.Sync{Name: member.GetName()}, err
		})
		if err != nil {
			return err
		}
		return stream.SendAndClose(sync)
	}})
	send := func(content string) (*localv1.Sync, error) {
		stream, err := w.paris().CreateSync(withMetadata(t, rpc.IdempotencyHeader, "k1"))
		must(t, err)
		must(t, stream.Send(header(parisMembers)))
		must(t, stream.Send(chunk(content)))
		return stream.CloseAndRecv()
	}
	first, err := send("a")
	must(t, err)
	again, err := send("a")
	must(t, err)
	if first.GetName() != again.GetName() {
		t.Errorf("got %v, then %v", first, again)
	}
	_, err = send("b")
	wantError(t, err, codes.InvalidArgument, keyReused)
	r.wantRows(t, 1)
}

func TestOneTransactionHoldsTheAnswer(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	w := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		if _, err := r.create(ctx, req); err != nil {
			return nil, err
		}
		return r.create(ctx, req)
	}})
	_, err := w.staff().CreateMember(t.Context(), keyed("Ada", ""))
	wantError(t, err, codes.Internal, internal)
}

func TestInTxWithoutAServer(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	for range 2 {
		_, err := r.create(rpc.WithIdempotency(t.Context(), "k1", nil), keyed("Ada", "k1"))
		must(t, err)
	}
	r.wantRows(t, 2)
}

func TestPruneIdempotency(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	staff := setup(t, &service{createMember: r.create}).staff()
	for n := range 3 {
		_, err := staff.CreateMember(t.Context(), keyed("Ada", fmt.Sprintf("k%d", n)))
		must(t, err)
	}
	_, err := r.pool.Exec(t.Context(), "UPDATE idempotency SET create_time = $1 WHERE key <> 'k2'", noon.Add(-25*time.Hour))
	must(t, err)
	pruned, err := rpc.PruneIdempotency(t.Context(), r.pool, noon.Add(-24*time.Hour))
	must(t, err)
	if pruned != 2 {
		t.Errorf("pruned %d", pruned)
	}
	for n := range 3 {
		_, err := staff.CreateMember(t.Context(), keyed("Ada", fmt.Sprintf("k%d", n)))
		must(t, err)
	}
	r.wantRows(t, 5)
}
