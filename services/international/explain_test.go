package international

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func (w *world) explain(chapter string, view internationalv1.ExplainStandingRequest_View) *internationalv1.StandingExplanation {
	w.t.Helper()
	explanation, err := w.stands.ExplainStanding(w.t.Context(), &internationalv1.ExplainStandingRequest{Name: "chapters/" + chapter + "/standing", View: view})
	w.must(err)
	return explanation
}

func TestExplanationWalksToTheParts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.member("ada", "ada@example.org", "ada@example.net")
	w.memberUntil("bob", noon.Add(time.Hour))
	w.memberUntil("cyd", noon.Add(100*day))
	w.memberUntil("dee", noon.Add(time.Hour))
	_, err := w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: "members/dee"})
	w.must(err)
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org", "dee@example.org", "zed@example.org"}, nil))
	w.must(w.list("paris", "announce", []string{"ada@example.org", "ada@example.net", "cyd@example.org"}, nil))
	w.must(w.list("paris", "jobs", []string{"ada@example.net", "zed@example.org"}, nil))
	w.clock.Advance(2 * time.Hour)
	_, err = w.service.lapse(t.Context())
	w.must(err)

	explanation := w.explain("paris", internationalv1.ExplainStandingRequest_VIEW_UNSPECIFIED)
	membership, mailing := explanation.GetBases()[0], explanation.GetBases()[1]
	if got := membership.GetMemberships().String(); got != (&internationalv1.MembershipCounts{Active: 1, LapsedRecently: 1, Resigned: 1, Unrecognised: 1}).String() {
		t.Errorf("the memberships are %s", got)
	}
	if membership.GetNeed() != 3 || membership.GetEligible() || len(membership.GetLists()) != 1 || len(membership.GetLists()[0].GetAlsoOn()) != 2 {
		t.Errorf("the membership basis is %v", membership)
	}
	announce := mailing.GetLists()[0]
	if announce.GetAddresses() != 3 || announce.GetPeople().GetTotal() != 2 || announce.GetOnlyHere().GetTotal() != 1 ||
		mailing.GetOnSeveralLists().GetTotal() != 1 || mailing.GetFigures().GetTotal() != 3 {
		t.Errorf("the mailing basis is %v", mailing)
	}
	if also := announce.GetAlsoOn(); len(also) != 2 || also[0].GetList() != "chapters/paris/lists/jobs" || also[1].GetPeople().GetInternational() != 1 {
		t.Errorf("announce's people are also on %v", also)
	}
	w.clock.Advance(recentlyLapsed)
	counts := w.explain("paris", internationalv1.ExplainStandingRequest_VIEW_UNSPECIFIED).GetBases()[0].GetMemberships()
	if counts.GetLapsedBefore() != 1 || counts.GetLapsedRecently() != 0 {
		t.Errorf("after 90 days the memberships are %v", counts)
	}
}

// TestThePartsSumUpToTheStanding takes random chapters apart.
func TestThePartsSumUpToTheStanding(t *testing.T) {
	t.Parallel()
	const members, rounds = 12, 40
	w := setup(t)
	w.chapter("paris")
	random := rand.New(rand.NewPCG(41, 42))
	holds := map[string]map[string]bool{"members": {}, "announce": {}, "jobs": {}, "talk": {}}
	for m := range members {
		w.must(w.churnMember(random, m, 0))
	}
	for round := range rounds {
		list := []string{"members", "announce", "jobs", "talk"}[random.IntN(4)]
		w.must(w.churnList(random, "paris", list, members+4, holds[list]))
		w.must(w.churnMember(random, random.IntN(members), 1+round))
		w.checkParts("paris")
	}
	w.audit()
}

