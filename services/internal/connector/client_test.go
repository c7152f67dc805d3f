package connector_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const secret = "client-test-secret"

func access(url string) connector.Access {
	return connector.Access{Product: "the API", URL: url, Username: "user", Password: secret}
}

func newClient(t *testing.T, access connector.Access) *connector.Client {
	t.Helper()
	client, err := connector.NewClient(access)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// call asks for a path with an address in it, as real ones have.
func call(t *testing.T, client *connector.Client) (connector.Answer, error) {
	t.Helper()
	return client.Do(t.Context(), connector.Call{Method: http.MethodGet, Path: "/members/ada@example.org"})
}

func wantKind(t *testing.T, err error, kind connector.Kind) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("%#v (%v), want kind %d", err, err, kind)
	}
	if text := err.Error(); strings.Contains(text, "ada@") || strings.Contains(text, secret) {
		t.Errorf("the error says %q", text)
	}
}

func TestNewClientRefusesURLs(t *testing.T) {
	t.Parallel()
	for url, kind := range map[string]connector.Kind{
		"":                                   connector.WrongURL,
		"lists.example.org":                  connector.WrongURL,
		"ftp://lists.example.org":            connector.WrongURL,
		"https://":                           connector.WrongURL,
		"https://user:" + secret + "@x.org":  connector.WrongURL,
		"https://lists.example.org/?token=x": connector.WrongURL,
		"http://lists.example.org":           connector.WrongURL,
		"http://192.0.2.1":                   connector.WrongURL,
		"https://lists.example.org/":         0,
		"http://127.0.0.1:8001":              0,
		"http://[::1]:8001":                  0,
		"http://localhost:8001":              0,
	} {
		_, err := connector.NewClient(access(url))
		if kind == 0 && err != nil {
			t.Errorf("%q: %v", url, err)
		}
		if kind != 0 {
			wantKind(t, err, kind)
		}
	}
	plain := access("http://lists.example.org")
	plain.Policy.PlainHTTP = true
	newClient(t, plain)
	none := access("https://lists.example.org")
	none.Password = ""
	_, err := connector.NewClient(none)
	wantKind(t, err, connector.Credentials)
}

func TestDoSaysWhoAsks(t *testing.T) {
	t.Parallel()
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write([]byte(`{"here":true}`))
	}))
	t.Cleanup(server.Close)
	own := access(server.URL)
	own.Policy.Version = "1.2.3"
	answer, err := call(t, newClient(t, own))
	if err != nil || !answer.OK() || string(answer.Body) != `{"here":true}` {
		t.Fatalf("%+v, %v", answer, err)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret))
	if got.Get("User-Agent") != "chapterhouse/1.2.3" || got.Get("Authorization") != basic {
		t.Errorf("%v", got)
	}
}

// Nothing is sent to where a redirect leads, on the same host or another.
func TestDoFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL+"/login?"+secret, status))
		t.Cleanup(server.Close)
		_, err := call(t, newClient(t, access(server.URL)))
		wantKind(t, err, connector.WrongURL)
		if !strings.Contains(err.Error(), other.URL) {
			t.Errorf("%v does not say where it leads", err)
		}
	}
	if followed {
		t.Error("a redirect was followed")
	}
}

func TestDoJudgesAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		kind   connector.Kind // 0: for the caller to judge
	}{
		"success":           {200, `{"a":1}`, 0},
		"nothing":           {204, "", 0},
		"unauthorized page": {401, "<html>", 0},
		"missing":           {404, `{"title":"404"}`, 0},
		"conflict":          {409, `{"title":"409"}`, 0},
		"web page":          {200, "<!DOCTYPE html>", connector.WrongURL},
		"missing page":      {404, "<!DOCTYPE html>", connector.WrongURL},
		"half an object":    {200, `{"a":`, connector.Unreachable},
		"two objects":       {200, `{"a":1}{"b":1}`, connector.Unreachable},
		"too often":         {429, "{}", connector.Unreachable},
		"error":             {500, "{}", connector.Unreachable},
		"gateway":           {502, "<html>", connector.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			t.Cleanup(server.Close)
			answer, err := call(t, newClient(t, access(server.URL)))
			if test.kind != 0 {
				wantKind(t, err, test.kind)
				return
			}
			if err != nil || answer.Status != test.status {
				t.Errorf("%+v, %v", answer, err)
			}
		})
	}
}

func TestDoReadsNoEndlessAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for piece := []byte(strings.Repeat(" ", 1<<20)); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	_, err := call(t, newClient(t, access(server.URL)))
	wantKind(t, err, connector.Unexpected)
}

func TestDoAsksThePolicy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("connected") }))
	t.Cleanup(server.Close)
	own := access(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	own.Policy.Dial = func(to netip.AddrPort) error {
		if to.Addr().IsLoopback() {
			return errors.New("inside")
		}
		return nil
	}
	_, err := call(t, newClient(t, own))
	wantKind(t, err, connector.WrongURL)
	if connector.Retry(err) {
		t.Error("worth a retry")
	}
}

func TestDoWithoutConnection(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(nil)
	t.Cleanup(plain.Close)
	tls := httptest.NewTLSServer(nil)
	t.Cleanup(tls.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		url  string
		kind connector.Kind
	}{
		"nobody listens":      {"http://" + silent.Addr().String(), connector.Unreachable},
		"no such host":        {"https://none.invalid", connector.Unreachable},
		"unknown certificate": {tls.URL, connector.WrongURL},
		"no https":            {strings.Replace(plain.URL, "http:", "https:", 1), connector.WrongURL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := call(t, newClient(t, access(test.url)))
			wantKind(t, err, test.kind)
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	_, err := newClient(t, access(server.URL)).Do(ctx, connector.Call{Method: http.MethodGet, Path: "/"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}
