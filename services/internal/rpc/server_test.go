package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// blocking is a createMember that reports its start and ends when told to, or when its context does.
func blocking(started chan<- struct{}, proceed <-chan struct{}) *service {
	return &service{createMember: func(ctx context.Context, _ *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		started <- struct{}{}
		select {
		case <-proceed:
			return &internationalv1.Member{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

func callInBackground(t *testing.T, w *world) <-chan error {
	t.Helper()
	staff, answer := w.staff(), make(chan error, 1)
	go func() {
		_, err := staff.CreateMember(context.Background(), ada())
		answer <- err
	}()
	return answer
}

func TestStopLetsCallsFinish(t *testing.T) {
	t.Parallel()
	started, proceed := make(chan struct{}), make(chan struct{})
	w := setup(t, blocking(started, proceed))
	answer := callInBackground(t, w)
	received(t, started)
	w.stop()
	testkit.Eventually(t, limit, func() (bool, string) {
		_, err := healthv1.NewHealthClient(w.as("", "")).Check(t.Context(), &healthv1.HealthCheckRequest{})
		return status.Code(err) == codes.Unavailable, "still takes new connections"
	})
	close(proceed)
	must(t, received(t, answer))
}

func TestStopDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	w := setup(t, blocking(started, nil), func(cfg *rpc.ServerConfig) { cfg.DrainTimeout = 20 * time.Millisecond })
	answer := callInBackground(t, w)
	received(t, started)
	w.stop()
	if err := received(t, answer); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	w := setup(t, &service{}, func(cfg *rpc.ServerConfig) {
		cfg.Ready = func(context.Context) error {
			if down.Load() {
				return errors.New("no database")
			}
			return nil
		}
	})
	client := healthv1.NewHealthClient(w.as("", ""))
	shows := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", internationalv1.MemberService_ServiceDesc.ServiceName} {
			testkit.Eventually(t, limit, func() (bool, string) {
				answer, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
				return err == nil && answer.GetStatus() == want, answer.GetStatus().String()
			})
		}
	}
	shows(healthv1.HealthCheckResponse_SERVING)
	down.Store(true)
	shows(healthv1.HealthCheckResponse_NOT_SERVING)
	down.Store(false)
	shows(healthv1.HealthCheckResponse_SERVING)
}
