package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
)

func TestContexts(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	command := func(t *testing.T, stdin string, args ...string) result {
		t.Helper()
		return commandLine{env: []string{"XDG_CONFIG_HOME=" + home}, stdin: stdin}.run(t, append([]string{"context"}, args...)...)
	}
	file := filepath.Join(home, "chapterhouse", "contexts.json")
	const token = "a.secret.token"

	if got := command(t, "", "list", "-o", "json"); got.stdout != "[]\n" || got.code != exitDone {
		t.Errorf("before any: exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if got := command(t, token+"\n", "add", "paris", "--url", "https://chapterhouse.example.org/", "--chapter", "chapters/golang-paris"); got.code != exitDone {
		t.Fatal(got.stderr)
	}
	if got := command(t, "", "add", "rome", "--url", "http://127.0.0.1:1", "--token-file", "/dev/null"); got.code != exitDone {
		t.Fatal(got.stderr)
	}

	t.Run("FileIsItsOwnersAlone", func(t *testing.T) {
		for path, want := range map[string]fs.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, want)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), token) {
			t.Errorf("%v: the token is not saved", err)
		}
	})

	t.Run("ListShowsNoToken", func(t *testing.T) {
		for _, form := range []string{"table", "json", "csv"} {
			got := command(t, "", "list", "-o", form)
			if strings.Contains(got.stdout+got.stderr, "secret") || !strings.Contains(got.stdout, "golang-paris") {
				t.Error(got.stdout)
			}
		}
		if got := command(t, "", "list", "-o", "csv"); !strings.Contains(got.stdout, "paris,yes,https://chapterhouse.example.org,golang-paris,,saved\nrome,no,") {
			t.Error(got.stdout)
		}
	})

	t.Run("UseAndRemove", func(t *testing.T) {
		command(t, "", "use", "rome")
		if got := command(t, "", "list", "-o", "csv"); !strings.Contains(got.stdout, "rome,yes") || !strings.Contains(got.stdout, "paris,no") {
			t.Error(got.stdout)
		}
		command(t, "", "remove", "rome")
		if got := command(t, "", "list", "-o", "csv"); strings.Contains(got.stdout, "rome") || strings.Contains(got.stdout, ",yes,") {
			t.Error(got.stdout)
		}
		for _, verb := range []string{"use", "remove"} {
			if got := command(t, "", verb, "rome"); got.code != exitUsage {
				t.Errorf("%s: exit code %d", verb, got.code)
			}
		}
	})

	t.Run("Refuses", func(t *testing.T) {
		for name, args := range map[string][]string{
			"unencrypted":            {"bad", "--url", "http://chapterhouse.example.org"},
			"a password in the URL":  {"bad", "--url", "https://me:secret@chapterhouse.example.org"},
			"no URL":                 {"bad", "--url", "chapterhouse.example.org"},
			"no name":                {"--url", "https://chapterhouse.example.org"},
			"a name that is a path":  {"../bad", "--url", "https://chapterhouse.example.org"},
			"a token on the line":    {"bad", "--url", "https://chapterhouse.example.org", "--token", token},
			"a token of two words":   {"bad", "--url", "https://chapterhouse.example.org"},
			"an address with a path": {"bad", "--url", "https://chapterhouse.example.org/?x=y"},
		} {
			if got := command(t, "two words", append([]string{"add"}, args...)...); got.code != exitUsage || strings.Contains(got.stderr, "me:secret") {
				t.Errorf("%s: exit code %d: %s", name, got.code, got.stderr)
			}
		}
		if got := command(t, token, "add", "inside", "--url", "http://gateway.example.org:8080", "--plaintext"); got.code != exitDone {
			t.Errorf("where it is allowed: %s", got.stderr)
		}
	})

	t.Run("FileThatOthersCanReadIsRefused", func(t *testing.T) {
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "", "list"); got.code != exitError || !strings.Contains(got.stderr, "chmod 600") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("BrokenFileIsNotQuoted", func(t *testing.T) {
		if err := os.WriteFile(file, []byte(`{"token":secret`), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "", "list"); got.code != exitError || strings.Contains(got.stderr, "secret") {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})
}

func TestWhereListCommandsGo(t *testing.T) {
	t.Parallel()
	d, server := newDesk(t)
	dead := "http://" + freeAddress(t)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(d.admin()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	add := d.with(commandLine{})
	for _, args := range [][]string{
		{"add", "live", "--url", d.base, "--token-file", tokenFile, "--chapter", "golang-paris"},
		{"add", "dead", "--url", dead, "--token-file", tokenFile, "--chapter", "golang-paris"},
		{"add", "bare", "--url", d.base, "--chapter", "golang-paris"},
		{"use", "dead"},
	} {
		if got := add.run(t, append([]string{"context"}, args...)...); got.code != exitDone {
			t.Fatal(got.stderr)
		}
	}
	const url, token, file, context, data, chapter = envURL + "=", envToken + "=", envTokenFile + "=", envContext + "=", envData + "=", "CHAPTERHOUSE_CHAPTER="
	elsewhere := commandLine{dir: t.TempDir(), env: []string{"XDG_CONFIG_HOME=" + t.TempDir()}}
	atHome := commandLine{dir: t.TempDir(), env: elsewhere.env}
	if err := os.Symlink(d.dir, filepath.Join(atHome.dir, defaultData)); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		from commandLine
		env  []string
		args []string
		want int
	}{
		"TheContextInUse":                  {d.with(commandLine{}), nil, nil, exitError},
		"AnotherFromTheEnvironment":        {d.with(commandLine{}), []string{context + "live"}, nil, exitDone},
		"FlagBeforeEnvironment":            {d.with(commandLine{}), []string{context + "dead", url + dead}, []string{"--context", "live"}, exitDone},
		"URLBeforeContext":                 {d.with(commandLine{}), []string{url + d.base, file + tokenFile, context + "dead", chapter + "golang-paris"}, nil, exitDone},
		"URLTakesNoSavedToken":             {d.with(commandLine{}), []string{url + d.base, chapter + "golang-paris"}, nil, exitNotPermitted},
		"URLHasNoChapter":                  {d.with(commandLine{}), []string{url + d.base, file + tokenFile}, nil, exitUsage},
		"UnencryptedURL":                   {d.with(commandLine{}), []string{url + "http://chapterhouse.example.org", token + "x"}, []string{"--chapter", "golang-paris"}, exitUsage},
		"ContextWithoutToken":              {d.with(commandLine{}), []string{context + "bare"}, nil, exitNotPermitted},
		"TokenOfTheEnvironment":            {d.with(commandLine{}), []string{context + "bare", token + d.admin()}, nil, exitDone},
		"TokenOfTheEnvironmentBeforeSaved": {d.with(commandLine{}), []string{context + "live", token + "forged"}, nil, exitNotPermitted},
		"TokenFileOfTheEnvironment":        {d.with(commandLine{}), []string{context + "bare", file + tokenFile, token + "forged"}, nil, exitDone},
		"ChapterOfTheEnvironment":          {d.with(commandLine{}), []string{context + "live", chapter + "golang-rome"}, nil, exitNotPermitted},
		"ChapterFlag":                      {d.with(commandLine{}), []string{context + "live", chapter + "golang-rome"}, []string{"--chapter", "golang-paris"}, exitDone},
		"DataFlag":                         {d.with(commandLine{}), []string{url + dead}, []string{"--data", d.dir, "--chapter", "golang-paris"}, exitDone},
		"DataOfTheEnvironment":             {elsewhere, []string{data + d.dir, chapter + "golang-paris"}, nil, exitDone},
		"NothingConfigured":                {elsewhere, nil, []string{"--chapter", "golang-paris"}, exitUsage},
		"DefaultPlatform":                  {atHome, nil, []string{"--chapter", "golang-paris"}, exitDone},
	} {
		t.Run(name, func(t *testing.T) {
			test.from.env = append(test.from.env, test.env...)
			got := test.from.run(t, append([]string{"list", "ls", "--retry-for", "0s"}, test.args...)...)
			if got.code != test.want || (got.code == exitDone) != strings.Contains(got.stdout, "MEMBERSHIP") {
				t.Errorf("exit code %d, want %d: %s%s", got.code, test.want, got.stdout, got.stderr)
			}
		})
	}

	t.Run("TokenIsNowhereToBeSeen", func(t *testing.T) {
		secret := d.admin()
		cmd := program(t, "list", "sync", "-", "--list", "members", "--context", "bare")
		cmd.Env = append(append(cmd.Env, d.with(commandLine{}).env...), token+secret)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p := startProgram(t, cmd)
		// Empty until the kernel has set up the new program's memory, which may be later than Start returns.
		var line []byte
		for len(line) == 0 {
			var err error
			line, err = os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "cmdline"))
			if err != nil {
				t.Skip("this system has no /proc")
			}
		}
		if !strings.Contains(string(line), "sync") || strings.Contains(string(line), secret) {
			t.Errorf("for everybody to see: %q", line)
		}
		_, err = stdin.Write([]byte("email\np01@example.org\n"))
		if err != nil || stdin.Close() != nil {
			t.Fatal(err)
		}
		<-p.done
		if said := p.stdout.String() + p.stderr.String() + server.stdout.String() + server.stderr.String(); cmd.ProcessState.ExitCode() != 0 || strings.Contains(said, secret) {
			t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), p.stderr.String())
		}
	})

	t.Run("PlatformThatIsStopped", func(t *testing.T) {
		server.stop(syscall.SIGTERM)
		local := []string{"--data", d.dir, "--chapter", "golang-paris"}
		d.does(t, append([]string{"sync", listFile(t, 1, 3), "--list", "members"}, local...)...)
		if text := d.does(t, append([]string{"ls", "-o", "csv"}, local...)...); !strings.Contains(text, "members,MEMBERSHIP,3,") {
			t.Error(text)
		}
	})
}

// TestNoTokenInFlags reads every command's flags.
func TestNoTokenInFlags(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&commands{}, kong.Vars{})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		for _, group := range leaf.AllFlags(false) {
			for _, flag := range group {
				if strings.Contains(flag.Name, "token") && !strings.HasSuffix(flag.Name, "-file") {
					t.Errorf("%s has the flag --%s: a token comes from a file or the environment", leaf.FullPath(), flag.Name)
				}
			}
		}
	}
}
