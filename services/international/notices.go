package international

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// What is told, and never twice.
//
// A notice has a key: the chapter, the kind, and the occasion. The id is made of it, so that a notice that is decided on
// again, by a replica, by a job that is run again or by a database that was restored from a backup, is the same one to all
// who hear of it. It is written, with its event, in the transaction of what it tells of; only crossings of the line wait.

const (
	// noticeBatch is how many are issued in one transaction.
	noticeBatch = 500
	// answerNotices is how long this tier answers for a notice that somebody missed.
	answerNotices = 90 * 24 * time.Hour
)

// noticeSpace is the name space of the ids (RFC 9562, version 5).
var noticeSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("chapterhouse/notices"))

// told is a notice to be issued. The facts that it tells are read when it is.
type told struct {
	chapterNo      int64
	kind, occasion string
	// remindsOf is the deadline that a reminder is about; others tell what their kind has to do with.
	remindsOf *time.Time
	note      string
	reasons   []string
}

// tells is the notice that follows a verb of a charter's history. What follows the line tells of itself by crossings.
var tells = map[string]string{
	verbApply:           notice.Applied,
	verbClaim:           notice.InReview,
	verbRequestChanges:  notice.ChangesRequested,
	verbResubmit:        notice.Resubmitted,
	verbApprove:         notice.Approved,
	verbDecline:         notice.Declined,
	verbWithdraw:        notice.Withdrawn,
	verbSuspend:         notice.Suspended,
	verbReinstate:       notice.Reinstated,
	verbRevoke:          notice.Revoked,
	verbSurrender:       notice.Surrendered,
	verbRenew:           notice.Renewed,
	verbProtect:         notice.Protected,
	verbUnprotect:       notice.Unprotected,
	verbProtectionEnded: notice.Unprotected,
	verbGraceEnded:      notice.GraceEnded,
	verbOverrideEnded:   notice.AtRisk,
	verbReviewOverdue:   notice.ReviewOverdue,
	verbChangesOverdue:  notice.ChangesOverdue,
	verbRenewalOverdue:  notice.RenewalOverdue,
}

// tellsOf is the notice that follows a step; empty for none.
func (c *charterCase) tellsOf(taken step) string {
	switch taken.verb {
	case verbClaim: // and not when it is prolonged
		if taken.from == inReview {
			return ""
		}
	case verbApprove: // and not when a second approval is missing
		if taken.to != chartered {
			return ""
		}
	case verbOverrideEnded: // and not when the chapter is eligible by now
		if taken.to != atRisk {
			return ""
		}
	case verbRenew: // and not when the chapter asks for it
		if c.charter.RenewalRequestTime != nil {
			return ""
		}
	case verbGraceEnded:
		if taken.to == charterSuspended {
			return notice.Suspended
		}
	}
	return tells[taken.verb]
}

// tellSteps issues the notices of what has happened to charters, and forgets the steps. Their occasion is the charter's
// version, which nothing else has led to.
func tellSteps(ctx context.Context, tx pgx.Tx, cases []*charterCase) error {
	var all []told
	for _, c := range cases {
		for _, taken := range c.steps {
			if kind := c.tellsOf(taken); kind != "" {
				all = append(all, told{
					chapterNo: c.charter.ChapterNo, kind: kind, occasion: etag(c.charter.Epoch, c.charter.Version), note: taken.note, reasons: taken.reasons,
				})
			}
		}
		c.steps = nil
	}
	if len(all) == 0 {
		return nil
	}
	return cases[0].service.issue(ctx, tx, cases[0].now, all...)
}

// deadline is what a notice of a kind names: the deadline that began or was changed with what it tells of.
func (t told) deadline(row db.NoticeFactsRow) *time.Time {
	if t.remindsOf != nil {
		return t.remindsOf
	}
	switch t.kind {
	case notice.Applied, notice.InReview, notice.Resubmitted, notice.ReviewOverdue, notice.ChangesOverdue:
		return row.ReviewDueTime
	case notice.ChangesRequested:
		return row.ChangesDueTime
	case notice.Approved, notice.Renewed, notice.RenewalOverdue:
		return row.RenewalDueTime
	case notice.Protected:
		return row.ProtectUntilTime
	case notice.EligibilityLost, notice.AtRisk, notice.GraceEnded, notice.Reinstated, notice.Unprotected:
		return row.CureByTime
	}
	return nil
}

