package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinariesPrefersWhatIsNamed(t *testing.T) {
	named, inPath := programs(t, "initdb", "postgres"), programs(t, "initdb", "postgres")
	clientOnly := programs(t, "psql", "initdb")
	t.Setenv("PATH", clientOnly+":"+inPath)
	if got, err := postgres.FindBinaries(); got != inPath || err != nil {
		t.Errorf("FindBinaries() = %s, %v, want the one in PATH that is complete, %s", got, err, inPath)
	}
	t.Setenv("CHAPTERHOUSE_POSTGRES_BIN", named)
	if got, err := postgres.FindBinaries(); got != named || err != nil {
		t.Errorf("FindBinaries() = %s, %v, want %s", got, err, named)
	}
	t.Setenv("CHAPTERHOUSE_POSTGRES_BIN", clientOnly)
	if _, err := postgres.FindBinaries(); err == nil || !strings.Contains(err.Error(), "initdb or postgres is missing") {
		t.Errorf("got %v", err)
	}
}
