package demo

import (
	"context"
	"fmt"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// applyAndDecide leaves one application waiting and approves the other, which is the last step of a load.
func (l *loader) applyAndDecide(ctx context.Context) error {
	for slug, note := range map[string]string{
		applied:   "We meet every month and grow with each meeting.",
		chartered: "We have met every month for ten years.",
	} {
		if err := l.apply(ctx, slug, note); err != nil {
			return fmt.Errorf("apply for %s: %w", chapterName(slug), err)
		}
	}
	l.step("charters")
	if err := l.approve(ctx, chartered); err != nil {
		return fmt.Errorf("approve charters/%s: %w", chartered, err)
	}
	l.step("charters")
	return nil
}

func (l *loader) apply(ctx context.Context, slug, note string) error {
	ctx, err := l.asAdmin(ctx, slug)
	if err != nil {
		return err
	}
	_, err = l.charters.CreateCharter(ctx, &internationalv1.CreateCharterRequest{
		Charter: &internationalv1.Charter{Chapter: chapterName(slug), Note: note},
	})
	if rpc.Is(err, errorv1.Reason_REASON_CHARTER_STATE) { // it has applied already
		return nil
	}
	return err
}

// approveAttempts are how often the standing may move between reading and deciding.
const approveAttempts = 5

func (l *loader) approve(ctx context.Context, slug string) error {
	ctx, err := l.asStaff(ctx)
	if err != nil {
		return err
	}
	for range approveAttempts {
		var standing *internationalv1.Standing
		standing, err = l.standing.GetStanding(ctx, &internationalv1.GetStandingRequest{Name: chapterName(slug) + "/standing"})
		if err != nil {
			return err
		}
		_, err = l.charters.ApproveCharter(ctx, &internationalv1.ApproveCharterRequest{
			Name: "charters/" + slug, StandingEtag: standing.GetEtag(), Note: "Exactly on the line, which is enough.",
		})
		if !rpc.Is(err, errorv1.Reason_REASON_STANDING_MOVED) {
			return err
		}
	}
	return err
}
