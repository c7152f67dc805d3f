package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// holds says which tables of the database hold a text anywhere.
func (w *world) holds(text string) (tables []string) {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1")
	w.must(err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.must(err)
	for _, name := range names {
		var found bool
		query := fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s t WHERE t::text LIKE '%%' || $1 || '%%' OR t::text LIKE '%%' || encode($1::bytea, 'hex') || '%%')`, name)
		w.must(w.pool.QueryRow(w.t.Context(), query, text).Scan(&found))
		if found {
			tables = append(tables, name)
		}
	}
	return tables
}

func TestErasingLeavesOnlyAToken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.doubleOptIn("news", "")
	csv := "email,name\nzaphod@example.org,Zaphod Quux\nada@example.org,Ada\nzaphod@example.org,Zaphod Quux\n"
	w.sync(replace("crm", csv).applied().keyed("first"))
	w.sync(merge("crm", strings.ReplaceAll(csv, "Zaphod Quux", "Zaphod Quuux")).applied())
	_, err := w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{
		Parent: list, RequestId: "second", Entry: &localv1.Entry{Address: "zaphod@example.org", DisplayName: "Zaphod Quux"},
		Consent: &localv1.Consent{Method: "sheet at the door", Text: "Yes, please"},
	})
	w.must(err)
	plan := w.sync(merge("other", csv).to(list))
	w.mails(1)
	if len(w.holds("zaphod@example.org")) == 0 || len(w.holds("Quux")) == 0 {
		t.Fatal("nothing to erase was found")
	}
	erase := func() *localv1.ErasePersonResponse {
		answer, err := w.lists.ErasePerson(t.Context(), &localv1.ErasePersonRequest{Parent: paris, Address: "zaphod@EXAMPLE.org"})
		w.must(err)
		return answer
	}
	answer := erase()
	if len(answer.GetEntries()) != 2 {
		t.Errorf("erased: %v", answer)
	}
	for _, text := range []string{"zaphod", "Quu"} {
		if tables := w.holds(text); len(tables) > 0 {
			t.Errorf("%v still hold %q", tables, text)
		}
	}
	if got := w.consents(w.entry(list, "zaphod@example.org")); got != "" {
		t.Errorf("the consents are %q", got)
	}
	_, err = w.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
	refuses(t, err, errorv1.Reason_REASON_SYNC_STATE)
	if got := w.list(members); got.GetSubscribedCount() != 1 || got.GetUnsubscribedCount() != 1 {
		t.Errorf("the list is %v", got)
	}
	before := w.list(members).GetEtag()
	erase()
	if after := w.list(members).GetEtag(); after != before {
		t.Errorf("erased again the list went from %s to %s", before, after)
	}
	// The token keeps the person from coming back, and says no more than that.
	w.expect(w.sync(replace("crm", csv).applied()), localv1.Sync_APPLIED, "unchanged 1 suppressed 1 duplicate 1")
	tombstone, err := w.lists.GetEntry(t.Context(), &localv1.GetEntryRequest{Name: w.entry(members, "zaphod@example.org")})
	w.must(err)
	if tombstone.GetState() != localv1.Entry_UNSUBSCRIBED || tombstone.GetAddress() != "" || tombstone.GetDisplayName() != "" || len(tombstone.GetSources()) != 0 {
		t.Errorf("what is left is %v", tombstone)
	}
	_, err = w.links.RequestSubscription(t.Context(), &localv1.RequestSubscriptionRequest{Name: w.leaveLink(members, "zaphod@example.org")})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_STATE)
}
