package demo

import (
	"context"
	"math/rand/v2"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// roles are what a chapter's officers are, in their order.
var roles = []localv1.Officer_Role{localv1.Officer_PRESIDENT, localv1.Officer_SECRETARY, localv1.Officer_TREASURER}

// appointOfficers makes people of each members list the chapter's officers, two or three; where nobody is on it, two who are
// made up for it. They come last, so that everything else is what it would be without them.
func appointOfficers(p *people, chapters []chapter) {
	last := &people{rng: rand.New(rand.NewPCG(seed, seed+1)), names: p.names, taken: p.taken} //nolint:gosec // nothing here is secret
	for i := range chapters {
		c := &chapters[i]
		wanted := 2 + last.rng.IntN(len(roles)-1)
		for _, e := range c.lists[0].entries {
			if e.displayName != "" && len(c.officers) < wanted {
				c.officers = append(c.officers, e)
			}
		}
		for len(c.officers) < 2 {
			name := last.names.invent(last.rng, c.countryCode)
			c.officers = append(c.officers, entry{last.address(name), name.display})
		}
	}
}

// appoint makes a chapter's officers, beginning where a load before ended. The president is who signs in as its admin.
func (l *loader) appoint(ctx context.Context, c chapter) error {
	there, err := l.officers.ListOfficers(ctx, &localv1.ListOfficersRequest{Parent: chapterName(c.slug)})
	if err != nil {
		return err
	}
	for i := len(there.GetOfficers()); i < len(c.officers); i++ {
		given := &localv1.Officer{DisplayName: c.officers[i].displayName, MailAddress: c.officers[i].address, Role: roles[i]}
		if roles[i] == localv1.Officer_PRESIDENT {
			given.Subject = string(authz.ChapterAdmin) + ":" + chapterName(c.slug)
		}
		if _, err := l.officers.CreateOfficer(ctx, &localv1.CreateOfficerRequest{Parent: chapterName(c.slug), Officer: given}); err != nil {
			return err
		}
	}
	return nil
}
