package international

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// relayTopic keeps the copy of the relays of our announcements. Those of the regions' own pass by.
func relayTopic() bus.Topic {
	return bus.Topic{
		Kind: "relay",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			relay, err := data[*eventv1.RelayChanged](parts[0])
			if err != nil {
				return err
			}
			ours, isOurs := strings.CutPrefix(relay.GetAnnouncement(), "announcements/")
			if !isOurs {
				return nil
			}
			id, err := uuid.Parse(ours)
			if err != nil {
				return fmt.Errorf("%q is no announcement: %w", relay.GetAnnouncement(), err)
			}
			return db.New(tx).PutRelay(ctx, relayRow(id, relay))
		},
	}
}

func relayRow(id uuid.UUID, relay *eventv1.RelayChanged) db.PutRelayParams {
	reach := relay.GetReach()
	return db.PutRelayParams{
		AnnouncementID: id, Region: relayRegion(relay.GetRelay()), ParentRegion: relayRegion(relay.GetParentRelay()),
		State: relay.GetState(), Edition: relay.GetEdition(), Automatic: relay.GetAutomatic(),
		ArriveTime: givenTime(relay.GetArriveTime()), DeadlineTime: givenTime(relay.GetDeadlineTime()),
		HoldUntilTime: givenTime(relay.GetHoldUntilTime()), ForwardTime: givenTime(relay.GetForwardTime()),
		DeclineReason:   relay.GetDeclineReason(),
		ChaptersReached: reach.GetChaptersReached(), ChaptersSent: reach.GetChaptersSent(), ChaptersDismissed: reach.GetChaptersDismissed(),
		PeopleQueued: reach.GetPeopleQueued(), PeopleMailed: reach.GetPeopleMailed(), PeopleBounced: reach.GetPeopleBounced(),
		PeopleFailed: reach.GetPeopleFailed(), PeopleUncertain: reach.GetPeopleUncertain(), PeopleUnsubscribed: reach.GetPeopleUnsubscribed(),
		WaitingWith: append([]string{}, relay.GetWaitingWith()...), ActingRegion: relay.GetActingRegion(), WaitingSince: givenTime(relay.GetWaitingSinceTime()),
	}
}

// relayRegion is the region's id in "regions/<region>/relays/<uuid>"; empty for no relay.
func relayRegion(relay string) string {
	region, _, _ := strings.Cut(strings.TrimPrefix(relay, "regions/"), "/")
	return region
}

func givenTime(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// GetAnnouncementReach shows what became of an announcement.
func (s *Service) GetAnnouncementReach(ctx context.Context, req *internationalv1.GetAnnouncementReachRequest) (*internationalv1.AnnouncementReach, error) {
	id, err := announcementID(req.GetName())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.AnnouncementReach, error) {
		q := db.New(tx)
		row, err := q.ReadAnnouncement(ctx, id)
		if err != nil {
			return nil, noAnnouncement(err, announcementName(id))
		}
		relays, err := q.RelaysOf(ctx, id)
		if err != nil {
			return nil, err
		}
		reach := buildReach(relays)
		reach.Name, reach.Edition = announcementName(id)+"/reach", row.Edition
		return reach, nil
	})
}

// buildReach joins relays to the tree of the way that the announcement went, and adds up what lies below each. A relay
// whose own parent has not been told of yet stands at the top until it is.
func buildReach(relays []db.RelaysOfRow) *internationalv1.AnnouncementReach {
	reach := &internationalv1.AnnouncementReach{Relays: &internationalv1.RelayCounts{}, Total: &internationalv1.ReachFigures{}}
	nodes := make(map[string]*internationalv1.RegionReach, len(relays))
	for _, row := range relays {
		node := viewRegionReach(row)
		nodes[row.Relay.Region] = node
		count(reach.GetRelays(), node.GetState())
		add(reach.GetTotal(), node.GetReach())
	}
	for _, row := range relays {
		node := nodes[row.Relay.Region]
		parent, known := nodes[row.Relay.ParentRegion]
		if !known {
			reach.Regions = append(reach.Regions, node)
			continue
		}
		parent.Children = append(parent.Children, node)
	}
	for _, top := range reach.GetRegions() {
		addBelow(top)
	}
	return reach
}

// addBelow sums a region with all below it.
func addBelow(node *internationalv1.RegionReach) {
	node.Total = &internationalv1.ReachFigures{}
	add(node.GetTotal(), node.GetReach())
	for _, child := range node.GetChildren() {
		addBelow(child)
		add(node.GetTotal(), child.GetTotal())
	}
}

func add(sum, more *internationalv1.ReachFigures) {
	sum.ChaptersReached += more.GetChaptersReached()
	sum.ChaptersSent += more.GetChaptersSent()
	sum.ChaptersDismissed += more.GetChaptersDismissed()
	sum.PeopleQueued += more.GetPeopleQueued()
	sum.PeopleMailed += more.GetPeopleMailed()
	sum.PeopleBounced += more.GetPeopleBounced()
	sum.PeopleFailed += more.GetPeopleFailed()
	sum.PeopleUncertain += more.GetPeopleUncertain()
	sum.PeopleUnsubscribed += more.GetPeopleUnsubscribed()
}

func count(counts *internationalv1.RelayCounts, state internationalv1.RegionReach_State) {
	switch state {
	case internationalv1.RegionReach_WAITING:
		counts.Waiting++
	case internationalv1.RegionReach_HELD:
		counts.Held++
	case internationalv1.RegionReach_FORWARDED:
		counts.Forwarded++
	case internationalv1.RegionReach_DECLINED:
		counts.Declined++
	case internationalv1.RegionReach_RECALLED:
		counts.Recalled++
	case internationalv1.RegionReach_STATE_UNSPECIFIED: // of a newer regional tier
	}
}

func viewRegionReach(row db.RelaysOfRow) *internationalv1.RegionReach {
	r := row.Relay
	return &internationalv1.RegionReach{
		Region:        "regions/" + r.Region,
		DisplayName:   row.DisplayName,
		Relay:         "regions/" + r.Region + "/relays/" + r.AnnouncementID.String(),
		State:         internationalv1.RegionReach_State(internationalv1.RegionReach_State_value[r.State]),
		ArriveTime:    optionalTime(r.ArriveTime),
		DeadlineTime:  optionalTime(r.DeadlineTime),
		HoldUntilTime: optionalTime(r.HoldUntilTime),
		ForwardTime:   optionalTime(r.ForwardTime),
		Automatic:     r.Automatic,
		DeclineReason: r.DeclineReason,
		Edition:       r.Edition,
		Reach: &internationalv1.ReachFigures{
			ChaptersReached: r.ChaptersReached, ChaptersSent: r.ChaptersSent, ChaptersDismissed: r.ChaptersDismissed,
			PeopleQueued: r.PeopleQueued, PeopleMailed: r.PeopleMailed, PeopleBounced: r.PeopleBounced,
			PeopleFailed: r.PeopleFailed, PeopleUncertain: r.PeopleUncertain, PeopleUnsubscribed: r.PeopleUnsubscribed,
		},
		WaitingWith: r.WaitingWith, ActingRegion: r.ActingRegion, WaitingSinceTime: optionalTime(r.WaitingSince),
	}
}
