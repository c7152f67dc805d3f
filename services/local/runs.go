package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// connectorQueue has its own workers: a tool that is slow keeps nothing else waiting.
	connectorQueue = "connectors"
	// runLimit is how long a run may take. Mailman reads a thousand people in a second.
	runLimit = 30 * time.Minute
	// dueBatch is how many connectors are begun at a time.
	dueBatch = 100
	// keepRuns is how long runs can be looked at.
	keepRuns = 90 * 24 * time.Hour
)

// The states of a run as the database has them.
var (
	runDone   = localv1.ConnectorRun_DONE.String()
	runHeld   = localv1.ConnectorRun_HELD.String()
	runFailed = localv1.ConnectorRun_FAILED.String()
)

// runArgs is the job of one run.
type runArgs struct {
	ConnectorNo int64 `json:"connector_no"`
	RunNo       int64 `json:"run_no"`
}

// Kind names the job in the queue.
func (runArgs) Kind() string { return "run_connector" }

type runWorker struct {
	river.WorkerDefaults[runArgs]
	service *Service
}

// Timeout bounds a run.
func (*runWorker) Timeout(*river.Job[runArgs]) time.Duration { return runLimit }

// Work runs a connector. What goes wrong with the other tool is the run's result, not the job's: the connector's own
// schedule tries again.
func (w *runWorker) Work(ctx context.Context, job *river.Job[runArgs]) error {
	return w.service.runConnector(ctx, job.Args)
}

// dueArgs is the job that begins the runs that are due.
type dueArgs struct{}

// Kind names the job in the queue.
func (dueArgs) Kind() string { return "begin_runs" }

type dueWorker struct {
	river.WorkerDefaults[dueArgs]
	service *Service
}

// Work begins what is due.
func (w *dueWorker) Work(ctx context.Context, _ *river.Job[dueArgs]) error {
	return w.service.beginDueRuns(ctx)
}

// beginDueRuns queues a run of each connector whose time has come.
func (s *Service) beginDueRuns(ctx context.Context) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		q, now := db.New(tx), s.clock.Now()
		due, err := q.DueConnectors(ctx, db.DueConnectorsParams{Now: now, Size: dueBatch})
		if err != nil {
			return struct{}{}, err
		}
		var next db.MoveConnectorsParams
		for _, row := range due {
			every := max(time.Duration(row.EverySeconds)*time.Second, shortestInterval)
			next.ConnectorNos, next.NextRunTimes = append(next.ConnectorNos, row.ConnectorNo), append(next.NextRunTimes, now.Add(every))
			if _, err := s.queueRun(ctx, tx, row.ConnectorNo, now); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, q.MoveConnectors(ctx, next)
	})
	if err != nil {
		return fmt.Errorf("begin the runs that are due: %w", err)
	}
	return nil
}

// queueRun queues a run unless one is under way, in which case it answers no run.
func (s *Service) queueRun(ctx context.Context, tx pgx.Tx, connectorNo int64, now time.Time) (db.ConnectorRun, error) {
	id, err := newSyncID()
	if err != nil {
		return db.ConnectorRun{}, err
	}
	run, err := db.New(tx).QueueRun(ctx, db.QueueRunParams{ID: id, ConnectorNo: connectorNo, Now: now})
	if err != nil {
		return run, ignoreNoRows(err)
	}
	_, err = s.river.InsertTx(ctx, tx, runArgs{connectorNo, run.RunNo}, &river.InsertOpts{Queue: connectorQueue})
	if err != nil {
		return run, fmt.Errorf("queue a run: %w", err)
	}
	return run, nil
}

// RunConnector queues a run.
func (s *Service) RunConnector(ctx context.Context, req *localv1.RunConnectorRequest) (*localv1.ConnectorRun, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.ConnectorRun, error) {
		row, err := findConnector(ctx, db.New(tx), req.GetName())
		if err != nil {
			return nil, err
		}
		run, err := s.queueRun(ctx, tx, row.ConnectorNo, s.clock.Now())
		if err != nil {
			return nil, err
		}
		if run.RunNo == 0 {
			return nil, rpc.Aborted(errorv1.Reason_REASON_CONNECTOR_BUSY, "a run of %s is under way", req.GetName())
		}
		return viewRun(req.GetName(), run), nil
	})
}

