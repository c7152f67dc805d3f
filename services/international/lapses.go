package international

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// lapseArgs is the job that ends the terms that ran out.
type lapseArgs struct{}

// Kind names the job in the queue.
func (lapseArgs) Kind() string { return "lapse_terms" }

type lapseWorker struct {
	river.WorkerDefaults[lapseArgs]
	service *Service
}

// Work lapses everybody whose term has ended by now.
func (w *lapseWorker) Work(ctx context.Context, _ *river.Job[lapseArgs]) error {
	lapsed, err := w.service.lapse(ctx)
	if lapsed > 0 {
		w.service.log.InfoContext(ctx, "terms lapsed", "members", lapsed)
	}
	return err
}

// Timeout lets the last night of a year lapse everybody in one run.
func (w *lapseWorker) Timeout(*river.Job[lapseArgs]) time.Duration { return 30 * time.Minute }

// pruneArgs is the hourly job that forgets what nobody asks for any more.
type pruneArgs struct{}

// Kind names the job in the queue.
func (pruneArgs) Kind() string { return "prune" }

type pruneWorker struct {
	river.WorkerDefaults[pruneArgs]
	service *Service
}

// How long answers to repeated requests, and the record of previews, are kept.
const (
	keepAnswers  = 24 * time.Hour
	keepPreviews = 90 * 24 * time.Hour
)

// Work deletes what is past its time.
func (w *pruneWorker) Work(ctx context.Context, _ *river.Job[pruneArgs]) error {
	now := w.service.clock.Now()
	if _, err := rpc.PruneIdempotency(ctx, w.service.pool, now.Add(-keepAnswers)); err != nil {
		return err
	}
	q := db.New(w.service.pool)
	return errors.Join(
		q.RetireNotices(ctx, now.Add(-answerNotices)), q.PruneListDays(ctx, dateOf(now.AddDate(-1, 0, 0))), q.RecountOfficers(ctx, now),
		q.PrunePreviewAudit(ctx, now.Add(-keepPreviews)), q.PruneRegisterMails(ctx, now.Add(-keepMails)), w.service.pruneImports(ctx, now),
	)
}

func (s *Service) newRiver() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &lapseWorker{service: s})
	river.AddWorker(workers, &pruneWorker{service: s})
	river.AddWorker(workers, &remindWorker{service: s})
	river.AddWorker(workers, &noticeWorker{service: s})
	river.AddWorker(workers, &deadlineWorker{service: s})
	river.AddWorker(workers, &enforceWorker{service: s})
	river.AddWorker(workers, &compactWorker{service: s})
	return river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger:  s.log,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}},
		Workers: workers,
		PeriodicJobs: []*river.PeriodicJob{
			river.NewPeriodicJob(river.PeriodicInterval(s.config.LapseEvery),
				func() (river.JobArgs, *river.InsertOpts) { return lapseArgs{}, onceIn(s.config.LapseEvery) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(time.Hour),
				func() (river.JobArgs, *river.InsertOpts) { return pruneArgs{}, onceIn(time.Hour) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(s.config.RemindEvery),
				func() (river.JobArgs, *river.InsertOpts) { return remindArgs{}, onceIn(s.config.RemindEvery) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(s.config.NoticeEvery),
				func() (river.JobArgs, *river.InsertOpts) { return noticeArgs{}, onceIn(s.config.NoticeEvery) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(s.config.DeadlinesEvery),
				func() (river.JobArgs, *river.InsertOpts) { return deadlineArgs{}, onceIn(s.config.DeadlinesEvery) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(s.config.PolicyEvery),
				func() (river.JobArgs, *river.InsertOpts) { return enforceArgs{}, onceIn(s.config.PolicyEvery) }, &river.PeriodicJobOpts{RunOnStart: true}),
			river.NewPeriodicJob(river.PeriodicInterval(day),
				func() (river.JobArgs, *river.InsertOpts) { return compactArgs{}, onceIn(day) }, &river.PeriodicJobOpts{RunOnStart: true}),
		},
	})
}

// onceIn lets replicas and restarts add one job an interval, and no more. Uniqueness over all time would let a job that
// is done, or one that was running when its process was killed, stop all that should follow.
func onceIn(interval time.Duration) *river.InsertOpts {
	// River takes no shorter period than a second.
	return &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: max(interval, time.Second)}, MaxAttempts: 1}
}

func (s *Service) runJobs(ctx context.Context) error {
	if err := s.river.Start(ctx); err != nil {
		return fmt.Errorf("start the jobs: %w", err)
	}
	<-s.river.Stopped()
	return nil
}

// lapseAim is how long one transaction of lapses should take: whoever changes one of the members, chapters or lists that it
// touches waits for it.
const lapseAim = 100 * time.Millisecond

// lapse ends all terms that ran out, those of members and of organisations, and returns how many.
func (s *Service) lapse(ctx context.Context) (int, error) {
	members, err := s.lapseBatches(ctx, s.lapseMembers)
	if err != nil {
		return members, err
	}
	organizations, err := s.lapseBatches(ctx, s.lapseOrganizations)
	return members + organizations, err
}

// lapseBatches lapses until nobody is left, as many in one transaction as lapseAim has room for.
func (s *Service) lapseBatches(ctx context.Context, batch func(ctx context.Context, tx pgx.Tx, size int32) (int, error)) (int, error) {
	size := min(s.config.LapseBatch, 500)
	for total := 0; ; {
		start := time.Now() //nolint:forbidigo // how long it takes, not what time it is
		n, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) { return batch(ctx, tx, size) })
		total += n
		if err != nil || n == 0 {
			return total, err
		}
		size = nextLapseBatch(size, s.config.LapseBatch, time.Since(start))
		s.publisher.Wake()
	}
}

// nextLapseBatch nears the size that takes lapseAim, by at most a factor of two at once. Below a hundred it is not the size that
// takes the time.
func nextLapseBatch(size, most int32, took time.Duration) int32 {
	near := float64(size) * float64(lapseAim) / float64(max(took, time.Millisecond))
	near = max(min(near, 2*float64(size)), float64(size)/2, 100)
	return min(int32(near), most)
}

func (s *Service) lapseMembers(ctx context.Context, tx pgx.Tx, size int32) (int, error) {
	now := s.clock.Now()
	rows, err := db.New(tx).LapsingMembers(ctx, db.LapsingMembersParams{Now: now, Size: size})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	members := make([]int64, 0, len(rows))
	var turning turns
	for _, row := range rows {
		members = append(members, row.MemberNo)
		if row.Counted {
			turning.lose = append(turning.lose, row.MemberNo)
		}
	}
	var write pipeline
	write.exec(db.EndTerms, lapsed, now, members)
	deed{verb: verbLapsed, subject: system}.record(&write, now, members...)
	return len(members), s.changeStates(ctx, tx, turning, now, &write)
}
