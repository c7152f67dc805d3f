package international

import (
	"context"
	"fmt"
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

// How a policy revision comes into force.
//
// From its effective time on, every change of a standing is judged by it. The standings that nothing changes are judged
// anew in batches, lowest number first, each batch in one transaction: what is left to do are the standings that name an
// earlier revision, so whoever is killed between two batches has nothing to clean up, and a standing always follows from
// the revision that it names, which is what an audit asks.

// enforceArgs is the job that puts policy revisions into force whose time has come.
type enforceArgs struct{}

// Kind names the job in the queue.
func (enforceArgs) Kind() string { return "enforce_policy" }

type enforceWorker struct {
	river.WorkerDefaults[enforceArgs]
	service *Service
}

// Work judges by the policy in force whoever is not yet.
func (w *enforceWorker) Work(ctx context.Context, _ *river.Job[enforceArgs]) error {
	judged, err := w.service.enforcePolicy(ctx)
	if judged > 0 {
		w.service.log.InfoContext(ctx, "policy enforced", "standings", judged)
	}
	return err
}

// Timeout lets a revision reach all chapters in one run.
func (w *enforceWorker) Timeout(*river.Job[enforceArgs]) time.Duration { return 30 * time.Minute }

// enforcePolicy judges all standings by the policy in force, and returns how many were judged anew.
func (s *Service) enforcePolicy(ctx context.Context) (int, error) {
	for total := 0; ; {
		n, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) { return s.enforceSome(ctx, tx) })
		total += n
		if err != nil {
			return total, fmt.Errorf("enforce the policy: %w", err)
		}
		s.publisher.Wake()
		if n == 0 {
			return total, nil
		}
	}
}

func (s *Service) enforceSome(ctx context.Context, tx pgx.Tx) (int, error) {
	q, now := db.New(tx), s.clock.Now()
	policy, err := q.PolicyInForce(ctx, now)
	if err != nil {
		return 0, err
	}
	rows, err := q.StandingsBefore(ctx, db.StandingsBeforeParams{Revision: policy.Revision, Size: s.config.PolicyBatch})
	if err != nil {
		return 0, err
	}
	if len(rows) == 0 {
		return 0, s.enforced(ctx, tx, policy, now)
	}
	all := make([]moved, 0, len(rows))
	for _, row := range rows {
		all = append(all, moved{chapter: row.ChapterID, before: row.Standing, after: judged(row.Standing, policy, now), policy: policy})
	}
	return len(all), s.moveAll(ctx, tx, all, byPolicy, now, &pipeline{})
}

// enforced notes that all standings are judged by a revision, and tells, once.
func (s *Service) enforced(ctx context.Context, tx pgx.Tx, policy db.Policy, now time.Time) error {
	q := db.New(tx)
	state, err := q.ReadPolicyState(ctx)
	if err != nil || state.EnforcedRevision >= policy.Revision {
		return err
	}
	if state, err = q.LockPolicyState(ctx); err != nil || state.EnforcedRevision >= policy.Revision {
		return err
	}
	if _, err := q.SetEnforcedRevision(ctx, policy.Revision); err != nil {
		return err
	}
	book, err := readPolicies(ctx, q, now)
	if err != nil {
		return err
	}
	event, err := policyChanged(ctx, q, book)
	if err != nil {
		return err
	}
	return bus.Append(ctx, tx, event)
}

// policyAggregate is the policy as other tiers know it.
const policyAggregate = "charterPolicy"

func policyChanged(ctx context.Context, q *db.Queries, book policyBook) (bus.Event, error) {
	state, err := policyEvent(ctx, q, book)
	return bus.Event{Subject: "policy.charter.changed", Aggregate: policyAggregate, Version: book.version, Data: state}, err
}

func policyEvent(ctx context.Context, q *db.Queries, book policyBook) (*eventv1.PolicyChanged, error) {
	later, err := q.PoliciesAfter(ctx, db.PoliciesAfterParams{After: book.inForce.Revision, Size: 1000})
	if err != nil {
		return nil, err
	}
	event := &eventv1.PolicyChanged{InForce: policyRevisionEvent(book.inForce)}
	for _, row := range later {
		if row.WithdrawTime == nil {
			event.Scheduled = append(event.Scheduled, policyRevisionEvent(row))
		}
	}
	return event, nil
}

func policyRevisionEvent(policy db.Policy) *eventv1.PolicyRevision {
	return &eventv1.PolicyRevision{
		Revision:                revision(policy),
		EffectiveTime:           timestamppb.New(policy.EffectiveTime),
		ThresholdPercent:        policy.ThresholdPercent,
		AllowMembership:         policy.AllowMembership,
		AllowMailing:            policy.AllowMailing,
		MinimumPeopleMembership: policy.MinimumMembership,
		MinimumPeopleMailing:    policy.MinimumMailing,
		MinimumOfficers:         policy.MinimumOfficers,
		GraceDays:               policy.GraceDays,
		ActivityDays:            policy.ActivityDays,
		RenewalDays:             policy.RenewalDays,
		ReapplyDays:             policy.ReapplyDays,
		ReviewDueDays:           policy.ReviewDueDays,
		ChangesDueDays:          policy.ChangesDueDays,
		RecoveryDays:            policy.RecoveryDays,
		GraceEnd:                policy.GraceEnd,
	}
}

func (s *Service) policyOwner() bus.Owner {
	return bus.Owner{
		Kind: "policy",
		Versions: func(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
			if after >= policyAggregate || limit < 1 {
				return nil, nil
			}
			state, err := db.New(tx).ReadPolicyState(ctx)
			return []bus.AggregateVersion{{Aggregate: policyAggregate, Version: bus.Version{Epoch: state.Epoch, Number: state.Version}}}, err
		},
		Snapshot: func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
			if aggregate != policyAggregate {
				return bus.Version{}, false, nil
			}
			q := db.New(tx)
			book, err := readPolicies(ctx, q, s.clock.Now())
			if err != nil {
				return bus.Version{}, false, err
			}
			event, err := policyEvent(ctx, q, book)
			if err != nil {
				return bus.Version{}, false, err
			}
			return book.version, true, send(event)
		},
	}
}
