package regional_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// noticed is a world whose mail arrives in a sink, with an international tier that issues notices.
type noticed struct {
	*world
	international, local *tier
	sink                 *mailsink.Sink
}

func setupNotices(t *testing.T) *noticed {
	t.Helper()
	sink, err := mailsink.Start(t.Context(), mailsink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	n := &noticed{sink: sink}
	n.world = setup(t, func(w *world) {
		w.mailer, err = mail.New(mail.Config{SMTP: "smtp+plain://" + sink.Addr(), From: "regional@chapterhouse.example"}, w.clock)
		w.must(err)
		t.Cleanup(func() { w.mailer.Close(context.Background()) })
	})
	n.international, n.local = n.tier(bus.International), n.tier(bus.Local)
	n.region("europe", "regions/world")
	n.region("france", "regions/europe")
	return n
}

func (n *noticed) coordinator(region, who string, role regionalv1.Coordinator_Role, change ...func(*regionalv1.Coordinator)) *regionalv1.Coordinator {
	n.t.Helper()
	return n.appoint(region, who, role, append(change, func(c *regionalv1.Coordinator) { c.MailAddress = who + "@example.org" })...)
}

// issue tells that a chapter has 3 people too few.
func (n *noticed) issue(chapter string, issued time.Time) *eventv1.NoticeIssued {
	n.t.Helper()
	id := uuid.NewString()
	told := &eventv1.NoticeIssued{
		Notice: "notices/" + id, Chapter: "chapters/" + chapter, ChapterDisplayName: "Golang <" + chapter + ">", Kind: notice.CureBy, CharterState: "AT_RISK",
		ThresholdPercent: 60, DeadlineTime: timestamppb.New(issued.Add(7 * day)), DaysLeft: 7, IssueTime: timestamppb.New(issued),
		Standing: &eventv1.StandingChanged{Membership: &eventv1.BasisFigures{Total: 96, International: 55}, GapConvert: proto.Int32(3), GapRecruit: proto.Int32(7)},
	}
	n.send(told, 1)
	return told
}

func (n *noticed) send(told *eventv1.NoticeIssued, version int64) {
	n.t.Helper()
	n.international.send("notice."+strings.TrimPrefix(told.GetChapter(), "chapters/")+"."+strings.TrimPrefix(told.GetNotice(), "notices/")+".issued",
		told.GetNotice(), version, told)
}

// settled waits until so many notices are told and all mails have come to their end.
func (n *noticed) settled(notices int) {
	n.t.Helper()
	testkit.Eventually(n.t, patience, func() (bool, string) {
		var told, open int
		n.must(n.pool.QueryRow(n.t.Context(), "SELECT (SELECT count(*) FROM notices WHERE told), (SELECT count(*) FROM mails WHERE state IN ('QUEUED', 'SENDING'))").Scan(&told, &open))
		return told == notices && open == 0, fmt.Sprintf("%d notices are told, %d mails are open", told, open)
	})
}

// arrived are the mails by whom they reached.
func (n *noticed) arrived() map[string][]mailsink.Message {
	n.t.Helper()
	by := map[string][]mailsink.Message{}
	for _, message := range n.sink.Messages() {
		by[message.To[0]] = append(by[message.To[0]], message)
	}
	return by
}

func TestNoticesReachWhoeverActs(t *testing.T) {
	n := setupNotices(t)
	n.local.chapter("paris", "regions/france", 1)
	n.local.chapter("lyon", "regions/france", 1)
	substitute := n.coordinator("europe", "sam", regionalv1.Coordinator_DEPUTY)
	n.coordinator("france", "amy", regionalv1.Coordinator_COORDINATOR)
	n.coordinator("france", "bob", regionalv1.Coordinator_COORDINATOR, n.leaves(3, substitute))
	n.appoint("france", "nomail", regionalv1.Coordinator_COORDINATOR)
	told := n.issue("paris", n.clock.Now())
	n.settled(1)
	n.send(told, 2) // told again in a newer version
	testkit.Eventually(t, patience, func() (bool, string) {
		var version int64
		n.must(n.pool.QueryRow(t.Context(), "SELECT coalesce(max(number), 0) FROM positions WHERE aggregate = $1", told.GetNotice()).Scan(&version))
		return version == 2, fmt.Sprint(version)
	})
	n.settled(1)
	by := n.arrived()
	if len(by) != 1 || len(by["amy@example.org"]) != 1 {
		t.Fatalf("mails went to %v", by)
	}
	message := by["amy@example.org"][0]
	if got := message.Header("Subject"); got != "Golang <paris> has 7 days to become eligible again, until 8 May 2026" {
		t.Errorf("the subject is %q", got)
	}
	text := strings.Join(strings.Fields(message.Text), " ")
	for _, want := range []string{"3 of its people would have to join, or 7 newcomers who are members", "8 May 2026", "/v1/charters/paris", "france"} {
		if !strings.Contains(text, want) {
			t.Errorf("the mail does not say %q:\n%s", want, message.Text)
		}
	}
	if strings.Contains(message.HTML, "<paris>") || !strings.Contains(message.HTML, "Golang &lt;paris&gt;") {
		t.Errorf("the HTML is not escaped:\n%s", message.HTML)
	}
}

// Whoever acts for a region above hears of it where nobody does in the chapter's own; and what one cause does to many
// chapters is one mail.
func TestNoticesThatComeTogetherAreOneMail(t *testing.T) {
	n := setupNotices(t)
	n.coordinator("europe", "eve", regionalv1.Coordinator_COORDINATOR)
	var told []string
	for i := range 60 {
		id := fmt.Sprintf("c-%d", i)
		told = append(told, id)
		n.issue(id, n.clock.Now()) // its chapter is not known here yet
	}
	testkit.Eventually(t, patience, func() (bool, string) {
		var kept int
		n.must(n.pool.QueryRow(t.Context(), "SELECT count(*) FROM notices WHERE NOT told").Scan(&kept))
		return kept == len(told), fmt.Sprint(kept)
	})
	if len(n.sink.Messages()) != 0 {
		t.Error("a notice was told before it was known where its chapter lies")
	}
	for _, id := range told {
		n.local.chapter(id, "regions/france", 1)
	}
	n.settled(len(told))
	mails := n.arrived()["eve@example.org"]
	var all strings.Builder
	for _, message := range mails {
		all.WriteString(message.Text)
	}
	if len(mails) == 0 || len(mails) > 20 {
		t.Errorf("%d mails of %d notices that came together", len(mails), len(told))
	}
	seen := 0
	for _, id := range told {
		seen += strings.Count(all.String(), "Golang <"+id+"> has")
	}
	if seen > len(told) || seen < len(told)-10 { // of more than 50 in one mail the rest is counted
		t.Errorf("%d notices are written out", seen)
	}
}

// Several processes tell each notice once.
func TestReplicasTellNoticesOnce(t *testing.T) {
	n := setupNotices(t)
	for range 2 {
		n.startService()
	}
	n.coordinator("france", "amy", regionalv1.Coordinator_COORDINATOR)
	n.coordinator("france", "bob", regionalv1.Coordinator_COORDINATOR)
	n.local.chapter("paris", "regions/france", 1)
	const notices = 20
	for i := range notices {
		told := n.issue("paris", n.clock.Now())
		told.ChapterDisplayName = fmt.Sprint(i) // the event is out
	}
	n.settled(notices)
	for who, mails := range n.arrived() {
		told := 0
		for _, message := range mails {
			told += strings.Count(message.Text, "The charter of Golang <paris> is at risk")
		}
		if told != notices {
			t.Errorf("%s was told %d times, want %d", who, told, notices)
		}
	}
	if got := len(n.arrived()); got != 2 {
		t.Errorf("%d people were told", got)
	}
}

// What was issued before this database was set back, or made, is not told.
func TestOldNoticesAreNotTold(t *testing.T) {
	n := setupNotices(t)
	n.coordinator("france", "amy", regionalv1.Coordinator_COORDINATOR)
	n.local.chapter("paris", "regions/france", 1)
	n.issue("paris", n.clock.Now().Add(-time.Minute))
	n.issue("paris", n.clock.Now())
	n.settled(2)
	if got := n.arrived()["amy@example.org"]; len(got) != 1 || slices.ContainsFunc(got, func(m mailsink.Message) bool { return strings.Contains(m.Header("Subject"), "notices") }) {
		t.Errorf("%d mails", len(got))
	}
}
