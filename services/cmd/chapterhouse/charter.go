package main

import (
	"context"

	"google.golang.org/grpc"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

type charterCommand struct {
	List    charterListCommand    `cmd:"" help:"List charters by chapter."`
	Apply   charterApplyCommand   `cmd:"" help:"Apply for a chapter's charter."`
	Approve charterApproveCommand `cmd:"" help:"Charter a chapter on the standing you have read."`
	Decline charterDeclineCommand `cmd:"" help:"Decline an application."`
	Export  charterExportCommand  `cmd:"" help:"Print what a charter rests on, as JSON for whoever audits it."`
}

type charterListCommand struct {
	operator
	output

	State  string `placeholder:"STATE" help:"Only those in this state: APPLIED, CHARTERED, ..."`
	Region string `placeholder:"REGION" help:"Only those in this region or below it: regions/..."`
}

// Run prints all charters.
func (c *charterListCommand) Run(a *app) error {
	state, known := internationalv1.Charter_State_value[c.State]
	if c.State != "" && !known {
		return usage("no charter has the state %q", c.State)
	}
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	charters, err := listCharters(a.ctx, conn, internationalv1.Charter_State(state), c.Region)
	if err != nil {
		return err
	}
	return printCharters(c.output, a, charters...)
}

func listCharters(ctx context.Context, conn grpc.ClientConnInterface, state internationalv1.Charter_State, region string) ([]*internationalv1.Charter, error) {
	req := &internationalv1.ListChartersRequest{PageSize: 1000, State: state, Region: region}
	var charters []*internationalv1.Charter
	for {
		page, err := internationalv1.NewCharterServiceClient(conn).ListCharters(ctx, req)
		if err != nil {
			return nil, err
		}
		charters = append(charters, page.GetCharters()...)
		if page.GetNextPageToken() == "" {
			return charters, nil
		}
		req.PageToken = page.GetNextPageToken()
	}
}

func printCharters(o output, a *app, charters ...*internationalv1.Charter) error {
	return printTable(o, a.stdout, table[*internationalv1.Charter]{
		head: []string{"chapter", "state", "reviewer", "applied", "decided", "etag"},
		row: func(c *internationalv1.Charter) []string {
			return []string{
				chapterID(c.GetName()), c.GetState().String(), c.GetReviewer(),
				date(c.GetApplyTime()), date(c.GetDecideTime()), c.GetEtag(),
			}
		},
		items: charters,
	})
}

type charterApplyCommand struct {
	operator
	output

	Chapter string `arg:"" help:"The chapter's id."`
	Note    string `help:"What the reviewers should know."`
}

// Run applies in the chapter's name.
func (c *charterApplyCommand) Run(a *app) error {
	chapter := "chapters/" + chapterID(c.Chapter)
	return c.call(a, c.output, authz.Grant{Role: authz.ChapterAdmin, Scope: chapter},
		func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
			return charters.CreateCharter(a.ctx, &internationalv1.CreateCharterRequest{
				Charter: &internationalv1.Charter{Chapter: chapter, Note: c.Note},
			})
		})
}

type charterApproveCommand struct {
	operator
	output

	Chapter      string `arg:"" help:"The chapter's id."`
	StandingEtag string `required:"" placeholder:"ETAG" help:"The etag of the standing you have read: chapterhouse standing get."`
	Note         string `help:"Why."`
}

// Run approves on the figures of that standing and no others.
func (c *charterApproveCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.ApproveCharter(a.ctx, &internationalv1.ApproveCharterRequest{
			Name: "charters/" + chapterID(c.Chapter), StandingEtag: c.StandingEtag, Note: c.Note,
		})
	})
}

type charterDeclineCommand struct {
	operator
	output

	Chapter string `arg:"" help:"The chapter's id."`
	Note    string `required:"" help:"Why; the chapter reads it."`
}

// Run declines.
func (c *charterDeclineCommand) Run(a *app) error {
	return c.call(a, c.output, staff, func(charters internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return charters.DeclineCharter(a.ctx, &internationalv1.DeclineCharterRequest{
			Name: "charters/" + chapterID(c.Chapter), Note: c.Note,
		})
	})
}

// call makes one call about a charter and prints what has become of it.
func (o *operator) call(a *app, out output, grant authz.Grant,
	do func(internationalv1.CharterServiceClient) (*internationalv1.Charter, error),
) error {
	conn, done, err := o.connect(a, grant)
	if err != nil {
		return err
	}
	defer done()
	charter, err := do(internationalv1.NewCharterServiceClient(conn))
	if err != nil {
		return err
	}
	return printCharters(out, a, charter)
}
