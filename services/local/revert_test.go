package local

import (
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

func (w *world) revert(sync *localv1.Sync) *localv1.Sync {
	w.t.Helper()
	reverted, err := w.syncs.RevertSync(w.t.Context(), &localv1.RevertSyncRequest{Name: sync.GetName()})
	w.must(err)
	return reverted
}

func TestRevertRestoresWhatWas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("meetup", "email,name\nada@example.org,Ada\nbob@example.org,Bob\n").applied())
	w.clock.Advance(time.Hour)
	w.sync(merge("crm", "email,name\nada@example.org,\ncat@example.org,Cat\n").applied())
	before := w.entries(members)
	w.clock.Advance(time.Hour)
	sync := w.sync(replace("meetup", "email,name\nada@example.org,Ada Rao\ndan@example.org,Dan\n").applied())
	w.expect(sync, localv1.Sync_APPLIED, "add 1 update 1 remove 1")
	if got, want := sync.GetRevertExpireTime().AsTime(), w.clock.Now().Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("it can be reverted until %s, want %s", got, want)
	}
	w.clock.Advance(time.Hour)
	undone := w.revert(sync)
	if undone.GetState() != localv1.Sync_REVERTED || undone.GetConflicts() != 0 || !undone.GetRevertTime().AsTime().Equal(w.clock.Now()) {
		t.Errorf("the sync is %v", undone)
	}
	after := w.entries(members)
	for address, entry := range after {
		was := before[address]
		entry.UpdateTime, entry.Etag = was.GetUpdateTime(), was.GetEtag()
		if entry.String() != was.String() {
			t.Errorf("an entry is\n%v, was\n%v", entry, was)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d entries, were %d", len(after), len(before))
	}
	w.agrees(members)
	if again := w.revert(sync); again.GetEtag() != undone.GetEtag() {
		t.Errorf("reverted again it is %v", again)
	}
	answer, err := w.syncs.ListSyncs(t.Context(), &localv1.ListSyncsRequest{Parent: members})
	w.must(err)
	if len(answer.GetSyncs()) != 3 {
		t.Errorf("%d syncs are listed, want the three that somebody made", len(answer.GetSyncs()))
	}
}

func TestRevertLeavesWhatChangedSince(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", "email,name\nada@example.org,Ada\nbob@example.org,Bob\ncat@example.org,Cat\n").applied())
	sync := w.sync(replace("crm", "email,name\nada@example.org,Ada Rao\ndan@example.org,Dan\neve@example.org,Eve\n").applied())
	w.expect(sync, localv1.Sync_APPLIED, "add 2 update 1 remove 2")
	w.add(members, "bob@example.org")                    // removed, and added again
	w.unsubscribe(w.entry(members, "dan@example.org"))   // added, and has left
	w.rename(w.entry(members, "ada@example.org"), "A R") // updated, and renamed
	undone := w.revert(sync)
	if undone.GetConflicts() != 3 {
		t.Errorf("%d conflicts, want 3", undone.GetConflicts())
	}
	codes := map[string]string{}
	for _, change := range w.changes(sync, "kind = CONFLICT") {
		codes[change.GetAddress()] = change.GetCode()
	}
	if codes["bob@example.org"] != "CHANGED_SINCE" || codes["dan@example.org"] != "UNSUBSCRIBED" || codes["ada@example.org"] != "CHANGED_SINCE" {
		t.Errorf("the conflicts are %v", codes)
	}
	entries := w.entries(members)
	if entries["ada@example.org"].GetDisplayName() != "A R" || entries["dan@example.org"].GetState() != localv1.Entry_UNSUBSCRIBED ||
		entries["cat@example.org"].GetDisplayName() != "Cat" || entries["eve@example.org"] != nil || len(entries) != 4 {
		t.Errorf("the entries are %v", entries)
	}
	w.agrees(members)
}

// A revert is not stopped by the guard, and brings nobody back who has left meanwhile, though the list knows them no more.
func TestRevertNeitherAsksNorResurrects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 30)).applied())
	leaving := w.leaveLink(members, person(3))
	sync := w.sync(replace("crm", people(100, 30)).applied().confirming(30))
	_, err := w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: leaving})
	w.must(err)
	undone := w.revert(sync)
	entry := w.entries(members)[""]
	if undone.GetConflicts() != 1 || entry.GetState() != localv1.Entry_UNSUBSCRIBED || entry.GetName() != w.entry(members, person(3)) {
		t.Errorf("%d conflicts; who left is %v", undone.GetConflicts(), entry)
	}
	if list := w.list(members); list.GetSubscribedCount() != 29 || list.GetUnsubscribedCount() != 1 {
		t.Errorf("the list is %v", list)
	}
}

func TestRevertIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	revert := func(sync *localv1.Sync, etag string) error {
		_, err := w.syncs.RevertSync(t.Context(), &localv1.RevertSyncRequest{Name: sync.GetName(), Etag: etag})
		return err
	}
	plan := w.sync(replace("crm", people(0, 3)))
	refuses(t, revert(plan, ""), errorv1.Reason_REASON_SYNC_STATE)
	applied := w.sync(replace("crm", people(0, 3)).applied())
	refuses(t, revert(applied, "0"), errorv1.Reason_REASON_ETAG_MISMATCH)
	w.clock.Advance(24 * time.Hour)
	refuses(t, revert(applied, applied.GetEtag()), errorv1.Reason_REASON_REVERT_EXPIRED)
	list := w.createList("announce")
	applied = w.sync(replace("crm", people(0, 3)).to(list).applied())
	_, err := w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: list})
	w.must(err)
	refuses(t, revert(applied, ""), errorv1.Reason_REASON_REVERT_EXPIRED)
	w.createList("announce")
	refuses(t, revert(applied, ""), errorv1.Reason_REASON_REVERT_EXPIRED)
}

func TestGuardOfAList(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if guard := w.list(members).GetRemovalGuard(); guard.GetPercent() != 20 || guard.GetEntries() != 5 {
		t.Errorf("a list that says nothing has %v", guard)
	}
	set := func(guard *localv1.RemovalGuard, paths ...string) {
		_, err := w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: members, RemovalGuard: guard}, UpdateMask: mask(paths...)})
		w.must(err)
	}
	w.sync(replace("crm", people(0, 10)).applied())
	set(&localv1.RemovalGuard{}, "removal_guard") // not one goes without a word
	_ = w.refusesSync(replace("crm", people(1, 9)).applied(), errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED)
	_ = w.refusesSync(merge("self", people(1, 9)), errorv1.Reason_REASON_INVALID_FIELD)
	set(&localv1.RemovalGuard{Percent: 100}, "removal_guard.percent")
	w.expect(w.sync(replace("crm", people(9, 1)).applied()), localv1.Sync_APPLIED, "unchanged 1 remove 9")
	set(nil, "removal_guard")
	if guard := w.list(members).GetRemovalGuard(); guard.GetPercent() != 20 || guard.GetEntries() != 5 {
		t.Errorf("set back it is %v", guard)
	}
	_, err := w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{
		List: &localv1.List{Name: members, RemovalGuard: &localv1.RemovalGuard{Percent: 101}}, UpdateMask: mask("removal_guard"),
	})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
}
