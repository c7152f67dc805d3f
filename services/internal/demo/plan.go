package demo

import (
	"math"
	"math/rand/v2"
	"slices"
)

// plan is the whole federation, before any of it is made.
type plan struct {
	regions  []region // parents first
	members  []member // the newcomers of the story first
	chapters []chapter
	story    Story
}

// chapter is a group with its lists.
type chapter struct {
	group

	region   string
	lists    []list // members first
	officers []entry
	// What the standing will be.
	membership, mailing Figures
}

// list is what a chapter's list will hold.
type list struct {
	id      string
	entries []entry
}

type entry struct{ address, displayName string }

// Figures are the people on one basis, and the international members among them.
type Figures struct{ Total, International int }

// The ids of the lists.
const (
	membersList  = "members"
	announceList = "announce"
)

// seed makes the federation what it is.
const seed = 1909

// atLarge is how many members are in no chapter.
const atLarge = 60

// newPlan makes the federation up, the same each time.
func newPlan() (plan, error) {
	groups, err := readGroups()
	if err != nil {
		return plan{}, err
	}
	known, err := readNames()
	if err != nil {
		return plan{}, err
	}
	rng := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // nothing here is secret
	p := &people{rng: rng, names: known, taken: map[string]bool{}, active: map[string][]*person{}}
	tree := growTree(groups)
	made := plan{regions: tree.regions, story: Story{List: listName(applied, membersList), CSV: win(p)}}
	for _, g := range groups {
		c := chapter{group: g, region: tree.of[g.slug]}
		c.fill(p, sizesOf(p, g.slug))
		made.chapters = append(made.chapters, c)
		if g.slug == chartered {
			made.story.Resigns = oneOf(c, p.members)
		}
	}
	for range atLarge {
		p.international(pick(rng, groups).countryCode, false)
	}
	made.members = p.members
	appointOfficers(p, made.chapters)
	return made, nil
}

// sizes are the figures that a chapter is to have.
type sizes struct {
	membership, mailing Figures
	// steady figures stay as they are for a year, and no other chapter has the same people.
	steady bool
}

// sizesOf makes up a chapter's sizes, unless they are fixed: from 21 people up, most of them small, 30 to 80 % of them
// international members. Most have a mailing list.
func sizesOf(p *people, slug string) sizes {
	if fixed, ok := fixedSizes[slug]; ok {
		return fixed
	}
	u := p.rng.Float64()
	people := 21 + int(230*math.Pow(u, 7))
	percent := 30 + p.rng.IntN(26) + p.rng.IntN(26)
	made := sizes{membership: Figures{people, people * percent / 100}}
	if p.chance(60) {
		readers := min(20+int(float64(people)*(0.3+0.6*p.rng.Float64())), 270)
		made.mailing = Figures{readers, readers * (percent - 15 + p.rng.IntN(21)) / 100}
	}
	return made
}

// fill makes up the chapter's people and writes them on its lists.
func (c *chapter) fill(p *people, s sizes) {
	c.membership, c.mailing = s.membership, s.mailing
	var internationals, others []*person
	for range s.membership.International {
		internationals = append(internationals, c.international(p, s, internationals))
	}
	for range s.membership.Total - s.membership.International {
		others = append(others, p.other(c.countryCode))
	}
	c.lists = []list{{membersList, entriesOf(p, slices.Concat(internationals, others), 0)}}
	if s.mailing.Total == 0 {
		return
	}
	// Three quarters of the mailing list's readers are on the members list too, as far as there are so many.
	all := slices.Clone(internationals)
	readers := sample(p.rng, internationals, s.mailing.International*3/4)
	for len(readers) < s.mailing.International {
		reader := c.international(p, s, all)
		readers, all = append(readers, reader), append(all, reader)
	}
	readers = append(readers, sample(p.rng, others, (s.mailing.Total-len(readers))*3/4)...)
	for len(readers) < s.mailing.Total {
		readers = append(readers, p.other(c.countryCode))
	}
	c.lists = append(c.lists, list{announceList, entriesOf(p, readers, 50)})
}

// international is somebody new, or a member of another chapter in the country.
func (c *chapter) international(p *people, s sizes, not []*person) *person {
	if !s.steady && p.chance(50) {
		if one := p.shared(c.countryCode, not); one != nil {
			return one
		}
	}
	return p.international(c.countryCode, s.steady)
}

// entriesOf writes people on a list, in no order. Who has two addresses is on it with both now and then, or with the
// second one, as likely as secondPercent says.
func entriesOf(p *people, all []*person, secondPercent int) []entry {
	var entries []entry
	for _, one := range all {
		addresses := one.addresses
		if len(addresses) > 1 && !p.chance(25) {
			second := p.chance(secondPercent)
			addresses = addresses[:1]
			if second {
				addresses = one.addresses[1:2]
			}
		}
		for _, address := range addresses {
			displayName := one.displayName
			if p.chance(10) {
				displayName = ""
			}
			entries = append(entries, entry{address, displayName})
		}
	}
	p.rng.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries
}

// sample picks n of all, or as many as there are.
func sample[T any](rng *rand.Rand, all []T, n int) []T {
	mixed := slices.Clone(all)
	rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	return mixed[:min(n, len(mixed))]
}
