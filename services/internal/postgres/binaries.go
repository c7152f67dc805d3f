package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

const binariesEnv = "CHAPTERHOUSE_POSTGRES_BIN"

var errNoBinaries = errors.New("PostgreSQL is not installed: run `apt-get install postgresql` (Debian, Ubuntu), " +
	"`dnf install postgresql-server` (Fedora) or `brew install postgresql` (macOS), or set " + binariesEnv +
	" to the directory that holds initdb and postgres")

// FindBinaries returns the directory that holds initdb and postgres: the one that
// CHAPTERHOUSE_POSTGRES_BIN names, else the first in PATH, else the newest version in the
// usual places. The error says what to install.
func FindBinaries() (string, error) {
	found, err := allBinaries()
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// allBinaries returns every installed version, the preferred one first.
func allBinaries() ([]string, error) {
	if named := os.Getenv(binariesEnv); named != "" {
		if !hasBinaries(named) {
			return nil, fmt.Errorf("%s names %s, where initdb or postgres is missing", binariesEnv, named)
		}
		return []string{named}, nil
	}
	var found []string
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), usualPlaces()...) {
		if filepath.IsAbs(dir) && hasBinaries(dir) && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
	}
	if len(found) == 0 {
		return nil, errNoBinaries
	}
	return found, nil
}

func usualPlaces() []string {
	var places []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                   // Fedora and Red Hat, packages of the PostgreSQL project
		"/usr/libexec/postgresql*",                           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
		"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		"/usr/local/pgsql/bin",                               // built from source
	} {
		matches, _ := filepath.Glob(pattern)
		slices.SortFunc(matches, newestFirst)
		places = append(places, matches...)
	}
	return append(places, npmPlaces()...)
}

var firstNumber = regexp.MustCompile(`\d+`)

func newestFirst(a, b string) int {
	x, _ := strconv.Atoi(firstNumber.FindString(a))
	y, _ := strconv.Atoi(firstNumber.FindString(b))
	return cmp.Compare(y, x)
}

func hasBinaries(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program)) //nolint:gosec // PATH and the environment say where programs are
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
