package platformtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// caller is whoever writes history. What it is told of is acknowledged, and goes into the truth; each of its calls
// carries a request id, so that one whose answer was lost can be repeated.
type caller struct {
	*federation

	t     testing.TB
	truth *truth
	id    string // begins its request ids
	rng   *rand.Rand
	calls int
	// stubborn repeats a call for as long as a tier cannot be reached.
	stubborn bool
	// short and long are how long terms run.
	short, long func(*rand.Rand) time.Duration

	acknowledged *atomic.Int64
}

// Limits of a stubborn caller: of one attempt, and of all of them.
const (
	attemptLimit = 5 * time.Second
	callLimit    = 2 * time.Minute
)

// requestID makes the id of a new call.
func (c *caller) requestID() string {
	c.calls++
	return fmt.Sprintf("%s-%d", c.id, c.calls)
}

// call makes a call until it is answered: with success or with a refusal. Some calls are made once more, and must be
// answered as the first time.
func call[T proto.Message](ctx context.Context, c *caller, what string, do func(context.Context) (T, error)) (T, error) {
	got, err := untilAnswered(ctx, c, what, do)
	if err != nil {
		return got, err
	}
	c.acknowledged.Add(1)
	if c.rng.IntN(8) == 0 {
		again, err := untilAnswered(ctx, c, what, do)
		if err != nil || !proto.Equal(got, again) {
			c.t.Errorf("%s: %s, asked again, answered %v, %v; the first time %v", c.id, what, again, err, got)
		}
	}
	return got, nil
}

func untilAnswered[T proto.Message](ctx context.Context, c *caller, what string, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, attemptLimit)
		got, err := do(attempt)
		end()
		switch {
		case err == nil || !c.stubborn || !passing(err):
			if status.Code(err) == codes.Internal || status.Code(err) == codes.Unknown && err != nil {
				c.t.Errorf("%s: %s: %v", c.id, what, err)
			}
			return got, err
		case ctx.Err() != nil:
			c.t.Errorf("%s: %s was not answered in %v: %v", c.id, what, callLimit, err)
			return got, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// passing says whether the same call may succeed in a moment.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE) || rpc.Is(err, errorv1.Reason_REASON_UPLOAD_INTERRUPTED)
	}
}

// expect reports a call that did not end as the truth says: with one of the reasons, or (without any) with success. It
// returns whether it succeeded.
func (c *caller) expect(what string, err error, reasons ...errorv1.Reason) bool {
	if err == nil {
		if len(reasons) > 0 {
			c.t.Errorf("%s: %s succeeded, want %v", c.id, what, reasons)
		}
		return true
	}
	for _, reason := range reasons {
		if rpc.Is(err, reason) {
			return false
		}
	}
	if !errors.Is(err, context.Canceled) {
		c.t.Errorf("%s: %s: %v, want %v", c.id, what, err, reasons)
	}
	return false
}

// chance is true n times of a hundred.
func (c *caller) chance(n int) bool { return c.rng.IntN(100) < n }

// some are a few of the texts, at least one, in any order.
func (c *caller) some(texts []string, most int) []string {
	chosen := make([]string, 0, most)
	for _, i := range c.rng.Perm(len(texts))[:1+c.rng.IntN(min(most, len(texts)))] {
		chosen = append(chosen, texts[i])
	}
	return chosen
}

func (c *caller) one(texts []string) string { return texts[c.rng.IntN(len(texts))] }

// between is how long a term runs.
func between(least, most time.Duration) func(*rand.Rand) time.Duration {
	return func(rng *rand.Rand) time.Duration { return least + time.Duration(rng.Int64N(int64(most-least))) }
}
