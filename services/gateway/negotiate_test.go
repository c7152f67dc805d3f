package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
)

// answersSyncs makes the service answer uploads with a sync in this state, and returns the last header.
func (w *world) answersSyncs(state localv1.Sync_State) func() *localv1.CreateSyncHeader {
	headers := make(chan *localv1.CreateSyncHeader, 1)
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		headers <- receive(stream).header
		return stream.SendMsg(&localv1.Sync{Name: "chapters/golang-paris/lists/members/syncs/1", State: state, Etag: "1-1"})
	})
	return func() *localv1.CreateSyncHeader { return <-headers }
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	header := w.answersSyncs(localv1.Sync_PLANNED)
	for _, c := range []struct {
		prefer []string
		async  bool
		wait   int32
	}{
		{nil, false, 0},
		{[]string{"respond-async"}, true, 0},
		{[]string{"respond-async, wait=10"}, true, 10},
		{[]string{"Respond-Async", "Wait = \"7\""}, true, 7},
		{[]string{"respond-async; x=1, wait=61"}, true, 60},
		{[]string{"wait=99999999999999999999, respond-async"}, true, 60},
		{[]string{"wait=-1, respond-async"}, true, 0},
		{[]string{"wait=soon, respond-async"}, true, 0},
		{[]string{"wait=5, wait=9, respond-async"}, true, 5},
		{[]string{"wait=5"}, false, 0},
		{[]string{`note="respond-async, wait=5", handling=lenient`}, false, 0},
		{[]string{"respond-sync"}, false, 0},
	} {
		headers := []string{asCSV}
		for _, value := range c.prefer {
			headers = append(headers, "Prefer: "+value)
		}
		got := w.do(http.MethodPost, syncPath, "address\n", headers...)
		if sent := header(); sent.GetRespondAsync() != c.async || sent.GetWaitSeconds() != c.wait {
			t.Errorf("%q: %v", c.prefer, sent)
		}
		if got.status != http.StatusOK || got.header.Get("Preference-Applied") != "" || got.header.Get("Location") != "" {
			t.Errorf("%q: %d %v", c.prefer, got.status, got.header)
		}
	}
}

