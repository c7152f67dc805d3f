package local

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// lost is the notice that golang-paris fell below the line.
func lost() *eventv1.NoticeIssued {
	return &eventv1.NoticeIssued{
		Notice: "notices/" + uuid.Must(uuid.NewV7()).String(), Chapter: paris, ChapterDisplayName: "Golang <Paris>", Kind: notice.EligibilityLost,
		CharterState: "AT_RISK", ThresholdPercent: 60, DeadlineTime: timestamppb.New(noon.AddDate(0, 0, 90)), IssueTime: timestamppb.New(noon),
		Standing: &eventv1.StandingChanged{
			Membership: &eventv1.BasisFigures{Total: 100, International: 57}, GapConvert: proto.Int32(3), GapRecruit: proto.Int32(7),
		},
	}
}

func (a *above) tellNotice(given *eventv1.NoticeIssued) string {
	a.t.Helper()
	a.international(bus.Event{
		Subject:   "notice." + chapterID(given.GetChapter()) + "." + element(given.GetNotice(), 1) + ".issued",
		Aggregate: given.GetNotice(), Version: a.next(given.GetNotice()), Data: proto.Clone(given),
	})
	a.settled()
	return paris + "/inbox/" + element(given.GetNotice(), 1)
}

// noticeSettled waits until every mail of a notice has come to its end.
func (w *world) noticeSettled() {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var open int
		w.must(w.pool.QueryRow(w.t.Context(), "SELECT count(*) FROM mails WHERE kind = 0 AND state = 'QUEUED'").Scan(&open))
		return open == 0, fmt.Sprint(open)
	})
}

func TestNoticeReachesTheOfficers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.appoint(&localv1.Officer{DisplayName: "Ada Rao", MailAddress: "ada@example.org"})
	w.appoint(&localv1.Officer{DisplayName: "Board", MailAddress: "board@example.org"})
	w.appoint(&localv1.Officer{DisplayName: "Board too", MailAddress: "board@example.org"})
	w.appoint(&localv1.Officer{DisplayName: "Muted", MailAddress: "muted@example.org", NoticesMuted: true})
	w.appoint(&localv1.Officer{DisplayName: "No mail"})
	w.appoint(&localv1.Officer{
		DisplayName: "Lapsed", MailAddress: "lapsed@example.org",
		TermStartTime: timestamppb.New(noon.AddDate(-1, 0, 0)), TermEndTime: timestamppb.New(noon),
	})
	w.appoint(&localv1.Officer{
		DisplayName: "Upcoming", MailAddress: "upcoming@example.org", TermStartTime: timestamppb.New(noon.Add(time.Hour)),
	})
	a, given := w.above(), lost()
	name := a.tellNotice(given)
	a.tellNotice(given) // told again in a new version
	elsewhere := lost()
	elsewhere.Chapter = "chapters/of-another-site"
	a.tellNotice(elsewhere)

	messages := w.mails(2)
	w.noticeSettled()
	byAddress := map[string]mailsink.Message{}
	for _, message := range messages {
		byAddress[message.To[0]] = message
	}
	mail, board := byAddress["ada@example.org"], byAddress["board@example.org"]
	if len(byAddress) != 2 || len(board.To) != 1 {
		t.Fatalf("mails went to %v", byAddress)
	}
	for header, want := range map[string]string{
		"Subject": "Golang <Paris> is no longer eligible: act by 30 August 2026", "Auto-Submitted": "auto-generated",
		"Content-Language": "en", "List-Unsubscribe": "",
	} {
		if got := mail.Header(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	text := strings.Join(strings.Fields(mail.Text), " ")
	for _, want := range []string{
		"Golang <Paris>", "57 of 100 people on the members list", "30 August 2026", "60 % are needed",
		"3 of your people would have to join, or 7 newcomers who are members",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the mail does not say %q:\n%s", want, mail.Text)
		}
	}
	if strings.Contains(mail.HTML, "<Paris>") || !strings.Contains(mail.HTML, "Golang &lt;Paris&gt;") {
		t.Errorf("the HTML is not escaped:\n%s", mail.HTML)
	}

	item := w.item(name)
	if item.GetKind() != localv1.InboxItem_NOTICE || item.GetNotice().GetKind() != notice.EligibilityLost || item.GetState() != localv1.InboxItem_ARRIVED ||
		!item.GetNotice().GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 90)) || item.GetCounts().GetMailed() != 2 || item.GetSubject() != mail.Header("Subject") ||
		!strings.Contains(item.GetBodyText(), "7 newcomers") || !strings.Contains(item.GetBodyHtml(), "&lt;Paris&gt;") || !strings.Contains(item.GetBody(), `Golang \<Paris\>`) {
		t.Errorf("the item is %v", item)
	}
	if log := w.logged.String(); strings.Contains(log, "ada@example.org") || strings.Contains(log, "Ada Rao") {
		t.Error("the log names an officer")
	}
}

