package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// ServerConfig is what a server needs; only Verifier has no default.
type ServerConfig struct {
	// Log takes the access log; nil discards it.
	Log *slog.Logger
	// Registerer takes the metrics; nil leaves the server unmeasured.
	Registerer prometheus.Registerer
	// Verifier finds out who calls.
	Verifier authz.Verifier
	// Hierarchy knows what a scope lies in; nil: nothing lies in anything.
	Hierarchy authz.Hierarchy
	// Ready says why the service cannot serve, nil when it can; asked every second for the health service.
	Ready func(context.Context) error
	// TLS is the server's certificate; nil serves plain text.
	TLS *tls.Config
	// Tracing hands spans to OpenTelemetry's global provider.
	Tracing bool
	// MaxMessageBytes is the largest message taken; 4 MiB when zero.
	MaxMessageBytes int
	// Undeclared hears of a reason that a method gave without declaring it in the proto; nil logs it. Tests fail on it.
	Undeclared func(method string, reason errorv1.Reason)
	// DrainTimeout is how long running calls may take to end when the server stops; 10 s when zero.
	DrainTimeout time.Duration
}

const (
	defaultMaxMessageBytes = 4 << 20
	defaultDrainTimeout    = 10 * time.Second
	readyInterval          = time.Second
	maxHeaderBytes         = 64 << 10
)

func (cfg ServerConfig) withDefaults() ServerConfig {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context) error { return nil }
	}
	if cfg.Undeclared == nil {
		cfg.Undeclared = func(method string, reason errorv1.Reason) {
			cfg.Log.Warn("the method does not declare this reason in its proto", "method", method, "reason", reasonName(reason))
		}
	}
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = defaultMaxMessageBytes
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = defaultDrainTimeout
	}
	return cfg
}

// Server is a gRPC server with the platform's interceptors, health and reflection.
type Server struct {
	cfg    ServerConfig
	grpc   *grpc.Server
	health *health.Server
	chain  *chain
}

// NewServer builds a server; register adds the service's implementations to it. It fails when a method does not say who
// may call it.
func NewServer(cfg ServerConfig, register func(*grpc.Server)) (*Server, error) {
	if cfg.Verifier == nil {
		return nil, errors.New("server: no token verifier")
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, health: health.NewServer(), chain: &chain{maxBytes: cfg.MaxMessageBytes}}
	s.grpc = grpc.NewServer(s.options()...)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	reflection.Register(s.grpc)
	register(s.grpc)
	return s, s.intercept()
}

// intercept fills the chain, which needs to know the registered services.
func (s *Server) intercept() error {
	services, err := authz.ServicesOf(s.grpc)
	if err != nil {
		return err
	}
	rules, err := authz.NewRules(services...)
	if err != nil {
		return fmt.Errorf("permissions: %w", err)
	}
	validator, err := newValidator(services)
	if err != nil {
		return err
	}
	meter, err := newMeter(s.cfg.Registerer)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	gate := &gate{verifier: s.cfg.Verifier, authorizer: authz.NewAuthorizer(s.cfg.Hierarchy), validator: validator}
	s.chain.rules = rules
	s.chain.arounds = []around{
		recoverPanic,
		meter.measure,
		identify,
		accessLog{s.cfg.Log}.write,
		newTranslator(services, s.cfg.Undeclared).translate,
		gate.authenticate,
	}
	s.chain.inspects = []inspect{
		gate.authorise,
		gate.validate,
	}
	return nil
}

func (s *Server) options() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.chain.unary),
		grpc.ChainStreamInterceptor(s.chain.stream),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "no such method")
		}),
		grpc.MaxRecvMsgSize(s.cfg.MaxMessageBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
	if s.cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	if s.cfg.Tracing {
		options = append(options, grpc.StatsHandler(otelgrpc.NewServerHandler()))
	}
	return options
}

// Serve answers calls on lis until ctx ends, then lets running calls finish for at most the drain timeout. When it
// returns, no handler runs any more.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go s.watchReadiness(watching)

	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(lis) }()
	select {
	case err := <-served:
		s.grpc.Stop()
		return fmt.Errorf("serve %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	s.drain()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", lis.Addr(), err)
	}
	return nil
}

func (s *Server) drain() {
	s.health.Shutdown()
	deadline := time.AfterFunc(s.cfg.DrainTimeout, s.grpc.Stop)
	defer deadline.Stop()
	s.grpc.GracefulStop()
}

// watchReadiness keeps the health service's answer current.
func (s *Server) watchReadiness(ctx context.Context) {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		s.reportReadiness(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) reportReadiness(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyInterval)
	defer cancel()
	state := healthv1.HealthCheckResponse_SERVING
	if s.cfg.Ready(ctx) != nil {
		state = healthv1.HealthCheckResponse_NOT_SERVING
	}
	s.health.SetServingStatus("", state)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, state)
	}
}
