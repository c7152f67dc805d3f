package international

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// day is a day of UTC, by which history is kept and shown.
const day = 24 * time.Hour

// keepEveryChange is how long each change of a standing is kept; of older days the last one is.
const keepEveryChange = 365 * day

// asOf is the time that is asked about.
func (s *Service) asOf(given *timestamppb.Timestamp) (time.Time, error) {
	at := given.AsTime()
	if given.CheckValid() != nil || at.After(s.clock.Now()) {
		return at, rpc.Invalid(errorv1.Reason_REASON_AS_OF_TIME_INVALID, "asOfTime", "must not lie in the future")
	}
	return at, nil
}

func beforeRecords(what string, earliest time.Time) error {
	return rpc.OutOfRange(errorv1.Reason_REASON_BEFORE_RECORDS, "the records of %s begin at %s", what, earliest.Format(time.RFC3339Nano)).
		With("earliest", earliest.Format(time.RFC3339Nano))
}

// standingAsOf is a standing as it was: by the figures of then and the policy revision of then.
func (s *Service) standingAsOf(ctx context.Context, chapter string, given *timestamppb.Timestamp) (*internationalv1.Standing, error) {
	at, err := s.asOf(given)
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.Standing, error) {
		q := db.New(tx)
		live, err := q.ReadStanding(ctx, chapter)
		if err != nil {
			return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
		}
		row, err := q.StandingAsOf(ctx, db.StandingAsOfParams{ChapterNo: live.Standing.ChapterNo, At: at})
		if errors.Is(err, pgx.ErrNoRows) {
			begin, err := q.StandingRecordsBegin(ctx, live.Standing.ChapterNo)
			if err != nil {
				return nil, fmt.Errorf("find where the records of %s begin: %w", chapter, err)
			}
			return nil, beforeRecords("chapters/"+chapter+"/standing", begin)
		}
		if err != nil {
			return nil, fmt.Errorf("read the standing of %s at %s: %w", chapter, at, err)
		}
		standing := viewStanding(chapter, standingThen(row.StandingHistory), row.Policy)
		standing.BasedOn = &internationalv1.StandingBasedOn{RegisterPosition: fmt.Sprint(row.StandingHistory.RegisterPosition)}
		return standing, nil
	})
}

// standingThen is a row of the history as the standing that it was.
func standingThen(h db.StandingHistory) db.Standing {
	return db.Standing{
		ChapterNo: h.ChapterNo, MembershipTotal: h.MembershipTotal, MembershipInternational: h.MembershipInternational,
		MailingTotal: h.MailingTotal, MailingInternational: h.MailingInternational, Eligible: h.Eligible,
		PolicyRevision: h.PolicyRevision, RegisterPosition: h.RegisterPosition, Epoch: h.Epoch, Version: h.Version, UpdateTime: h.ChangeTime,
	}
}

// historyCursor is the place behind a row of a standing's history.
type historyCursor struct {
	time           time.Time
	epoch, version int64
}

func (c historyCursor) String() string {
	return fmt.Sprintf("%d-%d-%d", c.time.UnixMicro(), c.epoch, c.version)
}

// parseHistoryCursor reads what String wrote; the beginning when there is nothing.
func parseHistoryCursor(text string) historyCursor {
	var micros int64
	var c historyCursor
	_, _ = fmt.Sscanf(text, "%d-%d-%d", &micros, &c.epoch, &c.version) // sealed by us
	c.time = time.UnixMicro(micros)
	return c
}

