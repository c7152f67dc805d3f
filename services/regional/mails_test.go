package regional_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// monday is when the first digests after the world's beginning are due.
var monday = time.Date(2026, 5, 4, 7, 0, 0, 0, time.UTC)

// mailing lets a world's service send its mail to a real server that keeps it.
func mailing(t *testing.T) (*mailsink.Sink, func(*world)) {
	t.Helper()
	sink, err := mailsink.Start(t.Context(), mailsink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return sink, func(w *world) {
		w.mailer = w.newMailer(sink)
		w.config.PublicURL, w.config.DigestHour = "https://chapterhouse.example", 7
	}
}

func (w *world) newMailer(sink *mailsink.Sink) *mail.Mailer {
	w.t.Helper()
	mailer, err := mail.New(mail.Config{SMTP: "smtp+plain://" + sink.Addr(), From: "Chapterhouse <mail@chapterhouse.example>"}, w.clock)
	w.must(err)
	w.t.Cleanup(func() { mailer.Close(w.t.Context()) })
	return mailer
}

// reachable gives a coordinator an address: ada is reached at ada@example.org.
func reachable(c *regionalv1.Coordinator) { c.MailAddress = c.GetSubject() + "@example.org" }

// passTo moves the clock to a time, and waits until everything that is due by then is done.
func (w *world) passTo(at time.Time) {
	w.t.Helper()
	w.clock.Advance(at.Sub(w.clock.Now()))
	w.settled()
}

// settled waits until nothing is due: no digest, no reminder, no note, no mail.
func (w *world) settled() {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var moves, digests, reminders, notes, mails int
		err := w.pool.QueryRow(w.t.Context(), `
SELECT (SELECT count(*) FROM relays WHERE due_time <= $1),
       (SELECT count(*) FROM coordinators WHERE digest_due_time <= $1),
       (SELECT count(*) FROM relays WHERE state = 'WAITING' AND remind_time <= $1 AND deadline_time > $1 AND (reminded_time IS NULL OR reminded_time < remind_time)),
       (SELECT count(*) FROM relays WHERE inform),
       (SELECT count(*) FROM mails WHERE state = 'SENDING' OR state = 'QUEUED' AND due_time <= $1)`, w.clock.Now()).Scan(&moves, &digests, &reminders, &notes, &mails)
		return err == nil && moves+digests+reminders+notes+mails == 0, fmt.Sprint(moves, digests, reminders, notes, mails, err)
	})
}

// mails lists who got what: "ada: subject".
func mails(sink *mailsink.Sink) []string {
	var all []string
	for _, m := range sink.Messages() {
		who, _, _ := strings.Cut(m.To[0], "@")
		all = append(all, who+": "+m.Subject)
	}
	slices.Sort(all)
	return all
}

