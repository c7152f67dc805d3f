package international

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// simulation reads all pages of what a draft would do, and checks that each page counts the same.
func (w *world) simulation(req *internationalv1.SimulateCharterPolicyRequest) *internationalv1.SimulateCharterPolicyResponse {
	w.t.Helper()
	var all *internationalv1.SimulateCharterPolicyResponse
	for {
		page, err := w.charter.SimulateCharterPolicy(w.t.Context(), req)
		w.must(err)
		if all == nil {
			all = page
		} else {
			if !proto.Equal(all.GetTotal(), page.GetTotal()) {
				w.t.Errorf("a page counts %v, and the first %v", page.GetTotal(), all.GetTotal())
			}
			all.Changes = append(all.Changes, page.GetChanges()...)
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

// federation is chapters of random figures, some of them chartered and some of those at risk.
func (w *world) federation(random *rand.Rand, chapters int) []string {
	w.t.Helper()
	names := make([]string, chapters)
	for c := range chapters {
		names[c] = fmt.Sprintf("c%02d", c)
		w.chapter(names[c])
		total, mailing := random.IntN(12), random.IntN(12)
		w.exec(`UPDATE standings s SET membership_total = $2, membership_international = $3, mailing_total = $4, mailing_international = $5
			FROM chapters c WHERE c.chapter_no = s.chapter_no AND c.id = $1`, names[c], total, random.IntN(total+1), mailing, random.IntN(mailing+1))
		if c%3 == 0 {
			continue
		}
		admin := internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/"+names[c]))
		_, err := admin.CreateCharter(w.t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/" + names[c]}})
		w.must(err)
		w.exec("UPDATE chapters SET region = $2 WHERE id = $1", names[c], fmt.Sprintf("r%d", c%4))
	}
	// What the figures say, by the rule itself and not by the code that is tested.
	w.exec(`UPDATE standings SET eligible = membership_total > 0 AND 100 * membership_international >= 60 * membership_total
		OR mailing_total > 0 AND 100 * mailing_international >= 60 * mailing_total`)
	w.exec(`UPDATE charters ch SET state = CASE WHEN s.eligible THEN 'CHARTERED' ELSE 'AT_RISK' END FROM standings s WHERE s.chapter_no = ch.chapter_no AND ch.chapter_no % 4 > 0`)
	return names
}

func randomDraft(random *rand.Rand) *internationalv1.CharterPolicy {
	draft := &internationalv1.CharterPolicy{
		ThresholdPercent: 1 + random.Int32N(100), MinimumPeopleMembership: random.Int32N(6), MinimumPeopleMailing: random.Int32N(6),
		AllowedBases: []internationalv1.Basis{internationalv1.Basis_MEMBERSHIP, internationalv1.Basis_MAILING}, Note: "a try",
	}
	if n := random.IntN(4); n < 2 {
		draft.AllowedBases = draft.GetAllowedBases()[n : n+1]
	}
	return draft
}

var draftMask = &fieldmaskpb.FieldMask{Paths: []string{"threshold_percent", "minimum_people_membership", "minimum_people_mailing", "allowed_bases"}}

// TestWhatIsSimulatedHappens simulates random revisions and makes them: every chapter goes where the simulation said, and no other.
func TestWhatIsSimulatedHappens(t *testing.T) {
	t.Parallel()
	const chapters, rounds = 40, 12
	w := setup(t)
	random := rand.New(rand.NewPCG(21, 22))
	names := w.federation(random, chapters)
	moves := 0
	for range rounds {
		draft := randomDraft(random)
		before := map[string]*internationalv1.Standing{}
		states := map[string]internationalv1.Charter_State{}
		for _, name := range names {
			before[name], states[name] = w.standing(name), w.stateOrNone(name)
		}
		said := w.simulation(&internationalv1.SimulateCharterPolicyRequest{CharterPolicy: draft, UpdateMask: draftMask, PageSize: 3})
		for _, name := range names {
			if got := w.standing(name); !proto.Equal(got, before[name]) {
				t.Fatalf("simulating moved %s from %v to %v", name, before[name], got)
			}
		}
		_, err := w.charter.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: draft, UpdateMask: draftMask})
		w.must(err)

		changes := map[string]*internationalv1.PolicyChange{}
		for _, change := range said.GetChanges() {
			changes[idOf(change.GetChapter())] = change
		}
		counts := &internationalv1.PolicyCounts{}
		for _, name := range names {
			after, state := w.standing(name), w.stateOrNone(name)
			counted(counts, before[name].GetEligible(), after.GetEligible(), states[name], state)
			change := changes[name]
			if (change != nil) != (before[name].GetEligible() != after.GetEligible()) {
				t.Fatalf("%s went from %v to %v, and the simulation said %v", name, before[name], after, change)
			}
			if change == nil {
				if states[name] != state {
					t.Fatalf("the charter of %s went from %s to %s unforeseen", name, states[name], state)
				}
				continue
			}
			moves++
			after.Etag, after.UpdateTime, after.PolicyRevision, after.BasedOn, after.ForecastLossTime = "", nil, "", nil, nil
			if !proto.Equal(change.GetAfter(), after) || change.GetCharterBefore() != states[name] || change.GetCharterAfter() != state {
				t.Fatalf("%s became %v, charter %s, and the simulation said %v", name, after, state, change)
			}
		}
		if !proto.Equal(said.GetTotal(), counts) {
			t.Fatalf("the simulation counted %v, and it is %v", said.GetTotal(), counts)
		}
		sum := &internationalv1.PolicyCounts{}
		for _, region := range said.GetRegions() {
			addCounts(sum, region.GetCounts())
		}
		if !proto.Equal(sum, counts) || len(said.GetRegions()) < 4 {
			t.Fatalf("the regions sum up to %v of %v", sum, counts)
		}
	}
	if moves < chapters {
		t.Errorf("only %d chapters moved in all: the test tests nothing", moves)
	}
}

func counted(counts *internationalv1.PolicyCounts, before, after bool, stateBefore, stateAfter internationalv1.Charter_State) {
	one := func(is bool) int32 {
		if is {
			return 1
		}
		return 0
	}
	moved := stateBefore != stateAfter
	addCounts(counts, &internationalv1.PolicyCounts{
		Chapters: 1, EligibleBefore: one(before), EligibleAfter: one(after), Gaining: one(!before && after), Losing: one(before && !after),
		ChartersAtRisk: one(moved && stateAfter == internationalv1.Charter_AT_RISK), ChartersReturning: one(moved && stateAfter == internationalv1.Charter_CHARTERED),
	})
}

func addCounts(sum, counts *internationalv1.PolicyCounts) {
	sum.Chapters += counts.GetChapters()
	sum.EligibleBefore += counts.GetEligibleBefore()
	sum.EligibleAfter += counts.GetEligibleAfter()
	sum.Gaining += counts.GetGaining()
	sum.Losing += counts.GetLosing()
	sum.ChartersAtRisk += counts.GetChartersAtRisk()
	sum.ChartersReturning += counts.GetChartersReturning()
}

// stateOrNone is a charter's state, unspecified without a charter.
func (w *world) stateOrNone(chapter string) internationalv1.Charter_State {
	w.t.Helper()
	charter, err := w.charter.GetCharter(w.t.Context(), &internationalv1.GetCharterRequest{Name: "charters/" + chapter})
	if err != nil {
		refuses(w.t, err, errorv1.Reason_REASON_NOT_FOUND)
	}
	return charter.GetState()
}

func TestASimulationIsOfARegionAndAKind(t *testing.T) {
	t.Parallel()
	w := setup(t)
	random := rand.New(rand.NewPCG(31, 32))
	w.federation(random, 40)
	w.exec("INSERT INTO regions (id, parent, display_name) VALUES ('world', NULL, 'w'), ('r1', 'world', 'r'), ('r2', 'r1', 'r')")
	draft := threshold(100)
	all := w.simulation(&internationalv1.SimulateCharterPolicyRequest{CharterPolicy: draft})
	some := w.simulation(&internationalv1.SimulateCharterPolicyRequest{CharterPolicy: draft, Region: "regions/r1", Kind: internationalv1.PolicyChange_AT_RISK})
	want := map[string]bool{}
	for _, change := range all.GetChanges() {
		below := change.GetRegion() == "regions/r1" || change.GetRegion() == "regions/r2"
		if below && change.GetKind() == internationalv1.PolicyChange_AT_RISK {
			want[change.GetChapter()] = true
		}
	}
	if len(want) == 0 || len(some.GetChanges()) != len(want) || len(some.GetRegions()) != 2 {
		t.Fatalf("%d changes in %d regions, want %d", len(some.GetChanges()), len(some.GetRegions()), len(want))
	}
	for _, change := range some.GetChanges() {
		if !want[change.GetChapter()] {
			t.Errorf("%v does not belong there", change)
		}
	}
	if some.GetInForce().GetRevision() != "1" || some.GetDraft().GetThresholdPercent() != 100 || some.GetDraft().GetRevision() != "" {
		t.Errorf("in force %v, draft %v", some.GetInForce(), some.GetDraft())
	}
	_, err := w.charter.SimulateCharterPolicy(t.Context(), &internationalv1.SimulateCharterPolicyRequest{CharterPolicy: threshold(101)})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/c01")).SimulateCharterPolicy(t.Context(),
		&internationalv1.SimulateCharterPolicyRequest{CharterPolicy: draft})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
}

// TestWhatIsSupposedHappens compares a supposed change of a chapter with the same change when it comes.
func TestWhatIsSupposedHappens(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	simulate := func(req *internationalv1.SimulateStandingRequest) (*internationalv1.SimulateStandingResponse, error) {
		req.Name = "chapters/paris/standing"
		return w.stands.SimulateStanding(t.Context(), req)
	}
	said, err := simulate(&internationalv1.SimulateStandingRequest{
		Basis: internationalv1.Basis_MEMBERSHIP, NewcomersMembers: 1, NewcomersOthers: 2, Conversions: 1, DeparturesMembers: 1, DeparturesOthers: 1, Lapses: 1,
	})
	w.must(err)
	if before := w.standing("paris"); before.GetEtag() != said.GetBefore().GetEtag() {
		t.Errorf("before it is %v, and is said to be %v", before, said.GetBefore())
	}
	w.member("f", "f@example.org")
	w.must(w.list("paris", "members", []string{"f@example.org", "g@example.org", "h@example.org"}, []string{"a@example.org", "d@example.org"}))
	w.member("g", "g@example.org")
	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: "members/b"})
	w.must(err)
	got := w.standing("paris")
	got.Etag, got.UpdateTime, got.BasedOn, got.ForecastLossTime = "", nil, nil, nil
	if !proto.Equal(got, said.GetAfter()) {
		t.Errorf("it is %v, and was said to become %v", got, said.GetAfter())
	}

	both, err := simulate(&internationalv1.SimulateStandingRequest{NewcomersMembers: 5})
	w.must(err)
	if both.GetAfter().GetMembership().GetTotal() != 11 || both.GetAfter().GetMailing().GetInternational() != 5 {
		t.Errorf("on both bases: %v", both.GetAfter())
	}
	for field, req := range map[string]*internationalv1.SimulateStandingRequest{
		"conversions":       {Basis: internationalv1.Basis_MEMBERSHIP, Conversions: 4},
		"departuresMembers": {Basis: internationalv1.Basis_MEMBERSHIP, DeparturesMembers: 4},
		"departuresOthers":  {DeparturesOthers: 1, Basis: internationalv1.Basis_MAILING},
		"lapses":            {Basis: internationalv1.Basis_MEMBERSHIP, DeparturesMembers: 1, Lapses: 3},
		"newcomersMembers":  {NewcomersMembers: -1},
	} {
		_, err := simulate(req)
		refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
		wantField(t, err, field)
	}
}