// ListConnectorRuns lists runs, newest first.
func (s *Service) ListConnectorRuns(ctx context.Context, req *localv1.ListConnectorRunsRequest) (*localv1.ListConnectorRunsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(math.MaxInt64)
	if page.after != "" {
		before, _ = strconv.ParseInt(page.after, 10, 64) // sealed by us
	}
	q := db.New(s.pool)
	row, err := findConnector(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	rows, err := q.RunsBefore(ctx, db.RunsBeforeParams{ConnectorNo: row.ConnectorNo, Before: before, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListConnectorRunsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(r db.ConnectorRun) string { return strconv.FormatInt(r.RunNo, 10) })
	for _, run := range rows {
		answer.Runs = append(answer.Runs, viewRun(req.GetParent(), run))
	}
	return answer, nil
}

// runResult is what came of a run.
type runResult struct {
	sync   *uuid.UUID
	counts *localv1.SyncCounts
	left   int32
}

// runConnector carries out a run and records what came of it. A run that was begun before, by a process that is gone,
// is begun again: both directions may be repeated.
func (s *Service) runConnector(ctx context.Context, args runArgs) error {
	q := db.New(s.pool)
	run, err := q.BeginRun(ctx, db.BeginRunParams{RunNo: args.RunNo, Now: s.clock.Now()})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // the connector was deleted, or the run has ended
	}
	if err != nil {
		return err
	}
	about, err := q.RunContext(ctx, args.ConnectorNo)
	if err != nil {
		return ignoreNoRows(err)
	}
	result, err := s.carryOut(ctx, about)
	if ctx.Err() != nil {
		return ctx.Err() // the process ends; the job is taken up again
	}
	return s.endRun(context.WithoutCancel(ctx), about.Connector, run, result, err)
}

func (s *Service) carryOut(ctx context.Context, about db.RunContextRow) (runResult, error) {
	list := listName(about.ChapterID, about.ListID)
	settings, err := s.unpackConnector(connectorName(list, about.Connector.ID), about.Connector)
	if err != nil {
		return runResult{}, err
	}
	remote, err := s.remote(settings)
	if err != nil {
		return runResult{}, err
	}
	if settings.GetDirection() == localv1.Connector_PUSH {
		return s.push(ctx, about.Connector, remote)
	}
	return s.pull(ctx, list, about.Connector, settings.GetMode(), remote)
}

// endRun records a run's end. What may pass by itself, and what waits for a word, is HELD; the rest needs somebody.
func (s *Service) endRun(ctx context.Context, c db.Connector, run db.ConnectorRun, result runResult, failure error) error {
	now := s.clock.Now()
	end := db.EndRunParams{RunNo: run.RunNo, State: runDone, Now: now, SyncID: result.sync, LeftCount: result.left, Counts: []byte{}}
	ended := db.RunEndedParams{ConnectorNo: c.ConnectorNo}
	if result.counts != nil {
		end.Counts, _ = proto.Marshal(result.counts) // made by us
	}
	if failure != nil {
		end.State, end.Reason, end.Text = s.verdict(ctx, c, failure)
	}
	if end.State == runHeld {
		ended.Held = c.Held + 1
		retry := now.Add(mail.BackOff(ended.Held))
		ended.RetryTime = &retry
	}
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		q := db.New(tx)
		if err := q.EndRun(ctx, end); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, q.RunEnded(ctx, ended)
	})
	return err
}

func (s *Service) verdict(ctx context.Context, c db.Connector, failure error) (state, reason, text string) {
	if refusal, ok := errors.AsType[*connector.Error](failure); ok {
		if refusal.Retry() {
			return runHeld, "CONNECTOR_UNREACHABLE", refusal.Text
		}
		return runFailed, "CONNECTOR_REFUSED", refusal.Text
	}
	if refusal, ok := errors.AsType[*rpc.Error](failure); ok {
		return runHeld, rpc.InfoOf(refusal).GetReason(), refusal.GRPCStatus().Message()
	}
	s.log.ErrorContext(ctx, "a connector's run failed", "connector", c.ConnectorNo, "error", failure)
	return runHeld, "INTERNAL", "internal error; the log says more"
}

func viewRun(name string, run db.ConnectorRun) *localv1.ConnectorRun {
	list := listOf(name)
	view := &localv1.ConnectorRun{
		Name:      connectorName(list, element(name, 5)) + "/runs/" + run.ID.String(),
		State:     localv1.ConnectorRun_State(localv1.ConnectorRun_State_value[run.State]),
		StartTime: timestampOf(run.StartTime), EndTime: timestampOf(run.EndTime),
		Counts: &localv1.SyncCounts{}, Left: run.LeftCount, Reason: run.Reason, Text: run.Text,
	}
	_ = proto.Unmarshal(run.Counts, view.GetCounts()) // stored by us
	if run.SyncID != nil {
		view.Sync = syncName(list, *run.SyncID)
	}
	return view
}
