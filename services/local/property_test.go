package local

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// TestSyncsAgreeWithTheRules drives random syncs, edits and departures, and compares every answer and the whole list with
// an oracle that knows nothing but the rules, and the events with the list.
func TestSyncsAgreeWithTheRules(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(c *Config) { c.RowsInMemory = int(seed) * 8 })
			h := &history{world: w, rand: rand.New(rand.NewPCG(seed, 0)), name: members, list: oracle{}}
			if seed%2 == 0 {
				h.name = w.createList("announce")
			}
			for range 100 {
				h.step()
				h.compare()
			}
			w.agrees(h.name)
			if h.reverts == 0 || h.conflicts == 0 {
				t.Errorf("%d reverts with %d conflicts are no test of them", h.reverts, h.conflicts)
			}
		})
	}
}

// oracle is a list by the rules of 6.3, by address.
type oracle map[string]*known

type known struct {
	state   localv1.Entry_State
	name    string
	sources []string
	// When each source first and last had it.
	first, last map[string]time.Time
	// The step that changed it last.
	changed int
}

func (k *known) clone() *known {
	same := *k
	same.sources, same.first, same.last = slices.Clone(k.sources), maps.Clone(k.first), maps.Clone(k.last)
	return &same
}

func (k *known) claim(source string, now time.Time) {
	k.sources = append(k.sources, source)
	k.first[source], k.last[source] = now, now
}

func (k *known) drop(source string) {
	k.sources = slices.DeleteFunc(k.sources, func(s string) bool { return s == source })
	delete(k.first, source)
	delete(k.last, source)
}

func (k *known) live() bool {
	return k != nil && (k.state == localv1.Entry_SUBSCRIBED || k.state == localv1.Entry_PENDING)
}

func (k *known) claimedBy(source string) bool { return slices.Contains(k.sources, source) }

type history struct {
	*world

	rand   *rand.Rand
	name   string
	list   oracle
	double bool
	log    []string

	now  int // counts the steps
	last appliedSync
	// reverted says that claims were given back, of which nobody knows when they were last seen.
	reverted           bool
	reverts, conflicts int
}

// appliedSync is the last sync, to be reverted.
type appliedSync struct {
	name          string
	step          int
	before, after oracle
}

func (h *history) said(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) step() {
	h.clock.Advance(time.Second)
	h.now++
	switch n := h.rand.IntN(24); {
	case n >= 20:
		h.revert()
	case n < 9:
		h.sync()
	case n < 11:
		h.staleSync()
	case n < 13:
		h.create()
	case n < 15:
		h.renameOne()
	case n < 16:
		h.remove()
	case n < 18:
		h.leave()
	case n < 19:
		h.bounceOne()
	case h.name != members && h.rand.IntN(3) == 0:
		h.deleteAndMakeAnew()
	default:
		h.double = !h.double
		h.said("double opt-in %t", h.double)
		_, err := h.lists.UpdateList(h.t.Context(), &localv1.UpdateListRequest{
			List: &localv1.List{Name: h.name, DoubleOptIn: h.double}, UpdateMask: mask("double_opt_in"),
		})
		h.must(err)
	}
}

// row is one row of a made-up source.
type row struct{ address, name string }

func (h *history) rows() (rows []row, csv string) {
	var text strings.Builder
	text.WriteString("email,name\n")
	share := h.rand.IntN(10)
	for i := range 40 {
		if h.rand.IntN(10) < share {
			continue
		}
		one := row{person(i), []string{"", "", "Ada", "Bob"}[h.rand.IntN(4)]}
		for range 1 + h.rand.IntN(20)/19 { // now and then twice
			rows = append(rows, one)
			fmt.Fprintf(&text, "%s,%s\n", one.address, one.name)
		}
	}
	if h.rand.IntN(3) == 0 {
		rows = append(rows, row{})
		text.WriteString("nonsense,\n")
	}
	return rows, text.String()
}

// expected is what the rules say about a source.
type expected struct {
	counts  localv1.SyncCounts
	blocked bool
	after   oracle
}

