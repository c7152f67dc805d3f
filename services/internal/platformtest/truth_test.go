package platformtest

import (
	"fmt"
	"sync"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// truth is what the acknowledged calls add up to: plain maps, by the rules of BLUEPRINT 6.1 and 6.3 and nobody's code.
type truth struct {
	mu      sync.Mutex
	lists   map[string]*listTruth // by name
	members map[string]*memberTruth
}

type listTruth struct {
	chapter string // its id
	mailing bool
	deleted bool
	entries map[string]*entryTruth // by address
}

type entryTruth struct {
	left   bool // a tombstone
	claims map[string]bool
}

type memberTruth struct {
	state     internationalv1.Member_State
	ends      time.Time
	addresses map[string]*addressTruth
	// suspended covers whatever the term and the seat say.
	suspended bool
	// seat is the organisation by which the person is a member, too; nil for none.
	seat *bodyTruth
}

// bodyTruth is an organisation with seats.
type bodyTruth struct{ active bool }

type addressTruth struct {
	name     string
	verified bool
}

func newTruth() *truth {
	return &truth{lists: map[string]*listTruth{}, members: map[string]*memberTruth{}}
}

// knows adds chapters as federation.found makes them.
func (tr *truth) knows(chapters ...string) {
	for _, id := range chapters {
		for _, list := range []string{"members", "announce"} {
			tr.lists[listName(id, list)] = &listTruth{chapter: id, mailing: list != "members", entries: map[string]*entryTruth{}}
		}
	}
}

func listName(chapter, list string) string { return "chapters/" + chapter + "/lists/" + list }

// member returns what is known of a member, nil for nothing.
func (tr *truth) member(id string) *memberTruth {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.members[id]
}

// change is a step of history that was acknowledged.
func (tr *truth) change(do func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	do()
}

// stateAt is the member's state at a moment.
func (m *memberTruth) stateAt(now time.Time) internationalv1.Member_State {
	switch {
	case m.suspended:
		return internationalv1.Member_SUSPENDED
	case m.seat != nil && m.seat.active:
		return internationalv1.Member_ACTIVE
	}
	return m.ownAt(now)
}

// ownAt is what the own term says: terms that ran out have lapsed.
func (m *memberTruth) ownAt(now time.Time) internationalv1.Member_State {
	if m.state == internationalv1.Member_ACTIVE && !now.Before(m.ends) {
		return internationalv1.Member_LAPSED
	}
	return m.state
}

type people struct{ total, international int }

func (p people) String() string { return fmt.Sprintf("%d of %d", p.international, p.total) }

// expected is a chapter's standing.
type expected struct {
	membership, mailing people
	verdict             verdict
}

// standings counts people, not addresses, for every chapter.
func (tr *truth) standings(now time.Time) map[string]expected {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	owner := map[string]string{}
	for id, m := range tr.members {
		for address, a := range m.addresses {
			if a.verified {
				owner[address] = id
			}
		}
	}
	type roll map[string]bool // persons, and whether they are members
	rolls := map[string]*[2]roll{}
	for _, list := range tr.lists {
		if rolls[list.chapter] == nil {
			rolls[list.chapter] = &[2]roll{{}, {}}
		}
		basis := 0
		if list.mailing {
			basis = 1
		}
		for address, entry := range list.entries {
			if entry.left {
				continue
			}
			person, active := "somebody at "+address, false
			if id, known := owner[address]; known {
				person, active = id, tr.members[id].stateAt(now) == internationalv1.Member_ACTIVE
			}
			rolls[list.chapter][basis][person] = active
		}
	}
	all := map[string]expected{}
	for chapter, both := range rolls {
		var counted [2]people
		for basis, roll := range both {
			counted[basis].total = len(roll)
			for _, active := range roll {
				if active {
					counted[basis].international++
				}
			}
		}
		all[chapter] = expected{counted[0], counted[1], judged(counted[0], counted[1])}
	}
	return all
}

// difference says how a standing differs from what is expected, "" for not at all.
func (e expected) difference(s *internationalv1.Standing) string {
	got := expected{
		people{int(s.GetMembership().GetTotal()), int(s.GetMembership().GetInternational())},
		people{int(s.GetMailing().GetTotal()), int(s.GetMailing().GetInternational())},
		verdictOf(s),
	}
	if got == e {
		return ""
	}
	return fmt.Sprintf("%s: %v, want %v", s.GetName(), got, e)
}

// mode of a sync, as it is told of in the truth.
type uploaded struct {
	source    string
	replace   bool
	addresses []string
}

// counts are what a sync would count.
type counts struct{ add, unchanged, remove, suppressed, kept int32 }

func countsOf(s *localv1.Sync) counts {
	c := s.GetCounts()
	return counts{c.GetAdd(), c.GetUnchanged(), c.GetRemove(), c.GetSuppressed(), c.GetKept()}
}

// plan says what a sync does to the list, without doing it.
func (l *listTruth) plan(u uploaded) (c counts) {
	inFile := map[string]bool{}
	for _, address := range u.addresses {
		inFile[address] = true
		switch entry := l.entries[address]; {
		case entry == nil:
			c.add++
		case entry.left:
			c.suppressed++
		default:
			c.unchanged++
		}
	}
	for address, entry := range l.entries {
		switch {
		case !u.replace || inFile[address] || entry.left || !entry.claims[u.source]:
		case len(entry.claims) == 1:
			c.remove++
		default:
			c.kept++
		}
	}
	return c
}

// apply does to the list what a sync does.
func (l *listTruth) apply(u uploaded) {
	inFile := map[string]bool{}
	for _, address := range u.addresses {
		inFile[address] = true
		entry := l.entries[address]
		if entry == nil {
			entry = &entryTruth{claims: map[string]bool{}}
			l.entries[address] = entry
		}
		if !entry.left {
			entry.claims[u.source] = true
		}
	}
	for address, entry := range l.entries {
		if !u.replace || inFile[address] || entry.left {
			continue
		}
		delete(entry.claims, u.source)
		if len(entry.claims) == 0 {
			delete(l.entries, address)
		}
	}
}

// drop deletes the list: tombstones stay.
func (l *listTruth) drop() {
	for address, entry := range l.entries {
		if !entry.left {
			delete(l.entries, address)
		}
	}
	l.deleted = true
}
