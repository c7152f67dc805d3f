package international

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// history reads all of a standing's history, in small pages.
func (w *world) history(chapter string, change ...func(*internationalv1.ListStandingHistoryRequest)) []*internationalv1.StandingRecord {
	w.t.Helper()
	req := &internationalv1.ListStandingHistoryRequest{Parent: "chapters/" + chapter + "/standing", PageSize: 3}
	for _, one := range change {
		one(req)
	}
	var all []*internationalv1.StandingRecord
	for {
		page, err := w.stands.ListStandingHistory(w.t.Context(), req)
		w.must(err)
		all = append(all, page.GetHistory()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

func daily(req *internationalv1.ListStandingHistoryRequest) {
	req.Interval = internationalv1.ListStandingHistoryRequest_DAY
}

func short(record *internationalv1.StandingRecord) string {
	s := record.GetStanding()
	return fmt.Sprintf("%s %d/%d %d/%d %t", record.GetCause(), s.GetMembership().GetInternational(), s.GetMembership().GetTotal(),
		s.GetMailing().GetInternational(), s.GetMailing().GetTotal(), s.GetEligible())
}

func TestHistoryKeepsEachChangeAndWhatMovedIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org"}, nil))
	ada := w.member("ada", "ada@example.org")
	w.member("bob", "bob@example.org")
	_, err := w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada.GetName()})
	w.must(err)

	want := []string{
		"RECORDS_BEGIN 0/0 0/0 false", "LIST 0/2 0/0 false", "REGISTER 1/2 0/0 false", "REGISTER 2/2 0/0 true", "REGISTER 1/2 0/0 false",
	}
	got := w.history("paris")
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d: %v", len(got), len(want), got)
	}
	for i, record := range got {
		if short(record) != want[i] {
			t.Errorf("record %d is %s, want %s", i, short(record), want[i])
		}
	}
	if list := got[1].GetList(); list.GetList() != "chapters/paris/lists/members" || list.GetVersion() == "" {
		t.Errorf("the list that moved it is %v", list)
	}
	if got[2].GetList() != nil || got[3].GetRegisterPosition() <= got[2].GetRegisterPosition() {
		t.Errorf("the register's positions are %s and %s", got[2].GetRegisterPosition(), got[3].GetRegisterPosition())
	}
	if live := w.standing("paris"); got[4].GetStanding().GetEtag() != live.GetEtag() || !proto.Equal(got[4].GetStanding().GetGap(), live.GetGap()) {
		t.Errorf("the last record is %v, and the standing %v", got[4].GetStanding(), live)
	}
}

// TestAnyTimeCanBeAskedFor changes a chapter at random times, writes down each answer of then, and asks afterwards.
func TestAnyTimeCanBeAskedFor(t *testing.T) {
	t.Parallel()
	const members, rounds = 8, 60
	w := setup(t)
	random := rand.New(rand.NewPCG(11, 5))
	begin := w.clock.Now()
	w.chapter("paris")
	for m := range members {
		w.member(fmt.Sprintf("m%d", m), fmt.Sprintf("m%d@example.org", m))
	}
	type seen struct {
		at       time.Time
		standing *internationalv1.Standing
	}
	var all []seen
	last := map[string]string{}
	holds := map[string]map[string]bool{"members": {}, "announce": {}}
	for range rounds {
		w.clock.Advance(time.Duration(1+random.IntN(20)) * time.Hour)
		list := []string{"members", "announce"}[random.IntN(2)]
		one := fmt.Sprintf("m%d@example.org", random.IntN(members+4))
		if holds[list][one] {
			w.must(w.list("paris", list, nil, []string{one}))
		} else {
			w.must(w.list("paris", list, []string{one}, nil))
		}
		holds[list][one] = !holds[list][one]
		standing := w.standing("paris")
		all = append(all, seen{w.clock.Now(), standing})
		last[w.clock.Now().Format(time.DateOnly)] = standing.GetEtag()
	}
	for i, then := range all {
		next := w.clock.Now()
		if i+1 < len(all) {
			next = all[i+1].at.Add(-time.Microsecond)
		}
		for _, at := range []time.Time{then.at, next} {
			got, err := w.stands.GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: "chapters/paris/standing", AsOfTime: timestamppb.New(at)})
			w.must(err)
			want, _ := proto.Clone(then.standing).(*internationalv1.Standing)
			want.BasedOn, want.ForecastLossTime = got.GetBasedOn(), nil
			if !proto.Equal(got, want) {
				t.Fatalf("as of %s it was %v, and now is said to have been %v", at, want, got)
			}
		}
	}
	for _, record := range w.history("paris", daily) {
		date := record.GetStanding().GetUpdateTime().AsTime().Format(time.DateOnly)
		if record.GetCause() != internationalv1.StandingRecord_RECORDS_BEGIN && record.GetStanding().GetEtag() != last[date] {
			t.Errorf("the last of %s is %s, want %s", date, record.GetStanding().GetEtag(), last[date])
		}
		delete(last, date)
	}
	if len(last) > 0 {
		t.Errorf("no daily record of %v", last)
	}

	_, err := w.stands.GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: "chapters/paris/standing", AsOfTime: timestamppb.New(begin.Add(-1))})
	refuses(t, err, errorv1.Reason_REASON_BEFORE_RECORDS)
	_, err = w.stands.GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: "chapters/paris/standing", AsOfTime: timestamppb.New(w.clock.Now().Add(time.Second))})
	refuses(t, err, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
	_, err = w.stands.ListStandingHistory(t.Context(), &internationalv1.ListStandingHistoryRequest{
		Parent: "chapters/paris/standing", StartTime: timestamppb.New(noon), EndTime: timestamppb.New(noon),
	})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	window := w.history("paris", func(req *internationalv1.ListStandingHistoryRequest) {
		req.StartTime, req.EndTime = timestamppb.New(all[3].at), timestamppb.New(all[7].at)
	})
	if len(window) != 4 || window[0].GetStanding().GetEtag() != all[3].standing.GetEtag() {
		t.Errorf("the window holds %d records", len(window))
	}
}

