package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// barWidth is the bar's length in characters, of 4 % each.
const barWidth = 25

// Progress returns what Options.Progress takes: a bar where w is a terminal, else a line for each new kind of step.
func Progress(w io.Writer) func(done, total int, what string) {
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return bar(w)
		}
	}
	return lines(w)
}

// bar draws anew only when something visible has changed: a terminal is slower than the services.
func bar(w io.Writer) func(done, total int, what string) {
	drawn := ""
	return func(done, total int, what string) {
		full := barWidth * done / total
		next := fmt.Sprintf("\r\x1b[K%s%s %3d %% %s", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), 100*done/total, what)
		if done == total {
			next = "\r\x1b[K"
		}
		if next != drawn {
			_, _ = io.WriteString(w, next)
			drawn = next
		}
	}
}

func lines(w io.Writer) func(done, total int, what string) {
	shown := ""
	return func(done, total int, what string) {
		if what != shown {
			_, _ = fmt.Fprintf(w, "demo: %s (%d of %d steps done)\n", what, done-1, total)
			shown = what
		}
	}
}
