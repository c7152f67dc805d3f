package regional

import (
	"context"
	"strings"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// GetRelayReach shows what became of an announcement in a region and below it.
func (s *Service) GetRelayReach(ctx context.Context, req *regionalv1.GetRelayReachRequest) (*regionalv1.RelayWay, error) {
	name := strings.TrimSuffix(req.GetName(), "/reach")
	region, id, err := splitName(name)
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	a, err := readAnnouncement(q.Announcement(ctx, id))
	if err != nil {
		return nil, orNotFound(err, name)
	}
	rows, err := q.RelaysOf(ctx, id)
	if err != nil {
		return nil, err
	}
	stop, err := buildWay(rows, a, region)
	if err != nil {
		return nil, err
	}
	if stop == nil {
		return nil, notFound(name)
	}
	return &regionalv1.RelayWay{Name: req.GetName(), Announcement: a.said.GetAnnouncement(), Stop: stop}, nil
}

// buildWay joins relays to the tree that begins in a region, with the sums of what lies below each; nil when the
// announcement has not come there.
func buildWay(rows []db.RelaysOfRow, a announcement, region string) (*regionalv1.RelayStop, error) {
	stops := make(map[string]*regionalv1.RelayStop, len(rows))
	for _, row := range rows {
		stop, err := viewStop(row, a)
		if err != nil {
			return nil, err
		}
		stops[row.Relay.RegionID] = stop
	}
	for _, row := range rows {
		if row.Relay.ParentID == nil {
			continue
		}
		if parent, known := stops[*row.Relay.ParentID]; known {
			parent.Children = append(parent.Children, stops[row.Relay.RegionID])
		}
	}
	first, known := stops[region]
	if !known {
		return nil, nil //nolint:nilnil // as documented
	}
	addBelow(first)
	return first, nil
}

func viewStop(row db.RelaysOfRow, a announcement) (*regionalv1.RelayStop, error) {
	relay, err := viewRelay(row.Relay, a)
	if err != nil {
		return nil, err
	}
	return &regionalv1.RelayStop{
		Region:        regionName(row.Relay.RegionID),
		DisplayName:   row.DisplayName,
		State:         relay.GetState(),
		ArriveTime:    relay.GetArriveTime(),
		DeadlineTime:  relay.GetDeadlineTime(),
		HoldUntilTime: relay.GetHoldUntilTime(),
		ForwardTime:   relay.GetForwardTime(),
		Automatic:     relay.GetAutomatic(),
		DeclineReason: relay.GetDeclineReason(),
		Edition:       relay.GetEdition(),
		Reach:         relay.GetReach(),

		WaitingWith:      relay.GetWaitingWith(),
		ActingRegion:     relay.GetActingRegion(),
		WaitingSinceTime: relay.GetWaitingSinceTime(),
	}, nil
}

// addBelow sums a stop with all below it.
func addBelow(stop *regionalv1.RelayStop) {
	stop.Total = &regionalv1.RelayReach{}
	add(stop.GetTotal(), stop.GetReach())
	for _, child := range stop.GetChildren() {
		addBelow(child)
		add(stop.GetTotal(), child.GetTotal())
	}
}

func add(sum, more *regionalv1.RelayReach) {
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
