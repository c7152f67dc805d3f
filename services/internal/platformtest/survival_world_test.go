package platformtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

const (
	// everybody is on the lists of two chapters.
	everybody = "everybody@readers.example"
	// nowhere is an address at which nobody is reached, on the list of asia's chapter.
	nowhere = "nowhere@readers.example"
	// leaver leaves by the link in the first mail.
	leaver = "p1.golang-france@readers.example"
	// wanderer is the chapter that moves from germany to japan in the middle.
	wanderer = "rust-germany"
	// shortly is the deadline of what nobody forwards, and patiently that of what somebody does.
	shortly, patiently = 4 * time.Second, 7 * 24 * time.Hour
)

// campaign is announcements on their way through a deployment, with what was acknowledged of them.
type campaign struct {
	*deployment

	announcements internationalv1.AnnouncementServiceClient
	relays        regionalv1.RelayServiceClient
	// home is each chapter's region at the beginning, and readers who is on its list.
	home    map[string]string
	readers map[string][]string
	parents map[string]string
	spoken  []*spoken
}

// spoken is an announcement as it was acknowledged.
type spoken struct {
	subject, name string
	edition       int32
	urgent        bool
	deadline      time.Time
	// recalled, and whether nobody had heard of it by then.
	recalled, unheard bool
	// had are the chapters that had it before it was recalled.
	had []string
	// verbs are what coordinators did, by region.
	verbs map[string]internationalv1.RegionReach_State
	// bounces are the chapters of those at whose addresses nobody is reached, and leavers who left by the link in the mail.
	bounces map[string]string
	leavers []string
}

func (s *spoken) relay(region string) string {
	return "regions/" + region + "/relays/" + strings.TrimPrefix(s.name, "announcements/")
}

// campaign founds the chapters and tells everybody a first thing, by which one address is found to be dead and one person
// leaves.
func (d *deployment) campaign(t *testing.T) *campaign {
	t.Helper()
	c := &campaign{
		deployment: d, home: map[string]string{wanderer: "germany"}, readers: map[string][]string{}, parents: map[string]string{},
		announcements: internationalv1.NewAnnouncementServiceClient(d.conns[bus.International]),
		relays:        regionalv1.NewRelayServiceClient(d.conns[bus.Regional]),
	}
	ctx := bounded(t, 2*patience)
	for _, pair := range regionsOfCascade {
		parent, region, _ := strings.Cut(pair, " ")
		_, err := d.regions.CreateRegion(d.staff(ctx, t), &regionalv1.CreateRegionRequest{
			RegionId: region, Region: &regionalv1.Region{DisplayName: region, ParentRegion: "regions/" + parent},
		})
		must(t, err)
		c.parents[region], c.home["golang-"+region] = parent, region
	}
	for _, chapter := range slices.Sorted(maps.Keys(c.home)) {
		c.open(ctx, t, chapter)
	}
	d.sink.Reject(nowhere, 550)
	first := c.publish(t, "first", true, 0)
	first.bounces = map[string]string{nowhere: "golang-asia"}
	c.settle(t)
	leave(t, mailTo(t, d.sink, leaver))
	first.leavers = []string{leaver}
	c.settle(t)
	c.readers["golang-france"] = slices.DeleteFunc(c.readers["golang-france"], func(a string) bool { return a == leaver })
	c.readers["golang-asia"] = slices.DeleteFunc(c.readers["golang-asia"], func(a string) bool { return a == nowhere })
	return c
}

// open founds a chapter with a list that mails what arrives by itself.
func (c *campaign) open(ctx context.Context, t *testing.T, chapter string) {
	t.Helper()
	_, err := c.chapters.CreateChapter(c.staff(ctx, t), &localv1.CreateChapterRequest{
		ChapterId: chapter, Chapter: &localv1.Chapter{DisplayName: chapter, Region: "regions/" + c.home[chapter]},
	})
	must(t, err)
	admin := c.admin(ctx, t, chapter)
	list := get(c.lists.CreateList(admin, &localv1.CreateListRequest{
		Parent: "chapters/" + chapter, ListId: "news", List: &localv1.List{DisplayName: "News", AnnouncementMode: localv1.List_AUTO},
	}))(t)
	for i := range 3 {
		c.readers[chapter] = append(c.readers[chapter], fmt.Sprintf("p%d.%s@readers.example", i+1, chapter))
	}
	switch chapter {
	case "golang-france", "golang-japan":
		c.readers[chapter] = append(c.readers[chapter], everybody)
	case "golang-asia":
		c.readers[chapter] = append(c.readers[chapter], nowhere)
	}
	_, err = upload(admin, c.syncs, &localv1.CreateSyncHeader{
		Parent: list.GetName(), Mode: localv1.Sync_REPLACE, Source: "crm", Apply: true, ContentType: "text/csv",
	}, []byte("email\n"+strings.Join(c.readers[chapter], "\n")+"\n"))
	must(t, err)
}

func (c *campaign) publish(t *testing.T, subject string, urgent bool, deadline time.Duration) *spoken {
	t.Helper()
	ctx := c.staff(bounded(t, patience), t)
	a := &internationalv1.Announcement{Subject: subject, Body: body(subject, 1)}
	if urgent {
		a.Priority = internationalv1.Announcement_URGENT
	}
	if deadline > 0 {
		a.RelayDeadline = durationpb.New(deadline)
	}
	draft := get(c.announcements.CreateAnnouncement(ctx, &internationalv1.CreateAnnouncementRequest{Announcement: a}))(t)
	published := get(c.announcements.PublishAnnouncement(ctx, &internationalv1.PublishAnnouncementRequest{Name: draft.GetName()}))(t)
	s := &spoken{
		subject: subject, name: draft.GetName(), edition: 1, urgent: urgent, deadline: published.GetRelayDeadlineTime().AsTime(),
		verbs: map[string]internationalv1.RegionReach_State{},
	}
	c.spoken = append(c.spoken, s)
	return s
}

