package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// system is the subject of what happens by itself.
const system = "system"

// charterCase is a charter with the standing it is judged on, both locked: the standing first, as move.go has it.
type charterCase struct {
	service  *Service
	tx       pgx.Tx
	charter  db.Charter
	isNew    bool
	standing *internationalv1.Standing
	// The policy in force.
	policy db.Policy
	now    time.Time
	// What has happened and is not written yet.
	steps []step
}

// step is one entry of the history.
type step struct {
	verb, from, to string
	said
}

// said is who did something, and why.
type said struct {
	subject, note string
	reasons       []string
	until         *time.Time
}

// openCase locks a chapter's standing and its charter, as it is now that its deadlines were looked at.
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
	c := &charterCase{service: s, tx: tx, now: s.clock.Now(), standing: viewStanding(chapter, stands.Standing, stands.Policy)}
	if c.policy, err = q.PolicyInForce(ctx, c.now); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	c.charter, err = q.CharterForUpdate(ctx, chapter)
	if errors.Is(err, pgx.ErrNoRows) {
		c.isNew = true
		c.charter = db.Charter{ChapterNo: locked.ChapterNo, ChapterID: chapter}
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock charters/%s: %w", chapter, err)
	}
	return c, c.passDeadlines()
}

// onCharter runs a verb on an existing charter whose state allows it.
func (s *Service) onCharter(ctx context.Context, req charterRequest, verb string, do func(*charterCase) (*internationalv1.Charter, error)) (*internationalv1.Charter, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Charter, error) {
		c, err := s.openCase(ctx, tx, idOf(req.GetName()))
		if errors.Is(err, pgx.ErrNoRows) || err == nil && c.isNew {
			return nil, noCharterOf(req.GetName())
		}
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), etag(c.charter.Epoch, c.charter.Version)); err != nil {
			return nil, err
		}
		if err := c.allows(verb); err != nil {
			return nil, err
		}
		return do(c)
	})
}

// charterRequest is what the requests of all verbs have.
type charterRequest interface {
	GetName() string
	GetEtag() string
}

// byStaff runs a verb of staff's: by nobody who acts for the chapter.
func (s *Service) byStaff(ctx context.Context, req charterRequest, verb string, do func(*charterCase) (*internationalv1.Charter, error)) (*internationalv1.Charter, error) {
	acts, err := s.actsFor(ctx, db.New(s.pool), idOf(req.GetName()))
	if err != nil {
		return nil, err
	}
	if acts {
		return nil, rpc.Denied(errorv1.Reason_REASON_CONFLICT_OF_INTEREST, "nobody decides on a chapter that they act for")
	}
	return s.onCharter(ctx, req, verb, do)
}

func (c *charterCase) allows(verb string) error {
	if len(nextStates(c.charter.State, verb)) > 0 {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_CHARTER_STATE, "charters/%s is %s, which does not allow %s", c.charter.ChapterID, c.charter.State, verb).
		With("state", c.charter.State)
}

func noCharterOf(name string) error {
	return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s; the chapter has not applied", name)
}

// by is what the caller says.
func by(ctx context.Context, note string, reasons ...internationalv1.Charter_Reason) said {
	names := make([]string, 0, len(reasons))
	for _, reason := range reasons {
		names = append(names, reason.String())
	}
	return said{subject: caller(ctx), note: note, reasons: names}
}

// with adds until when.
func (s said) with(until *time.Time) said {
	s.until = until
	return s
}

func caller(ctx context.Context) string { return authz.FromContext(ctx).Subject }

// step moves the charter in memory; record writes it.
func (c *charterCase) step(verb, to string, words said) error {
	from := c.charter.State
	if !slices.Contains(nextStates(from, verb), to) {
		return fmt.Errorf("%s does not lead charters/%s from %q to %q", verb, c.charter.ChapterID, from, to)
	}
	c.charter.State, c.charter.Verb, c.charter.Reasons = to, verb, append([]string{}, words.reasons...)
	c.steps = append(c.steps, step{verb: verb, from: from, to: to, said: words})
	return nil
}

// transition moves the charter and writes it.
func (c *charterCase) transition(ctx context.Context, verb, to string, words said) (*internationalv1.Charter, error) {
	if err := c.step(verb, to, words); err != nil {
		return nil, err
	}
	if err := record(ctx, c.tx, c); err != nil {
		return nil, err
	}
	return viewCharter(c.charter)
}

