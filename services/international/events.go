package international

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// announceStandings tells the other tiers where standings moved to, and who crossed the line.
func (s *Service) announceStandings(ctx context.Context, tx pgx.Tx, all []moved) error {
	events := make([]bus.Event, 0, len(all))
	for _, m := range all {
		state := standingEvent(m.chapter, m.after, m.policy)
		events = append(events, standingChanged(m.chapter, m.after, state))
		if m.before.Eligible != m.after.Eligible {
			events = append(events, crossing(m.chapter, state))
		}
	}
	if err := bus.Append(ctx, tx, events...); err != nil {
		return fmt.Errorf("announce %d standings: %w", len(all), err)
	}
	return s.noteCrossings(ctx, tx, all)
}

func standingChanged(chapter string, row db.Standing, state *eventv1.StandingChanged) bus.Event {
	return bus.Event{
		Subject:   "standing." + chapter + ".changed",
		Aggregate: "chapters/" + chapter + "/standing",
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      state,
	}
}

// crossing is the notice that a chapter rose to the line or fell below it; it moves no copy.
func crossing(chapter string, state *eventv1.StandingChanged) bus.Event {
	if state.GetEligible() {
		return bus.Event{
			Subject: "standing." + chapter + ".eligibility_gained",
			Data:    &eventv1.EligibilityGained{Chapter: state.GetChapter(), Standing: state},
		}
	}
	return bus.Event{
		Subject: "standing." + chapter + ".eligibility_lost",
		Data:    &eventv1.EligibilityLost{Chapter: state.GetChapter(), Standing: state},
	}
}

func charterChanged(row db.Charter) bus.Event {
	return bus.Event{
		Subject:   "charter." + row.ChapterID + ".changed",
		Aggregate: "charters/" + row.ChapterID,
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      charterEvent(row),
	}
}

func charterEvent(row db.Charter) *eventv1.CharterChanged {
	return &eventv1.CharterChanged{
		Charter:           "charters/" + row.ChapterID,
		State:             row.State,
		ApplyTime:         timestamppb.New(row.ApplyTime),
		DecideTime:        optionalTime(row.DecideTime),
		CureByTime:        optionalTime(row.CureByTime),
		UpdateTime:        timestamppb.New(row.UpdateTime),
		ReviewDueTime:     optionalTime(row.ReviewDueTime),
		ChangesDueTime:    optionalTime(row.ChangesDueTime),
		RenewalDueTime:    optionalTime(row.RenewalDueTime),
		ProtectUntilTime:  optionalTime(row.ProtectUntilTime),
		OverrideUntilTime: optionalTime(row.OverrideUntilTime),
		ReapplyTime:       optionalTime(row.ReapplyTime),
		Verb:              row.Verb,
		Reasons:           row.Reasons,
	}
}

// owners answer what others missed.
func owners() []bus.Owner {
	return []bus.Owner{
		{Kind: "standing", Versions: standingVersions, Snapshot: standingSnapshot},
		{Kind: "charter", Versions: charterVersions, Snapshot: charterSnapshot},
		escalationOwner(),
		noticeOwner(),
		erasureOwner(),
		{Kind: "announcement", Versions: announcementVersions, Snapshot: announcementSnapshot},
	}
}

func standingVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).StandingVersionsAfter(ctx, db.StandingVersionsAfterParams{
		After: idOf(after), Size: int32(limit),
	})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: "chapters/" + row.ID + "/standing",
			Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func standingSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	chapter := idOf(aggregate)
	row, err := db.New(tx).ReadStanding(ctx, chapter)
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	version := bus.Version{Epoch: row.Standing.Epoch, Number: row.Standing.Version}
	return version, true, send(standingEvent(chapter, row.Standing, row.Policy))
}

func charterVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).CharterVersionsAfter(ctx, db.CharterVersionsAfterParams{
		After: strings.TrimPrefix(after, "charters/"), Size: int32(limit),
	})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: "charters/" + row.ChapterID,
			Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func charterSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	row, err := db.New(tx).ReadCharter(ctx, strings.TrimPrefix(aggregate, "charters/"))
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: row.Epoch, Number: row.Version}, true, send(charterEvent(row))
}

// beginEpoch starts all numbering anew, since this database was restored from a backup and would otherwise give out
// versions for a second time, with other figures behind them.
func (s *Service) beginEpoch(ctx context.Context, tx pgx.Tx, epoch int64) error {
	q := db.New(tx)
	for _, move := range []func(context.Context, int64) error{q.BeginEpoch, q.MoveStandingsToEpoch, q.MoveChartersToEpoch, q.MovePolicyToEpoch, q.MoveAnnouncementsToEpoch} {
		if err := move(ctx, epoch); err != nil {
			return fmt.Errorf("begin epoch %d: %w", epoch, err)
		}
	}
	standings, err := q.AllStandings(ctx)
	if err != nil {
		return fmt.Errorf("read the standings: %w", err)
	}
	charters, err := q.AllCharters(ctx)
	if err != nil {
		return fmt.Errorf("read the charters: %w", err)
	}
	announcements, err := q.PublishedAnnouncements(ctx)
	if err != nil {
		return fmt.Errorf("read the announcements: %w", err)
	}
	events := make([]bus.Event, 0, len(standings)+len(charters)+len(announcements))
	for _, row := range standings {
		events = append(events, standingChanged(row.ChapterID, row.Standing, standingEvent(row.ChapterID, row.Standing, row.Policy)))
	}
	for _, row := range charters {
		events = append(events, charterChanged(row))
	}
	escalations, err := beginEscalationEpoch(ctx, q, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	events = append(events, escalations...)
	erasures, err := beginErasureEpoch(ctx, q, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	events = append(events, erasures...)
	for _, row := range announcements {
		event, err := announcementChanged(row)
		if err != nil {
			return err
		}
		events = append(events, event)
	}
	book, err := readPolicies(ctx, q, s.clock.Now())
	if err != nil {
		return err
	}
	policy, err := policyChanged(ctx, q, book)
	if err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	return bus.Append(ctx, tx, append(events, policy)...)
}
