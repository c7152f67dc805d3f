// Package upload reads a source from the network: it fails when nothing arrives for too long, or too much arrives, and
// says in our reasons why a source cannot be used.
package upload

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

// Limits are how long an upload may take, and how large it may be.
type Limits struct {
	// Idle is how long nothing may arrive, and Whole how long all of it may take.
	Idle, Whole time.Duration
	Bytes       int64
	Rows        int
}

// Reader reads a source. It implements io.Reader.
type Reader struct {
	ctx    context.Context // of the call, with the limit of the whole upload
	chunks <-chan received
	idle   time.Duration
	limit  int64

	rest []byte
	size int64
	hash hash.Hash
	err  error
}

// received is what one Recv of the stream gave.
type received struct {
	chunk []byte
	err   error
}

// receive hands on what recv gives until it fails or ctx ends: a Recv cannot be given up, waiting for it can.
func receive(ctx context.Context, recv func() ([]byte, error)) <-chan received {
	chunks := make(chan received)
	go func() {
		for {
			chunk, err := recv()
			select {
			case chunks <- received{chunk, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return chunks
}

// WithLimit bounds the whole upload; its Reader knows the cause.
func (l Limits) WithLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, l.Whole, errTooLong)
}

// NewReader reads what recv gives until its io.EOF. ctx has the limit of the whole upload.
func NewReader(ctx context.Context, recv func() ([]byte, error), limits Limits) *Reader {
	return &Reader{ctx: ctx, chunks: receive(ctx, recv), hash: sha256.New(), idle: limits.Idle, limit: limits.Bytes}
}

// Read implements io.Reader.
func (u *Reader) Read(p []byte) (int, error) {
	for len(u.rest) == 0 && u.err == nil {
		u.rest, u.err = u.next()
	}
	if len(u.rest) == 0 {
		return 0, u.err
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

func (u *Reader) next() ([]byte, error) {
	idle := time.NewTimer(u.idle)
	defer idle.Stop()
	select {
	case got := <-u.chunks:
		if got.err != nil {
			return nil, got.err
		}
		if u.size += int64(len(got.chunk)); u.size > u.limit {
			return nil, rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "a source has at most %d bytes", u.limit).With("limit", u.limit)
		}
		u.hash.Write(got.chunk)
		return got.chunk, nil
	case <-idle.C:
		return nil, rpc.Invalid(errorv1.Reason_REASON_UPLOAD_INTERRUPTED, "", "nothing of the upload arrived for %s", u.idle)
	case <-u.ctx.Done():
		if errors.Is(context.Cause(u.ctx), errTooLong) {
			return nil, rpc.Invalid(errorv1.Reason_REASON_UPLOAD_INTERRUPTED, "", "the upload took too long")
		}
		return nil, u.ctx.Err()
	}
}

var errTooLong = errors.New("the upload took too long")

// Sum is the hash of all that was sent, what follows the last row too.
func (u *Reader) Sum() ([]byte, error) {
	if _, err := io.Copy(io.Discard, u); err != nil {
		return nil, err
	}
	return u.hash.Sum(nil), nil
}

// Refusal says in our reasons why a source cannot be used; what is no fault of the source stays as it is.
func (l Limits) Refusal(err error) error {
	refusal, ok := errors.AsType[*source.Error](err)
	if !ok {
		return err
	}
	reason := errorv1.Reason_REASON_SOURCE_UNREADABLE
	switch refusal.Kind {
	case source.TooLarge:
		return rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "%s", refusal.Text).With("limit", l.Rows)
	case source.UnsupportedMediaType:
		return rpc.Invalid(errorv1.Reason_REASON_UNSUPPORTED_MEDIA_TYPE, "", "%s", refusal.Text)
	case source.Empty:
		reason = errorv1.Reason_REASON_SOURCE_EMPTY
	case source.NoAddressColumn:
		reason = errorv1.Reason_REASON_SOURCE_NO_ADDRESS_COLUMN
	case source.Unreadable:
	}
	refused := rpc.Invalid(reason, "", "%s", refusal.Error())
	if refusal.Line > 0 {
		refused = refused.With("line", refusal.Line)
	}
	return refused
}
