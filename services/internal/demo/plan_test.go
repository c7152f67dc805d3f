package demo

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

func planned(t *testing.T) plan {
	t.Helper()
	p, err := newPlan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	if !reflect.DeepEqual(planned(t), planned(t)) {
		t.Error("two plans differ")
	}
}

func TestPlanHoldsWhatIsPromised(t *testing.T) {
	t.Parallel()
	p := planned(t)
	s := p.summary()
	t.Logf("%d regions, %d members, %d chapters, %d lists, %d entries", s.Regions, s.Members, s.Chapters, s.Lists, s.Entries)
	if s.Chapters != 198 || s.Members < 5000 || s.Lists < 2*s.Chapters*3/5 {
		t.Errorf("got %+v", s)
	}
	for _, c := range p.chapters {
		if c.slug == empty {
			if len(c.lists) != 1 || len(c.lists[0].entries) != 0 {
				t.Errorf("%s is not empty", c.slug)
			}
			continue
		}
		for _, l := range c.lists {
			if n := len(l.entries); n < 20 || n > 300 {
				t.Errorf("%s has %d entries", listName(c.slug, l.id), n)
			}
		}
	}
	kinds := map[string]int{}
	for _, m := range p.members {
		switch {
		case m.resigned:
			kinds["resigned"]++
		case m.termDays == 0:
			kinds["lapsed"]++
		case !m.addresses[0].verified:
			kinds["unverified"]++
		case len(m.addresses) == 2 && m.addresses[1].verified:
			kinds["two verified"]++
		}
	}
	t.Logf("of the members: %v", kinds)
	for _, kind := range []string{"resigned", "lapsed", "unverified", "two verified"} {
		if kinds[kind] < 50 {
			t.Errorf("%d %s", kinds[kind], kind)
		}
	}
}

// TestFiguresAreAsPlanned counts each list's people anew, from the register and the entries alone.
func TestFiguresAreAsPlanned(t *testing.T) {
	t.Parallel()
	p := planned(t)
	register := ownersOf(t, p.members)
	for _, c := range p.chapters {
		if got := recount(t, register, c.lists[0].entries); got != c.membership {
			t.Errorf("%s members: %+v, want %+v", c.slug, got, c.membership)
		}
		if len(c.lists) > 1 {
			if got := recount(t, register, c.lists[1].entries); got != c.mailing {
				t.Errorf("%s mailing: %+v, want %+v", c.slug, got, c.mailing)
			}
		}
	}
}

// recount is the rule: who has several verified addresses is one person, whom nobody knows is one by the address.
func recount(t *testing.T, register map[string]member, entries []entry) Figures {
	t.Helper()
	people := map[string]bool{}
	for _, e := range entries {
		who := canonical(t, e.address)
		counts := false
		if m, known := register[who]; known {
			who, counts = m.id, m.termDays > 0 && !m.resigned
		}
		people[who] = counts
	}
	figures := Figures{Total: len(people)}
	for _, counts := range people {
		if counts {
			figures.International++
		}
	}
	return figures
}

// ownersOf is whom each verified address belongs to.
func ownersOf(t *testing.T, members []member) map[string]member {
	t.Helper()
	owner := map[string]member{}
	for _, m := range members {
		for _, a := range m.addresses {
			if a.verified {
				owner[canonical(t, a.address)] = m
			}
		}
	}
	return owner
}

