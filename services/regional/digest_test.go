package regional_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

const day = 24 * time.Hour

func (w *world) digests(p authz.Principal) regionalv1.DigestServiceClient {
	w.t.Helper()
	return regionalv1.NewDigestServiceClient(w.dial(p))
}

// digest is a region's as somebody sees it: "KIND item, item; KIND item (1 snoozed)".
func digest(ctx context.Context, client regionalv1.DigestServiceClient, region string, all bool) string {
	got, err := client.GetRegionDigest(ctx, &regionalv1.GetRegionDigestRequest{Name: "regions/" + region, IncludeSnoozed: all})
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, part := range got.GetParts() {
		if part.GetCount() == 0 {
			continue
		}
		var items []string
		for _, item := range part.GetItems() {
			items = append(items, strings.TrimPrefix(item.GetName(), "regions/"+region+"/digestItems/"))
		}
		slices.Sort(items)
		text := part.GetKind().String() + " " + strings.Join(items, ", ")
		if part.GetSnoozedCount() > 0 {
			text += fmt.Sprintf(" (%d of %d snoozed)", part.GetSnoozedCount(), part.GetCount())
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func (w *world) awaitDigest(client regionalv1.DigestServiceClient, region, want string) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		got := digest(w.t.Context(), client, region, false)
		return got == want, fmt.Sprintf("the digest of %s is %q, want %q", region, got, want)
	})
}

// atRisk lets a charter be in a state since now, with the end of its grace period.
func (o *tier) atRisk(chapter, state string, number int64, cureBy time.Time) {
	o.w.t.Helper()
	o.send("charter."+chapter+".changed", "charters/"+chapter, number, &eventv1.CharterChanged{
		Charter: "charters/" + chapter, State: state, UpdateTime: timestamppb.New(o.w.clock.Now()), CureByTime: timestamppb.New(cureBy),
	})
}

// raised lets a chapter raise a concern, and returns its UUID.
func (o *tier) raised(chapter, region, subject string) string {
	o.w.t.Helper()
	id, now := uuid.NewString(), timestamppb.New(o.w.clock.Now())
	o.send("concern."+chapter+"."+id+".changed", "chapters/"+chapter+"/concerns/"+id, 1, &eventv1.ConcernChanged{
		Concern: "chapters/" + chapter + "/concerns/" + id, Region: "regions/" + region, Subject: subject, Body: subject, CreateTime: now, UpdateTime: now,
	})
	return id
}

