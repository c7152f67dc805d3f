package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// member is one of the register's.
type member struct {
	id, displayName string
	addresses       []registered
	termDays        int // until the term ends; zero: none has begun, so that the member is LAPSED
	resigned        bool
}

// registered is an address in the register.
type registered struct {
	address  string
	verified bool
}

// person is somebody made up, in the register or not.
type person struct {
	displayName string
	addresses   []string // those that lists hold: one, or two verified ones
	member      string   // id in the register, if any
	counts      bool     // as an international member: a running term and a verified address
}

// The days until terms end: over the next eighteen months. Where the figures are promised nobody lapses for a year.
const (
	soonestDays = 20
	latestDays  = 548
	steadyDays  = 400
)

// people makes persons up and enters them into the register. No two have an address in common.
type people struct {
	rng     *rand.Rand
	names   names
	members []member
	taken   map[string]bool
	// active are, by country, international members whom several chapters may have.
	active map[string][]*person
}

// international makes up an international member.
func (p *people) international(country string, steady bool) *person {
	name := p.names.invent(p.rng, country)
	addresses := []registered{{p.address(name), true}}
	if p.chance(15) {
		addresses = append(addresses, registered{p.address(name), p.chance(80)})
	}
	from := soonestDays
	if steady {
		from = steadyDays
	}
	days := from + p.rng.IntN(latestDays-from+1)
	known := p.enter(member{displayName: name.display, addresses: addresses, termDays: days})
	known.counts = true
	if !steady {
		p.active[country] = append(p.active[country], known)
	}
	return known
}

// shared picks an international member of another chapter in the country; nil when there is none.
func (p *people) shared(country string, not []*person) *person {
	for range 5 {
		if all := p.active[country]; len(all) > 0 {
			if one := pick(p.rng, all); !slices.Contains(not, one) {
				return one
			}
		}
	}
	return nil
}

// other makes up somebody who does not count as an international member: unknown to the register for the most part,
// else without a term, or with an address that was never verified.
func (p *people) other(country string) *person {
	name := p.names.invent(p.rng, country)
	first := p.address(name)
	days := steadyDays + p.rng.IntN(latestDays-steadyDays)
	switch roll := p.rng.IntN(100); {
	case roll < 9:
		addresses := []registered{{first, true}}
		if p.chance(20) {
			addresses = append(addresses, registered{p.address(name), true})
		}
		return p.enter(member{displayName: name.display, addresses: addresses})
	case roll < 12:
		return p.enter(member{displayName: name.display, addresses: []registered{{first, true}}, termDays: days, resigned: true})
	case roll < 16:
		return p.enter(member{displayName: name.display, addresses: []registered{{first, false}}, termDays: days})
	}
	return &person{displayName: name.display, addresses: []string{first}}
}

// enter puts somebody into the register. Lists hold verified addresses, or the only one.
func (p *people) enter(m member) *person {
	m.id = fmt.Sprintf("m%05d", len(p.members)+1)
	p.members = append(p.members, m)
	known := &person{displayName: m.displayName, member: m.id, addresses: []string{m.addresses[0].address}}
	for _, further := range m.addresses[1:] {
		if further.verified {
			known.addresses = append(known.addresses, further.address)
		}
	}
	return known
}

// domains are reserved for examples (RFC 2606): no mail to them reaches anybody.
var domains = []string{"example.org", "example.net", "example.com"}

// address makes up one that nobody has yet.
func (p *people) address(n fullName) string {
	locals := []string{n.given + "." + n.family, n.given[:1] + n.family, n.given + "_" + n.family, n.family + "." + n.given}
	if p.chance(25) {
		locals = append(locals[1:], locals[0])
	}
	for number := 2; ; number++ {
		domain := pick(p.rng, domains)
		for _, local := range locals {
			if address := local + "@" + domain; !p.taken[address] {
				p.taken[address] = true
				return address
			}
		}
		locals = []string{fmt.Sprintf("%s.%s%d", n.given, n.family, number)}
	}
}

func (p *people) chance(percent int) bool { return p.rng.IntN(100) < percent }