func (h *history) expect(mode localv1.Sync_Mode, source string, rows []row) *expected {
	e := &expected{after: oracle{}}
	for address, entry := range h.list {
		e.after[address] = entry.clone()
	}
	fresh := localv1.Entry_SUBSCRIBED
	if h.double {
		fresh = localv1.Entry_PENDING
	}
	seen := map[string]bool{}
	for _, row := range rows {
		entry := e.after[row.address]
		switch {
		case row.address == "":
			e.counts.Rejected++
			continue
		case seen[row.address]:
			e.counts.Duplicate++
			continue
		case entry == nil:
			e.counts.Add++
			entry = h.fresh(fresh, row.name, source)
			e.after[row.address] = entry
		case !entry.live():
			e.counts.Suppressed++
		case row.name != "" && row.name != entry.name:
			e.counts.Update++
			entry.name, entry.changed = row.name, h.now
		default:
			e.counts.Unchanged++
		}
		seen[row.address] = true
		if entry.live() && !entry.claimedBy(source) {
			entry.claim(source, h.clock.Now())
			entry.changed = h.now
		}
		if entry.live() {
			entry.last[source] = h.clock.Now()
		}
	}
	if mode == localv1.Sync_REPLACE {
		e.replace(h, source, seen)
	}
	return e
}

func (e *expected) replace(h *history, source string, seen map[string]bool) {
	claimed := int32(0)
	for address, entry := range h.list {
		if !entry.live() || !entry.claimedBy(source) {
			continue
		}
		claimed++
		if seen[address] {
			continue
		}
		if len(entry.sources) == 1 {
			e.counts.Remove++
			delete(e.after, address)
			continue
		}
		e.counts.Kept++
		e.after[address].drop(source)
		e.after[address].changed = h.now
	}
	e.blocked = e.counts.GetRemove() > 5 && e.counts.GetRemove()*5 > claimed
}

func (h *history) request() (request, *expected) {
	rows, csv := h.rows()
	mode, source := localv1.Sync_REPLACE, []string{"crm", "meetup", "manual"}[h.rand.IntN(3)]
	call := replace(source, csv).to(h.name)
	if h.rand.IntN(3) == 0 {
		mode = localv1.Sync_MERGE
		call = merge(source, csv).to(h.name)
	}
	h.said("%s from %s of %v", mode, source, rows)
	return call, h.expect(mode, source, rows)
}

// sync uploads a source, in one call or in two, and confirms removals or is refused.
func (h *history) sync() {
	call, want := h.request()
	if want.counts.GetAdd()+want.counts.GetUpdate()+want.counts.GetUnchanged()+want.counts.GetSuppressed() == 0 {
		return // an empty or wholly bad source has a test of its own
	}
	var sync *localv1.Sync
	var err error
	confirm := h.rand.IntN(2) == 0
	if h.rand.IntN(2) == 0 {
		plan := h.world.sync(call)
		h.check(plan, want, map[bool]localv1.Sync_State{false: localv1.Sync_PLANNED, true: localv1.Sync_BLOCKED}[want.blocked])
		apply := &localv1.ApplySyncRequest{Name: plan.GetName()}
		if confirm {
			apply.ConfirmRemovals = new(want.counts.GetRemove())
		}
		sync, err = h.syncs.ApplySync(h.t.Context(), apply)
	} else {
		if confirm {
			call = call.confirming(want.counts.GetRemove())
		}
		sync, err = call.applied().send(h.t.Context(), h.syncs)
	}
	if want.blocked && !confirm {
		refuses(h.t, err, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED)
		return
	}
	h.must(err)
	h.check(sync, want, localv1.Sync_APPLIED)
	h.last = appliedSync{sync.GetName(), h.now, h.list, want.after}
	h.list = oracle{}
	for address, entry := range want.after {
		h.list[address] = entry.clone()
	}
}

// revert undoes the last sync: what it changed and nobody else since goes back, the rest is a conflict.
func (h *history) revert() {
	if h.last.name == "" {
		return
	}
	if h.rand.IntN(2) == 0 {
		h.now++
		h.clock.Advance(time.Second)
		h.renameOne()
		h.leave()
	}
	h.said("revert")
	sync, err := h.syncs.RevertSync(h.t.Context(), &localv1.RevertSyncRequest{Name: h.last.name})
	h.must(err)
	conflicts := map[string]bool{}
	for _, address := range slices.Sorted(maps.Keys(h.touched())) {
		before, after, present := h.last.before[address], h.last.after[address], h.list[address]
		switch {
		case after == nil && present == nil: // it was removed
			h.list[address] = before.clone()
			h.list[address].changed = h.now
		case before == nil && present == nil: // it was added, and is gone
		case after == nil || present == nil || present.changed != h.last.step:
			conflicts[address] = true
		case before == nil:
			delete(h.list, address)
		default:
			h.list[address] = before.clone()
			h.list[address].changed = h.now
		}
	}
	h.reverts++
	h.conflicts += len(conflicts)
	h.checkRevert(sync, conflicts)
	h.last, h.reverted = appliedSync{}, true
}

