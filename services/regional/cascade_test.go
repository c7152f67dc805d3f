package regional_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// cascade is a world with a tree of regions, the tiers around it, and coordinators:
// world (europe (dach (austria, germany), france), asia (japan)).
type cascade struct {
	*world
	international, local *tier
	// everywhere is who may coordinate all regions.
	everywhere regionalv1.RelayServiceClient
	own        regionalv1.RegionalAnnouncementServiceClient
	seen       *collector
}

func setupCascade(t *testing.T, changes ...func(*world)) *cascade {
	t.Helper()
	w := setup(t, changes...)
	c := &cascade{world: w, international: w.tier(bus.International), local: w.tier(bus.Local)}
	for _, region := range []string{"europe world", "asia world", "dach europe", "france europe", "austria dach", "germany dach", "japan asia"} {
		id, parent, _ := strings.Cut(region, " ")
		w.region(id, "regions/"+parent)
	}
	c.everywhere = c.coordinator("regions/world")
	c.own = regionalv1.NewRegionalAnnouncementServiceClient(w.dial(relayerOf("regions/europe")))
	c.seen = w.collect()
	return c
}

func relayerOf(scope string) authz.Principal {
	return authz.Principal{Subject: "coordinator of " + scope, Grants: []authz.Grant{{Role: authz.Coordinator, Scope: scope}}}
}

func (w *world) coordinator(scope string) regionalv1.RelayServiceClient {
	w.t.Helper()
	return regionalv1.NewRelayServiceClient(w.dial(relayerOf(scope)))
}

// announced is an announcement of the international body as its event tells it.
type announced struct {
	c       *cascade
	id      string
	version int64
	said    *eventv1.AnnouncementChanged
}

func (c *cascade) announce(change ...func(*eventv1.AnnouncementChanged)) *announced {
	c.t.Helper()
	a := c.draft(change...)
	a.tell()
	return a
}

func (c *cascade) draft(change ...func(*eventv1.AnnouncementChanged)) *announced {
	c.t.Helper()
	id, err := uuid.NewV7()
	c.must(err)
	now := c.clock.Now()
	a := &announced{c: c, id: id.String(), said: &eventv1.AnnouncementChanged{
		Announcement: "announcements/" + id.String(), Edition: 1, Language: "en", Subject: "News", Body: "*All* is well.",
		PublishTime: timestamppb.New(now), RelayDeadlineTime: timestamppb.New(now.Add(7 * 24 * time.Hour)),
	}}
	for _, one := range change {
		one(a.said)
	}
	return a
}

// tell publishes the announcement as it is now.
func (a *announced) tell() {
	a.c.t.Helper()
	a.version++
	a.c.international.send("announcement."+a.id+".changed", "announcements/"+a.id, a.version, proto.CloneOf(a.said))
}

func (a *announced) relay(region string) string { return "regions/" + region + "/relays/" + a.id }

func (a *announced) forward(region string) *regionalv1.Relay {
	a.c.t.Helper()
	relay, err := a.c.everywhere.ForwardRelay(a.c.t.Context(), &regionalv1.ForwardRelayRequest{Name: a.relay(region)})
	a.c.must(err)
	return relay
}

func (a *announced) get(region string) *regionalv1.Relay {
	a.c.t.Helper()
	relay, err := a.c.everywhere.GetRelay(a.c.t.Context(), &regionalv1.GetRelayRequest{Name: a.relay(region)})
	a.c.must(err)
	return relay
}

// await waits until the other tiers have been told of exactly these relays: "asia WAITING, world FORWARDED 1".
func (a *announced) await(want string) {
	a.c.t.Helper()
	testkit.Eventually(a.c.t, patience, func() (bool, string) {
		got := a.c.seen.relays(a.id)
		return got == want, got + "; want " + want
	})
}

// collector is another tier that keeps the last it heard of each relay and announcement, and counts what it heard.
type collector struct {
	mu      sync.Mutex
	last    map[string]*eventv1.RelayChanged
	own     map[string]*eventv1.AnnouncementChanged
	applied map[string]int
}

func (w *world) collect() *collector {
	w.t.Helper()
	k := &collector{last: map[string]*eventv1.RelayChanged{}, own: map[string]*eventv1.AnnouncementChanged{}, applied: map[string]int{}}
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations}), NATS: w.connect(bus.International),
		Tier: bus.International, Site: bus.MainSite, FromTier: bus.Regional, FromSite: bus.MainSite,
		CompareEvery: time.Second, Log: quiet, Topics: []bus.Topic{{Kind: "relay", Apply: k.apply}, {Kind: "announcement", Apply: k.apply}},
	})
	w.must(err)
	w.background(consumer.Run)
	return k
}

