package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The states of a charter that this service leads to.
const (
	applied   = "APPLIED"
	inReview  = "IN_REVIEW"
	chartered = "CHARTERED"
	declined  = "DECLINED"
	withdrawn = "WITHDRAWN"
	atRisk    = "AT_RISK"
)

// system is the subject of what happens by itself.
const system = "system"

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
		if !c.isNew && !slices.Contains([]string{declined, withdrawn}, c.charter.State) {
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_CHARTER_STATE, "charters/%s is %s; there is nothing to apply for", chapter, c.charter.State).
				With("state", c.charter.State).With("resource", "charters/"+chapter)
		}
		if again := c.charter.ReapplyTime; again != nil && c.now.Before(*again) {
			return nil, rpc.Precondition(errorv1.Reason_REASON_WAITING_TIME, "chapters/%s can apply again from %s", chapter, again.Format(time.RFC3339)).
				With("reapplyTime", again.Format(time.RFC3339))
		}
		c.charter.Note = req.GetCharter().GetNote()
		c.charter.ApplyTime = c.now
		c.charter.Reviewer, c.charter.DecideTime, c.charter.ReapplyTime, c.charter.Decision = "", nil, nil, nil
		return c.transition(ctx, "apply", applied, caller(ctx), c.charter.Note)
	})
}

// ClaimCharter takes the review; claiming what one holds already changes nothing.
func (s *Service) ClaimCharter(ctx context.Context, req *internationalv1.ClaimCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req.GetName(), req.GetEtag(), func(c *charterCase) (*internationalv1.Charter, error) {
		if c.charter.State == inReview {
			return viewCharter(c.charter)
		}
		c.charter.Reviewer = caller(ctx)
		return c.transition(ctx, "claim", inReview, caller(ctx), "")
	})
}

// ReleaseCharter gives the review back.
func (s *Service) ReleaseCharter(ctx context.Context, req *internationalv1.ReleaseCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req.GetName(), req.GetEtag(), func(c *charterCase) (*internationalv1.Charter, error) {
		if c.charter.State != inReview {
			return nil, c.wrongState("released")
		}
		c.charter.Reviewer = ""
		return c.transition(ctx, "release", applied, caller(ctx), "")
	})
}

// ApproveCharter charters the chapter on the figures the reviewer saw.
// A standing that moved since then aborts, so that nobody approves what they did not read.
func (s *Service) ApproveCharter(ctx context.Context, req *internationalv1.ApproveCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req.GetName(), req.GetEtag(), func(c *charterCase) (*internationalv1.Charter, error) {
		if rpc.CheckEtag(req.GetStandingEtag(), c.standing.GetEtag()) != nil {
			return nil, rpc.Aborted(errorv1.Reason_REASON_STANDING_MOVED, "the standing of %s changed since it was read; read it again, then decide again", c.charter.ChapterID).
				With("standingEtag", c.standing.GetEtag())
		}
		if !c.standing.GetEligible() {
			return nil, notEligible(c.charter.ChapterID, c.standing)
		}
		return c.decide(ctx, "approve", chartered, req.GetNote())
	})
}

// DeclineCharter declines the application; the chapter may apply again after the policy's waiting time.
func (s *Service) DeclineCharter(ctx context.Context, req *internationalv1.DeclineCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req.GetName(), req.GetEtag(), func(c *charterCase) (*internationalv1.Charter, error) {
		again := c.now.AddDate(0, 0, int(c.policy.ReapplyDays))
		c.charter.ReapplyTime = &again
		return c.decide(ctx, "decline", declined, req.GetNote())
	})
}

// WithdrawCharter takes the application back.
func (s *Service) WithdrawCharter(ctx context.Context, req *internationalv1.WithdrawCharterRequest) (*internationalv1.Charter, error) {
	return s.onCharter(ctx, req.GetName(), req.GetEtag(), func(c *charterCase) (*internationalv1.Charter, error) {
		if !c.undecided() {
			return nil, c.wrongState("withdrawn")
		}
		c.charter.Reviewer = ""
		return c.transition(ctx, "withdraw", withdrawn, caller(ctx), req.GetNote())
	})
}

