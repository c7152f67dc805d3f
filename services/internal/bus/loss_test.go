package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// lose removes messages from the stream before anybody has read them.
func (w *world) lose(messages ...*jetstream.RawStreamMsg) {
	w.t.Helper()
	for _, msg := range messages {
		if err := w.stream().SecureDeleteMsg(context.Background(), msg.Sequence); err != nil {
			w.t.Fatal(err)
		}
	}
}

// tenChanges publishes ten versions of lists/paris and returns their messages.
func (w *world) tenChanges() []*jetstream.RawStreamMsg {
	w.t.Helper()
	return w.tenChangesTo("paris")
}

func (w *world) tenChangesTo(list string) []*jetstream.RawStreamMsg {
	w.t.Helper()
	for i := range 10 {
		w.change(list, numbered(fmt.Sprint("c", i, "-"), 0, 3), nil)
	}
	w.published()
	return w.messages("list." + list + ".>")
}

func TestLostEventIsMadeUpForBySnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	messages := w.tenChanges()
	w.lose(messages[3], messages[4])
	w.startConsumer()
	w.agree()
	if n := w.metric("snapshots_total", "replaced"); n != 1 {
		t.Errorf("%v snapshots, want 1", n)
	}
	w.change("paris", []string{"after"}, nil)
	w.agree()
	if n := w.metric("snapshots_total"); n != 1 {
		t.Errorf("%v snapshots after the gap was closed, want 1", n)
	}
}

func TestLostFirstEventIsMadeUpForBySnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.lose(w.tenChanges()[0])
	w.startConsumer()
	w.agree()
}

func TestLostLastEventIsFoundByComparison(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.note("n", "one")
	w.note("n", "two")
	w.note("only", "lost")
	messages := w.tenChanges()
	notes := w.messages("note.>")
	w.lose(messages[9], notes[1], notes[2])
	w.startConsumer() // compares at its start
	w.agree()
	if n := w.metric("differences_total"); n != 3 {
		t.Errorf("%v differences, want 3", n)
	}
}

func TestLostPartIsMadeUpForBySnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.change("paris", []string{"first"}, nil)
	w.changeInParts("paris", numbered("a", 0, 60), numbered("b", 0, 60), numbered("c", 0, 60))
	w.change("paris", []string{"last"}, nil)
	w.published()
	w.lose(w.messages("list.>")[2])
	w.startConsumer()
	w.agree()
}

func TestEventsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.startPublisher()
	w.startResponder()
	w.note("n", "one")
	w.note("n", "two")
	messages, notes := w.tenChanges(), w.messages("note.>")
	w.changeInParts("paris", numbered("a", 0, 5), numbered("b", 0, 5), numbered("d", 0, 5))
	w.published()
	parts := w.messages("list.>")[10:]
	stop()
	w.lose(append(append(messages, notes...), parts...)...)
	for _, msg := range []*jetstream.RawStreamMsg{
		parts[2], messages[9], messages[1], messages[0], parts[0], messages[8], messages[3], messages[2],
		notes[1], notes[0], messages[7], messages[5], messages[6], parts[1], messages[4],
	} {
		w.republish(msg)
	}
	w.startConsumer(patient)
	w.agree()
	if n := w.metric("snapshots_total"); n != 0 {
		t.Errorf("%v snapshots, though nothing was missing", n)
	}
	if n := w.metric("ignored_total", "old"); n != 1 {
		t.Errorf("%v old events, want the first note", n)
	}
}

func TestDuplicatesAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	messages := w.tenChanges()
	for _, msg := range append(messages, messages...) {
		w.republish(msg)
	}
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("ignored_total", "duplicate")
		return n == 20, fmt.Sprintf("%v duplicates", n)
	})
	w.agree()
	if n := scan[int](t, w.copy, "SELECT count(*) FROM history"); n != 10 {
		t.Errorf("%d versions were applied, want 10", n)
	}
}

