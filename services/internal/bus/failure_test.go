package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestOutagesAreToldFromRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		outage bool
	}{
		{&pgconn.PgError{Code: "57P01"}, true},  // admin_shutdown
		{&pgconn.PgError{Code: "53300"}, true},  // too_many_connections
		{&pgconn.PgError{Code: "53100"}, true},  // disk_full
		{&pgconn.PgError{Code: "40P01"}, true},  // deadlock_detected
		{&pgconn.PgError{Code: "08006"}, true},  // connection_failure
		{&pgconn.PgError{Code: "58030"}, true},  // io_error
		{&pgconn.PgError{Code: "25006"}, true},  // read_only_sql_transaction, after a failover
		{&pgconn.PgError{Code: "23505"}, false}, // unique_violation
		{&pgconn.PgError{Code: "22P02"}, false}, // invalid_text_representation
		{&pgconn.PgError{Code: "57014"}, false}, // query_canceled
		{&pgconn.PgError{Code: "42P01"}, false}, // undefined_table
		{&pgconn.ConnectError{}, true},
		{&net.OpError{Op: "write", Err: errors.New("broken pipe")}, true},
		{io.ErrUnexpectedEOF, true},
		{unavailableError{errors.New("conn closed")}, true},
		{context.DeadlineExceeded, false},
		{errors.New("no such chapter"), false},
		{&panicError{value: "nil map"}, false},
	} {
		if got := isOutage(fmt.Errorf("apply: %w", c.err)); got != c.outage {
			t.Errorf("%v: outage %v, want %v", c.err, got, c.outage)
		}
	}
}
