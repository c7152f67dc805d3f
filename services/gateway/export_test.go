package gateway_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const acceptCSV = "Accept: text/csv"

func TestExport(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := time.Date(2026, 1, 31, 9, 0, 0, 123456000, time.UTC)
	const pages = 3
	on(w, localv1.ListService_ListEntries_FullMethodName, func(_ context.Context, r *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		if r.GetParent() != "chapters/golang-paris/lists/members" || r.GetPageSize() != 1000 || r.GetState() != localv1.Entry_SUBSCRIBED {
			t.Errorf("the service got %v", r)
		}
		page, _ := strconv.Atoi(r.GetPageToken())
		answer := &localv1.ListEntriesResponse{}
		for i := range 1000 {
			answer.Entries = append(answer.Entries, &localv1.Entry{
				Address: fmt.Sprintf("p%d@example.org", page*1000+i), DisplayName: "Ada \"A\", Rao", State: localv1.Entry_SUBSCRIBED,
				Sources: []string{"crm", "manual"}, CreateTime: timestamppb.New(at),
			})
		}
		if page+1 < pages {
			answer.NextPageToken = strconv.Itoa(page + 1)
		}
		return answer, nil
	})
	got := w.do(http.MethodGet, listPath+"/entries?state=SUBSCRIBED", "", acceptCSV, "Authorization: Bearer abc")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" ||
		got.header.Get("Content-Disposition") != `attachment; filename="golang-paris-members.csv"` {
		t.Fatalf("%d %v", got.status, got.header)
	}
	rows, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1+1000*pages {
		t.Fatalf("%d rows", len(rows))
	}
	if header := strings.Join(rows[0], " "); header != "address displayName state sources createTime updateTime" {
		t.Errorf("the header is %s", header)
	}
	if last := strings.Join(rows[len(rows)-1], "|"); last != `p2999@example.org|Ada "A", Rao|SUBSCRIBED|crm;manual|2026-01-31T09:00:00.123456Z|` {
		t.Errorf("the last row is %s", last)
	}
	if w.lastCall().metadata.Get("authorization")[0] != "Bearer abc" {
		t.Error("the token is not handed on")
	}
}

func TestExportedTextIsNoFormula(t *testing.T) {
	t.Parallel()
	w := setup(t)
	names := []string{"=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''=1", "'Tis", "plain", ""}
	on(w, localv1.ListService_ListEntries_FullMethodName, func(context.Context, *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		answer := &localv1.ListEntriesResponse{}
		for _, name := range names {
			answer.Entries = append(answer.Entries, &localv1.Entry{Address: "=cmd|'x'!a1@example.org", DisplayName: name})
		}
		return answer, nil
	})
	rows, err := csv.NewReader(strings.NewReader(w.do(http.MethodGet, listPath+"/entries", "", acceptCSV).body)).ReadAll()
	if err != nil || len(rows) != len(names)+1 {
		t.Fatalf("%v %v", rows, err)
	}
	for i, name := range names {
		row := rows[i+1]
		want := name
		if name != "" && strings.ContainsAny(strings.TrimLeft(name, "'")[:1], "=+-@\t\r") {
			want = "'" + name
		}
		// A carriage return in a quoted cell is read as a line feed, or dropped, by whoever reads it.
		if strings.ReplaceAll(row[1], "\n", "\r") != want || row[0] != "'=cmd|'x'!a1@example.org" {
			t.Errorf("row %d is %q, want %q", i, row, want)
		}
	}
}

func TestExportIsChosenByAccept(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_ListEntries_FullMethodName, func(context.Context, *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		return &localv1.ListEntriesResponse{}, nil
	})
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/json": "application/json", "text/html": "application/json",
		"application/x-ndjson": "application/x-ndjson", "text/csv;q=0.5, application/x-ndjson": "application/x-ndjson", "text/csv;q=0": "application/json",
		"text/csv, application/json;q=0.5": "text/csv; charset=utf-8; header=present", "application/json, text/csv;q=0.5": "application/json",
		"TEXT/CSV, */*": "text/csv; charset=utf-8; header=present", `text/csv;x="a,b"`: "text/csv; charset=utf-8; header=present",
		"text/csv; q=0.9": "text/csv; charset=utf-8; header=present", "application/xml, text/csv": "text/csv; charset=utf-8; header=present",
	} {
		if got := w.do(http.MethodGet, listPath+"/entries", "", "Accept: "+accept); got.header.Get("Content-Type") != want {
			t.Errorf("%q gets %s", accept, got.header.Get("Content-Type"))
		}
	}
	// Nothing else is CSV.
	on(w, localv1.ListService_GetList_FullMethodName, func(context.Context, *localv1.GetListRequest) (*localv1.List, error) { return &localv1.List{}, nil })
	if got := w.do(http.MethodGet, listPath, "", acceptCSV); got.header.Get("Content-Type") != "application/json" {
		t.Errorf("a list is %s", got.header.Get("Content-Type"))
	}
}

func TestExportThatIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_ListEntries_FullMethodName, func(context.Context, *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		return nil, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "only the chapter's admins")
	})
	w.do(http.MethodGet, listPath+"/entries", "", acceptCSV).wantError(t, http.StatusForbidden, "PERMISSION_DENIED")
	for _, parameter := range []string{"pageSize", "pageToken", "colour"} {
		got := w.do(http.MethodGet, listPath+"/entries?"+parameter+"=1", "", acceptCSV)
		got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		got.wantField(t, parameter)
	}
}

// Half an export must not look like a whole one.
func TestExportThatBreaksOff(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_ListEntries_FullMethodName, func(_ context.Context, r *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		if r.GetPageToken() != "" {
			return nil, rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "gone")
		}
		return &localv1.ListEntriesResponse{Entries: []*localv1.Entry{{Address: "ada@example.org"}}, NextPageToken: "1"}, nil
	})
	got, err := w.try(http.MethodGet, listPath+"/entries", nil, acceptCSV)
	if err == nil {
		t.Errorf("the client takes it for whole: %s", got.body)
	}
	within(t, "the log says so", func() bool { return strings.Contains(w.log.String(), `"aborted":true`) })
}
