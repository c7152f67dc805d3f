package bus_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// The environment of a child process that publishes, answers and consumes.
const (
	childOwner = "BUS_TEST_OWNER"
	childCopy  = "BUS_TEST_COPY"
	childNATS  = "BUS_TEST_NATS"
)

// runChild never returns; the parent kills it.
func runChild() {
	ctx := context.Background()
	w := &world{log: slog.New(slog.NewTextHandler(os.Stderr, nil)), metrics: prometheus.NewRegistry()}
	must := func(err error) {
		if err != nil {
			w.log.Error("child", "error", err)
			os.Exit(1)
		}
	}
	var err error
	w.owner, err = postgres.Open(ctx, os.Getenv(childOwner))
	must(err)
	w.copy, err = postgres.Open(ctx, os.Getenv(childCopy))
	must(err)
	connect := func(user string) *nats.Conn {
		nc, err := bus.Connect(os.Getenv(childNATS), user, "test", w.log)
		must(err)
		return nc
	}
	owner := connect("local.main")
	publisher := bus.NewPublisher(bus.PublisherConfig{
		Pool: w.owner, NATS: owner, Tier: bus.Local, Site: "main", Log: w.log, OnRestored: beginEpoch,
	})
	responder := bus.NewResponder(bus.ResponderConfig{Pool: w.owner, NATS: owner, Tier: bus.Local, Site: "main", Log: w.log}, listOwner(), noteOwner())
	cfg := w.consumerConfig(connect("international"))
	comparing(&cfg)
	consumer, err := bus.NewConsumer(cfg)
	must(err)
	go func() { must(publisher.Run(ctx)) }()
	go func() { must(responder.Run(ctx)) }()
	must(consumer.Run(ctx))
}

// startChild starts the process that is going to be killed.
func (w *world) startChild() (kill func()) {
	w.t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(),
		childOwner+"="+w.owner.Config().ConnString(), childCopy+"="+w.copy.Config().ConnString(), childNATS+"="+w.nats.URL())
	if os.Getenv("BUS_LOG") != "" {
		child.Stderr = os.Stderr
	}
	if err := child.Start(); err != nil {
		w.t.Fatal(err)
	}
	kill = func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	w.t.Cleanup(kill)
	return kill
}

func TestOwnerAndCopyAgreeAfterKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.killed = true
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 1000))
	writers := w.startWriters(2, s)
	for range 6 {
		kill := w.startChild()
		writers.waitFor(20 + int64(random.IntN(60)))
		// The moment of the kill is what is random here, so time alone decides.
		<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
		kill()
	}
	writers.stop()
	w.startChild()
	w.agree()
	dead, err := w.js().Stream(t.Context(), bus.DeadStream(bus.International, "main"))
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n > 0 {
		t.Errorf("%d dead letters", n)
	}
}
