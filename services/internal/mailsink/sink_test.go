package mailsink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

var now = time.Date(2026, 11, 23, 18, 33, 21, 0, time.UTC)

func start(t *testing.T, config mailsink.Config) *mailsink.Sink {
	t.Helper()
	config.Web, config.Clock = "127.0.0.1:0", clock.NewFake(now)
	sink, err := mailsink.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return sink
}

// deliver hands over a mail with the standard library's client, as it is.
func deliver(t *testing.T, sink *mailsink.Sink, to, head, body string) error {
	t.Helper()
	raw := strings.ReplaceAll(head+"\n\n"+body, "\n", "\r\n")
	return smtp.SendMail(sink.Addr(), nil, "site@chapterhouse.example", []string{to}, []byte(raw))
}

func take(t *testing.T, sink *mailsink.Sink, to, head, body string) {
	t.Helper()
	if err := deliver(t, sink, to, head, body); err != nil {
		t.Fatal(err)
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func get(t *testing.T, url string, change ...func(*http.Request)) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range change {
		one(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

const both = `From: =?utf-8?q?J=C3=BCrgen?= <site@chapterhouse.example>
To: ada@example.org
Subject: =?utf-8?q?Bitte_best=C3=A4tigen?=
List-Id: Announcements <announce.chapterhouse.example>
Content-Type: multipart/alternative; boundary=b`

const bothParts = `--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Best=C3=A4tigen: https://chapterhouse.example/c/abc?x=3D1&y=3D2.
(Oder nicht: http://127.0.0.1:8080/u/def)
--b
Content-Type: text/html; charset=utf-8

<p>Hello</p><script>alert(1)</script>
--b--
`

func TestMailIsReadable(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	take(t, sink, "ada@example.org", both, bothParts)
	m := sink.Messages()[0]
	if m.ID != "1" || !m.Received.Equal(now) || m.From != "site@chapterhouse.example" || !m.Reached("ada@example.org") || m.Reached("ada") {
		t.Errorf("mail %s of %s from %s to %s", m.ID, m.Received, m.From, m.To)
	}
	if m.Subject != "Bitte bestätigen" || m.Header("From") != "Jürgen <site@chapterhouse.example>" || m.Broken != "" {
		t.Errorf("subject %q from %q, broken %q", m.Subject, m.Header("From"), m.Broken)
	}
	if !strings.HasPrefix(m.Text, "Bestätigen: ") || !strings.Contains(m.HTML, "<p>Hello</p>") {
		t.Errorf("text %q, HTML %q", m.Text, m.HTML)
	}
	if got := fmt.Sprint(m.Links()); got != "[https://chapterhouse.example/c/abc?x=1&y=2 http://127.0.0.1:8080/u/def]" {
		t.Errorf("links %s", got)
	}
}

func TestBrokenMailIsKept(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	take(t, sink, "ada@example.org", "Subject: Half\nContent-Type: multipart/alternative; boundary=b", "--b\nContent-Type: text/plain\n\nbegun")
	take(t, sink, "ada@example.org", "no header at all", "text")
	for _, m := range sink.Messages() {
		if m.Broken == "" || len(m.Raw) == 0 {
			t.Errorf("mail %s: broken %q, %d bytes", m.ID, m.Broken, len(m.Raw))
		}
		if page := get(t, sink.WebURL()+"/messages/"+m.ID); page.status != http.StatusOK || !strings.Contains(page.body, "cannot be read") {
			t.Errorf("mail %s: status %d", m.ID, page.status)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()

	t.Run("TheOldestGo", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Config{Keep: 3})
		for i := range 5 {
			take(t, sink, "ada@example.org", fmt.Sprintf("Subject: %d", i+1), "text")
		}
		if kept := sink.Messages(); len(kept) != 3 || kept[0].Subject != "3" || kept[2].ID != "5" {
			t.Errorf("%d kept, the first %s", len(kept), kept[0].Subject)
		}
		if page := get(t, sink.WebURL()+"/messages/1"); page.status != http.StatusNotFound {
			t.Errorf("the first is still shown: %d", page.status)
		}
	})

	t.Run("BytesCountToo", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Config{KeepBytes: 5000})
		for range 5 {
			take(t, sink, "ada@example.org", "Subject: Long", strings.Repeat("x", 900)+"\n"+strings.Repeat("x", 900))
		}
		if kept := sink.Messages(); len(kept) != 2 {
			t.Errorf("%d kept, want 2", len(kept))
		}
	})

	t.Run("ALargeMailIsRefused", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Config{MaxBytes: 1000})
		if err := deliver(t, sink, "ada@example.org", "Subject: Long", strings.Repeat("x", 900)+"\n"+strings.Repeat("x", 900)); err == nil || !strings.HasPrefix(err.Error(), "552") {
			t.Errorf("error %v, want 552", err)
		}
		if kept := sink.Messages(); len(kept) != 0 {
			t.Errorf("%d kept", len(kept))
		}
	})
}