func TestNoticesInTheInbox(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.above()
	var want []string // the oldest first
	for i := range 4 {
		want = append(want, a.delivered(announcement(fmt.Sprint("news ", i))))
		w.clock.Advance(time.Minute)
		want = append(want, a.tellNotice(lost()))
		w.clock.Advance(time.Minute)
	}
	list := func(size int32, kind localv1.InboxItem_Kind, state localv1.InboxItem_State) (names []string) {
		t.Helper()
		req := &localv1.ListInboxItemsRequest{Parent: paris, PageSize: size, Kind: kind, State: state}
		for {
			answer, err := w.inbox.ListInboxItems(t.Context(), req)
			w.must(err)
			for _, item := range answer.GetItems() {
				names = append([]string{item.GetName()}, names...)
				if item.GetBody() != "" || item.GetSubject() == "" {
					t.Errorf("listed: %v", item)
				}
			}
			if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
				return names
			}
		}
	}
	const anyKind, anyState = localv1.InboxItem_KIND_UNSPECIFIED, localv1.InboxItem_STATE_UNSPECIFIED
	for _, size := range []int32{1, 3, 50} {
		if got := list(size, anyKind, anyState); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("by pages of %d: %v, want %v", size, got, want)
		}
	}
	if got := list(2, localv1.InboxItem_NOTICE, anyState); len(got) != 4 || got[0] != want[1] {
		t.Errorf("notices: %v", got)
	}
	if got := list(2, localv1.InboxItem_ANNOUNCEMENT, anyState); len(got) != 4 || got[0] != want[0] {
		t.Errorf("announcements: %v", got)
	}

	_, err := w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: want[1], Lists: []string{members}})
	refuses(t, err, errorv1.Reason_REASON_INBOX_ITEM_IS_NOTICE)
	for range 2 {
		dismissed, err := w.inbox.DismissInboxItem(t.Context(), &localv1.DismissInboxItemRequest{Name: want[1], Reason: "seen"})
		w.must(err)
		if dismissed.GetState() != localv1.InboxItem_DISMISSED || dismissed.GetDismissReason() != "seen" {
			t.Errorf("dismissed: %v", dismissed)
		}
	}
	if got := list(50, anyKind, localv1.InboxItem_DISMISSED); len(got) != 1 || got[0] != want[1] {
		t.Errorf("dismissed: %v", got)
	}
	_, err = w.inbox.DismissInboxItem(t.Context(), &localv1.DismissInboxItemRequest{Name: paris + "/inbox/" + uuid.NewString()})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

// What the server refuses for now is tried again, and goes out once.
func TestNoticeMailIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.appoint(&localv1.Officer{MailAddress: "ada@example.org"})
	w.sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 451, Status: [3]int{4, 3, 0}, Times: 2})
	name := w.above().tellNotice(lost())
	for tried := 1; tried <= 2; tried++ {
		testkit.Eventually(t, patience, func() (bool, string) {
			var state string
			var attempts int
			w.must(w.pool.QueryRow(t.Context(), "SELECT state, attempts FROM mails").Scan(&state, &attempts))
			return state == mailQueued && attempts == tried, fmt.Sprintf("%s after %d attempts", state, attempts)
		})
		w.clock.Advance(3 * time.Minute)
	}
	w.mails(1)
	w.noticeSettled()
	if counts := w.item(name).GetCounts(); counts.GetMailed() != 1 {
		t.Errorf("the item counts %v", counts)
	}
	w.mails(1)
}

