package international

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// threshold is a draft that moves the line.
func threshold(percent int32) *internationalv1.CharterPolicy {
	return &internationalv1.CharterPolicy{ThresholdPercent: percent, Note: fmt.Sprintf("%d %% now", percent)}
}

// revise makes a revision of what is filled.
func (w *world) revise(draft *internationalv1.CharterPolicy) *internationalv1.CharterPolicy {
	w.t.Helper()
	made, err := w.charter.UpdateCharterPolicy(w.t.Context(), &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: draft})
	w.must(err)
	return made
}

func (w *world) policy() *internationalv1.CharterPolicy {
	w.t.Helper()
	policy, err := w.charter.GetCharterPolicy(w.t.Context(), &internationalv1.GetCharterPolicyRequest{})
	w.must(err)
	return policy
}

func (w *world) revisions() []*internationalv1.CharterPolicy {
	w.t.Helper()
	req := &internationalv1.ListCharterPolicyRevisionsRequest{PageSize: 2}
	var all []*internationalv1.CharterPolicy
	for {
		page, err := w.charter.ListCharterPolicyRevisions(w.t.Context(), req)
		w.must(err)
		all = append(all, page.GetRevisions()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

func TestARevisionJudgesEverybodyAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.chapter("lyon")
	before := w.standing("lyon")

	made := w.revise(threshold(80))
	if made.GetName() != "charterPolicy/revisions/2" || made.GetState() != internationalv1.CharterPolicy_IN_FORCE ||
		made.GetSubject() != "international_staff " || made.GetThresholdPercent() != 80 || made.GetGraceDays() != 90 {
		t.Errorf("made %v", made)
	}
	if s := w.standing("paris"); s.GetEligible() || s.GetPolicyRevision() != "2" || s.GetMargin() != -1 {
		t.Errorf("the standing is %v", s)
	}
	if s := w.standing("lyon"); s.GetPolicyRevision() != "2" || s.GetEtag() == before.GetEtag() {
		t.Errorf("the standing that stayed as it was is %v", s)
	}
	if state := w.state("paris"); state != internationalv1.Charter_AT_RISK {
		t.Errorf("the charter is %s", state)
	}
	charter, err := w.charter.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris"})
	w.must(err)
	if charter.GetDecision().GetPolicyRevision() != "1" {
		t.Errorf("the decision is by revision %s", charter.GetDecision().GetPolicyRevision())
	}
	last := w.history("paris")
	if record := last[len(last)-1]; record.GetCause() != internationalv1.StandingRecord_POLICY || record.GetStanding().GetPolicyRevision() != "2" {
		t.Errorf("the history ends with %v", record)
	}
	w.audit()

	w.revise(threshold(60))
	if state := w.state("paris"); state != internationalv1.Charter_CHARTERED {
		t.Errorf("the charter is %s after the line came back", state)
	}
	w.audit()
}

func TestARevisionIsScheduledAndWithdrawn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	august, october := noon.AddDate(0, 2, 0), noon.AddDate(0, 4, 0)
	second := threshold(80)
	second.EffectiveTime = timestamppb.New(august)
	w.revise(second)
	third := &internationalv1.CharterPolicy{GraceDays: 30, Note: "less patience", EffectiveTime: timestamppb.New(october)}
	if made := w.revise(third); made.GetThresholdPercent() != 80 || made.GetState() != internationalv1.CharterPolicy_SCHEDULED {
		t.Errorf("a revision is laid over the last one: %v", made)
	}
	if p := w.policy(); p.GetRevision() != "1" || !w.standing("paris").GetEligible() {
		t.Errorf("what is scheduled is in force: %v", p)
	}

	_, err := w.charter.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: threshold(50)})
	refuses(t, err, errorv1.Reason_REASON_POLICY_SCHEDULED)
	if got := rpc.InfoOf(err).GetMetadata()["revision"]; got != "3" {
		t.Errorf("the metadata names revision %s", got)
	}
	withdraw := func(revision string) error {
		_, err := w.charter.WithdrawCharterPolicyRevision(t.Context(), &internationalv1.WithdrawCharterPolicyRevisionRequest{
			Name: "charterPolicy/revisions/" + revision, Etag: w.policy().GetEtag(),
		})
		return err
	}
	refuses(t, withdraw("2"), errorv1.Reason_REASON_POLICY_SCHEDULED)
	refuses(t, withdraw("1"), errorv1.Reason_REASON_POLICY_REVISION_STATE)
	refuses(t, withdraw("9"), errorv1.Reason_REASON_NOT_FOUND)
	w.must(withdraw("3"))
	refuses(t, withdraw("3"), errorv1.Reason_REASON_POLICY_REVISION_STATE)

	w.clock.Set(august.Add(-1))
	if n, err := w.service.enforcePolicy(t.Context()); n != 0 || err != nil {
		t.Fatalf("too early %d standings were judged anew: %v", n, err)
	}
	w.clock.Set(august)
	if n, err := w.service.enforcePolicy(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d standings were judged anew: %v", n, err)
	}
	if s := w.standing("paris"); s.GetEligible() || s.GetPolicyRevision() != "2" {
		t.Errorf("the standing is %v", s)
	}
	w.clock.Set(october)
	if p := w.policy(); p.GetRevision() != "2" || p.GetGraceDays() != 90 {
		t.Errorf("what was withdrawn is in force: %v", p)
	}
	states := ""
	for _, one := range w.revisions() {
		states += one.GetState().String() + " "
	}
	if states != "SUPERSEDED IN_FORCE WITHDRAWN " {
		t.Errorf("the revisions are %s", states)
	}
	w.exec("UPDATE policies SET effective_time = $1 WHERE revision = 1", noon) // the database was made by the machine's clock
	for at, want := range map[time.Time]string{noon: "1", august.Add(-1000): "1", august: "2"} {
		then, err := w.charter.GetCharterPolicy(t.Context(), &internationalv1.GetCharterPolicyRequest{AsOfTime: timestamppb.New(at)})
		if err != nil || then.GetRevision() != want {
			t.Errorf("as of %s revision %s was in force, want %s: %v", at, then.GetRevision(), want, err)
		}
	}
	_, err = w.charter.GetCharterPolicy(t.Context(), &internationalv1.GetCharterPolicyRequest{AsOfTime: timestamppb.New(noon.Add(-1000))})
	refuses(t, err, errorv1.Reason_REASON_BEFORE_RECORDS)
	_, err = w.charter.GetCharterPolicy(t.Context(), &internationalv1.GetCharterPolicyRequest{AsOfTime: timestamppb.New(october.Add(1000))})
	refuses(t, err, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
	w.audit()
}