func TestDigestShowsWhatWaits(t *testing.T) {
	c := setupCascade(t)
	europe := c.digests(relayerOf("regions/europe"))
	c.awaitDigest(europe, "europe", "")
	waits, holds := c.announce(), c.announce()
	waits.await("asia WAITING, europe WAITING, world FORWARDED 1")
	holds.await("asia WAITING, europe WAITING, world FORWARDED 1")
	until := c.clock.Now().Add(3 * day)
	_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: holds.relay("europe"), UntilTime: timestamppb.New(until)})
	c.must(err)
	c.local.chapter("golang-paris", "regions/france", 1)
	c.local.chapter("golang-wien", "regions/austria", 1)
	c.local.chapter("golang-tokio", "regions/japan", 1)
	cureBy := c.clock.Now().Add(90 * day)
	c.international.atRisk("golang-paris", "AT_RISK", 1, cureBy)
	c.international.atRisk("golang-wien", "SUSPENDED", 1, cureBy)
	c.international.atRisk("golang-tokio", "AT_RISK", 1, cureBy)
	asks := c.local.raised("golang-paris", "europe", "No room")
	c.local.raised("golang-paris", "france", "No light")

	c.awaitDigest(europe, "europe", "RELAY_WAITING relay-"+waits.id+"; RELAY_HELD relay-"+holds.id+"; CONCERN_UNANSWERED concern-"+asks+
		"; CHARTER_AT_RISK at-risk-golang-paris; CHARTER_SUSPENDED suspended-golang-wien")
	c.awaitDigest(europe, "dach", "CHARTER_SUSPENDED suspended-golang-wien")
	got, err := europe.GetRegionDigest(t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/europe"})
	c.must(err)
	if n := len(got.GetParts()); n != 6 || got.GetConcerns().GetUnansweredCount() != 1 || len(got.GetConcerns().GetFirstDue()) != 1 {
		t.Errorf("%d parts, concerns %v", n, got.GetConcerns())
	}
	now := c.clock.Now()
	for i, want := range []*regionalv1.DigestItem{
		{Resource: waits.relay("europe"), Region: "regions/europe", Title: "News", SinceTime: timestamppb.New(now), DeadlineTime: timestamppb.New(now.Add(7 * day))},
		{Resource: holds.relay("europe"), Region: "regions/europe", Title: "News", SinceTime: timestamppb.New(now), DeadlineTime: timestamppb.New(now.Add(7 * day)), HoldUntilTime: timestamppb.New(until)},
		{Resource: "regions/europe/concerns/" + asks, Region: "regions/europe", Title: "No room", SinceTime: timestamppb.New(now), DeadlineTime: timestamppb.New(now.Add(14 * day))},
		{Resource: "charters/golang-paris", Region: "regions/france", Title: "golang-paris", SinceTime: timestamppb.New(now), DeadlineTime: timestamppb.New(cureBy)},
		{Resource: "charters/golang-wien", Region: "regions/austria", Title: "golang-wien", SinceTime: timestamppb.New(now), DeadlineTime: timestamppb.New(cureBy)},
	} {
		item := got.GetParts()[i].GetItems()[0]
		if item.GetRemedy() == "" || item.GetPressing() {
			t.Errorf("pressing, or without a remedy: %v", item)
		}
		item.Name, item.Kind, item.Remedy = "", 0, ""
		if item.String() != want.String() {
			t.Errorf("got  %v\nwant %v", item, want)
		}
	}

	// A day before its deadline a relay is pressing, and then it is gone; a charter keeps since when it is at risk.
	c.clock.Advance(6*day + time.Hour)
	c.international.atRisk("golang-paris", "AT_RISK", 2, cureBy.Add(day))
	testkit.Eventually(t, patience, func() (bool, string) {
		got, err := europe.GetRegionDigest(t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/europe"})
		c.must(err)
		relays, charter := got.GetParts()[0], got.GetParts()[3].GetItems()[0]
		pressing := len(relays.GetItems()) == 2 && relays.GetItems()[0].GetPressing()
		moved := charter.GetDeadlineTime().AsTime().Equal(cureBy.Add(day)) && charter.GetSinceTime().AsTime().Equal(now)
		return pressing && moved, got.String()
	})
	c.international.atRisk("golang-paris", "CHARTERED", 3, time.Time{})
	c.clock.Advance(day)
	c.awaitDigest(europe, "europe", "CONCERN_UNANSWERED concern-"+asks+"; CHARTER_SUSPENDED suspended-golang-wien")
}

func TestSnoozeIsEachCoordinatorsOwn(t *testing.T) {
	w := setup(t)
	w.region("europe", "regions/world")
	w.region("france", "regions/europe")
	local := w.tier(bus.Local)
	local.chapter("golang-paris", "regions/france", 1)
	first := local.raised("golang-paris", "europe", "No room")
	second := local.raised("golang-paris", "europe", "No light")
	ada, bob := coordinatorOf("europe"), coordinatorOf("europe")
	bob.Subject = "bob"
	hers, his := w.digests(ada), w.digests(bob)
	both := []string{"concern-" + first, "concern-" + second}
	slices.Sort(both)
	whole := "CONCERN_UNANSWERED " + strings.Join(both, ", ")
	w.awaitDigest(hers, "europe", whole)

	name := "regions/europe/digestItems/concern-" + first
	until := w.clock.Now().Add(10 * day)
	snooze := func(name string, until time.Time) (*regionalv1.DigestItem, error) {
		return hers.SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{Name: name, UntilTime: timestamppb.New(until)})
	}
	item, err := snooze(name, until)
	w.must(err)
	if item.GetName() != name || !item.GetSnoozedUntilTime().AsTime().Equal(until) || item.GetTitle() != "No room" {
		t.Errorf("snoozed %v", item)
	}
	left := "CONCERN_UNANSWERED concern-" + second + " (1 of 2 snoozed)"
	w.awaitDigest(hers, "europe", left)
	w.awaitDigest(his, "europe", whole)
	got, err := hers.GetRegionDigest(t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/europe"})
	w.must(err)
	if cases := got.GetConcerns().GetFirstDue(); len(cases) != 1 || got.GetConcerns().GetUnansweredCount() != 2 {
		t.Errorf("concerns %v", got.GetConcerns())
	}
	if all := digest(t.Context(), hers, "europe", true); all != whole+" (1 of 2 snoozed)" {
		t.Errorf("with what is snoozed: %s", all)
	}

	for _, wrong := range []time.Time{w.clock.Now(), w.clock.Now().Add(90*day + time.Second)} {
		_, err := snooze(name, wrong)
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_SNOOZE_TIME_INVALID)
	}
	for _, nothing := range []string{"concern-" + uuid.NewString(), "silent-golang-paris", "nonsense"} {
		_, err := snooze("regions/europe/digestItems/"+nothing, until)
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_DIGEST_ITEM_UNKNOWN)
	}
	_, err = snooze("regions/world/digestItems/concern-"+first, until)
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = w.digests(staffMember).SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{Name: name, UntilTime: timestamppb.New(until)})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)

	// It ends by itself, and by a word.
	w.clock.Advance(10*day - time.Second)
	w.awaitDigest(hers, "europe", left)
	w.clock.Advance(time.Second)
	w.awaitDigest(hers, "europe", whole)
	_, err = snooze(name, w.clock.Now().Add(day))
	w.must(err)
	w.awaitDigest(hers, "europe", left)
	for range 2 {
		item, err = hers.UnsnoozeDigestItem(t.Context(), &regionalv1.UnsnoozeDigestItemRequest{Name: name})
		w.must(err)
		if item.GetSnoozedUntilTime() != nil {
			t.Errorf("unsnoozed %v", item)
		}
	}
	w.awaitDigest(hers, "europe", whole)
}

