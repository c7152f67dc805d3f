package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	link     = "leave_golang-paris_0123456789"
	linkPath = "/s/" + link
	asForm   = "Content-Type: application/x-www-form-urlencoded"
)

// person is somebody whose links the local service knows.
type person struct {
	purpose   localv1.Subscription_Purpose
	state     localv1.Entry_State
	canReturn bool
	deeds     []string // what was done by the links
}

func (w *world) knows(p *person) {
	subscription := func(name string) *localv1.Subscription {
		return &localv1.Subscription{
			Name: name, Purpose: p.purpose, ChapterDisplayName: "Golang Paris", ListDisplayName: "News & <dates>", MaskedAddress: "a***@example.org",
			State: p.state, ConsentText: "News of the chapter,\nonce a month.", CanReturn: p.canReturn,
			ExpireTime: timestamppb.New(time.Date(2026, 12, 2, 9, 5, 0, 0, time.UTC)),
		}
	}
	on(w, localv1.SubscriptionService_GetSubscription_FullMethodName, func(_ context.Context, r *localv1.GetSubscriptionRequest) (*localv1.Subscription, error) {
		return subscription(r.GetName()), nil
	})
	on(w, localv1.SubscriptionService_LeaveSubscription_FullMethodName, func(_ context.Context, r *localv1.LeaveSubscriptionRequest) (*localv1.Subscription, error) {
		deed := "leave " + r.GetName()
		if r.GetOneClick() {
			deed += " by one click"
		}
		p.deeds, p.state = append(p.deeds, deed), localv1.Entry_UNSUBSCRIBED
		return subscription(r.GetName()), nil
	})
	on(w, localv1.SubscriptionService_RequestSubscription_FullMethodName, func(_ context.Context, r *localv1.RequestSubscriptionRequest) (*localv1.Subscription, error) {
		p.deeds = append(p.deeds, "request "+r.GetName())
		return subscription(r.GetName()), nil
	})
	on(w, localv1.SubscriptionService_ConfirmSubscription_FullMethodName, func(_ context.Context, r *localv1.ConfirmSubscriptionRequest) (*localv1.Subscription, error) {
		p.deeds, p.state = append(p.deeds, "confirm "+r.GetName()), localv1.Entry_SUBSCRIBED
		return subscription(r.GetName()), nil
	})
}

// wantPage checks what holds for all these pages, and that it shows this title and these buttons.
func (a answer) wantPage(t *testing.T, status int, title string, buttons ...string) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow",
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"X-Frame-Options":         "DENY", "Set-Cookie": "", "Location": "", "ETag": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(a.body, `<html lang="en">`) || !strings.Contains(a.body, "<h1>"+title+"</h1>") {
		t.Errorf("the page is not %q: %s", title, a.body)
	}
	if strings.Contains(a.body, "<script") || strings.Contains(a.body, "style=") || strings.Contains(a.body, "<dates>") || strings.Contains(a.body, link) {
		t.Errorf("the page holds what it must not: %s", a.body)
	}
	var shown []string
	for _, button := range regexp.MustCompile(`name="action" value="(\w+)"`).FindAllStringSubmatch(a.body, -1) {
		shown = append(shown, button[1])
	}
	if strings.Join(shown, " ") != strings.Join(buttons, " ") {
		t.Errorf("the buttons are %q, want %q", shown, buttons)
	}
}

func TestLinkPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		person
		title   string
		buttons []string
		text    string
	}{
		"Leave":         {person{localv1.Subscription_LEAVE, localv1.Entry_SUBSCRIBED, false, nil}, "Leave this list?", []string{"leave"}, "a***@example.org"},
		"LeavePending":  {person{localv1.Subscription_LEAVE, localv1.Entry_PENDING, false, nil}, "Leave this list?", []string{"leave"}, "News &amp; &lt;dates&gt;"},
		"Left":          {person{localv1.Subscription_LEAVE, localv1.Entry_UNSUBSCRIBED, true, nil}, "You have left this list", []string{"return"}, "I want to come back"},
		"LeftForgotten": {person{localv1.Subscription_LEAVE, localv1.Entry_UNSUBSCRIBED, false, nil}, "You have left this list", nil, "Golang Paris"},
		"Bounced":       {person{localv1.Subscription_LEAVE, localv1.Entry_BOUNCED, true, nil}, "You get no mail of this list", []string{"return"}, "came back"},
		"Gone":          {person{localv1.Subscription_LEAVE, localv1.Entry_STATE_UNSPECIFIED, false, nil}, "You are not on this list", nil, "nothing left to do"},
		"Confirm":       {person{localv1.Subscription_CONFIRM, localv1.Entry_PENDING, false, nil}, "Join this list?", []string{"confirm"}, "<blockquote>News of the chapter,\nonce a month.</blockquote>"},
		"ConfirmUntil":  {person{localv1.Subscription_CONFIRM, localv1.Entry_UNSUBSCRIBED, false, nil}, "Join this list?", []string{"confirm"}, "until 2 December 2026, 09:05 UTC"},
		"Confirmed":     {person{localv1.Subscription_CONFIRM, localv1.Entry_SUBSCRIBED, false, nil}, "You are on this list", nil, "leave again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.knows(&c.person)
			got := w.do(http.MethodGet, linkPath, "", "Authorization: Bearer abc", "Cookie: a=b")
			got.wantPage(t, http.StatusOK, c.title, c.buttons...)
			if !strings.Contains(got.body, c.text) {
				t.Errorf("the page does not say %q: %s", c.text, got.body)
			}
			if len(c.deeds) > 0 {
				t.Errorf("GET does %q", c.deeds)
			}
			if md := w.lastCall().metadata; len(md.Get("authorization")) > 0 || len(md.Get("x-request-id")) != 1 {
				t.Errorf("metadata: %v", md)
			}
			head := w.do(http.MethodHead, linkPath, "")
			if head.status != http.StatusOK || head.body != "" || head.header.Get("Content-Length") != got.header.Get("Content-Length") {
				t.Errorf("HEAD: %d %v", head.status, head.header)
			}
		})
	}
}

