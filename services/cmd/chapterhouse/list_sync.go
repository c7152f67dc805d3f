package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

type listSyncCommand struct {
	listFlags
	output

	File            string `arg:"" help:"The list as it should be: CSV, NDJSON or JSON, gzip too; - for stdin."`
	Mode            string `enum:"replace,merge" default:"replace" help:"What the file is: the whole list (replace), or additions and updates alone (merge)."`
	Source          string `placeholder:"SOURCE" help:"What the file comes from: crm, meetup, ...; without it that of the context, or cli."`
	DryRun          bool   `help:"Plan only. The plan can be applied for an hour."`
	ExitCode        bool   `help:"With --dry-run: exit with 3 when there are changes."`
	ConfirmRemovals *int32 `placeholder:"N" help:"So many removals are meant, though the removal guard asks."`
	MapAddress      string `placeholder:"COLUMN" help:"The column with the addresses, where it is not found by itself."`
	MapDisplayName  string `placeholder:"COLUMN" help:"The column with the names."`
	ContentType     string `placeholder:"TYPE" help:"text/csv, application/x-ndjson or application/json, with a charset where it has to be told; without it, by the file's name."`
}

// defaultSource claims what no other source is named for.
const defaultSource = "cli"

// preferAsync lets the server answer before it has planned. 20 seconds are below what proxies wait for.
const preferAsync = "respond-async, wait=20"

// Run uploads the file, and says what became of it.
func (c *listSyncCommand) Run(a *app) error {
	if c.ExitCode && !c.DryRun {
		return usage("--exit-code is for --dry-run")
	}
	d, p, list, err := c.enterList(a)
	if err != nil {
		return err
	}
	defer d.close()
	file, err := openSource(a, c.File, c.ContentType)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	showProgress(a.stderr, file)
	sync, err := c.upload(a.ctx, d, file, list, orElse(c.Source, orElse(p.Source, defaultSource)))
	file.done()
	if err != nil {
		return c.explain(err)
	}
	if err := c.stopped(sync, c.DryRun); err != nil {
		return err
	}
	if err := printSync(c.output, a.stdout, sync); err != nil {
		return err
	}
	return c.conclude(a, d, sync, c.DryRun, c.ExitCode)
}

// upload sends the file until it has arrived, and waits until it is planned. All attempts have one key, so that none
// that was received and not answered does anything twice.
func (c *listSyncCommand) upload(ctx context.Context, d *door, file *source, list, from string) (*localv1.Sync, error) {
	sync := &localv1.Sync{}
	err := d.call(ctx, request{
		method: http.MethodPost, path: "/v1/" + list + "/syncs", query: c.parameters(from),
		header: http.Header{
			"Content-Type": {file.media}, "Content-Encoding": {"gzip"}, "Prefer": {preferAsync},
			"Idempotency-Key": {uuid.NewString()},
		},
		body: file.body,
	}, sync)
	if err != nil {
		return nil, err
	}
	return settled(ctx, d, sync)
}

func (c *listSyncCommand) parameters(from string) url.Values {
	query := url.Values{"mode": {strings.ToUpper(c.Mode)}, "source": {from}}
	if !c.DryRun {
		query.Set("apply", "true")
	}
	if c.ConfirmRemovals != nil && !c.DryRun {
		query.Set("confirmRemovals", fmt.Sprint(*c.ConfirmRemovals))
	}
	if c.MapAddress != "" {
		query.Set("map.address", c.MapAddress)
	}
	if c.MapDisplayName != "" {
		query.Set("map.displayName", c.MapDisplayName)
	}
	return query
}

const (
	firstPoll   = 200 * time.Millisecond
	longestPoll = 2 * time.Second
)

// settled asks for a sync until it is planned, and applied where it is to be, less and less often.
func settled(ctx context.Context, d *door, sync *localv1.Sync) (*localv1.Sync, error) {
	for pause := firstPoll; sync.GetState() == localv1.Sync_PLANNING; pause = min(pause*3/2, longestPoll) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		now := &localv1.Sync{}
		if err := d.call(ctx, request{method: http.MethodGet, path: "/v1/" + sync.GetName()}, now); err != nil {
			return nil, err
		}
		sync = now
	}
	return sync, nil
}

