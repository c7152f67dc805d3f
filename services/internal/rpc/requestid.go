package rpc

import (
	"context"
	"regexp"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// RequestIDHeader carries the id by which one request is found in the logs of all tiers.
const RequestIDHeader = "x-request-id"

// A caller's own id goes into logs and headers as it is, so it must be harmless there.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

type requestIDKey struct{}

// WithRequestID returns a context whose calls to other tiers carry the id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request that is being served; empty outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// NewRequestID returns the offered id where it is a well-formed one, else a new one.
func NewRequestID(offered string) string {
	if requestIDPattern.MatchString(offered) {
		return offered
	}
	return uuid.NewString()
}

// identify gives the call its request id, and tells the caller.
func identify(ctx context.Context, c *call, next func(context.Context) error) error {
	id := NewRequestID(single(ctx, RequestIDHeader))
	// The header cannot be set any more when the stream is gone; then nobody reads it either.
	_ = grpc.SetHeader(ctx, metadata.Pairs(RequestIDHeader, id))
	c.requestID = id
	return next(WithRequestID(ctx, id))
}

// single returns the value of incoming metadata that is given exactly once.
func single(ctx context.Context, key string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) == 1 {
		return values[0]
	}
	return ""
}