// touched are the addresses whose entries the last sync changed.
func (h *history) touched() map[string]bool {
	touched := map[string]bool{}
	for address := range h.last.before {
		touched[address] = h.last.after[address] == nil
	}
	for address, entry := range h.last.after {
		touched[address] = entry.changed == h.last.step
	}
	maps.DeleteFunc(touched, func(_ string, changed bool) bool { return !changed })
	return touched
}

func (h *history) checkRevert(sync *localv1.Sync, conflicts map[string]bool) {
	h.t.Helper()
	if sync.GetState() != localv1.Sync_REVERTED || int(sync.GetConflicts()) != len(conflicts) {
		h.t.Fatalf("the sync is %s with %d conflicts, want %v, after\n%s", sync.GetState(), sync.GetConflicts(), conflicts, strings.Join(h.log, "\n"))
	}
	answer, err := h.syncs.ListSyncChanges(h.t.Context(), &localv1.ListSyncChangesRequest{Parent: sync.GetName(), Filter: "kind = CONFLICT", PageSize: 1000})
	h.must(err)
	for _, change := range answer.GetChanges() {
		if !conflicts[change.GetAddress()] || change.GetCode() == "" || change.GetText() == "" {
			h.t.Fatalf("%v is no conflict, after\n%s", change, strings.Join(h.log, "\n"))
		}
		delete(conflicts, change.GetAddress())
	}
	if len(conflicts) > 0 {
		h.t.Fatalf("the conflicts %v are not listed, after\n%s", conflicts, strings.Join(h.log, "\n"))
	}
}

// fresh is an entry that this step has made.
func (h *history) fresh(state localv1.Entry_State, name, source string) *known {
	entry := &known{state: state, name: name, first: map[string]time.Time{}, last: map[string]time.Time{}, changed: h.now}
	entry.claim(source, h.clock.Now())
	return entry
}

func (h *history) check(sync *localv1.Sync, want *expected, state localv1.Sync_State) {
	h.t.Helper()
	wanted := &localv1.Sync{Counts: &want.counts}
	if sync.GetState() != state || counts(sync) != counts(wanted) {
		h.t.Fatalf("the sync is %s with %q, want %s with %q, after\n%s", sync.GetState(), counts(sync), state, counts(wanted), strings.Join(h.log, "\n"))
	}
}

// staleSync plans, lets the list change, and applies in vain.
func (h *history) staleSync() {
	call, want := h.request()
	if want.counts.GetAdd()+want.counts.GetUpdate()+want.counts.GetUnchanged()+want.counts.GetSuppressed() == 0 {
		return
	}
	plan := h.world.sync(call)
	before := h.world.list(h.name).GetEtag()
	h.now++
	h.create()
	h.leave()
	moved := h.world.list(h.name).GetEtag() != before
	_, err := h.syncs.ApplySync(h.t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName(), ConfirmRemovals: new(plan.GetCounts().GetRemove())})
	if moved {
		refuses(h.t, err, errorv1.Reason_REASON_PLAN_STALE)
		return
	}
	h.must(err)
	h.last, h.list = appliedSync{}, want.after
}