// A snooze is of an item in its state: what becomes worse is another item.
func TestSnoozeDoesNotHideWhatBecomesWorse(t *testing.T) {
	w := setup(t)
	w.region("europe", "regions/world")
	local, international := w.tier(bus.Local), w.tier(bus.International)
	local.chapter("golang-paris", "regions/europe", 1)
	international.atRisk("golang-paris", "AT_RISK", 1, w.clock.Now().Add(90*day))
	europe := w.digests(coordinatorOf("europe"))
	w.awaitDigest(europe, "europe", "CHARTER_AT_RISK at-risk-golang-paris")
	_, err := europe.SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{
		Name: "regions/europe/digestItems/at-risk-golang-paris", UntilTime: timestamppb.New(w.clock.Now().Add(day)),
	})
	w.must(err)
	w.awaitDigest(europe, "europe", "CHARTER_AT_RISK  (1 of 1 snoozed)")
	international.atRisk("golang-paris", "SUSPENDED", 2, time.Time{})
	w.awaitDigest(europe, "europe", "CHARTER_SUSPENDED suspended-golang-paris")
}

func TestSilentChapters(t *testing.T) {
	w := setup(t)
	w.region("europe", "regions/world")
	local := w.tier(bus.Local)
	all := []string{"golang-paris", "golang-lyon", "golang-oslo", "golang-rom", "golang-bonn"}
	for _, id := range all {
		local.chapter(id, "regions/europe", 1)
	}
	europe := w.digests(coordinatorOf("europe"))
	heard := func(id string, want time.Time) {
		t.Helper()
		testkit.Eventually(t, patience, func() (bool, string) {
			var at time.Time
			err := w.pool.QueryRow(t.Context(), "SELECT heard_time FROM chapters WHERE id = $1", id).Scan(&at)
			return err == nil && at.Equal(want), fmt.Sprintf("%s was heard of at %v (%v), want %v", id, at, err, want)
		})
	}
	start := w.clock.Now()
	for _, id := range all { // before the clock moves, in whatever order they are heard of
		heard(id, start)
	}

	// Within an hour nothing is written, whatever is heard.
	w.clock.Advance(time.Hour)
	list := func(id string, number int64) {
		local.send("list."+id+".members.changed", "chapters/"+id+"/lists/members", number, &eventv1.ListChanged{List: "chapters/" + id + "/lists/members"})
	}
	list("golang-rom", 1)
	local.chapter("golang-lyon", "regions/europe", 2)
	testkit.Eventually(t, patience, func() (bool, string) {
		var seen int
		err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM inbox").Scan(&seen)
		return err == nil && seen == 7, fmt.Sprint(seen, err)
	})
	heard("golang-rom", start)
	heard("golang-lyon", start)

	// Lists are heard of out of order and with versions missing, and leave nothing here but the sign of life.
	w.clock.Advance(day)
	list("golang-paris", 7)
	heard("golang-paris", w.clock.Now())
	w.clock.Advance(2 * time.Hour)
	list("golang-paris", 3)
	local.chapter("golang-lyon", "regions/europe", 3)
	local.raised("golang-oslo", "europe", "No room")
	local.send("receipt.golang-rom."+uuid.NewString()+".changed", "chapters/golang-rom/receipts/x", 1,
		&eventv1.ReceiptChanged{Receipt: "chapters/golang-rom/receipts/" + uuid.NewString(), Region: "regions/europe"})
	for _, id := range []string{"golang-paris", "golang-lyon", "golang-oslo", "golang-rom"} {
		heard(id, w.clock.Now())
	}
	heard("golang-bonn", start)
	var kept int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM positions WHERE kind = 'list'").Scan(&kept))
	if kept != 0 {
		t.Errorf("%d positions of lists are kept", kept)
	}

	w.clock.Advance(start.Add(90 * day).Sub(w.clock.Now()))
	if got := digest(t.Context(), europe, "europe", false); strings.Contains(got, "SILENT") {
		t.Errorf("after 90 days: %s", got)
	}
	w.clock.Advance(time.Second)
	got, err := europe.GetRegionDigest(t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/europe"})
	w.must(err)
	silent := got.GetParts()[5]
	if len(silent.GetItems()) != 1 || silent.GetItems()[0].GetName() != "regions/europe/digestItems/silent-golang-bonn" ||
		silent.GetItems()[0].GetResource() != "chapters/golang-bonn" || !silent.GetItems()[0].GetSinceTime().AsTime().Equal(start) {
		t.Errorf("silent: %v", silent)
	}
	list("golang-bonn", 1)
	heard("golang-bonn", w.clock.Now())
}

func TestDigestHoldsTheFirstOfMany(t *testing.T) {
	w := setup(t)
	w.region("europe", "regions/world")
	w.exec(`INSERT INTO chapters (id, site, display_name, heard_time)
	        SELECT 'golang-' || n, 'main', 'Golang ' || n, '2026-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 70) n`)
	w.exec(`INSERT INTO placements (chapter_id, revision, region_id, from_time, epoch, version)
	        SELECT id, 1, 'europe', heard_time, 1, 1 FROM chapters`)
	europe := w.digests(coordinatorOf("europe"))
	name := func(n int) string { return fmt.Sprintf("regions/europe/digestItems/silent-golang-%d", n) }
	_, err := europe.SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{Name: name(1), UntilTime: timestamppb.New(w.clock.Now().Add(day))})
	w.must(err)
	got, err := europe.GetRegionDigest(t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/europe"})
	w.must(err)
	silent := got.GetParts()[5]
	if silent.GetCount() != 70 || silent.GetSnoozedCount() != 1 || len(silent.GetItems()) != 50 ||
		silent.GetItems()[0].GetName() != name(2) || silent.GetItems()[49].GetName() != name(51) {
		t.Errorf("%d, %d snoozed, %d listed: %v to %v", silent.GetCount(), silent.GetSnoozedCount(), len(silent.GetItems()), silent.GetItems()[0], silent.GetItems()[49])
	}
	// What is beyond the list can be snoozed all the same.
	item, err := europe.SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{Name: name(70), UntilTime: timestamppb.New(w.clock.Now().Add(day))})
	w.must(err)
	if item.GetTitle() != "Golang 70" {
		t.Errorf("snoozed %v", item)
	}
}