func TestSyncThatIsStillPlanned(t *testing.T) {
	t.Parallel()
	w := setup(t)
	header := w.answersSyncs(localv1.Sync_PLANNING)
	got := w.do(http.MethodPost, syncPath, "address\n", asCSV, "Prefer: respond-async, wait=0")
	header()
	if got.status != http.StatusAccepted || got.json(t)["state"] != "PLANNING" || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	for name, want := range map[string]string{
		"Location": "/v1/chapters/golang-paris/lists/members/syncs/1", "Retry-After": "1", "Preference-Applied": "respond-async", "Cache-Control": "no-store",
	} {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	// The first answer to an Idempotency-Key, given again to a call that does not ask for it.
	got = w.do(http.MethodPost, syncPath, "address\n", asCSV)
	header()
	if got.status != http.StatusAccepted || got.header.Get("Preference-Applied") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

func (w *world) hasEntries(etag string, entries ...*localv1.Entry) {
	on(w, localv1.ListService_ListEntries_FullMethodName, func(context.Context, *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		return &localv1.ListEntriesResponse{Entries: entries, Etag: etag}, nil
	})
}

const (
	acceptNDJSON = "Accept: application/x-ndjson"
	entriesOf    = listPath + "/entries"
)

// The forms of one state are told apart, and each is confirmed by its own ETag.
func TestETagOfEachForm(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.hasEntries("17-4", &localv1.Entry{Address: "ada@example.org"})
	for accept, etag := range map[string]string{"Accept: */*": `"17-4"`, acceptCSV: `"17-4-csv"`, acceptNDJSON: `"17-4-ndjson"`} {
		got := w.do(http.MethodGet, entriesOf, "", accept)
		if got.status != http.StatusOK || got.header.Get("ETag") != etag || got.header.Get("Cache-Control") != "private, no-cache" ||
			strings.Join(got.header.Values("Vary"), ", ") != "Accept, Authorization" || !strings.Contains(got.body, "ada@example.org") {
			t.Errorf("%s: %d %v", accept, got.status, got.header)
		}
		for named, status := range map[string]int{
			etag: 304, "W/" + etag: 304, "*": 304, `"x", ` + etag + `, "y"`: 304, `"a,b",W/` + etag: 304,
			`"17-5"`: 200, `"17-4-xml"`: 200, "17-4": 200, "": 200,
		} {
			again := w.do(http.MethodGet, entriesOf, "", accept, "If-None-Match: "+named)
			if again.status != status || (status == http.StatusNotModified) != (again.body == "") || again.header.Get("ETag") != etag {
				t.Errorf("%s, If-None-Match: %s: %d %v %q", accept, named, again.status, again.header, again.body)
			}
			if status == http.StatusNotModified && (again.header.Get("Content-Type") != "" || again.header.Get("Cache-Control") != "private, no-cache" ||
				len(again.header.Values("Vary")) != 2) {
				t.Errorf("%s: 304 with %v", accept, again.header)
			}
		}
	}
	if got := w.do(http.MethodGet, entriesOf, "", acceptCSV, `If-None-Match: "17-4"`); got.status != http.StatusOK {
		t.Errorf("the JSON's ETag confirms the CSV: %d", got.status)
	}
}

func TestIfNoneMatchOfOneResource(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_GetList_FullMethodName, func(context.Context, *localv1.GetListRequest) (*localv1.List, error) {
		return &localv1.List{Etag: "17-4"}, nil
	})
	on(w, localv1.ListService_UpdateList_FullMethodName, func(context.Context, *localv1.UpdateListRequest) (*localv1.List, error) {
		return &localv1.List{Etag: "17-4"}, nil
	})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if got := w.do(method, listPath, "", `If-None-Match: "17-3", "17-4"`); got.status != http.StatusNotModified || got.body != "" {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
	// A change is answered whatever the caller knew before, and is kept nowhere.
	got := w.do(http.MethodPatch, listPath, `{"displayName":"x"}`, asJSON, `If-None-Match: "17-4"`)
	if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" || got.header.Get("ETag") != `"17-4"` {
		t.Errorf("%d %v", got.status, got.header)
	}
	w.refuses(context.DeadlineExceeded)
	if got := w.do(http.MethodGet, listPath, "", "If-None-Match: *"); got.status != http.StatusGatewayTimeout || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// An ETag of any form is a condition, and a point to follow from.
func TestETagOfAFormIsUnderstood(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_DeleteList_FullMethodName, func(context.Context, *localv1.DeleteListRequest) (*localv1.List, error) {
		return &localv1.List{}, nil
	})
	for given, want := range map[string]string{
		`"17-4-csv"`: `"17-4"`, `W/"17-4-ndjson"`: `W/"17-4"`, `"17-3", "17-4-csv"`: `"17-3", "17-4"`, "17-4-csv": "17-4", "*": "*", `"17-4"`: `"17-4"`,
	} {
		w.do(http.MethodDelete, listPath, "", "If-Match: "+given)
		if got := w.lastCall().metadata.Get("if-match"); len(got) != 1 || got[0] != want {
			t.Errorf("If-Match: %s is handed on as %q", given, got)
		}
	}
	var since string
	on(w, localv1.ListService_FollowList_FullMethodName, func(_ context.Context, r *localv1.FollowListRequest) (*localv1.FollowListResponse, error) {
		since = r.GetSince()
		return &localv1.FollowListResponse{NextSince: "17-5"}, nil
	})
	for _, given := range []string{"17-4", "17-4-csv", "%2217-4-ndjson%22", "W/%2217-4%22"} {
		if got := w.do(http.MethodGet, listPath+"/changes?pageSize=3&since="+given, ""); got.status != http.StatusOK || since != "17-4" {
			t.Errorf("since=%s: %d, %q", given, got.status, since)
		}
	}
}

// A wait that the caller asks for comes on top of the time that the answer may take.
func TestFollowWaitsLongerThanACallMay(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.RequestTimeout = 200 * time.Millisecond })
	on(w, localv1.ListService_FollowList_FullMethodName, func(ctx context.Context, r *localv1.FollowListRequest) (*localv1.FollowListResponse, error) {
		left, ok := ctx.Deadline()
		if want := time.Duration(r.GetWaitSeconds()) * time.Second; !ok || time.Until(left) < want {
			return nil, fmt.Errorf("only %s are left", time.Until(left))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(min(r.GetWaitSeconds(), 1)) * time.Second):
			return &localv1.FollowListResponse{NextSince: "17-4"}, nil
		}
	})
	for _, wait := range []string{"0", "1", "25"} {
		if got := w.do(http.MethodGet, listPath+"/changes?since=17-4&waitSeconds="+wait, ""); got.status != http.StatusOK {
			t.Errorf("waitSeconds=%s: %d %s", wait, got.status, got.body)
		}
	}
	if got := w.do(http.MethodGet, listPath+"/changes?since=17-4&waitSeconds=long", ""); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestFollowEndsWithTheClient(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ended := make(chan struct{})
	on(w, localv1.ListService_FollowList_FullMethodName, func(ctx context.Context, _ *localv1.FollowListRequest) (*localv1.FollowListResponse, error) {
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	conn := w.dial()
	conn.write("GET " + listPath + "/changes?since=17-4&waitSeconds=25 HTTP/1.1\r\nHost: x\r\n\r\n")
	within(t, "the call reaches the service", func() bool { return w.called() == 1 })
	_ = conn.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the service is not told")
	}
}

func TestExportAsNDJSON(t *testing.T) {
	t.Parallel()
	w := setup(t)
	seen := timestamppb.New(time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC))
	on(w, localv1.ListService_ListEntries_FullMethodName, func(_ context.Context, r *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		if r.GetSource() != "crm" || r.GetAddress() != "ada@example.org" || r.GetPageSize() != 1000 {
			t.Errorf("the service got %v", r)
		}
		page, _ := strconv.Atoi(r.GetPageToken())
		answer := &localv1.ListEntriesResponse{Entries: []*localv1.Entry{{
			Address: fmt.Sprintf("p%d@example.org", page), DisplayName: "=1 <b>", Sources: []string{"crm"},
			Claims: []*localv1.Claim{{Source: "crm", FirstSeenTime: seen, LastSeenTime: seen}},
		}}}
		if page < 2 {
			answer.NextPageToken = strconv.Itoa(page + 1)
		}
		return answer, nil
	})
	got := w.do(http.MethodGet, entriesOf+"?source=crm&address=ada@example.org", "", acceptNDJSON)
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/x-ndjson" ||
		got.header.Get("Content-Disposition") != `attachment; filename="golang-paris-members.ndjson"` || got.header.Get("ETag") != "" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	var want string
	for page := range 3 {
		want += fmt.Sprintf(`{"name":"","address":"p%d@example.org","displayName":"=1 <b>","state":"STATE_UNSPECIFIED","sources":["crm"],"etag":"",`+
			`"claims":[{"source":"crm","firstSeenTime":"2026-01-31T09:00:00Z","lastSeenTime":"2026-01-31T09:00:00Z"}]}`+"\n", page)
	}
	if got.body != want {
		t.Errorf("got\n%s\nwant\n%s", got.body, want)
	}
}

