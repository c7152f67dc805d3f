package international

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	if _, named := rpc.ViolationsOf(err)[field]; !named {
		t.Errorf("the error names %v, want %s", rpc.ViolationsOf(err), field)
	}
}

func (w *world) forecast(chapter string) *internationalv1.StandingForecast {
	w.t.Helper()
	forecast, err := w.stands.ForecastStanding(w.t.Context(), &internationalv1.ForecastStandingRequest{Name: "chapters/" + chapter + "/standing"})
	w.must(err)
	return forecast
}

// renewUntil lets a membership end at a time.
func (w *world) renewUntil(id string, end time.Time) {
	w.t.Helper()
	_, err := w.members.RenewMember(w.t.Context(), &internationalv1.RenewMemberRequest{Name: "members/" + id, TermEndTime: timestamppb.New(end)})
	w.must(err)
}

// memberUntil enters a member whose term ends at a time.
func (w *world) memberUntil(id string, end time.Time) {
	w.t.Helper()
	_, err := w.members.CreateMember(w.t.Context(), &internationalv1.CreateMemberRequest{MemberId: id, Member: &internationalv1.Member{
		DisplayName: id, TermEndTime: timestamppb.New(end),
		Addresses: []*internationalv1.Address{{Address: id + "@example.org", Verified: true}},
	}})
	w.must(err)
}

func TestForecastSaysWhoHasToRenew(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	ends := []time.Time{noon.AddDate(0, 0, 10), noon.AddDate(0, 0, 20), noon.AddDate(0, 0, 20).Add(time.Hour), noon.AddDate(1, 0, 0)}
	for i, end := range ends {
		w.memberUntil(fmt.Sprintf("m%d", i), end)
	}
	w.must(w.list("paris", "members", []string{"m0@example.org", "m1@example.org", "m2@example.org", "m3@example.org", "bob@example.org"}, nil))
	if s := w.standing("paris"); !s.GetEligible() || s.GetMargin() != 1 || !s.GetForecastLossTime().AsTime().Equal(ends[1]) {
		t.Errorf("four of five, of whom the second ends %s: %v", ends[1], s)
	}
	days := w.forecast("paris").GetDays()
	if len(days) != 2 {
		t.Fatalf("the days are %v", days)
	}
	first, second := days[0], days[1]
	if first.GetDate() != "2026-06-11" || first.GetEndingMembership() != 1 || !first.GetAfter().GetEligible() || first.RenewAtLeast != nil {
		t.Errorf("the first day is %v", first)
	}
	if second.GetDate() != "2026-06-21" || second.GetEndingMembership() != 2 || second.GetAfter().GetEligible() ||
		second.GetRenewAtLeast() != 2 || second.GetRenewBasis() != internationalv1.Basis_MEMBERSHIP {
		t.Errorf("the second day is %v", second)
	}
	w.renewUntil("m1", noon.AddDate(2, 0, 0))
	w.renewUntil("m2", noon.AddDate(2, 0, 0))
	if loss := w.standing("paris").GetForecastLossTime().AsTime(); !loss.Equal(ends[3]) {
		t.Errorf("after two have renewed it is lost at %s", loss)
	}
	w.renewUntil("m3", noon.AddDate(2, 0, 0))
	if loss := w.standing("paris").GetForecastLossTime().AsTime(); !loss.Equal(noon.AddDate(2, 0, 0)) {
		t.Errorf("after three have renewed it is lost at %s", loss)
	}
}

func TestForecastReckonsWithScheduledRevisions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	draft := threshold(70)
	draft.EffectiveTime = timestamppb.New(noon.AddDate(0, 1, 0))
	made := w.revise(draft)
	if loss := w.standing("paris").GetForecastLossTime().AsTime(); !loss.Equal(noon.AddDate(0, 1, 0)) {
		t.Errorf("it is lost at %s", loss)
	}
	day := w.forecast("paris").GetDays()[0]
	if day.GetAfter().GetPolicyRevision() != "2" || day.GetEndingMembership() != 0 || day.RenewAtLeast != nil {
		t.Errorf("the day is %v: no renewal helps where none has ended", day)
	}
	_, err := w.charter.WithdrawCharterPolicyRevision(t.Context(), &internationalv1.WithdrawCharterPolicyRevisionRequest{Name: made.GetName()})
	w.must(err)
	if loss := w.standing("paris").GetForecastLossTime().AsTime(); !loss.Equal(noon.AddDate(1, 0, 0)) {
		t.Errorf("after the revision was withdrawn it is lost at %s", loss)
	}
}