// charterCase is a charter with the standing it is judged on, both locked: the standing first, as move.go has it.
type charterCase struct {
	service  *Service
	tx       pgx.Tx
	charter  db.Charter
	isNew    bool
	standing *internationalv1.Standing
	policy   db.Policy
	now      time.Time
}

func (s *Service) openCase(ctx context.Context, tx pgx.Tx, chapter string) (*charterCase, error) {
	q := db.New(tx)
	locked, err := q.LockStanding(ctx, chapter)
	if err != nil {
		return nil, fmt.Errorf("lock the standing of %s: %w", chapter, err)
	}
	stands, err := q.ReadStanding(ctx, chapter)
	if err != nil {
		return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
	}
	c := &charterCase{
		service: s, tx: tx, policy: stands.Policy, now: s.clock.Now(),
		standing: viewStanding(chapter, stands.Standing, stands.Policy),
	}
	c.charter, err = q.CharterForUpdate(ctx, chapter)
	if errors.Is(err, pgx.ErrNoRows) {
		c.isNew = true
		c.charter = db.Charter{ChapterNo: locked.ChapterNo, ChapterID: chapter}
		return c, nil
	}
	return c, err
}

// onCharter runs a verb on an existing charter.
func (s *Service) onCharter(ctx context.Context, name, given string, verb func(*charterCase) (*internationalv1.Charter, error)) (*internationalv1.Charter, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Charter, error) {
		c, err := s.openCase(ctx, tx, idOf(name))
		if errors.Is(err, pgx.ErrNoRows) || err == nil && c.isNew {
			return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s; the chapter has not applied", name)
		}
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, given, etag(c.charter.Epoch, c.charter.Version)); err != nil {
			return nil, err
		}
		return verb(c)
	})
}

// review runs a reviewer's verb: on an undecided charter, that no other reviewer has claimed, by nobody who acts for the chapter.
func (s *Service) review(ctx context.Context, name, given string, verb func(*charterCase) (*internationalv1.Charter, error)) (*internationalv1.Charter, error) {
	return s.onCharter(ctx, name, given, func(c *charterCase) (*internationalv1.Charter, error) {
		principal := authz.FromContext(ctx)
		if acts, err := s.actsFor(ctx, c.tx, principal, c.charter.ChapterNo, c.charter.ChapterID); err != nil || acts {
			if err != nil {
				return nil, err
			}
			return nil, rpc.Denied(errorv1.Reason_REASON_CONFLICT_OF_INTEREST, "nobody decides on a chapter that they act for")
		}
		if !c.undecided() {
			return nil, c.wrongState("reviewed")
		}
		if c.charter.Reviewer != "" && c.charter.Reviewer != principal.Subject {
			return nil, rpc.Precondition(errorv1.Reason_REASON_CLAIMED_BY_ANOTHER, "charters/%s is claimed by %s", c.charter.ChapterID, c.charter.Reviewer).
				With("reviewer", c.charter.Reviewer)
		}
		return verb(c)
	})
}

func (c *charterCase) undecided() bool {
	return c.charter.State == applied || c.charter.State == inReview
}

func (c *charterCase) wrongState(verb string) error {
	return rpc.Precondition(errorv1.Reason_REASON_CHARTER_STATE, "charters/%s is %s and cannot be %s", c.charter.ChapterID, c.charter.State, verb).
		With("state", c.charter.State)
}

func notEligible(chapter string, standing *internationalv1.Standing) error {
	gap := standing.GetGap()
	refusal := rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "chapters/%s is below the line on the %s basis", chapter, standing.GetGapBasis())
	if gap.Convert != nil {
		refusal = rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "chapters/%s is below the line: %d of its people would have to join", chapter, gap.GetConvert()).
			With("convert", gap.GetConvert())
	}
	if gap.Recruit != nil {
		refusal = refusal.With("recruit", gap.GetRecruit())
	}
	return refusal.With("basis", standing.GetGapBasis())
}

