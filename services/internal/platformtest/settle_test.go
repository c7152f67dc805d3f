package platformtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// settle waits until every standing is as the truth has it, and then finds the same in a recount by the service, in
// the entries and members that the services show, and in the truth. It returns how many standings it compared.
func (f *federation) settle(t testing.TB, tr *truth, limit time.Duration) int {
	t.Helper()
	f.agree(t, tr, limit)
	ctx := bounded(t, limit)
	audit := get(f.standings.AuditStandings(f.staff(ctx, t), &internationalv1.AuditStandingsRequest{}))(t)
	if audit.GetDifferenceCount() != 0 {
		t.Errorf("the audit finds %d of %d standings wrong: %v", audit.GetDifferenceCount(), audit.GetStandings(), audit.GetDifferences())
	}
	shown := f.read(ctx, t, tr)
	if difference := tr.difference(shown, f.clock.Now()); difference != "" {
		t.Errorf("what the services show is not what they acknowledged: %s", difference)
	}
	for chapter, want := range shown.standings(f.clock.Now()) {
		if difference := want.difference(f.standing(ctx, t, chapter)); difference != "" {
			t.Errorf("the standing differs from a recount of the chapter's own entries: %s", difference)
		}
	}
	f.regionsAgree(t, tr, limit)
	return int(audit.GetStandings())
}

// regionsAgree waits until the regional tier's view of all chapters is as the truth has it.
func (f *federation) regionsAgree(t testing.TB, tr *truth, limit time.Duration) {
	t.Helper()
	ctx := bounded(t, limit)
	eventually(t, limit, func() string {
		all, eligible := tr.standings(f.clock.Now()), 0
		for _, want := range all {
			if want.verdict.eligible {
				eligible++
			}
		}
		tree, err := f.regions.GetRegionTree(f.staff(ctx, t), &regionalv1.GetRegionTreeRequest{Name: authz.World})
		if err != nil {
			return err.Error()
		}
		if int(tree.GetTotalChapters()) != len(all) || int(tree.GetEligibleChapters()) != eligible {
			return fmt.Sprintf("the regional tier counts %d of %d chapters eligible, want %d of %d",
				tree.GetEligibleChapters(), tree.GetTotalChapters(), eligible, len(all))
		}
		return ""
	})
}

// agree waits until every standing is as the truth has it.
func (f *federation) agree(t testing.TB, tr *truth, limit time.Duration) {
	t.Helper()
	ctx := bounded(t, limit+patience)
	eventually(t, limit, func() string {
		for chapter, want := range tr.standings(f.clock.Now()) {
			standing := f.standing(ctx, t, chapter)
			if difference := want.difference(standing); difference != "" {
				return difference
			}
			if behind := f.behind(ctx, t, chapter, standing); behind != "" {
				return behind
			}
		}
		return ""
	})
}

// behind says which list has a later version than the standing is based on. The figures alone do not tell: a list may
// have been as it is now before.
func (f *federation) behind(ctx context.Context, t testing.TB, chapter string, standing *internationalv1.Standing) string {
	t.Helper()
	counted := map[string]string{}
	for _, list := range standing.GetBasedOn().GetLists() {
		counted[list.GetList()] = list.GetVersion()
	}
	lists, err := f.lists.ListLists(f.admin(ctx, t, chapter), &localv1.ListListsRequest{Parent: "chapters/" + chapter})
	if err != nil {
		return err.Error()
	}
	for _, list := range lists.GetLists() {
		if counted[list.GetName()] != list.GetEtag() {
			return fmt.Sprintf("%s is counted at version %s, and is at %s", list.GetName(), counted[list.GetName()], list.GetEtag())
		}
	}
	return ""
}

