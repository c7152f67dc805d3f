package gateway

import (
	"context"
	"encoding/csv"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	entriesPath = "/v1/{parent=chapters/*/lists/*}/entries"
	mediaCSV    = "text/csv"
	exportPage  = 1000
)

var exportColumns = []string{"address", "displayName", "state", "sources", "createTime", "updateTime"}

// exportEntries answers all entries of a list as CSV. Once the first page is written an error can no longer be told:
// the connection is broken off, so that nobody takes the part for the whole.
func (g *gateway) exportEntries(w http.ResponseWriter, r *http.Request, matched *route, params map[string]string) {
	request, err := exportRequest(r, matched, params["parent"])
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx, err := runtime.AnnotateContext(r.Context(), g.api, r, localv1.ListService_ListEntries_FullMethodName)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	page, err := g.exportedPage(ctx, request)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", `attachment; filename="`+exportName(request.GetParent())+`"`)
	out := csv.NewWriter(w)
	_ = out.Write(exportColumns) // the writer keeps its error
	for {
		if err := g.writePage(w, out, page); err != nil {
			panic(http.ErrAbortHandler)
		}
		if page.GetNextPageToken() == "" {
			return
		}
		request.PageToken = page.GetNextPageToken()
		if page, err = g.exportedPage(ctx, request); err != nil {
			g.log.WarnContext(ctx, "export broken off", "request_id", rpc.RequestID(ctx), "code", status.Code(err).String())
			panic(http.ErrAbortHandler)
		}
	}
}

// exportRequest takes the query's filter; an export has no pages.
func exportRequest(r *http.Request, matched *route, parent string) (*localv1.ListEntriesRequest, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	if err := matched.checkQuery(query); err != nil {
		return nil, err
	}
	var problems complaints
	for _, name := range []string{"pageSize", "pageToken"} {
		if query.Has(name) {
			problems.add(name, "is not for CSV, which holds all entries")
		}
	}
	if err := problems.refusal(); err != nil {
		return nil, err
	}
	request := &localv1.ListEntriesRequest{}
	if err := runtime.PopulateQueryParameters(request, query, utilities.NewDoubleArray(nil)); err != nil {
		return nil, err
	}
	request.Parent, request.PageSize = parent, exportPage
	return request, nil
}

func (g *gateway) exportedPage(ctx context.Context, request *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.RequestTimeout)
	defer cancel()
	return g.lists.ListEntries(ctx, request, grpc.MaxCallRecvMsgSize(exportMessageBytes))
}

// exportMessageBytes is room for a page of the longest entries.
const exportMessageBytes = 16 << 20

func (g *gateway) writePage(w http.ResponseWriter, out *csv.Writer, page *localv1.ListEntriesResponse) error {
	// Only a client that reads nothing for so long is given up.
	_ = http.NewResponseController(w).SetWriteDeadline(g.clock.Now().Add(g.cfg.IdleTimeout))
	for _, entry := range page.GetEntries() {
		_ = out.Write(exportRow(entry))
	}
	out.Flush()
	return out.Error()
}

func exportRow(entry *localv1.Entry) []string {
	return []string{
		harmless(entry.GetAddress()),
		harmless(entry.GetDisplayName()),
		entry.GetState().String(),
		strings.Join(entry.GetSources(), ";"),
		timestamp(entry.GetCreateTime()),
		timestamp(entry.GetUpdateTime()),
	}
}

func timestamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

// harmless keeps a spreadsheet from taking text that somebody chose for a formula (OWASP, CSV injection).
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// exportName is a file name of the ids, which hold nothing that a header or a file system minds.
func exportName(parent string) string {
	parts := strings.Split(parent, "/")
	return parts[1] + "-" + parts[3] + ".csv"
}