// stopped says why nothing was done.
func (r *reach) stopped(sync *localv1.Sync, dryRun bool) error {
	switch state := sync.GetState(); {
	case state == localv1.Sync_FAILED:
		return failed(sync)
	case dryRun, state == localv1.Sync_APPLIED:
		return nil
	case state == localv1.Sync_BLOCKED:
		return r.blocked(sync.GetName(), fmt.Sprint(sync.GetConfirmRemovals()))
	default:
		return &outcome{exitError, fmt.Sprintf("not applied, the sync is %s. If it is still meant:\n  chapterhouse list plan apply %s%s",
			state, sync.GetName(), r.flags())}
	}
}

// conclude says what a person has to know of a sync, and what the exit code has to.
func (r *reach) conclude(a *app, d *door, sync *localv1.Sync, dryRun, exitCode bool) error {
	if err := r.showRejected(a, d, sync); err != nil {
		return err
	}
	counts := sync.GetCounts()
	switch {
	case dryRun && exitCode && counts.GetAdd()+counts.GetUpdate()+counts.GetRemove() > 0:
		return &outcome{code: exitChanges}
	case !dryRun && counts.GetRejected() > 0:
		return &outcome{code: exitRejected}
	}
	return nil
}

// explain turns the refusals that have an exit code of their own into what to do next.
func (r *reach) explain(err error) error {
	metadata := rpc.InfoOf(err).GetMetadata()
	switch {
	case rpc.Is(err, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED):
		return r.blocked(metadata["sync"], metadata["removals"])
	case rpc.Is(err, errorv1.Reason_REASON_PLAN_STALE):
		return &outcome{exitStale, sentence(err) + "\nRun the same command again to compare with the list as it is now."}
	}
	return err
}

func (r *reach) blocked(name, removals string) error {
	return &outcome{exitBlocked, fmt.Sprintf(
		"blocked by the removal guard: %s entries would be removed, and nothing was done. If that is meant:\n  chapterhouse list plan apply %s --confirm-removals %s%s",
		removals, name, removals, r.flags())}
}

// failed is a sync that could not be done after it was answered.
func failed(sync *localv1.Sync) error {
	failure := sync.GetFailure()
	end := &outcome{exitError, fmt.Sprintf("%s (%s)", failure.GetText(), failure.GetReason())}
	if "REASON_"+failure.GetReason() == errorv1.Reason_REASON_PLAN_STALE.String() {
		end.code = exitStale
		end.text += "\nRun the same command again to compare with the list as it is now."
	}
	return end
}

// shownRows is how many rows are shown that nobody asked for.
const shownRows = 20

// showRejected names the first rejected rows, on stderr: they are no data, they are what is wrong with it.
func (r *reach) showRejected(a *app, d *door, sync *localv1.Sync) error {
	return r.showRows(a, d, sync, localv1.SyncChange_REJECTED, sync.GetCounts().GetRejected(), "rows were rejected", "--rejected",
		func(c *localv1.SyncChange) string {
			return fmt.Sprintf("line %d: %s: %s", c.GetLine(), c.GetCode(), c.GetText())
		})
}

// showConflicts names the first entries that a revert left alone.
func (r *reach) showConflicts(a *app, d *door, sync *localv1.Sync) error {
	return r.showRows(a, d, sync, localv1.SyncChange_CONFLICT, sync.GetConflicts(), "entries changed since and stayed as they are", "--changes",
		func(c *localv1.SyncChange) string {
			return fmt.Sprintf("%s: %s: %s", c.GetAddress(), c.GetCode(), c.GetText())
		})
}

func (r *reach) showRows(a *app, d *door, sync *localv1.Sync, kind localv1.SyncChange_Kind, total int32, what, flag string,
	line func(*localv1.SyncChange) string,
) error {
	if total == 0 {
		return nil
	}
	page := &localv1.ListSyncChangesResponse{}
	asked := url.Values{"filter": {"kind = " + kind.String()}, "pageSize": {fmt.Sprint(shownRows)}}
	if err := d.call(a.ctx, pageOf("/v1/"+sync.GetName()+"/changes", "", asked), page); err != nil {
		return err
	}
	text := fmt.Sprintf("chapterhouse: %d %s\n", total, what)
	for _, change := range page.GetChanges() {
		text += "  " + visible(line(change)) + "\n"
	}
	if more := int(total) - len(page.GetChanges()); more > 0 {
		text += fmt.Sprintf("  and %d more: chapterhouse list plan show %s %s%s\n", more, sync.GetName(), flag, r.flags())
	}
	_, err := fmt.Fprint(a.stderr, text)
	return err
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
