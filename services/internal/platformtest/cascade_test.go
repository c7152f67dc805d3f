package platformtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// regionsOfCascade hang below each other from the second element to the first; a chapter of its own lies in each.
var regionsOfCascade = []string{
	"world europe", "world asia", "europe dach", "europe france", "dach austria", "dach germany", "asia japan",
}

// cascadeHouse has a tree of regions with a chapter in each, and what an announcement needs.
type cascadeHouse struct {
	*house
	announcements internationalv1.AnnouncementServiceClient
	relays        regionalv1.RelayServiceClient
	// outbox is the local tier's: its service does not run, and the test publishes in its place.
	outbox    *pgxpool.Pool
	publisher *bus.Publisher
	receipts  int64
}

func buildCascade(t *testing.T) *cascadeHouse {
	t.Helper()
	h := &cascadeHouse{house: build(t)}
	h.announcements = internationalv1.NewAnnouncementServiceClient(h.conns[bus.International])
	h.relays = regionalv1.NewRelayServiceClient(h.conns[bus.Regional])
	ctx := bounded(t, patience)
	for _, pair := range regionsOfCascade {
		parent, region, _ := strings.Cut(pair, " ")
		_, err := h.regions.CreateRegion(h.staff(ctx, t), &regionalv1.CreateRegionRequest{
			RegionId: region, Region: &regionalv1.Region{DisplayName: region, ParentRegion: "regions/" + parent},
		})
		must(t, err)
		_, err = h.chapters.CreateChapter(h.staff(ctx, t), &localv1.CreateChapterRequest{
			ChapterId: "golang-" + region, Chapter: &localv1.Chapter{DisplayName: region, Region: "regions/" + region},
		})
		must(t, err)
	}
	h.standInForLocal()
	return h
}

// standInForLocal stops the local tier and publishes from its outbox, so that the test says what becomes of announcements
// in chapters.
func (h *cascadeHouse) standInForLocal() {
	h.stop(bus.Local)
	h.outbox = h.pool(bus.Local)
	h.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: h.outbox, NATS: h.nats.Connect(h.t, bus.Local, bus.MainSite), Tier: bus.Local, Site: bus.MainSite, Log: h.logger("stand-in"),
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.publisher.Run(ctx) }()
	h.t.Cleanup(func() {
		stop()
		must(h.t, <-ended)
	})
}

// receive lets the chapter of a region receive an announcement and mail it.
func (h *cascadeHouse) receive(id, region string, reach *eventv1.Reach) {
	h.t.Helper()
	h.receipts++
	name := "chapters/golang-" + region + "/receipts/" + id
	_, err := postgres.InTx(h.t.Context(), h.outbox, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, bus.Append(h.t.Context(), tx, bus.Event{
			Subject: "receipt.golang-" + region + "." + id + ".changed", Aggregate: name,
			Version: bus.Version{Epoch: 1, Number: h.receipts},
			Data: &eventv1.ReceiptChanged{
				Receipt: name, Announcement: "announcements/" + id, Chapter: "chapters/golang-" + region,
				Region: "regions/" + region, State: "SENT", Edition: 1, Reach: reach,
			},
		})
	})
	must(h.t, err)
	h.publisher.Wake()
}

// publish writes and publishes an announcement, and returns its UUID.
func (h *cascadeHouse) publish(a *internationalv1.Announcement) string {
	h.t.Helper()
	ctx := h.staff(bounded(h.t, patience), h.t)
	draft := get(h.announcements.CreateAnnouncement(ctx, &internationalv1.CreateAnnouncementRequest{Announcement: a}))(h.t)
	eventually(h.t, patience, func() string { // the regions are on their way to the international body
		_, err := h.announcements.PublishAnnouncement(ctx, &internationalv1.PublishAnnouncementRequest{Name: draft.GetName()})
		return said(err)
	})
	return strings.TrimPrefix(draft.GetName(), "announcements/")
}

