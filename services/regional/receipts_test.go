package regional_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// receive publishes a receipt in the place of a local site.
func (a *announced) receive(chapter, region string, number int64, reach *eventv1.Reach) {
	a.c.t.Helper()
	name := "chapters/" + chapter + "/receipts/" + a.id
	a.c.local.send("receipt."+chapter+"."+a.id+".changed", name, number, &eventv1.ReceiptChanged{
		Receipt: name, Announcement: "announcements/" + a.id, Chapter: "chapters/" + chapter, Region: "regions/" + region,
		State: "SENT", Edition: 1, Reach: reach,
	})
}

// awaitReach waits until the other tiers have been told of a relay's reach.
func (a *announced) awaitReach(region string, want *eventv1.Reach) {
	a.c.t.Helper()
	testkit.Eventually(a.c.t, patience, func() (bool, string) {
		event, _ := a.c.seen.get(a.relay(region))
		return proto.Equal(event.GetReach(), want), fmt.Sprint(event.GetReach(), "; want ", want)
	})
}

// settleReach does so while the clock goes on.
func (a *announced) settleReach(region string, want *eventv1.Reach) {
	a.c.t.Helper()
	testkit.Eventually(a.c.t, patience, func() (bool, string) {
		a.c.clock.Advance(time.Second)
		event, _ := a.c.seen.get(a.relay(region))
		return proto.Equal(event.GetReach(), want), fmt.Sprint(event.GetReach(), "; want ", want)
	})
}

func TestReceiptsAreAddedUp(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(urgent)
	// A receipt may be here before its relay is.
	a.receive("golang-paris", "france", 1, &eventv1.Reach{ChaptersReached: 1, PeopleQueued: 10})
	a.receive("rust-paris", "france", 1, &eventv1.Reach{ChaptersReached: 1, ChaptersDismissed: 1})
	a.receive("golang-tokyo", "japan", 1, &eventv1.Reach{ChaptersReached: 1, ChaptersSent: 1, PeopleMailed: 3, PeopleFailed: 2})
	a.settleReach("france", &eventv1.Reach{ChaptersReached: 2, ChaptersDismissed: 1, PeopleQueued: 10})
	a.settleReach("japan", &eventv1.Reach{ChaptersReached: 1, ChaptersSent: 1, PeopleMailed: 3, PeopleFailed: 2})

	a.receive("golang-paris", "france", 3, &eventv1.Reach{ChaptersReached: 1, ChaptersSent: 1, PeopleMailed: 8, PeopleBounced: 1, PeopleUncertain: 1})
	a.receive("golang-paris", "france", 2, &eventv1.Reach{ChaptersReached: 1, PeopleQueued: 5, PeopleMailed: 5})
	a.settleReach("france", &eventv1.Reach{ChaptersReached: 2, ChaptersSent: 1, ChaptersDismissed: 1, PeopleMailed: 8, PeopleBounced: 1, PeopleUncertain: 1})
	if got := a.get("france").GetReach(); got.GetPeopleMailed() != 8 || got.GetChaptersReached() != 2 {
		t.Errorf("france: %v", got)
	}
}

func TestReceiptByAnotherRelayMovesBothSums(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(urgent)
	a.receive("golang-basel", "germany", 1, &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 4})
	a.awaitReach("germany", &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 4})
	c.clock.Advance(time.Second)
	a.receive("golang-basel", "france", 2, &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 5})
	a.awaitReach("germany", &eventv1.Reach{})
	a.awaitReach("france", &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 5})
}

// TestReachIsToldOnceASecond lets a thousand receipts come within one second of the clock.
func TestReachIsToldOnceASecond(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(urgent)
	a.receive("chapter-0", "france", 1, &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 1})
	a.awaitReach("france", &eventv1.Reach{ChaptersReached: 1, PeopleMailed: 1})
	_, before := c.seen.get(a.relay("france"))
	for i := range 100 {
		for version := range 10 {
			a.receive(fmt.Sprint("chapter-", i), "france", int64(version+2), &eventv1.Reach{ChaptersReached: 1, PeopleMailed: int32(version)})
		}
	}
	// The last one to be sent is of another region, whose relay's turn it is.
	testkit.Eventually(t, patience, func() (bool, string) {
		var receipts int
		c.must(c.pool.QueryRow(t.Context(), "SELECT count(*) FROM receipts WHERE people_mailed = 9").Scan(&receipts))
		return receipts == 100, fmt.Sprint(receipts, " receipts have come to their end")
	})
	a.receive("chapter-x", "japan", 1, &eventv1.Reach{ChaptersReached: 1})
	a.awaitReach("japan", &eventv1.Reach{ChaptersReached: 1})
	if _, now := c.seen.get(a.relay("france")); now != before {
		t.Errorf("%d events told of france before its second was over", now-before)
	}
	c.clock.Advance(time.Second)
	a.awaitReach("france", &eventv1.Reach{ChaptersReached: 100, PeopleMailed: 900})
	if _, now := c.seen.get(a.relay("france")); now != before+1 {
		t.Errorf("%d events told of a thousand receipts", now-before)
	}
}

