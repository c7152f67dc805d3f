package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// desk is where a chapter's admin sits: a platform, and a context for it.
type desk struct {
	*rest

	dir  string
	home string
}

// newDesk starts a platform with golang-paris and saves a context for its admin.
func newDesk(t *testing.T) (*desk, *process) {
	t.Helper()
	d := &desk{dir: upData(t), home: t.TempDir()}
	p, api := up(t, d.dir)
	d.rest = api
	api.makeChapter()
	got := d.with(commandLine{stdin: api.admin()}).
		run(t, "context", "add", "paris", "--url", api.base, "--chapter", "golang-paris")
	if got.code != exitDone || got.stdout != "" {
		t.Fatalf("context add: exit code %d: %s", got.code, got.stderr)
	}
	return d, p
}

// with adds the context to a command's surroundings.
func (d *desk) with(c commandLine) commandLine {
	c.env = append([]string{"XDG_CONFIG_HOME=" + d.home, "HOME=" + d.home}, c.env...)
	return c
}

// list runs a command about lists.
func (d *desk) list(t *testing.T, args ...string) result {
	t.Helper()
	return d.with(commandLine{}).run(t, append([]string{"list"}, args...)...)
}

// does runs a command that must succeed.
func (d *desk) does(t *testing.T, args ...string) string {
	t.Helper()
	got := d.list(t, args...)
	if got.code != exitDone {
		t.Fatalf("list %s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
	return got.stdout
}

// newList makes a mailing list.
func (d *desk) newList(t *testing.T, id string) string {
	t.Helper()
	d.post(d.admin(), "/v1/chapters/golang-paris/lists?listId="+id, fmt.Sprintf(`{"displayName":%q}`, id))
	return id
}

// addresses are in the list now.
func (d *desk) addresses(t *testing.T, list string) string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(d.does(t, "export", "--list", list))).ReadAll()
	if err != nil || len(rows) == 0 || rows[0][0] != "address" {
		t.Fatalf("export: %v", err)
	}
	var all []string
	for _, row := range rows[1:] {
		all = append(all, strings.TrimSuffix(row[0], "@example.org"))
	}
	slices.Sort(all) // the order is that of the ids
	return strings.Join(all, " ")
}

