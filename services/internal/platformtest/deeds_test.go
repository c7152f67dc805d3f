package platformtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// Single changes that go into the truth, for tests that tell a short story of their own.

// subscribe adds an entry for each address.
func (f *federation) subscribe(t testing.TB, tr *truth, list string, addresses ...string) {
	t.Helper()
	ctx := f.admin(bounded(t, patience), t, tr.lists[list].chapter)
	for _, address := range addresses {
		_, err := f.lists.CreateEntry(ctx, &localv1.CreateEntryRequest{Parent: list, Entry: &localv1.Entry{Address: address}})
		must(t, err)
		tr.change(func() { tr.lists[list].entries[address] = &entryTruth{claims: map[string]bool{"manual": true}} })
	}
}

// sync replaces a source's part of a list, in one request.
func (f *federation) sync(t testing.TB, tr *truth, list string, u uploaded) *localv1.Sync {
	t.Helper()
	sync := get(f.trySync(bounded(t, patience), t, tr, list, u))(t)
	tr.change(func() { tr.lists[list].apply(u) })
	return sync
}

func (f *federation) trySync(ctx context.Context, t testing.TB, tr *truth, list string, u uploaded) (*localv1.Sync, error) {
	t.Helper()
	removals := tr.lists[list].plan(u).remove
	mode := localv1.Sync_MERGE
	if u.replace {
		mode = localv1.Sync_REPLACE
	}
	return upload(f.admin(ctx, t, tr.lists[list].chapter), f.syncs, &localv1.CreateSyncHeader{
		Parent: list, Mode: mode, Source: u.source, Apply: true, ConfirmRemovals: &removals, ContentType: "text/csv",
	}, []byte("email\n"+strings.Join(u.addresses, "\n")+"\n"))
}

// enter enters a member whose term runs for a year.
func (f *federation) enter(t testing.TB, tr *truth, id string, addresses ...string) {
	t.Helper()
	ends := f.clock.Now().AddDate(1, 0, 0)
	member := &internationalv1.Member{DisplayName: id, TermEndTime: timestamppb.New(ends)}
	entered := &memberTruth{state: internationalv1.Member_ACTIVE, ends: ends, addresses: map[string]*addressTruth{}}
	for _, address := range addresses {
		member.Addresses = append(member.Addresses, &internationalv1.Address{Address: address, Verified: true})
		entered.addresses[address] = &addressTruth{verified: true}
	}
	_, err := f.members.CreateMember(f.staff(bounded(t, patience), t), &internationalv1.CreateMemberRequest{MemberId: id, Member: member})
	must(t, err)
	tr.change(func() { tr.members[id] = entered })
}

// resign ends a member's term.
func (f *federation) resign(t testing.TB, tr *truth, id string) {
	t.Helper()
	_, err := f.members.ResignMember(f.staff(bounded(t, patience), t), &internationalv1.ResignMemberRequest{Name: "members/" + id})
	must(t, err)
	tr.change(func() { tr.members[id].state = internationalv1.Member_RESIGNED })
}

// total waits until so many people are on a chapter's members list in its standing, and returns how long it took.
func (f *federation) total(t testing.TB, chapter string, want int, limit time.Duration) time.Duration {
	t.Helper()
	begin, ctx := time.Now(), bounded(t, limit+patience)
	eventually(t, limit, func() string {
		if got := int(f.standing(ctx, t, chapter).GetMembership().GetTotal()); got != want {
			return fmt.Sprintf("%d people are counted, want %d", got, want)
		}
		return ""
	})
	return time.Since(begin)
}

// numbered are addresses that differ in their number alone.
func numbered(name string, count int) []string {
	addresses := make([]string, count)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("%s%d@example.org", name, i)
	}
	return addresses
}

// clone is the truth as it is now: what a backup of everything would hold.
func (tr *truth) clone() *truth {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	same := newTruth()
	for name, list := range tr.lists {
		entries := map[string]*entryTruth{}
		for address, entry := range list.entries {
			entries[address] = &entryTruth{left: entry.left, claims: maps.Clone(entry.claims)}
		}
		same.lists[name] = &listTruth{chapter: list.chapter, mailing: list.mailing, deleted: list.deleted, entries: entries}
	}
	for id, member := range tr.members {
		addresses := map[string]*addressTruth{}
		for address, a := range member.addresses {
			addresses[address] = &addressTruth{name: a.name, verified: a.verified}
		}
		same.members[id] = &memberTruth{state: member.state, ends: member.ends, addresses: addresses, suspended: member.suspended, seat: member.seat}
	}
	return same
}