// HEAD asks for one page, however long the list is.
func TestHeadOfAnExport(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_ListEntries_FullMethodName, func(context.Context, *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		return &localv1.ListEntriesResponse{Entries: []*localv1.Entry{{Address: "ada@example.org"}}, NextPageToken: "more", Etag: "1-1"}, nil
	})
	got := w.do(http.MethodHead, entriesOf, "", acceptCSV)
	if got.status != http.StatusOK || got.header.Get("ETag") != `"1-1-csv"` || got.body != "" || w.called() != 1 {
		t.Errorf("%d %v, %d calls", got.status, got.header, w.called())
	}
}

func TestExportOfChanges(t *testing.T) {
	t.Parallel()
	w := setup(t)
	since := timestamppb.New(time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC))
	on(w, localv1.SyncService_ListSyncChanges_FullMethodName, func(_ context.Context, r *localv1.ListSyncChangesRequest) (*localv1.ListSyncChangesResponse, error) {
		if r.GetParent() != "chapters/golang-paris/lists/members/syncs/0198-1" || r.GetFilter() != "kind = REMOVE OR kind = ADD" || r.GetPageSize() != 1000 {
			t.Errorf("the service got %v", r)
		}
		if r.GetPageToken() == "" {
			return &localv1.ListSyncChangesResponse{NextPageToken: "2", Changes: []*localv1.SyncChange{
				{Kind: localv1.SyncChange_UPDATE, Line: 3, Address: "=a@example.org", DisplayName: "@ada", PreviousDisplayName: "-ada"},
				{Kind: localv1.SyncChange_REJECTED, Line: 4, Code: "EMAIL_DOMAIN", Text: "not a domain, that mail can be sent to"},
			}}, nil
		}
		return &localv1.ListSyncChangesResponse{Changes: []*localv1.SyncChange{
			{Kind: localv1.SyncChange_REMOVE, Address: "bob@example.org", DisplayName: "Bob"},
			{Kind: localv1.SyncChange_SUPPRESSED, Line: 5, Address: "eve@example.org", Code: "UNSUBSCRIBED", SinceTime: since},
			{Kind: localv1.SyncChange_DUPLICATE, Line: 6, Address: "eve@example.org", FirstLine: 5},
		}}, nil
	})
	path := listPath + "/syncs/0198-1/changes?filter=kind+%3D+REMOVE+OR+kind+%3D+ADD"
	got := w.do(http.MethodGet, path, "", acceptCSV)
	if got.status != http.StatusOK || got.header.Get("Content-Disposition") != `attachment; filename="golang-paris-members-changes-0198-1.csv"` ||
		got.header.Get("Cache-Control") != "no-store" || got.header.Get("Vary") != "Accept" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	if want := `kind,line,address,displayName,previousDisplayName,code,text,sinceTime,firstLine
UPDATE,3,'=a@example.org,'@ada,'-ada,,,,
REJECTED,4,,,,EMAIL_DOMAIN,"not a domain, that mail can be sent to",,
REMOVE,,bob@example.org,Bob,,,,,
SUPPRESSED,5,eve@example.org,,,UNSUBSCRIBED,,2026-01-31T09:00:00Z,
DUPLICATE,6,eve@example.org,,,,,,5
`; got.body != want {
		t.Errorf("got\n%s\nwant\n%s", got.body, want)
	}
	if lines := w.do(http.MethodGet, path, "", acceptNDJSON); strings.Count(lines.body, "\n") != 5 || !strings.HasPrefix(lines.body, `{"kind":"UPDATE","line":3,`) {
		t.Errorf("%s", lines.body)
	}
	paged := w.do(http.MethodGet, path+"&pageToken=1", "", acceptCSV)
	paged.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
	paged.wantField(t, "pageToken")
}