func TestLinkButtons(t *testing.T) {
	t.Parallel()
	w := setup(t)
	somebody := &person{purpose: localv1.Subscription_LEAVE, state: localv1.Entry_SUBSCRIBED, canReturn: true}
	w.knows(somebody)
	w.do(http.MethodPost, linkPath, "action=leave", asForm).wantPage(t, http.StatusOK, "You have left this list", "return")
	asked := w.do(http.MethodPost, linkPath, "action=return", asForm)
	asked.wantPage(t, http.StatusOK, "Look into your mail")
	somebody.purpose, somebody.state = localv1.Subscription_CONFIRM, localv1.Entry_PENDING
	w.do(http.MethodPost, linkPath, "action=confirm", asForm).wantPage(t, http.StatusOK, "You are on this list")
	if got := strings.Join(somebody.deeds, ", "); got != "leave subscriptions/"+link+", request subscriptions/"+link+", confirm subscriptions/"+link {
		t.Errorf("done: %s", got)
	}
}

// RFC 8058: a mail program posts this, without cookies or any other context, and follows no redirect.
func TestOneClick(t *testing.T) {
	t.Parallel()
	const parts = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n"
	for name, c := range map[string][2]string{
		"URLEncoded": {"List-Unsubscribe=One-Click", asForm},
		"Multipart":  {parts, "Content-Type: multipart/form-data; boundary=b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			somebody := &person{purpose: localv1.Subscription_LEAVE, state: localv1.Entry_SUBSCRIBED}
			w.knows(somebody)
			for range 2 {
				w.do(http.MethodPost, linkPath, c[0], c[1]).wantPage(t, http.StatusOK, "You have left this list")
			}
			if len(somebody.deeds) != 2 || somebody.deeds[0] != "leave subscriptions/"+link+" by one click" {
				t.Errorf("done: %q", somebody.deeds)
			}
		})
	}
}

func TestLinkPagesThatRefuse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	somebody := &person{purpose: localv1.Subscription_LEAVE, state: localv1.Entry_SUBSCRIBED}
	w.knows(somebody)
	for name, c := range map[string]struct {
		method, path, body, contentType string
		status                          int
		title                           string
	}{
		"NoLink":        {http.MethodGet, "/s/", "", "", http.StatusNotFound, "This link does not work"},
		"CutShort":      {http.MethodGet, "/s/leave", "", "", http.StatusNotFound, "This link does not work"},
		"Slash":         {http.MethodGet, linkPath + "/x", "", "", http.StatusNotFound, "This link does not work"},
		"EncodedSlash":  {http.MethodPost, linkPath + "%2Fx", "action=leave", asForm, http.StatusNotFound, "This link does not work"},
		"TooLong":       {http.MethodGet, "/s/" + strings.Repeat("a", 401), "", "", http.StatusNotFound, "This link does not work"},
		"Put":           {http.MethodPut, linkPath, "", "", http.StatusMethodNotAllowed, "That was not understood"},
		"NothingSaid":   {http.MethodPost, linkPath, "", asForm, http.StatusBadRequest, "That was not understood"},
		"OtherAction":   {http.MethodPost, linkPath, "action=erase", asForm, http.StatusBadRequest, "That was not understood"},
		"AlmostClicked": {http.MethodPost, linkPath, "List-Unsubscribe=one-click", asForm, http.StatusBadRequest, "That was not understood"},
		"BrokenForm":    {http.MethodPost, linkPath, "action=%zz", asForm, http.StatusBadRequest, "That was not understood"},
		"BrokenParts":   {http.MethodPost, linkPath, "--b\r\nx", "Content-Type: multipart/form-data; boundary=b", http.StatusBadRequest, "That was not understood"},
		"NoForm":        {http.MethodPost, linkPath, `{"action":"leave"}`, asJSON, http.StatusUnsupportedMediaType, "That was not understood"},
		"TooMuch":       {http.MethodPost, linkPath, "action=leave&x=" + strings.Repeat("x", 8<<10), asForm, http.StatusRequestEntityTooLarge, "That was not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if c.contentType != "" {
				headers = append(headers, c.contentType)
			}
			w.do(c.method, c.path, c.body, headers...).wantPage(t, c.status, c.title)
		})
	}
	chunked := w.send(http.MethodPost, linkPath, struct{ *strings.Reader }{strings.NewReader("action=leave&x=" + strings.Repeat("x", 9<<10))}, asForm)
	chunked.wantPage(t, http.StatusRequestEntityTooLarge, "That was not understood")
	if len(somebody.deeds) > 0 || w.called() > 0 {
		t.Errorf("done: %q in %d calls", somebody.deeds, w.called())
	}
	if allow := w.do(http.MethodDelete, linkPath, "").header.Get("Allow"); allow != "GET, HEAD, POST" {
		t.Errorf("Allow is %q", allow)
	}
}

