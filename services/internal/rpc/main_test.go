package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// limit bounds every wait of a test.
const limit = 20 * time.Second

// service answers with what a test puts in; a nil function is an unimplemented method.
type service struct {
	internationalv1.UnimplementedMemberServiceServer
	localv1.UnimplementedSyncServiceServer
	localv1.UnimplementedListServiceServer

	createMember func(context.Context, *internationalv1.CreateMemberRequest) (*internationalv1.Member, error)
	renewMember  func(context.Context, *internationalv1.RenewMemberRequest) (*internationalv1.Member, error)
	getSync      func(context.Context, *localv1.GetSyncRequest) (*localv1.Sync, error)
	createSync   func(localv1.SyncService_CreateSyncServer) error
}

func (s *service) CreateMember(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
	if s.createMember == nil {
		return s.UnimplementedMemberServiceServer.CreateMember(ctx, req)
	}
	return s.createMember(ctx, req)
}

func (s *service) RenewMember(ctx context.Context, req *internationalv1.RenewMemberRequest) (*internationalv1.Member, error) {
	if s.renewMember == nil {
		return s.UnimplementedMemberServiceServer.RenewMember(ctx, req)
	}
	return s.renewMember(ctx, req)
}

func (s *service) GetSync(ctx context.Context, req *localv1.GetSyncRequest) (*localv1.Sync, error) {
	if s.getSync == nil {
		return s.UnimplementedSyncServiceServer.GetSync(ctx, req)
	}
	return s.getSync(ctx, req)
}

// ListLists answers nothing; the tests of scopes use it.
func (*service) ListLists(context.Context, *localv1.ListListsRequest) (*localv1.ListListsResponse, error) {
	return &localv1.ListListsResponse{}, nil
}

func (s *service) CreateSync(stream localv1.SyncService_CreateSyncServer) error {
	if s.createSync == nil {
		return s.UnimplementedSyncServiceServer.CreateSync(stream)
	}
	return s.createSync(stream)
}

// world is a running server and all that it was given.
type world struct {
	t        *testing.T
	clock    *clock.Fake
	signer   *authz.Signer
	log      *syncBuffer
	registry *prometheus.Registry
	addr     string
	stop     context.CancelFunc // begins to drain
	served   chan error         // what Serve returned
	mu       sync.Mutex
	reasons  []errorv1.Reason // that were not declared
}

// setup serves svc on loopback; changes adapt the configuration.
func setup(t *testing.T, svc *service, changes ...func(*rpc.ServerConfig)) *world {
	t.Helper()
	dir := t.TempDir()
	must(t, authz.GenerateKey(dir))
	signer, err := authz.LoadSigner(filepath.Join(dir, authz.SigningKeyFile))
	must(t, err)
	w := &world{
		t: t, clock: clock.NewFake(noon), signer: signer, log: &syncBuffer{},
		registry: prometheus.NewRegistry(), served: make(chan error, 1),
	}
	verifier, err := authz.NewStaticVerifier(filepath.Join(dir, authz.JWKSFile), w.clock)
	must(t, err)
	cfg := rpc.ServerConfig{
		Log:        slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: w.registry,
		Verifier:   verifier,
		Undeclared: w.undeclared,
	}
	for _, change := range changes {
		change(&cfg)
	}
	server, err := rpc.NewServer(cfg, func(s *grpc.Server) {
		internationalv1.RegisterMemberServiceServer(s, svc)
		localv1.RegisterSyncServiceServer(s, svc)
		localv1.RegisterListServiceServer(s, svc)
	})
	must(t, err)
	w.serve(server)
	return w
}

func (w *world) serve(server *rpc.Server) {
	w.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.addr = lis.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.served <- server.Serve(ctx, lis) }()
	w.t.Cleanup(func() {
		stop()
		select {
		case err := <-w.served:
			if err != nil {
				w.t.Error(err)
			}
		case <-time.After(limit):
			w.t.Error("the server does not stop")
		}
	})
}

func (w *world) undeclared(_ string, reason errorv1.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reasons = append(w.reasons, reason)
}

func (w *world) undeclaredReasons() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reasons)
}

func (w *world) token(role authz.Role, scope string) string {
	w.t.Helper()
	principal := authz.Principal{Subject: string(role) + " of " + scope, Grants: []authz.Grant{{Role: role, Scope: scope}}}
	token, err := authz.Mint(w.signer, principal, time.Hour, w.clock.Now())
	must(w.t, err)
	return token
}

// as connects with the token of a role; nobody is "".
func (w *world) as(role authz.Role, scope string) *grpc.ClientConn {
	w.t.Helper()
	if role == "" {
		return w.dial(nil)
	}
	return w.dial(rpc.StaticToken(w.token(role, scope)))
}

func (w *world) dial(tokens rpc.TokenSource) *grpc.ClientConn {
	w.t.Helper()
	conn, err := rpc.Dial(w.addr, tokens)
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) staff() internationalv1.MemberServiceClient {
	w.t.Helper()
	return internationalv1.NewMemberServiceClient(w.as(authz.InternationalStaff, authz.Federation))
}

// paris speaks for the admin of chapters/golang-paris.
func (w *world) paris() localv1.SyncServiceClient {
	w.t.Helper()
	return localv1.NewSyncServiceClient(w.as(authz.ChapterAdmin, "chapters/golang-paris"))
}

func ada() *internationalv1.CreateMemberRequest {
	return &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{DisplayName: "Ada Rao"}}
}

// answering is a createMember that always gives the same result.
func answering(member *internationalv1.Member, err error) *service {
	return &service{createMember: func(context.Context, *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		return member, err
	}}
}

func withMetadata(t *testing.T, pairs ...string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), pairs...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, code codes.Code, reason errorv1.Reason) {
	t.Helper()
	if status.Code(err) != code || !rpc.Is(err, reason) {
		t.Fatalf("got %v %v: %v; want %v %v", status.Code(err), rpc.ReasonOf(err), err, code, reason)
	}
}

// received waits for a value on a channel.
func received[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(limit):
		t.Fatal("waited in vain")
	}
	panic("unreachable")
}

type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

var errDisk = errors.New("disk on fire at ada@example.org")
