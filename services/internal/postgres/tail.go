package postgres

import (
	"bufio"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

const tailLines = 8

// tail remembers the last lines that the server wrote, for error messages.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = nil
}

// follow remembers each line and passes it on, until the writer has closed its end.
func (t *tail) follow(r io.Reader, pass func(line string)) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		piece, _, err := lines.ReadLine() // a longer line arrives in pieces
		if err != nil {
			return
		}
		line := string(piece)
		t.mu.Lock()
		t.lines = append(t.lines, line)
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
		t.mu.Unlock()
		pass(line)
	}
}

// level ranks a line of the server's log. Errors are for whoever sent the statement and
// reach them as such. A line may have a prefix while the settings are still being read.
func level(line string) slog.Level {
	switch {
	case strings.Contains(line, "PANIC:"):
		return slog.LevelError
	case strings.Contains(line, "FATAL:  connection to client lost"):
		return slog.LevelDebug // what a client who stops leaves behind
	case strings.Contains(line, "FATAL:"), strings.Contains(line, "WARNING:"):
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// blockedByPredecessor says whether the server refused to start because another one, or
// what is left of it, still uses the directory or the socket.
func (t *tail) blockedByPredecessor() bool {
	said := t.String()
	return strings.Contains(said, "lock file") || strings.Contains(said, "shared memory block")
}

// String gives what explains a failure: the complaints, or else all that is known.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	complaints := slices.DeleteFunc(slices.Clone(t.lines), func(line string) bool {
		return level(line) < slog.LevelWarn
	})
	if len(complaints) == 0 {
		complaints = t.lines
	}
	return strings.Join(complaints, " / ")
}
