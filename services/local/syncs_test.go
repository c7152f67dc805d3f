package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

func TestSyncPlansThenApplies(t *testing.T) {
	t.Parallel()
	w := setup(t)
	plan := w.sync(replace("crm", "email,name\nAda@Example.org,Ada\nbob@example.org,Bob\nnot an address,\nada@example.org,again\n"))
	w.expect(plan, localv1.Sync_PLANNED, "add 2 rejected 1 duplicate 1")
	if got := w.list(members).GetSubscribedCount(); got != 0 {
		t.Fatalf("a plan alone made %d entries", got)
	}
	done, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
	w.must(err)
	w.expect(done, localv1.Sync_APPLIED, "add 2 rejected 1 duplicate 1")
	ada := w.entries(members)["ada@example.org"]
	if ada.GetDisplayName() != "Ada" || ada.GetState() != localv1.Entry_SUBSCRIBED || strings.Join(ada.GetSources(), " ") != "crm" {
		t.Fatalf("the entry is %v", ada)
	}
	again, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
	w.must(err)
	if again.GetEtag() != done.GetEtag() || again.GetState() != localv1.Sync_APPLIED {
		t.Fatalf("applied again it is %v", again)
	}
	w.agrees(members)
}

func TestClaims(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add(members, person(0))
	w.expect(w.sync(replace("crm", people(0, 5)).applied()), localv1.Sync_APPLIED, "add 4 update 1")
	w.expect(w.sync(merge("meetup", people(3, 4)).applied()), localv1.Sync_APPLIED, "add 2 unchanged 2")
	// Of crm's five, 0 stays as manual's and 3 and 4 as meetup's.
	w.expect(w.sync(replace("crm", people(2, 1)).applied()), localv1.Sync_APPLIED, "unchanged 1 remove 1 kept 3")
	want := map[string]string{person(0): "manual", person(2): "crm", person(3): "meetup", person(4): "meetup", person(5): "meetup", person(6): "meetup"}
	entries := w.entries(members)
	if len(entries) != len(want) {
		t.Fatalf("%d entries, want %d", len(entries), len(want))
	}
	for address, sources := range want {
		if got := strings.Join(entries[address].GetSources(), " "); got != sources {
			t.Errorf("%s is claimed by %q, want %q", address, got, sources)
		}
	}
	w.agrees(members)
}

func TestSyncThatChangesNothingKeepsTheVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 3)).applied())
	before := w.list(members).GetEtag()
	w.expect(w.sync(replace("crm", people(0, 3)).applied()), localv1.Sync_APPLIED, "unchanged 3")
	if after := w.list(members).GetEtag(); after != before {
		t.Errorf("the list went from %s to %s", before, after)
	}
	w.agrees(members)
}

func TestTombstonesSurviveEverySync(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 3)).applied())
	w.unsubscribe(w.entry(members, person(1)))
	left := w.clock.Now()
	w.clock.Advance(time.Hour)

	sync := w.sync(replace("crm", people(0, 4)).applied())
	w.expect(sync, localv1.Sync_APPLIED, "add 1 unchanged 2 suppressed 1")
	changes := w.changes(sync, "kind = SUPPRESSED")
	if len(changes) != 1 || changes[0].GetCode() != "UNSUBSCRIBED" || changes[0].GetLine() != 3 || !changes[0].GetSinceTime().AsTime().Equal(left) {
		t.Fatalf("the changes are %v", changes)
	}
	w.expect(w.sync(merge("meetup", people(0, 2)).applied()), localv1.Sync_APPLIED, "unchanged 1 suppressed 1")
	w.expect(w.sync(replace("crm", people(0, 1)).applied()), localv1.Sync_APPLIED, "unchanged 1 remove 2")
	if state := w.entries(members)[person(1)].GetState(); state != localv1.Entry_UNSUBSCRIBED {
		t.Errorf("the tombstone is %s", state)
	}
	w.agrees(members)
}

