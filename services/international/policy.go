package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// enforceWait is how long a call waits until everybody is judged by its revision: longer than 20,000 chapters take.
const enforceWait = 5 * time.Second

// changeablePolicy is what a revision decides.
var changeablePolicy = []string{
	"threshold_percent", "minimum_people_membership", "minimum_people_mailing", "allowed_bases", "grace_days", "reapply_days",
	"review_due_days", "changes_due_days", "claim_hours", "recovery_days", "grace_end", "renewal_days", "activity_days",
	"minimum_officers", "second_approval",
}

// GetCharterPolicy reads the policy in force, now or at a time.
func (s *Service) GetCharterPolicy(ctx context.Context, req *internationalv1.GetCharterPolicyRequest) (*internationalv1.CharterPolicy, error) {
	at := s.clock.Now()
	if req.GetAsOfTime() != nil {
		var err error
		if at, err = s.asOf(req.GetAsOfTime()); err != nil {
			return nil, err
		}
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterPolicy, error) {
		book, err := readPolicies(ctx, db.New(tx), at)
		if err != nil {
			return nil, err
		}
		if req.GetAsOfTime() != nil && book.inForce.EffectiveTime.After(at) {
			return nil, beforeRecords("the policy", book.inForce.EffectiveTime)
		}
		policy := book.view(book.inForce)
		policy.Name = "charterPolicy"
		return policy, nil
	})
}

// UpdateCharterPolicy makes a new revision, and has everybody judged by it when it is in force at once.
func (s *Service) UpdateCharterPolicy(ctx context.Context, req *internationalv1.UpdateCharterPolicyRequest) (*internationalv1.CharterPolicy, error) {
	var rehearsed *internationalv1.CharterPolicy
	made, err := inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterPolicy, error) {
		revision, err := s.makeRevision(ctx, tx, req.GetCharterPolicy(), req.GetUpdateMask())
		if err == nil && req.GetValidateOnly() {
			rehearsed, err = revision, errRehearsed
		}
		return revision, err
	})
	if errors.Is(err, errRehearsed) {
		return rehearsed, nil
	}
	if err != nil {
		return nil, err
	}
	// The revision is made. What is left of enforcing it, the job does.
	waiting, cancel := context.WithTimeout(ctx, enforceWait)
	defer cancel()
	if _, err := s.enforcePolicy(waiting); err != nil {
		s.log.WarnContext(ctx, "a policy revision is not enforced yet", "revision", made.GetRevision(), "error", err)
	}
	return made, nil
}

func (s *Service) makeRevision(ctx context.Context, tx pgx.Tx, given *internationalv1.CharterPolicy, mask *fieldmaskpb.FieldMask) (*internationalv1.CharterPolicy, error) {
	q, now := db.New(tx), s.clock.Now()
	state, err := q.LockPolicyState(ctx)
	if err != nil {
		return nil, err
	}
	if err := rpc.CheckEtags(ctx, given.GetEtag(), etag(state.Epoch, state.Version)); err != nil {
		return nil, err
	}
	last, err := q.LastPolicy(ctx)
	if err != nil {
		return nil, err
	}
	draft, err := draftPolicy(last, given, mask)
	if err != nil {
		return nil, err
	}
	if sameRule(draft, last) {
		return nil, rpc.Invalid(errorv1.Reason_REASON_POLICY_UNCHANGED, "charterPolicy", "says what revision %d says", last.Revision)
	}
	if draft.Note = strings.TrimSpace(given.GetNote()); draft.Note == "" {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy.note", "must say why the policy changes")
	}
	if draft.EffectiveTime, err = effectiveTime(given.GetEffectiveTime(), last, now); err != nil {
		return nil, err
	}
	row, err := q.InsertPolicy(ctx, db.InsertPolicyParams{
		ThresholdPercent: draft.ThresholdPercent, MinimumMembership: draft.MinimumMembership, MinimumMailing: draft.MinimumMailing,
		AllowMembership: draft.AllowMembership, AllowMailing: draft.AllowMailing, GraceDays: draft.GraceDays, ReapplyDays: draft.ReapplyDays,
		EffectiveTime: draft.EffectiveTime, ReviewDueDays: draft.ReviewDueDays, ChangesDueDays: draft.ChangesDueDays,
		ClaimHours: draft.ClaimHours, RecoveryDays: draft.RecoveryDays, GraceEnd: draft.GraceEnd, RenewalDays: draft.RenewalDays,
		ActivityDays: draft.ActivityDays, MinimumOfficers: draft.MinimumOfficers, SecondApproval: draft.SecondApproval,
		Subject: caller(ctx), Note: draft.Note, CreateTime: now,
	})
	if err != nil {
		return nil, fmt.Errorf("make a policy revision: %w", err)
	}
	return s.policyMoved(ctx, tx, row, now)
}

