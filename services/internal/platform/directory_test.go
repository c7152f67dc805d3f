package platform

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestDirectory(t *testing.T) {
	t.Parallel()

	t.Run("BelongsToOneProcessAtATime", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "data")
		first := openDirectory(t, path)
		if _, err := OpenDirectory(path); !errors.Is(err, ErrLocked) {
			t.Fatalf("second open: %v, want ErrLocked", err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		openDirectory(t, path)
	})

	t.Run("RefusesSomebodyElsesFiles", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		write(t, filepath.Join(path, "thesis.txt"))
		if _, err := OpenDirectory(path); err == nil {
			t.Fatal("opened a directory that is not ours")
		}
		if _, err := os.Stat(filepath.Join(path, markerFile)); err == nil {
			t.Fatal("the refused directory was marked as ours")
		}
	})

	t.Run("RefusesAnotherLayout", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, markerFile), []byte(`{"program":"chapterhouse","layout":99}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDirectory(path); err == nil {
			t.Fatal("opened a directory of another layout")
		}
	})

	t.Run("ResetLeavesWhatIsNotOurs", func(t *testing.T) {
		t.Parallel()
		dir := openDirectory(t, filepath.Join(t.TempDir(), "data"))
		if _, err := MakeKeys(dir.path(secretsDir), []string{"main"}); err != nil {
			t.Fatal(err)
		}
		note := dir.path("note.txt")
		write(t, note)
		if err := dir.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir.path(secretsDir)); !os.IsNotExist(err) {
			t.Errorf("secrets after the reset: %v, want none", err)
		}
		if _, err := os.Stat(note); err != nil {
			t.Errorf("a file that is not ours: %v", err)
		}
	})
}

func openDirectory(t *testing.T, path string) *Directory {
	t.Helper()
	dir, err := OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
}