// noteCrossings notes who crossed the line, for a notice to follow when it lasts.
func (s *Service) noteCrossings(ctx context.Context, tx pgx.Tx, all []moved) error {
	now := s.clock.Now()
	args := db.CrossLineParams{Now: now, Due: now.Add(s.config.NoticeSettle)}
	for _, m := range all {
		if m.before.Eligible != m.after.Eligible {
			args.ChapterNos, args.Eligibles = append(args.ChapterNos, m.after.ChapterNo), append(args.Eligibles, m.after.Eligible)
		}
	}
	if len(args.ChapterNos) == 0 {
		return nil
	}
	if err := db.New(tx).CrossLine(ctx, args); err != nil {
		return fmt.Errorf("note who crossed the line: %w", err)
	}
	return nil
}

// issue writes notices that were not issued yet, and tells of them.
func (s *Service) issue(ctx context.Context, tx pgx.Tx, now time.Time, given ...told) error {
	q := db.New(tx)
	numbers := make([]int64, 0, len(given))
	for _, one := range given {
		numbers = append(numbers, one.chapterNo)
	}
	rows, err := q.NoticeFacts(ctx, numbers)
	if err != nil {
		return fmt.Errorf("read what notices say: %w", err)
	}
	facts := map[int64]db.NoticeFactsRow{}
	for _, row := range rows {
		facts[row.Standing.ChapterNo] = row
	}
	args := db.InsertNoticesParams{Now: now}
	messages := map[uuid.UUID]*eventv1.NoticeIssued{}
	for _, one := range given {
		row, known := facts[one.chapterNo]
		if !known {
			return fmt.Errorf("chapter %d has no standing", one.chapterNo)
		}
		id, message := one.message(row, now)
		content, err := proto.Marshal(message)
		if err != nil {
			return err
		}
		args.Ids, args.ChapterNos, args.Kinds = append(args.Ids, id), append(args.ChapterNos, one.chapterNo), append(args.Kinds, one.kind)
		args.Occasions, args.Contents = append(args.Occasions, one.occasion), append(args.Contents, content)
		messages[id] = message
	}
	issued, err := q.InsertNotices(ctx, args)
	if err != nil {
		return fmt.Errorf("write %d notices: %w", len(given), err)
	}
	events := make([]bus.Event, 0, len(issued))
	for _, row := range issued {
		events = append(events, bus.Event{
			Subject:   "notice." + strings.TrimPrefix(messages[row.ID].GetChapter(), "chapters/") + "." + row.ID.String() + ".issued",
			Aggregate: messages[row.ID].GetNotice(),
			Version:   bus.Version{Epoch: row.Epoch, Number: 1},
			Data:      messages[row.ID],
		})
	}
	return bus.Append(ctx, tx, events...)
}

// message is the notice as it is told, with its id.
func (t told) message(row db.NoticeFactsRow, now time.Time) (uuid.UUID, *eventv1.NoticeIssued) {
	id := uuid.NewSHA1(noticeSpace, []byte(row.ChapterID+"\n"+t.kind+"\n"+t.occasion))
	message := &eventv1.NoticeIssued{
		Notice: "notices/" + id.String(), Chapter: "chapters/" + row.ChapterID, ChapterDisplayName: row.DisplayName, Kind: t.kind,
		CharterState: row.CharterState, Standing: standingEvent(row.ChapterID, row.Standing, row.Policy),
		ThresholdPercent: row.Policy.ThresholdPercent, DeadlineTime: optionalTime(t.deadline(row)),
		ReapplyTime: optionalTime(row.ReapplyTime), Note: t.note, ReasonCodes: t.reasons, IssueTime: timestamppb.New(now),
	}
	if t.remindsOf != nil {
		message.DaysLeft = days(t.remindsOf.Sub(now))
	}
	return id, message
}

// noticeArgs is the job that tells who crossed the line, and reminds of deadlines.
type noticeArgs struct{}

// Kind names the job in the queue.
func (noticeArgs) Kind() string { return "issue_notices" }