func TestCorruptedEventsGoToTheDeadLettersAndAreMadeUpFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.startPublisher()
	w.startResponder()
	corruptions := []func(*nats.Msg){
		func(m *nats.Msg) { m.Data = []byte{0xff, 0xff, 0xff} },
		func(m *nats.Msg) { m.Header.Set("ce-type", "no.such.Type") },
		func(m *nats.Msg) { m.Header.Set("ce-source", "/chapterhouse/local/other") },
		func(m *nats.Msg) { m.Header.Del("ce-number") },
		func(m *nats.Msg) { m.Header = nats.Header{} },
	}
	for i := range corruptions {
		for version := range 3 {
			w.change(fmt.Sprint("list", i), numbered(fmt.Sprint("v", version), 0, 3), nil)
		}
	}
	w.note("n", "one")
	w.published()
	messages, notes := w.messages("list.>"), w.messages("note.>")
	stop()
	w.lose(append(messages, notes...)...)
	for i, corrupt := range corruptions {
		w.republish(messages[3*i])
		w.republish(messages[3*i+1], corrupt)
		w.republish(messages[3*i+2])
	}
	w.republish(notes[0], corruptions[0])
	w.startConsumer(func(cfg *bus.ConsumerConfig) { cfg.GapWait = time.Second })
	w.agree()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("dead_letters_total")
		return n == 6, fmt.Sprintf("%v dead letters", n)
	})
	w.checkDeadLetters(6, messages[1])
}

// checkDeadLetters looks for the letter of one event, which must be complete.
func (w *world) checkDeadLetters(count uint64, want *jetstream.RawStreamMsg) {
	w.t.Helper()
	dead, err := w.js().Stream(context.Background(), bus.DeadStream(bus.International, "main"))
	if err != nil {
		w.t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != count {
		w.t.Errorf("%d dead letters, want %d", n, count)
	}
	for seq := range count {
		letter, err := dead.GetMsg(context.Background(), seq+1)
		if err != nil {
			w.t.Fatal(err)
		}
		if letter.Header.Get("ce-id") != want.Header.Get("ce-id") {
			continue
		}
		if letter.Subject != "chdead.international.main."+want.Subject {
			w.t.Errorf("the letter's subject is %s", letter.Subject)
		}
		if letter.Header.Get("ce-number") != want.Header.Get("ce-number") || letter.Header.Get("chapterhouse-dead-reason") == "" {
			w.t.Errorf("the letter's headers are %v", letter.Header)
		}
		return
	}
	w.t.Errorf("no letter for event %s", want.Header.Get("ce-id"))
}

func TestEventThatCannotBeAppliedGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	messages := w.tenChanges()
	tries := 0
	w.setFailing(func(e bus.Event) error {
		if e.Version.Number != 4 {
			return nil
		}
		if tries++; tries%2 == 0 {
			panic("number four")
		}
		return errors.New("not number four")
	})
	// Long, lest the first comparison be quicker than five tries.
	w.startConsumer(patient)
	w.agree()
	if tries < 5 || tries > 6 { // once more when it shared a transaction
		t.Errorf("tried %d times, want 5 or 6", tries)
	}
	if n := w.metric("dead_letters_total"); n != 1 {
		t.Errorf("%v dead letters, want 1", n)
	}
	w.checkDeadLetters(1, messages[3])
}

func TestSplitVersionThatCannotBeAppliedGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.setFailing(func(e bus.Event) error {
		if e.Parts > 1 {
			return errors.New("no parts")
		}
		return nil
	})
	w.change("paris", []string{"first"}, nil)
	w.changeInParts("paris", numbered("a", 0, 5), numbered("b", 0, 5))
	w.change("paris", []string{"last"}, nil)
	w.agree()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("dead_letters_total")
		return n == 2, fmt.Sprintf("%v dead letters", n)
	})
}

func TestTransientFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	failures := 3
	w.setFailing(func(bus.Event) error {
		if failures--; failures >= 0 {
			return errors.New("not yet")
		}
		return nil
	})
	w.startAll(patient)
	w.change("paris", []string{"a"}, nil)
	w.agree()
	if n := w.metric("dead_letters_total") + w.metric("snapshots_total"); n != 0 {
		t.Error("it came to a dead letter or a snapshot")
	}
}
