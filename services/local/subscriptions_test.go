package local

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// leaveLink is the link to leave that every mail to the person has.
func (w *world) leaveLink(list, address string) string {
	w.t.Helper()
	return w.link(localv1.Subscription_LEAVE, list, address)
}

func (w *world) link(purpose localv1.Subscription_Purpose, list, address string) string {
	w.t.Helper()
	_, id := listIDs(list)
	var number int64
	w.must(w.pool.QueryRow(w.t.Context(), "SELECT list_no FROM lists WHERE chapter_id = 'golang-paris' AND id = $1", id).Scan(&number))
	token := w.key.Token(address)
	return "subscriptions/" + w.service.sign(link{purpose: purpose, listNo: number, issued: w.clock.Now(), token: token[:]})
}

var links = regexp.MustCompile(`/s/([A-Za-z0-9_-]+)`)

// mails waits until so many mails have arrived in all.
func (w *world) mails(n int) []mailsink.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	messages, err := w.sink.Wait(ctx, func(all []mailsink.Message) bool { return len(all) >= n })
	w.must(err)
	if len(messages) != n {
		w.t.Fatalf("%d mails have arrived, want %d", len(messages), n)
	}
	return messages
}

// linksIn are the links to confirm and to leave of a mail.
func (w *world) linksIn(mail mailsink.Message) (confirm, leave string) {
	w.t.Helper()
	found := links.FindAllStringSubmatch(mail.Text, -1)
	if len(found) != 2 {
		w.t.Fatalf("a mail with %d links:\n%s", len(found), mail.Text)
	}
	return "subscriptions/" + found[0][1], "subscriptions/" + found[1][1]
}

func (w *world) doubleOptIn(id, text string) string {
	w.t.Helper()
	list, err := w.lists.CreateList(w.t.Context(), &localv1.CreateListRequest{
		Parent: paris, ListId: id, List: &localv1.List{DisplayName: "News", DoubleOptIn: true, ConsentText: text},
	})
	w.must(err)
	return list.GetName()
}

func (w *world) consents(entry string) string {
	w.t.Helper()
	answer, err := w.lists.ListConsents(w.t.Context(), &localv1.ListConsentsRequest{Parent: entry})
	w.must(err)
	var kinds []string
	for _, consent := range answer.GetConsents() {
		kinds = append(kinds, consent.GetKind().String()+" "+consent.GetMethod())
	}
	return strings.Join(kinds, ", ")
}

func TestPersonConfirms(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.doubleOptIn("news", "I want the news.")
	w.expect(w.sync(merge("form", "email,name\nada@example.org,Ada\n").to(list).applied()), localv1.Sync_APPLIED, "add 1")
	mail := w.mails(1)[0]
	if mail.To[0] != "ada@example.org" || !strings.Contains(mail.Subject, "News of golang-paris") ||
		!strings.Contains(mail.Text, "I want the news.") || mail.Header("Auto-Submitted") != "auto-generated" ||
		!strings.Contains(mail.Header("List-Id"), "<news.golang-paris.chapterhouse.example>") ||
		mail.Header("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
		t.Errorf("the mail is %s", mail.Raw)
	}
	if got := w.list(list); got.GetPendingCount() != 1 || got.GetSubscribedCount() != 0 {
		t.Errorf("before a word was said the list is %v", got)
	}
	confirm, _ := w.linksIn(mail)
	seen, err := w.links.GetSubscription(t.Context(), &localv1.GetSubscriptionRequest{Name: confirm})
	w.must(err)
	if seen.GetPurpose() != localv1.Subscription_CONFIRM || seen.GetState() != localv1.Entry_PENDING || seen.GetConsentText() != "I want the news." ||
		seen.GetMaskedAddress() != "a…@example.org" || seen.GetChapterDisplayName() != "golang-paris" {
		t.Errorf("the link shows %v", seen)
	}
	w.agrees(list) // looking changes nothing
	for range 2 {  // a second time changes nothing
		said, err := w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: confirm})
		w.must(err)
		if said.GetState() != localv1.Entry_SUBSCRIBED {
			t.Errorf("confirmed it is %v", said)
		}
	}
	w.agrees(list)
	entry := w.entry(list, "ada@example.org")
	if got := w.consents(entry); got != "GRANTED confirmation-link" {
		t.Errorf("the consents are %q", got)
	}
}

