package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// The exit codes; docs/cli.md explains them.
const (
	exitDone         = 0
	exitError        = 1
	exitUsage        = 2
	exitChanges      = 3
	exitNotPermitted = 4
	exitBlocked      = 5
	exitRejected     = 6
	exitStale        = 7
	exitForced       = 130
)

// usageError is a mistake on the command line that kong cannot see.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// outcome is how a command ended that did what it was told to and still does not exit with 0. Without a text it has
// said so.
type outcome struct {
	code int
	text string
}

func (o *outcome) Error() string { return o.text }

// errFound is the result of a command that found what it looks for and has said so.
var errFound = &outcome{code: exitError}

// fail says what went wrong and returns the exit code.
func fail(stderr io.Writer, err error) int {
	end, ended := errors.AsType[*outcome](err)
	if !ended || end.text != "" {
		_, _ = fmt.Fprintln(stderr, "chapterhouse:", sentence(err))
	}
	switch {
	case ended:
		return end.code
	case errors.As(err, new(usageError)):
		return exitUsage
	case status.Code(err) == codes.PermissionDenied, status.Code(err) == codes.Unauthenticated:
		return exitNotPermitted
	case rpc.Is(err, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED):
		return exitBlocked
	case rpc.Is(err, errorv1.Reason_REASON_PLAN_STALE):
		return exitStale
	}
	return exitError
}

// sentence is what an error says to people; of an answer from a service, its message, reason and metadata.
func sentence(err error) string {
	info := rpc.InfoOf(err)
	if info == nil {
		return err.Error()
	}
	answer, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return err.Error()
	}
	text := fmt.Sprintf("%s (%s", answer.GRPCStatus().Message(), info.GetReason())
	for _, key := range slices.Sorted(maps.Keys(info.GetMetadata())) {
		text += fmt.Sprintf(", %s=%s", key, info.GetMetadata()[key])
	}
	return text + ")"
}

// signalled returns a context that ends with the first interrupt or SIGTERM. The second ends the process at once;
// PostgreSQL, our child, goes with it and recovers at the next start.
func signalled(stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		_, _ = fmt.Fprintln(stderr, "chapterhouse: stopped at once")
		os.Exit(exitForced)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
