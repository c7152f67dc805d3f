package local

import (
	"context"
	"fmt"
	"net"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	gomail "github.com/wneessen/go-mail"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// BenchmarkMailing holds a mailing to 100,000 people, from the moment in which it is due to its last mail, against bare loops
// over as many connections into the same sink, with the same mail and nothing kept. Each round runs all of them, and what is
// told is the median of the rounds' ratios, because the machine has others to serve:
//   - x-bare: the library, as it sends by itself;
//   - x-mailer: the platform's own mailer, which gives the server all commands at once and writes a mailing's mail once.
func BenchmarkMailing(b *testing.B) {
	const people, rounds = 100_000, 3
	var ours, bare, mailer []time.Duration
	for b.Loop() {
		for range rounds {
			pool := durable(b)
			w := setupOn(b, pool, func(config *Config) { config.CompareEvery, config.Mail.Connections = time.Hour, 16 })
			scheduleMailing(b, pool, people)
			ours = append(ours, timed(func() {
				w.clock.Set(time.Now().Add(time.Minute))
				testkit.Eventually(b, 10*time.Minute, func() (bool, string) {
					var state string
					w.must(pool.QueryRow(b.Context(), "SELECT state FROM mailings").Scan(&state))
					return state == "DONE", state
				})
			}))
			kept := w.sink.Messages()
			like := kept[len(kept)-1]
			bare = append(bare, timed(func() { bareMails(b, w.sink, like, people, w.service.mail.Connections()) }))
			mailer = append(mailer, timed(func() { mailerMails(b, w.service.mail, like, people) }))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(people/median(seconds(ours)), "mails/s")
	b.ReportMetric(median(ratios(ours, bare)), "x-bare")
	b.ReportMetric(median(ratios(ours, mailer)), "x-mailer")
	b.Logf("%d mails, in s: ours %.1f, the library %.1f, the mailer %.1f", people, seconds(ours), seconds(bare), seconds(mailer))
}

func seconds(times []time.Duration) (s []float64) {
	for _, one := range times {
		s = append(s, one.Seconds())
	}
	return s
}

func ratios(ours, theirs []time.Duration) (r []float64) {
	for i, one := range ours {
		r = append(r, one.Seconds()/theirs[i].Seconds())
	}
	return r
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// mailerMails sends so many mails like the one given by the platform's mailer.
func mailerMails(b *testing.B, mailer *mail.Mailer, like mailsink.Message, n int) {
	b.Helper()
	blank := mail.Message{
		From: netmail.Address{Name: "Golang Paris"}, Subject: like.Subject, Language: like.Header("Content-Language"), OneClick: true,
		ListID: "members.golang-paris.chapterhouse.example", ListName: "Members",
	}
	link := strings.Trim(like.Header("List-Unsubscribe"), "<>")
	blank.Text, blank.HTML = strings.ReplaceAll(like.Text, link, mail.UnsubscribeMark), strings.ReplaceAll(like.HTML, link, mail.UnsubscribeMark)
	form, err := mailer.NewForm(blank)
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var group sync.WaitGroup
	for range mailer.Connections() {
		group.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				err := mailer.Send(context.Background(), mail.Message{
					Form: form, ID: fmt.Sprintf("%d@chapterhouse.example", i), Unsubscribe: link,
					To: netmail.Address{Name: fmt.Sprint("Person ", i), Address: fmt.Sprintf("person%d@example.org", i)},
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// bareMails sends so many mails like the one given.
func bareMails(b *testing.B, sink *mailsink.Sink, like mailsink.Message, n, connections int) {
	b.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			host, port := hostPort(b, sink.Addr())
			client, err := gomail.NewClient(host, gomail.WithPort(port), gomail.WithTLSPolicy(gomail.NoTLS), gomail.WithoutNoop())
			if err == nil {
				err = client.DialWithContext(context.Background())
			}
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = client.Close() }()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := client.Send(bareMail(like, i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// bareMail is a mail with the same headers and parts.
func bareMail(like mailsink.Message, i int64) *gomail.Msg {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	_ = msg.FromFormat("Golang Paris", "site@chapterhouse.example")
	_ = msg.AddToFormat(fmt.Sprint("Person ", i), fmt.Sprintf("person%d@example.org", i))
	msg.Subject(like.Subject)
	msg.SetMessageIDWithValue(fmt.Sprintf("%d@chapterhouse.example", i))
	msg.SetDate()
	for _, name := range []string{"Precedence", "X-Auto-Response-Suppress", "Content-Language", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"} {
		msg.SetGenHeader(gomail.Header(name), like.Header(name))
	}
	msg.SetBodyString(gomail.TypeTextPlain, like.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, like.HTML)
	return msg
}

func hostPort(b *testing.B, addr string) (string, int) {
	b.Helper()
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		b.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return host, port
}

// BenchmarkInboxes holds the filling of 20,000 inboxes, from the relay's event to the last item, against a bare COPY of that
// many rows into a table like theirs.
func BenchmarkInboxes(b *testing.B) {
	const chapters = 20_000
	w := setupOn(b, durable(b))
	w.exec(`INSERT INTO chapters (id, display_name, region, city, country_code, latitude, longitude, url, epoch, version, create_time, update_time)
		SELECT 'c' || i, 'Chapter ' || i, 'world', '', '', 0, 0, '', 1, 1, now(), now() FROM generate_series(2, 20000) i`)
	w.exec(`CREATE TABLE bare_items (LIKE inbox_items INCLUDING ALL)`)
	var ours, bare time.Duration
	for b.Loop() {
		news := announcement("news")
		w.exec("ANALYZE chapters")
		ours += timed(func() {
			w.inTx(func(tx pgx.Tx) {
				w.must(w.service.putAnnouncement(b.Context(), tx, news))
				w.must(w.service.putRelay(b.Context(), tx, relay(news, "world")))
			})
		})
		if n := len(w.has(news)); n != chapters {
			b.Fatalf("%d inboxes have it", n)
		}
		bare += timed(func() { w.bareItems(news, chapters) })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/announcement")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "x-copy")
}

func (w *world) bareItems(news *eventv1.AnnouncementChanged, chapters int) {
	w.t.Helper()
	_, err := w.pool.CopyFrom(w.t.Context(), pgx.Identifier{"bare_items"},
		[]string{"announcement_id", "chapter_id", "region", "arrived_edition", "arrive_time", "update_time", "epoch"},
		pgx.CopyFromSlice(chapters, func(i int) ([]any, error) {
			return []any{uuid.MustParse(idOf(news)), fmt.Sprint("c", i), "world", int32(1), noon, noon, int64(1)}, nil
		}))
	w.must(err)
}