type noticeWorker struct {
	river.WorkerDefaults[noticeArgs]
	service *Service
}

// Work issues what is due.
func (w *noticeWorker) Work(ctx context.Context, _ *river.Job[noticeArgs]) error {
	return w.service.issueDue(ctx)
}

// Timeout lets a year's end tell all whom it moved.
func (w *noticeWorker) Timeout(*river.Job[noticeArgs]) time.Duration { return 30 * time.Minute }

// issueDue tells who crossed the line and stayed there, and reminds of deadlines.
func (s *Service) issueDue(ctx context.Context) error {
	for _, work := range []func(context.Context, pgx.Tx) (int, error){s.tellCrossings, s.remindOfDeadlines} {
		for n := noticeBatch; n == noticeBatch; {
			var err error
			n, err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) { return work(ctx, tx) })
			if err != nil {
				return err
			}
			s.publisher.Wake()
		}
	}
	return nil
}

// tellCrossings tells of a batch of chapters that crossed the line a while ago.
func (s *Service) tellCrossings(ctx context.Context, tx pgx.Tx) (int, error) {
	now := s.clock.Now()
	rows, err := db.New(tx).TakeCrossings(ctx, db.TakeCrossingsParams{Now: now, Size: noticeBatch})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	all := make([]told, 0, len(rows))
	for _, row := range rows {
		one := told{chapterNo: row.ChapterNo, kind: notice.EligibilityGained, occasion: strconv.FormatInt(row.CrossTime.UnixMicro(), 10)}
		if !row.Eligible {
			one.kind = notice.EligibilityLost
		}
		all = append(all, one)
	}
	return len(rows), s.issue(ctx, tx, now, all...)
}

// remindOfDeadlines tells of a batch of deadlines that come near.
func (s *Service) remindOfDeadlines(ctx context.Context, tx pgx.Tx) (int, error) {
	now := s.clock.Now()
	args := db.DueRemindersParams{Now: now, Horizon: now, Size: noticeBatch}
	for _, kind := range []string{notice.CureBy, notice.ReviewDue, notice.ChangesDue, notice.RenewalDue, notice.ProtectionEnd} {
		for _, before := range notice.Marks(kind) {
			args.Kinds, args.Befores = append(args.Kinds, kind), append(args.Befores, int32(before/time.Second))
			if farthest := now.Add(before); farthest.After(args.Horizon) {
				args.Horizon = farthest
			}
		}
	}
	rows, err := db.New(tx).DueReminders(ctx, args)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	all := make([]told, 0, len(rows))
	for _, row := range rows {
		all = append(all, told{chapterNo: row.ChapterNo, kind: row.Kind, occasion: row.Occasion, remindsOf: &row.DueTime})
	}
	return len(rows), s.issue(ctx, tx, now, all...)
}

// days rounds up: what is due in a few hours is due in a day.
func days(left time.Duration) int32 {
	return int32((left + day - 1) / day)
}

// noticeOwner answers for the notices of the last 90 days. Their versions do not begin anew when this database was restored
// from a backup: what a notice says never changes, and one that is issued again is the same one.
func noticeOwner() bus.Owner {
	return bus.Owner{Kind: "notice", Versions: noticeVersions, Snapshot: noticeSnapshot}
}

func noticeVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	last, _ := uuid.Parse(strings.TrimPrefix(after, "notices/")) // zero for the first page
	rows, err := db.New(tx).NoticeVersionsAfter(ctx, db.NoticeVersionsAfterParams{After: last, Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: "notices/" + row.ID.String(), Version: bus.Version{Epoch: row.Epoch, Number: 1},
		})
	}
	return versions, err
}

func noticeSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	id, err := uuid.Parse(strings.TrimPrefix(aggregate, "notices/"))
	if err != nil {
		return bus.Version{}, false, nil //nolint:nilerr // there is no such notice
	}
	row, err := db.New(tx).LiveNotice(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	message := &eventv1.NoticeIssued{}
	if err := proto.Unmarshal(row.Content, message); err != nil {
		return bus.Version{}, false, fmt.Errorf("read %s: %w", aggregate, err)
	}
	return bus.Version{Epoch: row.Epoch, Number: 1}, true, send(message)
}
