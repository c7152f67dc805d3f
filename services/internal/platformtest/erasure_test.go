package platformtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// The person who is erased: what no table of any tier may hold afterwards.
const (
	zaphod     = "zaphod"
	atWork     = "zaphod@quux.example"
	atHome     = "zaphod.home@quux.example"
	signsIn    = "sub-4711-quux"
	erasedName = "Zaphod Quux"
)

// marks are what the person is searched by.
var marks = []string{"zaphod.home", "zaphod@", "Quux", "quux.example", signsIn}

// TestErasure erases a person, and finds nothing of them in any table of any tier.
func TestErasure(t *testing.T) {
	t.Parallel()
	t.Run("EveryTierForgets", everyTierForgets)
	t.Run("ASiteThatWasAwayConfirmsWhenItIsBack", awaySite)
	t.Run("ARestoredSiteErasesAgain", restoredSite)
	t.Run("ARestoredInternationalBodyErasesAgain", restoredRegister)
}

// knownEverywhere is a house in which every tier holds the person, in all the ways that there are.
func knownEverywhere(t *testing.T) (*house, *truth) {
	t.Helper()
	t.Parallel()
	h := build(t)
	tr := newTruth()
	h.found(t, paris, berlin)
	tr.knows(paris, berlin)
	ctx := bounded(t, patience)
	ends := h.clock.Now().AddDate(1, 0, 0)
	_, err := h.members.CreateMember(h.staff(ctx, t), &internationalv1.CreateMemberRequest{
		MemberId: zaphod, RequestId: "enter", Member: &internationalv1.Member{
			DisplayName: erasedName, TermEndTime: timestamppb.New(ends),
			Addresses: []*internationalv1.Address{{Address: atWork, Verified: true}, {Address: atHome}},
		},
	})
	must(t, err)
	_, err = h.members.SuspendMember(h.staff(ctx, t), &internationalv1.SuspendMemberRequest{Name: "members/" + zaphod, Reason: "Quux forgot to pay", RequestId: "suspend"})
	must(t, err)
	_, err = h.members.ReinstateMember(h.staff(ctx, t), &internationalv1.ReinstateMemberRequest{Name: "members/" + zaphod, Reason: "Quux paid"})
	must(t, err)
	tr.members[zaphod] = &memberTruth{state: internationalv1.Member_ACTIVE, ends: ends, addresses: map[string]*addressTruth{atWork: {verified: true}, atHome: {}}}
	h.enter(t, tr, "bob", "bob@example.org")
	h.subscribe(t, tr, onParis, "bob@example.org", atHome)
	h.subscribe(t, tr, onBerlin, "stranger@example.org")
	h.sync(t, tr, "chapters/berlin/lists/announce", uploaded{source: "crm", addresses: []string{atWork, "stranger@example.org"}})
	_, err = h.lists.CreateEntry(h.admin(ctx, t, paris), &localv1.CreateEntryRequest{
		Parent: onParis, RequestId: "add", Entry: &localv1.Entry{Address: atWork, DisplayName: erasedName},
		Consent: &localv1.Consent{Method: "sheet at the door", Text: "Yes"},
	})
	must(t, err)
	tr.lists[onParis].entries[atWork] = &entryTruth{claims: map[string]bool{"manual": true}}
	_, err = upload(h.admin(ctx, t, berlin), h.syncs, &localv1.CreateSyncHeader{
		Parent: onBerlin, Mode: localv1.Sync_MERGE, Source: "plan", ContentType: "text/csv",
	}, []byte("email,name\n"+atHome+","+erasedName+"\n"))
	must(t, err)
	coordinators := regionalv1.NewCoordinatorServiceClient(h.conns[bus.Regional])
	_, err = coordinators.CreateCoordinator(h.staff(ctx, t), &regionalv1.CreateCoordinatorRequest{
		Parent: authz.World, RequestId: "elect", Coordinator: &regionalv1.Coordinator{
			Subject: signsIn, DisplayName: erasedName, Role: regionalv1.Coordinator_COORDINATOR, MailAddress: atHome,
		},
	})
	must(t, err)
	officers := localv1.NewOfficerServiceClient(h.conns[bus.Local])
	for chapter, officer := range map[string]*localv1.Officer{
		paris:  {DisplayName: erasedName, Role: localv1.Officer_PRESIDENT, MailAddress: atWork},
		berlin: {DisplayName: erasedName, Role: localv1.Officer_OTHER, Subject: signsIn},
	} {
		_, err = officers.CreateOfficer(h.admin(ctx, t, chapter), &localv1.CreateOfficerRequest{Parent: "chapters/" + chapter, RequestId: "appoint", Officer: officer})
		must(t, err)
	}
	h.agree(t, tr, patience)
	for _, tier := range tierNames {
		if len(h.holding(tier)) == 0 {
			t.Fatalf("the %s tier holds nobody: the search would find nothing because there is nothing", tier)
		}
	}
	return h, tr
}

