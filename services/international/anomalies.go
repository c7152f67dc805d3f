package international

import (
	"context"
	"fmt"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// From when on figures are striking. They were chosen so that the ordinary life of a chapter of thirty people does not show:
// an address that changes, a clean-up once a year, a company that joins.
const (
	// Removals in so many days before the application, more than so many, and more than such a share of the list.
	removalDays    = 30
	removalLeast   = 5
	removalPercent = 20
	// Lists of at least so many addresses, of the smaller of which less than such a share is on both, or of which one is so
	// many times as long.
	apartLeast   = 10
	apartPercent = 20
	apartTimes   = 5
	// Additions from a new domain in so many days, at least so many, and such a share of the list.
	additionDays    = 90
	additionLeast   = 10
	additionPercent = 20
)

// addAnomalies says what about the lists is striking. It sees tokens, and what each day has added and removed; of domains it
// sees the number that the chapter's site has told.
func (r *reviewing) addAnomalies(ctx context.Context) error {
	for _, look := range []func(context.Context) (*internationalv1.CharterAnomaly, error){r.removals, r.distance, r.additions} {
		found, err := look(ctx)
		if err != nil {
			return fmt.Errorf("look for anomalies: %w", err)
		}
		if found != nil {
			r.view.Anomalies = append(r.view.Anomalies, found)
		}
	}
	return nil
}

// people is roughly how many addresses the lists hold.
func (r *reviewing) people() int32 { return r.standing.MembershipTotal + r.standing.MailingTotal }

func (r *reviewing) removals(ctx context.Context) (*internationalv1.CharterAnomaly, error) {
	day := r.charter.ApplyTime
	before, err := r.q.ListDaysBetween(ctx, db.ListDaysBetweenParams{
		ChapterNo: r.chapter.ChapterNo, FirstDay: dateOf(day.AddDate(0, 0, -removalDays)), LastDay: dateOf(day),
	})
	if err != nil {
		return nil, err
	}
	since, err := r.q.ListDaysBetween(ctx, db.ListDaysBetweenParams{
		ChapterNo: r.chapter.ChapterNo, FirstDay: dateOf(day.AddDate(0, 0, 1)), LastDay: dateOf(r.now),
	})
	// All that were there at some time of those days.
	were := max(r.people()-since.Added+since.Removed, 0) + before.Removed
	if err != nil || before.Removed <= removalLeast || before.Removed*100 <= were*removalPercent {
		return nil, err
	}
	return &internationalv1.CharterAnomaly{
		Kind: internationalv1.CharterAnomaly_REMOVALS_BEFORE_APPLYING, Count: before.Removed, Of: were,
		Text: fmt.Sprintf("In the %d days before it applied, the chapter took %d of about %d addresses off its lists.", removalDays, before.Removed, were),
	}, nil
}

func (r *reviewing) distance(ctx context.Context) (*internationalv1.CharterAnomaly, error) {
	lists, err := r.q.ListsTogether(ctx, r.chapter.ChapterNo)
	small, large := min(lists.Members, lists.Mailing), max(lists.Members, lists.Mailing)
	if err != nil || small < apartLeast || lists.Shared*100 >= small*apartPercent && large <= small*apartTimes {
		return nil, err
	}
	return &internationalv1.CharterAnomaly{
		Kind: internationalv1.CharterAnomaly_LISTS_FAR_APART, Count: lists.Shared, Of: small,
		Text: fmt.Sprintf("The members list holds %d addresses, the mailing lists %d, and %d are on both.", lists.Members, lists.Mailing, lists.Shared),
	}, nil
}

func (r *reviewing) additions(ctx context.Context) (*internationalv1.CharterAnomaly, error) {
	days, err := r.q.ListDaysBetween(ctx, db.ListDaysBetweenParams{
		ChapterNo: r.chapter.ChapterNo, FirstDay: dateOf(r.now.AddDate(0, 0, -additionDays)), LastDay: dateOf(r.now),
	})
	if err != nil || days.FromNewDomain < additionLeast || days.FromNewDomain*100 < r.people()*additionPercent {
		return nil, err
	}
	return &internationalv1.CharterAnomaly{
		Kind: internationalv1.CharterAnomaly_ADDITIONS_FROM_NEW_DOMAIN, Count: days.FromNewDomain, Of: r.people(),
		Text: fmt.Sprintf("In the last %d days %d addresses were added in changes that each brought many from one mail domain that nobody on the list had before.",
			additionDays, days.FromNewDomain),
	}, nil
}
