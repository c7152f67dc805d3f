package local

import (
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// copyist keeps a copy of a list by its changes alone.
type copyist struct {
	w     *world
	list  string
	since string
	copy  map[string]string
}

func (w *world) copyOf(list string) *copyist {
	w.t.Helper()
	answer, err := w.lists.ListEntries(w.t.Context(), &localv1.ListEntriesRequest{Parent: list, PageSize: 1000})
	w.must(err)
	f := &copyist{w, list, answer.GetEtag(), map[string]string{}}
	for _, entry := range answer.GetEntries() {
		f.copy[entry.GetName()] = shown(entry)
	}
	return f
}

func shown(entry *localv1.Entry) string {
	return entry.GetAddress() + " " + entry.GetDisplayName() + " " + entry.GetState().String()
}

// catchUp reads changes, few at a time, until there are no more.
func (f *copyist) catchUp() (n int) {
	f.w.t.Helper()
	for {
		answer, err := f.w.lists.FollowList(f.w.t.Context(), &localv1.FollowListRequest{Parent: f.list, Since: f.since, PageSize: 7})
		f.w.must(err)
		f.take(answer)
		if n += len(answer.GetChanges()); !answer.GetMore() {
			return n
		}
	}
}

func (f *copyist) take(answer *localv1.FollowListResponse) {
	f.since = answer.GetNextSince()
	for _, change := range answer.GetChanges() {
		if change.GetEntry() == nil {
			delete(f.copy, change.GetEntryName())
		} else {
			f.copy[change.GetEntryName()] = shown(change.GetEntry())
		}
	}
}

func (f *copyist) agrees() {
	f.w.t.Helper()
	want := f.w.copyOf(f.list).copy
	for name, entry := range want {
		if f.copy[name] != entry {
			f.w.t.Errorf("the copy has %q, the list %q", f.copy[name], entry)
		}
	}
	if len(f.copy) != len(want) {
		f.w.t.Errorf("the copy has %d entries, the list %d", len(f.copy), len(want))
	}
}

func TestFollowersAgree(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 20)).applied())
	f := w.copyOf(members)
	if n := f.catchUp(); n != 0 {
		t.Errorf("%d changes after reading all", n)
	}
	sync := w.sync(replace("crm", people(10, 30)).applied().confirming(10))
	f.catchUp()
	f.agrees()
	w.add(members, "ada@example.org")
	w.rename(w.entry(members, "ada@example.org"), "Ada")
	w.unsubscribe(w.entry(members, person(15)))
	_, err := w.lists.DeleteEntry(t.Context(), &localv1.DeleteEntryRequest{Name: w.entry(members, person(16))})
	w.must(err)
	w.revert(sync)
	_, err = w.lists.ErasePerson(t.Context(), &localv1.ErasePersonRequest{Parent: paris, Address: person(17)})
	w.must(err)
	if n := f.catchUp(); n == 0 {
		t.Error("no changes")
	}
	f.agrees()
	// The list's own etag is a point too, and a version that touches no entry is no gap.
	_, err = w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: members, DisplayName: "Everybody"}, UpdateMask: mask("display_name")})
	w.must(err)
	if n := f.catchUp(); n != 0 || f.since != w.list(members).GetEtag() {
		t.Errorf("%d changes up to %s, the list is at %s", n, f.since, w.list(members).GetEtag())
	}
}

func TestFollowerWaits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	f := w.copyOf(members)
	asked := make(chan *localv1.FollowListResponse)
	go func() {
		answer, err := w.lists.FollowList(t.Context(), &localv1.FollowListRequest{Parent: members, Since: f.since, WaitSeconds: 25})
		if err != nil {
			t.Error(err)
		}
		asked <- answer
	}()
	w.add(members, "ada@example.org")
	select {
	case answer := <-asked:
		if len(answer.GetChanges()) != 1 || answer.GetChanges()[0].GetEntry().GetAddress() != "ada@example.org" {
			t.Errorf("the answer is %v", answer)
		}
	case <-time.After(patience):
		t.Fatal("no answer to a change")
	}
	answer, err := w.lists.FollowList(t.Context(), &localv1.FollowListRequest{Parent: members, Since: w.list(members).GetEtag(), WaitSeconds: 1})
	w.must(err)
	if len(answer.GetChanges()) != 0 || answer.GetNextSince() != w.list(members).GetEtag() {
		t.Errorf("without a change the answer is %v", answer)
	}
}

func TestFollowersWhoAreLate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.createList("announce")
	f := w.copyOf(list)
	w.add(list, "ada@example.org")
	middle := w.copyOf(list)
	w.clock.Advance(w.service.config.KeepLog + time.Second)
	w.must(w.service.cleanUp(t.Context()))
	w.add(list, "bob@example.org")
	follow := func(since string) error {
		_, err := w.lists.FollowList(t.Context(), &localv1.FollowListRequest{Parent: list, Since: since})
		return err
	}
	refuses(t, follow(f.since), errorv1.Reason_REASON_CHANGES_EXPIRED)
	middle.catchUp()
	middle.agrees()
	for _, nonsense := range []string{"x", "1", "1-x", "0-0", "1--1"} {
		refuses(t, follow(nonsense), errorv1.Reason_REASON_INVALID_FIELD)
	}
	_, err := w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: list})
	w.must(err)
	refuses(t, follow(middle.since), errorv1.Reason_REASON_NOT_FOUND)
	w.createList("announce")
	refuses(t, follow(middle.since), errorv1.Reason_REASON_CHANGES_EXPIRED)
}