func said(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// forward lets a region's own coordinator forward, as soon as the announcement is there.
func (h *cascadeHouse) forward(id, region string) {
	h.t.Helper()
	ctx := h.as(bounded(h.t, patience), h.t, authz.Coordinator, "regions/"+region)
	eventually(h.t, patience, func() string {
		_, err := h.relays.ForwardRelay(ctx, &regionalv1.ForwardRelayRequest{Name: "regions/" + region + "/relays/" + id})
		return said(err)
	})
}

func (h *cascadeHouse) reach(id string) *internationalv1.AnnouncementReach {
	h.t.Helper()
	ctx := h.as(bounded(h.t, patience), h.t, authz.Auditor, "")
	return get(h.announcements.GetAnnouncementReach(ctx, &internationalv1.GetAnnouncementReachRequest{Name: "announcements/" + id + "/reach"}))(h.t)
}

// awaitReach waits until the tree of regions reads as wanted.
func (h *cascadeHouse) awaitReach(id, want string) *internationalv1.AnnouncementReach {
	h.t.Helper()
	var reach *internationalv1.AnnouncementReach
	eventually(h.t, patience, func() string {
		reach = h.reach(id)
		if got := reachText(reach.GetRegions()); got != want {
			return fmt.Sprintf("reach is\n%s\nwant\n%s", got, want)
		}
		return ""
	})
	return reach
}

// reachText writes regions as (region STATE edition people-mailed/with-those-below children...).
func reachText(regions []*internationalv1.RegionReach) string {
	var all []string
	for _, node := range regions {
		one := fmt.Sprintf("%s %s%d", strings.TrimPrefix(node.GetRegion(), "regions/"), node.GetState(), node.GetEdition())
		if node.GetAutomatic() {
			one += " by itself"
		}
		one += fmt.Sprintf(" %d/%d", node.GetReach().GetPeopleMailed(), node.GetTotal().GetPeopleMailed())
		if below := reachText(node.GetChildren()); below != "" {
			one += " " + below
		}
		all = append(all, "("+one+")")
	}
	return strings.Join(all, " ")
}

// TestCascade publishes an announcement and follows it through the three tiers.
func TestCascade(t *testing.T) {
	t.Parallel()
	t.Run("FromTheInternationalBodyToEveryLeafAndBack", cascadeAndBack)
	t.Run("WhileTheRegionalTierIsDown", cascadeOverAnOutage)
	t.Run("UrgentPassesAtOnce", urgentCascade)
}

func cascadeAndBack(t *testing.T) {
	h := buildCascade(t)
	id := h.publish(&internationalv1.Announcement{Subject: "News", Body: "*All* is well."})
	for _, region := range []string{"europe", "asia", "dach", "france", "austria", "germany", "japan"} {
		h.forward(id, region)
	}
	h.awaitReach(id, "(world FORWARDED1 0/0 (asia FORWARDED1 0/0 (japan FORWARDED1 0/0)) "+
		"(europe FORWARDED1 0/0 (dach FORWARDED1 0/0 (austria FORWARDED1 0/0) (germany FORWARDED1 0/0)) (france FORWARDED1 0/0)))")

	total := &internationalv1.ReachFigures{}
	for i, pair := range regionsOfCascade {
		_, region, _ := strings.Cut(pair, " ")
		n := int32(1) << i
		h.receive(id, region, &eventv1.Reach{ChaptersReached: 1, ChaptersSent: 1, PeopleMailed: n, PeopleBounced: 2 * n, PeopleUncertain: 1, PeopleUnsubscribed: 3})
		total.ChaptersReached, total.ChaptersSent = total.GetChaptersReached()+1, total.GetChaptersSent()+1
		total.PeopleMailed, total.PeopleBounced = total.GetPeopleMailed()+n, total.GetPeopleBounced()+2*n
		total.PeopleUncertain, total.PeopleUnsubscribed = total.GetPeopleUncertain()+1, total.GetPeopleUnsubscribed()+3
	}
	reach := h.awaitReach(id, "(world FORWARDED1 0/127 (asia FORWARDED1 2/66 (japan FORWARDED1 64/64)) "+
		"(europe FORWARDED1 1/61 (dach FORWARDED1 4/52 (austria FORWARDED1 16/16) (germany FORWARDED1 32/32)) (france FORWARDED1 8/8)))")
	if !proto.Equal(reach.GetTotal(), total) || !proto.Equal(reach.GetRegions()[0].GetTotal(), total) {
		t.Errorf("in all %v, of the world %v, want %v", reach.GetTotal(), reach.GetRegions()[0].GetTotal(), total)
	}
	if reach.GetRelays().GetForwarded() != 8 {
		t.Errorf("relays: %v", reach.GetRelays())
	}
}

// cascadeOverAnOutage corrects one announcement and recalls another while the regional tier is down in the middle of both.
func cascadeOverAnOutage(t *testing.T) {
	h := buildCascade(t)
	corrected := h.publish(&internationalv1.Announcement{Subject: "News", Body: "One."})
	recalled := h.publish(&internationalv1.Announcement{Subject: "Other news", Body: "One."})
	for _, id := range []string{corrected, recalled} {
		h.forward(id, "europe")
		h.awaitReach(id, "(world FORWARDED1 0/0 (asia WAITING0 0/0) (europe FORWARDED1 0/0 (dach WAITING0 0/0) (france WAITING0 0/0)))")
	}
	h.stop(bus.Regional)
	ctx := h.staff(bounded(t, patience), t)
	get(h.announcements.CorrectAnnouncement(ctx, &internationalv1.CorrectAnnouncementRequest{Name: "announcements/" + corrected, Body: "Two."}))(t)
	get(h.announcements.RecallAnnouncement(ctx, &internationalv1.RecallAnnouncementRequest{Name: "announcements/" + recalled, Reason: "wrong"}))(t)
	h.receive(corrected, "europe", &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 5})
	h.start(bus.Regional)
	h.awaitReach(recalled, "(world RECALLED1 0/0 (asia RECALLED0 0/0) (europe RECALLED1 0/0 (dach RECALLED0 0/0) (france RECALLED0 0/0)))")
	h.clock.Advance(8 * 24 * time.Hour)
	h.awaitReach(corrected, "(world FORWARDED2 0/5 (asia FORWARDED2 by itself 0/0 (japan FORWARDED2 by itself 0/0)) "+
		"(europe FORWARDED2 5/5 (dach FORWARDED2 by itself 0/0 (austria FORWARDED2 by itself 0/0) (germany FORWARDED2 by itself 0/0)) "+
		"(france FORWARDED2 by itself 0/0)))")
}

func urgentCascade(t *testing.T) {
	h := buildCascade(t)
	id := h.publish(&internationalv1.Announcement{
		Subject: "Now", Body: "Now.", Priority: internationalv1.Announcement_URGENT,
		Audience: &internationalv1.Audience{Regions: []string{"regions/dach"}},
	})
	h.awaitReach(id, "(world FORWARDED1 0/0 (europe FORWARDED1 by itself 0/0 (dach FORWARDED1 by itself 0/0 "+
		"(austria FORWARDED1 by itself 0/0) (germany FORWARDED1 by itself 0/0))))")
}
