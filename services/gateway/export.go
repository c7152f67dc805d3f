package gateway

import (
	"bufio"
	"context"
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

const (
	entriesPath = "/v1/{parent=chapters/*/lists/*}/entries"
	changesPath = "/v1/{parent=chapters/*/lists/*/syncs/*}/changes"
	mediaCSV    = "text/csv"
	exportPage  = 1000
	// exportMessageBytes is room for a page of the longest entries.
	exportMessageBytes = 16 << 20
)

var changeColumns = []string{"kind", "line", "address", "displayName", "previousDisplayName", "code", "text", "sinceTime", "firstLine"}

// export is a list method whose pages are also answered as one stream: of CSV, or of NDJSON, which holds what a cell
// cannot, such as when each source saw an entry.
type export struct {
	method  string
	columns []string
	row     func(proto.Message) []string
	fetch   func(ctx context.Context, request proto.Message) (batch, error)
}

// batch is what is exported of an answer.
type batch struct {
	rows []proto.Message
	next string
	etag string
}

// newExports returns the exports by the pattern of their route.
func newExports(
	lists localv1.ListServiceClient, syncs localv1.SyncServiceClient,
	members internationalv1.MemberServiceClient, imports internationalv1.MemberImportServiceClient,
) map[string]*export {
	return map[string]*export{
		membersPath: newExport(internationalv1.MemberService_ListMembers_FullMethodName, members.ListMembers,
			(*internationalv1.ListMembersResponse).GetMembers, source.MemberColumns, memberRow),
		importChangesPath: newExport(internationalv1.MemberImportService_ListMemberImportChanges_FullMethodName, imports.ListMemberImportChanges,
			(*internationalv1.ListMemberImportChangesResponse).GetChanges, importChangeColumns, importChangeRow),
		entriesPath: newExport(localv1.ListService_ListEntries_FullMethodName, lists.ListEntries,
			(*localv1.ListEntriesResponse).GetEntries, source.ExportColumns, entryRow),
		changesPath: newExport(localv1.SyncService_ListSyncChanges_FullMethodName, syncs.ListSyncChanges,
			(*localv1.ListSyncChangesResponse).GetChanges, changeColumns, changeRow),
	}
}

func newExport[Request, Response, Row proto.Message](
	method string,
	call func(context.Context, Request, ...grpc.CallOption) (Response, error),
	rows func(Response) []Row,
	columns []string,
	row func(Row) []string,
) *export {
	return &export{
		method:  method,
		columns: columns,
		row:     func(message proto.Message) []string { return row(message.(Row)) },
		fetch: func(ctx context.Context, request proto.Message) (batch, error) {
			response, err := call(ctx, request.(Request), grpc.MaxCallRecvMsgSize(exportMessageBytes))
			if err != nil {
				return batch{}, err
			}
			fetched := batch{next: textOf(response, "next_page_token"), etag: textOf(response, "etag")}
			for _, row := range rows(response) {
				fetched.rows = append(fetched.rows, row)
			}
			return fetched, nil
		},
	}
}

// textOf is the text of a field, empty where the message has no such field.
func textOf(message proto.Message, name protoreflect.Name) string {
	field := message.ProtoReflect().Descriptor().Fields().ByName(name)
	if field == nil {
		return ""
	}
	return message.ProtoReflect().Get(field).String()
}

// answerExport answers all pages as one stream. Once the first page is written an error can no longer be told: the
// connection is broken off, so that nobody takes the part for the whole.
func (g *gateway) answerExport(e *export, form string, matched *route) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		request, err := exportRequest(r, matched, params["parent"])
		if err != nil {
			g.fail(w, r, err)
			return
		}
		ctx, err := runtime.AnnotateContext(r.Context(), g.api, r, e.method)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		first, err := g.exportedPage(ctx, e, request)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		if first.etag != "" {
			w.Header().Set("ETag", quoted(first.etag+formSuffixes[form]))
		}
		if notModified(w, r) {
			return
		}
		out := e.begin(w, form, params["parent"])
		if exchangeOf(ctx).headOnly {
			return
		}
		if err := g.streamPages(ctx, w, e, request, out, first); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (g *gateway) streamPages(ctx context.Context, w http.ResponseWriter, e *export, request proto.Message, out rowWriter, next batch) error {
	for {
		// Only a client that reads nothing for so long is given up.
		_ = http.NewResponseController(w).SetWriteDeadline(g.clock.Now().Add(g.cfg.IdleTimeout))
		for _, row := range next.rows {
			if err := out.write(row); err != nil {
				return err
			}
		}
		if err := out.flush(); err != nil || next.next == "" {
			return err
		}
		setField(request, "page_token", protoreflect.ValueOfString(next.next))
		var err error
		if next, err = g.exportedPage(ctx, e, request); err != nil {
			g.log.WarnContext(ctx, "export broken off", "request_id", rpc.RequestID(ctx), "code", status.Code(err).String())
			return err
		}
	}
}

func (g *gateway) exportedPage(ctx context.Context, e *export, request proto.Message) (batch, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.RequestTimeout)
	defer cancel()
	return e.fetch(ctx, request)
}