func TestHistoryIsCompactedToDaysAfterAYear(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, chapter := range []string{"paris", "lyon"} {
		w.chapter(chapter)
	}
	flip := func(chapter string, on bool) {
		t.Helper()
		if on {
			w.must(w.list(chapter, "members", []string{"bob@example.org"}, nil))
		} else {
			w.must(w.list(chapter, "members", nil, []string{"bob@example.org"}))
		}
	}
	for day := range 5 {
		w.clock.Set(noon.AddDate(0, 0, day))
		for n := range 4 {
			w.clock.Advance(time.Minute)
			flip("paris", n%2 == 0)
			if day%2 == 0 {
				flip("lyon", n%2 == 0)
			}
		}
	}
	before := map[string][]*internationalv1.StandingRecord{"paris": w.history("paris"), "lyon": w.history("lyon")}
	days := map[string][]*internationalv1.StandingRecord{"paris": w.history("paris", daily), "lyon": w.history("lyon", daily)}

	// Three days are older than a year; the fourth is not over.
	w.clock.Set(noon.AddDate(1, 0, 3))
	dropped, err := w.service.compactHistory(t.Context())
	w.must(err)
	if dropped != 4+3+3+4+3 { // both chapters' first days begin with a record more
		t.Errorf("%d rows were dropped", dropped)
	}
	for chapter, all := range before {
		after := w.history(chapter)
		if len(w.history(chapter, daily)) != len(days[chapter]) {
			t.Errorf("%s has %d days, want %d", chapter, len(w.history(chapter, daily)), len(days[chapter]))
		}
		for i, record := range w.history(chapter, daily) {
			if !proto.Equal(record, days[chapter][i]) {
				t.Errorf("the last of a day is %v, and was %v", record, days[chapter][i])
			}
		}
		kept := map[string]bool{}
		for _, record := range after {
			kept[record.GetStanding().GetEtag()] = true
		}
		for _, record := range all {
			if !record.GetStanding().GetUpdateTime().AsTime().Before(noon.AddDate(0, 0, 3).Truncate(day)) && !kept[record.GetStanding().GetEtag()] {
				t.Errorf("%s of %s was dropped within the year", record.GetStanding().GetEtag(), record.GetStanding().GetUpdateTime().AsTime())
			}
		}
	}
	again, err := w.service.compactHistory(t.Context())
	if again != 0 || err != nil {
		t.Errorf("compacting again dropped %d rows: %v", again, err)
	}
}

func TestTrendCarriesFiguresOverQuietDays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.clock.Advance(2 * day)
	w.must(w.list("paris", "members", []string{"bob@example.org"}, nil))
	w.clock.Advance(3 * day)
	w.must(w.list("paris", "members", []string{"cyd@example.org"}, nil))
	q := db.New(w.pool)
	chapter, err := q.ReadChapter(t.Context(), "paris")
	w.must(err)
	trend, err := w.service.trend(t.Context(), q, chapter.ChapterNo, 90)
	w.must(err)
	var got []string
	for _, day := range trend {
		got = append(got, fmt.Sprintf("%s %d", day.GetDate(), day.GetMembership().GetTotal()))
	}
	if want := "[2026-06-01 0 2026-06-02 0 2026-06-03 1 2026-06-04 1 2026-06-05 1 2026-06-06 2]"; fmt.Sprint(got) != want {
		t.Errorf("the trend is %v, want %s", got, want)
	}
	trend, err = w.service.trend(context.Background(), q, chapter.ChapterNo, 2)
	if err != nil || len(trend) != 2 || trend[1].GetDate() != "2026-06-06" {
		t.Errorf("the trend of two days is %v: %v", trend, err)
	}
}

func TestACharterCanBeReadAsItWas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	admin := internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/paris"))
	w.clock.Advance(time.Hour)
	applied, err := admin.CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris", Note: "Please."}})
	w.must(err)
	w.clock.Advance(time.Hour)
	claimed, err := w.charter.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
	w.must(err)
	w.clock.Advance(time.Hour)
	_, err = admin.WithdrawCharter(t.Context(), &internationalv1.WithdrawCharterRequest{Name: "charters/paris"})
	w.must(err)
	for at, want := range map[time.Duration]*internationalv1.Charter{
		time.Hour: applied, 2*time.Hour - 1000: applied, 2 * time.Hour: claimed, 3*time.Hour - 1000: claimed,
	} {
		got, err := admin.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris", AsOfTime: timestamppb.New(noon.Add(at))})
		w.must(err)
		if !proto.Equal(got, want) {
			t.Errorf("after %s it was %v, and is said to have been %v", at, want, got)
		}
	}
	_, err = admin.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris", AsOfTime: timestamppb.New(noon)})
	refuses(t, err, errorv1.Reason_REASON_BEFORE_RECORDS)
	_, err = admin.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris", AsOfTime: timestamppb.New(noon.AddDate(0, 0, 1))})
	refuses(t, err, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
}
