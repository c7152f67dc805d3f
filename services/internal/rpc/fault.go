package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// translator gives every error a status and a reason, a panic too.
type translator struct {
	declared   map[string]map[errorv1.Reason]bool
	undeclared func(method string, reason errorv1.Reason)
}

// firstOwnReason begins the reasons that a method has to declare; any method may answer those before it.
const firstOwnReason = errorv1.Reason_REASON_ADDRESS_TAKEN

func newTranslator(services []protoreflect.ServiceDescriptor, undeclared func(string, errorv1.Reason)) translator {
	t := translator{declared: map[string]map[errorv1.Reason]bool{}, undeclared: undeclared}
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			reasons := map[errorv1.Reason]bool{}
			declared, _ := proto.GetExtension(method.Options(), errorv1.E_Errors).([]errorv1.Reason)
			for _, reason := range declared {
				reasons[reason] = true
			}
			t.declared[fmt.Sprintf("/%s/%s", service.FullName(), method.Name())] = reasons
		}
	}
	return t
}

func (t translator) translate(ctx context.Context, c *call, next func(context.Context) error) error {
	err := recoverPanic(ctx, c, next)
	if err == nil {
		return nil
	}
	known := asError(ctx, err)
	if known.reason >= firstOwnReason && !t.declared[c.method][known.reason] {
		t.undeclared(c.method, known.reason)
	}
	return known
}

// asError turns whatever a handler returned into what the caller is told. What it does not know is an internal error.
func asError(ctx context.Context, err error) *Error {
	known, isKnown := errors.AsType[*Error](err)
	switch {
	case isKnown && error(known) == err: //nolint:errorlint // bare: there is nothing around it to log
		return known
	case isKnown:
		return known.Because(err)
	case ctx.Err() != nil && endedByContext(err):
		return cancelled(ctx).Because(err)
	case status.Code(err) == codes.Unimplemented:
		return Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "no such method").Because(err)
	case unreachable(err):
		return Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE,
			"a part of the platform that is needed for the answer cannot be reached; try again").Because(err)
	}
	message := "internal error"
	if id := RequestID(ctx); id != "" {
		message += "; quote request id " + id
	}
	return newError(codes.Internal, errorv1.Reason_REASON_INTERNAL, "%s", []any{message}).Because(err)
}

func cancelled(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return newError(codes.DeadlineExceeded, errorv1.Reason_REASON_CANCELLED, "the deadline passed before the answer was ready", nil)
	}
	return newError(codes.Canceled, errorv1.Reason_REASON_CANCELLED, "the caller went away", nil)
}

// endedByContext says whether an error can follow from the end of the call's context.
func endedByContext(err error) bool {
	return ofContext(err) || unreachable(err) || pgCode(err) == queryCanceled
}

func ofContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

const queryCanceled = "57014"

// passingStates are the SQLSTATEs of a server that is down, starting, stopping, overrun or not writable just now, and
// of transactions that met others too often: the same call can succeed in a moment. Two characters stand for a class.
var passingStates = []string{
	"08",                      // connection exception
	"57P01", "57P02", "57P03", // shutdown, crash, cannot connect now
	"53",             // insufficient resources
	"25006",          // read-only: a standby that is being promoted
	"25P03", "25P04", // the server ended an idle or too long transaction
	"40001", "40P01", // serialization failure, deadlock
	"55P03", // lock timeout
}

// unreachable says whether the database or another tier cannot be reached, or not in time.
func unreachable(err error) bool {
	if _, lost := errors.AsType[*postgres.LostError](err); lost {
		return true
	}
	if state := pgCode(err); state != "" {
		return slices.ContainsFunc(passingStates, func(passing string) bool { return strings.HasPrefix(state, passing) })
	}
	if downstream, ok := status.FromError(err); ok {
		return slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled}, downstream.Code())
	}
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return network || connecting || ofContext(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func pgCode(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}
