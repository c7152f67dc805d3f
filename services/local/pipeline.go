package local

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pipeline runs statements in one round trip and one transaction: those that answer nothing wait for the next that does,
// or for flush. What they would have answered is not known then, and they fail with the one that they waited for.
type pipeline struct {
	conn  *pgx.Conn
	batch *pgx.Batch
}

func newPipeline(conn *pgx.Conn) *pipeline { return &pipeline{conn: conn, batch: &pgx.Batch{}} }

// Exec queues a statement.
func (p *pipeline) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	p.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

// Query sends what is queued, and the statement.
func (p *pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	waiting := p.batch.Len()
	p.batch.Queue(sql, args...)
	results := p.send(ctx)
	for range waiting {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return nil, err
		}
	}
	rows, err := results.Query()
	return &lastRows{Rows: rows, results: results}, err
}

// QueryRow is Query for one row.
func (p *pipeline) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.conn.QueryRow(ctx, sql, args...)
}

// CopyFrom is none of what waits.
func (p *pipeline) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return p.conn.CopyFrom(ctx, table, columns, rows)
}

// flush sends what is queued.
func (p *pipeline) flush(ctx context.Context) error {
	if p.batch.Len() == 0 {
		return nil
	}
	return p.send(ctx).Close()
}

// send begins the next batch, for the answers to this one are read from it.
func (p *pipeline) send(ctx context.Context) pgx.BatchResults {
	batch := p.batch
	p.batch = &pgx.Batch{}
	return p.conn.SendBatch(ctx, batch)
}

// lastRows ends the round trip with its last statement's rows, and answers an error of the commit as one of them.
type lastRows struct {
	pgx.Rows

	results pgx.BatchResults
	err     error
}

// Close is pgx.Rows'.
func (r *lastRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
}

// Err is pgx.Rows'. The rows are complete when it is called.
func (r *lastRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	r.Close()
	return r.err
}