func (w *world) checkParts(chapter string) {
	w.t.Helper()
	explanation, stands := w.explain(chapter, internationalv1.ExplainStandingRequest_VIEW_UNSPECIFIED), w.standing(chapter)
	if explanation.GetStanding().GetEtag() != stands.GetEtag() || explanation.GetStanding().GetBasedOn().String() != stands.GetBasedOn().String() {
		w.t.Fatalf("%v is explained, and it is %v", explanation.GetStanding(), stands)
	}
	for i, figures := range []*internationalv1.Figures{stands.GetMembership(), stands.GetMailing()} {
		basis := explanation.GetBases()[i]
		sum := &internationalv1.Figures{Total: basis.GetOnSeveralLists().GetTotal(), International: basis.GetOnSeveralLists().GetInternational()}
		for _, list := range basis.GetLists() {
			sum.Total += list.GetOnlyHere().GetTotal()
			sum.International += list.GetOnlyHere().GetInternational()
			if list.GetAddresses() < list.GetPeople().GetTotal() || list.GetPeople().GetTotal() < list.GetOnlyHere().GetTotal() {
				w.t.Fatalf("a list of %v", list)
			}
			for _, also := range list.GetAlsoOn() {
				if also.GetPeople().GetTotal() > list.GetPeople().GetTotal() {
					w.t.Fatalf("a list of %v", list)
				}
			}
		}
		m := basis.GetMemberships()
		states := m.GetActive() + m.GetLapsedRecently() + m.GetLapsedBefore() + m.GetResigned() + m.GetSuspended() + m.GetOther() + m.GetUnrecognised()
		if sum.String() != figures.String() || basis.GetFigures().String() != figures.String() || states != figures.GetTotal() || m.GetActive() != figures.GetInternational() {
			w.t.Fatalf("the lists sum up to %v, the memberships to %d (%d active), of %v", sum, states, m.GetActive(), figures)
		}
	}
}

// TestWithTheSiteAwayTheRestIsExplained asks a site where nobody listens; what a site answers is told in platformtest.
func TestWithTheSiteAwayTheRestIsExplained(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org"}, nil))
	if got := w.explain("paris", internationalv1.ExplainStandingRequest_VIEW_UNSPECIFIED); got.GetSourcesUnavailable() {
		t.Errorf("sources nobody asked for are not there: %v", got)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.must(closed.Close())
	conn, err := rpc.Dial(closed.Addr().String(), nil, rpc.WithPlaintext())
	w.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	w.service.chapters = map[string]localv1.ChapterServiceClient{"main": localv1.NewChapterServiceClient(conn)}
	away := w.explain("paris", internationalv1.ExplainStandingRequest_SOURCES)
	if !away.GetSourcesUnavailable() || away.GetBases()[0].GetFigures().GetTotal() != 2 || len(away.GetBases()[0].GetLists()[0].GetSources()) > 0 {
		t.Errorf("with the site away the explanation is %v", away)
	}
}

func TestEvidenceHoldsAllAndCanBeChecked(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.clock.Advance(time.Hour)
	w.revise(threshold(80))
	w.clock.Advance(time.Hour)
	w.member("d", "d@example.org")

	export := func() *internationalv1.CharterEvidence {
		t.Helper()
		evidence, err := w.charter.ExportCharter(t.Context(), &internationalv1.ExportCharterRequest{Name: "charters/paris"})
		w.must(err)
		return evidence
	}
	file := export()
	e := file.GetEvidence()
	if len(e.GetTransitions()) != 4 || len(e.GetStandings()) != len(w.history("paris")) || len(e.GetPolicyRevisions()) != 2 ||
		e.GetDecision().GetPolicyRevision() != "1" || e.GetDecision().GetStanding().GetMembership().GetInternational() != 3 ||
		e.GetExplanation().GetStanding().GetEtag() != w.standing("paris").GetEtag() {
		t.Errorf("the evidence is %v", e)
	}
	if got, want := e.GetTransitions()[1].GetNoteDigest(), noteDigest("well done"); got != want || e.GetTransitions()[2].GetNoteDigest() != "" {
		t.Errorf("the note's digest is %s, want %s", got, want)
	}
	if again := export(); again.String() != file.String() {
		t.Error("the same evidence is two files")
	}
	e.GetStandings()[1].GetStanding().GetMembership().Total++
	if digest, err := canonicalDigest(e); err != nil || digest == file.GetDigest() {
		t.Errorf("a changed figure has the digest of the unchanged: %v", err)
	}
	_, err = w.charter.ExportCharter(t.Context(), &internationalv1.ExportCharterRequest{Name: "charters/nowhere"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("a charter that is not there: %v", err)
	}
}

func TestCanonicalJSON(t *testing.T) {
	t.Parallel()
	// RFC 8785, 3.2.2: what is escaped, and how; and the order of names.
	value := map[string]any{"b": "\u20ac$\u000f\nA'\u0042\"\\\\\"/\u2028<&\u007f", "a": []any{true, nil, map[string]any{}}}
	want := `{"a":[true,null,{}],"b":"€$\u000f\nA'B\"\\\\\"/` + "\u2028<&\u007f" + `"}`
	if got := string(appendCanonical(nil, value)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