func (k *collector) apply(_ context.Context, _ pgx.Tx, parts []bus.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch event := parts[0].Data.(type) {
	case *eventv1.RelayChanged:
		k.last[event.GetRelay()] = event
		k.applied[event.GetRelay()]++
	case *eventv1.AnnouncementChanged:
		k.own[event.GetAnnouncement()] = event
	}
	return nil
}

func (k *collector) get(relay string) (*eventv1.RelayChanged, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last[relay], k.applied[relay]
}

func (k *collector) announcement(name string) *eventv1.AnnouncementChanged {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own[name]
}

func (k *collector) relays(id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(k.last)) {
		if !strings.HasSuffix(name, id) {
			continue
		}
		one := strings.Split(name, "/")[1] + " " + k.last[name].GetState()
		if edition := k.last[name].GetEdition(); edition > 0 {
			one += fmt.Sprint(" ", edition)
		}
		if k.last[name].GetAutomatic() {
			one += " by itself"
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

func forRegions(regions ...string) func(*eventv1.AnnouncementChanged) {
	return func(said *eventv1.AnnouncementChanged) { said.AudienceRegions = regions }
}

func urgent(said *eventv1.AnnouncementChanged) { said.Urgent = true }

func refuses(t *testing.T, err error, reason errorv1.Reason) {
	t.Helper()
	if !rpc.Is(err, reason) {
		t.Errorf("got %v, want %s", err, reason)
	}
}

func TestCascadeGoesDownStepByStep(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")

	if got := a.forward("europe"); got.GetState() != regionalv1.Relay_FORWARDED || got.GetAutomatic() ||
		!slices.Equal(got.GetChildRegions(), []string{"regions/dach", "regions/france"}) || got.GetContent().GetBody() != "*All* is well." {
		t.Errorf("europe: %v", got)
	}
	a.await("asia WAITING, dach WAITING, europe FORWARDED 1, france WAITING, world FORWARDED 1")
	a.forward("dach")
	a.forward("germany")
	a.await("asia WAITING, austria WAITING, dach FORWARDED 1, europe FORWARDED 1, france WAITING, germany FORWARDED 1, world FORWARDED 1")
	if event, _ := c.seen.get(a.relay("germany")); event.GetParentRelay() != a.relay("dach") || event.GetAnnouncement() != "announcements/"+a.id {
		t.Errorf("germany: %v", event)
	}
	if event, _ := c.seen.get(a.relay("world")); event.GetParentRelay() != "" {
		t.Errorf("world: %v", event)
	}
}

func TestAudienceNarrowsTheWay(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(forRegions("regions/dach"), urgent)
	a.await("austria FORWARDED 1 by itself, dach FORWARDED 1 by itself, europe FORWARDED 1 by itself, " +
		"germany FORWARDED 1 by itself, world FORWARDED 1")
	for region, onWay := range map[string]bool{"world": true, "europe": true, "dach": false, "austria": false} {
		event, _ := c.seen.get(a.relay(region))
		if event.GetChaptersChosen() != onWay || len(event.GetChapters()) > 0 {
			t.Errorf("%s: chapters %v, chosen %v", region, event.GetChapters(), event.GetChaptersChosen())
		}
	}
	if event, _ := c.seen.get(a.relay("europe")); !slices.Equal(event.GetChildRegions(), []string{"regions/dach"}) {
		t.Errorf("europe went to %v", event.GetChildRegions())
	}
}

func TestDeadlineForwardsByItself(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	if got := a.get("asia"); !got.GetRemindTime().AsTime().Equal(c.clock.Now().Add(6 * 24 * time.Hour)) {
		t.Errorf("asia is reminded at %v", got.GetRemindTime().AsTime())
	}
	_, err := c.everywhere.DeclineRelay(t.Context(), &regionalv1.DeclineRelayRequest{Name: a.relay("asia"), Reason: "not for us"})
	c.must(err)
	a.forward("europe")
	c.clock.Advance(7*24*time.Hour - time.Microsecond)
	a.forward("dach")
	a.await("asia DECLINED, austria WAITING, dach FORWARDED 1, europe FORWARDED 1, france WAITING, germany WAITING, world FORWARDED 1")
	c.clock.Advance(time.Microsecond)
	a.await("asia DECLINED, austria FORWARDED 1 by itself, dach FORWARDED 1, europe FORWARDED 1, " +
		"france FORWARDED 1 by itself, germany FORWARDED 1 by itself, world FORWARDED 1")
	if event, _ := c.seen.get(a.relay("asia")); event.GetDeclineReason() != "not for us" {
		t.Errorf("asia: %v", event)
	}
}

func TestHoldEndsInWaitingOrForwarding(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	hold := func(region string, until time.Duration) {
		t.Helper()
		relay, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{
			Name: a.relay(region), UntilTime: timestamppb.New(c.clock.Now().Add(until)), Reason: "elections",
		})
		c.must(err)
		if relay.GetState() != regionalv1.Relay_HELD || relay.GetRemindTime() != nil || relay.GetHoldReason() != "elections" {
			t.Errorf("%s: %v", region, relay)
		}
	}
	hold("asia", 24*time.Hour)
	hold("europe", 10*24*time.Hour)
	a.await("asia HELD, europe HELD, world FORWARDED 1")

	c.clock.Advance(24 * time.Hour)
	a.await("asia WAITING, europe HELD, world FORWARDED 1")
	if got := a.get("asia"); !got.GetRemindTime().AsTime().Equal(c.clock.Now()) {
		t.Errorf("no reminder of asia is due: %v", got)
	}
	c.clock.Advance(6 * 24 * time.Hour)
	a.await("asia FORWARDED 1 by itself, europe HELD, japan FORWARDED 1 by itself, world FORWARDED 1")
	c.clock.Advance(3 * 24 * time.Hour)
	a.await("asia FORWARDED 1 by itself, austria FORWARDED 1 by itself, dach FORWARDED 1 by itself, europe FORWARDED 1 by itself, " +
		"france FORWARDED 1 by itself, germany FORWARDED 1 by itself, japan FORWARDED 1 by itself, world FORWARDED 1")
}

func TestCorrectionFollowsTheSameWays(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	_, err := c.everywhere.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{
		Name: a.relay("europe"), Note: "Read this", ChildRegions: []string{"regions/france"}, NoChapters: true,
		Translations: []*regionalv1.RelayTranslation{{Language: "de", Subject: "Neues", Body: "Alles gut."}},
	})
	c.must(err)
	a.await("asia WAITING, europe FORWARDED 1, france WAITING, world FORWARDED 1")
	first, _ := c.seen.get(a.relay("europe"))
	if first.GetNote() != "Read this" || first.GetTranslations()[0].GetSubject() != "Neues" || !first.GetChaptersChosen() {
		t.Errorf("europe: %v", first)
	}

	a.said.Edition, a.said.Body = 2, "All is *better*."
	a.tell()
	a.await("asia WAITING, europe FORWARDED 2, france WAITING, world FORWARDED 2")
	second, _ := c.seen.get(a.relay("europe"))
	if second.GetNote() != "Read this" || len(second.GetTranslations()) > 0 || !second.GetChaptersChosen() {
		t.Errorf("europe, corrected: %v", second)
	}
	if got := a.forward("asia"); got.GetEdition() != 2 || got.GetContent().GetBody() != "All is *better*." {
		t.Errorf("asia: %v", got)
	}
}

func TestRecallClosesAllRelays(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	a.forward("europe")
	_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: a.relay("asia"), UntilTime: timestamppb.New(c.clock.Now().Add(time.Hour))})
	c.must(err)
	a.said.Recalled, a.said.RecallReason = true, "wrong date"
	a.tell()
	a.await("asia RECALLED, dach RECALLED, europe RECALLED 1, france RECALLED, world RECALLED 1")
	_, err = c.everywhere.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: a.relay("asia")})
	refuses(t, err, errorv1.Reason_REASON_RELAY_STATE)
	if got := a.get("asia"); got.GetContent().GetRecallReason() != "wrong date" {
		t.Errorf("asia: %v", got)
	}
	c.clock.Advance(30 * 24 * time.Hour)
	a.said.Edition++
	a.tell()
	b := c.announce()
	b.await("asia WAITING, europe WAITING, world FORWARDED 1")
	a.await("asia RECALLED, dach RECALLED, europe RECALLED 1, france RECALLED, world RECALLED 1")
}
