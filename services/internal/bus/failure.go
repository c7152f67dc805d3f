package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxTries    = 5
	outagePause = 100 * time.Millisecond
	outageMax   = 5 * time.Second
	pingTimeout = 2 * time.Second
)

// permanentError marks what another try cannot change.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// unavailableError marks what the database's absence caused.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() error { return e.error }

// panicError is a panic of the topic's code. Only the log has its stack.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func guarded(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}

// lostConnection marks an error on a connection that is gone. It has to be called before the
// connection goes back to the pool.
func lostConnection(tx pgx.Tx, err error) error {
	if err != nil && tx.Conn().IsClosed() {
		return unavailableError{err}
	}
	return err
}

// untilDone tries f again and again while the database is away, and five times when f itself
// fails; then it returns the error as a permanentError. It returns any error when ctx ends.
func (c *Consumer) untilDone(ctx context.Context, f func() error) error {
	failures, wait := 0, c.cfg.RetryWait
	for outage := outagePause; ; {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if isPermanent(err) {
			return err
		}
		if isOutage(err) || failures == maxTries-1 && !c.databaseAnswers(ctx) {
			c.log.Warn("the database is not available", "error", err)
			pause(ctx, outage)
			outage = min(2*outage, outageMax)
			continue
		}
		if failures++; failures == maxTries {
			return permanentError{err}
		}
		c.log.Warn("trying again", "failures", failures, "error", err, stackOf(err))
		pause(ctx, wait)
		wait *= 2
		outage = outagePause
	}
}

// databaseAnswers tells a failure that only looks like one of f's own, such as a time-out.
func (c *Consumer) databaseAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return c.cfg.Pool.Ping(ctx) == nil
}

func stackOf(err error) slog.Attr {
	if panicked, found := errors.AsType[*panicError](err); found {
		return slog.String("stack", string(panicked.stack))
	}
	return slog.Attr{}
}

func isPermanent(err error) bool {
	_, found := errors.AsType[permanentError](err)
	return found
}

// isOutage reports whether err says that the database is away, overloaded or resolving a conflict,
// rather than that it refuses what was asked.
func isOutage(err error) bool {
	if pgErr, found := errors.AsType[*pgconn.PgError](err); found {
		return isOutageCode(pgErr.Code)
	}
	if _, found := errors.AsType[unavailableError](err); found {
		return true
	}
	if _, found := errors.AsType[*pgconn.ConnectError](err); found {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) { // a net.Error too, and may be the topic's own
		return false
	}
	if _, found := errors.AsType[net.Error](err); found {
		return true
	}
	return pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isOutageCode knows the SQLSTATE classes 08 connection, 40 transaction rollback, 53 insufficient
// resources and 58 system error, the shutdowns of class 57 (but not query_canceled: a statement
// that is too slow stays so) and lock_not_available.
func isOutageCode(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", "57P05", "55P03", "25P03", "25006":
		return true
	}
	for _, class := range []string{"08", "40", "53", "58"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
