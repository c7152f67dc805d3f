package mailman_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailman"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailmantest"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a list of the test's own on a real core.
type world struct {
	core   *mailmantest.Core
	list   string
	remote *mailman.List
}

func setup(t *testing.T) world {
	t.Helper()
	core := mailmantest.Start(t)
	list := core.List(t)
	return world{core: core, list: list, remote: connect(t, mailman.Config{
		URL: core.URL, Username: mailmantest.Username, Password: mailmantest.Password, ListID: list,
	})}
}

// at makes an address that no other test has: a core has each address once.
func (w world) at(name string) string {
	own, _, _ := strings.Cut(w.list, ".")
	return name + "@" + own + ".example.org"
}

func connect(t *testing.T, config mailman.Config) *mailman.List {
	t.Helper()
	remote, err := mailman.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

// through is the same list behind another URL.
func (w world) through(t *testing.T, url string) *mailman.List {
	return connect(t, mailman.Config{URL: url, Username: mailmantest.Username, Password: mailmantest.Password, ListID: w.list})
}

func (w world) push(t *testing.T, changes ...connector.Change) connector.Result {
	t.Helper()
	result, err := w.remote.Push(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// wantKind also holds for all errors that they name neither the password nor anybody's address.
func wantKind(t *testing.T, err error, kind connector.Kind, setting string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Setting != setting {
		t.Fatalf("%#v (%v), want kind %d, setting %q", err, err, kind, setting)
	}
	if text := err.Error(); strings.Contains(text, "@") || strings.Contains(text, mailmantest.Password) || !strings.Contains(text, " ") {
		t.Errorf("the error says %q", text)
	}
}