func (w *world) wantMails(sink *mailsink.Sink, want ...string) {
	w.t.Helper()
	if got := mails(sink); !slices.Equal(got, want) {
		w.t.Errorf("mails\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// states lists what became of mails: "CANCELLED 2, SENT 1".
func (w *world) states() string {
	w.t.Helper()
	var got string
	w.must(w.pool.QueryRow(w.t.Context(), `
SELECT coalesce(string_agg(state || ' ' || n, ', ' ORDER BY state), '') FROM (SELECT state, count(*) AS n FROM mails GROUP BY state) s`).Scan(&got))
	return got
}

func TestWeeklyDigest(t *testing.T) {
	const coordinator, deputy = regionalv1.Coordinator_COORDINATOR, regionalv1.Coordinator_DEPUTY
	sink, on := mailing(t)
	c := setupCascade(t, on)
	sam := c.appoint("japan", "sam", coordinator, reachable)
	c.appoint("europe", "ada", coordinator, reachable)
	c.appoint("europe", "dan", deputy, reachable) // does not act while ada does
	c.appoint("europe", "old", coordinator, reachable, func(c *regionalv1.Coordinator) {
		c.TermStartTime = timestamppb.New(monday.AddDate(-1, 0, 0))
		c.TermEndTime = timestamppb.New(monday)
	})
	c.appoint("france", "eve", coordinator, reachable)
	c.appoint("germany", "mute", coordinator) // has no address
	c.appoint("austria", "away", coordinator, reachable, c.leaves(7, sam))
	c.local.chapter("golang-paris", "regions/france", 1)
	c.international.atRisk("golang-paris", "AT_RISK", 1, monday.Add(90*day))
	c.local.raised("golang-paris", "dach", "No *room* <here>")
	hidden := c.local.raised("golang-paris", "europe", "No light")
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	europe := c.digests(authz.Principal{Subject: "ada", Grants: []authz.Grant{{Role: authz.Coordinator, Scope: "regions/europe"}}})
	c.awaitDigest(europe, "europe", "RELAY_WAITING relay-"+a.id+"; CONCERN_UNANSWERED concern-"+hidden+"; CHARTER_AT_RISK at-risk-golang-paris")
	_, err := europe.SnoozeDigestItem(t.Context(), &regionalv1.SnoozeDigestItemRequest{
		Name: "regions/europe/digestItems/concern-" + hidden, UntilTime: timestamppb.New(monday.Add(8 * day)),
	})
	c.must(err)

	c.passTo(monday.Add(-time.Second))
	c.wantMails(sink)
	c.passTo(monday)
	// Asia and world have nobody, Austria has sam of Japan, and the part of Germany falls to nobody else: mute acts, unheard.
	c.wantMails(sink, "ada: What waits for you in europe and dach", "eve: What waits for you in france")
	if got := c.states(); got != "CANCELLED 4, EMPTY 1, SENT 2" {
		t.Errorf("states: %s", got) // dan, old, mute and away; sam
	}
	for _, m := range sink.Messages() {
		if m.Header("Auto-Submitted") != "auto-generated" || m.HTML == "" || m.Broken != "" {
			t.Errorf("%s has headers %v, HTML %q, broken %q", m.Subject, m.Headers, m.HTML, m.Broken)
		}
		if !m.Reached("ada@example.org") {
			continue
		}
		for _, want := range []string{
			"Hello ADA,", "Announcements that wait to be forwarded", "News", "forwards itself Friday 8 May 2026, 12:00 UTC",
			"https://chapterhouse.example/v1/" + a.relay("europe"), "No *room* <here>", "dach: here since 1 May 2026",
			"golang-paris", "france: since 1 May 2026, to be cured by 2 August 2026", "https://chapterhouse.example/v1/charters/golang-paris",
			"https://chapterhouse.example/v1/regions/europe:digest", "You get this mail because you act for europe and dach.",
		} {
			if !strings.Contains(strings.Join(strings.Fields(m.Text), " "), want) {
				t.Errorf("the text lacks %q:\n%s", want, m.Text)
			}
		}
		for _, want := range []string{"<p>Hello ADA,</p>", "No *room* &lt;here&gt;", `<a href="https://chapterhouse.example/v1/` + a.relay("europe") + `">News</a>`} {
			if !strings.Contains(m.HTML, want) {
				t.Errorf("the HTML lacks %q:\n%s", want, m.HTML)
			}
		}
		if strings.Contains(m.Text, "No light") || strings.Count(m.Text, "* golang-paris") != 1 {
			t.Errorf("the text shows what is snoozed, or something twice:\n%s", m.Text)
		}
	}

	// A week later: the relay has forwarded itself, and sam still has nothing; ada is away, so that dan acts.
	_, err = c.coordinators(staffMember).UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
		Coordinator: &regionalv1.Coordinator{Name: c.find("europe", "ada").GetName(), AwayStartTime: timestamppb.New(c.clock.Now())},
		UpdateMask:  &fieldmaskpb.FieldMask{Paths: []string{"away_start_time"}},
	})
	c.must(err)
	c.passTo(monday.Add(6 * day))
	before := len(sink.Messages())
	c.passTo(monday.Add(7 * day))
	var names []string
	for _, m := range mails(sink) {
		if strings.Contains(m, "What waits for you") {
			names = append(names, strings.SplitN(m, ":", 2)[0])
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"ada", "dan", "eve", "eve"}) || len(sink.Messages()) != before+2 {
		t.Errorf("digests went to %v, mails before %d, now %v", names, before, mails(sink))
	}
}

// find reads a coordinator of a region.
func (w *world) find(region, subject string) *regionalv1.Coordinator {
	w.t.Helper()
	all, err := w.coordinators(staffMember).ListCoordinators(w.t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/" + region})
	w.must(err)
	for _, one := range all.GetCoordinators() {
		if one.GetSubject() == subject {
			return one
		}
	}
	w.t.Fatalf("nobody in %s is %s", region, subject)
	return nil
}

// Replicas that race for the same digests and mails send each once.
func TestReplicasSendEachDigestOnce(t *testing.T) {
	sink, on := mailing(t)
	w := setup(t, on)
	w.region("europe", "regions/world")
	local := w.tier(bus.Local)
	local.chapter("golang-paris", "regions/europe", 1)
	local.raised("golang-paris", "europe", "No room")
	w.awaitCases(1)
	var want []string
	for i := range 30 {
		who := fmt.Sprintf("c%02d", i)
		w.appoint("europe", who, regionalv1.Coordinator_COORDINATOR, reachable)
		for range 4 {
			want = append(want, who+": What waits for you in europe")
		}
	}
	w.startService()
	w.startService()
	for week := range 4 {
		w.passTo(monday.AddDate(0, 0, 7*week))
	}
	w.wantMails(sink, want...)
	if got := w.states(); got != "SENT 120" {
		t.Errorf("states: %s", got)
	}
}

func (w *world) awaitCases(want int) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var n int
		err := w.pool.QueryRow(w.t.Context(), "SELECT count(*) FROM cases").Scan(&n)
		return err == nil && n == want, fmt.Sprint(n, err)
	})
}

