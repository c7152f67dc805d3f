package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// delivered publishes and forwards an announcement to golang-paris.
func (a *above) delivered(given *eventv1.AnnouncementChanged) string {
	a.t.Helper()
	a.publish(given)
	a.forward(relay(given, "world"))
	return a.arrives(given)
}

// receipt is the last one that was told of an item, when it says what is wanted.
func (w *world) receipt(item string, want func(*eventv1.ReceiptChanged) bool) *eventv1.ReceiptChanged {
	w.t.Helper()
	var last *eventv1.ReceiptChanged
	testkit.Eventually(w.t, patience, func() (bool, string) {
		for _, event := range w.outbox() {
			if event.Aggregate == strings.Replace(item, "/inbox/", "/receipts/", 1) {
				last, _ = event.Data.(*eventv1.ReceiptChanged)
			}
		}
		return last != nil && want(last), fmt.Sprint(last)
	})
	return last
}

func TestMailOfAnAnnouncement(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.chapters.UpdateChapter(t.Context(), &localv1.UpdateChapterRequest{Chapter: &localv1.Chapter{Name: paris, LanguageCode: "fr-CA"}})
	w.must(err)
	_, err = w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{
		Name: members, FromName: "Les Gophers", ReplyTo: "Orga@Example.org",
	}})
	w.must(err)
	w.add(members, "ada@example.org")
	a := w.above()
	news := announcement("News")
	news.Translations = []*eventv1.AnnouncementText{{Language: "fr", Subject: "Nouvelles", Body: "À **lire**."}, {Language: "de", Subject: "Neues"}}
	news.Links = []*eventv1.AnnouncementLink{{Title: "Programme", Url: "https://example.org/p"}, {Title: "Bad", Url: "javascript:alert(1)"}}
	name := a.delivered(news)
	if item := w.item(name); item.GetSubject() != "Nouvelles" || item.GetLanguage() != "fr" || !strings.Contains(item.GetBodyHtml(), "<strong>lire</strong>") {
		t.Errorf("the item is %v", item)
	}
	// The nearest region's translation goes before the announcement's, and its note above the text.
	local := relay(news, "world")
	local.Note = "From *us*."
	local.Translations = []*eventv1.AnnouncementText{{Language: "fr", Subject: "Nouvelles d'Europe", Body: "À lire ici."}}
	a.forward(local)
	a.settled()
	_, err = w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: name, Lists: []string{members}, Note: "Chapter's own."})
	w.must(err)
	message := w.mails(1)[0]
	for header, want := range map[string]string{
		"From": `"Les Gophers" <site@chapterhouse.example>`, "Reply-To": "<orga@example.org>", "Subject": "Nouvelles d'Europe",
		"List-Id": `"Members" <members.golang-paris.chapterhouse.example>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "Content-Language": "fr",
	} {
		if got := message.Header(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	own, note, body := strings.Index(message.Text, "Chapter's own."), strings.Index(message.Text, "From us."), strings.Index(message.Text, "À lire ici.")
	if own < 0 || note < own || body < note || !strings.Contains(message.HTML, "<em>us</em>") || !strings.Contains(message.HTML, "https://example.org/p") {
		t.Errorf("the mail says:\n%s\n%s", message.Text, message.HTML)
	}
	if strings.Contains(message.HTML+message.Text, "javascript") {
		t.Error("a link leads elsewhere than to the web")
	}
	w.mailed(name)

	// Leaving by its link counts, once.
	link := "subscriptions/" + links.FindStringSubmatch(message.Header("List-Unsubscribe"))[1]
	for range 2 {
		_, err = w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: link, OneClick: true})
		w.must(err)
	}
	receipt := w.receipt(name, func(r *eventv1.ReceiptChanged) bool { return r.GetReach().GetPeopleUnsubscribed() == 1 })
	if reach := receipt.GetReach(); reach.GetPeopleMailed() != 1 || reach.GetChaptersSent() != 1 || receipt.GetState() != "SENT" ||
		receipt.GetRegion() != "regions/world" || receipt.GetAnnouncement() != news.GetAnnouncement() {
		t.Errorf("the receipt is %v", receipt)
	}
	w.countsAreTrue()
}

func TestSendLater(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add(members, "ada@example.org")
	a := w.above()
	name := a.delivered(announcement("news"))
	send := func(at time.Time) (*localv1.InboxItem, error) {
		return w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: name, Lists: []string{members}, SendTime: timestamppb.New(at)})
	}
	_, err := send(noon.Add(61 * 24 * time.Hour))
	refuses(t, err, errorv1.Reason_REASON_SEND_TIME_INVALID)
	item, err := send(noon.Add(2 * time.Hour))
	w.must(err)
	if item.GetState() != localv1.InboxItem_ARRIVED || item.GetMailings()[0].GetState() != localv1.Mailing_SCHEDULED {
		t.Errorf("the item is %v", item)
	}
	// Dismissed, and then taken up again with another time.
	_, err = w.inbox.DismissInboxItem(t.Context(), &localv1.DismissInboxItemRequest{Name: name, Reason: "not for us"})
	w.must(err)
	w.receipt(name, func(r *eventv1.ReceiptChanged) bool {
		return r.GetState() == "DISMISSED" && r.GetReach().GetChaptersDismissed() == 1
	})
	item, err = send(noon.Add(time.Hour))
	w.must(err)
	if item.GetState() != localv1.InboxItem_ARRIVED || item.GetDismissReason() != "" {
		t.Errorf("the item is %v", item)
	}
	w.clock.Advance(59 * time.Minute)
	if n := len(w.sink.Messages()); n != 0 {
		t.Errorf("%d mails went out early", n)
	}
	w.clock.Advance(time.Minute)
	w.mails(1)
	item = w.mailed(name)
	w.send(name, members) // it was sent to the list, and stays so
	_, err = w.inbox.DismissInboxItem(t.Context(), &localv1.DismissInboxItemRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_INBOX_ITEM_STATE)
	w.clock.Advance(61 * 24 * time.Hour)
	_, err = send(w.clock.Now())
	refuses(t, err, errorv1.Reason_REASON_INBOX_ITEM_STATE)
	w.mails(1)
	if item.GetCounts().GetMailed() != 1 {
		t.Errorf("the item is %v", item)
	}
}

func TestRecallInTheMiddle(t *testing.T) {
	t.Parallel()
	w := setup(t, func(config *Config) { config.Mail.Connections = 1 })
	w.sync(replace("crm", people(0, 20)).applied())
	held := make(chan struct{})
	for i := range 20 {
		w.sink.Inject(person(i), mailsink.Fault{At: mailsink.Content, Until: held, Times: 1})
	}
	a := w.above()
	news := announcement("news")
	name := a.delivered(news)
	w.send(name, members)
	testkit.Eventually(t, patience, func() (bool, string) {
		var n int
		w.must(w.pool.QueryRow(t.Context(), "SELECT count(DISTINCT mail_no) FROM mail_notes, unnest(handed) AS mail_no").Scan(&n))
		return n == 1, fmt.Sprint(n)
	})
	news.Recalled, news.RecallReason = true, "a mistake"
	a.publish(news)
	a.settled()
	close(held)
	receipt := w.receipt(name, func(r *eventv1.ReceiptChanged) bool {
		return r.GetState() == "RECALLED" && r.GetReach().GetPeopleMailed() == 1
	})
	if receipt.GetReach().GetPeopleQueued() != 0 || receipt.GetReach().GetChaptersSent() != 1 {
		t.Errorf("the receipt is %v", receipt)
	}
	item := w.mailed(name)
	if item.GetState() != localv1.InboxItem_RECALLED || item.GetRecallReason() != "a mistake" || item.GetMailings()[0].GetState() != localv1.Mailing_CANCELLED {
		t.Errorf("the item is %v", item)
	}
	_, err := w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: name, Lists: []string{members}})
	refuses(t, err, errorv1.Reason_REASON_INBOX_ITEM_STATE)
	w.mails(1)
	w.countsAreTrue()
}

func TestCorrection(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.above()
	news := announcement("news")
	name := a.delivered(news)
	w.receipt(name, func(r *eventv1.ReceiptChanged) bool { return r.GetState() == "ARRIVED" })
	news.Edition, news.Subject = 2, "better news"
	a.publish(news)
	a.settled()
	if item := w.item(name); !item.GetCorrected() || item.GetEdition() != 2 || item.GetArrivedEdition() != 1 || item.GetSubject() != "better news" {
		t.Errorf("the item is %v", item)
	}
	w.receipt(name, func(r *eventv1.ReceiptChanged) bool { return r.GetEdition() == 2 })
}

// Whoever has no mail yet gets the corrected one, and nobody a second one.
func TestCorrectionInTheMiddle(t *testing.T) {
	t.Parallel()
	w := setup(t, func(config *Config) { config.Mailings.DomainRate = 60 })
	w.sync(replace("crm", people(0, 10)).applied())
	a := w.above()
	news := announcement("news")
	w.send(a.delivered(news), members)
	w.mails(6) // a tenth of a minute's
	news.Edition, news.Subject = 2, "better news"
	a.publish(news)
	a.settled()
	w.clock.Advance(time.Minute)
	subjects, people := map[string]int{}, map[string]bool{}
	for _, message := range w.mails(10) {
		subjects[message.Subject]++
		people[message.To[0]] = true
	}
	if subjects["news"] != 6 || subjects["better news"] != 4 || len(people) != 10 {
		t.Errorf("%v to %d people", subjects, len(people))
	}
}

// A list that lives elsewhere gets one mail, whoever is on it here.
func TestPostingAddress(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.createList("other")
	w.sync(replace("crm", people(0, 5)).applied())
	for _, list := range []string{members, other} {
		_, err := w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: list, PostingAddress: "gophers@lists.example.org"}})
		w.must(err)
	}
	_, err := w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: members, PostingAddress: "no address"}})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	a := w.above()
	name := a.delivered(announcement("news"))
	w.send(name, members, other)
	message := w.mails(1)[0]
	if !message.Reached("gophers@lists.example.org") || message.Header("List-Unsubscribe") != "" {
		t.Errorf("the mail is %v", message)
	}
	item := w.mailed(name)
	if !item.GetMailings()[0].GetPosting() || item.GetMailings()[0].GetCounts().GetMailed() != 1 || item.GetCounts().GetMailed() != 0 {
		t.Errorf("the item is %v", item)
	}
}

func TestRatesOfDomains(t *testing.T) {
	t.Parallel()
	w := setup(t, func(config *Config) {
		config.Mailings = MailingsConfig{DomainRate: 60, DomainRates: map[string]int{"slow.example": 10}}
	})
	var csv strings.Builder
	csv.WriteString("email\n")
	for i := range 20 {
		fmt.Fprintf(&csv, "a%d@example.org\nb%d@slow.example\n", i, i)
	}
	w.sync(replace("crm", csv.String()).applied())
	a := w.above()
	w.send(a.delivered(announcement("news")), members)
	domains := func() map[string]int {
		got := map[string]int{}
		for _, message := range w.sink.Messages() {
			got[domainOf(message.To[0])]++
		}
		return got
	}
	reaches := func(fast, slow int) {
		t.Helper()
		testkit.Eventually(t, patience, func() (bool, string) {
			got := domains()
			return got["example.org"] == fast && got["slow.example"] == slow, fmt.Sprint(got)
		})
	}
	reaches(6, 1) // a tenth of a minute's at once
	w.clock.Advance(6 * time.Second)
	reaches(12, 2)
	w.clock.Advance(6 * time.Second)
	reaches(18, 3)
	for slow := 4; slow <= 20; slow++ {
		w.clock.Advance(6 * time.Second)
		reaches(20, slow)
	}
}

// Who leaves a list while the mail waits gets it by another list, or not at all.
func TestLeavingBeforeItsTurn(t *testing.T) {
	t.Parallel()
	w := setup(t, func(config *Config) { config.Mailings.DomainRates = map[string]int{"slow.example": 1} })
	other := w.createList("other")
	for _, address := range []string{"first@slow.example", "both@slow.example", "one@slow.example"} {
		w.add(members, address)
	}
	w.add(other, "both@slow.example")
	a := w.above()
	name := a.delivered(announcement("news"))
	w.send(name, members)
	w.mails(1) // whichever came first; the others wait for their minutes
	w.send(name, other)
	testkit.Eventually(t, patience, func() (bool, string) {
		item := w.item(name)
		return len(item.GetMailings()) == 2 && item.GetMailings()[1].GetState() >= localv1.Mailing_RUNNING, fmt.Sprint(item.GetMailings())
	})
	got := w.sink.Messages()[0].To[0]
	for _, address := range []string{"both@slow.example", "one@slow.example", "first@slow.example"} {
		if address != got {
			w.unsubscribe(w.entry(members, address))
		}
	}
	want := []string{got}
	if got != "both@slow.example" {
		want = append(want, "both@slow.example")
	}
	testkit.Eventually(t, patience, func() (bool, string) {
		w.clock.Advance(time.Minute)
		item := w.item(name)
		return item.GetMailings()[0].GetState() == localv1.Mailing_DONE && item.GetMailings()[1].GetState() == localv1.Mailing_DONE, fmt.Sprint(item)
	})
	var to []string
	for _, message := range w.sink.Messages() {
		to = append(to, message.To[0])
	}
	if !slices.Equal(to, want) {
		t.Errorf("%v were mailed, want %v", to, want)
	}
	w.countsAreTrue()
}

func TestInboxIsListed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.above()
	var names []string
	for i := range 3 {
		w.clock.Advance(time.Second)
		names = append(names, a.delivered(announcement(fmt.Sprint("news ", i))))
	}
	_, err := w.inbox.DismissInboxItem(t.Context(), &localv1.DismissInboxItemRequest{Name: names[1]})
	w.must(err)
	list := func(state localv1.InboxItem_State) (got []string) {
		req := &localv1.ListInboxItemsRequest{Parent: paris, PageSize: 1, State: state}
		for {
			answer, err := w.inbox.ListInboxItems(t.Context(), req)
			w.must(err)
			for _, item := range answer.GetItems() {
				got = append(got, item.GetName())
				if item.GetBody() != "" || item.GetSubject() == "" {
					t.Errorf("a list shows %v", item)
				}
			}
			if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
				return got
			}
		}
	}
	if got := list(localv1.InboxItem_STATE_UNSPECIFIED); !slices.Equal(got, []string{names[2], names[1], names[0]}) {
		t.Errorf("the inbox lists %v", got)
	}
	if got := list(localv1.InboxItem_DISMISSED); !slices.Equal(got, names[1:2]) {
		t.Errorf("dismissed are %v", got)
	}
	if got := list(localv1.InboxItem_ARRIVED); len(got) != 2 {
		t.Errorf("arrived are %v", got)
	}
}

// Whoever keeps receipts and lost everything is told all of them.
func TestReceiptsAreAnswered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.above()
	w.chapter("golang-paris-2")
	name := a.delivered(announcement("news"))
	w.receipt(name, func(*eventv1.ReceiptChanged) bool { return true })
	w.receipt(strings.Replace(name, "golang-paris", "golang-paris-2", 1), func(*eventv1.ReceiptChanged) bool { return true })
	w.inTx(func(tx pgx.Tx) {
		var listed []bus.AggregateVersion
		for after := ""; ; after = listed[len(listed)-1].Aggregate {
			next, err := receiptVersions(t.Context(), tx, after, 1)
			w.must(err)
			if len(next) == 0 {
				break
			}
			listed = append(listed, next...)
		}
		if len(listed) != 2 || listed[0].Aggregate >= listed[1].Aggregate {
			t.Fatalf("listed %v", listed)
		}
		var sent *eventv1.ReceiptChanged
		version, found, err := receiptSnapshot(t.Context(), tx, listed[1].Aggregate, func(m proto.Message) error {
			sent, _ = m.(*eventv1.ReceiptChanged)
			return nil
		})
		if err != nil || !found || version != listed[1].Version || sent.GetState() != "ARRIVED" || sent.GetReach().GetChaptersReached() != 1 {
			t.Errorf("answered %v at %s (%v)", sent, version, err)
		}
	})
}

// What waited when a backup was made may have been sent since: it is not sent after the database was restored from it.
func TestRestoredDatabaseSendsNothingAgain(t *testing.T) {
	t.Parallel()
	w := setup(t, func(config *Config) { config.Mailings.DomainRate = 1 })
	w.sync(replace("crm", people(0, 5)).applied())
	name := w.above().delivered(announcement("news"))
	w.send(name, members)
	w.mails(1)
	testkit.Eventually(t, patience, func() (bool, string) {
		counts := w.item(name).GetCounts()
		return counts.GetMailed() == 1 && counts.GetQueued() == 4, counts.String()
	})
	w.inTx(func(tx pgx.Tx) { w.must(w.service.beginEpoch(t.Context(), tx, noon.UnixMicro()+1)) })
	receipt := w.receipt(name, func(r *eventv1.ReceiptChanged) bool {
		return r.GetReach().GetPeopleUncertain() == 4 && r.GetReach().GetPeopleMailed() == 1
	})
	if receipt.GetReach().GetPeopleQueued() != 0 {
		t.Errorf("the receipt is %v", receipt)
	}
	w.clock.Advance(time.Hour)
	w.mailed(name)
	w.mails(1)
	w.countsAreTrue()
}
