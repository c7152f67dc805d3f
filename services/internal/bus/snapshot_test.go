package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// startOwner starts a responder for lists whose Snapshot is wrapped.
func (w *world) startOwner(wrap func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error)) (stop func()) {
	w.t.Helper()
	owner := listOwner()
	owner.Snapshot = wrap
	r := bus.NewResponder(bus.ResponderConfig{
		Pool: w.owner, NATS: w.nats.Connect(w.t, bus.Local, "main"), Tier: bus.Local, Site: "main", Log: w.log, Registerer: w.metrics,
	}, owner, noteOwner())
	return w.start("responder", r.Run)
}

// gap makes the consumer want a snapshot of lists/paris.
func (w *world) gap(items int) {
	w.t.Helper()
	w.change("paris", numbered("a", 0, items), nil)
	w.change("paris", []string{"gap"}, nil)
	w.published()
	messages := w.messages("list.paris.>")
	w.lose(messages[len(messages)-2])
}

func TestSnapshotWhileTheListChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	sent := 0
	w.startOwner(func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
		return sendList(ctx, tx, aggregate, func(part proto.Message) error {
			if sent++; sent%3 == 1 { // in the middle of the snapshot
				w.change("paris", []string{fmt.Sprint("during", sent)}, []string{fmt.Sprintf("a%06d", 400+sent)})
			}
			return send(part)
		})
	})
	w.gap(500)
	w.startConsumer()
	w.change("paris", []string{"after"}, nil)
	w.agree()
	if n := w.metric("snapshots_total"); n != 1 {
		t.Errorf("%v snapshots, want 1: what came meanwhile was parked", n)
	}
}

func TestOwnerFailsInTheMiddleOfASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	var attempts atomic.Int32
	w.startOwner(func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
		sent := 0
		attempt := attempts.Add(1)
		return sendList(ctx, tx, aggregate, func(part proto.Message) error {
			if sent++; attempt < 3 && sent == 4 {
				if attempt == 1 {
					panic("out of memory")
				}
				return errors.New("no more")
			}
			return send(part)
		})
	})
	w.gap(500)
	w.startConsumer()
	w.agree()
	if n := w.metric("snapshots_total", "failed"); n != 2 {
		t.Errorf("%v failed snapshots, want 2", n)
	}
}

func TestNATSStopsInTheMiddleOfASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	var once sync.Once
	sent := 0
	w.startOwner(func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
		return sendList(ctx, tx, aggregate, func(part proto.Message) error {
			if sent++; sent == 4 {
				once.Do(func() {
					w.nats.Stop()
					w.nats.Start(t)
				})
			}
			return send(part)
		})
	})
	w.gap(500)
	w.startConsumer()
	w.agree()
}

func TestOwnerIsNotThereYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.gap(10)
	w.startConsumer()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("snapshots_total", "failed")
		return n >= 1, fmt.Sprintf("%v failed attempts", n)
	})
	w.startResponder()
	w.agree()
}

// What the consumer has applied meanwhile is newer than the snapshot that it asked for before.
func TestSnapshotOlderThanTheCopyIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.startPublisher()
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.startOwner(func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
		v, found, err := sendList(ctx, tx, aggregate, send)
		once.Do(func() {
			close(asked)
			<-answer
		})
		return v, found, err
	})
	messages := w.tenChanges()
	stop()
	w.lose(messages[5])
	w.startConsumer()
	<-asked
	w.republish(messages[5]) // it was only late
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT number FROM positions WHERE aggregate = 'lists/paris'")
		return n == 10, fmt.Sprint("at version ", n)
	})
	close(answer)
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("snapshots_total", "old")
		return n == 1, fmt.Sprintf("%v old snapshots", n)
	})
	w.agree()
	if n := w.metric("snapshots_total", "replaced"); n != 0 {
		t.Errorf("%v replacements", n)
	}
}

func TestSnapshotIsAskedForOnceAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	var running, most atomic.Int32
	release := make(chan struct{})
	w.startOwner(func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-release
		return sendList(ctx, tx, aggregate, send)
	})
	w.gap(10)
	w.startConsumer()
	for i := range 20 { // each is another reason to ask
		w.change("paris", []string{fmt.Sprint("more", i)}, nil)
	}
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT count(*) FROM parked")
		return n == 21, fmt.Sprintf("%d parked", n)
	})
	close(release)
	w.agree()
	if n := most.Load(); n != 1 {
		t.Errorf("%d requests at once for one aggregate", n)
	}
}

func TestReplaceThatFailsIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	var calls atomic.Int32
	w.startConsumer(func(cfg *bus.ConsumerConfig) {
		cfg.Topics[0].Replace = func(ctx context.Context, tx pgx.Tx, aggregate string, s *bus.Snapshot) error {
			if calls.Add(1) <= 6 { // five tries are the first attempt
				panic("not today")
			}
			return replaceList(ctx, tx, aggregate, s)
		}
	})
	w.gap(120)
	w.agree()
}

func TestWishesSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.gap(10)
	stop := w.startConsumer()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT count(*) FROM wanted")
		return n == 1, fmt.Sprintf("%d wanted", n)
	})
	stop()
	w.startResponder()
	w.startConsumer()
	w.agree()
}

func TestTopicWithoutReplaceGetsTheSnapshotAsAnEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.note("n", "lost")
	w.published()
	w.lose(w.messages("note.>")...)
	w.startConsumer(func(cfg *bus.ConsumerConfig) { cfg.Topics[1].Replace = nil })
	w.agree()
}

// responding waits until the owner answers.
func (w *world) responding() {
	w.t.Helper()
	nc := w.nats.Connect(w.t, bus.International, "main")
	testkit.Eventually(w.t, agreement, func() (bool, string) {
		_, err := nc.Request("chq.international.main.local.main.versions", []byte(`{"kind":"note"}`), time.Second)
		return err == nil, fmt.Sprint(err)
	})
}

func TestResponderRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startResponder()
	w.responding()
	admin := w.nats.Admin(t)
	subject := "chq.international.main.local.main."
	for name, ask := range map[string]struct{ what, data, want string }{
		"another kind":    {"snapshot", `{"kind":"secret","aggregate":"x"}`, "owns nothing"},
		"no JSON":         {"versions", `{`, "unexpected end"},
		"another request": {"passwords", `{}`, "nothing is known"},
	} {
		t.Run(name, func(t *testing.T) {
			inbox := "_INBOX.international.test." + strings.ReplaceAll(name, " ", "")
			sub, err := admin.SubscribeSync(inbox)
			if err != nil {
				t.Fatal(err)
			}
			if err := admin.PublishRequest(subject+ask.what, inbox, []byte(ask.data)); err != nil {
				t.Fatal(err)
			}
			msg, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := msg.Header.Get("chapterhouse-error"); !strings.Contains(got, ask.want) {
				t.Errorf("the answer is %q, want %q", got, ask.want)
			}
		})
	}
}

// The owner may publish where the asker may not, and is not to be used for that.
func TestResponderAnswersOnlyToTheAskersInbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startResponder()
	w.responding()
	w.note("n", "secret")
	admin := w.nats.Admin(t)
	elsewhere, err := admin.SubscribeSync("ch.regional.main.>")
	if err != nil {
		t.Fatal(err)
	}
	request := []byte(`{"kind":"note","aggregate":"notes/n"}`)
	for _, reply := range []string{"ch.regional.main.note.n.changed", "_INBOX.regional.x", ""} {
		msg := &nats.Msg{Subject: "chq.international.main.local.main.snapshot", Reply: reply, Data: request}
		if err := admin.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("answers_total", "failed")
		return n == 3, fmt.Sprintf("%v refused", n)
	})
	if msg, err := elsewhere.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("got an answer on %s", msg.Subject)
	}
}

func TestSnapshotPartMustFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	failed := make(chan error, 100)
	w.startOwner(func(_ context.Context, _ pgx.Tx, _ string, send func(proto.Message) error) (bus.Version, bool, error) {
		err := send(wrapperspb.Bytes(make([]byte, 1<<20)))
		failed <- err
		return bus.Version{}, false, err
	})
	w.gap(10)
	w.startConsumer()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("send says %v", err)
	}
}
