package main

import (
	"fmt"
	"strings"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

type standingCommand struct {
	Get standingGetCommand `cmd:"" help:"Print a chapter's live figures."`
}

type standingGetCommand struct {
	operator
	output

	Chapter string `arg:"" help:"The chapter's id, or chapters/<id>."`
}

// Run prints the standing.
func (c *standingGetCommand) Run(a *app) error {
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	standing, err := internationalv1.NewStandingServiceClient(conn).GetStanding(a.ctx,
		&internationalv1.GetStandingRequest{Name: "chapters/" + chapterID(c.Chapter) + "/standing"})
	if err != nil {
		return err
	}
	return printTable(c.output, a.stdout, table[*internationalv1.Standing]{
		head: []string{"chapter", "eligible", "basis", "membership", "mailing", "margin", "convert", "recruit", "etag"},
		row: func(s *internationalv1.Standing) []string {
			return []string{
				chapterID(s.GetName()), yes(s.GetEligible()), basis(s.GetBasis()),
				figures(s.GetMembership()), figures(s.GetMailing()), fmt.Sprint(s.GetMargin()),
				number(s.GetGap().Convert), number(s.GetGap().Recruit), s.GetEtag(),
			}
		},
		items: []*internationalv1.Standing{standing},
	})
}

// chapterID takes the id, and any resource name of a chapter or charter.
func chapterID(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "chapters/"), "charters/")
	id, _, _ := strings.Cut(name, "/")
	return id
}

func figures(f *internationalv1.Figures) string {
	return fmt.Sprintf("%d of %d", f.GetInternational(), f.GetTotal())
}

func basis(b internationalv1.Basis) string {
	if b == internationalv1.Basis_BASIS_UNSPECIFIED {
		return ""
	}
	return b.String()
}

func number(n *int32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
