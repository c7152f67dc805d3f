package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// On a server without users, which somebody runs for development, the services make what they need.
func TestServerThatNobodyProvisions(t *testing.T) {
	t.Parallel()
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	w := newWorld(t)
	connect := func(user string) *nats.Conn {
		nc, err := bus.Connect(ns.ClientURL(), user, "", w.log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	owner := connect(bus.User(bus.Local, "main"))
	publisher := bus.NewPublisher(bus.PublisherConfig{Pool: w.owner, NATS: owner, Tier: bus.Local, Site: "main", Log: w.log})
	responder := bus.NewResponder(bus.ResponderConfig{Pool: w.owner, NATS: owner, Tier: bus.Local, Site: "main", Log: w.log}, listOwner(), noteOwner())
	w.start("publisher", publisher.Run)
	w.start("responder", responder.Run)
	cfg := w.consumerConfig(connect(bus.User(bus.International, "main")))
	consumer, err := bus.NewConsumer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.setFailing(func(e bus.Event) error {
		if e.Kind == "note" {
			return errors.New("no notes")
		}
		return nil
	})
	w.start("consumer", consumer.Run)
	w.change("paris", []string{"a"}, nil)
	w.note("n", "dead") // needs the stream of dead letters
	w.agree()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("dead_letters_total")
		return n == 1, fmt.Sprintf("%v dead letters", n)
	})
}

// A newer owner may speak of things that this consumer has never heard of.
func TestKindsWithoutATopicAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
		return bus.Append(ctx, tx, bus.Event{Subject: "future.x.changed", Aggregate: "futures/x", Version: bus.Version{Epoch: 1, Number: 1}, Data: &emptypb.Empty{}})
	})
	w.change("paris", []string{"a"}, nil)
	w.agree()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("ignored_total", "kind")
		return n == 1, fmt.Sprintf("%v ignored", n)
	})
}

// What a stopping consumer has not applied comes to the next one at once.
func TestStoppingConsumerGivesBackItsMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	started, release := make(chan struct{}), make(chan struct{})
	w.setFailing(func(e bus.Event) error {
		if e.Version.Number == 1 {
			close(started)
			<-release
		}
		return nil
	})
	stop := w.startConsumer(patient)
	w.tenChanges()
	<-started
	for i := range 10 {
		w.change("paris", []string{fmt.Sprint(i)}, nil)
	}
	w.published()
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	close(release)
	<-stopped
	w.setFailing(nil)
	w.startConsumer(patient)
	w.agree()
	w.untouched()
}