// waiting makes a world with a concern in Europe, for which somebody is to get a digest.
func waiting(t *testing.T, who ...string) (*world, *mailsink.Sink) {
	t.Helper()
	sink, on := mailing(t)
	w := setup(t, on)
	w.region("europe", "regions/world")
	local := w.tier(bus.Local)
	local.raised("golang-paris", "europe", "No room")
	w.awaitCases(1)
	for _, one := range who {
		w.appoint("europe", one, regionalv1.Coordinator_COORDINATOR, reachable)
	}
	return w, sink
}

// A process whose connection to the database is gone looks to the others like one that died with a mail on its way.
func TestAMailOnItsWayIsNeverSentTwice(t *testing.T) {
	w, sink := waiting(t, "ada", "bob")
	thinking := make(chan struct{})
	sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: thinking, Keep: true})
	w.clock.Advance(monday.Sub(w.clock.Now()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := sink.Wait(ctx, func(kept []mailsink.Message) bool {
		return slices.ContainsFunc(kept, func(m mailsink.Message) bool { return m.Reached("ada@example.org") })
	}); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1835100524 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	w.startService() // another one, which has to do the rest
	testkit.Eventually(t, patience, func() (bool, string) {
		got := w.states()
		return got == "SENT 1, UNCERTAIN 1", got
	})
	close(thinking)
	sink.Heal()
	w.settled()
	w.clock.Advance(3 * day)
	w.settled()
	w.wantMails(sink, "ada: What waits for you in europe", "bob: What waits for you in europe")
}

func TestMailsAreTriedAgainWhereThatIsSafe(t *testing.T) {
	w, sink := waiting(t, "ada", "bob", "eve", "gus")
	sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 451, Status: [3]int{4, 7, 1}, Times: 2})
	sink.Inject("bob@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 550, Status: [3]int{5, 1, 1}})
	sink.Inject("eve@example.org", mailsink.Fault{At: mailsink.Content, Cut: true})
	sink.Inject("gus@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 451, Status: [3]int{4, 7, 1}})
	w.passTo(monday)
	if got := w.states(); got != "FAILED 1, QUEUED 2, UNCERTAIN 1" {
		t.Errorf("at once: %s", got)
	}
	w.passTo(monday.Add(time.Minute))
	w.passTo(monday.Add(3 * time.Minute))
	if got := w.states(); got != "FAILED 1, QUEUED 1, SENT 1, UNCERTAIN 1" {
		t.Errorf("after three minutes: %s", got)
	}
	w.passTo(monday.Add(3*day + time.Second))
	testkit.Eventually(t, patience, func() (bool, string) {
		got := w.states()
		return got == "FAILED 2, SENT 1, UNCERTAIN 1", got
	})
	w.wantMails(sink, "ada: What waits for you in europe")
	var texts int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM mails WHERE subject || text || html <> ''").Scan(&texts))
	if texts != 0 {
		t.Errorf("%d mails keep their texts", texts)
	}
}

// Nobody is mailed about what is gone, nor by a service that was told to stop.
func TestDigestsOfNothing(t *testing.T) {
	sink, on := mailing(t)
	w := setup(t, on)
	w.region("europe", "regions/world")
	w.appoint("europe", "ada", regionalv1.Coordinator_COORDINATOR, reachable)
	w.passTo(monday)
	w.wantMails(sink)
	if got := w.states(); got != "EMPTY 1" {
		t.Errorf("states: %s", got)
	}
	_, err := w.coordinators(staffMember).DeleteCoordinator(t.Context(), &regionalv1.DeleteCoordinatorRequest{Name: w.find("europe", "ada").GetName()})
	w.must(err)
	if got := w.states(); got != "" {
		t.Errorf("after they were removed: %s", got)
	}
}

// A service that was down on Monday sends on Tuesday, once; one that was down for weeks sends one digest.
func TestDigestsComeLateRatherThanNever(t *testing.T) {
	w, sink := waiting(t, "ada")
	w.stopService()
	w.clock.Advance(monday.AddDate(0, 0, 15).Sub(w.clock.Now()))
	w.startService()
	w.settled()
	w.wantMails(sink, "ada: What waits for you in europe")
	w.passTo(monday.AddDate(0, 0, 21))
	w.wantMails(sink, "ada: What waits for you in europe", "ada: What waits for you in europe")
}

func TestRestoredDatabaseSendsNoMailAgain(t *testing.T) {
	w, sink := waiting(t, "ada", "bob")
	sink.Inject("bob@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 451, Status: [3]int{4, 7, 1}, Times: 1})
	w.passTo(monday)
	w.stopService()
	// The database goes back to before the digest: it knows of none.
	w.exec("UPDATE coordinators SET digest_due_time = '2026-05-04 07:00Z' WHERE subject = 'ada'")
	w.exec("DELETE FROM mails WHERE state = 'SENT'")
	w.exec("DELETE FROM outbox")
	w.exec("UPDATE stream_state SET last_seq = 1, last_event_id = ''")
	w.config.Tick = time.Hour // the publisher finds out first
	w.startService()
	testkit.Eventually(t, patience, func() (bool, string) {
		got := w.states()
		return got == "UNCERTAIN 1", got
	})
	w.stopService()
	w.config.Tick = 20 * time.Millisecond
	w.startService()
	w.settled()
	w.clock.Advance(time.Hour)
	w.settled()
	w.wantMails(sink, "ada: What waits for you in europe")
	w.passTo(monday.AddDate(0, 0, 7))
	w.wantMails(sink, "ada: What waits for you in europe", "ada: What waits for you in europe", "bob: What waits for you in europe")
}

func TestRemindersOfRelays(t *testing.T) {
	const coordinator = regionalv1.Coordinator_COORDINATOR
	sink, on := mailing(t)
	c := setupCascade(t, on, func(w *world) { w.config.DigestDay = "friday" })
	c.appoint("world", "ada", coordinator, reachable) // acts for Asia too, which has nobody
	c.appoint("europe", "bob", coordinator, reachable)
	c.appoint("france", "eve", coordinator, reachable)
	first, second, decided := c.announce(), c.announce(), c.announce()
	for _, a := range []*announced{first, second, decided} {
		a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	}
	decided.forward("europe")
	until := c.clock.Now().Add(3 * day)
	_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: second.relay("europe"), UntilTime: timestamppb.New(until)})
	c.must(err)
	c.startService() // a second one, that would remind too
	c.settled()
	c.wantMails(sink)

	// The hold ends: it waits again, and that is said at once.
	c.passTo(until)
	second.await("asia WAITING, europe WAITING, world FORWARDED 1")
	c.settled()
	c.wantMails(sink, "bob: Announcements wait for you in europe")
	// With France's and dach's coordinators lies what Europe forwarded; Asia's three go to world in one mail.
	c.passTo(c.clock.Now().Add(3 * day))
	c.wantMails(sink, "ada: Announcements wait for you in asia", "bob: Announcements wait for you in europe",
		"bob: Announcements wait for you in europe and dach", "eve: Announcements wait for you in france")
	for _, m := range sink.Messages() {
		if m.Reached("ada@example.org") && (strings.Count(m.Text, "/relays/") != 3 || !strings.Contains(m.Text, "Friday 8 May 2026, 12:00 UTC")) {
			t.Errorf("ada read\n%s", m.Text)
		}
	}
	before := len(sink.Messages())
	c.passTo(c.clock.Now().Add(12 * time.Hour))
	if now := len(sink.Messages()); now != before {
		t.Errorf("reminded again: %v", mails(sink))
	}
}