// listFile holds the people p<from> to p<to>.
func listFile(t *testing.T, from, to int) string {
	t.Helper()
	text := "email\n"
	for n := from; n <= to; n++ {
		text += fmt.Sprintf("p%02d@example.org\n", n)
	}
	path := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// syncOf reads the sync that -o json printed.
func syncOf(t *testing.T, stdout string) map[string]any {
	t.Helper()
	var syncs []map[string]any
	if err := json.Unmarshal([]byte(stdout), &syncs); err != nil || len(syncs) != 1 {
		t.Fatalf("not one sync: %v: %s", err, stdout)
	}
	return syncs[0]
}

// follow runs the command line that a message ends with.
func (d *desk) follow(t *testing.T, message string) result {
	t.Helper()
	command := regexp.MustCompile(`chapterhouse (list .+)`).FindStringSubmatch(message)
	if command == nil {
		t.Fatalf("no command in %q", message)
	}
	return d.with(commandLine{}).run(t, strings.Fields(command[1])...)
}

func TestListSync(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)

	t.Run("AppliesTheFile", func(t *testing.T) {
		list := d.newList(t, "applies")
		stdout := d.does(t, "sync", listFile(t, 1, 3), "--list", list, "--source", "crm")
		for _, want := range []string{"APPLIED", `addresses in "email"`, "add         3", "standing    before  after", "mailing     0 of 0  0 of 3"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("no %q in:\n%s", want, stdout)
			}
		}
		if got := d.addresses(t, list); got != "p01 p02 p03" {
			t.Errorf("the list is %s", got)
		}
	})

	t.Run("PrintsJSONAndCSV", func(t *testing.T) {
		list := d.newList(t, "forms")
		sync := syncOf(t, d.does(t, "sync", listFile(t, 1, 2), "--list", list, "-o", "json"))
		if sync["state"] != "APPLIED" || sync["source"] != "cli" || sync["mode"] != "REPLACE" {
			t.Errorf("json: %v", sync)
		}
		rows, err := csv.NewReader(strings.NewReader(d.does(t, "sync", listFile(t, 1, 2), "--list", list, "-o", "csv"))).ReadAll()
		if err != nil || len(rows) != 2 || rows[0][6] != "unchanged" || rows[1][6] != "2" {
			t.Errorf("csv: %v %v", err, rows)
		}
	})

	t.Run("ReadsStdinAndOtherForms", func(t *testing.T) {
		list := d.newList(t, "stdin")
		for _, source := range []struct{ text, media string }{
			{"address\np01@example.org\n", ""},
			{`{"address":"p02@example.org"}` + "\n", "application/x-ndjson"},
			{`{"entries":[{"address":"p03@example.org"}]}`, "application/json"},
			{"name;mail\nx;p04@example.org\n", "text/csv"},
		} {
			args := []string{"list", "sync", "-", "--list", list, "--mode", "merge"}
			if source.media != "" {
				args = append(args, "--content-type", source.media)
			}
			if got := d.with(commandLine{stdin: source.text}).run(t, args...); got.code != exitDone {
				t.Errorf("%s: exit code %d: %s", source.text, got.code, got.stderr)
			}
		}
		if got := d.addresses(t, list); got != "p01 p02 p03 p04" {
			t.Errorf("the list is %s", got)
		}
	})

	t.Run("TakesTheColumnsThatAreNamed", func(t *testing.T) {
		list := d.newList(t, "columns")
		got := d.with(commandLine{stdin: "a,b,c\nx@example.net,p01@example.org,Ann\n"}).run(t,
			"list", "sync", "-", "--list", list, "--map-address", "b", "--map-display-name", "c")
		if got.code != exitDone {
			t.Fatal(got.stderr)
		}
		if text := d.does(t, "export", "--list", list); !strings.Contains(text, "p01@example.org,Ann,") || strings.Contains(text, "example.net") {
			t.Error(text)
		}
	})

	t.Run("DryRunShowsAndChangesNothing", func(t *testing.T) {
		list := d.newList(t, "dry")
		sync := syncOf(t, d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--dry-run", "-o", "json"))
		if got := d.addresses(t, list); sync["state"] != "PLANNED" || got != "" {
			t.Fatalf("%v, and the list is %s", sync["state"], got)
		}
		if got := d.list(t, "sync", listFile(t, 1, 2), "--list", list, "--dry-run", "--exit-code"); got.code != exitChanges || got.stderr != "" {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		name := fmt.Sprint(sync["name"])
		if text := d.does(t, "plan", "show", name); !strings.Contains(text, "can be applied until") {
			t.Error(text)
		}
		if text := d.does(t, "plan", "apply", name); !strings.Contains(text, "APPLIED") {
			t.Error(text)
		}
		if got := d.addresses(t, list); got != "p01 p02" {
			t.Errorf("the list is %s", got)
		}
		d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--dry-run", "--exit-code")
	})

	t.Run("BlockedNamesTheCommandThatConfirms", func(t *testing.T) {
		list := d.newList(t, "guarded")
		d.does(t, "sync", listFile(t, 1, 20), "--list", list)
		blocked := d.list(t, "sync", listFile(t, 1, 5), "--list", list, "--context", "paris")
		if blocked.code != exitBlocked || blocked.stdout != "" || !strings.Contains(blocked.stderr, "15 entries would be removed") {
			t.Fatalf("exit code %d: %s%s", blocked.code, blocked.stdout, blocked.stderr)
		}
		if got := d.addresses(t, list); len(strings.Fields(got)) != 20 {
			t.Errorf("the list is %s", got)
		}
		if got := d.follow(t, blocked.stderr); got.code != exitDone {
			t.Errorf("%s: exit code %d: %s", blocked.stderr, got.code, got.stderr)
		}
		if got := d.addresses(t, list); got != "p01 p02 p03 p04 p05" {
			t.Errorf("the list is %s", got)
		}
	})

	t.Run("ConfirmedAtOnce", func(t *testing.T) {
		list := d.newList(t, "confirmed")
		d.does(t, "sync", listFile(t, 1, 10), "--list", list)
		if got := d.list(t, "sync", listFile(t, 1, 2), "--list", list, "--confirm-removals", "7"); got.code != exitBlocked {
			t.Errorf("another number: exit code %d: %s", got.code, got.stderr)
		}
		d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--confirm-removals", "8")
	})

	t.Run("StalePlan", func(t *testing.T) {
		list := d.newList(t, "stale")
		sync := syncOf(t, d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--dry-run", "-o", "json"))
		d.does(t, "sync", listFile(t, 1, 3), "--list", list)
		got := d.list(t, "plan", "apply", fmt.Sprint(sync["name"]))
		if got.code != exitStale || got.stdout != "" || !strings.Contains(got.stderr, "PLAN_STALE") {
			t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
		}
	})

	t.Run("RejectedRowsAreNamed", func(t *testing.T) {
		list := d.newList(t, "rejected")
		text := "email\np01@example.org\n" + strings.Repeat("nobody at all\n", 25)
		got := d.with(commandLine{stdin: text}).run(t, "list", "sync", "-", "--list", list)
		if got.code != exitRejected || !strings.Contains(got.stdout, "APPLIED") {
			t.Fatalf("exit code %d: %s", got.code, got.stderr)
		}
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		if len(lines) != 22 || !regexp.MustCompile(`^  line 3: EMAIL_[A-Z_]+: .`).MatchString(lines[1]) || !strings.Contains(lines[21], "and 5 more") {
			t.Fatalf("said %q", lines)
		}
		all := d.follow(t, got.stderr)
		if rows := strings.Split(strings.TrimSpace(all.stdout), "\n"); len(rows) != 26 || !strings.HasPrefix(rows[25], "REJECTED") {
			t.Errorf("%d rows: %s%s", len(rows), all.stdout, all.stderr)
		}
		if dry := d.with(commandLine{stdin: text}).run(t, "list", "sync", "-", "--list", list, "--dry-run"); dry.code != exitDone || dry.stderr == "" {
			t.Errorf("dry run: exit code %d: %s", dry.code, dry.stderr)
		}
	})

	t.Run("BrokenFilesAreRefused", func(t *testing.T) {
		list := d.newList(t, "broken")
		for name, text := range map[string]string{"empty": "", "header alone": "email\n", "no addresses": "a,b\n1,2\n"} {
			got := d.with(commandLine{stdin: text}).run(t, "list", "sync", "-", "--list", list)
			if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, "SOURCE_") {
				t.Errorf("%s: exit code %d: %s%s", name, got.code, got.stdout, got.stderr)
			}
		}
	})

	t.Run("NotPermitted", func(t *testing.T) {
		for name, token := range map[string]string{
			"another chapter's admin": d.token(authz.ChapterAdmin, "chapters/golang-berlin"),
			"staff":                   d.staff(),
			"nobody":                  "forged",
		} {
			got := d.with(commandLine{env: []string{envToken + "=" + token}}).run(t, "list", "sync", listFile(t, 1, 2), "--list", "members")
			if got.code != exitNotPermitted || got.stdout != "" || strings.Contains(got.stderr, token) {
				t.Errorf("%s: exit code %d: %s", name, got.code, got.stderr)
			}
		}
	})

	t.Run("Unreachable", func(t *testing.T) {
		got := d.with(commandLine{env: []string{envURL + "=http://" + freeAddress(t)}}).
			run(t, "list", "sync", listFile(t, 1, 2), "--list", "members", "--chapter", "golang-paris", "--retry-for", "0s")
		if got.code != exitError || got.stdout != "" {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})

	t.Run("Usage", func(t *testing.T) {
		for _, args := range [][]string{
			{"sync", listFile(t, 1, 2)},
			{"sync", "--list", "members"},
			{"sync", listFile(t, 1, 2), "--list", "members", "--exit-code"},
			{"sync", listFile(t, 1, 2), "--list", "members", "--mode", "erase"},
			{"sync", listFile(t, 1, 2), "--list", "members", "--token", "x"},
			{"plan", "show", "01234"},
			{"export", "--list", "members", "--state", "HAPPY"},
			{"ls", "--context", "paris", "--data", d.dir},
			{"ls", "--context", "rome"},
		} {
			if got := d.list(t, args...); got.code != exitUsage || got.stdout != "" {
				t.Errorf("%v: exit code %d: %s", args, got.code, got.stderr)
			}
		}
	})
}

func TestListPlan(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)

	t.Run("RowsOfTheirPlan", func(t *testing.T) {
		list := d.newList(t, "rows")
		d.does(t, "sync", listFile(t, 1, 3), "--list", list)
		got := d.with(commandLine{stdin: "email,name\np01@example.org,=1+1\np01@example.org,\np09@example.org,\nbad,\n"}).
			run(t, "list", "sync", "-", "--list", list, "--dry-run", "-o", "json")
		name := fmt.Sprint(syncOf(t, got.stdout)["name"])
		rows, err := csv.NewReader(strings.NewReader(d.does(t, "plan", "show", name, "--changes", "-o", "csv"))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		fates := map[string]int{}
		for _, row := range rows[1:] {
			fates[row[0]]++
			if row[0] == "UPDATE" && row[3] != "'=1+1" {
				t.Errorf("a formula for whoever opens it: %q", row[3])
			}
		}
		if got := fmt.Sprint(fates); got != "map[ADD:1 DUPLICATE:1 REJECTED:1 REMOVE:2 UPDATE:1]" {
			t.Errorf("the rows are %s", got)
		}
		var rejected []map[string]any
		if err := json.Unmarshal([]byte(d.does(t, "plan", "show", name, "--rejected", "-o", "json")), &rejected); err != nil || len(rejected) != 1 || rejected[0]["line"] != 5.0 {
			t.Errorf("rejected: %v %v", err, rejected)
		}
	})

	t.Run("ManyPages", func(t *testing.T) {
		list := d.newList(t, "pages")
		var many strings.Builder
		for n := range 2500 {
			fmt.Fprintf(&many, "many%d@example.org\n", n)
		}
		got := d.with(commandLine{stdin: "email\n" + many.String()}).run(t, "list", "sync", "-", "--list", list, "-o", "json")
		name := fmt.Sprint(syncOf(t, got.stdout)["name"])
		var rows, entries []map[string]any
		if err := json.Unmarshal([]byte(d.does(t, "plan", "show", name, "--changes", "-o", "json")), &rows); err != nil || len(rows) != 2500 {
			t.Errorf("%d rows: %v", len(rows), err)
		}
		if err := json.Unmarshal([]byte(d.does(t, "export", "--list", list, "--format", "json")), &entries); err != nil || len(entries) != 2500 {
			t.Errorf("%d entries: %v", len(entries), err)
		}
	})

	t.Run("CancelledPlansAreListed", func(t *testing.T) {
		list := d.newList(t, "cancels")
		name := fmt.Sprint(syncOf(t, d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--dry-run", "-o", "json"))["name"])
		d.does(t, "plan", "cancel", name)
		if got := d.list(t, "plan", "apply", name); got.code != exitError || !strings.Contains(got.stderr, "SYNC_STATE, state=CANCELLED") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		if text := d.does(t, "plan", "ls", "--list", list, "-o", "csv"); !strings.Contains(text, name+",CANCELLED,REPLACE,cli,2,") {
			t.Error(text)
		}
	})

	t.Run("Reverts", func(t *testing.T) {
		list := d.newList(t, "reverts")
		d.does(t, "sync", listFile(t, 1, 3), "--list", list)
		name := fmt.Sprint(syncOf(t, d.does(t, "sync", listFile(t, 2, 5), "--list", list, "-o", "json"))["name"])
		sync := syncOf(t, d.does(t, "plan", "revert", name, "-o", "json"))
		if got := d.addresses(t, list); sync["state"] != "REVERTED" || got != "p01 p02 p03" {
			t.Errorf("%v, and the list is %s", sync["state"], got)
		}
	})

	t.Run("NamesWhatARevertLeaves", func(t *testing.T) {
		list := d.newList(t, "conflicts")
		name := fmt.Sprint(syncOf(t, d.does(t, "sync", listFile(t, 1, 3), "--list", list, "-o", "json"))["name"])
		entries := d.get(d.admin(), "/v1/chapters/golang-paris/lists/"+list+"/entries?address=p02@example.org")["entries"].([]any)
		d.post(d.admin(), fmt.Sprintf("/v1/%v:unsubscribe", entries[0].(map[string]any)["name"]), `{}`)
		got := d.list(t, "plan", "revert", name)
		if got.code != exitDone || !strings.Contains(got.stderr, "1 entries changed since") || !strings.Contains(got.stderr, "p02@example.org") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})
}

func TestListExport(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	list := d.newList(t, "out")
	d.does(t, "sync", listFile(t, 1, 2), "--list", list, "--source", "crm")
	d.does(t, "sync", listFile(t, 3, 3), "--list", list, "--source", "meetup", "--mode", "merge")

	t.Run("AsCSV", func(t *testing.T) {
		if got := d.addresses(t, list); got != "p01 p02 p03" {
			t.Errorf("the list is %s", got)
		}
	})

	t.Run("AsJSON", func(t *testing.T) {
		var entries []map[string]any
		text := d.does(t, "export", "--list", list, "--format", "json", "--source", "meetup")
		if err := json.Unmarshal([]byte(text), &entries); err != nil || len(entries) != 1 || entries[0]["address"] != "p03@example.org" {
			t.Errorf("%v: %s", err, text)
		}
		if text := d.does(t, "export", "--list", list, "--format", "json", "--state", "BOUNCED"); text != "[]\n" {
			t.Error(text)
		}
	})

	t.Run("AsNDJSON", func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(d.does(t, "export", "--list", list, "--format", "ndjson")), "\n")
		var entry map[string]any
		if err := json.Unmarshal([]byte(lines[0]), &entry); err != nil || len(lines) != 3 || entry["state"] != "SUBSCRIBED" {
			t.Errorf("%v: %s", err, lines)
		}
	})

	t.Run("UnknownList", func(t *testing.T) {
		got := d.list(t, "export", "--list", "atlantis")
		if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, "NOT_FOUND") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})

	t.Run("ListsOfTheChapter", func(t *testing.T) {
		text := d.does(t, "ls", "-o", "csv")
		if !strings.Contains(text, "out,MAILING,3,0,0,0,no,out") || !strings.Contains(text, "members,MEMBERSHIP,0,") {
			t.Error(text)
		}
	})
}