func (h *history) create() {
	address := person(h.rand.IntN(40))
	h.said("create %s", address)
	_, err := h.lists.CreateEntry(h.t.Context(), &localv1.CreateEntryRequest{Parent: h.name, Entry: &localv1.Entry{Address: address, DisplayName: "Manu"}})
	switch entry := h.list[address]; {
	case entry.live():
		refuses(h.t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	case entry != nil:
		refuses(h.t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	default:
		h.must(err)
		state := localv1.Entry_SUBSCRIBED
		if h.double {
			state = localv1.Entry_PENDING
		}
		h.list[address] = h.fresh(state, "Manu", manual)
	}
}

// pick is an address on the list, in whatever state; "" for none.
func (h *history) pick() string {
	addresses := slices.Sorted(maps.Keys(h.list))
	if len(addresses) == 0 {
		return ""
	}
	return addresses[h.rand.IntN(len(addresses))]
}

func (h *history) renameOne() {
	if address := h.pick(); address != "" {
		h.said("rename %s", address)
		_, err := h.lists.UpdateEntry(h.t.Context(), &localv1.UpdateEntryRequest{
			Entry: &localv1.Entry{Name: h.entry(h.name, address), DisplayName: "Renamed"}, UpdateMask: mask("display_name"),
		})
		if !h.list[address].live() {
			refuses(h.t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
			return
		}
		h.must(err)
		if h.list[address].name != "Renamed" {
			h.list[address].name, h.list[address].changed = "Renamed", h.now
		}
	}
}

func (h *history) remove() {
	address := h.pick()
	if address == "" {
		return
	}
	h.said("delete %s", address)
	_, err := h.lists.DeleteEntry(h.t.Context(), &localv1.DeleteEntryRequest{Name: h.entry(h.name, address)})
	if !h.list[address].live() {
		refuses(h.t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
		return
	}
	h.must(err)
	delete(h.list, address)
}

func (h *history) leave() {
	if address := h.pick(); address != "" && h.rand.IntN(2) == 0 {
		h.said("%s leaves", address)
		h.unsubscribe(h.entry(h.name, address))
		if h.list[address].state != localv1.Entry_UNSUBSCRIBED {
			h.list[address].state, h.list[address].changed = localv1.Entry_UNSUBSCRIBED, h.now
		}
	}
}

func (h *history) bounceOne() {
	address := h.pick()
	if address == "" || !h.list[address].live() {
		return
	}
	h.said("%s bounces", address)
	_, err := h.lists.BounceEntry(h.t.Context(), &localv1.BounceEntryRequest{Name: h.entry(h.name, address), Text: "550 5.1.1"})
	h.must(err)
	h.list[address].state, h.list[address].changed = localv1.Entry_BOUNCED, h.now
}

func (h *history) deleteAndMakeAnew() {
	h.said("made anew")
	_, err := h.lists.DeleteList(h.t.Context(), &localv1.DeleteListRequest{Name: h.name})
	h.must(err)
	h.createList("announce")
	h.double, h.last = false, appliedSync{}
	maps.DeleteFunc(h.list, func(_ string, entry *known) bool { return entry.live() })
}

// compare asserts that the list is what the oracle says.
func (h *history) compare() {
	h.t.Helper()
	entries := h.entries(h.name)
	if len(entries) != len(h.list) {
		h.t.Fatalf("%d entries, want %d, after\n%s", len(entries), len(h.list), strings.Join(h.log, "\n"))
	}
	for address, want := range h.list {
		got := entries[address]
		if got.GetState() != want.state || got.GetDisplayName() != want.name || !slices.Equal(got.GetSources(), want.sources) {
			h.t.Fatalf("an entry is %v, want %v, after\n%s", got, want, strings.Join(h.log, "\n"))
		}
		for _, claim := range got.GetClaims() {
			first, last := claim.GetFirstSeenTime().AsTime(), claim.GetLastSeenTime().AsTime()
			if !first.Equal(want.first[claim.GetSource()]) || !h.reverted && !last.Equal(want.last[claim.GetSource()]) || last.Before(first) {
				h.t.Fatalf("%v, want first %v and last %v, after\n%s", got, want.first, want.last, strings.Join(h.log, "\n"))
			}
		}
	}
}

// TestConcurrentWritersKeepTheVersions lets many writers change one list at once.
func TestConcurrentWritersKeepTheVersions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	done := make(chan error)
	for writer := range 6 {
		go func() {
			random := rand.New(rand.NewPCG(uint64(writer), 1))
			var err error
			for range 15 {
				switch random.IntN(3) {
				case 0:
					_, err = replace("crm", people(random.IntN(20), 20)).applied().send(t.Context(), w.syncs)
				case 1:
					_, err = w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: person(random.IntN(60))}})
				case 2:
					_, err = w.lists.DeleteEntry(t.Context(), &localv1.DeleteEntryRequest{Name: w.entry(members, person(random.IntN(60)))})
				}
				if rpc.InfoOf(err) != nil {
					err = nil // refused by a rule: that is an answer
				}
				if err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 6 {
		w.must(<-done)
	}
	w.agrees(members)
	var synced int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM syncs WHERE state = 'APPLIED'").Scan(&synced))
	if synced == 0 {
		t.Error("no sync went through")
	}
	w.noRowsLeft()
}
