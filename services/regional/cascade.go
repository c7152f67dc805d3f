package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// world is where announcements of the international body begin.
const world = "world"

// announcementTopic keeps the international body's announcements, each once, and sends them on their way.
func (s *Service) announcementTopic() bus.Topic {
	return bus.Topic{
		Kind: "announcement",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			said, ok := parts[0].Data.(*eventv1.AnnouncementChanged)
			if !ok {
				return nil
			}
			return s.hear(ctx, tx, said)
		},
		// An announcement that its owner has lost has been read all the same: it stays.
	}
}

// hear takes an announcement in: a new one begins its way at the root, and what is known already follows the ways that it went.
func (s *Service) hear(ctx context.Context, tx pgx.Tx, said *eventv1.AnnouncementChanged) error {
	id, err := uuid.Parse(strings.TrimPrefix(said.GetAnnouncement(), "announcements/"))
	if err != nil {
		return fmt.Errorf("%q is no announcement: %w", said.GetAnnouncement(), err)
	}
	if err := db.New(tx).LockTreeShared(ctx, treeLock); err != nil {
		return err
	}
	now := s.clock.Now()
	known, err := readAnnouncement(db.New(tx).AnnouncementForUpdate(ctx, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return s.hearNew(ctx, tx, id, said, now)
	}
	if err != nil {
		return err
	}
	if known.RegionID != nil {
		return fmt.Errorf("announcements/%s has the id of %s", id, known.said.GetAnnouncement())
	}
	_, err = s.follow(ctx, tx, known, said, now)
	return err
}

func (s *Service) hearNew(ctx context.Context, tx pgx.Tx, id uuid.UUID, said *eventv1.AnnouncementChanged, now time.Time) error {
	content, err := proto.Marshal(said)
	if err != nil {
		return err
	}
	a, err := readAnnouncement(db.New(tx).InsertAnnouncement(ctx, db.InsertAnnouncementParams{
		ID: id, Edition: said.GetEdition(), Recalled: said.GetRecalled(), Public: isPublic(said), Languages: said.GetAudienceLanguages(),
		Content: content, Epoch: now.UnixMicro(), Version: 1, Now: now,
	}))
	if err != nil || a.Recalled {
		return err
	}
	return s.begin(ctx, tx, a, world, now)
}

// follow writes the announcement as it is now, and moves its relays: a new edition to where the earlier one went, a recall
// to all. Relays that wait will forward what is there then.
func (s *Service) follow(ctx context.Context, tx pgx.Tx, before announcement, said *eventv1.AnnouncementChanged, now time.Time) (announcement, error) {
	q := db.New(tx)
	content, err := encode(said)
	if err != nil {
		return announcement{}, err
	}
	after, err := readAnnouncement(q.UpdateAnnouncement(ctx, db.UpdateAnnouncementParams{
		ID: before.ID, Edition: said.GetEdition(), Recalled: before.Recalled || said.GetRecalled(), Content: content, Now: now,
	}))
	if err != nil {
		return announcement{}, err
	}
	var moved []db.Relay
	switch {
	case after.Recalled && !before.Recalled:
		moved, err = q.RecallRelays(ctx, db.RecallRelaysParams{AnnouncementID: after.ID, Now: now})
	case after.Edition != before.Edition:
		moved, err = q.CorrectRelays(ctx, db.CorrectRelaysParams{AnnouncementID: after.ID, Edition: after.Edition, Now: now})
	}
	if err != nil {
		return announcement{}, fmt.Errorf("move the relays of %s: %w", said.GetAnnouncement(), err)
	}
	return after, appendRelays(ctx, tx, after, moved)
}

// begin makes the first relay of an announcement's way, which is forwarded from the start.
func (s *Service) begin(ctx context.Context, tx pgx.Tx, a announcement, region string, now time.Time) error {
	q := db.New(tx)
	inside, err := q.RegionsInside(ctx, db.RegionsInsideParams{Regions: []string{region}, Audience: a.audience()})
	if err != nil {
		return err
	}
	first := []db.TouchedChildrenRow{{ID: region, Inside: len(inside) > 0}}
	if _, err := s.arrive(ctx, q, a, first, now); err != nil {
		return err
	}
	return s.spread(ctx, tx, a, step{regions: []string{region}, automatic: false}, now)
}

// step is relays of one announcement that are forwarded together.
type step struct {
	regions   []string
	automatic bool
	// chosen are the only regions below to forward to, where narrow says so.
	chosen []string
	narrow bool
}

// spread forwards relays, makes those in the regions below that the audience touches, and goes on down as long as nobody
// has to be waited for. A region that exists later gets nothing by itself.
func (s *Service) spread(ctx context.Context, tx pgx.Tx, a announcement, at step, now time.Time) error {
	q := db.New(tx)
	var told []db.Relay
	for len(at.regions) > 0 {
		below, err := q.TouchedChildren(ctx, db.TouchedChildrenParams{Parents: at.regions, AnnouncementID: a.ID, Audience: a.audience()})
		if err != nil {
			return err
		}
		if at.narrow {
			below = slices.DeleteFunc(below, func(child db.TouchedChildrenRow) bool { return !slices.Contains(at.chosen, child.ID) })
		}
		forwarded, err := q.ForwardRelays(ctx, forwarding(a, at, below, now))
		if err != nil {
			return fmt.Errorf("forward %d relays of %s: %w", len(at.regions), a.said.GetAnnouncement(), err)
		}
		arrived, err := s.arrive(ctx, q, a, below, now)
		if err != nil {
			return err
		}
		told = append(told, forwarded...)
		if !a.passes(now) {
			told = append(told, arrived...)
			break
		}
		at = step{automatic: true}
		for _, relay := range arrived {
			at.regions = append(at.regions, relay.RegionID)
		}
	}
	return appendRelays(ctx, tx, a, told)
}

func forwarding(a announcement, at step, below []db.TouchedChildrenRow, now time.Time) db.ForwardRelaysParams {
	args := db.ForwardRelaysParams{
		AnnouncementID: a.ID, Regions: at.regions, Edition: a.Edition, Automatic: at.automatic, Now: now,
		Children: []string{}, ChildrenParents: []string{},
	}
	for _, child := range below {
		args.Children = append(args.Children, child.ID)
		args.ChildrenParents = append(args.ChildrenParents, child.ParentID)
	}
	return args
}

// arrive puts the announcement into the inboxes of regions. One that has it already keeps what it has. A region that only
// lies on the way to the audience delivers to none of its own chapters.
func (s *Service) arrive(ctx context.Context, q *db.Queries, a announcement, at []db.TouchedChildrenRow, now time.Time) ([]db.Relay, error) {
	deadline := a.said.GetRelayDeadlineTime().AsTime()
	args := db.InsertRelaysParams{
		AnnouncementID: a.ID, Now: now, DeadlineTime: deadline, RemindTime: remindTime(now, deadline), Epoch: now.UnixMicro(),
	}
	with := waiters{with: make([]string, len(at)), actingRegions: make([]string, len(at))}
	if !a.passes(now) && len(at) > 0 {
		var err error
		if with, err = waitersAt(ctx, q, at, now); err != nil {
			return nil, err
		}
	}
	args.WaitingWith, args.ActingRegions = with.with, with.actingRegions
	for _, place := range at {
		// Who has announced it need not be told of it.
		args.Inform = append(args.Inform, a.said.GetUrgent() && (a.RegionID == nil || *a.RegionID != place.ID))
		args.Regions = append(args.Regions, place.ID)
		args.Parents = append(args.Parents, place.ParentID)
		args.Chosen = append(args.Chosen, !place.Inside)
	}
	relays, err := q.InsertRelays(ctx, args)
	if err != nil {
		return nil, fmt.Errorf("make %d relays of %s: %w", len(at), a.said.GetAnnouncement(), err)
	}
	return relays, nil
}

// remindTime is a day before the deadline, or half of the time that is left when that is sooner.
func remindTime(now, deadline time.Time) time.Time {
	return deadline.Add(-min(24*time.Hour, max(0, deadline.Sub(now)/2)))
}

// dueBatch bounds how many announcements one round looks at.
const dueBatch = 100

// moveDue lets relays move by themselves whose hold is over or whose deadline has passed, and says how many announcements
// had such.
func (s *Service) moveDue(ctx context.Context) (int, error) {
	due, err := db.New(s.pool).DueAnnouncements(ctx, db.DueAnnouncementsParams{Now: s.clock.Now(), Size: dueBatch})
	if err != nil {
		return 0, fmt.Errorf("look for relays that are due: %w", err)
	}
	var failed error // one that fails stops no other
	for _, id := range due {
		if err := s.moveDueOf(ctx, id); err != nil {
			failed = errors.Join(failed, fmt.Errorf("move the relays of %s: %w", id, err))
		}
	}
	return len(due), failed
}

func (s *Service) moveDueOf(ctx context.Context, id uuid.UUID) error {
	return s.alone(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockTreeShared(ctx, treeLock); err != nil {
			return err
		}
		a, err := readAnnouncement(q.AnnouncementForUpdate(ctx, id))
		if err != nil {
			return err
		}
		now := s.clock.Now()
		relays, err := q.DueRelaysForUpdate(ctx, db.DueRelaysForUpdateParams{AnnouncementID: id, Now: now})
		if err != nil {
			return err
		}
		var waiting, overdue []string
		for _, relay := range relays {
			if relay.State == held && now.Before(relay.DeadlineTime) {
				waiting = append(waiting, relay.RegionID)
			} else {
				overdue = append(overdue, relay.RegionID)
			}
		}
		again, err := q.EndHolds(ctx, db.EndHoldsParams{AnnouncementID: id, Regions: waiting, Now: now})
		if err != nil {
			return err
		}
		if err := appendRelays(ctx, tx, a, again); err != nil {
			return err
		}
		return s.spread(ctx, tx, a, step{regions: overdue, automatic: true}, now)
	})
}
