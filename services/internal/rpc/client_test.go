package rpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestDialSendsNoTokenInPlainTextElsewhere(t *testing.T) {
	t.Parallel()
	for _, here := range []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/x", "dns:///127.0.0.1:1"} {
		conn, err := rpc.Dial(here, nil)
		must(t, err)
		must(t, conn.Close())
	}
	for _, elsewhere := range []string{"10.0.0.1:1", "international:1", "dns:///international:1", "localhost.example.org:1", "[2001:db8::1]:1", "passthrough:///10.0.0.1:1"} {
		if _, err := rpc.Dial(elsewhere, nil); err == nil {
			t.Errorf("dials %s in plain text", elsewhere)
		}
		for _, option := range []rpc.DialOption{rpc.WithPlaintext(), rpc.WithTLS(&tls.Config{MinVersion: tls.VersionTLS13})} {
			conn, err := rpc.Dial(elsewhere, nil, option)
			must(t, err)
			must(t, conn.Close())
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	w := setup(t, answering(&internationalv1.Member{}, nil), func(cfg *rpc.ServerConfig) {
		cfg.TLS = &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS13}
	})
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	token := rpc.StaticToken(w.token(authz.InternationalStaff, authz.Federation))
	conn, err := rpc.Dial(w.addr, token, rpc.WithTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}))
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = internationalv1.NewMemberServiceClient(conn).CreateMember(t.Context(), ada())
	must(t, err)

	_, err = w.staff().CreateMember(t.Context(), ada()) // in plain text
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestTracingWorksWithoutAProvider(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil), func(cfg *rpc.ServerConfig) { cfg.Tracing = true })
	conn, err := rpc.Dial(w.addr, rpc.StaticToken(w.token(authz.InternationalStaff, authz.Federation)), rpc.WithTracing())
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = internationalv1.NewMemberServiceClient(conn).CreateMember(t.Context(), ada())
	must(t, err)
}

// TestCallersTokenGoesBeforeTheConnections is how the gateway speaks for its callers on a connection of its own.
func TestCallersTokenGoesBeforeTheConnections(t *testing.T) {
	t.Parallel()
	callers := make(chan authz.Principal, 1)
	w := setup(t, &service{createMember: func(ctx context.Context, _ *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		callers <- authz.FromContext(ctx)
		return &internationalv1.Member{}, nil
	}})
	client := internationalv1.NewMemberServiceClient(w.as(authz.Site, "sites/west"))
	ctx := withMetadata(t, "authorization", "Bearer "+w.token(authz.InternationalStaff, authz.Federation))
	_, err := client.CreateMember(ctx, ada())
	must(t, err)
	if caller := received(t, callers); caller.Subject != "international_staff of federation" {
		t.Errorf("got %+v", caller)
	}
}

func TestMintedTokenIsRenewedInTime(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil))
	staff := authz.Principal{Subject: "s", Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: authz.Federation}}}
	source := rpc.MintedToken(w.signer, staff, w.clock)
	client := internationalv1.NewMemberServiceClient(w.dial(source))
	var tokens []string
	for range 10 {
		_, err := client.CreateMember(t.Context(), ada())
		must(t, err)
		token, err := source(t.Context())
		must(t, err)
		if len(tokens) == 0 || tokens[len(tokens)-1] != token {
			tokens = append(tokens, token)
		}
		w.clock.Advance(time.Minute)
	}
	if len(tokens) != 2 {
		t.Errorf("%d tokens in ten minutes", len(tokens))
	}
}

func TestTokenFileIsReadAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	source := rpc.TokenFile(path)
	if _, err := source(t.Context()); err == nil {
		t.Error("no error without the file")
	}
	for _, want := range []string{"one", "two"} {
		must(t, os.WriteFile(path, []byte(want+"\n"), 0o600))
		if got, err := source(t.Context()); err != nil || got != want {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestConnectionSurvivesTheServer stops the server under an open connection; another takes its place.
func TestConnectionSurvivesTheServer(t *testing.T) {
	t.Parallel()
	first := setup(t, answering(&internationalv1.Member{}, nil))
	var addr atomic.Value // where the one name of the service leads to
	addr.Store(first.addr)
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr.Load().(string))
	})
	conn, err := rpc.Dial("passthrough:///localhost:1", nil, rpc.WithGRPC(dialer))
	must(t, err)
	defer func() { _ = conn.Close() }()
	call := func(w *world) error {
		ctx := withMetadata(t, "authorization", "Bearer "+w.token(authz.InternationalStaff, authz.Federation))
		_, err := internationalv1.NewMemberServiceClient(conn).CreateMember(ctx, ada())
		return err
	}
	must(t, call(first))
	first.stop()
	testkit.Eventually(t, limit, func() (bool, string) {
		return status.Code(call(first)) == codes.Unavailable, "the server still answers"
	})
	second := setup(t, answering(&internationalv1.Member{}, nil))
	addr.Store(second.addr)
	testkit.Eventually(t, limit, func() (bool, string) {
		return call(second) == nil, "the connection does not find the server again"
	})
}
