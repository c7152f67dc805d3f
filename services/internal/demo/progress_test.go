package demo

import (
	"strings"
	"testing"
)

func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	progress := bar(&out)
	const total = 5000
	for done := 1; done < total; done++ {
		progress(done, total, "members")
	}
	frames := strings.Split(out.String(), "\r\x1b[K")[1:]
	if len(frames) != 100 {
		t.Errorf("drawn %d times", len(frames))
	}
	if half := frames[50]; half != strings.Repeat("█", 12)+strings.Repeat("░", 13)+"  50 % members" {
		t.Errorf("at half: %q", half)
	}
	progress(total, total, "charters")
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Error("the bar stays when all is done")
	}
}

func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	progress := Progress(&out)
	for done := 1; done <= 10; done++ {
		progress(done, 10, []string{"regions", "members"}[done/6])
	}
	if want := "demo: regions (0 of 10 steps done)\ndemo: members (5 of 10 steps done)\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}