func TestDoubleOptIn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: members, DoubleOptIn: true}})
	w.must(err)
	w.expect(w.sync(replace("crm", people(0, 10)).applied()), localv1.Sync_APPLIED, "add 10")
	if list := w.list(members); list.GetPendingCount() != 10 || list.GetSubscribedCount() != 0 {
		t.Fatalf("the list is %v", list)
	}
	if tokens, _ := w.replay(members); len(tokens) != 0 {
		t.Fatalf("%d tokens of pending entries travelled", len(tokens))
	}
	// The guard counts pending entries too.
	w.expect(w.sync(replace("crm", people(0, 4))), localv1.Sync_BLOCKED, "unchanged 4 remove 6")
	w.expect(w.sync(replace("crm", people(0, 5)).applied()), localv1.Sync_APPLIED, "unchanged 5 remove 5")
	w.agrees(members)
}

func TestGuardArithmetic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		removals, claimed int32
		stops             bool
	}{
		{0, 0, false},
		{5, 5, false},  // all, but only five
		{6, 6, true},   // six of six
		{6, 30, false}, // exactly 20 %
		{6, 29, true},  // just over
		{20, 100, false},
		{21, 100, true},
		{100, 500, false},
		{101, 500, true},
		{1_000_001, 5_000_000, true}, // 100 times this is more than an int32 holds
		{1_000_000, 5_000_000, false},
	} {
		if got := guarded(db.List{GuardPercent: guardPercent, GuardEntries: guardEntries}, c.removals, c.claimed); got != c.stops {
			t.Errorf("%d of %d: stops %t, want %t", c.removals, c.claimed, got, c.stops)
		}
	}
}

func TestGuardStopsAndIsConfirmed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 30)).applied())
	w.expect(w.sync(replace("crm", people(6, 24))), localv1.Sync_PLANNED, "unchanged 24 remove 6")

	blockedSync := w.sync(replace("crm", people(7, 23)))
	w.expect(blockedSync, localv1.Sync_BLOCKED, "unchanged 23 remove 7")
	if blockedSync.GetConfirmRemovals() != 7 {
		t.Errorf("it asks for %d", blockedSync.GetConfirmRemovals())
	}
	for _, confirm := range []*int32{nil, new(int32(6)), new(int32(8))} {
		_, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: blockedSync.GetName(), ConfirmRemovals: confirm})
		refuses(t, err, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED)
	}
	err := w.refusesSync(replace("crm", people(7, 23)).applied(), errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED)
	info := rpc.InfoOf(err).GetMetadata()
	if info["removals"] != "7" {
		t.Fatalf("the refusal says %v", info)
	}
	// The plan of the refused call stays, for a second call.
	done, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: info["sync"], ConfirmRemovals: new(int32(7))})
	w.must(err)
	w.expect(done, localv1.Sync_APPLIED, "unchanged 23 remove 7")
	if done.GetStandingAfter() == nil || done.GetConfirmRemovals() != 0 {
		t.Errorf("the applied sync is %v", done)
	}
	// An unneeded confirmation is ignored.
	w.expect(w.sync(replace("crm", people(8, 22)).applied().confirming(17)), localv1.Sync_APPLIED, "unchanged 22 remove 1")
	w.agrees(members)
}

func TestGuardCountsWhatTheSourceClaims(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(merge("meetup", people(100, 300)).applied())
	w.sync(replace("crm", people(0, 20)).applied())
	// Six of the twenty that crm claims, though of 320 in all.
	w.expect(w.sync(replace("crm", people(6, 14))), localv1.Sync_BLOCKED, "unchanged 14 remove 6")
	// Who left is not claimed any more: 6 of 30 would pass, 6 of 29 do not.
	w.sync(replace("list", people(500, 30)).applied())
	w.unsubscribe(w.entry(members, person(529)))
	w.expect(w.sync(replace("list", people(506, 24))), localv1.Sync_BLOCKED, "unchanged 23 remove 6 suppressed 1")
}

func TestStalePlansAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first, second := w.sync(replace("crm", people(0, 3))), w.sync(replace("meetup", people(1, 3)))
	apply := func(sync *localv1.Sync) error {
		_, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: sync.GetName()})
		return err
	}
	w.must(apply(first))
	refuses(t, apply(second), errorv1.Reason_REASON_PLAN_STALE)
	for name, change := range map[string]func(){
		"an entry":   func() { w.add(members, "new@example.org") },
		"a name":     func() { w.rename(w.entry(members, person(1)), "Somebody else") },
		"a leaver":   func() { w.unsubscribe(w.entry(members, person(2))) },
		"a setting":  func() { w.optIn(members, true) },
		"the claims": func() { w.sync(merge("other", people(1, 1)).applied()) },
	} {
		plan := w.sync(replace("crm", people(0, 4)))
		change()
		if err := apply(plan); !rpc.Is(err, errorv1.Reason_REASON_PLAN_STALE) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.agrees(members)
}

func TestSimultaneousSyncsOneWins(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 10)).applied())
	// Both have planned when the first may go on.
	planned := make(chan struct{}, 2)
	goOn := make(chan struct{})
	w.international.set(func() {
		w.international.entered = func() { planned <- struct{}{}; <-goOn }
	})
	results := make(chan error, 2)
	for _, body := range []string{people(0, 11), people(0, 12)} {
		go func() {
			_, err := replace("crm", body).applied().send(t.Context(), w.syncs)
			results <- err
		}()
	}
	<-planned
	<-planned
	close(goOn)
	one, other := <-results, <-results
	if one == nil {
		one, other = other, one
	}
	w.must(other)
	refuses(t, one, errorv1.Reason_REASON_PLAN_STALE)
	w.agrees(members)
}

func TestPlansEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	given := w.sync(replace("crm", people(0, 3)))
	expires := w.sync(replace("crm", people(0, 3)))
	gone, err := w.syncs.CancelSync(t.Context(), &localv1.CancelSyncRequest{Name: given.GetName(), Etag: given.GetEtag()})
	w.must(err)
	if gone.GetState() != localv1.Sync_CANCELLED {
		t.Fatalf("the sync is %s", gone.GetState())
	}
	_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: given.GetName()})
	refuses(t, err, errorv1.Reason_REASON_SYNC_STATE)

	w.clock.Advance(time.Hour)
	for range 2 { // by the clock, and then by the job's word
		_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: expires.GetName()})
		refuses(t, err, errorv1.Reason_REASON_SYNC_STATE)
		if state := rpc.InfoOf(err).GetMetadata()["state"]; state != "EXPIRED" {
			t.Fatalf("the refusal says %s", state)
		}
		_, err = w.syncs.CancelSync(t.Context(), &localv1.CancelSyncRequest{Name: expires.GetName()})
		refuses(t, err, errorv1.Reason_REASON_SYNC_STATE)
		w.must(w.service.cleanUp(t.Context()))
	}
	var state string
	w.must(w.pool.QueryRow(t.Context(), "SELECT state FROM syncs ORDER BY sync_no DESC LIMIT 1").Scan(&state))
	if state != "EXPIRED" {
		t.Errorf("the job left it %s", state)
	}
	if got := w.list(members).GetSubscribedCount(); got != 0 {
		t.Errorf("%d entries", got)
	}
}

func TestSyncEtag(t *testing.T) {
	t.Parallel()
	w := setup(t)
	plan := w.sync(replace("crm", people(0, 3)))
	_, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName(), Etag: "77"})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName(), Etag: plan.GetEtag()})
	w.must(err)
}