// exportRequest takes the query's filters; an export has no pages.
func exportRequest(r *http.Request, matched *route, parent string) (proto.Message, error) {
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
			problems.add(name, "is for JSON only: CSV and NDJSON hold everything")
		}
	}
	if err := problems.refusal(); err != nil {
		return nil, err
	}
	request := matched.input.New().Interface()
	if err := runtime.PopulateQueryParameters(request, query, utilities.NewDoubleArray(nil)); err != nil {
		return nil, err
	}
	if parent != "" {
		setField(request, "parent", protoreflect.ValueOfString(parent))
	}
	setField(request, "page_size", protoreflect.ValueOfInt32(exportPage))
	return request, nil
}

func setField(message proto.Message, name protoreflect.Name, value protoreflect.Value) {
	reflected := message.ProtoReflect()
	reflected.Set(reflected.Descriptor().Fields().ByName(name), value)
}

// rowWriter writes rows in the form of an export. Errors are those of the connection.
type rowWriter interface {
	write(row proto.Message) error
	flush() error
}

func (e *export) begin(w http.ResponseWriter, form, parent string) rowWriter {
	if form == mediaNDJSON {
		w.Header().Set("Content-Type", mediaNDJSON)
		w.Header().Set("Content-Disposition", attachment(parent, ".ndjson"))
		return &jsonLines{bufio.NewWriter(w), jsonMarshaler()}
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", attachment(parent, ".csv"))
	out := csv.NewWriter(w)
	_ = out.Write(e.columns) // the writer keeps its error
	return &cells{out, e.row}
}

type cells struct {
	out *csv.Writer
	row func(proto.Message) []string
}

func (c *cells) write(row proto.Message) error { return c.out.Write(c.row(row)) }

func (c *cells) flush() error {
	c.out.Flush()
	return c.out.Error()
}

type jsonLines struct {
	out     *bufio.Writer
	marshal marshaler
}

func (j *jsonLines) write(row proto.Message) error {
	line, err := j.marshal.Marshal(row)
	if err != nil {
		return err
	}
	_, err = j.out.Write(line)
	return err
}

func (j *jsonLines) flush() error { return j.out.Flush() }

// entryRow has no claims: each source has its own times, which a row has no cells for. NDJSON has them.
func entryRow(entry *localv1.Entry) []string {
	return []string{
		source.Protected(entry.GetAddress()),
		source.Protected(entry.GetDisplayName()),
		entry.GetState().String(),
		strings.Join(entry.GetSources(), ";"),
		timestamp(entry.GetCreateTime()),
		timestamp(entry.GetUpdateTime()),
	}
}

func changeRow(change *localv1.SyncChange) []string {
	return []string{
		change.GetKind().String(),
		lineNumber(change.GetLine()),
		source.Protected(change.GetAddress()),
		source.Protected(change.GetDisplayName()),
		source.Protected(change.GetPreviousDisplayName()),
		change.GetCode(),
		source.Protected(change.GetText()),
		timestamp(change.GetSinceTime()),
		lineNumber(change.GetFirstLine()),
	}
}

// lineNumber is empty where there is no line.
func lineNumber(line int32) string {
	if line == 0 {
		return ""
	}
	return strconv.Itoa(int(line))
}

func timestamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

// attachment names a file by the ids, which hold nothing that a header or a file system minds.
func attachment(parent, extension string) string {
	parts := strings.Split(parent, "/")
	name := "members"
	switch len(parts) {
	case 2: // memberImports/x
		name = "members-import-" + parts[1]
	case 4: // chapters/x/lists/y
		name = parts[1] + "-" + parts[3]
	case 6: // chapters/x/lists/y/syncs/z
		name = parts[1] + "-" + parts[3] + "-changes-" + parts[5]
	}
	return `attachment; filename="` + name + extension + `"`
}
