package demo

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// startLimit is for a whole platform on a busy machine.
const startLimit = 2 * time.Minute

// platformWorld is an empty platform and connections to it.
type platformWorld struct {
	conns Conns
	staff Conns // with a staff member's token
}

func startPlatform(t *testing.T) platformWorld {
	t.Helper()
	dir, err := postgres.TempDir() // PostgreSQL cannot enter t.TempDir when the tests run as root
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	running, err := platform.Start(ctx, platform.Options{Data: dir})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		must(t, running.Stop(ctx))
		must(t, postgres.Remove(dir))
	})
	signer, err := running.Keys.Signer()
	must(t, err)
	dial := func(tokens rpc.TokenSource) (c Conns) {
		international, err := running.Dial(bus.International, tokens)
		must(t, err)
		regional, err := running.Dial(bus.Regional, tokens)
		must(t, err)
		local, err := running.Dial(bus.Local, tokens)
		must(t, err)
		return Conns{International: international, Regional: regional, Local: local}
	}
	w := platformWorld{
		conns: dial(nil),
		staff: dial(rpc.MintedToken(signer, platform.Person(authz.InternationalStaff, "", "the test"), clock.System{})),
	}
	w.conns.Mint = func(role authz.Role, scope string) (string, error) { return running.Mint(role, scope, time.Hour) }
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLoad interrupts a load, goes on with it, and compares what the services answer with the plan.
func TestLoad(t *testing.T) {
	t.Parallel()
	w := startPlatform(t)
	w.loadHalf(t)
	began := time.Now()
	summary, err := Load(t.Context(), w.conns, Options{Now: began})
	must(t, err)
	t.Logf("the second half took %v", time.Since(began))
	if !summary.New {
		t.Error("an interrupted load counts as complete")
	}
	p := planned(t)
	for _, c := range p.chapters {
		w.compareStanding(t, c)
		w.compareOfficers(t, c)
	}
	w.compareRegister(t, p)
	w.compareCharters(t, summary)
	w.compareTree(t, p)
	audit, err := w.standings().AuditStandings(t.Context(), &internationalv1.AuditStandingsRequest{})
	must(t, err)
	if audit.GetStandings() != int32(len(p.chapters)) || audit.GetDifferenceCount() != 0 {
		t.Errorf("the audit finds %v", audit)
	}
	w.tellStory(t, summary)
	again, err := Load(t.Context(), w.conns, Options{Now: time.Now(), Progress: func(int, int, string) { t.Error("loaded again") }})
	must(t, err)
	if again.New {
		t.Error("a complete load is not recognised")
	}
}

// loadHalf ends a load among the members.
func (w platformWorld) loadHalf(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Load(ctx, w.conns, Options{Now: time.Now(), Progress: func(done, total int, _ string) {
		if done > total/2 {
			cancel()
		}
	}})
	if status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted load answers %v", err)
	}
}

func (w platformWorld) standings() internationalv1.StandingServiceClient {
	return internationalv1.NewStandingServiceClient(w.staff.International)
}

func (w platformWorld) charters() internationalv1.CharterServiceClient {
	return internationalv1.NewCharterServiceClient(w.staff.International)
}

func (w platformWorld) compareStanding(t *testing.T, c chapter) {
	t.Helper()
	s, err := w.standings().GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: chapterName(c.slug) + "/standing"})
	must(t, err)
	membership := Figures{int(s.GetMembership().GetTotal()), int(s.GetMembership().GetInternational())}
	mailing := Figures{int(s.GetMailing().GetTotal()), int(s.GetMailing().GetInternational())}
	if membership != c.membership || mailing != c.mailing || s.GetEligible() != (tenths(c) >= 600) {
		t.Errorf("%s stands at %+v and %+v, eligible: %t; want %+v and %+v", c.slug, membership, mailing, s.GetEligible(), c.membership, c.mailing)
	}
	if c.slug == applied && (s.GetGap().GetConvert() != 3 || s.GetGap().GetRecruit() != newcomers) {
		t.Errorf("%s lacks %v", c.slug, s.GetGap())
	}
}

