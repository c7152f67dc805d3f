package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// world is a gateway on a port of its own, before services that answer what the test says.
type world struct {
	t        *testing.T
	url      string
	client   *http.Client
	services map[string]*service
	log      *logbook
	registry *prometheus.Registry
	stop     context.CancelFunc
	stopped  chan error

	mu    sync.Mutex
	on    map[string]func(grpc.ServerStream) error
	calls []call
}

// call is a call that reached a service.
type call struct {
	method   string
	metadata metadata.MD
}

type service struct {
	server *grpc.Server
	health *health.Server
	conn   *grpc.ClientConn
}

func setup(t *testing.T, changes ...func(*gateway.Config)) *world {
	t.Helper()
	w := &world{
		t: t, services: map[string]*service{}, on: map[string]func(grpc.ServerStream) error{},
		log: &logbook{}, registry: prometheus.NewRegistry(), stopped: make(chan error, 1),
		client: newClient(),
	}
	for _, name := range []string{"international", "regional", "local"} {
		w.services[name] = w.serve()
	}
	var cfg gateway.Config
	for _, change := range changes {
		change(&cfg)
	}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler, err := gateway.New(t.Context(), gateway.Deps{
		International: w.services["international"].conn,
		Regional:      w.services["regional"].conn,
		Local:         w.services["local"].conn,
		Log:           log, Registerer: w.registry, Config: cfg,
	})
	if err != nil {
		t.Fatal(err)
	}
	lis := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	w.url, w.stop = "http://"+lis.Addr().String(), stop
	go func() { w.stopped <- gateway.Serve(ctx, lis, handler, cfg, log) }()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		stop()
		select {
		case err := <-w.stopped:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
			w.stopped <- err
		case <-time.After(20 * time.Second):
			t.Error("the gateway does not stop")
		}
	})
	return w
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 30 * time.Second}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func (w *world) serve() *service {
	w.t.Helper()
	s := &service{health: health.NewServer()}
	s.server = grpc.NewServer(grpc.UnknownServiceHandler(w.answer))
	healthv1.RegisterHealthServer(s.server, s.health)
	lis := listen(w.t)
	go func() { _ = s.server.Serve(lis) }()
	w.t.Cleanup(s.server.Stop)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	s.conn = conn
	return s
}

func (w *world) answer(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.Method(stream.Context())
	md, _ := metadata.FromIncomingContext(stream.Context())
	w.mu.Lock()
	w.calls = append(w.calls, call{method, md})
	handler := w.on[method]
	w.mu.Unlock()
	if handler == nil {
		return fmt.Errorf("the test expects no %s", method)
	}
	return handler(stream)
}

// lastCall returns the last call that reached a service.
func (w *world) lastCall() call {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) == 0 {
		w.t.Fatal("no call reached a service")
	}
	return w.calls[len(w.calls)-1]
}

func (w *world) called() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// stream says how a method is answered.
func (w *world) stream(method string, handler func(grpc.ServerStream) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on[method] = handler
}

// on says how a unary method is answered.
func on[Req, Res any, PReq interface {
	*Req
	proto.Message
}](w *world, method string, answer func(context.Context, PReq) (*Res, error)) {
	w.stream(method, func(stream grpc.ServerStream) error {
		request := PReq(new(Req))
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		result, err := answer(stream.Context(), request)
		if err != nil {
			return err
		}
		return stream.SendMsg(result)
	})
}

// refuses makes GetList, the test's ordinary call, answer with an error.
func (w *world) refuses(err error) {
	on(w, localv1.ListService_GetList_FullMethodName, func(context.Context, *localv1.GetListRequest) (*localv1.List, error) {
		return nil, err
	})
}

const listPath = "/v1/chapters/golang-paris/lists/members"

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return w.send(method, path, reader, headers...)
}

// send sends a request with headers given as "Name: value".
func (w *world) send(method, path string, body io.Reader, headers ...string) answer {
	w.t.Helper()
	result, err := w.try(method, path, body, headers...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return result
}

func (w *world) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, w.url+path, body)
	if err != nil {
		return answer{}, err
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

const asJSON = "Content-Type: application/json"

// wantError checks everything that holds for all errors, and returns the body.
func (a answer) wantError(t *testing.T, status int, reason string) map[string]any {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %q", got)
	}
	body := a.json(t)
	for _, field := range []string{"type", "title", "status", "detail", "instance", "code", "message", "details"} {
		if _, ok := body[field]; !ok {
			t.Errorf("the error has no %s: %s", field, a.body)
		}
	}
	if got := body["status"]; got != float64(status) {
		t.Errorf("status in the body is %v", got)
	}
	info := body["details"].([]any)[0].(map[string]any)
	if info["@type"] != "type.googleapis.com/google.rpc.ErrorInfo" || info["domain"] != rpc.Domain {
		t.Errorf("the first detail is %v", info)
	}
	if info["reason"] != reason {
		t.Errorf("reason %v, want %s: %s", info["reason"], reason, a.body)
	}
	if got, want := body["type"], "/docs/errors#"+reason; got != want {
		t.Errorf("type %v, want %s", got, want)
	}
	if id := a.header.Get("X-Request-Id"); id == "" || body["instance"] != "urn:chapterhouse:request:"+id {
		t.Errorf("instance %v, X-Request-Id %q", body["instance"], id)
	}
	return body
}

// wantField checks that an error names a field, and returns what it says of it.
func (a answer) wantField(t *testing.T, field string) string {
	t.Helper()
	details, _ := a.json(t)["details"].([]any)
	for _, detail := range details {
		violations, _ := detail.(map[string]any)["fieldViolations"].([]any)
		for _, violation := range violations {
			if v := violation.(map[string]any); v["field"] == field {
				return v["description"].(string)
			}
		}
	}
	t.Errorf("the error does not name %s: %s", field, a.body)
	return ""
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(a.body), &value); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return value
}

// within waits for a condition.
func within(t *testing.T, what string, condition func() bool) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() (bool, string) { return condition(), what })
}

// logbook collects log lines.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}
