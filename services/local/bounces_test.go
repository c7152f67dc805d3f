package local

import (
	"fmt"
	"strings"
	"testing"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// returned is a delivery status notification as mail servers write it.
func returned(messageID, action, status string) []byte {
	return []byte(strings.ReplaceAll(fmt.Sprintf(`From: MAILER-DAEMON@mx.example.net
To: site@chapterhouse.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Type: text/plain

Sorry.

--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Mon, 1 Jun 2026 12:00:00 +0000

Final-Recipient: rfc822; ada@example.org
Action: %s
Status: %s
Diagnostic-Code: smtp; 550 %s <ada@example.org>: no such user

--b1
Content-Type: text/rfc822-headers

From: site@chapterhouse.example
Message-ID: <%s>
Subject: news

--b1--
`, action, status, status, messageID), "\n", "\r\n"))
}

func TestReportedBounce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.createList("other")
	w.add(members, "ada@example.org")
	w.add(other, "ada@example.org")
	w.add(members, "bob@example.org")
	a := w.above()
	name := a.delivered(announcement("news"))
	w.send(name, members, other)
	ids := map[string]string{}
	for _, message := range w.mails(2) {
		ids[message.To[0]] = strings.Trim(message.Header("Message-Id"), "<>")
	}
	w.mailed(name)
	report := func(req *localv1.ReportBounceRequest) (*localv1.ReportBounceResponse, error) {
		req.Parent = paris
		return w.inbox.ReportBounce(t.Context(), req)
	}
	for _, soft := range [][2]string{{"delayed", "4.4.1"}, {"failed", "5.2.2"}, {"failed", "5.7.1"}} {
		answer, err := report(&localv1.ReportBounceRequest{Raw: returned(ids["ada@example.org"], soft[0], soft[1])})
		w.must(err)
		if answer.GetBounced() || w.entries(members)["ada@example.org"].GetState() != localv1.Entry_SUBSCRIBED {
			t.Errorf("%v bounces", soft)
		}
	}
	for range 2 {
		answer, err := report(&localv1.ReportBounceRequest{Raw: returned(ids["ada@example.org"], "failed", "5.1.1")})
		w.must(err)
		if !answer.GetBounced() || answer.GetStatus() != "5.1.1" {
			t.Errorf("answered %v", answer)
		}
	}
	for _, list := range []string{members, other} {
		if state := w.entries(list)["ada@example.org"].GetState(); state != localv1.Entry_BOUNCED {
			t.Errorf("on %s the entry is %s", list, state)
		}
		w.agrees(list)
	}
	_, err := report(&localv1.ReportBounceRequest{MessageId: "<" + ids["bob@example.org"] + ">", Status: "5.1.1", Text: "gone"})
	w.must(err)
	receipt := w.receipt(name, func(r *eventv1.ReceiptChanged) bool { return r.GetReach().GetPeopleBounced() == 2 })
	if receipt.GetReach().GetPeopleMailed() != 0 {
		t.Errorf("the receipt is %v", receipt)
	}
	w.countsAreTrue()

	_, err = report(&localv1.ReportBounceRequest{Raw: []byte("Subject: I am on holiday\r\n\r\nUntil Monday.\r\n")})
	refuses(t, err, errorv1.Reason_REASON_BOUNCE_UNREADABLE)
	_, err = report(&localv1.ReportBounceRequest{MessageId: "x@example.org", Status: "5.1.1"})
	refuses(t, err, errorv1.Reason_REASON_BOUNCE_UNREADABLE)
	_, err = report(&localv1.ReportBounceRequest{MessageId: "0b0c1df2-2f6a-4b0e-9d0f-111111111111@chapterhouse.example", Status: "5.1.1"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestBounceDuringAMailing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.createList("other")
	w.add(members, "ada@example.org")
	w.add(other, "ada@example.org")
	w.add(members, "bob@example.org")
	w.sink.Reject("ada@example.org", 550)
	w.sink.Inject("bob@example.org", mailsink.Fault{At: mailsink.Content, Cut: true, Keep: true, Times: 1})
	a := w.above()
	name := a.delivered(announcement("news"))
	w.send(name, members, other)
	item := w.mailed(name)
	if counts := item.GetCounts(); counts.GetBounced() != 1 || counts.GetUncertain() != 1 || counts.GetMailed() != 0 {
		t.Errorf("counted %v", counts)
	}
	for _, list := range []string{members, other} {
		if state := w.entries(list)["ada@example.org"].GetState(); state != localv1.Entry_BOUNCED {
			t.Errorf("on %s the entry is %s", list, state)
		}
	}
	w.mails(1) // and no second one to bob
	w.countsAreTrue()
}

// TestBounceBeforeTheAnswer reports a mail as returned while its server has not even answered.
func TestBounceBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	answer := make(chan struct{})
	w.sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: answer})
	w.add(members, "ada@example.org")
	a := w.above()
	name := a.delivered(announcement("news"))
	w.send(name, members)
	var id string
	testkit.Eventually(t, patience, func() (bool, string) {
		err := w.pool.QueryRow(t.Context(), "SELECT id::text FROM mails m JOIN mail_queue q USING (mail_no) JOIN mail_notes n ON m.mail_no = ANY (n.handed)").Scan(&id)
		return err == nil, fmt.Sprint(err)
	})
	said, err := w.inbox.ReportBounce(t.Context(), &localv1.ReportBounceRequest{Parent: paris, MessageId: id + "@chapterhouse.example", Status: "5.1.1"})
	w.must(err)
	if !said.GetBounced() {
		t.Errorf("reported: %v", said)
	}
	close(answer)
	reach := w.receipt(name, func(r *eventv1.ReceiptChanged) bool {
		return r.GetReach().GetPeopleBounced()+r.GetReach().GetPeopleMailed() > 0
	}).GetReach()
	if reach.GetPeopleBounced() != 1 || reach.GetPeopleMailed() != 0 {
		t.Errorf("it counts as %v", reach)
	}
}