func TestLinkPagesOfErrors(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct {
		err    error
		status int
		title  string
		text   string
	}{
		{rpc.NotFound(errorv1.Reason_REASON_LINK_INVALID, "no"), http.StatusNotFound, "This link does not work", "newer mail"},
		{rpc.Precondition(errorv1.Reason_REASON_ENTRY_STATE, "no"), http.StatusBadRequest, "That is not possible now", "Open this page again"},
		{rpc.Exhausted(errorv1.Reason_REASON_RATE_LIMITED, "no").RetryAfter(time.Hour), http.StatusTooManyRequests, "That was asked for a moment ago", "spam"},
		{rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "no"), http.StatusServiceUnavailable, "That does not work at the moment", "in a few minutes"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "That does not work at the moment", "tell them this number: <code>mine</code>"},
	} {
		on(w, localv1.SubscriptionService_RequestSubscription_FullMethodName, func(context.Context, *localv1.RequestSubscriptionRequest) (*localv1.Subscription, error) {
			return nil, c.err
		})
		got := w.do(http.MethodPost, linkPath, "action=return", asForm, "X-Request-Id: mine")
		got.wantPage(t, c.status, c.title)
		if !strings.Contains(got.body, c.text) {
			t.Errorf("%v: the page does not say %q: %s", c.err, c.text, got.body)
		}
		if c.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != "3600" {
			t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
		}
	}
}

// Whoever reads the log or the metrics can do nothing in anybody's name.
func TestLinksAreNotLogged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.knows(&person{purpose: localv1.Subscription_LEAVE, state: localv1.Entry_SUBSCRIBED})
	w.do(http.MethodGet, linkPath, "")
	w.do(http.MethodPost, linkPath, "action=leave", asForm)
	w.do(http.MethodGet, "/s/"+link+"!", "")
	w.do(http.MethodGet, "/v1/subscriptions/"+link, "")
	within(t, "four lines", func() bool { return strings.Count(w.log.String(), `"msg":"request"`) == 4 })
	metrics := w.do(http.MethodGet, "/metrics", "").body
	if strings.Contains(w.log.String(), link) || strings.Contains(metrics, link) {
		t.Errorf("the link is told: %s", w.log)
	}
	if !strings.Contains(metrics, `chapterhouse_http_requests_total{method="GET",route="/s/{link}",status="200"} 1`) {
		t.Errorf("the metrics: %s", metrics)
	}
}

// Not parallel: the tracer provider is the process's. No other test traces.
func TestLinksAreNotTraced(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	defer otel.SetTracerProvider(before)
	w := setup(t, func(cfg *gateway.Config) { cfg.Tracing = true })
	w.knows(&person{purpose: localv1.Subscription_LEAVE, state: localv1.Entry_SUBSCRIBED})
	w.do(http.MethodGet, linkPath, "")
	w.do(http.MethodGet, "/v1/subscriptions/"+link, "")
	w.do(http.MethodPost, "/v1/subscriptions/"+link+":leave", "{}", asJSON)
	w.refuses(nil)
	w.do(http.MethodGet, listPath, "")
	within(t, "the other call is traced", func() bool { return len(spans.GetSpans()) > 0 })
	if text := fmt.Sprintf("%+v", spans.GetSpans()); strings.Contains(text, link) {
		t.Errorf("the link is told: %s", text)
	}
}