// ListStandingHistory lists what a standing was, every change or the last of each day.
func (s *Service) ListStandingHistory(ctx context.Context, req *internationalv1.ListStandingHistoryRequest) (*internationalv1.ListStandingHistoryResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	start, end := time.Unix(0, 0), s.clock.Now().AddDate(100, 0, 0)
	if req.GetStartTime() != nil {
		start = req.GetStartTime().AsTime()
	}
	if req.GetEndTime() != nil {
		end = req.GetEndTime().AsTime()
	}
	if !start.Before(end) {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "endTime", "must be later than startTime")
	}
	chapter := idOf(req.GetParent())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListStandingHistoryResponse, error) {
		q := db.New(tx)
		row, err := q.ReadChapter(ctx, chapter)
		if err != nil {
			return nil, err
		}
		after := parseHistoryCursor(page.after)
		args := db.StandingHistoryAfterParams{
			ChapterNo: row.ChapterNo, AfterTime: after.time, AfterEpoch: after.epoch, AfterVersion: after.version,
			StartTime: start, EndTime: end, Size: page.size + 1,
		}
		rows, err := standingHistory(ctx, q, args, req.GetInterval() == internationalv1.ListStandingHistoryRequest_DAY)
		if err != nil {
			return nil, fmt.Errorf("read the history of %s: %w", req.GetParent(), err)
		}
		rows, next := cutPage(page, rows, func(last db.StandingHistoryAfterRow) string {
			h := last.StandingHistory
			return historyCursor{h.ChangeTime, h.Epoch, h.Version}.String()
		})
		policies, err := policiesByRevision(ctx, q)
		if err != nil {
			return nil, err
		}
		answer := &internationalv1.ListStandingHistoryResponse{NextPageToken: next}
		for _, row := range rows {
			answer.History = append(answer.History, viewStandingRecord(chapter, row, policies))
		}
		return answer, nil
	})
}

func standingHistory(ctx context.Context, q *db.Queries, args db.StandingHistoryAfterParams, daily bool) ([]db.StandingHistoryAfterRow, error) {
	if !daily {
		return q.StandingHistoryAfter(ctx, args)
	}
	days, err := q.StandingDaysAfter(ctx, db.StandingDaysAfterParams(args))
	rows := make([]db.StandingHistoryAfterRow, 0, len(days))
	for _, row := range days {
		rows = append(rows, db.StandingHistoryAfterRow(row))
	}
	return rows, err
}

// policiesByRevision are all revisions: a history names few of them, again and again.
func policiesByRevision(ctx context.Context, q *db.Queries) (map[int32]db.Policy, error) {
	rows, err := q.Policies(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	policies := make(map[int32]db.Policy, len(rows))
	for _, row := range rows {
		policies[row.Revision] = row
	}
	return policies, nil
}

func viewStandingRecord(chapter string, row db.StandingHistoryAfterRow, policies map[int32]db.Policy) *internationalv1.StandingRecord {
	h := row.StandingHistory
	record := &internationalv1.StandingRecord{
		Standing:         viewStanding(chapter, standingThen(h), policies[h.PolicyRevision]),
		Cause:            internationalv1.StandingRecord_Cause(h.Cause),
		RegisterPosition: fmt.Sprint(h.RegisterPosition),
	}
	if h.ListEpoch != nil && h.ListVersion != nil {
		record.List = &internationalv1.ListVersion{
			List: "chapters/" + chapter + "/lists/" + row.ListID, Version: etag(*h.ListEpoch, *h.ListVersion),
		}
	}
	return record
}

// trend is a chapter's figures at the end of each of so many days, oldest first, today's being those of now. Days before
// the records begin are left out.
func (s *Service) trend(ctx context.Context, q *db.Queries, chapterNo int64, days int) ([]*internationalv1.StandingDay, error) {
	last := s.clock.Now().Truncate(day).Add(day)
	rows, err := q.StandingTrend(ctx, db.StandingTrendParams{
		ChapterNo: chapterNo, FirstEnd: last.Add(-time.Duration(days-1) * day), LastEnd: last,
	})
	if err != nil {
		return nil, fmt.Errorf("read the trend: %w", err)
	}
	policies, err := policiesByRevision(ctx, q)
	if err != nil {
		return nil, err
	}
	trend := make([]*internationalv1.StandingDay, 0, len(rows))
	for _, row := range rows {
		trend = append(trend, viewStandingDay(row.Ends.Add(-day), standingThen(row.StandingHistory), policies[row.StandingHistory.PolicyRevision]))
	}
	return trend, nil
}

// viewStandingDay is a standing at the end of the day that date lies in.
func viewStandingDay(date time.Time, row db.Standing, policy db.Policy) *internationalv1.StandingDay {
	v := judgeRow(policy, row)
	return &internationalv1.StandingDay{
		Date:           date.UTC().Format(time.DateOnly),
		Membership:     &internationalv1.Figures{Total: row.MembershipTotal, International: row.MembershipInternational},
		Mailing:        &internationalv1.Figures{Total: row.MailingTotal, International: row.MailingInternational},
		Eligible:       v.eligible,
		Margin:         v.margin,
		PolicyRevision: revision(policy),
	}
}

// charterAsOf is a charter as its last transition by then left it.
func (s *Service) charterAsOf(ctx context.Context, live db.Charter, given *timestamppb.Timestamp) (*internationalv1.Charter, error) {
	at, err := s.asOf(given)
	if err != nil {
		return nil, err
	}
	if !live.UpdateTime.After(at) {
		return viewCharter(live)
	}
	row, err := db.New(s.pool).CharterAsOf(ctx, db.CharterAsOfParams{Chapter: live.ChapterID, At: at})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, beforeRecords("charters/"+live.ChapterID, live.CreateTime)
	}
	if err != nil {
		return nil, fmt.Errorf("read charters/%s at %s: %w", live.ChapterID, at, err)
	}
	charter := &internationalv1.Charter{}
	if row.Charter != nil {
		if err := proto.Unmarshal(row.Charter, charter); err != nil {
			return nil, fmt.Errorf("read charters/%s at %s: %w", live.ChapterID, at, err)
		}
		return charter, nil
	}
	// A transition of before charters were kept with them says no more than this.
	return &internationalv1.Charter{
		Name: "charters/" + live.ChapterID, Chapter: "chapters/" + live.ChapterID, State: charterState(row.ToState),
		CreateTime: timestamppb.New(live.CreateTime), UpdateTime: timestamppb.New(row.CreateTime),
	}, nil
}