// standing reads a chapter's standing, which may not be reachable just now.
func (f *federation) standing(ctx context.Context, t testing.TB, chapter string) *internationalv1.Standing {
	t.Helper()
	request := &internationalv1.GetStandingRequest{Name: "chapters/" + chapter + "/standing"}
	got, err := f.standings.GetStanding(f.staff(ctx, t), request)
	if err != nil && !passing(err) {
		t.Fatal(err)
	}
	if err != nil {
		return &internationalv1.Standing{Gap: &internationalv1.Gap{}}
	}
	return got
}

// read builds the truth from what the services show: the register as staff see it, each list as its admin does.
func (f *federation) read(ctx context.Context, t testing.TB, known *truth) *truth {
	t.Helper()
	shown := newTruth()
	for token := ""; ; {
		page := get(f.members.ListMembers(f.staff(ctx, t), &internationalv1.ListMembersRequest{PageSize: 1000, PageToken: token}))(t)
		for _, m := range page.GetMembers() {
			shown.members[strings.TrimPrefix(m.GetName(), "members/")] = memberShown(m)
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	for name, list := range known.lists {
		shown.lists[name] = f.readList(ctx, t, name, list)
	}
	return shown
}

func memberShown(m *internationalv1.Member) *memberTruth {
	// By a seat somebody is a member beyond the own term.
	shown := &memberTruth{state: m.GetState(), ends: m.GetActiveUntilTime().AsTime(), addresses: map[string]*addressTruth{}}
	for _, a := range m.GetAddresses() {
		shown.addresses[a.GetAddress()] = &addressTruth{name: a.GetName(), verified: a.GetVerified()}
	}
	return shown
}

// readList reads a list; of one that is deleted, what is known of its tombstones.
func (f *federation) readList(ctx context.Context, t testing.TB, name string, known *listTruth) *listTruth {
	t.Helper()
	shown := &listTruth{chapter: known.chapter, mailing: known.mailing, deleted: known.deleted, entries: map[string]*entryTruth{}}
	if known.deleted {
		shown.entries = known.entries
		return shown
	}
	for token := ""; ; {
		page := get(f.lists.ListEntries(f.admin(ctx, t, known.chapter), &localv1.ListEntriesRequest{Parent: name, PageSize: 1000, PageToken: token}))(t)
		for _, e := range page.GetEntries() {
			entry := &entryTruth{left: e.GetState() == localv1.Entry_UNSUBSCRIBED, claims: map[string]bool{}}
			for _, source := range e.GetSources() {
				entry.claims[source] = true
			}
			shown.entries[e.GetAddress()] = entry
		}
		if token = page.GetNextPageToken(); token == "" {
			return shown
		}
	}
}

// difference finds the first entry or member that another truth has otherwise.
func (tr *truth) difference(shown *truth, now time.Time) string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(tr.lists)) {
		want, got := tr.lists[name].describe(), shown.lists[name].describe()
		if !maps.Equal(want, got) {
			return fmt.Sprintf("%s: %v, want %v", name, got, want)
		}
	}
	if len(tr.members) != len(shown.members) {
		return fmt.Sprintf("%d members, want %d", len(shown.members), len(tr.members))
	}
	for _, id := range slices.Sorted(maps.Keys(tr.members)) {
		got := shown.members[id]
		if got == nil {
			return "members/" + id + " is not there"
		}
		if want := tr.members[id].describe(now); want != got.describe(now) {
			return fmt.Sprintf("members/%s: %s, want %s", id, got.describe(now), want)
		}
	}
	return ""
}

// describe is each entry's state and claims; those of a tombstone are of no consequence.
func (l *listTruth) describe() map[string]string {
	all := map[string]string{}
	for address, e := range l.entries {
		if e.left {
			all[address] = "left"
		} else {
			all[address] = fmt.Sprint(slices.Sorted(maps.Keys(e.claims)))
		}
	}
	return all
}

func (m *memberTruth) describe(now time.Time) string {
	verified := map[string]bool{}
	for address, a := range m.addresses {
		verified[address] = a.verified
	}
	return fmt.Sprint(m.stateAt(now), verified)
}