// effectiveTime checks when a revision would come into force: not in the past, and not before the one that it is laid over.
func effectiveTime(given *timestamppb.Timestamp, last db.Policy, now time.Time) (time.Time, error) {
	at := now
	if given != nil {
		at = given.AsTime().Truncate(time.Microsecond)
	}
	if (given != nil && given.CheckValid() != nil) || at.Before(now) {
		return at, rpc.Invalid(errorv1.Reason_REASON_EFFECTIVE_TIME_INVALID, "charterPolicy.effectiveTime", "must not lie in the past; leave it out for now").
			With("earliest", now.Format(time.RFC3339Nano))
	}
	if last.Revision > 1 && at.Before(last.EffectiveTime) {
		begins := last.EffectiveTime.Format(time.RFC3339Nano)
		return at, rpc.Precondition(errorv1.Reason_REASON_POLICY_SCHEDULED,
			"revision %d comes into force at %s and would be passed over; withdraw it, or choose a later time", last.Revision, begins).
			With("revision", last.Revision).With("effectiveTime", begins)
	}
	return at, nil
}

// ListCharterPolicyRevisions lists all revisions, withdrawn ones too.
func (s *Service) ListCharterPolicyRevisions(ctx context.Context, req *internationalv1.ListCharterPolicyRevisionsRequest) (*internationalv1.ListCharterPolicyRevisionsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListCharterPolicyRevisionsResponse, error) {
		q := db.New(tx)
		book, err := readPolicies(ctx, q, s.clock.Now())
		if err != nil {
			return nil, err
		}
		rows, err := q.PoliciesAfter(ctx, db.PoliciesAfterParams{After: int32(page.number()), Size: page.size + 1})
		if err != nil {
			return nil, err
		}
		rows, next := cutPage(page, rows, func(last db.Policy) string { return revision(last) })
		answer := &internationalv1.ListCharterPolicyRevisionsResponse{NextPageToken: next}
		for _, row := range rows {
			answer.Revisions = append(answer.Revisions, book.view(row))
		}
		return answer, nil
	})
}

// GetCharterPolicyRevision reads a revision.
func (s *Service) GetCharterPolicyRevision(ctx context.Context, req *internationalv1.GetCharterPolicyRevisionRequest) (*internationalv1.CharterPolicy, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterPolicy, error) {
		q := db.New(tx)
		book, err := readPolicies(ctx, q, s.clock.Now())
		if err != nil {
			return nil, err
		}
		row, err := findRevision(ctx, q, req.GetName())
		return book.view(row), err
	})
}

