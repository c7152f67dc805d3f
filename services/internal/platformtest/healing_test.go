package platformtest

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

const (
	paris      = "paris"
	berlin     = "berlin"
	onParis    = "chapters/paris/lists/members"
	onBerlin   = "chapters/berlin/lists/members"
	listEvents = ".members.changed"
	parked     = "chapterhouse_bus_parked_total"
	snapshots  = "chapterhouse_bus_snapshots_total"
	buried     = "chapterhouse_bus_dead_letters_total"
	different  = "chapterhouse_bus_differences_total"
	replays    = "chapterhouse_bus_replays_total"
)

// TestHealing damages real messages and whole databases, and finds the standings agree again. Each test leaves on that
// remedy alone that it is about.
func TestHealing(t *testing.T) {
	t.Parallel()
	t.Run("SwappedVersionsArePutInOrder", swapped)
	t.Run("ALostVersionIsMadeUpForByASnapshot", lost)
	t.Run("ALostLastVersionIsFoundByComparing", lostLast)
	t.Run("ALostPartLeavesNothingHalfDone", lostPart)
	t.Run("ACorruptMessageIsADeadLetterAndBlocksNothing", corrupt)
	t.Run("ARestoredLocalDatabaseBeginsANewEpoch", restoredLocal)
	t.Run("ARestoredInternationalDatabaseCatchesUp", restoredInternational)
	t.Run("ARewoundStreamIsFilledUp", rewound)
}

const never = time.Hour

// twoChapters is a house with two chapters, each with one member and one stranger; nothing compares by itself.
func twoChapters(t *testing.T, change ...func(*settings)) (*house, *truth) {
	t.Helper()
	t.Parallel()
	h := build(t, append([]func(*settings){func(s *settings) {
		s.international.CompareEvery, s.local.CompareEvery = never, never
	}}, change...)...)
	tr := newTruth()
	h.found(t, paris, berlin)
	tr.knows(paris, berlin)
	h.enter(t, tr, "ada", "ada@example.org", "ada@home.example")
	h.enter(t, tr, "bob", "bob@example.org")
	h.subscribe(t, tr, onParis, "ada@example.org", "stranger@example.org")
	h.subscribe(t, tr, onBerlin, "bob@example.org", "stranger@example.org")
	h.agree(t, tr, patience)
	return h, tr
}

// noSnapshots leaves gaps to parking alone.
func noSnapshots(s *settings) { s.international.GapWait = never }

// heldUp makes changes while the consumer is held up, and returns their messages.
func heldUp(h *house, m *meddler, tr *truth, list string, addresses ...string) []*jetstream.RawStreamMsg {
	h.t.Helper()
	before := m.last()
	h.subscribe(h.t, tr, list, addresses...)
	return m.await(before, len(addresses), listEvents)
}

func swapped(t *testing.T) {
	h, tr := twoChapters(t, noSnapshots)
	m := h.meddle()
	m.pause()
	messages := heldUp(h, m, tr, onParis, "ada@home.example", "cleo@example.org", "dora@example.org", "emil@example.org")
	for i := range messages {
		last := messages[len(messages)-1-i]
		m.remove(last)
		m.republish(last, last.Data)
		m.republish(last, last.Data)
	}
	m.resume()
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, parked, 3)
	if n := h.metric(bus.International, snapshots, "result", "replaced"); n != 0 {
		t.Errorf("%v snapshots: order came from elsewhere", n)
	}
}

func lost(t *testing.T) {
	h, tr := twoChapters(t)
	m := h.meddle()
	m.pause()
	messages := heldUp(h, m, tr, onParis, "ada@home.example", "cleo@example.org", "dora@example.org")
	m.remove(messages[1])
	m.resume()
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, parked, 1)
	h.wantMetric(bus.International, snapshots, 1, "result", "replaced")
	h.subscribe(t, tr, onParis, "emil@example.org")
	h.settle(t, tr, patience)
}

func lostLast(t *testing.T) {
	h, tr := twoChapters(t, func(s *settings) { s.international.CompareEvery = time.Second })
	m := h.meddle()
	m.pause()
	for _, message := range heldUp(h, m, tr, onParis, "cleo@example.org", "dora@example.org") {
		m.remove(message)
	}
	m.resume()
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, different, 1)
}