func TestWhatMovesAfterTheTimeIsJudgedByTheRevisionAlready(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	w.chapter("lyon")
	draft := threshold(90)
	draft.EffectiveTime = timestamppb.New(noon.Add(time.Hour))
	w.revise(draft)
	w.clock.Advance(time.Hour)
	w.member("d", "d@example.org")
	if s := w.standing("paris"); s.GetPolicyRevision() != "2" || s.GetEligible() {
		t.Errorf("four of five under 90 %%: %v", s)
	}
	if s := w.standing("lyon"); s.GetPolicyRevision() != "1" {
		t.Errorf("nothing moved and it is judged by %s", s.GetPolicyRevision())
	}
	w.audit()
	if n, err := w.service.enforcePolicy(t.Context()); n != 1 || err != nil {
		t.Errorf("%d were left to judge: %v", n, err)
	}
}

func TestWhatWasJudgedByAWithdrawnRevisionIsJudgedAnew(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	draft := threshold(90)
	draft.EffectiveTime = timestamppb.New(noon.Add(time.Minute))
	made := w.revise(draft)
	w.clock.Advance(time.Minute) // the clock of this process is ahead of the one that withdraws
	w.must(w.list("paris", "members", []string{"f@example.org"}, nil))
	w.clock.Advance(-time.Second)
	_, err := w.charter.WithdrawCharterPolicyRevision(t.Context(), &internationalv1.WithdrawCharterPolicyRevisionRequest{Name: made.GetName()})
	w.must(err)
	if s := w.standing("paris"); s.GetPolicyRevision() != "2" {
		t.Fatalf("the standing is judged by %s", s.GetPolicyRevision())
	}
	if n, err := w.service.enforcePolicy(t.Context()); n != 1 || err != nil {
		t.Errorf("%d were judged anew: %v", n, err)
	}
	w.must(w.list("paris", "members", nil, []string{"f@example.org"}))
	if s := w.standing("paris"); s.GetPolicyRevision() != "1" || !s.GetEligible() {
		t.Errorf("the standing is %v", s)
	}
	w.audit()
}

func TestARevisionIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	past := threshold(70)
	past.EffectiveTime = timestamppb.New(noon.Add(-time.Second))
	stale := threshold(70)
	stale.Etag = "1-1"
	for _, test := range []struct {
		name  string
		draft *internationalv1.CharterPolicy
		mask  []string
		want  errorv1.Reason
		field string
	}{
		{"WithoutNote", &internationalv1.CharterPolicy{ThresholdPercent: 70}, nil, errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.note"},
		{"InThePast", past, nil, errorv1.Reason_REASON_EFFECTIVE_TIME_INVALID, "charterPolicy.effectiveTime"},
		{"WithAStaleEtag", stale, nil, errorv1.Reason_REASON_ETAG_MISMATCH, ""},
		{"WhenItSaysNothingNew", threshold(60), nil, errorv1.Reason_REASON_POLICY_UNCHANGED, "charterPolicy"},
		{"WithAThresholdOfZero", threshold(0), []string{"threshold_percent"}, errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.thresholdPercent"},
		{"WithAThresholdOver100", threshold(101), nil, errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.thresholdPercent"},
		{"WithoutABasis", threshold(70), []string{"allowed_bases"}, errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.allowedBases"},
		{"WithNegativeDays", &internationalv1.CharterPolicy{GraceDays: -1, Note: "n"}, nil, errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.graceDays"},
		{"WhenTheRevisionIsToBeChanged", threshold(70), []string{"revision"}, errorv1.Reason_REASON_INVALID_FIELD, "updateMask"},
		{"WhenOnlyTheNoteIsNamed", threshold(70), []string{"note"}, errorv1.Reason_REASON_POLICY_UNCHANGED, "charterPolicy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := w.charter.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{
				CharterPolicy: test.draft, UpdateMask: &fieldmaskpb.FieldMask{Paths: test.mask},
			})
			refuses(t, err, test.want)
			if _, named := rpc.ViolationsOf(err)[test.field]; test.field != "" && !named {
				t.Errorf("the error names %v, want %s", rpc.ViolationsOf(err), test.field)
			}
		})
	}
	for _, role := range []struct {
		role  authz.Role
		scope string
	}{{authz.Auditor, ""}, {authz.Coordinator, "regions/world"}, {authz.ChapterAdmin, "chapters/paris"}} {
		charters := internationalv1.NewCharterServiceClient(w.dial(role.role, role.scope))
		_, err := charters.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: threshold(70)})
		refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	}
}

func TestARevisionIsRehearsedAndMadeOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	req := &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: threshold(75), ValidateOnly: true}
	rehearsed, err := w.charter.UpdateCharterPolicy(t.Context(), req)
	if err != nil || rehearsed.GetThresholdPercent() != 75 || len(w.revisions()) != 1 {
		t.Fatalf("rehearsed %v: %v", rehearsed, err)
	}
	req.ValidateOnly, req.RequestId = false, "once"
	first, err := w.charter.UpdateCharterPolicy(t.Context(), req)
	w.must(err)
	second, err := w.charter.UpdateCharterPolicy(t.Context(), req)
	w.must(err)
	if !proto.Equal(first, second) || len(w.revisions()) != 2 {
		t.Errorf("the same request made %v and %v", first, second)
	}
	// A whole draft sets zeros, too.
	whole := w.policy()
	whole.GraceDays, whole.Note, whole.EffectiveTime = 0, "none", nil
	made, err := w.charter.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{
		CharterPolicy: whole, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"*"}},
	})
	if err != nil || made.GetGraceDays() != 0 || made.GetThresholdPercent() != 75 {
		t.Errorf("the whole draft made %v: %v", made, err)
	}
}

// TestEnforcingGoesOnWhereItWasKilled judges one batch, as a process does that is killed after it, and then the rest.
func TestEnforcingGoesOnWhereItWasKilled(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.PolicyBatch = 2 })
	for i := range 5 {
		w.chapter(fmt.Sprintf("c%d", i))
	}
	draft := threshold(70)
	draft.EffectiveTime = timestamppb.New(noon.Add(time.Hour))
	w.revise(draft)
	w.clock.Advance(time.Hour)
	w.inTx(func(tx pgx.Tx) error {
		n, err := w.service.enforceSome(t.Context(), tx)
		if n != 2 {
			t.Errorf("the first batch judged %d", n)
		}
		return err
	})
	w.audit()
	if n, err := w.service.enforcePolicy(t.Context()); n != 3 || err != nil {
		t.Errorf("%d were left: %v", n, err)
	}
	for i := range 5 {
		chapter := fmt.Sprintf("c%d", i)
		if records := w.history(chapter); len(records) != 2 || w.standing(chapter).GetPolicyRevision() != "2" {
			t.Errorf("%s has %d records and is judged by %s", chapter, len(records), w.standing(chapter).GetPolicyRevision())
		}
	}
	if n, err := w.service.enforcePolicy(t.Context()); n != 0 || err != nil {
		t.Errorf("enforcing again judged %d: %v", n, err)
	}
	events := w.policyEvents()
	if len(events) != 2 || events[0].GetInForce().GetRevision() != "1" || len(events[0].GetScheduled()) != 1 ||
		events[1].GetInForce().GetThresholdPercent() != 70 || len(events[1].GetScheduled()) != 0 {
		t.Errorf("the other tiers hear %v", events)
	}
}