// WithdrawCharterPolicyRevision takes back a revision before it comes into force.
func (s *Service) WithdrawCharterPolicyRevision(ctx context.Context, req *internationalv1.WithdrawCharterPolicyRevisionRequest) (*internationalv1.CharterPolicy, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterPolicy, error) {
		q, now := db.New(tx), s.clock.Now()
		state, err := q.LockPolicyState(ctx)
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), etag(state.Epoch, state.Version)); err != nil {
			return nil, err
		}
		book, err := readPolicies(ctx, q, now)
		if err != nil {
			return nil, err
		}
		row, err := findRevision(ctx, q, req.GetName())
		if err != nil {
			return nil, err
		}
		if stands := book.state(row); stands != internationalv1.CharterPolicy_SCHEDULED {
			return nil, rpc.Precondition(errorv1.Reason_REASON_POLICY_REVISION_STATE, "%s is %s and cannot be withdrawn", req.GetName(), stands).
				With("state", stands)
		}
		last, err := q.LastPolicy(ctx)
		if err != nil {
			return nil, err
		}
		if last.Revision != row.Revision {
			return nil, rpc.Precondition(errorv1.Reason_REASON_POLICY_SCHEDULED, "revision %d is laid over it; withdraw that one first", last.Revision).
				With("revision", last.Revision).With("effectiveTime", last.EffectiveTime.Format(time.RFC3339Nano))
		}
		if row, err = q.WithdrawPolicy(ctx, db.WithdrawPolicyParams{Revision: row.Revision, Subject: caller(ctx), Now: now}); err != nil {
			return nil, err
		}
		return s.policyMoved(ctx, tx, row, now)
	})
}

func findRevision(ctx context.Context, q *db.Queries, name string) (db.Policy, error) {
	number, err := strconv.ParseInt(strings.TrimPrefix(name, "charterPolicy/revisions/"), 10, 32)
	if err != nil {
		return db.Policy{}, err // validation lets nine digits pass
	}
	row, err := q.PolicyOfRevision(ctx, int32(number))
	if errors.Is(err, pgx.ErrNoRows) {
		return row, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s", name)
	}
	return row, err
}

// policyMoved counts a change of the policy's revisions, tells of it, and shows the revision that changed.
func (s *Service) policyMoved(ctx context.Context, tx pgx.Tx, row db.Policy, now time.Time) (*internationalv1.CharterPolicy, error) {
	q := db.New(tx)
	if _, err := q.TouchPolicyState(ctx); err != nil {
		return nil, err
	}
	book, err := readPolicies(ctx, q, now)
	if err != nil {
		return nil, err
	}
	event, err := policyChanged(ctx, q, book)
	if err != nil {
		return nil, err
	}
	return book.view(row), bus.Append(ctx, tx, event)
}

// policyBook is the policy as it stands at a time.
type policyBook struct {
	inForce db.Policy
	state   func(db.Policy) internationalv1.CharterPolicy_State
	etag    string
	version bus.Version
}

func readPolicies(ctx context.Context, q *db.Queries, at time.Time) (policyBook, error) {
	inForce, err := q.PolicyInForce(ctx, at)
	if err != nil {
		return policyBook{}, fmt.Errorf("read the policy: %w", err)
	}
	row, err := q.ReadPolicyState(ctx)
	if err != nil {
		return policyBook{}, fmt.Errorf("read the policy's version: %w", err)
	}
	return policyBook{
		inForce: inForce, etag: etag(row.Epoch, row.Version), version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		state: func(policy db.Policy) internationalv1.CharterPolicy_State {
			switch {
			case policy.WithdrawTime != nil:
				return internationalv1.CharterPolicy_WITHDRAWN
			case policy.Revision == inForce.Revision:
				return internationalv1.CharterPolicy_IN_FORCE
			case policy.Revision < inForce.Revision:
				return internationalv1.CharterPolicy_SUPERSEDED
			}
			return internationalv1.CharterPolicy_SCHEDULED
		},
	}, nil
}

// view is a revision as the API shows it.
func (b policyBook) view(row db.Policy) *internationalv1.CharterPolicy {
	view := viewPolicy(row)
	view.Etag, view.State = b.etag, b.state(row)
	return view
}