// lostPart loses a part of a version of several: the standing goes from all of the old to all of the new.
func lostPart(t *testing.T) {
	h, tr := twoChapters(t)
	m := h.meddle()
	m.pause()
	before := m.last()
	const many = 45_000
	h.sync(t, tr, onParis, uploaded{source: "crm", addresses: numbered("many", many)})
	parts := m.await(before, 3, listEvents)
	m.remove(parts[1])
	m.republish(parts[0], parts[0].Data)
	m.resume()
	ctx := bounded(t, patience)
	eventually(t, patience, func() string {
		switch got := h.standing(ctx, t, paris).GetMembership().GetTotal(); got {
		case 2:
			return "the sync is not counted"
		case many + 2:
			return ""
		default:
			t.Fatalf("%d people: a sync is counted in part", got)
			return ""
		}
	})
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, snapshots, 1, "result", "replaced")
}

func corrupt(t *testing.T) {
	h, tr := twoChapters(t)
	m := h.meddle()
	m.pause()
	garbage := []byte{0xff, 0xff, 0xff, 'g', 'a', 'r', 'b', 'a', 'g', 'e'}
	messages := heldUp(h, m, tr, onParis, "ada@home.example", "cleo@example.org")
	m.remove(messages[0])
	m.republish(messages[0], garbage)
	heldUp(h, m, tr, onBerlin, "dora@example.org")
	m.resume()
	h.total(t, berlin, 3, patience)
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, buried, 1)
	letters := readStream(bounded(t, patience), t, h.nats.Admin(t), bus.DeadStream(bus.International, bus.MainSite))
	if len(letters) != 1 || !bytes.Equal(letters[0].Data, garbage) {
		t.Fatalf("%d dead letters, want the one", len(letters))
	}
	if reason := letters[0].Header.Get("chapterhouse-dead-reason"); reason == "" {
		t.Error("the dead letter says no reason")
	}
	h.subscribe(t, tr, onParis, "emil@example.org")
	h.settle(t, tr, patience)
}

// restoredLocal loses what local wrote since its backup, of which international was told: a new epoch takes it back.
func restoredLocal(t *testing.T) {
	h, tr := twoChapters(t)
	h.stop(bus.Local)
	restore := testkit.Backup(t, h.databases[bus.Local])
	h.start(bus.Local)
	saved := tr.clone()
	h.subscribe(t, tr, onParis, "ada@home.example", "cleo@example.org")
	h.agree(t, tr, patience)
	h.resign(t, saved, "bob")

	h.stop(bus.Local)
	restore()
	h.start(bus.Local)
	h.settle(t, saved, patience)
	h.wantMetric(bus.Local, replays, 1, "reason", "restored")
	h.subscribe(t, saved, onParis, "dora@example.org")
	h.settle(t, saved, patience)
}

// restoredInternational loses members, and copies of lists whose messages were acknowledged.
func restoredInternational(t *testing.T) {
	h, tr := twoChapters(t)
	h.stop(bus.International)
	restore := testkit.Backup(t, h.databases[bus.International])
	h.start(bus.International)
	before := tr.clone()
	h.subscribe(t, tr, onParis, "ada@home.example", "cleo@example.org")
	h.enter(t, tr, "cleo", "cleo@example.org")
	h.agree(t, tr, patience)

	h.stop(bus.International)
	restore()
	h.start(bus.International)
	tr.members = before.members
	h.settle(t, tr, patience)
	h.wantMetric(bus.International, replays, 1, "reason", "restored")
	h.enter(t, tr, "dora", "cleo@example.org")
	h.settle(t, tr, patience)
}

// rewound sets JetStream back to an earlier state, as from a snapshot of its disk.
func rewound(t *testing.T) {
	h, tr := twoChapters(t)
	h.nats.Stop()
	restore := h.nats.Backup(t)
	h.nats.Start(t)
	h.subscribe(t, tr, onParis, "ada@home.example")
	h.agree(t, tr, patience)
	h.nats.Stop()
	h.subscribe(t, tr, onParis, "cleo@example.org")
	restore()
	h.nats.Start(t)
	h.subscribe(t, tr, onBerlin, "cleo@example.org")
	h.settle(t, tr, patience)
	h.wantMetric(bus.Local, replays, 1, "reason", "rewound")
}

// wantMetric wants a counter to have come so far, at least.
func (h *house) wantMetric(tier, name string, least float64, labels ...string) {
	h.t.Helper()
	if got := h.metric(tier, name, labels...); got < least {
		h.t.Errorf("%s of %s %v is %v, want %v: it was healed otherwise", name, tier, labels, got, least)
	}
}