func TestListSyncs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var want []string
	for i := range 5 {
		want = append([]string{w.sync(replace("crm", people(0, i+1))).GetName()}, want...)
	}
	req, got := &localv1.ListSyncsRequest{Parent: members, PageSize: 2}, []string{}
	for {
		answer, err := w.syncs.ListSyncs(t.Context(), req)
		w.must(err)
		for _, sync := range answer.GetSyncs() {
			got = append(got, sync.GetName())
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
	one, err := w.syncs.GetSync(t.Context(), &localv1.GetSyncRequest{Name: want[2]})
	w.must(err)
	w.expect(one, localv1.Sync_PLANNED, "add 3")
}

func TestChangesAreListedInPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 3000)).applied())
	w.clock.Advance(time.Minute)
	body := strings.Replace(people(10, 3000), "Person 77\n", "Person Seventy-Seven\n", 1)
	body += "broken\n" + person(10) + "\n"
	sync := w.sync(replace("crm", body))
	w.expect(sync, localv1.Sync_PLANNED, "add 10 update 1 unchanged 2989 remove 10 rejected 1 duplicate 1")
	kinds := map[localv1.SyncChange_Kind]int{}
	for _, change := range w.changes(sync, "") {
		kinds[change.GetKind()]++
		switch change.GetKind() {
		case localv1.SyncChange_ADD:
			if change.GetLine() < 2992 || change.GetEntry() != w.entry(members, change.GetAddress()) {
				t.Errorf("an addition is %v", change)
			}
		case localv1.SyncChange_UPDATE:
			if change.GetDisplayName() != "Person Seventy-Seven" || change.GetPreviousDisplayName() != "Person 77" || change.GetLine() != 69 {
				t.Errorf("the update is %v", change)
			}
		case localv1.SyncChange_REMOVE:
			if change.GetLine() != 0 || change.GetAddress() == "" {
				t.Errorf("a removal is %v", change)
			}
		case localv1.SyncChange_REJECTED:
			if change.GetLine() != 3002 || change.GetCode() != "EMAIL_SYNTAX" || change.GetText() == "" || change.GetEntry() != "" {
				t.Errorf("the rejection is %v", change)
			}
		case localv1.SyncChange_DUPLICATE:
			if change.GetLine() != 3003 || change.GetFirstLine() != 2 {
				t.Errorf("the repetition is %v", change)
			}
		default:
			t.Errorf("there is a change %v", change)
		}
	}
	if len(kinds) != 5 || kinds[localv1.SyncChange_ADD] != 10 || kinds[localv1.SyncChange_REMOVE] != 10 {
		t.Errorf("the kinds are %v", kinds)
	}
	if got := w.changes(sync, "kind = REMOVE OR kind=DUPLICATE"); len(got) != 11 {
		t.Errorf("%d removals and repetitions", len(got))
	}
	for _, filter := range []string{"REMOVE", "kind = NOTHING", "kind = ADD AND kind = REMOVE"} {
		_, err := w.syncs.ListSyncChanges(t.Context(), &localv1.ListSyncChangesRequest{Parent: sync.GetName(), Filter: filter})
		refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	}
}

func TestChangesOfOldSyncsAreForgotten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	sync := w.sync(replace("crm", people(0, 3)).applied())
	w.clock.Advance(24*time.Hour - time.Minute)
	w.must(w.service.cleanUp(t.Context()))
	if got := w.changes(sync, ""); len(got) != 3 {
		t.Fatalf("%d changes", len(got))
	}
	w.clock.Advance(2 * time.Minute)
	w.must(w.service.cleanUp(t.Context()))
	_, err := w.syncs.ListSyncChanges(t.Context(), &localv1.ListSyncChangesRequest{Parent: sync.GetName()})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	old, err := w.syncs.GetSync(t.Context(), &localv1.GetSyncRequest{Name: sync.GetName()})
	w.must(err)
	w.expect(old, localv1.Sync_APPLIED, "add 3")
}

