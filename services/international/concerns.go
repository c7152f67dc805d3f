package international

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The states of a concern that was escalated to here. It is withdrawn as a charter is.
const (
	open           = "OPEN"
	answered       = "ANSWERED"
	handedToVendor = "HANDED_TO_VENDOR"
	closed         = "CLOSED"
)

// answersBy is who answers here; it names no person.
const answersBy = "international"

// AnswerEscalation answers all who raised or joined a concern. With the vendor it stays there.
func (s *Service) AnswerEscalation(ctx context.Context, req *internationalv1.AnswerEscalationRequest) (*internationalv1.Escalation, error) {
	return s.onEscalation(ctx, req.GetName(), req.GetEtag(), func(e *escalation) error {
		if err := e.allowed(open, answered, handedToVendor); err != nil {
			return err
		}
		return e.reply(ctx, req.GetBody())
	})
}

// HandEscalationToVendor gives a concern to the vendor. Done again, it changes the note.
func (s *Service) HandEscalationToVendor(ctx context.Context, req *internationalv1.HandEscalationToVendorRequest) (*internationalv1.Escalation, error) {
	return s.onEscalation(ctx, req.GetName(), req.GetEtag(), func(e *escalation) error {
		if err := e.allowed(open, answered, handedToVendor); err != nil {
			return err
		}
		e.row.State, e.row.VendorNote, e.row.Overdue = handedToVendor, req.GetNote(), false
		return nil
	})
}

// CloseEscalation ends a concern that was answered, or answers it with that.
func (s *Service) CloseEscalation(ctx context.Context, req *internationalv1.CloseEscalationRequest) (*internationalv1.Escalation, error) {
	return s.onEscalation(ctx, req.GetName(), req.GetEtag(), func(e *escalation) error {
		if err := e.allowed(open, answered, handedToVendor); err != nil {
			return err
		}
		if req.GetBody() != "" {
			if err := e.reply(ctx, req.GetBody()); err != nil {
				return err
			}
		}
		if len(e.answers) == 0 {
			return rpc.Precondition(errorv1.Reason_REASON_CONCERN_NOT_ANSWERED, "nobody here has answered %s yet: give an answer", e.row.Name)
		}
		e.row.State, e.row.Overdue = closed, false
		return nil
	})
}

// escalation is one concern and the transaction that works on it, its row locked.
type escalation struct {
	tx      pgx.Tx
	q       *db.Queries
	row     db.Escalation
	answers []db.EscalationAnswer
	now     time.Time
}

// openEscalation locks a concern; pgx.ErrNoRows when there is none.
func (s *Service) openEscalation(ctx context.Context, tx pgx.Tx, name string) (*escalation, error) {
	e := &escalation{tx: tx, q: db.New(tx), now: s.clock.Now()}
	var err error
	if e.row, err = e.q.EscalationForUpdate(ctx, name); err != nil {
		return nil, err
	}
	e.answers, err = e.q.EscalationAnswers(ctx, []string{name})
	return e, err
}

func (s *Service) onEscalation(ctx context.Context, name, given string, verb func(*escalation) error) (*internationalv1.Escalation, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Escalation, error) {
		e, err := s.openEscalation(ctx, tx, name)
		if err != nil {
			return nil, orNoConcern(err, name)
		}
		if err := rpc.CheckEtags(ctx, given, etag(e.row.Epoch, e.row.Version)); err != nil {
			return nil, err
		}
		if err := verb(e); err != nil {
			return nil, err
		}
		if err := e.settle(ctx); err != nil {
			return nil, err
		}
		return viewEscalation(e.row, e.answers), nil
	})
}

func orNoConcern(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "%s does not exist", name).With("resource", name)
	}
	return err
}

func (e *escalation) allowed(states ...string) error {
	if slices.Contains(states, e.row.State) {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_CONCERN_STATE, "%s is %s", e.row.Name, e.row.State).With("state", e.row.State)
}

