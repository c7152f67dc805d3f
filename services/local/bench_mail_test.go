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

	gomail "github.com/wneessen/go-mail"

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
			w.clock.Set(time.Now().Add(time.Minute)) //nolint:forbidigo // the rows are due in the database's now
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
