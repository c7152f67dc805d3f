package gateway_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
)

func TestDrainLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	w := setup(t)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	on(w, localv1.ListService_GetList_FullMethodName, func(context.Context, *localv1.GetListRequest) (*localv1.List, error) {
		close(arrived)
		<-proceed
		return &localv1.List{}, nil
	})
	answered := make(chan answer, 1)
	go func() {
		got, _ := w.try(http.MethodGet, listPath, nil)
		answered <- got
	}()
	<-arrived
	w.stop()
	within(t, "no new connection is taken", func() bool {
		_, err := w.try(http.MethodGet, "/healthz", nil, "Connection: close")
		return err != nil
	})
	close(proceed)
	if got := <-answered; got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Who waits for a change is sent away at once, to ask again.
func TestDrainEndsWaits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_FollowList_FullMethodName, func(ctx context.Context, _ *localv1.FollowListRequest) (*localv1.FollowListResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	answered := make(chan answer, 1)
	go func() {
		got, _ := w.try(http.MethodGet, listPath+"/changes?since=1-1&waitSeconds=25", nil)
		answered <- got
	}()
	within(t, "the call reaches the service", func() bool { return w.called() == 1 })
	start := time.Now()
	w.stop()
	got := <-answered
	got.wantError(t, http.StatusServiceUnavailable, "TIER_UNAVAILABLE")
	err := <-w.stopped
	w.stopped <- err
	if took := time.Since(start); err != nil || took > 5*time.Second || got.header.Get("Retry-After") != "1" {
		t.Errorf("stopped after %s: %v %v", took, err, got.header)
	}
}

func TestDrainEnds(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.DrainTimeout = 100 * time.Millisecond })
	arrived, ended := make(chan struct{}), make(chan struct{})
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		close(arrived)
		receive(stream)
		close(ended)
		return stream.Context().Err()
	})
	reader, writer := pipe(t)
	go func() {
		_, _ = w.try(http.MethodPost, syncPath, reader, asCSV)
	}()
	_, _ = writer.Write([]byte("address\n"))
	<-arrived
	start := time.Now()
	w.stop()
	err := <-w.stopped
	w.stopped <- err
	if took := time.Since(start); err != nil || took > 6*time.Second {
		t.Errorf("stopped after %s: %v", took, err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the service is not told")
	}
}

func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.ReadHeaderTimeout = 100 * time.Millisecond })
	conn := w.dial()
	conn.write("GET /healthz HTTP/1.1\r\n")
	if _, err := conn.in.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection stays open: %v", err)
	}
}

// faulty is a connection whose use is a fault of ours.
type faulty struct{ grpc.ClientConnInterface }

func (faulty) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	panic("what ada@example.org did")
}

func TestPanic(t *testing.T) {
	t.Parallel()
	log := &logbook{}
	handler, err := gateway.New(t.Context(), gateway.Deps{
		International: faulty{}, Regional: faulty{}, Local: faulty{}, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, listPath, nil))
	got := answer{recorder.Code, recorder.Header(), recorder.Body.String()}
	got.wantError(t, http.StatusInternalServerError, "INTERNAL")
	if strings.Contains(got.body, "did") || !strings.Contains(log.String(), "panic") || strings.Contains(log.String(), "ada@") {
		t.Errorf("%s\n%s", got.body, log)
	}
}