// reply answers in the international body's name.
func (e *escalation) reply(ctx context.Context, body string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	answer := db.EscalationAnswer{ID: id, Name: e.row.Name, Body: body, CreateTime: e.now}
	e.answers = append(e.answers, answer)
	if e.row.State == open {
		e.row.State = answered
	}
	if e.row.FirstAnswerTime == nil {
		e.row.FirstAnswerTime = &e.now
	}
	e.row.Overdue = false
	return e.q.InsertEscalationAnswer(ctx, db.InsertEscalationAnswerParams(answer))
}

// settle writes the concern in its next version, and tells of it.
func (e *escalation) settle(ctx context.Context) error {
	var err error
	e.row, err = e.q.UpdateEscalation(ctx, db.UpdateEscalationParams{
		Name: e.row.Name, RaiserCount: e.row.RaiserCount, Raisers: e.row.Raisers, State: e.row.State, VendorNote: e.row.VendorNote,
		Overdue: e.row.Overdue, RemindedTime: e.row.RemindedTime, FirstAnswerTime: e.row.FirstAnswerTime, Now: e.now,
	})
	if err != nil {
		return err
	}
	return bus.Append(ctx, e.tx, escalationChanged(e.row, e.answers))
}

// GetEscalation reads a concern with all answers.
func (s *Service) GetEscalation(ctx context.Context, req *internationalv1.GetEscalationRequest) (*internationalv1.Escalation, error) {
	q := db.New(s.pool)
	row, err := q.ReadEscalation(ctx, req.GetName())
	if err != nil {
		return nil, orNoConcern(err, req.GetName())
	}
	answers, err := q.EscalationAnswers(ctx, []string{row.Name})
	if err != nil {
		return nil, err
	}
	return viewEscalation(row, answers), nil
}

// ListEscalations lists concerns by when they came.
func (s *Service) ListEscalations(ctx context.Context, req *internationalv1.ListEscalationsRequest) (*internationalv1.ListEscalationsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.ListEscalationsParams{Overdue: req.GetOverdue(), Size: page.size + 1}
	when, name, _ := strings.Cut(page.after, " ")
	args.AfterTime, _ = time.Parse(time.RFC3339Nano, when) // sealed by us; on the first page the first of all times
	args.AfterName = name
	if req.GetState() != internationalv1.Escalation_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	rows, err := db.New(s.pool).ListEscalations(ctx, args)
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Escalation) string { return last.CreateTime.Format(time.RFC3339Nano) + " " + last.Name })
	answer := &internationalv1.ListEscalationsResponse{NextPageToken: next}
	for _, row := range rows {
		view := viewEscalation(row, nil)
		view.Raisers = nil
		answer.Concerns = append(answer.Concerns, view)
	}
	return answer, nil
}

func viewEscalation(row db.Escalation, answers []db.EscalationAnswer) *internationalv1.Escalation {
	view := &internationalv1.Escalation{
		Name:            row.Name,
		Case:            row.CaseName,
		Subject:         row.Subject,
		Body:            row.Body,
		Summary:         row.Summary,
		State:           internationalv1.Escalation_State(internationalv1.Escalation_State_value[row.State]),
		VendorNote:      row.VendorNote,
		RaiserCount:     row.RaiserCount,
		Raisers:         row.Raisers,
		DueTime:         optionalTime(dueTime(row)),
		Overdue:         row.Overdue,
		RemindedTime:    optionalTime(row.RemindedTime),
		FirstAnswerTime: optionalTime(row.FirstAnswerTime),
		CreateTime:      timestamppb.New(row.CreateTime),
		UpdateTime:      timestamppb.New(row.UpdateTime),
		Etag:            etag(row.Epoch, row.Version),
	}
	for _, answer := range answers {
		view.Answers = append(view.Answers, &internationalv1.EscalationAnswer{
			Id: answer.ID.String(), By: answersBy, Body: answer.Body, CreateTime: timestamppb.New(answer.CreateTime),
		})
	}
	return view
}

// dueTime is nil once there is nothing to wait for.
func dueTime(row db.Escalation) *time.Time {
	if row.State != open {
		return nil
	}
	return &row.DueTime
}