func viewPolicy(policy db.Policy) *internationalv1.CharterPolicy {
	view := &internationalv1.CharterPolicy{
		Name:                    "charterPolicy/revisions/" + revision(policy),
		Revision:                revision(policy),
		ThresholdPercent:        policy.ThresholdPercent,
		MinimumPeopleMembership: policy.MinimumMembership,
		MinimumPeopleMailing:    policy.MinimumMailing,
		GraceDays:               policy.GraceDays,
		ReapplyDays:             policy.ReapplyDays,
		EffectiveTime:           timestamppb.New(policy.EffectiveTime),
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
		WithdrawTime:            optionalTime(policy.WithdrawTime),
		WithdrawSubject:         policy.WithdrawSubject,
	}
	if policy.AllowMembership {
		view.AllowedBases = append(view.AllowedBases, internationalv1.Basis_MEMBERSHIP)
	}
	if policy.AllowMailing {
		view.AllowedBases = append(view.AllowedBases, internationalv1.Basis_MAILING)
	}
	return view
}

// draftPolicy lays what is given over a revision. It has no number, no times and no words yet.
func draftPolicy(base db.Policy, given *internationalv1.CharterPolicy, mask *fieldmaskpb.FieldMask) (db.Policy, error) {
	merged := viewPolicy(base)
	if paths, all := policyPaths(mask); all || len(paths) > 0 {
		if err := rpc.Merge(merged, given, &fieldmaskpb.FieldMask{Paths: paths}, "charterPolicy", changeablePolicy...); err != nil {
			return db.Policy{}, err
		}
	}
	if err := checkPolicy(merged); err != nil {
		return db.Policy{}, err
	}
	return db.Policy{
		ThresholdPercent: merged.GetThresholdPercent(), MinimumMembership: merged.GetMinimumPeopleMembership(),
		MinimumMailing:  merged.GetMinimumPeopleMailing(),
		AllowMembership: slices.Contains(merged.GetAllowedBases(), internationalv1.Basis_MEMBERSHIP),
		AllowMailing:    slices.Contains(merged.GetAllowedBases(), internationalv1.Basis_MAILING),
		GraceDays:       merged.GetGraceDays(), ReapplyDays: merged.GetReapplyDays(), ReviewDueDays: merged.GetReviewDueDays(),
		ChangesDueDays: merged.GetChangesDueDays(), ClaimHours: merged.GetClaimHours(), RecoveryDays: merged.GetRecoveryDays(),
		GraceEnd: merged.GetGraceEnd().String(), RenewalDays: merged.GetRenewalDays(), ActivityDays: merged.GetActivityDays(),
		MinimumOfficers: merged.GetMinimumOfficers(), SecondApproval: merged.GetSecondApproval(),
	}, nil
}

// policyPaths are the paths of a mask without note and effective_time, which every revision has of its own. Without a mask
// all that is filled is meant, by "*" all fields.
func policyPaths(mask *fieldmaskpb.FieldMask) (paths []string, all bool) {
	if len(mask.GetPaths()) == 0 {
		return nil, true
	}
	for _, path := range mask.GetPaths() {
		switch path {
		case "note", "effective_time":
		case "*":
			paths = append(paths, changeablePolicy...)
		default:
			paths = append(paths, path)
		}
	}
	return paths, false
}

// checkPolicy refuses what the proto lets pass, because there a field that is not given is zero.
func checkPolicy(policy *internationalv1.CharterPolicy) error {
	for field, value := range map[string]int32{
		"thresholdPercent": policy.GetThresholdPercent(), "reviewDueDays": policy.GetReviewDueDays(),
		"changesDueDays": policy.GetChangesDueDays(), "claimHours": policy.GetClaimHours(), "graceEnd": int32(policy.GetGraceEnd()),
		"allowedBases": int32(len(policy.GetAllowedBases())),
	} {
		if value < 1 {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "charterPolicy."+field, "must be given, and not be 0")
		}
	}
	return nil
}

// sameRule says whether two revisions say the same.
func sameRule(a, b db.Policy) bool {
	for _, policy := range []*db.Policy{&a, &b} {
		policy.Revision, policy.EffectiveTime, policy.CreateTime, policy.Subject, policy.Note = 0, time.Time{}, time.Time{}, "", ""
		policy.WithdrawTime, policy.WithdrawSubject = nil, ""
	}
	return a == b
}
