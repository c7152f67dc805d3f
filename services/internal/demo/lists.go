package demo

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"strings"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// source is what the demo's entries are claimed by.
const source = "demo"

// createLists makes a chapter's mailing list; its members list comes with it.
func (l *loader) createLists(ctx context.Context, c chapter) error {
	if len(c.lists) == 1 {
		return nil
	}
	ctx, err := l.asAdmin(ctx, c.slug)
	if err != nil {
		return err
	}
	_, err = l.lists.CreateList(ctx, &localv1.CreateListRequest{
		Parent: chapterName(c.slug), ListId: announceList, List: &localv1.List{DisplayName: "Announcements"},
	})
	return made(err, listName(c.slug, announceList))
}

// fillLists appoints a chapter's officers and syncs its lists.
func (l *loader) fillLists(ctx context.Context, c chapter) error {
	ctx, err := l.asAdmin(ctx, c.slug)
	if err != nil {
		return err
	}
	if err := l.appoint(ctx, c); err != nil {
		return fmt.Errorf("appoint the officers of %s: %w", chapterName(c.slug), err)
	}
	for _, one := range c.lists {
		if len(one.entries) == 0 {
			continue
		}
		if err := l.sync(ctx, listName(c.slug, one.id), one.entries); err != nil {
			return fmt.Errorf("sync %s: %w", listName(c.slug, one.id), err)
		}
	}
	return nil
}

// sync makes a list hold these entries. Its request id keeps a load that goes on from syncing a second time.
func (l *loader) sync(ctx context.Context, name string, entries []entry) error {
	file := fileOf(entries)
	stream, err := l.syncs.CreateSync(ctx)
	if err != nil {
		return err
	}
	messages := []*localv1.CreateSyncRequest{
		{Part: &localv1.CreateSyncRequest_Header{Header: &localv1.CreateSyncHeader{
			Parent: name, Mode: localv1.Sync_REPLACE, Source: source, Apply: true, ContentType: "text/csv; charset=utf-8",
			RequestId: fmt.Sprintf("demo-%x", sha256.Sum256([]byte(name+"\n"+file))),
		}}},
		{Part: &localv1.CreateSyncRequest_Chunk{Chunk: []byte(file)}},
	}
	for _, message := range messages {
		if stream.Send(message) != nil {
			break // the server has answered already; CloseAndRecv says what
		}
	}
	answer, err := stream.CloseAndRecv()
	if err == nil && answer.GetState() != localv1.Sync_APPLIED {
		err = fmt.Errorf("it is %s", answer.GetState())
	}
	return err
}

func fileOf(entries []entry) string {
	var file strings.Builder
	rows := csv.NewWriter(&file)
	_ = rows.Write([]string{"email", "name"}) // a strings.Builder takes everything
	for _, e := range entries {
		_ = rows.Write([]string{e.address, e.displayName})
	}
	rows.Flush()
	return file.String()
}

// How long the standings may take to follow the lists, and how often they are looked at.
const (
	countWithin = 2 * time.Minute
	countEvery  = 25 * time.Millisecond
)

// awaitCount waits until the chapter's standing is counted on its lists as they are now.
func (l *loader) awaitCount(ctx context.Context, c chapter) error {
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		counted, err := l.counted(ctx, c)
		if err != nil {
			return fmt.Errorf("wait for the standing of %s: %w", chapterName(c.slug), err)
		}
		if counted {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the standing of %s does not follow its lists: %w", chapterName(c.slug), ctx.Err())
		}
	}
}

func (l *loader) counted(ctx context.Context, c chapter) (bool, error) {
	ctx, err := l.asAdmin(ctx, c.slug)
	if err != nil {
		return false, err
	}
	lists, err := l.lists.ListLists(ctx, &localv1.ListListsRequest{Parent: chapterName(c.slug), PageSize: 1000})
	if err != nil {
		return false, err
	}
	standing, err := l.standing.GetStanding(ctx, &internationalv1.GetStandingRequest{Name: chapterName(c.slug) + "/standing"})
	if err != nil {
		return false, err
	}
	versions := map[string]string{}
	for _, based := range standing.GetBasedOn().GetLists() {
		versions[based.GetList()] = based.GetVersion()
	}
	for _, one := range lists.GetLists() {
		if versions[one.GetName()] != one.GetEtag() {
			return false, nil
		}
	}
	return true, nil
}