// decide records a decision with the figures that it rests on.
func (c *charterCase) decide(ctx context.Context, verb, to, note string) (*internationalv1.Charter, error) {
	decision, err := proto.Marshal(&internationalv1.CharterDecision{
		Subject: caller(ctx), Note: note, DecideTime: timestamppb.New(c.now),
		Standing: c.standing, PolicyRevision: revision(c.policy),
	})
	if err != nil {
		return nil, err
	}
	c.charter.Decision, c.charter.DecideTime, c.charter.Reviewer = decision, &c.now, ""
	return c.transition(ctx, verb, to, caller(ctx), note)
}

// transition writes the charter in its new state, appends to its history, and tells.
func (c *charterCase) transition(ctx context.Context, verb, to, subject, note string) (*internationalv1.Charter, error) {
	from := c.charter.State
	c.charter.State = to
	row, err := putCharter(ctx, c.tx, c.charter, c.now)
	if err != nil {
		return nil, err
	}
	if err := appendHistory(ctx, c.tx, row, verb, from, subject, note, c.standing, c.policy); err != nil {
		return nil, err
	}
	if err := bus.Append(ctx, c.tx, charterChanged(row)); err != nil {
		return nil, err
	}
	if err := c.tell(ctx, verb, row, note); err != nil {
		return nil, err
	}
	return viewCharter(row)
}

func putCharter(ctx context.Context, tx pgx.Tx, row db.Charter, now time.Time) (db.Charter, error) {
	put, err := db.New(tx).PutCharter(ctx, db.PutCharterParams{
		ChapterNo: row.ChapterNo, ChapterID: row.ChapterID, State: row.State, Reviewer: row.Reviewer, Note: row.Note,
		ApplyTime: row.ApplyTime, DecideTime: row.DecideTime, CureByTime: row.CureByTime, ReapplyTime: row.ReapplyTime,
		Decision: row.Decision, Now: now,
	})
	if err != nil {
		return put, fmt.Errorf("put charters/%s: %w", row.ChapterID, err)
	}
	return put, nil
}

func appendHistory(ctx context.Context, tx pgx.Tx, row db.Charter, verb, from, subject, note string, standing *internationalv1.Standing, policy db.Policy) error {
	figures, err := proto.Marshal(standing)
	if err != nil {
		return err
	}
	err = db.New(tx).AppendHistory(ctx, db.AppendHistoryParams{
		ChapterNo: row.ChapterNo, Verb: verb, FromState: from, ToState: row.State, Subject: subject, Note: note,
		Standing: figures, PolicyRevision: policy.Revision, Now: row.UpdateTime,
	})
	if err != nil {
		return fmt.Errorf("append to the history of charters/%s: %w", row.ChapterID, err)
	}
	return nil
}

// moveChartersWith puts charters AT_RISK whose chapters fell below the line, and back whose chapters rose again.
func (s *Service) moveChartersWith(ctx context.Context, tx pgx.Tx, all []moved, now time.Time) error {
	crossed := map[int64]moved{}
	var numbers []int64
	for _, m := range all {
		if m.before.Eligible != m.after.Eligible {
			crossed[m.after.ChapterNo] = m
			numbers = append(numbers, m.after.ChapterNo)
		}
	}
	if len(crossed) == 0 {
		return nil
	}
	rows, err := db.New(tx).ChartersForUpdate(ctx, numbers)
	if err != nil {
		return fmt.Errorf("lock charters: %w", err)
	}
	for _, row := range rows {
		m := crossed[row.ChapterNo]
		c := &charterCase{service: s, tx: tx, charter: row, policy: m.policy, now: now, standing: viewStanding(m.chapter, m.after, m.policy)}
		if err := c.follow(ctx, m.after.Eligible); err != nil {
			return err
		}
	}
	return nil
}

// follows is the state to which a charter moves by itself when its chapter is on this side of the line.
func follows(state string, eligible bool) string {
	switch {
	case eligible && state == atRisk:
		return chartered
	case !eligible && state == chartered:
		return atRisk
	}
	return state
}

