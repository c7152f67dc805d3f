package rpc

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// call is what the interceptors know about the call that they are handling.
type call struct {
	method    string // "/package.Service/Method"
	known     bool   // the server has it
	rule      authz.Rule
	requestID string
	principal authz.Principal
	committed atomic.Bool // see InTx
}

type callKey struct{}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// An around wraps a whole call, unary or streaming, before any message is looked at.
type around func(ctx context.Context, c *call, next func(context.Context) error) error

// An inspect looks at the request, of a stream at its first message, and refuses it or lets it pass.
type inspect func(ctx context.Context, c *call, request proto.Message) error

// chain is the list of interceptors, written once for unary calls and streams.
type chain struct {
	rules    *authz.Rules
	arounds  []around
	inspects []inspect
	maxBytes int
}

func (ch *chain) begin(ctx context.Context, method string) (context.Context, *call) {
	c := &call{method: method}
	c.rule, c.known = ch.rules.Of(method)
	return context.WithValue(ctx, callKey{}, c), c
}

func (ch *chain) run(ctx context.Context, c *call, handle func(context.Context) error) error {
	next := handle
	for i := len(ch.arounds) - 1; i >= 0; i-- {
		layer, inner := ch.arounds[i], next
		next = func(ctx context.Context) error { return layer(ctx, c, inner) }
	}
	return next(ctx)
}

func (ch *chain) admit(ctx context.Context, c *call, request proto.Message) error {
	for _, look := range ch.inspects {
		if err := look(ctx, c, request); err != nil {
			return err
		}
	}
	return nil
}

func (ch *chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	var answer any
	ctx, c := ch.begin(ctx, info.FullMethod)
	err := ch.run(ctx, c, func(ctx context.Context) error {
		request, _ := req.(proto.Message)
		if err := ch.admit(ctx, c, request); err != nil {
			return err
		}
		ctx, err := withRequestKey(ctx, c, request)
		if err != nil {
			return err
		}
		answer, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (ch *chain) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, c := ch.begin(ss.Context(), info.FullMethod)
	return ch.run(ctx, c, func(ctx context.Context) error {
		return handler(srv, &stream{ServerStream: ss, ctx: ctx, call: c, chain: ch})
	})
}

// stream lets a handler see nothing of a stream, and send nothing, before the first message is admitted.
type stream struct {
	grpc.ServerStream

	ctx      context.Context
	call     *call
	chain    *chain
	admitted atomic.Bool
	resource string // what the first message names in the scope field
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if errors.Is(err, io.EOF) && !s.admitted.Load() {
		return s.admit(nil)
	}
	if err != nil {
		return s.chain.receiveError(err)
	}
	message, _ := m.(proto.Message)
	if !s.admitted.Load() {
		return s.admit(message)
	}
	if resource := s.call.rule.Resource(message); resource != "" && resource != s.resource {
		return Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "a stream is about one %s", s.call.rule.ScopeField)
	}
	return nil
}

// admit handles the first message; nil stands for a stream that ended without one.
func (s *stream) admit(message proto.Message) error {
	if err := s.chain.admit(s.ctx, s.call, message); err != nil {
		return err
	}
	s.resource = s.call.rule.Resource(message)
	s.admitted.Store(true)
	if message == nil {
		return io.EOF
	}
	return nil
}

func (s *stream) SendMsg(m any) error {
	if s.call.rule.ScopeField != "" && !s.admitted.Load() {
		return errors.New("the handler answers before it has read the message that holds the scope")
	}
	return s.ServerStream.SendMsg(m)
}

// receiveError gives a reason to what gRPC itself refuses about a message. It is for the log and the metrics: gRPC's own
// status, which has the code and no reason, is on its way to the caller by then.
func (ch *chain) receiveError(err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return Exhausted(errorv1.Reason_REASON_TOO_LARGE, "a message is larger than %d bytes", ch.maxBytes).
			With("limit", ch.maxBytes).Because(err)
	case codes.Internal:
		return newError(codes.InvalidArgument, errorv1.Reason_REASON_MALFORMED_REQUEST, "a message cannot be read", nil).Because(err)
	default:
		return err
	}
}
