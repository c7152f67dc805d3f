package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// behind puts a proxy before the platform that does to requests what networks do.
func (d *desk) behind(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, pass http.Handler)) commandLine {
	t.Helper()
	target, err := url.Parse(d.base)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, pass) }))
	t.Cleanup(proxy.Close)
	return d.with(commandLine{env: []string{
		envURL + "=" + proxy.URL, envToken + "=" + d.admin(), "CHAPTERHOUSE_CHAPTER=golang-paris",
	}})
}

// lost takes an answer that nobody gets.
func lost(r *http.Request, pass http.Handler) {
	pass.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func TestUploadsAreRepeated(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)

	for name, first := range map[string]func(w http.ResponseWriter, r *http.Request, pass http.Handler){
		"answer-lost":     func(_ http.ResponseWriter, r *http.Request, pass http.Handler) { lost(r, pass) },
		"connection-lost": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"unavailable": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"too-many": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"cut-short": func(_ http.ResponseWriter, r *http.Request, pass http.Handler) {
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 10), failing{}))
			r.ContentLength = -1
			pass.ServeHTTP(httptest.NewRecorder(), r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := d.newList(t, name)
			var uploads atomic.Int32
			c := d.behind(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				if r.Method == http.MethodPost && uploads.Add(1) == 1 {
					first(w, r, pass)
					return
				}
				pass.ServeHTTP(w, r)
			})
			c.stdin = "email\np01@example.org\n"
			got := c.run(t, "list", "sync", "-", "--list", list)
			if got.code != exitDone || got.stderr != "" {
				t.Fatalf("exit code %d: %s", got.code, got.stderr)
			}
			if n := uploads.Load(); n < 2 {
				t.Errorf("%d uploads", n)
			}
			syncs, _ := d.get(d.admin(), "/v1/chapters/golang-paris/lists/"+list+"/syncs")["syncs"].([]any)
			if len(syncs) != 1 {
				t.Errorf("%d syncs, want one", len(syncs))
			}
		})
	}

	t.Run("ThoseThatAreRefusedAreNot", func(t *testing.T) {
		var uploads atomic.Int32
		c := d.behind(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			uploads.Add(1)
			pass.ServeHTTP(w, r)
		})
		if got := c.run(t, "list", "sync", listFile(t, 1, 2), "--list", "atlantis"); got.code != exitError || uploads.Load() != 1 {
			t.Errorf("exit code %d after %d uploads: %s", got.code, uploads.Load(), got.stderr)
		}
	})

	t.Run("RedirectsAreNotFollowed", func(t *testing.T) {
		c := d.behind(t, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "https://elsewhere.example.org/", http.StatusMovedPermanently)
		})
		got := c.run(t, "list", "ls")
		if got.code != exitError || !strings.Contains(got.stderr, "sends elsewhere, to https://elsewhere.example.org/") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})

	t.Run("ExportThatIsBrokenOffIsAnError", func(t *testing.T) {
		list := d.newList(t, "halves")
		d.does(t, "sync", listFile(t, 1, 20), "--list", list)
		c := d.behind(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			whole := httptest.NewRecorder()
			pass.ServeHTTP(whole, r)
			w.Header().Set("Content-Type", whole.Header().Get("Content-Type"))
			_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		got := c.run(t, "list", "export", "--list", list)
		if got.code != exitError || !strings.Contains(got.stderr, "broken off after") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})
}

// TestPlansThatTakeTime has the server answer before it has planned: a proxy leaves it no time.
func TestPlansThatTakeTime(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	var accepted, polls atomic.Int32
	c := d.behind(t, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodGet {
			polls.Add(1)
			pass.ServeHTTP(w, r)
			return
		}
		r.Header.Set("Prefer", "respond-async, wait=0")
		answer := &noted{ResponseWriter: w}
		pass.ServeHTTP(answer, r)
		if answer.status == http.StatusAccepted {
			accepted.Add(1)
		}
	})
	var many strings.Builder
	for n := range 20_000 {
		fmt.Fprintf(&many, "many%d@example.org\n", n)
	}
	list := d.newList(t, "slow")

	c.stdin = "email\n" + many.String()
	sync := c.run(t, "list", "sync", "-", "--list", list, "-o", "json")
	if sync.code != exitDone || syncOf(t, sync.stdout)["state"] != "APPLIED" {
		t.Fatalf("exit code %d: %s", sync.code, sync.stderr)
	}
	if accepted.Load() != 1 || polls.Load() == 0 {
		t.Errorf("answered 202 %d times, polled %d times", accepted.Load(), polls.Load())
	}

	c.stdin = "email\np01@example.org\n"
	if got := c.run(t, "list", "sync", "-", "--list", list); got.code != exitBlocked || got.stdout != "" || !strings.Contains(got.stderr, "20000 entries") {
		t.Errorf("blocked: exit code %d: %s", got.code, got.stderr)
	}
}

// noted remembers the status.
type noted struct {
	http.ResponseWriter

	status int
}

func (n *noted) WriteHeader(status int) { n.status = status; n.ResponseWriter.WriteHeader(status) }

func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// failing is a connection that broke.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestSource(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, path string) *source {
		t.Helper()
		s, err := openSource(&app{}, path, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}

	t.Run("ThatGrowsWhileItIsSentIsNotCompleted", func(t *testing.T) {
		t.Parallel()
		path := listFile(t, 1, 3)
		s := open(t, path)
		if err := os.WriteFile(path, []byte("email\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, s.body()); !errors.Is(err, errChanged) {
			t.Errorf("sent to its end: %v", err)
		}
	})

	t.Run("MediaTypeByName", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]string{
			"-": "text/csv", "a.csv": "text/csv", "a.txt": "text/csv", "a.json": "application/json", "a.jsonl": "application/x-ndjson",
			"a.ndjson.gz": "application/x-ndjson",
		} {
			if got := mediaOf(path); got != want {
				t.Errorf("%s: %s", path, got)
			}
		}
	})

	t.Run("DirectoryIsNone", func(t *testing.T) {
		t.Parallel()
		if _, err := openSource(&app{}, t.TempDir(), ""); err == nil {
			t.Error("opened")
		}
	})
}
