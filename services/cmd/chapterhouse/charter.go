package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

type charterCommand struct {
	List           charterListCommand           `cmd:"" help:"List charters by chapter."`
	Queue          charterQueueCommand          `cmd:"" help:"List what waits for staff, the longest waiting first."`
	History        charterHistoryCommand        `cmd:"" help:"List what has happened to a charter."`
	Apply          charterApplyCommand          `cmd:"" help:"Apply for a chapter's charter."`
	Claim          charterClaimCommand          `cmd:"" help:"Take the review of an application, or prolong the claim."`
	Release        charterReleaseCommand        `cmd:"" help:"Give the review back."`
	RequestChanges charterRequestChangesCommand `cmd:"" help:"Ask the chapter for changes."`
	Resubmit       charterResubmitCommand       `cmd:"" help:"Hand an application in again after changes."`
	Approve        charterApproveCommand        `cmd:"" help:"Charter a chapter on the standing you have read."`
	Decline        charterDeclineCommand        `cmd:"" help:"Decline an application."`
	Withdraw       charterWithdrawCommand       `cmd:"" help:"Take an application back."`
	Suspend        charterSuspendCommand        `cmd:"" help:"Suspend a charter."`
	Reinstate      charterReinstateCommand      `cmd:"" help:"End a suspension."`
	Revoke         charterRevokeCommand         `cmd:"" help:"Take a charter away."`
	Surrender      charterSurrenderCommand      `cmd:"" help:"Give a charter back."`
	Renew          charterRenewCommand          `cmd:"" help:"Renew a charter, or with --request ask for it in the chapter's name."`
	Protect        charterProtectCommand        `cmd:"" help:"Let no deadline run until a time."`
	Unprotect      charterUnprotectCommand      `cmd:"" help:"Let the deadlines run again."`
	Export         charterExportCommand         `cmd:"" help:"Print what a charter rests on, as JSON for whoever audits it."`
}

type charterListCommand struct {
	operator
	output

	State   string `placeholder:"STATE" help:"Only those in this state: APPLIED, CHARTERED, ..."`
	Region  string `placeholder:"REGION" help:"Only those in this region or below it: regions/..."`
	Overdue bool   `help:"Only those of which something is past its time."`
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
	charters, err := listCharters(a.ctx, conn, &internationalv1.ListChartersRequest{
		PageSize: 1000, State: internationalv1.Charter_State(state), Region: c.Region, Overdue: c.Overdue,
	})
	if err != nil {
		return err
	}
	return printCharters(c.output, a, charters...)
}

func listCharters(ctx context.Context, conn grpc.ClientConnInterface, req *internationalv1.ListChartersRequest) ([]*internationalv1.Charter, error) {
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

// nextDue is what comes first of what is due.
func nextDue(c *internationalv1.Charter) *timestamppb.Timestamp {
	var first *timestamppb.Timestamp
	for _, due := range []*timestamppb.Timestamp{c.GetReviewDueTime(), c.GetChangesDueTime(), c.GetCureByTime(), c.GetRenewalDueTime()} {
		if due != nil && (first == nil || due.AsTime().Before(first.AsTime())) {
			first = due
		}
	}
	return first
}

func printCharters(o output, a *app, charters ...*internationalv1.Charter) error {
	return printTable(o, a.stdout, table[*internationalv1.Charter]{
		head: []string{"chapter", "state", "reviewer", "applied", "decided", "etag", "due"},
		row: func(c *internationalv1.Charter) []string {
			return []string{
				chapterID(c.GetName()), c.GetState().String(), c.GetReviewer(),
				date(c.GetApplyTime()), date(c.GetDecideTime()), c.GetEtag(), date(nextDue(c)),
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