func TestLinkToConfirmIsForAWeek(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.doubleOptIn("news", "")
	w.add(list, "ada@example.org")
	confirm, leave := w.linksIn(w.mails(1)[0])
	w.clock.Advance(confirmTime)
	_, err := w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: confirm})
	refuses(t, err, errorv1.Reason_REASON_LINK_INVALID)
	_, err = w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: leave})
	refuses(t, err, errorv1.Reason_REASON_LINK_INVALID)
	// The admin has it sent again; an hour later, not at once.
	entry := w.entry(list, "ada@example.org")
	for range 3 {
		_, err = w.lists.SendConfirmation(t.Context(), &localv1.SendConfirmationRequest{Name: entry})
		w.must(err)
	}
	again, _ := w.linksIn(w.mails(2)[1])
	_, err = w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: again})
	w.must(err)
	_, err = w.lists.SendConfirmation(t.Context(), &localv1.SendConfirmationRequest{Name: entry})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_STATE)
}

func TestLeavingIsFinal(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 3)).applied())
	leave := w.leaveLink(members, person(1))
	for range 2 { // mail programs ask twice
		left, err := w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: leave, OneClick: true})
		w.must(err)
		if left.GetState() != localv1.Entry_UNSUBSCRIBED || !left.GetCanReturn() {
			t.Errorf("having left it is %v", left)
		}
	}
	entry := w.entry(members, person(1))
	if got := w.consents(entry); got != "WITHDRAWN one-click" {
		t.Errorf("the consents are %q", got)
	}
	since := w.entries(members)[person(1)].GetUpdateTime()
	w.clock.Advance(time.Hour)
	sync := w.sync(replace("crm", people(0, 3)).applied())
	w.expect(sync, localv1.Sync_APPLIED, "unchanged 2 suppressed 1")
	change := w.changes(sync, "kind = SUPPRESSED")[0]
	if change.GetCode() != "UNSUBSCRIBED" || !change.GetSinceTime().AsTime().Equal(since.AsTime()) {
		t.Errorf("suppressed: %v, left at %v", change, since)
	}
	_, err := w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: person(1)}})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	_, err = w.lists.UpdateEntry(t.Context(), &localv1.UpdateEntryRequest{Entry: &localv1.Entry{Name: entry, DisplayName: "x"}})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	_, err = w.lists.BounceEntry(t.Context(), &localv1.BounceEntryRequest{Name: entry})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	w.agrees(members)
}

func TestComingBackNeedsAMail(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 3)).applied())
	leave, early := w.leaveLink(members, person(1)), w.link(localv1.Subscription_CONFIRM, members, person(1))
	w.clock.Advance(time.Minute)
	_, err := w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: leave})
	w.must(err)
	_, err = w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: early})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_STATE) // it is older than the leaving
	w.clock.Advance(time.Minute)
	for range 3 {
		still, err := w.links.RequestSubscription(t.Context(), &localv1.RequestSubscriptionRequest{Name: leave})
		w.must(err)
		if still.GetState() != localv1.Entry_UNSUBSCRIBED {
			t.Errorf("asking made it %v", still)
		}
	}
	confirm, _ := w.linksIn(w.mails(1)[0])
	w.clock.Advance(time.Minute)
	back, err := w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: confirm})
	w.must(err)
	if back.GetState() != localv1.Entry_SUBSCRIBED {
		t.Errorf("back it is %v", back)
	}
	if got := w.consents(w.entry(members, person(1))); got != "GRANTED confirmation-link, REQUESTED mail, WITHDRAWN page" {
		t.Errorf("the consents are %q", got)
	}
	// The person's word is a claim: a file that lacks the person does not take it back.
	w.expect(w.sync(replace("crm", people(0, 1)).applied()), localv1.Sync_APPLIED, "unchanged 1 remove 1 kept 1")
	w.agrees(members)
	// Having left once more, the old link does not count.
	_, err = w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: leave})
	w.must(err)
	_, err = w.links.ConfirmSubscription(t.Context(), &localv1.ConfirmSubscriptionRequest{Name: confirm})
	refuses(t, err, errorv1.Reason_REASON_ENTRY_STATE)
}

