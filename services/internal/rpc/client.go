package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// DialOption changes how Dial connects.
type DialOption func(*dialing)

type dialing struct {
	tls      *tls.Config
	plain    bool
	tracing  bool
	maxBytes int
	extra    []grpc.DialOption
}

// WithTLS encrypts the connection.
func WithTLS(config *tls.Config) DialOption { return func(d *dialing) { d.tls = config } }

// WithPlaintext allows an unencrypted connection to another machine, for networks that encrypt by themselves.
func WithPlaintext() DialOption { return func(d *dialing) { d.plain = true } }

// WithTracing hands spans to OpenTelemetry's global provider, and the trace to the server.
func WithTracing() DialOption { return func(d *dialing) { d.tracing = true } }

// WithMaxMessageBytes is the largest answer taken; 4 MiB without it.
func WithMaxMessageBytes(n int) DialOption { return func(d *dialing) { d.maxBytes = n } }

// WithGRPC adds options of gRPC's own.
func WithGRPC(options ...grpc.DialOption) DialOption {
	return func(d *dialing) { d.extra = append(d.extra, options...) }
}

// Dial makes a connection that carries the request id and, unless the call's outgoing metadata has an authorization
// already, a token of the source (nil: none). It refuses to send tokens in plain text to another machine unless told to.
// The server need not be up: calls fail with UNAVAILABLE until it is, and find it again within seconds.
func Dial(addr string, tokens TokenSource, options ...DialOption) (*grpc.ClientConn, error) {
	d := dialing{maxBytes: defaultMaxMessageBytes}
	for _, option := range options {
		option(&d)
	}
	if d.tls == nil && !d.plain && !staysHere(addr) {
		return nil, fmt.Errorf("dial %s: neither TLS nor permission for plain text", addr)
	}
	conn, err := grpc.NewClient(addr, d.grpcOptions(tokens)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

func (d dialing) grpcOptions(tokens TokenSource) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if d.tls != nil {
		transport = credentials.NewTLS(d.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithChainUnaryInterceptor(passRequestIDUnary),
		grpc.WithChainStreamInterceptor(passRequestIDStream),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(d.maxBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// gRPC's own back-off grows to two minutes, for which a tier that is back would still count as down.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if tokens != nil {
		options = append(options, grpc.WithPerRPCCredentials(tokenCredentials{tokens}))
	}
	if d.tracing {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	}
	return append(options, d.extra...)
}

// staysHere says whether an address is on this machine.
func staysHere(addr string) bool {
	if strings.HasPrefix(addr, "unix:") {
		return true
	}
	for _, scheme := range []string{"dns:///", "passthrough:///"} {
		addr = strings.TrimPrefix(addr, scheme)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func withOutgoingRequestID(ctx context.Context) context.Context {
	id := RequestID(ctx)
	if md, _ := metadata.FromOutgoingContext(ctx); id == "" || len(md.Get(RequestIDHeader)) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, RequestIDHeader, id)
}

func passRequestIDUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(withOutgoingRequestID(ctx), method, req, reply, cc, opts...)
}

func passRequestIDStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(withOutgoingRequestID(ctx), desc, cc, method, opts...)
}
