package main

import (
	"net/http"
	"net/url"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

type listCommand struct {
	Ls      listLsCommand      `cmd:"" help:"List a chapter's lists with their counts."`
	Sync    listSyncCommand    `cmd:"" help:"Compare a list with a file, and apply what differs."`
	Plan    listPlanCommand    `cmd:"" help:"Look at plans, apply them, undo them."`
	Export  listExportCommand  `cmd:"" help:"Print a list's entries."`
	Changes listChangesCommand `cmd:"" help:"Print the entries that changed, one JSON object a line."`
}

// pageSize is the largest that the server gives.
const pageSize = "1000"

type listLsCommand struct {
	chapterFlag
	output
}

// Run prints the lists.
func (c *listLsCommand) Run(a *app) error {
	d, _, chapter, err := c.enter(a)
	if err != nil {
		return err
	}
	defer d.close()
	p := newPrinter(c.output, a.stdout, table[*localv1.List]{
		head: []string{"list", "kind", "subscribed", "pending", "unsubscribed", "bounced", "double opt-in", "name"},
		row: func(l *localv1.List) []string {
			return []string{
				lastID(l.GetName()), l.GetKind().String(),
				count(l.GetSubscribedCount()), count(l.GetPendingCount()), count(l.GetUnsubscribedCount()), count(l.GetBouncedCount()),
				yes(l.GetDoubleOptIn()), l.GetDisplayName(),
			}
		},
	})
	return p.end(pages(func(token string) (string, error) {
		page := &localv1.ListListsResponse{}
		err := d.call(a.ctx, pageOf("/v1/chapters/"+chapter+"/lists", token, nil), page)
		if err != nil {
			return "", err
		}
		return page.GetNextPageToken(), p.print(page.GetLists())
	}))
}

// pages calls read with each page's token, until there is no next one.
func pages(read func(token string) (next string, err error)) error {
	token := ""
	for {
		next, err := read(token)
		if err != nil || next == "" {
			return err
		}
		token = next
	}
}

// pageOf asks for one page.
func pageOf(path, token string, query url.Values) request {
	asked := url.Values{"pageSize": {pageSize}}
	for name, values := range query {
		asked[name] = values
	}
	if token != "" {
		asked.Set("pageToken", token)
	}
	return request{method: http.MethodGet, path: path, query: asked}
}