func (w platformWorld) compareOfficers(t *testing.T, c chapter) {
	t.Helper()
	answer, err := localv1.NewOfficerServiceClient(w.staff.Local).ListOfficers(t.Context(), &localv1.ListOfficersRequest{Parent: chapterName(c.slug)})
	must(t, err)
	if n := len(answer.GetOfficers()); n < 2 || n > 3 || n != len(c.officers) {
		t.Fatalf("%s has %d officers, want %d", c.slug, n, len(c.officers))
	}
	for i, officer := range answer.GetOfficers() {
		if officer.GetDisplayName() != c.officers[i].displayName || officer.GetState() != localv1.Officer_CURRENT || officer.GetRole() != roles[i] {
			t.Errorf("%s has %v", c.slug, officer)
		}
	}
}

func (w platformWorld) compareRegister(t *testing.T, p plan) {
	t.Helper()
	want := map[string]internationalv1.Member_State{}
	for _, m := range p.members {
		want["members/"+m.id] = internationalv1.Member_ACTIVE
		switch {
		case m.resigned:
			want["members/"+m.id] = internationalv1.Member_RESIGNED
		case m.termDays == 0:
			want["members/"+m.id] = internationalv1.Member_LAPSED
		}
	}
	req := &internationalv1.ListMembersRequest{PageSize: 1000}
	for first := true; first || req.GetPageToken() != ""; first = false {
		page, err := internationalv1.NewMemberServiceClient(w.staff.International).ListMembers(t.Context(), req)
		must(t, err)
		for _, m := range page.GetMembers() {
			if want[m.GetName()] != m.GetState() {
				t.Errorf("%s is %s, want %s", m.GetName(), m.GetState(), want[m.GetName()])
			}
			delete(want, m.GetName())
		}
		req.PageToken = page.GetNextPageToken()
	}
	if len(want) > 0 {
		t.Errorf("%d members are missing", len(want))
	}
}

func (w platformWorld) compareCharters(t *testing.T, s Summary) {
	t.Helper()
	answer, err := w.charters().ListCharters(t.Context(), &internationalv1.ListChartersRequest{})
	must(t, err)
	states := map[string]internationalv1.Charter_State{}
	for _, c := range answer.GetCharters() {
		states[c.GetChapter()] = c.GetState()
	}
	if len(states) != 2 || states[s.Chartered] != internationalv1.Charter_CHARTERED || states[s.Applied] != internationalv1.Charter_APPLIED {
		t.Errorf("charters: %v", states)
	}
}

// tellStory does what a first-time visitor is invited to do.
func (w platformWorld) tellStory(t *testing.T, s Summary) {
	t.Helper()
	l := newLoader(planned(t), w.conns, Options{})
	admin, err := l.asAdmin(t.Context(), applied)
	must(t, err)
	stream, err := l.syncs.CreateSync(admin)
	must(t, err)
	must(t, stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: &localv1.CreateSyncHeader{
		Parent: s.Story.List, Mode: localv1.Sync_MERGE, Source: "story", Apply: true, ContentType: "text/csv",
	}}}))
	must(t, stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: []byte(s.Story.CSV)}}))
	sync, err := stream.CloseAndRecv()
	must(t, err)
	if sync.GetCounts().GetAdd() != newcomers {
		t.Errorf("the story's file: %v", sync.GetCounts())
	}
	testkit.Eventually(t, startLimit, func() (bool, string) {
		standing, err := w.standings().GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: s.Applied + "/standing"})
		must(t, err)
		return standing.GetEligible(), standing.String()
	})
	_, err = internationalv1.NewMemberServiceClient(w.staff.International).ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: s.Story.Resigns})
	must(t, err)
	charter, err := w.charters().GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/" + chartered})
	must(t, err)
	if charter.GetState() != internationalv1.Charter_AT_RISK {
		t.Errorf("after a resignation the charter is %s", charter.GetState())
	}
}

func (w platformWorld) compareTree(t *testing.T, p plan) {
	t.Helper()
	testkit.Eventually(t, startLimit, func() (bool, string) { // the regional service follows by events
		tree, err := regionalv1.NewRegionServiceClient(w.staff.Regional).GetRegionTree(t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/" + world})
		must(t, err)
		return int(tree.GetTotalChapters()) == len(p.chapters) && len(tree.GetChildren()) == 6 && tree.GetCharteredChapters() == 1, tree.String()
	})
}
