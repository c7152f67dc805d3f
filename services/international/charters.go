package international

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// CreateCharter takes a chapter's application.
func (s *Service) CreateCharter(ctx context.Context, req *internationalv1.CreateCharterRequest) (*internationalv1.Charter, error) {
	chapter := idOf(req.GetCharter().GetChapter())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Charter, error) {
		c, err := s.openCase(ctx, tx, chapter)
		if err != nil {
			return nil, err
		}
		if len(nextStates(c.charter.State, verbApply)) == 0 {
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_CHARTER_STATE, "charters/%s is %s; there is nothing to apply for", chapter, c.charter.State).
				With("state", c.charter.State).With("resource", "charters/"+chapter)
		}
		if again := c.charter.ReapplyTime; again != nil && c.now.Before(*again) {
			return nil, rpc.Precondition(errorv1.Reason_REASON_WAITING_TIME, "chapters/%s can apply again from %s", chapter, again.Format(time.RFC3339)).
				With("reapplyTime", again.Format(time.RFC3339))
		}
		c.begin(req.GetCharter().GetNote())
		return c.transition(ctx, verbApply, applied, by(ctx, c.charter.Note))
	})
}

// begin makes an application of the charter, as though it were new: what was before is in its history.
func (c *charterCase) begin(note string) {
	before := c.charter
	c.charter = db.Charter{
		ChapterNo: before.ChapterNo, ChapterID: before.ChapterID, State: before.State, Note: note, ApplyTime: c.now, HandInTime: &c.now,
	}
	c.charter.ReviewDueTime = c.dueIn(c.policy.ReviewDueDays)
}

// GetCharter reads a charter, as it is or as it was.
func (s *Service) GetCharter(ctx context.Context, req *internationalv1.GetCharterRequest) (*internationalv1.Charter, error) {
	row, err := db.New(s.pool).ReadCharter(ctx, idOf(req.GetName()))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noCharterOf(req.GetName())
	}
	if err != nil {
		return nil, err
	}
	if req.GetAsOfTime() != nil {
		return s.charterAsOf(ctx, row, req.GetAsOfTime())
	}
	return viewCharter(row)
}

// ListCharters lists charters by chapter, all or those of one region and below.
func (s *Service) ListCharters(ctx context.Context, req *internationalv1.ListChartersRequest) (*internationalv1.ListChartersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	args := db.ChartersAfterParams{After: page.after, Size: page.size + 1, AnyRegion: req.GetRegion() == "", Overdue: req.GetOverdue()}
	if req.GetState() != internationalv1.Charter_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	if !args.AnyRegion {
		if args.Regions, err = q.RegionsBelow(ctx, idOf(req.GetRegion())); err != nil {
			return nil, err
		}
	}
	rows, err := q.ChartersAfter(ctx, args)
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Charter) string { return last.ChapterID })
	answer := &internationalv1.ListChartersResponse{NextPageToken: next}
	for _, row := range rows {
		charter, err := viewCharter(row)
		if err != nil {
			return nil, err
		}
		answer.Charters = append(answer.Charters, charter)
	}
	return answer, nil
}

// ListCharterHistory lists the transitions of a charter, oldest first.
func (s *Service) ListCharterHistory(ctx context.Context, req *internationalv1.ListCharterHistoryRequest) (*internationalv1.ListCharterHistoryResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if _, err := s.GetCharter(ctx, &internationalv1.GetCharterRequest{Name: req.GetParent()}); err != nil {
		return nil, err
	}
	rows, err := db.New(s.pool).HistoryAfter(ctx, db.HistoryAfterParams{
		Chapter: idOf(req.GetParent()), After: int32(page.number()), Size: page.size + 1,
	})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.CharterHistory) string { return strconv.Itoa(int(last.Number)) })
	answer := &internationalv1.ListCharterHistoryResponse{NextPageToken: next}
	for _, row := range rows {
		transition, err := viewTransition(req.GetParent(), row)
		if err != nil {
			return nil, err
		}
		answer.History = append(answer.History, transition)
	}
	return answer, nil
}

