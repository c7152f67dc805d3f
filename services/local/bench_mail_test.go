package local

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	gomail "github.com/wneessen/go-mail"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// BenchmarkMailing holds a mailing to 100,000 people, from the moment in which it is due to its last mail, against a bare
// loop: the same library over as many connections into the same sink, with a mail of the same size, and nothing kept.
func BenchmarkMailing(b *testing.B) {
	const people = 100_000
	var ours, theirs time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		pool := durable(b)
		w := setupOn(b, pool, func(config *Config) { config.CompareEvery, config.Mail.Connections = time.Hour, 16 })
		scheduleMailing(b, pool, people)
		ours += timed(func() {
			w.clock.Set(time.Now().Add(time.Minute))
			testkit.Eventually(b, 10*time.Minute, func() (bool, string) {
				var state string
				w.must(pool.QueryRow(b.Context(), "SELECT state FROM mailings").Scan(&state))
				return state == "DONE", state
			})
		})
		kept := w.sink.Messages()
		theirs += timed(func() { bareMails(b, w.sink, kept[len(kept)-1], people, w.service.mail.Connections()) })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(people*float64(rounds)/ours.Seconds(), "mails/s")
	b.ReportMetric(people*float64(rounds)/theirs.Seconds(), "bare-mails/s")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-bare")
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
