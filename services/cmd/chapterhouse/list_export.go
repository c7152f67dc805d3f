package main

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

type listExportCommand struct {
	listFlags

	Format    string `enum:"csv,ndjson,json" default:"csv" help:"Form of the entries: ${enum}."`
	State     string `placeholder:"STATE" help:"Only entries in this state: SUBSCRIBED, PENDING, UNSUBSCRIBED, BOUNCED."`
	Source    string `placeholder:"SOURCE" help:"Only entries that this source claims."`
	SinceFile string `placeholder:"FILE" help:"Write there from where list changes goes on."`
}

// Run prints all entries. What is broken off on the way is an error, and what was printed then is a part.
func (c *listExportCommand) Run(a *app) error {
	if _, known := localv1.Entry_State_value[c.State]; c.State != "" && !known {
		return usage("no entry has the state %q", c.State)
	}
	d, _, list, err := c.enterList(a)
	if err != nil {
		return err
	}
	defer d.close()
	var etag string
	if c.Format == "json" {
		etag, err = c.pages(a, d, list)
	} else {
		etag, err = c.stream(a, d, list)
	}
	if err != nil || c.SinceFile == "" {
		return err
	}
	if etag == "" {
		return fmt.Errorf("the server does not say from where to follow %s", list)
	}
	return writeWhole(c.SinceFile, []byte(etag+"\n"))
}

func (c *listExportCommand) query() url.Values {
	query := url.Values{}
	if c.State != "" {
		query.Set("state", c.State)
	}
	if c.Source != "" {
		query.Set("source", c.Source)
	}
	return query
}

// stream copies what the server writes.
func (c *listExportCommand) stream(a *app, d *door, list string) (etag string, err error) {
	media := map[string]string{"csv": "text/csv", "ndjson": "application/x-ndjson"}[c.Format]
	got, err := d.open(a.ctx, request{
		method: http.MethodGet, path: "/v1/" + list + "/entries", query: c.query(), header: http.Header{"Accept": {media}},
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = got.Body.Close() }()
	if answered, _, _ := mime.ParseMediaType(got.Header.Get("Content-Type")); answered != media {
		return "", fmt.Errorf("the server has no %s: it answered %s", media, answered)
	}
	if n, err := io.Copy(a.stdout, got.Body); err != nil {
		return "", fmt.Errorf("broken off after %d bytes: %w", n, err)
	}
	return strings.Trim(strings.TrimPrefix(got.Header.Get("ETag"), "W/"), `"`), nil
}

// pages prints an array, page by page. What changes meanwhile has happened after the first page's etag.
func (c *listExportCommand) pages(a *app, d *door, list string) (etag string, err error) {
	p := newPrinter(output{Output: "json"}, a.stdout, table[*localv1.Entry]{})
	err = p.end(pages(func(token string) (string, error) {
		page := &localv1.ListEntriesResponse{}
		if err := d.call(a.ctx, pageOf("/v1/"+list+"/entries", token, c.query()), page); err != nil {
			return "", err
		}
		if token == "" {
			etag = page.GetEtag()
		}
		return page.GetNextPageToken(), p.print(page.GetEntries())
	}))
	return etag, err
}
