package platformtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

// listWriter writes one list's history. Nobody else changes that list; the people on it are on others' lists too, and
// in the register.
type listWriter struct {
	*caller

	name  string // of the list
	pool  []string
	key   address.SiteKey
	admin context.Context //nolint:containedctx // carries the admin's token
	list  *listTruth
}

// sources are the programs that sync the list.
var sources = []string{"crm", "meetup", "sheet"}

// step makes one change, or tries one that must be refused.
func (w *listWriter) step() {
	switch n := w.rng.IntN(100); {
	case w.list.deleted:
		w.createList()
	case w.list.mailing && n < 4:
		w.deleteList()
	case n < 30:
		w.sync(true)
	case n < 50:
		w.sync(false)
	case n < 72:
		w.createEntry(w.one(w.pool))
	case n < 88:
		w.deleteEntry(w.one(w.pool))
	default:
		w.unsubscribe(w.one(w.pool))
	}
}

// sync uploads some of the people, and applies it in one request or in two. The truth says what it will remove.
func (w *listWriter) sync(replace bool) {
	u := uploaded{source: w.one(sources), replace: replace, addresses: w.some(w.pool, 12)}
	planned := w.list.plan(u)
	mode := localv1.Sync_MERGE
	if replace {
		mode = localv1.Sync_REPLACE
	}
	body, media := w.write(u.addresses)
	header := &localv1.CreateSyncHeader{
		Parent: w.name, Mode: mode, Source: u.source, Apply: w.chance(60), ConfirmRemovals: &planned.remove,
		ContentType: media, RequestId: w.requestID(),
	}
	what := fmt.Sprintf("%s from %s of %d", mode, u.source, len(u.addresses))
	sync, err := call(w.admin, w.caller, what, func(ctx context.Context) (*localv1.Sync, error) {
		return upload(ctx, w.syncs, header, body)
	})
	if !w.expect(what, err) {
		return
	}
	if got := countsOf(sync); got != planned {
		w.t.Errorf("%s: %s counted %+v, want %+v", w.id, what, got, planned)
	}
	if !header.GetApply() {
		request := &localv1.ApplySyncRequest{Name: sync.GetName(), ConfirmRemovals: &planned.remove, RequestId: w.requestID()}
		sync, err = call(w.admin, w.caller, "apply", func(ctx context.Context) (*localv1.Sync, error) { return w.syncs.ApplySync(ctx, request) })
		if !w.expect("apply", err) {
			return
		}
	}
	if sync.GetState() != localv1.Sync_APPLIED {
		w.t.Errorf("%s: %s is %s", w.id, what, sync.GetState())
	}
	before := maps.Clone(w.list.entries)
	for address, entry := range before {
		before[address] = &entryTruth{left: entry.left, claims: maps.Clone(entry.claims)}
	}
	w.truth.change(func() { w.list.apply(u) })
	if w.chance(25) {
		w.revert(sync.GetName(), before)
	}
}

// revert undoes the sync that was just applied. Nobody else changes the list, so all is as before.
func (w *listWriter) revert(sync string, before map[string]*entryTruth) {
	request := &localv1.RevertSyncRequest{Name: sync, RequestId: w.requestID()}
	reverted, err := call(w.admin, w.caller, "revert", func(ctx context.Context) (*localv1.Sync, error) { return w.syncs.RevertSync(ctx, request) })
	if !w.expect("revert", err) {
		return
	}
	if reverted.GetState() != localv1.Sync_REVERTED || reverted.GetConflicts() != 0 {
		w.t.Errorf("%s: reverted, the sync is %s with %d conflicts", w.id, reverted.GetState(), reverted.GetConflicts())
	}
	w.truth.change(func() { w.list.entries = before })
}

