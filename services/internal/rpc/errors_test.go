package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

const (
	internal  = errorv1.Reason_REASON_INTERNAL
	cancelled = errorv1.Reason_REASON_CANCELLED
)

// answerTo sends one call to a handler that returns err.
func answerTo(t *testing.T, err error) error {
	t.Helper()
	_, got := setup(t, answering(nil, err)).staff().CreateMember(t.Context(), ada())
	return got
}

func TestErrorTravels(t *testing.T) {
	t.Parallel()
	sent := rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "%s needs %d more members", "charters/golang-paris", 3).
		With("convert", 3).With("recruit", 7).Because(errDisk)
	for name, err := range map[string]error{"Bare": sent, "Wrapped": fmt.Errorf("approve: %w", sent)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := answerTo(t, err)
			wantError(t, got, codes.FailedPrecondition, errorv1.Reason_REASON_NOT_ELIGIBLE)
			info := rpc.InfoOf(got)
			if info.GetDomain() != "chapterhouse.example" || info.GetReason() != "NOT_ELIGIBLE" || info.GetMetadata()["convert"] != "3" {
				t.Errorf("got %v", info)
			}
			if message := status.Convert(got).Message(); message != "charters/golang-paris needs 3 more members" {
				t.Errorf("got %q", message)
			}
		})
	}
}

func TestErrorIsNotChangedByWhatIsAddedToIt(t *testing.T) {
	t.Parallel()
	base := rpc.Invalid(invalidField, "a", "is wrong").With("k", 1)
	_ = base.With("k", 2).Field("b", "too").RetryAfter(time.Second).Because(errDisk)
	if rpc.InfoOf(base).GetMetadata()["k"] != "1" || len(rpc.ViolationsOf(base)) != 1 || errors.Is(base, errDisk) {
		t.Errorf("got %v", base.GRPCStatus())
	}
}

func TestReasonOfOtherErrors(t *testing.T) {
	t.Parallel()
	foreign, err := status.New(codes.NotFound, "x").WithDetails(&errdetails.ErrorInfo{Reason: "NOT_FOUND", Domain: "elsewhere"})
	must(t, err)
	for _, err := range []error{nil, errDisk, status.Error(codes.NotFound, "x"), foreign.Err()} {
		if rpc.ReasonOf(err) != errorv1.Reason_REASON_UNSPECIFIED || rpc.Is(err, errorv1.Reason_REASON_NOT_FOUND) {
			t.Errorf("%v has the reason %v", err, rpc.ReasonOf(err))
		}
	}
}

func TestUnknownErrorsSayNothing(t *testing.T) {
	t.Parallel()
	var header metadata.MD
	w := setup(t, answering(nil, errDisk))
	_, err := w.staff().CreateMember(withMetadata(t, rpc.RequestIDHeader, "r-17"), ada(), grpc.Header(&header))
	wantError(t, err, codes.Internal, internal)
	if message := status.Convert(err).Message(); message != "internal error; quote request id r-17" {
		t.Errorf("got %q", message)
	}
	if log := w.log.String(); !strings.Contains(log, "disk on fire") || !strings.Contains(log, "r-17") {
		t.Errorf("the cause is not in the log: %s", log)
	}
}

func TestPanicEndsOneCallOnly(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{createMember: func(context.Context, *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		panic("boom")
	}})
	for range 2 {
		_, err := w.staff().CreateMember(t.Context(), ada())
		wantError(t, err, codes.Internal, internal)
	}
	if log := w.log.String(); !strings.Contains(log, "panic: boom") || !strings.Contains(log, "errors_test.go") {
		t.Errorf("the log does not say where: %s", log)
	}
}

func TestDownstreamErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled} {
		wantError(t, answerTo(t, fmt.Errorf("ask: %w", status.Error(code, "x"))), codes.Unavailable, tierUnavailable)
	}
	// The other tier's refusal was meant for us, not for our caller.
	for _, code := range []codes.Code{codes.PermissionDenied, codes.NotFound, codes.Internal, codes.Unauthenticated} {
		wantError(t, answerTo(t, status.Error(code, "x")), codes.Internal, internal)
	}
	wantError(t, answerTo(t, context.DeadlineExceeded), codes.Unavailable, tierUnavailable)
}

func TestCallerThatDoesNotWait(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := setup(t, &service{createMember: func(ctx context.Context, _ *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, fmt.Errorf("query: %w", ctx.Err())
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.staff().CreateMember(ctx, ada())
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("got %v", err)
	}
	if received(t, ended) == nil {
		t.Error("the handler's context goes on")
	}
	testkit.Eventually(t, limit, func() (bool, string) {
		log := w.log.String()
		return strings.Contains(log, `"reason":"CANCELLED"`) && !strings.Contains(log, "INTERNAL"), log
	})
}

// TestDatabaseTrouble makes the real errors of a database that cannot be reached.
func TestDatabaseTrouble(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t)
	closed := testkit.Pool(t)
	closed.Close()
	_, errClosed := closed.Exec(t.Context(), "SELECT 1")
	_, errNoServer := pgconn.Connect(t.Context(), "host=/nowhere dbname=x user=x")
	_, errSyntax := pool.Exec(t.Context(), "SELEKT 1")
	cases := []struct {
		name   string
		err    error
		code   codes.Code
		reason errorv1.Reason
	}{
		{"PoolClosed", errClosed, codes.Unavailable, tierUnavailable},
		{"NoServer", errNoServer, codes.Unavailable, tierUnavailable},
		{"Terminated", terminated(t, pool), codes.Unavailable, tierUnavailable},
		{"AfterTermination", afterTermination(t, pool), codes.Unavailable, tierUnavailable},
		{"Refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, codes.Unavailable, tierUnavailable},
		{"Starting", &pgconn.PgError{Code: "57P03"}, codes.Unavailable, tierUnavailable},
		{"TooManyConnections", &pgconn.PgError{Code: "53300"}, codes.Unavailable, tierUnavailable},
		{"Deadlock", &pgconn.PgError{Code: "40P01"}, codes.Unavailable, tierUnavailable},
		{"Syntax", errSyntax, codes.Internal, internal},
		{"Unique", &pgconn.PgError{Code: "23505"}, codes.Internal, internal},
		{"NoRows", pgx.ErrNoRows, codes.Internal, internal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantError(t, answerTo(t, fmt.Errorf("read: %w", c.err)), c.code, c.reason)
		})
	}
}

// terminated is the error of a transaction whose backend is shut down under it.
func terminated(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	_, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (int, error) {
		_, err := tx.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
		return 0, err
	})
	return err
}

func afterTermination(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	_, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (int, error) {
		_, _ = tx.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
		_, err := tx.Exec(t.Context(), "SELECT 1")
		return 0, err
	})
	return err
}

func TestUnavailableSaysWhenToTryAgain(t *testing.T) {
	t.Parallel()
	err := answerTo(t, rpc.Unavailable(tierUnavailable, "international does not answer"))
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok && retry.GetRetryDelay().AsDuration() == time.Second {
			return
		}
	}
	t.Errorf("no RetryInfo: %v", status.Convert(err).Details())
}

func TestReasonsMustBeDeclared(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(nil, rpc.Precondition(errorv1.Reason_REASON_SYNC_STATE, "not of this method")))
	_, err := w.staff().CreateMember(t.Context(), ada())
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_SYNC_STATE)
	if n := w.undeclaredReasons(); n != 1 {
		t.Errorf("%d reasons noticed", n)
	}
	general := setup(t, answering(nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "gone")))
	_, err = general.staff().CreateMember(t.Context(), ada())
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	if n := general.undeclaredReasons(); n != 0 {
		t.Errorf("%d reasons noticed", n)
	}
}
