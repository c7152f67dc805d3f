// Package rpc holds what the platform's gRPC servers and clients have in common: errors that know their status, the one
// list of interceptors, idempotent transactions, etags and page tokens.
package rpc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// Domain is the ErrorInfo domain of the reasons in chapterhouse.error.v1.
const Domain = "chapterhouse.example"

const reasonPrefix = "REASON_"

// Error is a refusal or a fault as the caller sees it, and what caused it, which only the log sees.
type Error struct {
	code       codes.Code
	reason     errorv1.Reason
	message    string
	metadata   map[string]string
	violations []*errdetails.BadRequest_FieldViolation
	retryAfter time.Duration
	cause      error
}

func newError(code codes.Code, reason errorv1.Reason, format string, args []any) *Error {
	return &Error{code: code, reason: reason, message: fmt.Sprintf(format, args...)}
}

// NotFound says that a resource does not exist.
func NotFound(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.NotFound, reason, format, args)
}

// AlreadyExists says that an id or a unique field is taken.
func AlreadyExists(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.AlreadyExists, reason, format, args)
}

// Invalid says what is wrong with one field of the request; field is its path in lowerCamelCase ("addresses[0].address").
// Further fields are added with Field.
func Invalid(reason errorv1.Reason, field, format string, args ...any) *Error {
	e := newError(codes.InvalidArgument, reason, format, args)
	if field == "" {
		return e
	}
	description := e.message
	e.message = field + ": " + description
	return e.Field(field, description)
}

// OutOfRange says that a number or position lies outside of what exists.
func OutOfRange(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.OutOfRange, reason, format, args)
}

// Precondition says that the state of things does not allow the call, and that repeating it will not help.
func Precondition(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.FailedPrecondition, reason, format, args)
}

// Aborted says that somebody else was faster: read again, then decide again.
func Aborted(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.Aborted, reason, format, args)
}

// Denied says that the caller may not do this.
func Denied(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.PermissionDenied, reason, format, args)
}

// Unauthenticated says that it is not known who calls.
func Unauthenticated(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.Unauthenticated, reason, format, args)
}

// Exhausted says that a quota or a size limit is reached.
func Exhausted(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.ResourceExhausted, reason, format, args)
}

// Unavailable says that something needed for the answer cannot be reached; the same call can be sent again after a second.
func Unavailable(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.Unavailable, reason, format, args).RetryAfter(time.Second)
}

// Unimplemented says that there is no such method.
func Unimplemented(reason errorv1.Reason, format string, args ...any) *Error {
	return newError(codes.Unimplemented, reason, format, args)
}

// With adds an entry to the ErrorInfo's metadata; keys are lowerCamelCase.
func (e *Error) With(key string, value any) *Error {
	changed := *e
	changed.metadata = maps.Clone(e.metadata)
	if changed.metadata == nil {
		changed.metadata = map[string]string{}
	}
	changed.metadata[key] = fmt.Sprint(value)
	return &changed
}

// Field adds a BadRequest violation; path is lowerCamelCase.
func (e *Error) Field(path, description string) *Error {
	changed := *e
	changed.violations = append(slices.Clip(e.violations), &errdetails.BadRequest_FieldViolation{Field: path, Description: description})
	return &changed
}

// RetryAfter adds how long to wait before the same call can succeed.
func (e *Error) RetryAfter(wait time.Duration) *Error {
	changed := *e
	changed.retryAfter = wait
	return &changed
}

// Because adds the cause. It is logged, and never sent to the caller.
func (e *Error) Because(cause error) *Error {
	changed := *e
	changed.cause = cause
	return &changed
}

// Reason returns the reason that the error travels with.
func (e *Error) Reason() errorv1.Reason { return e.reason }

// Code returns the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Error names the reason, the message and the cause.
func (e *Error) Error() string {
	text := reasonName(e.reason) + ": " + e.message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus is the error as it travels.
func (e *Error) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: reasonName(e.reason), Domain: Domain, Metadata: e.metadata},
	}
	if len(e.violations) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: e.violations})
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	plain := status.New(e.code, e.message)
	if detailed, err := plain.WithDetails(details...); err == nil {
		return detailed
	}
	return plain
}

func reasonName(reason errorv1.Reason) string {
	return strings.TrimPrefix(reason.String(), reasonPrefix)
}

// ReasonOf returns the reason of an error, on the server or as a client received it; unspecified for any other error.
func ReasonOf(err error) errorv1.Reason {
	return errorv1.Reason(errorv1.Reason_value[reasonPrefix+InfoOf(err).GetReason()])
}

// Is says whether an error carries the reason.
func Is(err error, reason errorv1.Reason) bool {
	return err != nil && ReasonOf(err) == reason
}

// InfoOf returns the ErrorInfo of an error, nil when it is none of ours.
func InfoOf(err error) *errdetails.ErrorInfo {
	info := detailOf[*errdetails.ErrorInfo](err)
	if info.GetDomain() != Domain {
		return nil
	}
	return info
}

// ViolationsOf returns what a BadRequest says about each field: path and description.
func ViolationsOf(err error) map[string]string {
	violations := map[string]string{}
	for _, violation := range detailOf[*errdetails.BadRequest](err).GetFieldViolations() {
		violations[violation.GetField()] = violation.GetDescription()
	}
	return violations
}

func detailOf[D any](err error) (found D) {
	if err == nil {
		return found
	}
	carrier, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return found
	}
	for _, detail := range carrier.GRPCStatus().Details() {
		if d, ok := detail.(D); ok {
			return d
		}
	}
	return found
}
