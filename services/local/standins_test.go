package local

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// regionalStandIn knows regions by their parents.
type regionalStandIn struct {
	regionalv1.UnimplementedRegionServiceServer

	mu      sync.Mutex
	regions map[string]string
	down    bool
}

func (r *regionalStandIn) GetRegion(_ context.Context, req *regionalv1.GetRegionRequest) (*regionalv1.Region, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	parent, ok := r.regions[req.GetName()]
	switch {
	case r.down:
		return nil, status.Error(codes.Unavailable, "down")
	case !ok:
		return nil, status.Error(codes.NotFound, "no such region")
	}
	return &regionalv1.Region{Name: req.GetName(), ParentRegion: parent}, nil
}

func (r *regionalStandIn) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// internationalStandIn counts what it is told: of the tokens of a preview, those added are the standing after.
type internationalStandIn struct {
	internationalv1.UnimplementedStandingServiceServer

	mu     sync.Mutex
	refuse error
	// entered is called, where set, when a preview has arrived.
	entered func()
	header  *internationalv1.PreviewHeader
}

func (i *internationalStandIn) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *internationalStandIn) PreviewStanding(stream grpc.ClientStreamingServer[internationalv1.PreviewStandingRequest, internationalv1.PreviewStandingResponse]) error {
	answer := &internationalv1.PreviewStandingResponse{
		Before: &internationalv1.Standing{Membership: &internationalv1.Figures{}},
		After:  &internationalv1.Standing{Membership: &internationalv1.Figures{}},
	}
	i.mu.Lock()
	refuse, entered := i.refuse, i.entered
	i.mu.Unlock()
	if entered != nil {
		entered()
	}
	if refuse != nil {
		return refuse
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(answer)
		}
		if err != nil {
			return err
		}
		if message.GetHeader() != nil {
			i.set(func() { i.header = message.GetHeader() })
		}
		answer.Before.Membership.Total += int32(len(message.GetChange().GetRemoved()))
		answer.After.Membership.Total += int32(len(message.GetChange().GetAdded()))
	}
}

// tell publishes as another tier does, with an outbox of its own.
func (w *world) tell(tier string) func(bus.Event) {
	w.t.Helper()
	pool := testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations})
	publisher := bus.NewPublisher(bus.PublisherConfig{Pool: pool, NATS: w.connect(tier), Tier: tier, Site: bus.MainSite, Log: slog.New(slog.DiscardHandler)})
	w.background(publisher.Run)
	return func(event bus.Event) {
		w.t.Helper()
		_, err := postgres.InTx(w.t.Context(), pool, func(tx pgx.Tx) (struct{}, error) {
			return struct{}{}, bus.Append(w.t.Context(), tx, event)
		})
		w.must(err)
		publisher.Wake()
	}
}
