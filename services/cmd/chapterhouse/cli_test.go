package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

func TestOperatorCommands(t *testing.T) {
	t.Parallel()
	dir := upData(t)
	_, api := up(t, dir)
	api.makeChapter()
	api.member(1)
	api.upload("m1@example.org")
	api.awaitStanding("1 of 1")
	command := func(t *testing.T, args ...string) (stdout string, code int) {
		t.Helper()
		stdout, stderr, code := runProgram(t, append(args, "--data", dir)...)
		t.Log(stderr)
		return stdout, code
	}

	t.Run("StandingGetAsTableJSONAndCSV", func(t *testing.T) {
		stdout, _ := command(t, "standing", "get", "golang-paris")
		if !strings.Contains(stdout, "1 of 1") {
			t.Errorf("table: %s", stdout)
		}
		var standings []map[string]any
		stdout, _ = command(t, "standing", "get", "chapters/golang-paris", "-o", "json")
		if err := json.Unmarshal([]byte(stdout), &standings); err != nil || len(standings) != 1 || standings[0]["eligible"] != true {
			t.Errorf("json: %v, %s", err, stdout)
		}
		stdout, _ = command(t, "standing", "get", "golang-paris", "-o", "csv")
		rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
		if err != nil || len(rows) != 2 || rows[1][0] != "golang-paris" {
			t.Errorf("csv: %v, %s", err, stdout)
		}
	})

	t.Run("CharterFromApplicationToApproval", func(t *testing.T) {
		if _, code := command(t, "charter", "apply", "golang-paris", "--note", "please"); code != 0 {
			t.Fatalf("apply: exit code %d", code)
		}
		if _, code := command(t, "charter", "approve", "golang-paris", "--standing-etag", "1-1"); code != exitError {
			t.Errorf("approve on another standing: exit code %d", code)
		}
		etag := api.awaitStanding("1 of 1")
		if _, code := command(t, "charter", "approve", "golang-paris", "--standing-etag", etag); code != 0 {
			t.Errorf("approve: exit code %d", code)
		}
		if stdout, _ := command(t, "charter", "list", "--state", "CHARTERED"); !strings.Contains(stdout, "golang-paris") {
			t.Errorf("list: %s", stdout)
		}
		var file struct {
			Evidence struct{ Transitions []any }
			Digest   string
		}
		stdout, code := command(t, "charter", "export", "golang-paris")
		if err := json.Unmarshal([]byte(stdout), &file); err != nil || code != 0 || len(file.Evidence.Transitions) != 2 || len(file.Digest) != 64 {
			t.Errorf("export: exit code %d, %v, %s", code, err, stdout)
		}
	})

	t.Run("CharterVerbs", func(t *testing.T) {
		for _, c := range []struct {
			line string
			code int
			want string
		}{
			{"charter suspend golang-paris --reason conduct --note no", 0, "SUSPENDED"},
			{"charter suspend golang-paris --reason sunshine --note no", exitUsage, ""},
			{"charter reinstate golang-paris", 0, "CHARTERED"},
			{"charter protect golang-paris --reason flood --until yesterday", exitUsage, ""},
			{"charter protect golang-paris --reason flood --until 1999-01-01", exitError, ""},
			{"charter unprotect golang-paris", exitError, ""},
			{"charter renew golang-paris --request", exitError, ""},
			{"charter surrender golang-paris --note bye", 0, "SURRENDERED"},
			{"charter queue", 0, "waits for"},
			{"charter history golang-paris", 0, "surrender"},
			{"charter list --overdue", 0, "due"},
			{"charter claim golang-paris", exitError, ""},
		} {
			stdout, code := command(t, strings.Fields(c.line)...)
			if code != c.code || !strings.Contains(strings.ToLower(stdout), strings.ToLower(c.want)) {
				t.Errorf("%s: exit code %d, %s", c.line, code, stdout)
			}
		}
	})

	t.Run("AuditFindsNothing", func(t *testing.T) {
		stdout, code := command(t, "audit", "standings", "-o", "json")
		if strings.TrimSpace(stdout) != "[]" || code != 0 {
			t.Errorf("exit code %d: %s", code, stdout)
		}
	})

	t.Run("TokenIsAllThatIsPrinted", func(t *testing.T) {
		stdout, code := command(t, "token", "--role", "chapter_admin", "--scope", "chapters/golang-paris")
		if code != 0 || strings.Count(stdout, "\n") != 1 || strings.Count(stdout, ".") != 2 {
			t.Errorf("exit code %d: %q", code, stdout)
		}
		if a := api.send("GET", "/v1/chapters/golang-paris/lists/members/entries", strings.TrimSpace(stdout), "", ""); a.status != 200 {
			t.Errorf("the token: %d %v", a.status, a.body)
		}
	})

	t.Run("NotPermitted", func(t *testing.T) {
		token, _ := command(t, "token", "--role", "member", "--scope", "members/somebody")
		got := commandLine{env: []string{envToken + "=" + strings.TrimSpace(token)}}.
			run(t, "charter", "list", "--international", endpoints(t, dir).GRPC["international"])
		if got.code != exitNotPermitted {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})

	t.Run("UnknownChapter", func(t *testing.T) {
		if _, code := command(t, "standing", "get", "atlantis"); code != exitError {
			t.Errorf("exit code %d", code)
		}
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := platform.OpenDirectory(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := platform.MakeKeys(filepath.Join(dir, "secrets"), []string{"main"}); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"version":                            exitDone,
		"--help":                             exitDone,
		"":                                   exitUsage,
		"fly":                                exitUsage,
		"token":                              exitUsage,
		"token --role auditor --data " + dir: exitDone,
		"token --role auditor --data " + dir + "-missing":              exitError,
		"token --role coordinator --data " + dir:                       exitUsage,
		"token --role emperor --data " + dir:                           exitUsage,
		"token --role auditor --scope regions/europe --data " + dir:    exitUsage,
		"charter list --state FLYING --data " + dir:                    exitUsage,
		"charter approve golang-paris --data " + dir:                   exitUsage,
		"standing get golang-paris -o xml --data " + dir:               exitUsage,
		"up --http nowhere --data " + dir + "-new":                     exitError,
		"serve nats --users-file " + filepath.Join(dir, "missing"):     exitError,
		"serve gateway --international a:1 --regional a:1 --local a:1": exitError,
		"migrate gateway --postgres-url postgres://localhost/x":        exitUsage,
	} {
		var stdout, stderr bytes.Buffer
		if got := run(t.Context(), strings.Fields(line), &stdout, &stderr); got != want {
			t.Errorf("chapterhouse %s: exit code %d, want %d: %s", line, got, want, stderr.String())
		}
		if want != exitDone && (stdout.Len() > 0 || stderr.Len() == 0) {
			t.Errorf("chapterhouse %s: said %q on stdout, %q on stderr", line, stdout.String(), stderr.String())
		}
	}
}