// compactArgs is the job that makes daily figures of what is older than a year.
type compactArgs struct{}

// Kind names the job in the queue.
func (compactArgs) Kind() string { return "compact_history" }

type compactWorker struct {
	river.WorkerDefaults[compactArgs]
	service *Service
}

// Work compacts all days that are due.
func (w *compactWorker) Work(ctx context.Context, _ *river.Job[compactArgs]) error {
	dropped, err := w.service.compactHistory(ctx)
	if dropped > 0 {
		w.service.log.InfoContext(ctx, "history of standings compacted", "rows", dropped)
	}
	return err
}

// Timeout lets the first run after a long pause take all its days.
func (w *compactWorker) Timeout(*river.Job[compactArgs]) time.Duration { return 30 * time.Minute }

// compactHistory leaves the last change of each day that is older than a year, a day in each transaction, and returns how
// many rows that dropped. It goes on where a run before it was broken off.
func (s *Service) compactHistory(ctx context.Context) (int64, error) {
	before := s.clock.Now().Add(-keepEveryChange).Truncate(day)
	for total := int64(0); ; {
		dropped, done := int64(0), false
		_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (_ struct{}, err error) {
			dropped, done, err = compactDay(ctx, db.New(tx), before)
			return struct{}{}, err
		})
		if err != nil {
			return total, fmt.Errorf("compact the history of standings: %w", err)
		}
		if total += dropped; done {
			return total, nil
		}
	}
}

func compactDay(ctx context.Context, q *db.Queries, before time.Time) (dropped int64, done bool, err error) {
	until, err := q.CompactedUntil(ctx)
	if err != nil {
		return 0, false, err
	}
	first, err := q.FirstToCompact(ctx, db.FirstToCompactParams{Since: until, Before: before})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	begins := first.UTC().Truncate(day)
	dropped, err = q.CompactDay(ctx, db.CompactDayParams{Begins: begins, Ends: begins.Add(day)})
	if err != nil {
		return 0, false, err
	}
	return dropped, false, q.SetCompactedUntil(ctx, begins.Add(day))
}