// An address at which nobody is reached is noted at the officer, and gets nothing more until there is another.
func TestOfficersBounce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dead := w.appoint(&localv1.Officer{DisplayName: "Dead", MailAddress: "dead@example.org"})
	late := w.appoint(&localv1.Officer{DisplayName: "Late", MailAddress: "late@example.org"})
	w.add(members, "dead@example.org")
	w.sink.Reject("dead@example.org", 550)
	a := w.above()
	name := a.tellNotice(lost())
	message := w.mails(1)[0]
	w.noticeSettled()
	if got := w.officer(dead.GetName()); got.GetBounceTime() == nil || !strings.Contains(got.GetBounceFailure(), "550") || strings.Contains(got.GetBounceFailure(), "@") {
		t.Errorf("the officer is %v", got)
	}
	if counts := w.item(name).GetCounts(); counts.GetBounced() != 1 || counts.GetMailed() != 1 {
		t.Errorf("the item counts %v", counts)
	}
	// What comes back later is noted by its mail.
	reported, err := w.inbox.ReportBounce(t.Context(), &localv1.ReportBounceRequest{Parent: paris, Raw: returned(strings.Trim(message.Header("Message-Id"), "<>"), "failed", "5.1.1")})
	w.must(err)
	if !reported.GetBounced() || w.officer(late.GetName()).GetBounceTime() == nil {
		t.Errorf("reported: %v, and the officer is %v", reported, w.officer(late.GetName()))
	}
	if counts := w.item(name).GetCounts(); counts.GetBounced() != 2 {
		t.Errorf("the item counts %v", counts)
	}
	if list := w.list(members); list.GetBouncedCount() != 0 {
		t.Errorf("a notice made somebody BOUNCED on a list: %v", list)
	}
	if counts := w.item(a.tellNotice(lost())).GetCounts(); counts.GetQueued() != 0 {
		t.Errorf("mail to dead addresses: %v", counts)
	}
	alive, err := w.officers().UpdateOfficer(t.Context(), &localv1.UpdateOfficerRequest{Officer: &localv1.Officer{Name: dead.GetName(), MailAddress: "alive@example.org"}})
	w.must(err)
	a.tellNotice(lost())
	if got := w.mails(2)[1]; alive.GetBounceTime() != nil || !got.Reached("alive@example.org") {
		t.Errorf("the officer is %v, the mail went to %v", alive, got.To)
	}
}

// Several processes on one database mail each notice once, whichever hears of it first.
func TestReplicasMailANoticeOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.appoint(&localv1.Officer{MailAddress: "ada@example.org"})
	w.appoint(&localv1.Officer{MailAddress: "bob@example.org"})
	for range 2 {
		w.startService(nil)
	}
	a := w.above()
	const notices = 30
	for range notices {
		a.tellNotice(lost())
	}
	w.mails(2 * notices)
	w.noticeSettled()
	copies := map[string]int{}
	for _, message := range w.mails(2 * notices) {
		copies[message.Header("Message-Id")]++
	}
	if len(copies) != 2*notices {
		t.Errorf("%d different mails, want %d", len(copies), 2*notices)
	}
}

// What was told before this database was set back was mailed then.
func TestRestoredDatabaseMailsNoNoticeAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.appoint(&localv1.Officer{MailAddress: "ada@example.org"})
	w.clock.Advance(time.Hour)
	w.inTx(func(tx pgx.Tx) { w.must(w.service.beginEpoch(t.Context(), tx, w.clock.Now().UnixMicro())) })
	a := w.above()
	if counts := w.item(a.tellNotice(lost())).GetCounts(); counts.GetQueued() != 0 {
		t.Errorf("told before the restore: %v", counts)
	}
	since := lost()
	since.IssueTime = timestamppb.New(w.clock.Now())
	a.tellNotice(since)
	w.mails(1)
}

