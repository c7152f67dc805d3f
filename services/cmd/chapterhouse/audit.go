package main

import (
	"fmt"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

type auditCommand struct {
	Standings auditStandingsCommand `cmd:"" help:"Recount every standing from the tokens and print those that differ; exit code 1 if any."`
}

type auditStandingsCommand struct {
	operator
	output

	Chapter string `help:"Only this chapter."`
}

// Run prints the differences.
func (c *auditStandingsCommand) Run(a *app) error {
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	req := &internationalv1.AuditStandingsRequest{}
	if c.Chapter != "" {
		req.Chapter = "chapters/" + chapterID(c.Chapter)
	}
	audit, err := internationalv1.NewStandingServiceClient(conn).AuditStandings(a.ctx, req)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stderr, "%d standings recounted, %d differ\n", audit.GetStandings(), audit.GetDifferenceCount()); err != nil {
		return err
	}
	if err := c.print(a, audit.GetDifferences()); err != nil {
		return err
	}
	if audit.GetDifferenceCount() > 0 {
		return errFound
	}
	return nil
}

func (c *auditStandingsCommand) print(a *app, differences []*internationalv1.StandingDifference) error {
	if len(differences) == 0 && c.Output == "table" {
		return nil
	}
	return printTable(c.output, a.stdout, table[*internationalv1.StandingDifference]{
		head: []string{"chapter", "membership", "recounted", "mailing", "recounted", "remark"},
		row: func(d *internationalv1.StandingDifference) []string {
			return []string{
				chapterID(d.GetName()), figures(d.GetMembership()), figures(d.GetRecountedMembership()),
				figures(d.GetMailing()), figures(d.GetRecountedMailing()), d.GetRemark(),
			}
		},
		items: differences,
	})
}
