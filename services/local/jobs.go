package local

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// keepAnswers is how long answers to repeated requests are kept.
const keepAnswers = 24 * time.Hour

// cleanUpArgs is the job that closes old plans and forgets what is past its time.
type cleanUpArgs struct{}

// Kind names the job in the queue.
func (cleanUpArgs) Kind() string { return "clean_up" }

type cleanUpWorker struct {
	river.WorkerDefaults[cleanUpArgs]
	service *Service
}

// Work does what is due.
func (w *cleanUpWorker) Work(ctx context.Context, _ *river.Job[cleanUpArgs]) error {
	return w.service.cleanUp(ctx)
}

// cleanUp writes down which plans expired, removes what interrupted uploads left, and forgets the changes of old syncs
// and old answers.
func (s *Service) cleanUp(ctx context.Context) error {
	q, now := db.New(s.pool), s.clock.Now()
	if _, err := q.ExpireSyncs(ctx, now); err != nil {
		return fmt.Errorf("expire plans: %w", err)
	}
	// Twice the limit: an upload's rows carry the time of its beginning, and may be planned just now.
	if _, err := q.DropStaleSyncRows(ctx, now.Add(-2*s.config.UploadLimit)); err != nil {
		return fmt.Errorf("drop left-overs of uploads: %w", err)
	}
	if _, err := q.PruneSyncChanges(ctx, now.Add(-s.config.KeepChanges)); err != nil {
		return fmt.Errorf("prune changes: %w", err)
	}
	if _, err := q.FailLostSyncs(ctx, now.Add(-s.config.PlanLimit-time.Minute)); err != nil {
		return fmt.Errorf("give up plans that were lost: %w", err)
	}
	if _, err := q.PruneListChanges(ctx, now.Add(-s.config.KeepLog)); err != nil {
		return fmt.Errorf("prune the lists' changes: %w", err)
	}
	if _, err := q.PruneRuns(ctx, now.Add(-keepRuns)); err != nil {
		return fmt.Errorf("prune the connectors' runs: %w", err)
	}
	if _, err := q.PruneMails(ctx, now.Add(-keepMails)); err != nil {
		return fmt.Errorf("prune mails: %w", err)
	}
	_, err := rpc.PruneIdempotency(ctx, s.pool, now.Add(-keepAnswers))
	return err
}

func (s *Service) newRiver() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &cleanUpWorker{service: s})
	river.AddWorker(workers, &dueWorker{service: s})
	river.AddWorker(workers, &runWorker{service: s})
	return river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger:  s.log,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}, connectorQueue: {MaxWorkers: 2}},
		Workers: workers,
		// A run whose process was killed is taken up again when it could not be running any more.
		RescueStuckJobsAfter: runLimit + time.Minute,
		PeriodicJobs: []*river.PeriodicJob{
			periodically(s.config.CleanEvery, cleanUpArgs{}),
			periodically(s.config.Connectors.Tick, dueArgs{}),
		},
	})
}

// periodically runs a job once an interval: uniqueness over all time would let a job that is done, or one that was
// running when its process was killed, stop all that should follow. River takes no shorter period than a second.
func periodically(every time.Duration, args river.JobArgs) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(every), func() (river.JobArgs, *river.InsertOpts) {
		return args, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: max(every, time.Second)}, MaxAttempts: 1}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

func (s *Service) runJobs(ctx context.Context) error {
	if err := s.river.Start(ctx); err != nil {
		return fmt.Errorf("start the jobs: %w", err)
	}
	<-s.river.Stopped()
	return nil
}