// TestReachIsExact sends receipts of random histories in any order and repeatedly, while the clock goes on.
func TestReachIsExact(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(urgent)
	regions := []string{"world", "europe", "dach", "austria", "germany", "france", "asia", "japan"}
	type receipt struct {
		chapter, region string
		version         int64
		reach           *eventv1.Reach
	}
	var all []receipt
	want := map[string]*eventv1.Reach{}
	for i := range 40 {
		var last receipt
		for version := range 1 + rand.IntN(5) {
			last = receipt{fmt.Sprint("chapter-", i), regions[rand.IntN(len(regions))], int64(version + 1), &eventv1.Reach{
				ChaptersReached: 1, ChaptersSent: rand.Int32N(2), PeopleMailed: rand.Int32N(1000), PeopleBounced: rand.Int32N(10),
				PeopleFailed: rand.Int32N(10), PeopleUncertain: rand.Int32N(3), PeopleUnsubscribed: rand.Int32N(5), PeopleQueued: rand.Int32N(9),
			}}
			all = append(all, last, last)
		}
		sum := want[last.region]
		if sum == nil {
			sum = &eventv1.Reach{}
			want[last.region] = sum
		}
		addReach(sum, last.reach)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, one := range all {
		a.receive(one.chapter, one.region, one.version, one.reach)
		c.clock.Advance(100 * time.Millisecond)
	}
	testkit.Eventually(t, patience, func() (bool, string) {
		c.clock.Advance(time.Second)
		for _, region := range regions {
			event, _ := c.seen.get(a.relay(region))
			sum := want[region]
			if sum == nil {
				sum = &eventv1.Reach{}
			}
			if !proto.Equal(event.GetReach(), sum) {
				return false, fmt.Sprint(region, " has ", event.GetReach(), ", want ", sum)
			}
		}
		return true, ""
	})
	c.waysAddUp(a, regions)
}

// waysAddUp compares what a region shows of itself and all below it with the sum of the relays there.
func (c *cascade) waysAddUp(a *announced, regions []string) {
	c.t.Helper()
	for _, region := range regions {
		way, err := c.everywhere.GetRelayReach(c.t.Context(), &regionalv1.GetRelayReachRequest{Name: a.relay(region) + "/reach"})
		c.must(err)
		var mailed, reached int32
		for _, below := range regions {
			path, err := c.service.Ancestors(c.t.Context(), "regions/"+below)
			c.must(err)
			if below == region || slices.Contains(path, "regions/"+region) {
				reach := a.get(below).GetReach()
				mailed, reached = mailed+reach.GetPeopleMailed(), reached+reach.GetChaptersReached()
			}
		}
		if total := way.GetStop().GetTotal(); total.GetPeopleMailed() != mailed || total.GetChaptersReached() != reached || way.GetStop().GetDisplayName() == "" {
			c.t.Errorf("%s shows %v, want %d people and %d chapters", region, total, mailed, reached)
		}
	}
	_, err := c.everywhere.GetRelayReach(c.t.Context(), &regionalv1.GetRelayReachRequest{Name: "regions/atlantis/relays/" + a.id + "/reach"})
	refuses(c.t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func addReach(sum, more *eventv1.Reach) {
	sum.ChaptersReached += more.GetChaptersReached()
	sum.ChaptersSent += more.GetChaptersSent()
	sum.PeopleMailed += more.GetPeopleMailed()
	sum.PeopleBounced += more.GetPeopleBounced()
	sum.PeopleFailed += more.GetPeopleFailed()
	sum.PeopleUncertain += more.GetPeopleUncertain()
	sum.PeopleUnsubscribed += more.GetPeopleUnsubscribed()
	sum.PeopleQueued += more.GetPeopleQueued()
}