func TestCloseAtOnce(t *testing.T) {
	t.Parallel()
	for range 200 {
		sink, err := mailsink.Start(t.Context(), mailsink.Config{Web: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	two := func(kept []mailsink.Message) bool { return len(kept) == 2 }
	arrived := make(chan error, 1)
	go func() {
		kept, err := sink.Wait(t.Context(), two)
		if err == nil && len(kept) != 2 {
			err = fmt.Errorf("%d kept", len(kept))
		}
		arrived <- err
	}()
	take(t, sink, "ada@example.org", "Subject: 1", "text")
	take(t, sink, "ada@example.org", "Subject: 2", "text")
	if err := <-arrived; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sink.Wait(ctx, func([]mailsink.Message) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v after the end of waiting", err)
	}
}

func TestFaultsAreCounted(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Recipient, Code: 451, Times: 2})
	for range 2 {
		if err := deliver(t, sink, "ada@example.org", "Subject: 1", "text"); err == nil || !strings.HasPrefix(err.Error(), "451") {
			t.Errorf("error %v, want 451", err)
		}
	}
	take(t, sink, "ada@example.org", "Subject: 1", "text")
}

func TestOnlyThisMachineIsServed(t *testing.T) {
	t.Parallel()
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:25", "mail.example.org:25"} {
		for _, config := range []mailsink.Config{{SMTP: address}, {Web: address}} {
			if sink, err := mailsink.Start(t.Context(), config); err == nil {
				t.Errorf("listens on %s", address)
				_ = sink.Close()
			}
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	if page := get(t, sink.WebURL()); !strings.Contains(page.body, "Nothing has been sent yet") {
		t.Errorf("without mail: %s", page.body)
	}
	take(t, sink, "bob@example.org", "To: bob@example.org\nSubject: First", "text")
	take(t, sink, "ada@example.org", both, bothParts)

	t.Run("ListTheNewestFirst", func(t *testing.T) {
		page := get(t, sink.WebURL())
		second, first := strings.Index(page.body, "Bitte bestätigen"), strings.Index(page.body, "First")
		if second < 0 || first < second {
			t.Errorf("the list: %s", page.body)
		}
		for _, want := range []string{"ada@example.org", "2026-11-23 18:33:21", "Announcements &lt;announce.chapterhouse.example&gt;", `href="/messages/2"`} {
			if !strings.Contains(page.body, want) {
				t.Errorf("the list lacks %s", want)
			}
		}
	})

	t.Run("ShowOneMail", func(t *testing.T) {
		page := get(t, sink.WebURL()+"/messages/2")
		for _, want := range []string{
			`<a href="https://chapterhouse.example/c/abc?x=1&amp;y=2" rel="noreferrer">https://chapterhouse.example/c/abc?x=1&amp;y=2</a>.`,
			`<a href="http://127.0.0.1:8080/u/def" rel="noreferrer">http://127.0.0.1:8080/u/def</a>)`,
			`<iframe src="/messages/2/html" sandbox title=`, "Jürgen &lt;site@chapterhouse.example&gt;", `href="/messages/2/raw"`,
		} {
			if !strings.Contains(page.body, want) {
				t.Errorf("the page lacks %s: %s", want, page.body)
			}
		}
	})

	t.Run("GiveItAsAFile", func(t *testing.T) {
		file := get(t, sink.WebURL()+"/messages/2/raw")
		if file.body != string(sink.Messages()[1].Raw) || file.header.Get("Content-Type") != "message/rfc822" ||
			file.header.Get("Content-Disposition") != `attachment; filename="2.eml"` {
			t.Errorf("%v, %d bytes", file.header, len(file.body))
		}
	})

	t.Run("LetNothingRun", func(t *testing.T) {
		for _, path := range []string{"/", "/page.css", "/messages.json", "/messages/1", "/messages/2", "/messages/2/raw", "/messages/3", "/nowhere"} {
			page := get(t, sink.WebURL()+path)
			policy := page.header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: policy %s", path, policy)
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			} {
				if got := page.header.Get(name); got != want {
					t.Errorf("%s: %s: %s, want %s", path, name, got, want)
				}
			}
		}
		page := get(t, sink.WebURL()+"/messages/2/html")
		policy := page.header.Get("Content-Security-Policy")
		if !strings.HasSuffix(policy, "; sandbox") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script") {
			t.Errorf("HTML: policy %s", policy)
		}
	})

	t.Run("AreForThisMachine", func(t *testing.T) {
		elsewhere := get(t, sink.WebURL()+"/messages.json", func(r *http.Request) { r.Host = "evil.example:80" })
		if elsewhere.status != http.StatusForbidden || strings.Contains(elsewhere.body, "ada@") {
			t.Errorf("by another name: %d %s", elsewhere.status, elsewhere.body)
		}
		if here := get(t, sink.WebURL(), func(r *http.Request) { r.Host = "localhost:80" }); here.status != http.StatusOK {
			t.Errorf("as localhost: %d", here.status)
		}
	})
}

