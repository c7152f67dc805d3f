package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// doorCase is one call and what comes of it, through whichever door. {door} and what earlier cases saved stand for
// themselves in every text.
type doorCase struct {
	Name       string
	Call       string // the RPC
	As         string // role and scope; empty for nobody
	Request    map[string]any
	Upload     string
	Eventually bool // the answer rests on events that are under way
	Reason     string
	Want       map[string]any
	Save       map[string]string
}

// outcome is what a door gives back, in one shape for both.
type outcome struct {
	Code    float64
	Reason  string
	Message string
	Body    map[string]any // the answer, or the ErrorInfo's metadata
}

type door func(t *testing.T, c doorCase) outcome

// The cases run through both doors, on a world of their own each, and come out the same.
func TestBothDoors(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a platform")
	}
	p := startPlatform(t)
	tokens := &tokens{t: t, platform: p}
	doors := map[string]door{"grpc": tokens.grpcDoor(p), "rest": tokens.restDoor(p.Endpoints.REST)}
	text, err := os.ReadFile("testdata/doors.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []json.RawMessage
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	saved := map[string]map[string]string{"grpc": {"door": "grpc"}, "rest": {"door": "rest"}}
	for _, raw := range cases {
		outcomes := map[string]outcome{}
		for name, through := range doors {
			outcomes[name] = runCase(t, name, through, raw, saved[name])
		}
		if !reflect.DeepEqual(outcomes["grpc"], outcomes["rest"]) {
			t.Errorf("%s:\n gRPC %+v\n REST %+v", raw, outcomes["grpc"], outcomes["rest"])
		}
	}
}

func runCase(t *testing.T, name string, through door, raw json.RawMessage, saved map[string]string) outcome {
	t.Helper()
	text := string(raw)
	for key, value := range saved {
		text = strings.ReplaceAll(text, "{"+key+"}", value)
	}
	var c doorCase
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	got := through(t, c)
	if c.Eventually {
		testkit.Eventually(t, 20*time.Second, func() (bool, string) {
			got = through(t, c)
			return got.meets(c) == "", name + ": " + c.Name + ": " + got.meets(c)
		})
	}
	if complaint := got.meets(c); complaint != "" {
		t.Fatalf("%s: %s: %s", name, c.Name, complaint)
	}
	for key, path := range c.Save {
		saved[key] = fmt.Sprint(at(got.Body, path))
	}
	return got.general(name)
}

// meets says in which way an outcome is not what the case wants; empty when it is.
func (o outcome) meets(c doorCase) string {
	if o.Reason != c.Reason {
		return fmt.Sprintf("%s (%s), want reason %q", o.Reason, o.Message, c.Reason)
	}
	for path, want := range c.Want {
		if got := at(o.Body, path); !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
	}
	return ""
}

func at(value any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		if list, ok := value.([]any); ok && key == "length" {
			return float64(len(list))
		}
		object, _ := value.(map[string]any)
		value = object[key]
	}
	return value
}

