package international

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// maxForecastPeople bounds what a read of a standing costs: looking ahead takes 1 ms for a chapter of 250 people, and 50 ms
// for one of so many.
const maxForecastPeople = 20_000

// GetStanding reads a chapter's live figures, what they are based on and how long they would last.
func (s *Service) GetStanding(ctx context.Context, req *internationalv1.GetStandingRequest) (*internationalv1.Standing, error) {
	chapter := idOf(req.GetName())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	if req.GetAsOfTime() != nil {
		return s.standingAsOf(ctx, chapter, req.GetAsOfTime())
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.Standing, error) {
		q := db.New(tx)
		row, err := q.ReadStanding(ctx, chapter)
		if err != nil {
			return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
		}
		standing, err := viewLive(ctx, q, row)
		if err != nil || !row.Standing.Eligible || row.Standing.MembershipTotal+row.Standing.MailingTotal > maxForecastPeople {
			return standing, err
		}
		ahead, err := readOutlook(ctx, tx, row, s.clock.Now())
		if err != nil {
			return nil, err
		}
		standing.ForecastLossTime = ahead.lossTime()
		return standing, nil
	})
}

// viewLive is a standing with what it is based on.
func viewLive(ctx context.Context, q *db.Queries, row db.ReadStandingRow) (*internationalv1.Standing, error) {
	lists, err := q.ListVersions(ctx, row.Standing.ChapterNo)
	if err != nil {
		return nil, fmt.Errorf("read the lists of %s: %w", row.ChapterID, err)
	}
	standing := viewStanding(row.ChapterID, row.Standing, row.Policy)
	standing.BasedOn = &internationalv1.StandingBasedOn{RegisterPosition: fmt.Sprint(row.Standing.RegisterPosition)}
	for _, list := range lists {
		standing.BasedOn.Lists = append(standing.BasedOn.Lists, &internationalv1.ListVersion{
			List:    "chapters/" + row.ChapterID + "/lists/" + list.ID,
			Version: etag(list.Epoch, list.Version),
		})
	}
	return standing, nil
}

// maxDifferences bounds the answer of an audit; the count goes on beyond it.
const maxDifferences = 1000

// AuditStandings recounts every standing from the tokens and the recorded states of terms, in one snapshot.
func (s *Service) AuditStandings(ctx context.Context, req *internationalv1.AuditStandingsRequest) (*internationalv1.AuditStandingsResponse, error) {
	chapter := strings.TrimPrefix(req.GetChapter(), "chapters/")
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.AuditStandingsResponse, error) {
		q := db.New(tx)
		rows, err := q.RecountStandings(ctx, chapter)
		if err != nil {
			return nil, fmt.Errorf("recount: %w", err)
		}
		if chapter != "" && len(rows) == 0 {
			return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no chapters/%s", chapter)
		}
		policies, err := q.Policies(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the policies: %w", err)
		}
		answer := &internationalv1.AuditStandingsResponse{Standings: int32(len(rows))}
		for _, row := range rows {
			difference := compare(row, policies)
			if difference == nil {
				continue
			}
			answer.DifferenceCount++
			if len(answer.GetDifferences()) < maxDifferences {
				answer.Differences = append(answer.Differences, difference)
			}
		}
		return answer, nil
	})
}

// compare holds a standing against its recount; nil when they agree.
func compare(row db.RecountStandingsRow, policies []db.Policy) *internationalv1.StandingDifference {
	membership := people{total: row.CountedMembershipTotal, international: row.CountedMembershipInternational}
	mailing := people{total: row.CountedMailingTotal, international: row.CountedMailingInternational}
	stands := row.Standing
	var remark string
	for _, policy := range policies {
		if policy.Revision == stands.PolicyRevision && judge(policy, membership, mailing).eligible != stands.Eligible {
			remark = fmt.Sprintf("eligible is %t, which the figures deny under policy revision %d", stands.Eligible, policy.Revision)
		}
	}
	same := membership == people{total: stands.MembershipTotal, international: stands.MembershipInternational} &&
		mailing == people{total: stands.MailingTotal, international: stands.MailingInternational}
	if same && remark == "" {
		return nil
	}
	return &internationalv1.StandingDifference{
		Name:                "chapters/" + row.ID + "/standing",
		Membership:          &internationalv1.Figures{Total: stands.MembershipTotal, International: stands.MembershipInternational},
		RecountedMembership: &internationalv1.Figures{Total: membership.total, International: membership.international},
		Mailing:             &internationalv1.Figures{Total: stands.MailingTotal, International: stands.MailingInternational},
		RecountedMailing:    &internationalv1.Figures{Total: mailing.total, International: mailing.international},
		Remark:              remark,
	}
}

// idOf takes the first id out of a name: x of "chapters/x/standing", "charters/x" and "members/x/addresses/y".
func idOf(name string) string {
	_, rest, _ := strings.Cut(name, "/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// snapshot reads everything as of one moment.
func snapshot[T any](ctx context.Context, s *Service, fn func(tx pgx.Tx) (T, error)) (T, error) {
	return postgres.InTxOptions(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, fn)
}
