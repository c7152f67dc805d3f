package international

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// pipeline sends several statements in one round trip. Each still has a snapshot of its own, taken when those before it
// are done, so a statement that waits for a lock is followed by one that sees what the lock protected.
type pipeline struct{ batch pgx.Batch }

func (p *pipeline) exec(query string, args ...any) { p.batch.Queue(query, args...) }

// one reads a single row; pgx.ErrNoRows when there is none.
func one[T any](p *pipeline, into *T, query string, args ...any) {
	p.batch.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
		return err
	})
}

// value reads a single number.
func (p *pipeline) value(into *int32, query string, args ...any) {
	p.batch.Queue(query, args...).QueryRow(func(row pgx.Row) error { return row.Scan(into) })
}

func many[T any](p *pipeline, into *[]T, query string, args ...any) {
	p.batch.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
		return err
	})
}

// run sends what is queued and reads all answers; the first error ends it.
func (p *pipeline) run(ctx context.Context, tx pgx.Tx) error {
	if p.batch.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, &p.batch).Close()
}
