package international

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// ListReviewQueue lists what waits for staff, the longest waiting first.
func (s *Service) ListReviewQueue(ctx context.Context, req *internationalv1.ListReviewQueueRequest) (*internationalv1.ListReviewQueueResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListReviewQueueResponse, error) {
		q := db.New(tx)
		now := s.clock.Now()
		policy, err := q.PolicyInForce(ctx, now)
		if err != nil {
			return nil, fmt.Errorf("read the policy: %w", err)
		}
		args := queueFilter(req, policy, now)
		when, chapter, _ := strings.Cut(page.after, " ")
		args.AfterTime, _ = time.Parse(time.RFC3339Nano, when) // sealed by us; on the first page the first of all times
		args.AfterChapter, args.Size = chapter, page.size+1
		if !args.AnyRegion {
			if args.Regions, err = q.RegionsBelow(ctx, idOf(req.GetRegion())); err != nil {
				return nil, err
			}
		}
		rows, err := q.ReviewQueue(ctx, args)
		if err != nil {
			return nil, fmt.Errorf("read the queue: %w", err)
		}
		rows, next := cutPage(page, rows, func(last db.ReviewQueueRow) string {
			return last.Charter.WaitingTime.Format(time.RFC3339Nano) + " " + last.Charter.ChapterID
		})
		answer := &internationalv1.ListReviewQueueResponse{NextPageToken: next}
		answer.Charters, err = viewQueue(ctx, q, rows, policy, now)
		return answer, err
	})
}

func queueFilter(req *internationalv1.ListReviewQueueRequest, policy db.Policy, now time.Time) db.ReviewQueueParams {
	args := db.ReviewQueueParams{
		AnyRegion: req.GetRegion() == "", Before: now.AddDate(1, 0, 0), Reviewer: req.GetReviewer(), Unclaimed: req.GetUnclaimed(),
		Overdue: req.GetOverdue(), Unblocked: req.GetUnblocked(),
		LacksThreshold:  req.GetBlocker() == internationalv1.CharterRequirement_THRESHOLD,
		LacksPeople:     req.GetBlocker() == internationalv1.CharterRequirement_MINIMUM_PEOPLE,
		LacksOfficers:   req.GetBlocker() == internationalv1.CharterRequirement_MINIMUM_OFFICERS,
		LacksActivity:   req.GetBlocker() == internationalv1.CharterRequirement_ACTIVITY,
		MinimumOfficers: policy.MinimumOfficers, Activity: policy.ActivityDays > 0,
		ActiveSince: demands{inForce: policy, now: now}.activeSince(),
	}
	if req.GetState() != internationalv1.Charter_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	if req.GetTask() != internationalv1.Charter_TASK_UNSPECIFIED {
		args.Task = req.GetTask().String()
	}
	if req.GetWaitingBeforeTime() != nil {
		args.Before = req.GetWaitingBeforeTime().AsTime()
	}
	return args
}

func viewQueue(ctx context.Context, q *db.Queries, rows []db.ReviewQueueRow, policy db.Policy, now time.Time) ([]*internationalv1.QueuedCharter, error) {
	numbers := make([]int64, 0, len(rows))
	for _, row := range rows {
		numbers = append(numbers, row.Charter.ChapterNo)
	}
	changed, err := activity(ctx, q, numbers)
	if err != nil {
		return nil, err
	}
	queue := make([]*internationalv1.QueuedCharter, 0, len(rows))
	for _, row := range rows {
		charter, err := viewCharter(row.Charter)
		if err != nil {
			return nil, err
		}
		queue = append(queue, &internationalv1.QueuedCharter{
			Charter: charter, ChapterDisplayName: row.DisplayName, Region: regionName(row.Region),
			Standing: viewStanding(row.Charter.ChapterID, row.Standing, row.Policy),
			Blockers: demands{
				judged: row.Policy, inForce: policy, standing: row.Standing, officers: row.Officers,
				changed: changed[row.Charter.ChapterNo], now: now,
			}.blockers(),
		})
	}
	return queue, nil
}

// activity is when something last changed on the lists of chapters.
func activity(ctx context.Context, q *db.Queries, chapterNos []int64) (map[int64]*time.Time, error) {
	rows, err := q.ActivityOf(ctx, chapterNos)
	if err != nil {
		return nil, fmt.Errorf("read when lists changed: %w", err)
	}
	changed := make(map[int64]*time.Time, len(rows))
	for _, row := range rows {
		changed[row.ChapterNo] = &row.ChangeTime
	}
	return changed, nil
}

// regionName is empty for a chapter of which only a list has been heard of.
func regionName(id string) string {
	if id == "" {
		return ""
	}
	return "regions/" + id
}