// holding says which tables of a tier hold the person.
func (h *house) holding(tier string) (tables []string) {
	h.t.Helper()
	ctx := bounded(h.t, patience)
	pool := get(postgres.Open(ctx, h.databases[tier]))(h.t)
	defer pool.Close()
	rows := get(pool.Query(ctx, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"))(h.t)
	for _, table := range get(pgx.CollectRows(rows, pgx.RowTo[string]))(h.t) {
		for _, mark := range marks {
			var found bool
			query := fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s x WHERE strpos(x::text, $1) > 0 OR strpos(x::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)`, table)
			must(h.t, pool.QueryRow(ctx, query, mark).Scan(&found))
			if found {
				tables = append(tables, table+": "+mark)
			}
		}
	}
	return tables
}

// erase erases the person, in the truth too: no member, and tombstones on lists.
func (h *house) erase(t *testing.T, tr *truth) string {
	t.Helper()
	done, err := h.members.EraseMember(h.staff(bounded(t, patience), t), &internationalv1.EraseMemberRequest{Name: "members/" + zaphod, SignInSubject: signsIn})
	must(t, err)
	tr.change(func() {
		tr.members[zaphod] = &memberTruth{state: internationalv1.Member_ERASED, addresses: map[string]*addressTruth{}}
		for _, list := range tr.lists {
			for _, address := range []string{atWork, atHome} {
				if entry := list.entries[address]; entry != nil {
					entry.left = true
				}
			}
		}
	})
	return done.GetName()
}

// outstanding says which parts of an erasure have not confirmed.
func (h *house) outstanding(t *testing.T, name string) string {
	t.Helper()
	ledger := internationalv1.NewErasureServiceClient(h.conns[bus.International])
	row, err := ledger.GetErasure(h.staff(bounded(t, patience), t), &internationalv1.GetErasureRequest{Name: name})
	must(t, err)
	var open []string
	for _, part := range row.GetParts() {
		if part.GetConfirmTime() == nil {
			open = append(open, part.GetPart())
		}
	}
	if (len(open) == 0) != (row.GetState() == internationalv1.Erasure_COMPLETE) {
		t.Errorf("the state is %s with %v outstanding", row.GetState(), open)
	}
	return strings.Join(open, " ")
}

func (h *house) wantForgotten(t *testing.T) {
	t.Helper()
	for _, tier := range tierNames {
		if tables := h.holding(tier); len(tables) > 0 {
			t.Errorf("the %s tier still holds the person in %v", tier, tables)
		}
	}
}

func everyTierForgets(t *testing.T) {
	h, tr := knownEverywhere(t)
	name := h.erase(t, tr)
	eventually(t, patience, func() string { return h.outstanding(t, name) })
	h.wantForgotten(t)
	h.agree(t, tr, patience)
	if n := get(h.standings.AuditStandings(h.staff(bounded(t, patience), t), &internationalv1.AuditStandingsRequest{}))(t).GetDifferenceCount(); n != 0 {
		t.Errorf("the audit finds %d standings wrong", n)
	}
	ledger := internationalv1.NewErasureServiceClient(h.conns[bus.International])
	row := get(ledger.GetErasure(h.staff(bounded(t, patience), t), &internationalv1.GetErasureRequest{Name: name}))(t)
	erased := map[string]int32{}
	for _, part := range row.GetParts() {
		erased[part.GetPart()] = part.GetErasedCount()
	}
	// Three entries with one consent and the plan of Berlin, the row of the sync that added the fourth, two officers; one
	// coordinator.
	if erased["international"] != 1 || erased["regional/main"] != 1 || erased["local/main"] < 6 {
		t.Errorf("the ledger counts %v", erased)
	}
	again := h.erase(t, tr)
	if again != name {
		t.Errorf("erased again: %s, not %s", again, name)
	}
	history := get(h.members.ListMemberHistory(h.staff(bounded(t, patience), t), &internationalv1.ListMemberHistoryRequest{Parent: "members/" + zaphod}))(t)
	var told []string
	for _, change := range history.GetChanges() {
		told = append(told, change.GetVerb()+change.GetNote())
	}
	if got, want := strings.Join(told, " "), "ENTERED SUSPENDED REINSTATED ERASED"; got != want {
		t.Errorf("the history is %q, want %q", got, want)
	}
}

func awaySite(t *testing.T) {
	h, tr := knownEverywhere(t)
	h.stop(bus.Local)
	name := h.erase(t, tr)
	eventually(t, patience, func() string {
		if open := h.outstanding(t, name); open != "local/main" {
			return "outstanding: " + open
		}
		return ""
	})
	h.start(bus.Local)
	eventually(t, patience, func() string { return h.outstanding(t, name) })
	h.wantForgotten(t)
	h.agree(t, tr, patience)
}

func restoredSite(t *testing.T) {
	h, tr := knownEverywhere(t)
	h.stop(bus.Local)
	restore := testkit.Backup(t, h.databases[bus.Local])
	h.start(bus.Local)
	name := h.erase(t, tr)
	eventually(t, patience, func() string { return h.outstanding(t, name) })

	h.stop(bus.Local)
	restore()
	if len(h.holding(bus.Local)) == 0 {
		t.Fatal("the backup does not bring the person back")
	}
	h.start(bus.Local)
	ledger := internationalv1.NewErasureServiceClient(h.conns[bus.International])
	eventually(t, patience, func() string {
		row := get(ledger.GetErasure(h.staff(bounded(t, patience), t), &internationalv1.GetErasureRequest{Name: name}))(t)
		for _, part := range row.GetParts() {
			if part.GetPart() == "local/main" && part.GetConfirmedCount() < 2 {
				return "the restored site has not confirmed again"
			}
		}
		return ""
	})
	h.wantForgotten(t)
	h.agree(t, tr, patience)
}

func restoredRegister(t *testing.T) {
	h, tr := knownEverywhere(t)
	h.stop(bus.International)
	restore := testkit.Backup(t, h.databases[bus.International])
	h.start(bus.International)
	name := h.erase(t, tr)
	eventually(t, patience, func() string { return h.outstanding(t, name) })

	h.stop(bus.International)
	restore()
	if len(h.holding(bus.International)) == 0 {
		t.Fatal("the backup does not bring the person back")
	}
	h.start(bus.International)
	eventually(t, patience, func() string {
		if tables := h.holding(bus.International); len(tables) > 0 {
			return fmt.Sprintf("the register holds the person in %v", tables)
		}
		return h.outstanding(t, name)
	})
	h.wantForgotten(t)
	h.agree(t, tr, patience)
}