// follow moves a charter after its chapter crossed the line. What it is already, it stays.
func (c *charterCase) follow(ctx context.Context, eligible bool) error {
	var err error
	switch follows(c.charter.State, eligible) {
	case c.charter.State:
	case chartered:
		c.charter.CureByTime = nil
		_, err = c.transition(ctx, "eligibilityRegained", chartered, system, "")
	case atRisk:
		cureBy := c.now.AddDate(0, 0, int(c.policy.GraceDays))
		c.charter.CureByTime = &cureBy
		_, err = c.transition(ctx, "eligibilityLost", atRisk, system, "")
	}
	return err
}

func caller(ctx context.Context) string { return authz.FromContext(ctx).Subject }

// GetCharter reads a charter.
func (s *Service) GetCharter(ctx context.Context, req *internationalv1.GetCharterRequest) (*internationalv1.Charter, error) {
	row, err := db.New(s.pool).ReadCharter(ctx, idOf(req.GetName()))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s; the chapter has not applied", req.GetName())
	}
	if err != nil {
		return nil, err
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
	args := db.ChartersAfterParams{After: page.after, Size: page.size + 1, AnyRegion: req.GetRegion() == ""}
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

// GetCharterPolicy reads the policy in force.
func (s *Service) GetCharterPolicy(ctx context.Context, _ *internationalv1.GetCharterPolicyRequest) (*internationalv1.CharterPolicy, error) {
	policy, err := db.New(s.pool).PolicyInForce(ctx, s.clock.Now())
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	view := &internationalv1.CharterPolicy{
		Name:                    "charterPolicy",
		Revision:                revision(policy),
		ThresholdPercent:        policy.ThresholdPercent,
		MinimumPeopleMembership: policy.MinimumMembership,
		MinimumPeopleMailing:    policy.MinimumMailing,
		GraceDays:               policy.GraceDays,
		ReapplyDays:             policy.ReapplyDays,
		EffectiveTime:           timestamppb.New(policy.EffectiveTime),
		Etag:                    revision(policy),
		ReviewDueDays:           policy.ReviewDueDays,
		ChangesDueDays:          policy.ChangesDueDays,
		ClaimHours:              policy.ClaimHours,
		RecoveryDays:            policy.RecoveryDays,
		GraceEnd:                internationalv1.CharterPolicy_GraceEnd(internationalv1.CharterPolicy_GraceEnd_value[policy.GraceEnd]),
		RenewalDays:             policy.RenewalDays,
		ActivityDays:            policy.ActivityDays,
		MinimumOfficers:         policy.MinimumOfficers,
		SecondApproval:          policy.SecondApproval,
		Subject:                 policy.Subject,
		Note:                    policy.Note,
		CreateTime:              timestamppb.New(policy.CreateTime),
	}
	if policy.AllowMembership {
		view.AllowedBases = append(view.AllowedBases, internationalv1.Basis_MEMBERSHIP)
	}
	if policy.AllowMailing {
		view.AllowedBases = append(view.AllowedBases, internationalv1.Basis_MAILING)
	}
	return view, nil
}

func viewCharter(row db.Charter) (*internationalv1.Charter, error) {
	charter := &internationalv1.Charter{
		Name:        "charters/" + row.ChapterID,
		Chapter:     "chapters/" + row.ChapterID,
		State:       charterState(row.State),
		Reviewer:    row.Reviewer,
		ApplyTime:   timestamppb.New(row.ApplyTime),
		DecideTime:  optionalTime(row.DecideTime),
		CureByTime:  optionalTime(row.CureByTime),
		ReapplyTime: optionalTime(row.ReapplyTime),
		CreateTime:  timestamppb.New(row.CreateTime),
		UpdateTime:  timestamppb.New(row.UpdateTime),
		Etag:        etag(row.Epoch, row.Version),
		Note:        row.Note,
	}
	if row.Decision == nil {
		return charter, nil
	}
	charter.Decision = &internationalv1.CharterDecision{}
	if err := proto.Unmarshal(row.Decision, charter.GetDecision()); err != nil {
		return nil, fmt.Errorf("read the decision on charters/%s: %w", row.ChapterID, err)
	}
	return charter, nil
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
	}, nil
}

func charterState(name string) internationalv1.Charter_State {
	return internationalv1.Charter_State(internationalv1.Charter_State_value[name])
}