func TestUrgentAnnouncementsInform(t *testing.T) {
	const coordinator = regionalv1.Coordinator_COORDINATOR
	sink, on := mailing(t)
	c := setupCascade(t, on)
	for region, who := range map[string]string{"world": "ada", "europe": "bob", "france": "eve"} {
		c.appoint(region, who, coordinator, reachable)
	}
	c.startService()
	a := c.announce(urgent)
	a.await("asia FORWARDED 1 by itself, austria FORWARDED 1 by itself, dach FORWARDED 1 by itself, europe FORWARDED 1 by itself, " +
		"france FORWARDED 1 by itself, germany FORWARDED 1 by itself, japan FORWARDED 1 by itself, world FORWARDED 1")
	c.settled()
	const subject = "Urgent, and sent on already: News"
	c.wantMails(sink, "ada: "+subject, "bob: "+subject, "eve: "+subject)
	for _, m := range sink.Messages() {
		if m.Reached("bob@example.org") && !strings.Contains(strings.Join(strings.Fields(m.Text), " "), "has passed through europe, dach, austria and germany by itself") {
			t.Errorf("bob read\n%s", m.Text)
		}
	}

	// A correction and a recall tell nobody again. A region's own goes to those below, not to who has published it.
	a.said.Edition, a.said.Body = 2, "Better."
	a.tell()
	a.await("asia FORWARDED 2 by itself, austria FORWARDED 2 by itself, dach FORWARDED 2 by itself, europe FORWARDED 2 by itself, " +
		"france FORWARDED 2 by itself, germany FORWARDED 2 by itself, japan FORWARDED 2 by itself, world FORWARDED 2")
	_, err := c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
		Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: "Storm", Body: "Stay home.", Urgent: true},
	})
	c.must(err)
	c.settled()
	const storm = "Urgent, and sent on already: Storm"
	c.wantMails(sink, "ada: "+subject, "bob: "+subject, "bob: "+storm, "eve: "+subject, "eve: "+storm)
}

