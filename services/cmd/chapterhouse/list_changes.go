package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

type listChangesCommand struct {
	listFlags

	Follow    bool   `help:"Go on with what changes from now on, until stopped."`
	Since     string `placeholder:"POINT" help:"From where: the etag of a list or of an export. Without it, from now."`
	SinceFile string `placeholder:"FILE" help:"Go on from the point in this file, and keep it up to date: whoever follows again misses nothing."`
}

// waitSeconds is how long the server holds a call without changes back; it is the most that it takes.
const waitSeconds = "25"

// Run prints the changes.
func (c *listChangesCommand) Run(a *app) error {
	if c.Since != "" && c.SinceFile != "" {
		return usage("either --since or --since-file")
	}
	d, _, list, err := c.enterList(a)
	if err != nil {
		return err
	}
	defer d.close()
	f := &follower{listChangesCommand: c, app: a, door: d, list: list}
	if err := f.begin(); err != nil {
		return err
	}
	if err := f.run(); a.ctx.Err() == nil || !c.Follow {
		return err
	}
	return nil // stopping is how following ends
}

// follower is one run of the command.
type follower struct {
	*listChangesCommand
	*app
	door  *door
	list  string
	point string
}

// begin finds the point to go on from.
func (f *follower) begin() error {
	f.point = f.Since
	if f.SinceFile != "" {
		text, err := os.ReadFile(f.SinceFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.point = strings.TrimSpace(string(text))
	}
	if f.point != "" {
		return nil
	}
	now := &localv1.List{}
	if err := f.door.call(f.ctx, request{method: http.MethodGet, path: "/v1/" + f.list}, now); err != nil {
		return err
	}
	return f.move(now.GetEtag())
}

// move notes the point, once everything before it is printed.
func (f *follower) move(point string) error {
	f.point = point
	if f.SinceFile == "" {
		return nil
	}
	return writeWhole(f.SinceFile, []byte(point+"\n"))
}

// run asks for changes, and prints them, until there are no more or the command is stopped.
func (f *follower) run() error {
	for {
		changes, err := f.ask()
		if err != nil {
			return err
		}
		if err := f.print(changes.GetChanges()); err != nil {
			return err
		}
		if err := f.move(changes.GetNextSince()); err != nil {
			return err
		}
		if !f.Follow && !changes.GetMore() {
			return nil
		}
	}
}

// ask waits for changes. A follower outlives the server: it waits for the next one, however long that takes.
func (f *follower) ask() (*localv1.FollowListResponse, error) {
	query := url.Values{"since": {f.point}, "pageSize": {pageSize}}
	if f.Follow {
		query.Set("waitSeconds", waitSeconds)
	}
	asked := request{method: http.MethodGet, path: "/v1/" + f.list + "/changes", query: query}
	pauses := backoff.NewExponentialBackOff()
	lost := false
	for {
		changes := &localv1.FollowListResponse{}
		err := f.door.once(f.ctx, asked, changes)
		if err == nil && lost {
			_, _ = fmt.Fprintln(f.stderr, "chapterhouse: following again")
		}
		if err == nil || !f.Follow || !passes(err) {
			return changes, err
		}
		if !lost {
			_, _ = fmt.Fprintf(f.stderr, "chapterhouse: %s; trying again until it works\n", sentence(err))
			lost = true
		}
		select {
		case <-time.After(max(pauses.NextBackOff(), waitOf(err))):
		case <-f.ctx.Done():
			return nil, f.ctx.Err()
		}
	}
}

// print writes a page of changes at once.
func (f *follower) print(changes []*localv1.EntryChange) error {
	var page bytes.Buffer
	for _, change := range changes {
		text, err := marshal(change)
		if err != nil {
			return err
		}
		page.Write(append(text, '\n'))
	}
	_, err := page.WriteTo(f.stdout)
	return err
}
