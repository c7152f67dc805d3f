package local

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// maildir is an empty one.
func maildir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// deliver puts a mail into a maildir as a mail server does.
func deliver(t *testing.T, dir, name string, raw []byte) {
	t.Helper()
	path := filepath.Join(dir, "tmp", name)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(dir, "new", name)); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, dir, name string) (names []string) {
	t.Helper()
	found, err := os.ReadDir(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		names = append(names, file.Name())
	}
	return names
}

// What comes back into the maildir is found by its Message-ID, or by the address that it came to; the rest is left to people.
func TestBouncesOfAMaildir(t *testing.T) {
	t.Parallel()
	dir := maildir(t)
	w := setup(t, func(config *Config) {
		config.Mailings.BounceMaildir, config.Mailings.BounceEvery = dir, 10*time.Millisecond
		config.Mail.ReturnPath, config.Mail.VERP = "bounces@chapterhouse.example", true
	})
	for _, name := range []string{"ada", "bob", "cyd"} {
		w.add(members, name+"@example.org")
	}
	name := w.above().delivered(announcement("news"))
	w.send(name, members)
	ids, paths := map[string]string{}, map[string]string{}
	for _, message := range w.mails(3) {
		ids[message.To[0]], paths[message.To[0]] = strings.Trim(message.Header("Message-Id"), "<>"), message.From
	}
	w.mailed(name)

	deliver(t, dir, "1", returned(ids["ada@example.org"], "failed", "5.1.1"))
	// One that does not name the mail, and came to the address that does.
	unnamed := returned("x", "failed", "5.1.1")
	unnamed = regexp.MustCompile(`(?m)^Message-ID: .*$`).ReplaceAll(unnamed, []byte("X-Removed: yes\r"))
	deliver(t, dir, "2", bytes.Replace(unnamed, []byte("site@chapterhouse.example"), []byte(paths["bob@example.org"]), 1))
	deliver(t, dir, "3", returned(ids["cyd@example.org"], "delayed", "4.4.1"))
	deliver(t, dir, "4", []byte("Subject: I am on holiday\r\n\r\nUntil Monday.\r\n"))
	deliver(t, dir, "5", returned("0b0c1df2-2f6a-4b0e-9d0f-111111111111@elsewhere.example", "failed", "5.1.1"))
	testkit.Eventually(t, patience, func() (bool, string) {
		left := files(t, dir, "new")
		return len(left) == 0, strings.Join(left, " ")
	})
	if left := strings.Join(files(t, dir, "cur"), " "); left != "4:2, 5:2," {
		t.Errorf("left to people are %q", left)
	}
	for address, want := range map[string]localv1.Entry_State{
		"ada@example.org": localv1.Entry_BOUNCED, "bob@example.org": localv1.Entry_BOUNCED, "cyd@example.org": localv1.Entry_SUBSCRIBED,
	} {
		if got := w.entries(members)[address].GetState(); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
	w.receipt(name, func(r *eventv1.ReceiptChanged) bool {
		return r.GetReach().GetPeopleBounced() == 2 && r.GetReach().GetPeopleMailed() == 1
	})
	w.countsAreTrue()
}

func TestAMaildirThatIsNone(t *testing.T) {
	t.Parallel()
	err := MailingsConfig{BounceMaildir: t.TempDir()}.check()
	if err == nil || !strings.Contains(err.Error(), "maildirmake") {
		t.Errorf("answered %v", err)
	}
}

// Processes that share a site's mailings share what a domain takes a minute, but for one mail each.
func TestRatesAreShared(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{1, 2, 3, 7} {
		config := MailingsConfig{DomainRate: 60, DomainRates: map[string]int{"slow.example": 2}}
		went := map[string]int{}
		for range processes {
			l := (&Service{config: Config{Mailings: config}}).newLimits()
			l.allow("example.org", noon) // before it is known how many there are
			l.share(processes, noon)
			for second := range 61 {
				for domain := range map[string]int{"example.org": 1, "slow.example": 1} {
					for l.allow(domain, noon.Add(time.Hour+time.Duration(second)*time.Second)) {
						went[domain]++
					}
				}
			}
		}
		if fast, slow := went["example.org"], went["slow.example"]; fast < 54 || fast > 66+processes || slow < 2 || slow > 2+processes {
			t.Errorf("%d processes sent %v in a minute", processes, went)
		}
	}
}
