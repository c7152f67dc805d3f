package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shell runs a script with the program in its path.
func shell(t *testing.T, shell string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skipf("SKIPPED: there is no %s here", shell)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, home := t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "chapterhouse")); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), asProgram+"=1", "HOME="+home, "XDG_CONFIG_HOME="+home, "PATH="+bin+":"+os.Getenv("PATH"))
	for _, name := range []string{"paris", "rome"} {
		add := exec.Command(self, "context", "add", name, "--url", "https://chapterhouse.example.org", "--token-file", os.DevNull)
		add.Env = env
		if text, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir = env, t.TempDir()
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", shell, err, text)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// completions are what some unfinished lines become.
var completions = map[string]string{
	"chapterhouse li":                         "list",
	"chapterhouse list pl":                    "plan",
	"chapterhouse list plan ":                 "ls show apply revert cancel",
	"chapterhouse list sync --m":              "--mode --map-address --map-display-name",
	"chapterhouse list sync x.csv --mode ":    "replace merge",
	"chapterhouse list export --context ":     "paris rome",
	"chapterhouse context use r":              "rome",
	"chapterhouse list sync --list m --dry":   "--dry-run",
	"chapterhouse completion z":               "zsh",
	"chapterhouse standing get -o js":         "json",
	"chapterhouse list sync --exit-code --so": "--source",
	"chapterhouse comp":                       "completion",
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for name, complete := range map[string]func(t *testing.T, line string) string{
		"bash": func(t *testing.T, line string) string {
			t.Helper()
			return shell(t, "bash", "--norc", "-c", `source <(chapterhouse completion bash)
complete -p chapterhouse >/dev/null || exit 1
IFS=' ' read -r -a COMP_WORDS <<<"$1"; [[ $1 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_chapterhouse; printf '%s\n' "${COMPREPLY[@]}"`, "bash", line)
		},
		"zsh": func(t *testing.T, line string) string {
			t.Helper()
			return shell(t, "zsh", "-f", "-c", `compdef() { [[ $1 == _chapterhouse ]] }
compadd() { shift; print -l -- ${(M)@:#${words[CURRENT]}*} }
source <(chapterhouse completion zsh)
words=("${(@s: :)1}"); CURRENT=${#words}
_chapterhouse`, "zsh", line)
		},
		"fish": func(t *testing.T, line string) string {
			t.Helper()
			return shell(t, "fish", "--no-config", "-c", `chapterhouse completion fish | source; complete -C $argv[1]`, line)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for line, want := range completions {
				got := complete(t, line)
				if name == "fish" { // which sorts
					got, want = sorted(got), sorted(want)
				}
				if got != want {
					t.Errorf("%q becomes %q, want %q", line, got, want)
				}
			}
		})
	}
}

func sorted(words string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(words))), " ")
}
