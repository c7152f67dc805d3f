package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// showProgress draws a bar while the source is sent, on a terminal; elsewhere nobody looks.
func showProgress(w io.Writer, s *source) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return
	}
	bar := progressbar.NewOptions64(s.size,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("uploading"),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	s.read = func(n int64) { _ = bar.Set64(n) }
	s.done = func() { _ = bar.Finish() }
}