// write writes a source in one of the three forms, and the addresses as people spell them.
func (w *listWriter) write(addresses []string) (source []byte, media string) {
	var b bytes.Buffer
	form := w.rng.IntN(3)
	if form == 0 {
		b.WriteString("name,e-mail\n")
	}
	var entries []map[string]string
	for _, canonical := range addresses {
		spelt := w.spell(canonical)
		switch form {
		case 0:
			fmt.Fprintf(&b, "%s,%s\n", nameOf(canonical), spelt)
		default:
			entries = append(entries, map[string]string{"address": spelt, "displayName": nameOf(canonical)})
		}
	}
	encoder := json.NewEncoder(&b)
	switch form {
	case 0:
		return b.Bytes(), "text/csv"
	case 1:
		for _, entry := range entries {
			_ = encoder.Encode(entry) // texts
		}
		return b.Bytes(), "application/x-ndjson"
	default:
		_ = encoder.Encode(map[string]any{"entries": entries}) // texts
		return b.Bytes(), "application/json"
	}
}

// nameOf is the same name for an address whatever writes it, so that syncs have nothing to update.
func nameOf(canonical string) string {
	name, _, _ := strings.Cut(canonical, "@")
	return "Name of " + name
}

func (c *caller) spell(canonical string) string {
	if c.chance(30) {
		return strings.ToUpper(canonical)
	}
	return canonical
}

func (w *listWriter) createEntry(canonical string) {
	request := &localv1.CreateEntryRequest{
		Parent: w.name, RequestId: w.requestID(), Entry: &localv1.Entry{Address: w.spell(canonical), DisplayName: nameOf(canonical)},
	}
	entry := w.list.entries[canonical]
	_, err := call(w.admin, w.caller, "create entry", func(ctx context.Context) (*localv1.Entry, error) { return w.lists.CreateEntry(ctx, request) })
	switch {
	case entry != nil && entry.left:
		w.expect("create an entry of somebody who left", err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	case entry != nil:
		w.expect("create an entry again", err, errorv1.Reason_REASON_ALREADY_EXISTS)
	case w.expect("create entry", err):
		w.truth.change(func() { w.list.entries[canonical] = &entryTruth{claims: map[string]bool{"manual": true}} })
	}
}

func (w *listWriter) entryName(canonical string) string {
	return w.name + "/entries/" + w.key.Token(canonical).EntryID()
}

func (w *listWriter) deleteEntry(canonical string) {
	request := &localv1.DeleteEntryRequest{Name: w.entryName(canonical), RequestId: w.requestID()}
	_, err := call(w.admin, w.caller, "delete entry", always(request, w.lists.DeleteEntry))
	switch entry := w.list.entries[canonical]; {
	case entry == nil:
		w.expect("delete no entry", err, errorv1.Reason_REASON_NOT_FOUND)
	case entry.left:
		w.expect("delete a tombstone", err, errorv1.Reason_REASON_ENTRY_SUPPRESSED)
	case w.expect("delete entry", err):
		w.truth.change(func() { delete(w.list.entries, canonical) })
	}
}

func (w *listWriter) unsubscribe(canonical string) {
	request := &localv1.UnsubscribeEntryRequest{Name: w.entryName(canonical), RequestId: w.requestID()}
	_, err := call(w.admin, w.caller, "unsubscribe", always(request, w.lists.UnsubscribeEntry))
	entry := w.list.entries[canonical]
	if entry == nil {
		w.expect("unsubscribe nobody", err, errorv1.Reason_REASON_NOT_FOUND)
		return
	}
	if w.expect("unsubscribe", err) {
		w.truth.change(func() { entry.left = true })
	}
}

func (w *listWriter) deleteList() {
	request := &localv1.DeleteListRequest{Name: w.name, RequestId: w.requestID()}
	_, err := call(w.admin, w.caller, "delete list", always(request, w.lists.DeleteList))
	if w.expect("delete list", err) {
		w.truth.change(w.list.drop)
	}
}

func (w *listWriter) createList() {
	parent, id, _ := strings.Cut(w.name, "/lists/")
	request := &localv1.CreateListRequest{Parent: parent, ListId: id, List: &localv1.List{DisplayName: id}, RequestId: w.requestID()}
	_, err := call(w.admin, w.caller, "create list", always(request, w.lists.CreateList))
	if w.expect("create list", err) {
		w.truth.change(func() { w.list.deleted = false })
	}
}