// policyEvents reads what the outbox says of the policy.
func (w *world) policyEvents() []*eventv1.PolicyChanged {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "SELECT data FROM outbox WHERE aggregate = 'charterPolicy' ORDER BY number")
	w.must(err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	w.must(err)
	events := make([]*eventv1.PolicyChanged, len(all))
	for i, data := range all {
		events[i] = &eventv1.PolicyChanged{}
		w.must(proto.Unmarshal(data, events[i]))
	}
	return events
}

func TestThePolicyCanBeAskedForAsASnapshot(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.revise(threshold(70))
	w.inTx(func(tx pgx.Tx) error {
		owner := w.service.policyOwner()
		versions, err := owner.Versions(t.Context(), tx, "", 10)
		w.must(err)
		var sent []proto.Message
		version, found, err := owner.Snapshot(t.Context(), tx, "charterPolicy", func(m proto.Message) error {
			sent = append(sent, m)
			return nil
		})
		w.must(err)
		if len(versions) != 1 || !found || versions[0].Version != version || version.Number != 3 || len(sent) != 1 {
			t.Errorf("versions %v, snapshot %v: %v", versions, version, sent)
		}
		rest, err := owner.Versions(t.Context(), tx, "charterPolicy", 10)
		if len(rest) > 0 || err != nil {
			t.Errorf("behind the only one there are %v: %v", rest, err)
		}
		_, found, err = owner.Snapshot(t.Context(), tx, "charterPolicy/other", nil)
		if found || err != nil {
			t.Errorf("another policy is found: %v", err)
		}
		return w.service.beginEpoch(t.Context(), tx, version.Epoch+1)
	})
	events := w.policyEvents()
	if last := events[len(events)-1]; last.GetInForce().GetRevision() != "2" {
		t.Errorf("the new epoch begins with %v", last)
	}
	if got, want := w.policy().GetEtag()[len(w.policy().GetEtag())-2:], "-1"; got != want {
		t.Errorf("the etag ends with %s", got)
	}
}

// TestRevisionsAndWritersLoseNobody lets the policy change while both sides write: in the end every standing is judged by
// the last revision, and its history has each of its versions once.
func TestRevisionsAndWritersLoseNobody(t *testing.T) {
	t.Parallel()
	const chapters, members, rounds = 3, 12, 10
	w := setup(t, func(c *Config) { c.PolicyBatch = 2 })
	for c := range chapters {
		w.chapter(fmt.Sprintf("c%d", c))
	}
	var work sync.WaitGroup
	failures := make(chan error, 64)
	run := func(seed uint64, step func(*rand.Rand, int) error) {
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, 9))
			for round := range rounds {
				if err := step(random, round); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	for c := range chapters {
		holds := map[string]bool{}
		run(uint64(c), func(random *rand.Rand, _ int) error {
			return w.churnList(random, fmt.Sprintf("c%d", c), "members", members, holds)
		})
	}
	for m := range members {
		run(uint64(100+m), func(random *rand.Rand, round int) error { return w.churnMember(random, m, round) })
	}
	run(1000, func(_ *rand.Rand, round int) error {
		_, err := w.charter.UpdateCharterPolicy(t.Context(), &internationalv1.UpdateCharterPolicyRequest{CharterPolicy: threshold(int32(30 + round))})
		return err
	})
	work.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	w.audit()
	for c := range chapters {
		chapter := fmt.Sprintf("c%d", c)
		standing := w.standing(chapter)
		if standing.GetPolicyRevision() != fmt.Sprint(rounds+1) {
			t.Errorf("%s is judged by revision %s", chapter, standing.GetPolicyRevision())
		}
		records := w.history(chapter)
		for i, record := range records {
			if _, number := splitEtag(t, record.GetStanding().GetEtag()); number != int64(i+1) {
				t.Fatalf("record %d of %s is version %d", i, chapter, number)
			}
		}
		if last := records[len(records)-1].GetStanding(); last.GetEtag() != standing.GetEtag() {
			t.Errorf("the history of %s ends with %s, and it is at %s", chapter, last.GetEtag(), standing.GetEtag())
		}
	}
}

func splitEtag(t *testing.T, etag string) (epoch, number int64) {
	t.Helper()
	if _, err := fmt.Sscanf(etag, "%d-%d", &epoch, &number); err != nil {
		t.Fatalf("%q is no etag", etag)
	}
	return epoch, number
}
