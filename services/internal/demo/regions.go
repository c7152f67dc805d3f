package demo

import (
	"slices"
)

// world is the id of the root, which every platform has.
const world = "world"

// region is a node below the root.
type region struct {
	id, name, parent string
	countryCodes     []string // of the chapters in it and below, sorted; none that a region beside it has more groups of

	groups map[string]int // by country code
}

// tree is where the groups lie: continents, subregions, and countries that have several groups.
type tree struct {
	regions []region          // parents first
	of      map[string]string // slug of a group -> id of the region it lies in
}

// growTree places the groups. A subregion that is called like a continent, or has its home in another continent, is no
// level of its own; nor is a country that would be all there is in its subregion.
func growTree(groups []group) tree {
	homes := homesOf(groups)
	above := func(g group) []string {
		if homes[g.subregion] == g.continent {
			return []string{g.continent, g.subregion}
		}
		return []string{g.continent}
	}
	type place struct{ parent, country string }
	groupsIn, countriesIn := map[place]int{}, map[string]map[string]bool{}
	for _, g := range groups {
		parent := last(above(g))
		groupsIn[place{parent, g.country}]++
		if countriesIn[parent] == nil {
			countriesIn[parent] = map[string]bool{}
		}
		countriesIn[parent][g.country] = true
	}
	t := tree{of: map[string]string{}}
	for _, g := range groups {
		path := above(g)
		parent := last(path)
		alone := parent == g.subregion && len(countriesIn[parent]) == 1
		if groupsIn[place{parent, g.country}] > 1 && !alone {
			path = append(path, g.country)
		}
		t.of[g.slug] = t.grow(path, g.countryCode)
	}
	t.shareCountries()
	return t
}

// shareCountries gives each country to one region below a parent, as the regional service has it: the one that most of
// its groups there are in. The United States have theirs in North America, though some lie in Oceania.
func (t *tree) shareCountries() {
	for i, r := range t.regions {
		for code, groups := range r.groups {
			better := func(other region) bool {
				return other.parent == r.parent && (other.groups[code] > groups || other.groups[code] == groups && other.id < r.id)
			}
			if !slices.ContainsFunc(t.regions, better) {
				t.regions[i].countryCodes = append(t.regions[i].countryCodes, code)
			}
		}
		slices.Sort(t.regions[i].countryCodes)
	}
}

// homesOf returns for each subregion the continent that most of its groups are in.
func homesOf(groups []group) map[string]string {
	count := map[[2]string]int{}
	homes := map[string]string{}
	for _, g := range groups {
		here := [2]string{g.subregion, g.continent}
		count[here]++
		if best := homes[g.subregion]; best == "" || count[here] > count[[2]string{g.subregion, best}] {
			homes[g.subregion] = g.continent
		}
	}
	for _, g := range groups {
		delete(homes, g.continent)
	}
	return homes
}

// grow makes what is missing of a path, notes the country on all of it, and returns the id of its end.
func (t *tree) grow(path []string, countryCode string) string {
	parent := world
	for _, name := range path {
		id := fold(name)
		at := slices.IndexFunc(t.regions, func(r region) bool { return r.id == id })
		if at < 0 {
			at = len(t.regions)
			t.regions = append(t.regions, region{id: id, name: name, parent: parent, groups: map[string]int{}})
		}
		t.regions[at].groups[countryCode]++
		parent = id
	}
	return parent
}

func last[T any](all []T) T { return all[len(all)-1] }
