package main

import (
	"strings"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

type charterQueueCommand struct {
	operator
	output

	Region    string `placeholder:"REGION" help:"Only chapters in this region or below it: regions/..."`
	Reviewer  string `placeholder:"SUBJECT" help:"Only what this reviewer holds."`
	Unclaimed bool   `help:"Only what nobody holds."`
	Unblocked bool   `help:"Only what lacks no requirement."`
	Overdue   bool   `help:"Only what is past its time."`
}

// Run prints what waits.
func (c *charterQueueCommand) Run(a *app) error {
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	req := &internationalv1.ListReviewQueueRequest{
		PageSize: 1000, Region: c.Region, Reviewer: c.Reviewer, Unclaimed: c.Unclaimed, Unblocked: c.Unblocked, Overdue: c.Overdue,
	}
	var queue []*internationalv1.QueuedCharter
	for {
		page, err := internationalv1.NewCharterServiceClient(conn).ListReviewQueue(a.ctx, req)
		if err != nil {
			return err
		}
		queue = append(queue, page.GetCharters()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	return printTable(c.output, a.stdout, table[*internationalv1.QueuedCharter]{
		head:  []string{"chapter", "state", "waits for", "since", "due", "reviewer", "lacks"},
		row:   queueRow,
		items: queue,
	})
}

func queueRow(q *internationalv1.QueuedCharter) []string {
	var lacks []string
	for _, blocker := range q.GetBlockers() {
		lacks = append(lacks, blocker.String())
	}
	c := q.GetCharter()
	return []string{
		chapterID(c.GetName()), c.GetState().String(), c.GetWaitingFor().String(), date(c.GetWaitingSinceTime()), date(nextDue(c)),
		c.GetReviewer(), strings.Join(lacks, " "),
	}
}

type charterHistoryCommand struct{ charterVerb }

// Run prints the history, oldest first.
func (c *charterHistoryCommand) Run(a *app) error {
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	req := &internationalv1.ListCharterHistoryRequest{Parent: c.name(), PageSize: 1000}
	var history []*internationalv1.CharterTransition
	for {
		page, err := internationalv1.NewCharterServiceClient(conn).ListCharterHistory(a.ctx, req)
		if err != nil {
			return err
		}
		history = append(history, page.GetHistory()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	return printTable(c.output, a.stdout, table[*internationalv1.CharterTransition]{
		head: []string{"time", "verb", "from", "to", "by", "until", "note"},
		row: func(t *internationalv1.CharterTransition) []string {
			return []string{
				date(t.GetCreateTime()), t.GetVerb(), stateName(t.GetFromState()), stateName(t.GetToState()), t.GetSubject(),
				date(t.GetUntilTime()), t.GetNote(),
			}
		},
		items: history,
	})
}

func stateName(state internationalv1.Charter_State) string {
	if state == internationalv1.Charter_STATE_UNSPECIFIED {
		return ""
	}
	return state.String()
}