// body is found again wherever it is kept.
func body(subject string, edition int32) string {
	return fmt.Sprintf("Edition %d of %s.", edition, subject)
}

func (c *campaign) correct(t *testing.T, s *spoken) {
	t.Helper()
	s.edition++
	corrected := get(c.announcements.CorrectAnnouncement(c.staff(bounded(t, patience), t), &internationalv1.CorrectAnnouncementRequest{
		Name: s.name, Body: body(s.subject, s.edition),
	}))(t)
	if corrected.GetEdition() != s.edition {
		t.Fatalf("%s is of edition %d, want %d", s.subject, corrected.GetEdition(), s.edition)
	}
}

func (c *campaign) recall(t *testing.T, s *spoken) {
	t.Helper()
	get(c.announcements.RecallAnnouncement(c.staff(bounded(t, patience), t), &internationalv1.RecallAnnouncementRequest{Name: s.name, Reason: "wrong"}))(t)
	s.recalled = true
}

// decide lets coordinators decide, each as soon as the announcement is there.
func (c *campaign) decide(t *testing.T, s *spoken, state internationalv1.RegionReach_State, regions ...string) {
	t.Helper()
	for _, region := range regions {
		ctx := c.as(bounded(t, patience), t, authz.Coordinator, "regions/"+region)
		verb := func() (err error) {
			switch state {
			case internationalv1.RegionReach_FORWARDED:
				_, err = c.relays.ForwardRelay(ctx, &regionalv1.ForwardRelayRequest{Name: s.relay(region)})
			case internationalv1.RegionReach_DECLINED:
				_, err = c.relays.DeclineRelay(ctx, &regionalv1.DeclineRelayRequest{Name: s.relay(region), Reason: "not for us"})
			default:
				_, err = c.relays.HoldRelay(ctx, &regionalv1.HoldRelayRequest{Name: s.relay(region), UntilTime: timestamppb.New(time.Now().Add(time.Hour))})
			}
			return err
		}
		eventually(t, patience, func() string {
			err := verb()
			if err != nil && status.Code(err) != codes.NotFound && status.Code(err) != codes.Unavailable {
				t.Fatalf("%s of %s: %v", region, s.subject, err)
			}
			return said(err)
		})
		s.verbs[region] = state
	}
}

func (c *campaign) forward(t *testing.T, s *spoken, regions ...string) {
	t.Helper()
	c.decide(t, s, internationalv1.RegionReach_FORWARDED, regions...)
}

// inbox is what a chapter has, by subject and as the gateway tells it. It fails when it has anything twice.
func (c *campaign) inbox(t *testing.T, chapter string) map[string]*localv1.InboxItem {
	t.Helper()
	r := get(http.NewRequestWithContext(t.Context(), http.MethodGet, c.rest+"/v1/chapters/"+chapter+"/inbox?pageSize=1000", nil))(t)
	r.Header.Set("Authorization", "Bearer "+c.token(t, authz.ChapterAdmin, "chapters/"+chapter))
	code, text := send(t, r)
	if code != http.StatusOK {
		t.Fatalf("the inbox of %s: %d %s", chapter, code, text)
	}
	answer := &localv1.ListInboxItemsResponse{}
	must(t, protojson.Unmarshal(text, answer))
	items := map[string]*localv1.InboxItem{}
	for _, item := range answer.GetItems() {
		if items[item.GetSubject()] != nil {
			t.Fatalf("%s has %q twice", chapter, item.GetSubject())
		}
		items[item.GetSubject()] = item
	}
	return items
}

// arrives waits until a chapter has an announcement and has mailed it.
func (c *campaign) arrives(t *testing.T, s *spoken, chapters ...string) {
	t.Helper()
	for _, chapter := range chapters {
		eventually(t, patience, func() string {
			item := c.inbox(t, chapter)[s.subject]
			if item.GetCounts().GetMailed() < int32(len(c.readers[chapter])) {
				return fmt.Sprintf("%s has of %s: %v", chapter, s.subject, item)
			}
			return ""
		})
	}
	s.had = append(s.had, chapters...)
}

// wander moves the chapter that moves, with the consent of both sides.
func (c *campaign) wander(t *testing.T) {
	t.Helper()
	transfers := regionalv1.NewTransferServiceClient(c.conns[bus.Regional])
	moved := get(transfers.AdoptChapter(c.staff(bounded(t, patience), t), &regionalv1.AdoptChapterRequest{
		Region: "regions/japan", Chapter: "chapters/" + wanderer,
	}))(t)
	if moved.GetState() != regionalv1.Transfer_COMPLETED {
		t.Fatalf("moved: %v", moved)
	}
}

// awaitWanderer waits until its site has followed.
func (c *campaign) awaitWanderer(t *testing.T) {
	t.Helper()
	ctx := c.staff(bounded(t, patience), t)
	eventually(t, patience, func() string {
		chapter, err := c.chapters.GetChapter(ctx, &localv1.GetChapterRequest{Name: "chapters/" + wanderer})
		if err == nil && chapter.GetRegion() == "regions/japan" {
			return ""
		}
		return fmt.Sprint(chapter.GetRegion(), err)
	})
}

// mailsOf are the mails of an announcement by who got them.
func (c *campaign) mailsOf(s *spoken) map[string][]mailsink.Message {
	mails := map[string][]mailsink.Message{}
	for _, m := range c.sink.Messages() {
		if m.Subject == s.subject {
			mails[m.To[0]] = append(mails[m.To[0]], m)
		}
	}
	return mails
}
