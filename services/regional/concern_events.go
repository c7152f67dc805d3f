package regional

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// maxAnswers keeps an event below what a NATS server takes: 40 answers of at most 4,000 characters are 640 kB. Whoever
// follows a case keeps the older ones.
const maxAnswers = 40

// caseOwner answers for the cases.
func caseOwner() bus.Owner {
	return bus.Owner{Kind: "case", Versions: caseVersions, Snapshot: caseSnapshot}
}

// concernTopic takes what a site's chapters raise and withdraw. What a site does not know any more, lies here all the same.
func (s *Service) concernTopic() bus.Topic {
	return bus.Topic{Kind: "concern", Apply: each(s.takeConcern)}
}

// escalationTopic takes what becomes of concerns with the international body.
func (s *Service) escalationTopic() bus.Topic {
	return bus.Topic{Kind: "escalation", Apply: each(s.takeEscalation)}
}

// each applies every message of the type; others, of later versions of the publisher, pass by.
func each[M proto.Message](apply func(context.Context, pgx.Tx, M) error) func(context.Context, pgx.Tx, []bus.Event) error {
	return func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
		for _, part := range parts {
			if message, ok := part.Data.(M); ok {
				if err := apply(ctx, tx, message); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// takeConcern makes a case of a chapter's concern, in the region that it was raised in, or takes it back.
func (s *Service) takeConcern(ctx context.Context, tx pgx.Tx, concern *eventv1.ConcernChanged) error {
	id, err := uuid.Parse(caseID(concern.GetConcern()))
	if err != nil {
		return fmt.Errorf("%s has no UUID: %w", concern.GetConcern(), err)
	}
	c, err := s.openCases(ctx, tx)
	if err != nil {
		return err
	}
	row, err := c.load(ctx, caseName(regionID(concern.GetRegion()), id.String()))
	switch {
	case err != nil:
		return err
	case row == nil:
		err = c.raise(ctx, concern, id.String())
	case concern.GetWithdrawn() && !row.Withdrawn:
		c.withdraw(row)
	}
	if err != nil {
		return err
	}
	return c.settle(ctx)
}

// raise makes the case of a concern that is new here. What it joins may have come to its end meanwhile: then it is a case
// of its own.
func (c *caseChange) raise(ctx context.Context, concern *eventv1.ConcernChanged, id string) error {
	region := regionID(concern.GetRegion())
	row := db.InsertCaseParams{
		Name: caseName(region, id), RegionID: region, Concern: concern.GetConcern(), Withdrawn: concern.GetWithdrawn(),
		Subject: concern.GetSubject(), Body: concern.GetBody(), Shared: concern.GetShared(), State: open,
		RaiseTime: concern.GetCreateTime().AsTime(),
	}
	if concern.GetWithdrawn() {
		row.State = withdrawn
	}
	into, err := c.joined(ctx, concern.GetJoins(), region)
	if err != nil {
		return err
	}
	if into != nil && row.Body == "" {
		row.Body = into.Body
	}
	made, err := c.insert(ctx, row)
	if err == nil && into != nil && !made.Withdrawn {
		c.merge(made, into)
	}
	return err
}

// joined is the case that a concern joins, nil where it joins none.
func (c *caseChange) joined(ctx context.Context, name, region string) (*db.Case, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // the absence of a case is an answer
	}
	row, err := c.load(ctx, name)
	if err != nil || row == nil || !row.Shared || row.RegionID != region {
		return nil, err
	}
	into, ok := c.mergeable(row)
	if !ok {
		return nil, nil //nolint:nilnil // as above
	}
	return into, nil
}

// takeEscalation keeps what the international body says of a concern, and lets it travel on down. It is kept for a case
// that is not there too: after a restore from a backup the case is escalated once more, and finds it.
func (s *Service) takeEscalation(ctx context.Context, tx pgx.Tx, e *eventv1.EscalationChanged) error {
	c, err := s.openCases(ctx, tx)
	if err != nil {
		return err
	}
	row, err := c.load(ctx, e.GetCase())
	if err != nil {
		return err
	}
	news := db.Escalation{
		Name: e.GetConcern(), State: e.GetState(), DueTime: timeOf(e.GetDueTime()), Overdue: e.GetOverdue(), VendorNote: e.GetVendorNote(),
	}
	before, known := c.escalations[news.Name], len(c.answers[news.Name])
	for _, answer := range e.GetAnswers() {
		id, err := uuid.Parse(answer.GetId())
		if err != nil {
			return fmt.Errorf("an answer of %s: %w", e.GetConcern(), err)
		}
		if err := c.answer(ctx, id, news.Name, internationalBody, answer.GetBody(), answer.GetCreateTime().AsTime()); err != nil {
			return err
		}
	}
	if len(c.answers[news.Name]) == known && sameEscalation(before, news) {
		return nil
	}
	c.escalations[news.Name] = news
	if err := c.q.PutEscalation(ctx, db.PutEscalationParams(news)); err != nil {
		return err
	}
	if row != nil && row.LeadsTo != nil && *row.LeadsTo == news.Name {
		c.touch(c.down(row.Name)...)
	}
	return c.settle(ctx)
}

func sameEscalation(a, b db.Escalation) bool {
	due := a.DueTime == b.DueTime || a.DueTime != nil && b.DueTime != nil && a.DueTime.Equal(*b.DueTime)
	a.DueTime, b.DueTime = nil, nil
	return due && a == b
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	when := t.AsTime()
	return &when
}

// caseChanged tells of a case as it stands, with what it leads to.
func caseChanged(f *forest, row *db.Case) bus.Event {
	return bus.Event{
		Subject:   "case." + row.RegionID + "." + caseID(row.Name) + ".changed",
		Aggregate: row.Name,
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      caseMessage(f, row),
	}
}

func caseMessage(f *forest, row *db.Case) *eventv1.CaseChanged {
	at := f.lies(row.Name)
	raisers := f.raisers(row.Name)
	mergedInto, escalatedTo := leads(row)
	message := &eventv1.CaseChanged{
		Case:            row.Name,
		Concern:         row.Concern,
		FromRegion:      row.FromRegion,
		Subject:         row.Subject,
		Shared:          row.Shared,
		State:           row.State,
		MergedInto:      mergedInto,
		EscalatedTo:     escalatedTo,
		Summary:         summaryOf(row),
		LiesWith:        at.with,
		LiesState:       at.state,
		DueTime:         optionalTime(at.due),
		Overdue:         at.overdue,
		FirstAnswerTime: optionalTime(row.FirstAnswerTime),
		VendorNote:      at.vendorNote,
		RaiserCount:     int32(len(raisers)),
		Raisers:         raisers[:min(len(raisers), maxRaisers)],
		CreateTime:      timestamppb.New(row.CreateTime),
		UpdateTime:      timestamppb.New(row.UpdateTime),
	}
	if row.Shared {
		message.Body = row.Body
	}
	answers := f.answersOf(row.Name)
	for _, answer := range answers[max(0, len(answers)-maxAnswers):] {
		message.Answers = append(message.Answers, &eventv1.ConcernAnswer{
			Id: answer.ID.String(), By: answer.GivenBy, Body: answer.Body, CreateTime: timestamppb.New(answer.CreateTime),
		})
	}
	return message
}

func caseVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).CaseVersions(ctx, db.CaseVersionsParams{After: after, Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{Aggregate: row.Name, Version: bus.Version{Epoch: row.Epoch, Number: row.Version}})
	}
	return versions, err
}

func caseSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	f := newForest()
	if err := f.loadTree(ctx, db.New(tx), aggregate); err != nil {
		return bus.Version{}, false, err
	}
	row := f.cases[aggregate]
	if row == nil {
		return bus.Version{}, false, nil
	}
	return bus.Version{Epoch: row.Epoch, Number: row.Version}, true, send(caseMessage(f, row))
}

// beginCaseEpoch tells of all cases again after this database was restored from a backup.
func beginCaseEpoch(ctx context.Context, tx pgx.Tx, epoch int64) error {
	q := db.New(tx)
	names, err := q.BeginCaseEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	f := newForest()
	events := make([]bus.Event, 0, len(names))
	for _, name := range names {
		if err := f.loadTree(ctx, q, name); err != nil {
			return err
		}
		events = append(events, caseChanged(f, f.cases[name]))
	}
	return bus.Append(ctx, tx, events...)
}
