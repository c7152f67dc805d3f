package local

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

func TestLists(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, id := range []string{"announce", "board", "jobs"} {
		w.createList(id)
	}
	req, got := &localv1.ListListsRequest{Parent: paris, PageSize: 3}, []string{}
	for {
		answer, err := w.lists.ListLists(t.Context(), req)
		w.must(err)
		for _, list := range answer.GetLists() {
			got = append(got, strings.TrimPrefix(list.GetName(), paris+"/lists/")+" "+list.GetKind().String())
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if want := "announce MAILING, board MAILING, jobs MAILING, members MEMBERSHIP"; strings.Join(got, ", ") != want {
		t.Errorf("the lists are %v", got)
	}
	_, err := w.lists.CreateList(t.Context(), &localv1.CreateListRequest{Parent: paris, ListId: "members", List: &localv1.List{DisplayName: "x"}})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	_, err = w.lists.GetList(t.Context(), &localv1.GetListRequest{Name: paris + "/lists/nothing"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestUpdateList(t *testing.T) {
	t.Parallel()
	w := setup(t)
	before := w.list(members)
	update := func(list *localv1.List, paths ...string) (*localv1.List, error) {
		list.Name = members
		return w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: list, UpdateMask: mask(paths...)})
	}
	same, err := update(&localv1.List{DisplayName: before.GetDisplayName()})
	w.must(err)
	if same.GetEtag() != before.GetEtag() {
		t.Errorf("the same again gave %s after %s", same.GetEtag(), before.GetEtag())
	}
	after, err := update(&localv1.List{DisplayName: "Everybody", Etag: before.GetEtag()}, "display_name")
	w.must(err)
	if after.GetEtag() == before.GetEtag() || after.GetDisplayName() != "Everybody" {
		t.Errorf("the list is %v", after)
	}
	_, err = update(&localv1.List{DisplayName: "x", Etag: before.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = update(&localv1.List{}, "display_name")
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = update(&localv1.List{DisplayName: "a\x00b"})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = update(&localv1.List{}, "kind")
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	w.agrees(members)
}

func TestDeletedListKeepsItsTombstones(t *testing.T) {
	t.Parallel()
	w := setup(t)
	name := w.createList("announce")
	w.sync(replace("crm", people(0, 5)).to(name).applied())
	w.unsubscribe(w.entry(name, person(3)))
	plan := w.sync(replace("crm", people(0, 9)).to(name))

	_, err := w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: name, Etag: "1-1"})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: name})
	w.must(err)
	if tokens, _ := w.replay(name); len(tokens) != 0 {
		t.Errorf("%d tokens outlive the list", len(tokens))
	}
	_, err = w.lists.GetList(t.Context(), &localv1.GetListRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	_, err = w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
	refuses(t, err, errorv1.Reason_REASON_PLAN_STALE)

	// The clock has not moved: the new epoch is later all the same.
	w.createList("announce")
	w.agrees(name)
	_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
	refuses(t, err, errorv1.Reason_REASON_PLAN_STALE)
	w.expect(w.sync(replace("crm", people(0, 5)).to(name).applied()), localv1.Sync_APPLIED, "add 4 suppressed 1")
	w.agrees(name)
}

func TestMembersCannotBeDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: members})
	refuses(t, err, errorv1.Reason_REASON_LIST_PERMANENT)
}

func TestCreateEntry(t *testing.T) {
	t.Parallel()
	w := setup(t)
	entry, err := w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{
		Parent: members, Entry: &localv1.Entry{Address: " ADA@EXAMPLE.org ", DisplayName: "Ada  Rao"},
	})
	w.must(err)
	if entry.GetAddress() != "ada@example.org" || entry.GetDisplayName() != "Ada Rao" || entry.GetState() != localv1.Entry_SUBSCRIBED ||
		strings.Join(entry.GetSources(), " ") != "manual" || entry.GetName() != w.entry(members, "ada@example.org") {
		t.Fatalf("the entry is %v", entry)
	}
	create := func(address string) error {
		_, err := w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: address}})
		return err
	}
	refuses(t, create("Ada@example.org"), errorv1.Reason_REASON_ALREADY_EXISTS)
	refuses(t, create("ada"), errorv1.Reason_REASON_ADDRESS_INVALID)
	w.unsubscribe(entry.GetName())
	refuses(t, create("ada@example.org"), errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	w.optIn(members, true)
	if state := w.add(members, "bob@example.org").GetState(); state != localv1.Entry_PENDING {
		t.Errorf("with double opt-in the entry is %s", state)
	}
	w.agrees(members)
}