func canonical(t *testing.T, raw string) string {
	t.Helper()
	a, err := address.Canonical(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return a
}

// tenths is the larger share of the two bases, in tenths of a per cent and rounded down.
func tenths(c chapter) int {
	best := 0
	for _, f := range []Figures{c.membership, c.mailing} {
		if f.Total > 0 {
			best = max(best, 1000*f.International/f.Total)
		}
	}
	return best
}

func TestChaptersAroundTheLine(t *testing.T) {
	t.Parallel()
	p := planned(t)
	s := p.summary()
	shares := map[string]int{}
	eligible := 0
	for _, c := range p.chapters {
		shares[chapterName(c.slug)] = tenths(c)
		if tenths(c) >= 600 {
			eligible++
		}
	}
	t.Logf("%d chapters are eligible", eligible)
	if eligible < 40 || eligible > 140 {
		t.Errorf("%d chapters are eligible", eligible)
	}
	for _, want := range []struct {
		chapters []string
		from, to int
	}{{s.Under, 570, 599}, {s.Exact, 600, 600}, {s.Over, 601, 615}, {[]string{s.Chartered}, 600, 600}, {[]string{s.Empty}, 0, 0}} {
		for _, name := range want.chapters {
			if share, known := shares[name]; !known || share < want.from || share > want.to {
				t.Errorf("%s: %d tenths of a per cent, want %d to %d", name, share, want.from, want.to)
			}
		}
	}
}

// TestStoryLiftsTheChapter merges the file, and then one row less.
func TestStoryLiftsTheChapter(t *testing.T) {
	t.Parallel()
	p := planned(t)
	at := slices.IndexFunc(p.chapters, func(c chapter) bool { return c.slug == applied })
	register := ownersOf(t, p.members)
	merged := slices.Clone(p.chapters[at].lists[0].entries)
	rows := strings.Split(strings.TrimSpace(p.story.CSV), "\n")[1:]
	if len(rows) != newcomers || len(p.chapters[at].lists) != 1 {
		t.Fatalf("%d rows for %d lists", len(rows), len(p.chapters[at].lists))
	}
	for i, row := range rows {
		email, displayName, _ := strings.Cut(row, ",")
		merged = append(merged, entry{email, displayName})
		f := recount(t, register, merged)
		if over := 100*f.International >= 60*f.Total; over != (i == len(rows)-1) {
			t.Errorf("with %d rows %+v", i+1, f)
		}
	}
	if !regexp.MustCompile(`^members/m\d{5}$`).MatchString(p.story.Resigns) {
		t.Errorf("%q resigns", p.story.Resigns)
	}
}

func TestEverybodyIsMadeUp(t *testing.T) {
	t.Parallel()
	p := planned(t)
	example := regexp.MustCompile(`^[a-z0-9._-]+@example\.(org|net|com)$`)
	check := func(a string) {
		if !example.MatchString(a) || canonical(t, a) != a {
			t.Errorf("address %q", a)
		}
	}
	ids, owned := map[string]bool{}, map[string]bool{}
	for _, m := range p.members {
		if ids[m.id] || !resourceID.MatchString(m.id) {
			t.Errorf("member id %q", m.id)
		}
		ids[m.id] = true
		if len(m.displayName) < 3 {
			t.Errorf("%s is called %q", m.id, m.displayName)
		}
		if m.termDays != 0 && (m.termDays < soonestDays || m.termDays > latestDays) {
			t.Errorf("%s's term ends in %d days", m.id, m.termDays)
		}
		for _, a := range m.addresses {
			check(a.address)
			if owned[a.address] {
				t.Errorf("%s is registered twice", a.address)
			}
			owned[a.address] = true
		}
	}
	for _, c := range p.chapters {
		for _, l := range c.lists {
			on := map[string]bool{}
			for _, e := range l.entries {
				check(e.address)
				if on[e.address] {
					t.Errorf("%s is on %s twice", e.address, listName(c.slug, l.id))
				}
				on[e.address] = true
			}
		}
	}
}

// TestPromisedFiguresLastAYear: nobody lapses early in a chapter that documentation and tests rely on.
func TestPromisedFiguresLastAYear(t *testing.T) {
	t.Parallel()
	p := planned(t)
	ends := map[string]int{}
	for _, m := range p.members {
		for _, a := range m.addresses {
			ends[a.address] = m.termDays
		}
	}
	for _, c := range p.chapters {
		if _, promised := fixedSizes[c.slug]; !promised {
			continue
		}
		for _, l := range c.lists {
			for _, e := range l.entries {
				if days := ends[e.address]; days > 0 && days < 365 {
					t.Errorf("on %s a term ends in %d days", listName(c.slug, l.id), days)
				}
			}
		}
	}
}