func TestWhatAMailSaysIsShownAsText(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	const script = `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	take(t, sink, `ada@example.org`, "From: "+script+"\nTo: "+script+"\nSubject: "+script+"\nX-"+`<b>`+": "+script+"\nX-Other: "+script,
		"https://example.org/\"onmouseover=alert(1) javascript:alert(1) https://example.org/<script>\n"+script)
	for _, path := range []string{"/", "/messages/1"} {
		page := get(t, sink.WebURL()+path)
		for _, forbidden := range []string{"<script", "<img", "<b>", `"onmouseover`, `href="javascript`} {
			if strings.Contains(page.body, forbidden) {
				t.Errorf("%s has %s: %s", path, forbidden, page.body)
			}
		}
		if !strings.Contains(page.body, "&lt;script&gt;") {
			t.Errorf("%s does not show the subject", path)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Config{})
	take(t, sink, "bob@example.org", "To: bob@example.org\nSubject: First", "text")
	take(t, sink, "ada@example.org", both, bothParts)
	take(t, sink, "bob@example.org", "To: bob@example.org\nSubject: Third", "text")

	list := func(t *testing.T, query string) (ids string, body string) {
		t.Helper()
		page := get(t, sink.WebURL()+"/messages.json"+query)
		var decoded struct {
			Messages []struct {
				ID, Subject, Text string
				To, Links         []string
				Headers           map[string]string
			}
		}
		if err := json.Unmarshal([]byte(page.body), &decoded); err != nil {
			t.Fatalf("%v: %s", err, page.body)
		}
		for _, m := range decoded.Messages {
			ids += m.ID
			if m.ID == "2" && (len(m.Links) != 2 || m.Headers["List-Id"] == "" || m.Subject != "Bitte bestätigen") {
				t.Errorf("mail 2: %+v", m)
			}
		}
		return ids, page.body
	}
	for query, want := range map[string]string{"": "321", "?to=bob@example.org": "31", "?to=bob@example.org&limit=1": "3", "?limit=2": "32", "?to=eve@example.org": ""} {
		if got, _ := list(t, query); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	if _, body := list(t, "?to=ada@example.org"); !strings.Contains(body, `"https://chapterhouse.example/c/abc?x=1&y=2"`) {
		t.Errorf("the link cannot be cut out: %s", body)
	}
	if page := get(t, sink.WebURL()+"/messages.json?limit=none"); page.status != http.StatusBadRequest {
		t.Errorf("limit=none: %d", page.status)
	}
}