func viewCharter(row db.Charter) (*internationalv1.Charter, error) {
	charter := &internationalv1.Charter{
		Name:               "charters/" + row.ChapterID,
		Chapter:            "chapters/" + row.ChapterID,
		State:              charterState(row.State),
		Reviewer:           row.Reviewer,
		ApplyTime:          timestamppb.New(row.ApplyTime),
		DecideTime:         optionalTime(row.DecideTime),
		CureByTime:         optionalTime(row.CureByTime),
		ReapplyTime:        optionalTime(row.ReapplyTime),
		CreateTime:         timestamppb.New(row.CreateTime),
		UpdateTime:         timestamppb.New(row.UpdateTime),
		Etag:               etag(row.Epoch, row.Version),
		Note:               row.Note,
		ReviewDueTime:      optionalTime(row.ReviewDueTime),
		ChangesDueTime:     optionalTime(row.ChangesDueTime),
		RenewalDueTime:     optionalTime(row.RenewalDueTime),
		RenewalRequestTime: optionalTime(row.RenewalRequestTime),
		ProtectUntilTime:   optionalTime(row.ProtectUntilTime),
		ProtectReason:      row.ProtectReason,
		ClaimExpireTime:    optionalTime(row.ClaimExpireTime),
		OverrideUntilTime:  optionalTime(row.OverrideUntilTime),
		Overdue:            row.ReviewPassed || row.CurePassed || row.RenewalPassed,
		WaitingFor:         internationalv1.Charter_Task(internationalv1.Charter_Task_value[row.WaitingFor]),
		WaitingSinceTime:   optionalTime(row.WaitingTime),
		GraceWholeTime:     optionalTime(row.GraceWholeTime),
	}
	if row.GraceLeftSeconds != nil {
		charter.GraceLeft = &durationpb.Duration{Seconds: *row.GraceLeftSeconds}
	}
	var err error
	if charter.Decision, err = unpack[internationalv1.CharterDecision](row.Decision); err != nil {
		return nil, fmt.Errorf("read the decision on charters/%s: %w", row.ChapterID, err)
	}
	if charter.ChangesRequest, err = unpack[internationalv1.ChangesRequest](row.ChangesRequest); err != nil {
		return nil, fmt.Errorf("read what was asked of charters/%s: %w", row.ChapterID, err)
	}
	if charter.FirstApproval, err = unpack[internationalv1.CharterApproval](row.FirstApproval); err != nil {
		return nil, fmt.Errorf("read the approval of charters/%s: %w", row.ChapterID, err)
	}
	return charter, nil
}

// unpack reads what is kept as protobuf; nil where there is nothing.
func unpack[T any, P interface {
	*T
	proto.Message
}](kept []byte,
) (P, error) {
	if kept == nil {
		return nil, nil
	}
	message := P(new(T))
	return message, proto.Unmarshal(kept, message)
}

func viewTransition(parent string, row db.CharterHistory) (*internationalv1.CharterTransition, error) {
	standing := &internationalv1.Standing{}
	if err := proto.Unmarshal(row.Standing, standing); err != nil {
		return nil, fmt.Errorf("read the figures of %s: %w", parent, err)
	}
	return &internationalv1.CharterTransition{
		Name:           fmt.Sprintf("%s/history/%d", parent, row.Number),
		Verb:           row.Verb,
		FromState:      charterState(row.FromState),
		ToState:        charterState(row.ToState),
		Subject:        row.Subject,
		Note:           row.Note,
		Standing:       standing,
		PolicyRevision: strconv.Itoa(int(row.PolicyRevision)),
		CreateTime:     timestamppb.New(row.CreateTime),
		Reasons:        charterReasons(row.Reasons),
		UntilTime:      optionalTime(row.UntilTime),
	}, nil
}

func charterReasons(names []string) []internationalv1.Charter_Reason {
	reasons := make([]internationalv1.Charter_Reason, 0, len(names))
	for _, name := range names {
		reasons = append(reasons, internationalv1.Charter_Reason(internationalv1.Charter_Reason_value[name]))
	}
	return reasons
}

func charterState(name string) internationalv1.Charter_State {
	return internationalv1.Charter_State(internationalv1.Charter_State_value[name])
}
