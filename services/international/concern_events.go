package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// concernPrefix begins the names of what lies with the international body.
const concernPrefix = "concerns/"

// maxConcernAnswers keeps an event below what a NATS server takes: 40 answers of at most 4,000 characters are 640 kB.
// Whoever follows a concern keeps the older ones.
const maxConcernAnswers = 40

// caseTopic takes what regions escalate to the international body, and who raised it.
func (s *Service) caseTopic() bus.Topic {
	return bus.Topic{
		Kind: "case",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				if message, ok := part.Data.(*eventv1.CaseChanged); ok && strings.HasPrefix(message.GetEscalatedTo(), concernPrefix) {
					if err := s.takeCase(ctx, tx, message); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// takeCase makes a concern of a case that was escalated to here, or follows what changed in who raises it.
func (s *Service) takeCase(ctx context.Context, tx pgx.Tx, c *eventv1.CaseChanged) error {
	e, err := s.openEscalation(ctx, tx, c.GetEscalatedTo())
	if errors.Is(err, pgx.ErrNoRows) {
		return s.beginEscalation(ctx, tx, c)
	}
	if err != nil {
		return err
	}
	gone := c.GetState() == withdrawn && e.row.State != closed && e.row.State != withdrawn
	if !gone && e.row.RaiserCount == c.GetRaiserCount() && slices.Equal(e.row.Raisers, c.GetRaisers()) {
		return nil
	}
	e.row.RaiserCount, e.row.Raisers = c.GetRaiserCount(), append([]string{}, c.GetRaisers()...)
	if gone {
		e.row.State, e.row.Overdue = withdrawn, false
	}
	return e.settle(ctx)
}

func (s *Service) beginEscalation(ctx context.Context, tx pgx.Tx, c *eventv1.CaseChanged) error {
	now, state := s.clock.Now(), open
	if c.GetState() == withdrawn {
		state = withdrawn
	}
	row, err := db.New(tx).InsertEscalation(ctx, db.InsertEscalationParams{
		Name: c.GetEscalatedTo(), CaseName: c.GetCase(), Subject: c.GetSubject(), Body: c.GetBody(), Summary: c.GetSummary(),
		RaiserCount: c.GetRaiserCount(), Raisers: append([]string{}, c.GetRaisers()...), State: state,
		DueTime: now.Add(s.config.AnswerDue), Epoch: now.UnixMicro(), Now: now,
	})
	if err != nil {
		return fmt.Errorf("begin %s: %w", c.GetEscalatedTo(), err)
	}
	return bus.Append(ctx, tx, escalationChanged(row, nil))
}

func escalationChanged(row db.Escalation, answers []db.EscalationAnswer) bus.Event {
	return bus.Event{
		Subject:   "escalation." + strings.TrimPrefix(row.Name, concernPrefix) + ".changed",
		Aggregate: row.Name,
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      escalationMessage(row, answers),
	}
}

func escalationMessage(row db.Escalation, answers []db.EscalationAnswer) *eventv1.EscalationChanged {
	message := &eventv1.EscalationChanged{
		Concern:    row.Name,
		Case:       row.CaseName,
		State:      row.State,
		DueTime:    optionalTime(dueTime(row)),
		Overdue:    row.Overdue,
		VendorNote: row.VendorNote,
		UpdateTime: timestamppb.New(row.UpdateTime),
	}
	for _, answer := range answers[max(0, len(answers)-maxConcernAnswers):] {
		message.Answers = append(message.Answers, &eventv1.ConcernAnswer{
			Id: answer.ID.String(), By: answersBy, Body: answer.Body, CreateTime: timestamppb.New(answer.CreateTime),
		})
	}
	return message
}

// escalationOwner answers for the concerns.
func escalationOwner() bus.Owner {
	return bus.Owner{Kind: "escalation", Versions: escalationVersions, Snapshot: escalationSnapshot}
}

func escalationVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).EscalationVersions(ctx, db.EscalationVersionsParams{After: after, Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{Aggregate: row.Name, Version: bus.Version{Epoch: row.Epoch, Number: row.Version}})
	}
	return versions, err
}

func escalationSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	q := db.New(tx)
	row, err := q.ReadEscalation(ctx, aggregate)
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	answers, err := q.EscalationAnswers(ctx, []string{aggregate})
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: row.Epoch, Number: row.Version}, true, send(escalationMessage(row, answers))
}

// beginEscalationEpoch makes what tells of all concerns again after this database was restored from a backup.
func beginEscalationEpoch(ctx context.Context, q *db.Queries, epoch int64) ([]bus.Event, error) {
	rows, err := q.MoveEscalationsToEpoch(ctx, epoch)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(rows))
	for _, row := range rows {
		names = append(names, row.Name)
	}
	answers, err := q.EscalationAnswers(ctx, names)
	if err != nil {
		return nil, err
	}
	byName := map[string][]db.EscalationAnswer{}
	for _, answer := range answers {
		byName[answer.Name] = append(byName[answer.Name], answer)
	}
	events := make([]bus.Event, 0, len(rows))
	for _, row := range rows {
		events = append(events, escalationChanged(row, byName[row.Name]))
	}
	return events, nil
}

// remindArgs is the job that marks concerns whose answer is due.
type remindArgs struct{}

// Kind names the job in the queue.
func (remindArgs) Kind() string { return "remind_of_concerns" }

type remindWorker struct {
	river.WorkerDefaults[remindArgs]
	service *Service
}

// Work marks what lies unanswered beyond its time, and reminds again of what still does.
func (w *remindWorker) Work(ctx context.Context, _ *river.Job[remindArgs]) error {
	return w.service.remind(ctx)
}

// remindBatch bounds how many concerns are looked at before the clock is asked again.
const remindBatch = 100

func (s *Service) remind(ctx context.Context) error {
	for {
		now := s.clock.Now()
		before := now.Add(-s.config.RemindAgain)
		names, err := db.New(s.pool).DueEscalations(ctx, db.DueEscalationsParams{Now: now, RemindedBefore: &before, Size: remindBatch})
		if err != nil {
			return fmt.Errorf("look for due concerns: %w", err)
		}
		for _, name := range names {
			if err := s.remindOf(ctx, name, before); err != nil {
				return fmt.Errorf("remind of %s: %w", name, err)
			}
		}
		if len(names) < remindBatch {
			return nil
		}
	}
}

// remindOf marks one concern, unless it was answered or marked meanwhile.
func (s *Service) remindOf(ctx context.Context, name string, before time.Time) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		e, err := s.openEscalation(ctx, tx, name)
		if err != nil || e.row.State != open || e.row.RemindedTime != nil && e.row.RemindedTime.After(before) {
			return struct{}{}, err
		}
		e.row.Overdue, e.row.RemindedTime = true, &e.now
		return struct{}{}, e.settle(ctx)
	})
	s.publisher.Wake()
	return err
}
