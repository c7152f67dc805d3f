package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestSourcesInTheirFormats(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct{ name, contentType, body, format string }{
		{"csv", "text/csv; charset=utf-8", "Name;E-Mail\nAda;a1@example.org\n", `text/csv UTF-8 ";" true E-Mail Name`},
		{"no header", "text/csv", "a1@example.org\n", `text/csv UTF-8 "," false 1 `},
		{"ndjson", "application/x-ndjson", `{"address":"a1@example.org","displayName":"Ada"}` + "\n", `application/x-ndjson UTF-8 "" false  `},
		{"json", "application/json", `{"entries":[{"address":"a1@example.org","displayName":"Ada"}]}`, `application/json UTF-8 "" false  `},
		{"windows", "text/csv", "email,name\na1@example.org,Ren\xe9\n", `text/csv windows-1252 "," true email name`},
	} {
		sync := w.sync(merge("crm", c.body).as(c.contentType))
		f := sync.GetFormat()
		got := fmt.Sprintf("%s %s %q %t %s %s", f.GetMediaType(), f.GetEncoding(), f.GetDelimiter(), f.GetHeader(), f.GetAddressColumn(), strings.Join(f.GetNameColumns(), " "))
		if got != c.format || counts(sync) != "add 1" {
			t.Errorf("%s: %s, %s", c.name, got, counts(sync))
		}
	}
}

func TestUnusableSources(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.MaxUploadBytes, c.MaxUploadRows = 2000, 20 })
	w.sync(replace("crm", people(0, 3)).applied())
	before := w.list(members).GetEtag()
	for _, c := range []struct {
		name   string
		call   request
		reason errorv1.Reason
		code   codes.Code
	}{
		{"nothing", replace("crm", ""), errorv1.Reason_REASON_SOURCE_EMPTY, codes.InvalidArgument},
		{"a header", replace("crm", "email,name\n"), errorv1.Reason_REASON_SOURCE_EMPTY, codes.InvalidArgument},
		{"no entries", replace("crm", `{"entries":[]}`).as("application/json"), errorv1.Reason_REASON_SOURCE_EMPTY, codes.InvalidArgument},
		{"a web page", replace("crm", "<!DOCTYPE html><p>Sign in</p>"), errorv1.Reason_REASON_SOURCE_UNREADABLE, codes.InvalidArgument},
		{"half a document", replace("crm", `{"entries":[{"address":"a@example.org"}`).as("application/json"), errorv1.Reason_REASON_SOURCE_UNREADABLE, codes.InvalidArgument},
		{"no addresses", replace("crm", "name,city\nAda,Paris\n"), errorv1.Reason_REASON_SOURCE_NO_ADDRESS_COLUMN, codes.InvalidArgument},
		{"only bad rows", replace("crm", "email\nada\nbob\n"), errorv1.Reason_REASON_SOURCE_UNREADABLE, codes.InvalidArgument},
		{"an image", replace("crm", "x").as("image/png"), errorv1.Reason_REASON_UNSUPPORTED_MEDIA_TYPE, codes.InvalidArgument},
		{"too many rows", replace("crm", people(0, 21)), errorv1.Reason_REASON_TOO_LARGE, codes.ResourceExhausted},
		{"too many bytes", replace("crm", strings.Repeat(people(0, 20), 4)), errorv1.Reason_REASON_TOO_LARGE, codes.ResourceExhausted},
		{"no such list", replace("crm", people(0, 2)).to(paris + "/lists/nothing"), errorv1.Reason_REASON_NOT_FOUND, codes.NotFound},
		{"no mode", request{header: &localv1.CreateSyncHeader{Parent: members, Source: "crm", ContentType: "text/csv"}}, errorv1.Reason_REASON_INVALID_FIELD, codes.InvalidArgument},
		{"no source", replace("", people(0, 2)), errorv1.Reason_REASON_INVALID_FIELD, codes.InvalidArgument},
	} {
		_, err := c.call.applied().send(t.Context(), w.syncs)
		if !rpc.Is(err, c.reason) || status.Code(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if after := w.list(members).GetEtag(); after != before {
		t.Errorf("the list went from %s to %s", before, after)
	}
	w.noRowsLeft()
	// What merges nothing removes nothing: it may be all bad.
	w.expect(w.sync(merge("crm", "email\nada\nbob\n").applied()), localv1.Sync_APPLIED, "rejected 2")
}

func (w *world) noRowsLeft() {
	w.t.Helper()
	var rows int
	w.must(w.pool.QueryRow(w.t.Context(), "SELECT count(*) FROM sync_rows").Scan(&rows))
	if rows != 0 {
		w.t.Errorf("%d pages of uploads are left", rows)
	}
}

func TestUploadThatPausesHoldsNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("golang-lyon")
	upload := replace("crm", people(0, 30_000))
	stream, err := upload.start(t.Context(), w.syncs)
	w.must(err)
	half := len(upload.body) / 2
	w.must(sendChunk(stream, upload.body[:half]))
	w.await("the first rows are staged", "SELECT count(*) > 0 FROM sync_rows")
	w.await("no session has a transaction", `SELECT count(*) = 0 FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`)
	if taken := w.pool.Stat().AcquiredConns(); taken > 2 { // the publisher's, and one that a job may have for a moment
		t.Errorf("%d connections are taken while an upload pauses", taken)
	}

	// Another chapter, and another sync of the same list, pass meanwhile.
	lyon := localv1.NewListServiceClient(w.as("chapter_admin", "chapters/golang-lyon"))
	_, err = lyon.CreateEntry(t.Context(), &localv1.CreateEntryRequest{
		Parent: "chapters/golang-lyon/lists/members", Entry: &localv1.Entry{Address: "eve@example.org"},
	})
	w.must(err)
	w.await("the other chapter's change is published", `SELECT bool_and(publish_time IS NOT NULL) FROM outbox WHERE aggregate LIKE '%lyon%'`)
	w.sync(replace("meetup", people(0, 1)).applied())

	w.must(sendChunk(stream, upload.body[half:]))
	sync, err := stream.CloseAndRecv()
	w.must(err)
	w.expect(sync, localv1.Sync_PLANNED, "add 29999 unchanged 1")
	w.noRowsLeft()
}

