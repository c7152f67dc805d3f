package demo

import (
	"regexp"
	"slices"
	"testing"
)

var resourceID = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func TestTreeIsSensible(t *testing.T) {
	t.Parallel()
	p := planned(t)
	parents := map[string]string{world: ""}
	children, chapters, covered := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, r := range p.regions {
		if _, taken := parents[r.id]; taken || !resourceID.MatchString(r.id) {
			t.Errorf("region id %q", r.id)
		}
		if _, known := parents[r.parent]; !known {
			t.Errorf("%s comes before its parent %s", r.id, r.parent)
		}
		parents[r.id] = r.parent
		children[r.parent]++
		if len(r.countryCodes) == 0 || !slices.IsSorted(r.countryCodes) {
			t.Errorf("%s covers %v", r.id, r.countryCodes)
		}
		for _, code := range r.countryCodes {
			if covered[r.parent+" "+code] {
				t.Errorf("%s is covered twice below %s", code, r.parent)
			}
			covered[r.parent+" "+code] = true
		}
	}
	ids := map[string]bool{}
	for _, c := range p.chapters {
		if ids[c.slug] || !resourceID.MatchString(c.slug) {
			t.Errorf("chapter id %q", c.slug)
		}
		ids[c.slug] = true
		chapters[c.region]++
	}
	for id := range parents {
		if children[id]+chapters[id] == 0 || children[id] == 1 && chapters[id] == 0 {
			t.Errorf("regions/%s holds %d regions and %d chapters", id, children[id], chapters[id])
		}
	}
}

func TestPlacesOfChapters(t *testing.T) {
	t.Parallel()
	p := planned(t)
	path := func(slug string) []string {
		at := slices.IndexFunc(p.chapters, func(c chapter) bool { return c.slug == slug })
		var path []string
		for id := p.chapters[at].region; id != world; {
			path = append([]string{id}, path...)
			at := slices.IndexFunc(p.regions, func(r region) bool { return r.id == id })
			id = p.regions[at].parent
		}
		return path
	}
	for slug, want := range map[string][]string{
		"golang-paris":          {"europe", "western-europe", "france"},
		"golang-estonia":        {"europe", "northern-europe"},      // the only one of its country
		"golang-turkiye":        {"europe", "turkiye"},              // whose subregion is at home in Asia
		"go-cape-town":          {"africa", "southern-africa"},      // all of which is South Africa
		"boston-golang":         {"north-america", "united-states"}, // a subregion called like its continent
		"honolulu-go-users":     {"oceania"},                        // a subregion called like another continent
		"golang-dominicana":     {"north-america", "caribbean"},     //
		"golang-wellington":     {"oceania", "australia-and-new-zealand", "new-zealand"},
		"golang-bangalore":      {"asia", "southern-asia", "india"},
		"golang-azerbaijan":     {"asia", "western-asia"},
		"golang-rio-de-janeiro": {"south-america", "brazil"},
	} {
		if got := path(slug); !slices.Equal(got, want) {
			t.Errorf("%s lies in %v, want %v", slug, got, want)
		}
	}
}