func TestLinksAreSigned(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add(members, "ada@example.org")
	good := w.leaveLink(members, "ada@example.org")
	for i := len("subscriptions/"); i < len(good); i++ {
		other := byte('A')
		if good[i] == other {
			other = 'B'
		}
		_, err := w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{Name: good[:i] + string(other) + good[i+1:]})
		if i < len(good)-1 { // the last character has bits to spare
			refuses(t, err, errorv1.Reason_REASON_LINK_INVALID)
		}
	}
	_, err := w.links.GetSubscription(t.Context(), &localv1.GetSubscriptionRequest{Name: good[:60]})
	refuses(t, err, errorv1.Reason_REASON_LINK_INVALID)
	if strings.Contains(w.logged.String(), strings.TrimPrefix(good, "subscriptions/")) {
		t.Error("the link is in the log")
	}
}

func TestMailThatBounces(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.doubleOptIn("news", "")
	w.sink.Reject("ada@example.org", 550)
	w.add(list, "ada@example.org")
	testkit.Eventually(t, patience, func() (bool, string) {
		entry := w.entries(list)["ada@example.org"]
		return entry.GetState() == localv1.Entry_BOUNCED, entry.String()
	})
	if got := w.consents(w.entry(list, "ada@example.org")); got != "BOUNCED mail, REQUESTED mail" {
		t.Errorf("the consents are %q", got)
	}
	w.agrees(list)
}

func TestMailIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	list := w.doubleOptIn("news", "")
	w.sink.Reject("ada@example.org", 451)
	w.add(list, "ada@example.org")
	testkit.Eventually(t, patience, func() (bool, string) {
		var putOff bool
		w.must(w.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM mails WHERE state = 'QUEUED' AND attempts = 1)").Scan(&putOff))
		return putOff, "no attempt"
	})
	w.sink.Heal()
	w.clock.Advance(time.Minute)
	w.mails(1)
}

// Mails that were on their way when their process was killed may have arrived, and so may all that it had taken when the
// database had a crash and its notes are gone: they are not sent again. Those that it had not handed over are sent.
func TestMailOfADeadProcess(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		notes, state string
		arrive       int
	}{
		"OnItsWay":               {`SELECT owner, ARRAY[mail_no], '{}', '[]' FROM mail_queue`, mailUncertain, 0},
		"Answered":               {`SELECT owner, ARRAY[mail_no], ARRAY[mail_no], '[]' FROM mail_queue`, mailSent, 0},
		"NotHandedOver":          {`SELECT owner, '{}', '{}', '[]' FROM mail_queue`, mailSent, 1},
		"ACrashOfTheDatabaseToo": {`SELECT owner, '{}', '{}', '[]' FROM mail_queue WHERE false`, mailUncertain, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			list := w.doubleOptIn("news", "")
			w.add(list, person(0))
			w.mails(1)
			token := w.key.Token(person(0))
			w.inTx(func(tx pgx.Tx) {
				q := db.New(tx)
				news, err := q.List(t.Context(), db.ListParams{ChapterID: "golang-paris", ID: "news"})
				w.must(err)
				_, err = tx.Exec(t.Context(), `DELETE FROM mail_queue; DELETE FROM mails`) // the answer may not be written yet
				w.must(err)
				_, err = q.QueueMail(t.Context(), db.QueueMailParams{ListNo: news.ListNo, Token: token[:], Kind: mailConfirm, Now: w.clock.Now()})
				w.must(err)
				_, err = tx.Exec(t.Context(), `UPDATE mail_queue SET owner = 1000000`)
				w.must(err)
				_, err = tx.Exec(t.Context(), `INSERT INTO mail_notes (owner, handed, sent, others) `+test.notes)
				w.must(err)
			})
			testkit.Eventually(t, patience, func() (bool, string) {
				var state string
				w.must(w.pool.QueryRow(t.Context(), "SELECT state FROM mails").Scan(&state))
				return state == test.state, state
			})
			if n := len(w.sink.Messages()) - 1; n != test.arrive {
				t.Errorf("%d mails were sent, want %d", n, test.arrive)
			}
		})
	}
}