func (w *world) await(what, query string) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var done bool
		err := w.pool.QueryRow(w.t.Context(), query).Scan(&done)
		return done, fmt.Sprintf("%s: %v", what, err)
	})
}

func TestUploadThatStalls(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.UploadIdle = 50 * time.Millisecond })
	stream, err := replace("crm", "").start(t.Context(), w.syncs)
	w.must(err)
	w.must(sendChunk(stream, []byte("email\nada@example.org\n")))
	// Not ended: the server gives up.
	err = stream.RecvMsg(&localv1.Sync{})
	refuses(t, err, errorv1.Reason_REASON_UPLOAD_INTERRUPTED)
	w.noRowsLeft()
}

func TestUploadThatNeverEnds(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.UploadLimit = 100 * time.Millisecond })
	stream, err := replace("crm", "").start(t.Context(), w.syncs)
	w.must(err)
	for range 1000 {
		if err = sendChunk(stream, []byte("ada@example.org\n")); err != nil {
			break
		}
		if err = stream.Context().Err(); err != nil {
			break
		}
		waitABit(t)
	}
	err = stream.RecvMsg(&localv1.Sync{})
	refuses(t, err, errorv1.Reason_REASON_UPLOAD_INTERRUPTED)
}

// waitABit lets a slow client be slow.
func waitABit(t *testing.T) {
	select {
	case <-time.After(2 * time.Millisecond):
	case <-t.Context().Done():
	}
}

func TestUploadWhoseCallerGoesAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	upload := replace("crm", people(0, 30_000)).applied()
	stream, err := upload.start(ctx, w.syncs)
	w.must(err)
	w.must(sendChunk(stream, upload.body[:len(upload.body)/2]))
	w.await("the first rows are staged", "SELECT count(*) > 0 FROM sync_rows")
	cancel()
	w.await("the staged rows are gone", "SELECT count(*) = 0 FROM sync_rows")
	if got := w.list(members).GetSubscribedCount(); got != 0 {
		t.Errorf("%d entries of half a file", got)
	}
}

func TestUploadThatTheDatabaseLost(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 5)).applied())
	upload := replace("crm", people(0, 20_000)).applied()
	stream, err := upload.start(t.Context(), w.syncs)
	w.must(err)
	half := len(upload.body) / 2
	w.must(sendChunk(stream, upload.body[:half]))
	w.await("the first rows are staged", "SELECT count(*) > 0 FROM sync_rows")
	w.exec("TRUNCATE sync_rows") // as a crash does
	w.must(sendChunk(stream, upload.body[half:]))
	_, err = stream.CloseAndRecv()
	refuses(t, err, errorv1.Reason_REASON_UPLOAD_INTERRUPTED)
	hasCode(t, err, codes.Unavailable)
	if got := w.list(members).GetSubscribedCount(); got != 5 {
		t.Errorf("%d entries are left of 5", got)
	}
	w.noRowsLeft()
}

func TestLeftOversOfUploadsAreRemoved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.pool.Exec(t.Context(), "INSERT INTO sync_rows (sync_no, page, kind, upload_time, lines) VALUES (7, 0, 0, $1, '{1}')", w.clock.Now())
	w.must(err)
	w.clock.Advance(2 * time.Hour)
	w.must(w.service.cleanUp(t.Context()))
	var rows int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM sync_rows").Scan(&rows))
	if rows != 1 {
		t.Error("rows of an upload that may still run are gone")
	}
	w.clock.Advance(time.Second)
	w.must(w.service.cleanUp(t.Context()))
	w.noRowsLeft()
}

func TestRepeatedSyncAnswersTheFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	call := replace("crm", people(0, 3)).applied().keyed("monday")
	first := w.sync(call)
	w.add(members, "new@example.org")
	second := w.sync(call)
	if second.GetName() != first.GetName() || second.GetEtag() != first.GetEtag() || counts(second) != counts(first) {
		t.Errorf("got %v after %v", second, first)
	}
	for name, other := range map[string]request{
		"other content": replace("crm", people(0, 4)).applied().keyed("monday"),
		"other mode":    merge("crm", people(0, 3)).applied().keyed("monday"),
		"not applied":   replace("crm", people(0, 3)).keyed("monday"),
	} {
		_, err := other.send(t.Context(), w.syncs)
		if !rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inHeader := replace("crm", people(0, 3)).applied()
	inHeader.header.RequestId = "monday"
	if third := w.sync(inHeader); third.GetName() != first.GetName() {
		t.Errorf("the same id in the request made %s", third.GetName())
	}
	_ = w.refusesSync(inHeader.keyed("tuesday"), errorv1.Reason_REASON_INVALID_FIELD)
	w.noRowsLeft()
	all, err := w.syncs.ListSyncs(t.Context(), &localv1.ListSyncsRequest{Parent: members})
	w.must(err)
	if len(all.GetSyncs()) != 1 {
		t.Errorf("there are %d syncs", len(all.GetSyncs()))
	}
}

func TestRefusalsAreNotRemembered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 10)).applied())
	call := replace("crm", people(0, 3)).applied().keyed("monday")
	_ = w.refusesSync(call, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED)
	w.expect(w.sync(call.confirming(7)), localv1.Sync_APPLIED, "unchanged 3 remove 7")
}

func TestRequestIDInUse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	call := replace("crm", people(0, 3)).applied().keyed("monday")
	stream, err := call.start(t.Context(), w.syncs)
	w.must(err)
	testkit.Eventually(t, patience, func() (bool, string) {
		w.service.running.mu.Lock()
		defer w.service.running.mu.Unlock()
		return len(w.service.running.keys) == 1, "the first call has not begun"
	})
	_ = w.refusesSync(call, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE)
	w.must(sendChunk(stream, call.body))
	first, err := stream.CloseAndRecv()
	w.must(err)
	if second := w.sync(call); second.GetName() != first.GetName() {
		t.Errorf("got %s after %s", second.GetName(), first.GetName())
	}
}

func TestSameRequestAtManyReplicasHappensOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	call := replace("crm", people(0, 3)).applied().keyed("monday")
	// Each call finds no other in its process: as if each had come to a replica of its own.
	arrived := make(chan struct{}, 3)
	goOn := make(chan struct{})
	w.international.set(func() {
		w.international.entered = func() {
			w.service.running.mu.Lock()
			clear(w.service.running.keys)
			w.service.running.mu.Unlock()
			arrived <- struct{}{}
			<-goOn
		}
	})
	names := make(chan string, 3)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			sync, err := call.send(t.Context(), w.syncs)
			for rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE) {
				sync, err = call.send(t.Context(), w.syncs)
			}
			if err != nil {
				t.Error(err)
			}
			names <- sync.GetName()
		})
		<-arrived
	}
	close(goOn)
	group.Wait()
	if first, second, third := <-names, <-names, <-names; first != second || first != third {
		t.Error("the same request was answered differently")
	}
	all, err := w.syncs.ListSyncs(t.Context(), &localv1.ListSyncsRequest{Parent: members})
	w.must(err)
	if len(all.GetSyncs()) != 1 {
		t.Errorf("there are %d syncs", len(all.GetSyncs()))
	}
	w.agrees(members)
}

func TestStandingBeforeAndAfter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 20_000)).applied())
	version := w.list(members).GetEtag()
	sync := w.sync(replace("crm", people(3, 20_005)).applied())
	if sync.GetStandingUnavailable() || sync.GetStandingBefore().GetMembership().GetTotal() != 3 || sync.GetStandingAfter().GetMembership().GetTotal() != 8 {
		t.Fatalf("the standings are %v and %v", sync.GetStandingBefore(), sync.GetStandingAfter())
	}
	if h := w.international.header; h.GetSite() != "sites/main" || h.GetList() != members || h.GetVersion().GetVersion() != version {
		t.Errorf("international was asked about %v", h)
	}
	stored, err := w.syncs.GetSync(t.Context(), &localv1.GetSyncRequest{Name: sync.GetName()})
	w.must(err)
	if stored.GetStandingAfter().GetMembership().GetTotal() != 8 {
		t.Errorf("stored is %v", stored)
	}
}

func TestSyncWithoutInternational(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.PreviewTimeout = 200 * time.Millisecond })
	check := func(what string) {
		t.Helper()
		sync := w.sync(replace("crm", people(0, 3)).applied())
		if sync.GetState() != localv1.Sync_APPLIED || !sync.GetStandingUnavailable() || sync.GetStandingBefore() != nil || sync.GetStandingAfter() != nil {
			t.Errorf("%s: the sync is %v", what, sync)
		}
	}
	w.international.set(func() { w.international.refuse = status.Error(codes.Unavailable, "down") })
	check("down")
	w.international.set(func() { w.international.refuse = status.Error(codes.ResourceExhausted, "too many") })
	check("limited")
	hang := make(chan struct{})
	defer close(hang)
	w.international.set(func() { w.international.entered = func() { <-hang } })
	check("hanging")
	w.service.standings = nil
	check("not configured")
}

func TestSecondHeader(t *testing.T) {
	t.Parallel()
	w := setup(t)
	call := replace("crm", "")
	stream, err := call.start(t.Context(), w.syncs)
	w.must(err)
	w.must(stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: call.header}}))
	_, err = stream.CloseAndRecv()
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)

	stream, err = w.syncs.CreateSync(t.Context())
	w.must(err)
	w.must(sendChunk(stream, []byte("email\n")))
	if _, err = stream.CloseAndRecv(); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("an upload without a header: %v", err)
	}
}