// TestForecastComesTrue makes a forecast of a random chapter, and then lets time pass and terms lapse, to see whether each
// day ends as it was foretold and eligibility is lost when it was.
func TestForecastComesTrue(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("Seed%d", seed), func(t *testing.T) {
			t.Parallel()
			forecastComesTrue(t, rand.New(rand.NewPCG(seed, 17)))
		})
	}
}

func forecastComesTrue(t *testing.T, random *rand.Rand) {
	const members, strangers, horizon = 14, 6, 90
	w := setup(t)
	w.chapter("paris")
	on := map[string][]string{}
	for m := range members {
		id := fmt.Sprintf("m%d", m)
		w.memberUntil(id, noon.Add(time.Duration(1+random.IntN(120*24*4))*15*time.Minute))
		for _, list := range []string{"members", "announce", "jobs"} {
			if random.IntN(3) > 0 {
				on[list] = append(on[list], id+"@example.org")
			}
		}
	}
	for n := range strangers {
		list := []string{"members", "announce"}[n%2]
		on[list] = append(on[list], fmt.Sprintf("s%d@example.org", n))
	}
	for list, addresses := range on {
		w.must(w.list("paris", list, addresses, nil))
	}
	draft := randomDraft(random)
	draft.ThresholdPercent = 20 + random.Int32N(60)
	draft.EffectiveTime = timestamppb.New(noon.Add(time.Duration(random.IntN(100*24)) * time.Hour))
	w.revise(draft)

	forecast := w.forecast("paris")
	foretold := map[string]*internationalv1.StandingDay{}
	for _, day := range forecast.GetDays() {
		foretold[day.GetDate()] = day.GetAfter()
	}
	var lost time.Time
	wasEligible := w.standing("paris").GetEligible()
	last := &internationalv1.StandingDay{}
	for date := noon.Truncate(day); date.Before(noon.AddDate(0, 0, horizon)); date = date.Add(day) {
		lost = w.liveThrough(date, lost)
		standing := w.standing("paris")
		if foretold[date.Format(time.DateOnly)] != nil {
			last = foretold[date.Format(time.DateOnly)]
			got := &internationalv1.StandingDay{
				Date: last.GetDate(), Membership: standing.GetMembership(), Mailing: standing.GetMailing(),
				Eligible: standing.GetEligible(), Margin: standing.GetMargin(), PolicyRevision: standing.GetPolicyRevision(),
			}
			if got.String() != last.String() {
				t.Fatalf("the day became %v, foretold was %v", got, last)
			}
		} else if last.GetDate() != "" && (standing.GetEligible() != last.GetEligible() || standing.GetMembership().String() != last.GetMembership().String()) {
			t.Fatalf("on %s nothing was foretold, and it is %v", date, standing)
		}
	}
	w.audit()
	var want time.Time // never within the horizon
	if loss := forecast.GetStanding().GetForecastLossTime(); loss != nil && loss.AsTime().Before(noon.AddDate(0, 0, horizon).Truncate(day)) {
		want = loss.AsTime()
	}
	if wasEligible && !lost.Equal(want) {
		t.Errorf("it was lost at %s, foretold was %s", lost, want)
	}
	if !wasEligible && forecast.GetStanding().GetForecastLossTime() != nil {
		t.Error("what is lost already is foretold to be lost")
	}
}

// liveThrough lets a day pass in quarters of an hour, at which terms lapse and revisions come into force, and returns when
// eligibility was first lost.
func (w *world) liveThrough(date, lost time.Time) time.Time {
	w.t.Helper()
	for at := date; at.Before(date.Add(day)); at = at.Add(15 * time.Minute) {
		if at.Before(noon) || !w.somethingHappens(at) {
			continue
		}
		w.clock.Set(at)
		_, err := w.service.lapse(w.t.Context())
		w.must(err)
		_, err = w.service.enforcePolicy(w.t.Context())
		w.must(err)
		if lost.IsZero() && !w.standing("paris").GetEligible() {
			lost = at
		}
	}
	w.clock.Set(date.Add(day - time.Microsecond))
	return lost
}

// somethingHappens spares the tests looking at quarters in which no term ends.
func (w *world) somethingHappens(at time.Time) bool {
	w.t.Helper()
	var is bool
	w.must(w.pool.QueryRow(w.t.Context(), `SELECT EXISTS (SELECT FROM members WHERE term_end = $1) OR EXISTS (SELECT FROM policies WHERE effective_time = $1)`, at).Scan(&is))
	return is
}