// record is the one door through which every charter is changed: it writes those of the cases to which something has
// happened, appends to their histories, and tells. It takes the same number of round trips for one charter as for
// thousands.
func record(ctx context.Context, tx pgx.Tx, cases ...*charterCase) error {
	var puts []db.PutChartersParams
	var touched []*charterCase
	for _, c := range cases {
		if len(c.steps) == 0 {
			continue
		}
		// A deadline that a step has set may be over at once, as a grace period of no days is.
		if err := c.passDeadlines(); err != nil {
			return err
		}
		puts, touched = append(puts, c.row()), append(touched, c)
	}
	if len(touched) == 0 {
		return nil
	}
	q := db.New(tx)
	var failed error
	q.PutCharters(ctx, puts).QueryRow(func(i int, row db.Charter, err error) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("put charters/%s: %w", puts[i].ChapterID, err))
		}
		touched[i].charter = row
	})
	if failed != nil {
		return failed
	}
	return tell(ctx, tx, touched)
}

// tell appends what has happened to the histories, and to the outbox, and issues the notices of it.
func tell(ctx context.Context, tx pgx.Tx, cases []*charterCase) error {
	var entries []db.AppendHistoryParams
	events := make([]bus.Event, 0, len(cases))
	for _, c := range cases {
		history, err := c.entries()
		if err != nil {
			return err
		}
		entries, events = append(entries, history...), append(events, charterChanged(c.charter))
	}
	var failed error
	db.New(tx).AppendHistory(ctx, entries).Exec(func(_ int, err error) { failed = errors.Join(failed, err) })
	if failed != nil {
		return fmt.Errorf("append to the histories of charters: %w", failed)
	}
	if err := bus.Append(ctx, tx, events...); err != nil {
		return err
	}
	return tellSteps(ctx, tx, cases)
}

// entries are the steps as the history keeps them, with the figures of the moment.
func (c *charterCase) entries() ([]db.AppendHistoryParams, error) {
	figures, err := proto.Marshal(c.standing)
	if err != nil {
		return nil, err
	}
	charter, err := viewCharter(c.charter)
	if err != nil {
		return nil, err
	}
	kept, err := proto.Marshal(charter)
	if err != nil {
		return nil, err
	}
	entries := make([]db.AppendHistoryParams, 0, len(c.steps))
	for _, s := range c.steps {
		entries = append(entries, db.AppendHistoryParams{
			ChapterNo: c.charter.ChapterNo, Verb: s.verb, FromState: s.from, ToState: s.to, Subject: s.subject, Note: s.note,
			Standing: figures, PolicyRevision: c.policy.Revision, Reasons: append([]string{}, s.reasons...), UntilTime: s.until, Now: c.now, Charter: kept,
		})
	}
	return entries, nil
}

// row is the charter as it is written, with what follows from the rest of it.
func (c *charterCase) row() db.PutChartersParams {
	ch := c.charter
	task, since := taskOf(ch)
	return db.PutChartersParams{
		ChapterNo: ch.ChapterNo, ChapterID: ch.ChapterID, State: ch.State, Reviewer: ch.Reviewer, Note: ch.Note,
		ApplyTime: ch.ApplyTime, DecideTime: ch.DecideTime, CureByTime: ch.CureByTime, ReapplyTime: ch.ReapplyTime,
		Decision: ch.Decision, HandInTime: ch.HandInTime, Origin: ch.Origin, ChangesRequest: ch.ChangesRequest,
		FirstApproval: ch.FirstApproval, ClaimExpireTime: ch.ClaimExpireTime, ReviewDueTime: ch.ReviewDueTime,
		ChangesDueTime: ch.ChangesDueTime, RenewalDueTime: ch.RenewalDueTime, RenewalRequestTime: ch.RenewalRequestTime,
		OverrideUntilTime: ch.OverrideUntilTime, ProtectUntilTime: ch.ProtectUntilTime, ProtectReason: ch.ProtectReason,
		ReviewPassed: ch.ReviewPassed, CurePassed: ch.CurePassed, RenewalPassed: ch.RenewalPassed,
		GraceLeftSeconds: ch.GraceLeftSeconds, GraceWholeTime: ch.GraceWholeTime, EligibleTime: ch.EligibleTime,
		WaitingFor: task, WaitingTime: since, NextTime: c.nextTime(), Verb: ch.Verb, Reasons: ch.Reasons, Now: c.now,
	}
}