func TestEntryLifecycle(t *testing.T) {
	t.Parallel()
	w := setup(t)
	entry := w.add(members, "ada@example.org")
	w.clock.Advance(time.Second)
	renamed, err := w.lists.UpdateEntry(t.Context(), &localv1.UpdateEntryRequest{
		Entry: &localv1.Entry{Name: entry.GetName(), DisplayName: "Ada", Etag: entry.GetEtag()},
	})
	w.must(err)
	if renamed.GetDisplayName() != "Ada" || renamed.GetEtag() == entry.GetEtag() || renamed.GetName() != entry.GetName() {
		t.Fatalf("the entry is %v", renamed)
	}
	_, err = w.lists.UpdateEntry(t.Context(), &localv1.UpdateEntryRequest{
		Entry: &localv1.Entry{Name: entry.GetName(), DisplayName: "Ada B", Etag: entry.GetEtag()},
	})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = w.lists.DeleteEntry(t.Context(), &localv1.DeleteEntryRequest{Name: entry.GetName(), Etag: entry.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)

	gone := w.add(members, "gone@example.org")
	_, err = w.lists.DeleteEntry(t.Context(), &localv1.DeleteEntryRequest{Name: gone.GetName()})
	w.must(err)
	_, err = w.lists.GetEntry(t.Context(), &localv1.GetEntryRequest{Name: gone.GetName()})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)

	w.unsubscribe(entry.GetName())
	version := w.list(members).GetEtag()
	w.unsubscribe(entry.GetName())
	if again := w.list(members).GetEtag(); again != version {
		t.Errorf("leaving twice took the list from %s to %s", version, again)
	}
	_, err = w.lists.DeleteEntry(t.Context(), &localv1.DeleteEntryRequest{Name: entry.GetName()})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	left, err := w.lists.GetEntry(t.Context(), &localv1.GetEntryRequest{Name: entry.GetName()})
	w.must(err)
	if left.GetState() != localv1.Entry_UNSUBSCRIBED {
		t.Errorf("the entry is %s", left.GetState())
	}
	for _, name := range []string{members + "/entries/e123", w.entry(members, "never@example.org")} {
		_, err = w.lists.GetEntry(t.Context(), &localv1.GetEntryRequest{Name: name})
		refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	}
	w.agrees(members)
}

func TestListEntries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 25)).applied())
	for i := range 5 {
		w.unsubscribe(w.entry(members, person(i)))
	}
	count := func(state localv1.Entry_State) (n int) {
		req, last := &localv1.ListEntriesRequest{Parent: members, PageSize: 7, State: state}, ""
		for {
			answer, err := w.lists.ListEntries(t.Context(), req)
			w.must(err)
			for _, entry := range answer.GetEntries() {
				if entry.GetName() <= last {
					t.Fatalf("%s comes after %s", entry.GetName(), last)
				}
				last = entry.GetName()
				n++
			}
			if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
				return n
			}
		}
	}
	if all, left := count(0), count(localv1.Entry_UNSUBSCRIBED); all != 25 || left != 5 {
		t.Errorf("%d entries, %d have left", all, left)
	}
	_, err := w.lists.ListEntries(t.Context(), &localv1.ListEntriesRequest{Parent: members, PageToken: "made-up"})
	refuses(t, err, errorv1.Reason_REASON_PAGE_TOKEN_INVALID)
}

func TestRepeatedCreateEntryAnswersTheSame(t *testing.T) {
	t.Parallel()
	w := setup(t)
	req := &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: "ada@example.org"}, RequestId: "one"}
	first, err := w.lists.CreateEntry(t.Context(), req)
	w.must(err)
	second, err := w.lists.CreateEntry(t.Context(), req)
	w.must(err)
	if first.GetEtag() != second.GetEtag() {
		t.Errorf("got %v after %v", second, first)
	}
	req.Entry.DisplayName = "Ada"
	_, err = w.lists.CreateEntry(t.Context(), req)
	refuses(t, err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED)
	hasCode(t, err, codes.InvalidArgument)
}