var (
	passing   = regexp.MustCompile(`^(etag|.*Time|.*Etag|nextPageToken|registerPosition|version)$`)
	accidents = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|\be[0-9a-v]{55}\b|\b[0-9]{16}-[0-9]+\b`)
)

// general takes out what two calls of the same kind cannot have in common: times, ids and the order of ids, the name of
// the door.
func (o outcome) general(door string) outcome {
	var clean func(any) any
	clean = func(value any) any {
		switch v := value.(type) {
		case map[string]any:
			for key := range v {
				if v[key] = clean(v[key]); passing.MatchString(key) {
					v[key] = v[key] != ""
				}
			}
		case []any:
			for i := range v {
				v[i] = clean(v[i])
			}
			slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		case string:
			return accidents.ReplaceAllString(strings.ReplaceAll(v, door, "door"), "*")
		}
		return value
	}
	o.Body, _ = clean(o.Body).(map[string]any)
	o.Message, _ = clean(o.Message).(string)
	o.Message = strings.TrimPrefix(o.Message, "header.") // over REST these are parameters
	return o
}

func startPlatform(t *testing.T) *platform.Platform {
	t.Helper()
	dir, err := postgres.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	p, err := platform.Start(t.Context(), platform.Options{Data: dir, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(p.Stop(ctx), postgres.Remove(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return p
}

// tokens signs people in.
type tokens struct {
	t        *testing.T
	platform *platform.Platform
}

// bearer returns the authorization of "role scope", "" for nobody.
func (k *tokens) bearer(as string) string {
	k.t.Helper()
	if as == "" {
		return ""
	}
	role, scope, _ := strings.Cut(as, " ")
	token, err := k.platform.Mint(authz.Role(role), scope, time.Hour)
	if err != nil {
		k.t.Fatal(err)
	}
	return "Bearer " + token
}

func (k *tokens) grpcDoor(p *platform.Platform) door {
	conns := map[string]*grpc.ClientConn{}
	for _, tier := range []string{"international", "regional", "local"} {
		conn, err := p.Dial(tier, nil)
		if err != nil {
			k.t.Fatal(err)
		}
		conns[tier] = conn
	}
	return func(t *testing.T, c doorCase) outcome {
		method := methodNamed(t, c.Call)
		ctx := t.Context()
		if bearer := k.bearer(c.As); bearer != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", bearer)
		}
		conn := conns[strings.Split(string(method.FullName()), ".")[1]]
		answer := newMessage(t, method.Output())
		var err error
		if method.IsStreamingClient() {
			answer, err = upload(ctx, t, conn, c)
		} else {
			request := newMessage(t, method.Input())
			unmarshal(t, c.Request, request)
			err = conn.Invoke(ctx, "/"+string(method.Parent().FullName())+"/"+c.Call, request, answer)
		}
		return ofGRPC(t, answer, err)
	}
}

func upload(ctx context.Context, t *testing.T, conn *grpc.ClientConn, c doorCase) (proto.Message, error) {
	header := &localv1.CreateSyncHeader{}
	unmarshal(t, c.Request, header)
	stream, err := localv1.NewSyncServiceClient(conn).CreateSync(ctx)
	if err != nil {
		return nil, err
	}
	// A send that fails is explained by the answer.
	_ = stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: header}})
	if c.Upload != "" {
		_ = stream.Send(&localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: []byte(c.Upload)}})
	}
	return stream.CloseAndRecv()
}

func ofGRPC(t *testing.T, answer proto.Message, err error) outcome {
	t.Helper()
	if err != nil {
		info := rpc.InfoOf(err)
		o := outcome{Code: float64(status.Code(err)), Reason: info.GetReason(), Message: status.Convert(err).Message(), Body: map[string]any{}}
		for key, value := range info.GetMetadata() {
			o.Body[key] = value
		}
		return o
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{}
	if err := json.Unmarshal(text, &o.Body); err != nil {
		t.Fatal(err)
	}
	return o
}

func (k *tokens) restDoor(base string) door {
	w := &world{t: k.t, url: strings.TrimSuffix(base, "/"), client: newClient()}
	k.t.Cleanup(w.client.CloseIdleConnections)
	return func(t *testing.T, c doorCase) outcome {
		httpMethod, path, body, contentType := transcode(t, c)
		headers := []string{"Content-Type: " + contentType}
		if bearer := k.bearer(c.As); bearer != "" {
			headers = append(headers, "Authorization: "+bearer)
		}
		return ofREST(t, w.do(httpMethod, path, body, headers...))
	}
}

func ofREST(t *testing.T, got answer) outcome {
	t.Helper()
	body := got.json(t)
	if got.status < 400 {
		return outcome{Body: body}
	}
	info := body["details"].([]any)[0].(map[string]any)
	o := outcome{Body: map[string]any{}}
	o.Code, _ = body["code"].(float64)
	o.Reason, _ = info["reason"].(string)
	o.Message, _ = body["message"].(string)
	if md, ok := info["metadata"].(map[string]any); ok {
		o.Body = md
	}
	return o
}

// transcode makes the HTTP request that the method's rule says.
func transcode(t *testing.T, c doorCase) (httpMethod, path, body, contentType string) {
	t.Helper()
	var request map[string]any // of our own: what goes into the path is taken out of it
	if err := json.Unmarshal([]byte(encode(t, c.Request)), &request); err != nil {
		t.Fatal(err)
	}
	if c.Call == "CreateSync" {
		contentType, _ = request["contentType"].(string)
		path = fmt.Sprintf("/v1/%s/syncs", request["parent"])
		delete(request, "contentType")
		delete(request, "parent")
		return "POST", path + query(request), c.Upload, contentType
	}
	rule, _ := proto.GetExtension(methodNamed(t, c.Call).Options(), annotations.E_Http).(*annotations.HttpRule)
	httpMethod, template := methodAndPath(rule)
	path = pathVariable.ReplaceAllStringFunc(template, func(variable string) string {
		name := pathVariable.FindStringSubmatch(variable)[1]
		resource, field := request, name
		if outer, inner, nested := strings.Cut(name, "."); nested {
			resource, field = request[outer].(map[string]any), inner
		}
		value := fmt.Sprint(resource[field])
		delete(resource, field)
		return value
	})
	switch rule.GetBody() {
	case "":
	case "*":
		body, request = encode(t, request), nil
	default:
		body = encode(t, request[rule.GetBody()])
		delete(request, rule.GetBody())
	}
	return httpMethod, path + query(request), body, "application/json"
}

var pathVariable = regexp.MustCompile(`\{([a-z_.]+)=[^}]+\}`)

func query(parameters map[string]any) string {
	values := url.Values{}
	for name, value := range parameters {
		values.Set(name, fmt.Sprint(value))
	}
	return "?" + values.Encode()
}

func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(text))
}

func methodNamed(t *testing.T, name string) (found protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			if method := file.Services().Get(i).Methods().ByName(protoreflect.Name(name)); method != nil {
				found = method
			}
		}
		return found == nil
	})
	if found == nil {
		t.Fatalf("there is no method %s", name)
	}
	return found
}

func newMessage(t *testing.T, descriptor protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

func unmarshal(t *testing.T, value map[string]any, message proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(encode(t, value)), message); err != nil {
		t.Fatal(err)
	}
}
