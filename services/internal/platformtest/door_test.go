package platformtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// door is a way into the platform.
type door interface {
	name() string
	// call makes a step's call once.
	call(t testing.TB, s step) answer
}

// doors are both, telling every error to the recorder.
func (f *federation) doors(errs *recorder) []door {
	return []door{grpcDoor{f, errs}, restDoor{f, errs}}
}

// recorder keeps what is to be searched later.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

type grpcDoor struct {
	*federation
	errs *recorder
}

func (grpcDoor) name() string { return "GRPC" }

func (d grpcDoor) call(t testing.TB, s step) answer {
	t.Helper()
	ctx := bounded(t, patience)
	if s.as != nobody {
		ctx = d.as(ctx, t, s.as.role, s.as.scope)
	}
	method, request, _ := strings.Cut(s.grpc, " ")
	descriptor := methodOf(t, method)
	in := newMessage(t, descriptor.Input())
	if request != "" {
		must(t, protojson.Unmarshal([]byte(request), in))
	}
	out := newMessage(t, descriptor.Output())
	tier, _, _ := strings.Cut(method, ".")
	var err error
	if descriptor.IsStreamingClient() {
		switch sent := in.(type) {
		case *localv1.CreateSyncRequest:
			out, err = d.upload(ctx, sent.GetHeader(), s)
		case *internationalv1.ImportMembersRequest:
			sent.GetHeader().ContentType = s.media
			out, err = importFile(ctx, d.imports, sent.GetHeader(), s.source)
		default:
			t.Fatalf("%s is no upload", method)
		}
	} else {
		err = d.conns[tier].Invoke(ctx, "/chapterhouse."+method, in, out)
	}
	if err != nil {
		return d.refused(err)
	}
	text := get(protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(out))(t)
	return answer{body: decoded(t, text)}
}

func (d grpcDoor) upload(ctx context.Context, header *localv1.CreateSyncHeader, s step) (proto.Message, error) {
	header.ContentType = s.media
	return upload(ctx, d.syncs, header, []byte(s.source))
}

// upload sends a source in one piece.
func upload(ctx context.Context, client localv1.SyncServiceClient, header *localv1.CreateSyncHeader, source []byte) (*localv1.Sync, error) {
	stream, err := client.CreateSync(ctx)
	if err != nil {
		return nil, err
	}
	send := func(r *localv1.CreateSyncRequest) error {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
			return err
		}
		return nil
	}
	if err := send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: header}}); err != nil {
		return nil, err
	}
	if err := send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: source}}); err != nil {
		return nil, err
	}
	return stream.CloseAndRecv()
}

func (d grpcDoor) refused(err error) answer {
	info, st := rpc.InfoOf(err), status.Convert(err)
	text, jsonErr := protojson.Marshal(st.Proto())
	if jsonErr != nil {
		text = []byte(err.Error())
	}
	_, _ = d.errs.Write(append(text, '\n'))
	return answer{raw: string(text), refusal: &refusal{reason: info.GetReason(), code: st.Code(), metadata: info.GetMetadata()}}
}

func methodOf(t testing.TB, name string) protoreflect.MethodDescriptor {
	t.Helper()
	service, method, _ := strings.Cut("chapterhouse."+name, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	must(t, err)
	return found.(protoreflect.MethodDescriptor)
}

func newMessage(t testing.TB, descriptor protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	return get(protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName()))(t).New().Interface()
}

func decoded(t testing.TB, text []byte) any {
	t.Helper()
	if len(bytes.TrimSpace(text)) == 0 {
		return map[string]any{}
	}
	var value any
	must(t, json.Unmarshal(text, &value))
	return value
}

type restDoor struct {
	*federation
	errs *recorder
}

func (restDoor) name() string { return "REST" }

// restClient makes a connection of its own for each test's server.
var restClient = &http.Client{Timeout: 2 * patience, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Second}}

func (d restDoor) call(t testing.TB, s step) answer {
	t.Helper()
	verb, rest, _ := strings.Cut(s.rest, " ")
	path, body, _ := strings.Cut(rest, " ")
	media := "application/json"
	if s.media != "" {
		body, media = s.source, s.media
	}
	r := get(http.NewRequestWithContext(bounded(t, patience), verb, d.rest+path, strings.NewReader(body)))(t)
	if body != "" {
		r.Header.Set("Content-Type", media)
	}
	if s.as != nobody {
		r.Header.Set("Authorization", "Bearer "+d.token(t, s.as.role, s.as.scope))
	}
	if name, value, ok := strings.Cut(s.header, ": "); ok {
		r.Header.Set(name, value)
	}
	status, text := send(t, r)
	if status < 300 {
		return answer{body: decoded(t, text)}
	}
	_, _ = d.errs.Write(append(text, '\n'))
	return answer{raw: string(text), refusal: problemIn(t, status, text)}
}

func send(t testing.TB, r *http.Request) (status int, body []byte) {
	t.Helper()
	response := get(restClient.Do(r))(t)
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, get(io.ReadAll(response.Body))(t)
}

// problemIn reads the platform's one error body.
func problemIn(t testing.TB, status int, text []byte) *refusal {
	t.Helper()
	var p struct {
		Type, Title, Detail, Instance, Message string
		Status                                 int
		Code                                   codes.Code
		Details                                []struct {
			Type     string `json:"@type"`
			Reason   string
			Domain   string
			Metadata map[string]string
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatalf("status %d without an error body: %s", status, text)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" || p.Message == "" || p.Instance == "" || p.Type == "" {
		t.Errorf("status %d with an incomplete error body: %s", status, text)
	}
	r := &refusal{code: p.Code, status: status}
	for _, detail := range p.Details {
		if strings.HasSuffix(detail.Type, "ErrorInfo") {
			r.reason, r.metadata = detail.Reason, detail.Metadata
			if detail.Domain != rpc.Domain {
				t.Errorf("domain %q in %s", detail.Domain, text)
			}
		}
	}
	return r
}
