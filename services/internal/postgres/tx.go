package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQLSTATE codes that InTx answers by running the transaction again.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

const (
	txTries         = 5
	rollbackTimeout = 5 * time.Second
	commitTimeout   = 30 * time.Second
)

// InTx runs fn in one read-committed transaction and commits when fn returns no error.
//
// fn runs again, at most five times in all, when Postgres reports a deadlock or a
// serialization failure, so it must have no effect outside tx. Everything else that fn
// returns rolls back and comes back unchanged.
func InTx[T any](ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) (T, error)) (T, error) {
	return InTxOptions(ctx, pool, pgx.TxOptions{}, fn)
}

// InTxOptions is InTx with an isolation level or access mode.
func InTxOptions[T any](ctx context.Context, pool *pgxpool.Pool, opts pgx.TxOptions, fn func(tx pgx.Tx) (T, error)) (T, error) {
	for try := 1; ; try++ {
		result, err := tryTx(ctx, pool, opts, fn)
		if err == nil || try == txTries || !worthRetrying(err) {
			return result, err
		}
		if !pause(ctx, try) {
			return result, err
		}
	}
}

// notBegun marks an error that came before the transaction did anything.
type notBegun struct{ error }

func (e notBegun) Unwrap() error { return e.error }

// LostError says that the connection broke while the transaction ran, whatever the error looks like: what a pipeline makes
// of a broken connection names no cause. Nothing was written, and the same call can succeed in a moment.
type LostError struct{ err error }

func (e *LostError) Error() string { return "connection lost: " + e.err.Error() }

// Unwrap returns the error as the transaction met it.
func (e *LostError) Unwrap() error { return e.err }

func tryTx[T any](ctx context.Context, pool *pgxpool.Pool, opts pgx.TxOptions, fn func(tx pgx.Tx) (T, error)) (result T, err error) {
	var none T
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		// After a restart of the server every idle connection is dead; without the
		// reset each try would meet another of them.
		pool.Reset()
		return none, notBegun{fmt.Errorf("begin: %w", err)}
	}
	defer rollback(ctx, tx) // does nothing after a commit; also runs when fn panics

	if result, err = fn(tx); err != nil {
		if tx.Conn().IsClosed() {
			err = &LostError{err}
		}
		return none, err
	}
	if err := commit(ctx, tx); err != nil {
		return none, fmt.Errorf("commit: %w", err)
	}
	return result, nil
}

// commit does not let a caller who goes away at this point turn a finished
// transaction into an unknown one: it refuses before it asks, or waits for the answer.
func commit(ctx context.Context, tx pgx.Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	return tx.Commit(ctx)
}

// rollback works for a cancelled caller too: otherwise the connection goes back to the
// pool in the middle of a transaction and has to be thrown away.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// worthRetrying says whether the same transaction can succeed when it runs again:
// because Postgres said so, or because it never began.
func worthRetrying(err error) bool {
	pgErr, fromServer := errors.AsType[*pgconn.PgError](err)
	if fromServer && (pgErr.Code == serializationFailure || pgErr.Code == deadlockDetected) {
		return true
	}
	_, neverBegan := errors.AsType[notBegun](err)
	return neverBegan && (!fromServer || serverAway(pgErr))
}

// pause waits 10 to 20 ms after the first try, twice that after the second and so on;
// two transactions that met once would meet again without the jitter.
func pause(ctx context.Context, try int) bool {
	base := 10 * time.Millisecond << (try - 1)
	timer := time.NewTimer(base + rand.N(base)) //nolint:gosec // jitter, not a secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
