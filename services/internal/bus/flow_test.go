package bus_test

import (
	"fmt"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestEventsReachTheCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.change("paris", numbered("a", 0, 10), nil)
	w.change("paris", numbered("b", 0, 3), numbered("a", 0, 5))
	w.change("lyon", numbered("a", 0, 2), nil)
	w.note("n", "one")
	w.note("n", "two")
	w.agree()
	if n := scan[int](t, w.copy, "SELECT count(*) FROM history"); n != 3 {
		t.Errorf("%d versions of lists were applied, want 3", n)
	}
	if n := w.metric("snapshots_total"); n != 0 {
		t.Errorf("%v snapshots without need", n)
	}
}

func TestNoticeIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.notice("hello")
	w.published()
	w.republish(w.messages("note.x.happened")[0])
	w.notice("last")
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT count(*) FROM notices")
		return n == 2, fmt.Sprintf("%d notices", n)
	})
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("ignored_total", "duplicate")
		return n == 1, fmt.Sprintf("%v duplicates", n)
	})
}

func TestPartsAreAppliedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.change("paris", []string{"first"}, nil)
	w.changeInParts("paris", numbered("a", 0, 20), numbered("b", 0, 20), numbered("c", 0, 20))
	w.change("paris", nil, []string{"first", "b000003"})
	w.agree()
	if n := scan[int](t, w.copy, "SELECT count(*) FROM history"); n != 3 {
		t.Errorf("%d versions were applied, want 3", n)
	}
}

// A batch that JetStream takes as a whole, and one that it refuses because it knows some of it.
func TestManyEventsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.manyNotes(400, 100)
	w.published()
	w.exec(w.owner, "UPDATE outbox SET publish_time = NULL WHERE id % 2 = 0")
	w.manyNotes(800, 100) // the first half are versions that the copy has
	w.published()
	w.exec(w.owner, "UPDATE notes SET value = '7' || lpad((substr(aggregate, 8)::int)::text, 2, '0')")
	w.agree()
	w.untouched()
	if n := w.stream().CachedInfo().State.Msgs; n != 1200 {
		t.Errorf("%d messages in the stream, want 1200", n)
	}
}
