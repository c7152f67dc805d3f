package international

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// etag is a version as callers see it. The epoch keeps it from returning to an earlier value after a restore.
func etag(epoch, version int64) string { return fmt.Sprintf("%d-%d", epoch, version) }

func revision(policy db.Policy) string { return fmt.Sprint(policy.Revision) }

// viewStanding is a standing as the API shows it, without what it is based on.
func viewStanding(chapter string, row db.Standing, policy db.Policy) *internationalv1.Standing {
	v := judgeRow(policy, row)
	return &internationalv1.Standing{
		Name:           "chapters/" + chapter + "/standing",
		Eligible:       v.eligible,
		Basis:          v.basis,
		Membership:     &internationalv1.Figures{Total: row.MembershipTotal, International: row.MembershipInternational},
		Mailing:        &internationalv1.Figures{Total: row.MailingTotal, International: row.MailingInternational},
		Gap:            &internationalv1.Gap{Convert: v.convert, Recruit: v.recruit},
		Margin:         v.margin,
		GapBasis:       v.gapBasis,
		PolicyRevision: revision(policy),
		Etag:           etag(row.Epoch, row.Version),
		UpdateTime:     timestamppb.New(row.UpdateTime),
	}
}

// standingEvent is a standing as the other tiers hear of it.
func standingEvent(chapter string, row db.Standing, policy db.Policy) *eventv1.StandingChanged {
	v := judgeRow(policy, row)
	event := &eventv1.StandingChanged{
		Chapter:        "chapters/" + chapter,
		Membership:     &eventv1.BasisFigures{Total: row.MembershipTotal, International: row.MembershipInternational},
		Mailing:        &eventv1.BasisFigures{Total: row.MailingTotal, International: row.MailingInternational},
		Eligible:       v.eligible,
		GapConvert:     v.convert,
		GapRecruit:     v.recruit,
		Margin:         v.margin,
		PolicyRevision: revision(policy),
		Etag:           etag(row.Epoch, row.Version),
		UpdateTime:     timestamppb.New(row.UpdateTime),
	}
	if v.eligible {
		event.Basis = v.basis.String()
	}
	return event
}