// changes lists a sync's changes in small pages.
func (w *world) changes(sync *localv1.Sync, filter string) (all []*localv1.SyncChange) {
	w.t.Helper()
	req := &localv1.ListSyncChangesRequest{Parent: sync.GetName(), Filter: filter, PageSize: 4}
	for {
		answer, err := w.syncs.ListSyncChanges(w.t.Context(), req)
		w.must(err)
		all = append(all, answer.GetChanges()...)
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

func (w *world) rename(entry, name string) {
	w.t.Helper()
	_, err := w.lists.UpdateEntry(w.t.Context(), &localv1.UpdateEntryRequest{Entry: &localv1.Entry{Name: entry, DisplayName: name}})
	w.must(err)
}

func (w *world) optIn(list string, double bool) {
	w.t.Helper()
	_, err := w.lists.UpdateList(w.t.Context(), &localv1.UpdateListRequest{
		List: &localv1.List{Name: list, DoubleOptIn: double, DisplayName: "Members"}, UpdateMask: mask("double_opt_in"),
	})
	w.must(err)
}

// What is too much to be remembered while it arrives is found by the database, and counts the same.
func TestRepetitionsAmongManyRows(t *testing.T) {
	t.Parallel()
	var csv strings.Builder
	csv.WriteString(people(0, 3000))
	csv.WriteString(strings.TrimPrefix(people(500, 1500), "email,name\n")) // more than a page, and all of one
	csv.WriteString(strings.TrimPrefix(people(0, 1), "email,name\n"))
	for _, room := range []int{10, 1_000_000} {
		w := setup(t, func(c *Config) { c.RowsInMemory = room })
		plan := w.sync(replace("crm", csv.String()))
		w.expect(plan, localv1.Sync_PLANNED, "add 3000 duplicate 1501")
		repeated := map[int32]int32{}
		for _, change := range w.changes(plan, "kind = DUPLICATE") {
			repeated[change.GetLine()] = change.GetFirstLine()
		}
		if len(repeated) != 1501 || repeated[3002] != 502 || repeated[4502] != 2 {
			t.Errorf("with room for %d, %d rows repeat others; line 3002 that of %d, line 4502 that of %d", room, len(repeated), repeated[3002], repeated[4502])
		}
		_, err := w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
		w.must(err)
		w.agrees(members)
		w.noRowsLeft()
	}
}

// Of the domains that additions come from, others are told a number, and that only when it says nothing about one person.
func TestManyFromANewDomainAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	rows := func(domain string, n int) string {
		var csv strings.Builder
		csv.WriteString("email\n")
		for i := range n {
			fmt.Fprintf(&csv, "p%d@%s\n", i, domain)
		}
		return csv.String()
	}
	told := func() []int32 {
		var numbers []int32
		for _, event := range w.outbox() {
			if change, ok := event.Data.(*eventv1.ListChanged); ok && event.Aggregate == members && len(change.GetAdded()) > 0 {
				numbers = append(numbers, change.GetAddedFromNewDomain())
			}
		}
		return numbers
	}
	w.sync(merge("first", rows("example.org", 15)).applied())                                  // nobody was there before
	w.sync(merge("known", rows("example.org", 30)).applied())                                  // a domain that is known
	w.sync(merge("few", rows("example.net", 9)).applied())                                     // too few to be told
	w.sync(merge("more", rows("example.net", 40)).applied())                                   // known by then
	w.sync(merge("new", rows("sub.example.net", 12)+rows("example.com", 11)[6:]).applied())    // two, of which one is more
	w.sync(merge("known-again", rows("example.com", 30)+rows("example.com", 2)[6:]).applied()) // and known
	w.sync(merge("org", people(0, 200)).applied())
	w.sync(merge("late", rows("late.example.com", 12)).applied()) // less than a twentieth by now
	if got, want := told(), []int32{0, 0, 0, 0, 12, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	w.agrees(members)
}