func TestAddressesAreForThoseWhoKeepThem(t *testing.T) {
	w := setup(t)
	w.continents()
	ada := w.appoint("france", "ada", regionalv1.Coordinator_COORDINATOR, func(c *regionalv1.Coordinator) { c.MailAddress = " Ada@Example.org " })
	if ada.GetMailAddress() != "ada@example.org" {
		t.Errorf("appointed with %q", ada.GetMailAddress())
	}
	seen := func(p authz.Principal) string {
		t.Helper()
		client := w.coordinators(p)
		one, err := client.GetCoordinator(t.Context(), &regionalv1.GetCoordinatorRequest{Name: ada.GetName()})
		w.must(err)
		all, err := client.ListCoordinators(t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/france"})
		w.must(err)
		acts, err := client.GetActing(t.Context(), &regionalv1.GetActingRequest{Region: "regions/france"})
		w.must(err)
		return one.GetMailAddress() + " " + all.GetCoordinators()[0].GetMailAddress() + " " + acts.GetCoordinators()[0].GetMailAddress()
	}
	for _, p := range []authz.Principal{staffMember, coordinatorOf("france"), coordinatorOf("europe"), coordinatorOf("world")} {
		if got := seen(p); got != "ada@example.org ada@example.org " {
			t.Errorf("%s sees %q", p.Subject, got)
		}
	}
	for _, role := range []authz.Role{authz.Auditor, authz.Service} {
		if got := seen(authz.Principal{Subject: "reader", Grants: []authz.Grant{{Role: role, Scope: authz.Federation}}}); got != "  " {
			t.Errorf("%s sees %q", role, got)
		}
	}
	update := func(address string) (*regionalv1.Coordinator, error) {
		return w.coordinators(coordinatorOf("france")).UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
			Coordinator: &regionalv1.Coordinator{Name: ada.GetName(), MailAddress: address}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"mail_address"}},
		})
	}
	same, err := update("ADA@example.org")
	w.must(err)
	if same.GetEtag() != ada.GetEtag() || same.GetMailAddress() != "ada@example.org" {
		t.Errorf("the same address made %v", same)
	}
	_, err = update("nobody")
	wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_ADDRESS_INVALID)
	if strings.Contains(err.Error(), "nobody") {
		t.Errorf("the refusal repeats what was given: %v", err)
	}
	gone, err := update("")
	w.must(err)
	if gone.GetMailAddress() != "" {
		t.Errorf("taken out: %v", gone)
	}
	var told int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE position('example.org'::bytea IN data) > 0").Scan(&told))
	if told != 0 {
		t.Errorf("%d events hold the address", told)
	}
}