// TestKillsMailNoNoticeTwice kills a process in the middle of 600 mails, again and again.
func TestKillsMailNoNoticeTwice(t *testing.T) {
	t.Parallel()
	const notices, officers, kills, connections = 200, 3, 8, 4
	database := testkit.Database(t, Migrations()...)
	pool, err := postgres.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	sink, err := mailsink.Start(t.Context(), mailsink.Config{Keep: 2 * notices * officers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	queueNotices(t, pool, notices, officers)
	v := &victim{t: t, env: []string{
		victimDatabase + "=" + database, victimNATS + "=" + testkit.NATS(t).URL(), victimSMTP + "=" + sink.Addr(),
	}}
	t.Cleanup(func() { v.kill() })
	for i := range kills {
		v.start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := sink.Wait(ctx, func(all []mailsink.Message) bool { return len(all) >= (i+1)*notices*officers/(kills+2) })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		v.kill()
	}
	v.start()
	states := map[string]int{}
	testkit.Eventually(t, time.Minute, func() (bool, string) {
		clear(states)
		rows, err := pool.Query(t.Context(), "SELECT state FROM mails")
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range all {
			states[state]++
		}
		return states[mailQueued]+states["SENDING"] == 0, fmt.Sprint(states)
	})
	v.kill()
	copies := map[string]int{}
	for _, message := range sink.Messages() {
		if copies[message.Header("Message-Id")]++; copies[message.Header("Message-Id")] > 1 {
			t.Errorf("%s arrived twice", message.Header("Message-Id"))
		}
	}
	t.Logf("%d kills: %v, %d mails arrived", kills, states, len(copies))
	if states[mailSent]+states[mailUncertain] != notices*officers || states[mailUncertain] > kills*connections || len(copies) < states[mailSent] {
		t.Errorf("%v, and %d arrived", states, len(copies))
	}
}

// queueNotices makes a chapter with officers and notices whose mails are due.
func queueNotices(t testing.TB, pool *pgxpool.Pool, notices, officers int) {
	t.Helper()
	content, err := proto.Marshal(lost())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO chapters (id, display_name, region, city, country_code, latitude, longitude, url, epoch, version, create_time, update_time)
		  VALUES ('golang-paris', 'Golang Paris', 'world', '', '', 0, 0, '', 1, 1, now(), now())`, nil},
		{`INSERT INTO lists (chapter_id, id, display_name, double_opt_in, epoch, version, create_time, update_time)
		  VALUES ('golang-paris', 'members', 'Members', false, 1, 1, now(), now())`, nil},
		{`INSERT INTO officers (id, chapter_id, display_name, role, subject, mail_address, mail_token, notices_muted, term_start, term_end, create_time, update_time)
		  SELECT gen_random_uuid(), 'golang-paris', 'Officer ' || i, 2, '', 'officer' || i || '@example.org', '\x0101' || sha256(i::text::bytea), false,
		         now() - interval '1 day', now() + interval '1 day', now(), now()
		  FROM generate_series(1, $1::integer) i`, []any{officers}},
		{`INSERT INTO notices (id, chapter_id, content, arrive_time, update_time)
		  SELECT gen_random_uuid(), 'golang-paris', $2, now(), now() FROM generate_series(1, $1::integer)`, []any{notices, content}},
	} {
		if _, err := pool.Exec(t.Context(), statement.sql, statement.args...); err != nil {
			t.Fatalf("%s: %v", statement.sql, err)
		}
	}
	rows, err := pool.Query(t.Context(), "SELECT id FROM notices")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		queued, err := db.New(pool).QueueNotice(t.Context(), db.QueueNoticeParams{NoticeID: &id, ChapterID: "golang-paris", Issued: 1, Now: time.Now()})
		if err != nil || queued != int64(officers) {
			t.Fatalf("%d mails are queued (%v)", queued, err)
		}
	}
}
