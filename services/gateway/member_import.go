package gateway

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

const (
	importPath        = "/v1/members:import"
	membersPath       = "/v1/members"
	importChangesPath = "/v1/{parent=memberImports/*}/changes"
)

var importChangeColumns = []string{"kind", "line", "address", "displayName", "termEndTime", "member", "code", "text"}

// importMembers streams a file to the international service as its bytes arrive, and hands the answer back.
func (g *gateway) importMembers(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	_ = http.NewResponseController(w).SetWriteDeadline(never)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	up := &upload{cancel: cancel, patience: &patience{w: w, limit: g.cfg.IdleTimeout}}
	header, err := importHeader(r)
	if err == nil {
		up.source, err = g.source(r, up.patience)
	}
	if err == nil {
		ctx, err = runtime.AnnotateContext(ctx, g.api, r, internationalv1.MemberImportService_ImportMembers_FullMethodName)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := &internationalv1.MemberImport{}
	md, err := up.run(importStream(ctx, g.imports, header), answer)
	defer up.stop()
	_ = http.NewResponseController(w).SetWriteDeadline(clock.System{}.Now().Add(writeSlack))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{HeaderMD: md})
	_, out := runtime.MarshalerForRequest(g.api, r)
	runtime.ForwardResponseMessage(ctx, g.api, out, w, r, answer, g.api.GetForwardResponseOptions()...)
}

func importStream(ctx context.Context, client internationalv1.MemberImportServiceClient, header *internationalv1.ImportMembersHeader) sender {
	stream, err := client.ImportMembers(ctx)
	return sender{
		stream: stream, err: err,
		header: &internationalv1.ImportMembersRequest{Part: &internationalv1.ImportMembersRequest_Header{Header: header}},
		chunk: func(chunk []byte) proto.Message {
			return &internationalv1.ImportMembersRequest{Part: &internationalv1.ImportMembersRequest_Chunk{Chunk: chunk}}
		},
	}
}

// importHeader makes an upload's first message of its parameters and headers.
func importHeader(r *http.Request) (*internationalv1.ImportMembersHeader, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	header := &internationalv1.ImportMembersHeader{ContentType: r.Header.Get("Content-Type")}
	if err := checkSourceType(header.GetContentType()); err != nil {
		return nil, err
	}
	problems := setImportParameters(header, query)
	key := r.Header.Get(headerIdempotencyKey)
	if key != "" && header.GetRequestId() != "" && header.GetRequestId() != key {
		problems.add("requestId", "differs from the Idempotency-Key")
	}
	if header.GetRequestId() == "" {
		header.RequestId = key
	}
	if err := problems.refusal(); err != nil {
		return nil, err
	}
	return header, rpc.Validate("", header)
}

func setImportParameters(header *internationalv1.ImportMembersHeader, query url.Values) *complaints {
	problems := &complaints{}
	for name, values := range query {
		switch {
		case name != "apply" && name != "requestId":
			problems.add(name, unknownParameter([]string{"apply", "requestId"}))
		case len(values) > 1:
			problems.add(name, "is given more than once")
		case name == "requestId":
			if header.RequestId = values[0]; !idempotencyKey.MatchString(values[0]) {
				problems.add(name, "must be 1 to 200 printable ASCII characters without spaces")
			}
		default:
			apply, err := strconv.ParseBool(values[0])
			if header.Apply = apply; err != nil {
				problems.add(name, "must be true or false")
			}
		}
	}
	return problems
}

// memberRow is a member in the columns of source.MemberColumns: the first verified address, else the first, and the others.
func memberRow(member *internationalv1.Member) []string {
	first := ""
	var others []string
	for _, verified := range []bool{true, false} {
		for _, address := range member.GetAddresses() {
			switch {
			case address.GetVerified() != verified:
			case first == "":
				first = address.GetAddress()
			default:
				others = append(others, address.GetAddress())
			}
		}
	}
	return []string{
		strings.TrimPrefix(member.GetName(), "members/"),
		source.Protected(member.GetDisplayName()),
		source.Protected(first),
		source.Protected(strings.Join(others, " ")),
		member.GetState().String(),
		timestamp(member.GetTermStartTime()),
		timestamp(member.GetTermEndTime()),
		timestamp(member.GetActiveUntilTime()),
		timestamp(member.GetCreateTime()),
	}
}

func importChangeRow(change *internationalv1.MemberImportChange) []string {
	return []string{
		change.GetKind().String(),
		lineNumber(change.GetLine()),
		source.Protected(change.GetAddress()),
		source.Protected(change.GetDisplayName()),
		timestamp(change.GetTermEndTime()),
		change.GetMember(),
		change.GetCode(),
		source.Protected(change.GetText()),
	}
}
