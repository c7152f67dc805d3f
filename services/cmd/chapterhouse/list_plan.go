package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

type listPlanCommand struct {
	Ls     planLsCommand     `cmd:"" help:"List a list's syncs, newest first."`
	Show   planShowCommand   `cmd:"" help:"Print a plan: counts, standing before and after, or its rows."`
	Apply  planApplyCommand  `cmd:"" help:"Apply a plan exactly as shown, or not at all."`
	Revert planRevertCommand `cmd:"" help:"Undo an applied sync, for 24 hours."`
	Cancel planCancelCommand `cmd:"" help:"Give a plan up."`
}

type planLsCommand struct {
	listFlags
	output
}

// Run prints the syncs.
func (c *planLsCommand) Run(a *app) error {
	d, _, list, err := c.enterList(a)
	if err != nil {
		return err
	}
	defer d.close()
	p := newPrinter(c.output, a.stdout, syncTable)
	return p.end(pages(func(token string) (string, error) {
		page := &localv1.ListSyncsResponse{}
		if err := d.call(a.ctx, pageOf("/v1/"+list+"/syncs", token, nil), page); err != nil {
			return "", err
		}
		return page.GetNextPageToken(), p.print(page.GetSyncs())
	}))
}

// syncArgument names a sync.
type syncArgument struct {
	reach
	output

	Sync string `arg:"" help:"chapters/<chapter>/lists/<list>/syncs/<id>, as list sync prints it."`
}

var syncPattern = regexp.MustCompile(`^chapters/([a-z0-9-]+)/lists/[a-z0-9-]+/syncs/[a-z0-9-]+$`)

// enter opens the door of the sync's chapter.
func (s *syncArgument) enter(a *app) (*door, error) {
	parts := syncPattern.FindStringSubmatch(s.Sync)
	if parts == nil {
		return nil, usage("a sync's name is like chapters/<chapter>/lists/<list>/syncs/<id>: see chapterhouse list plan ls")
	}
	p, err := s.place()
	if err != nil {
		return nil, err
	}
	return s.door(a, p, parts[1])
}

// do calls a verb of the sync. A verb that was done and not answered is answered again, not done again.
func (s *syncArgument) do(a *app, d *door, verb string, body proto.Message) (*localv1.Sync, error) {
	text, err := protojson.Marshal(body)
	if err != nil {
		return nil, err
	}
	sync := &localv1.Sync{}
	err = d.call(a.ctx, request{
		method: http.MethodPost, path: "/v1/" + s.Sync + ":" + verb,
		header: http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {uuid.NewString()}},
		body:   func() io.ReadCloser { return io.NopCloser(strings.NewReader(string(text))) },
	}, sync)
	if err != nil {
		return nil, s.explain(err)
	}
	return sync, printSync(s.output, a.stdout, sync)
}

type planShowCommand struct {
	syncArgument

	Changes  bool `xor:"rows" help:"Print the rows instead: what is added, updated, removed, suppressed, rejected, duplicate."`
	Rejected bool `xor:"rows" help:"Print the rejected rows instead."`
}

// Run prints the plan or its rows.
func (c *planShowCommand) Run(a *app) error {
	d, err := c.enter(a)
	if err != nil {
		return err
	}
	defer d.close()
	switch {
	case c.Rejected:
		return c.rows(a, d, url.Values{"filter": {"kind = " + localv1.SyncChange_REJECTED.String()}})
	case c.Changes:
		return c.rows(a, d, nil)
	}
	sync := &localv1.Sync{}
	if err := d.call(a.ctx, request{method: http.MethodGet, path: "/v1/" + c.Sync}, sync); err != nil {
		return err
	}
	return printSync(c.output, a.stdout, sync)
}

func (c *planShowCommand) rows(a *app, d *door, filter url.Values) error {
	p := newPrinter(c.output, a.stdout, table[*localv1.SyncChange]{
		head: []string{"fate", "line", "address", "name", "previous name", "code", "why", "since"},
		row: func(r *localv1.SyncChange) []string {
			return []string{
				r.GetKind().String(), lineOf(r.GetLine()), r.GetAddress(), r.GetDisplayName(), r.GetPreviousDisplayName(),
				r.GetCode(), why(r), date(r.GetSinceTime()),
			}
		},
	})
	return p.end(pages(func(token string) (string, error) {
		page := &localv1.ListSyncChangesResponse{}
		if err := d.call(a.ctx, pageOf("/v1/"+c.Sync+"/changes", token, filter), page); err != nil {
			return "", err
		}
		return page.GetNextPageToken(), p.print(page.GetChanges())
	}))
}

func lineOf(line int32) string {
	if line == 0 {
		return ""
	}
	return count(line)
}

func why(r *localv1.SyncChange) string {
	if r.GetFirstLine() > 0 {
		return fmt.Sprintf("repeats line %d", r.GetFirstLine())
	}
	return r.GetText()
}

type planApplyCommand struct {
	syncArgument

	ConfirmRemovals *int32 `placeholder:"N" help:"So many removals are meant, though the removal guard asks."`
}

// Run applies the plan.
func (c *planApplyCommand) Run(a *app) error {
	d, err := c.enter(a)
	if err != nil {
		return err
	}
	defer d.close()
	sync, err := c.do(a, d, "apply", &localv1.ApplySyncRequest{ConfirmRemovals: c.ConfirmRemovals})
	if err != nil {
		return err
	}
	return c.conclude(a, d, sync, false, false)
}

type planRevertCommand struct{ syncArgument }

// Run undoes the sync, and names what stayed because it changed since.
func (c *planRevertCommand) Run(a *app) error {
	d, err := c.enter(a)
	if err != nil {
		return err
	}
	defer d.close()
	sync, err := c.do(a, d, "revert", &localv1.RevertSyncRequest{})
	if err != nil {
		return err
	}
	return c.showConflicts(a, d, sync)
}

type planCancelCommand struct{ syncArgument }

// Run gives the plan up.
func (c *planCancelCommand) Run(a *app) error {
	d, err := c.enter(a)
	if err != nil {
		return err
	}
	defer d.close()
	_, err = c.do(a, d, "cancel", &localv1.CancelSyncRequest{})
	return err
}
