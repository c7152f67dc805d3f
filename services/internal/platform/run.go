package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// abortTimeout is for what has been started to stop in order after a start that failed.
const abortTimeout = 10 * time.Second

// startServices runs the tiers and the gateway, and returns when all of them answer.
func (p *Platform) startServices(ctx context.Context, databases map[string]string) error {
	signer, err := p.Keys.Signer()
	if err != nil {
		return err
	}
	tiers := make([]Tier, 0, len(tierNames))
	for _, name := range tierNames {
		tier, err := p.tier(name, databases[name], signer)
		if err != nil {
			return err
		}
		tiers = append(tiers, tier)
	}
	handler, err := p.newGateway(ctx)
	if err != nil {
		return err
	}
	p.options.Progress("starting the services")
	return p.run(ctx, tiers, handler)
}

// tier is the tier with what it needs in this process.
func (p *Platform) tier(name, database string, signer *authz.Signer) (Tier, error) {
	password, err := p.Keys.Password(name, site)
	if err != nil {
		return Tier{}, err
	}
	peers, err := p.dialTiers(rpc.MintedToken(signer, servicePrincipal(name, site), p.options.Clock))
	if err != nil {
		return Tier{}, err
	}
	tier := Tier{
		Name: name, Site: site, Postgres: database, Migrate: true,
		NATS:     NATSAccount{URL: p.natsURL, User: bus.User(name, site), Password: password},
		Verifier: p.verifier, Tracing: p.options.Tracing, Clock: p.options.Clock,
		Log:        p.options.Log.With("service", name),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"service": name}, p.registry),
	}
	return tier, p.fill(&tier, peers)
}

func (p *Platform) dialTiers(tokens rpc.TokenSource) (map[string]*grpc.ClientConn, error) {
	conns := map[string]*grpc.ClientConn{}
	for _, name := range tierNames {
		conn, err := p.Dial(name, tokens)
		if err != nil {
			return nil, err
		}
		conns[name] = conn
	}
	return conns, nil
}

// Dial connects to a tier. The connection is closed when the platform stops.
func (p *Platform) Dial(tier string, tokens rpc.TokenSource) (*grpc.ClientConn, error) {
	lis, known := p.grpc[tier]
	if !known {
		return nil, fmt.Errorf("no tier %q", tier)
	}
	conn, err := Transport{}.Dial(lis.Addr().String(), tokens, p.options.Tracing)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
	return conn, nil
}

// newGateway returns the REST interface, nil where none is wanted.
func (p *Platform) newGateway(ctx context.Context) (http.Handler, error) {
	if p.http == nil {
		return nil, nil //nolint:nilnil // see above
	}
	conns, err := p.dialTiers(nil)
	if err != nil {
		return nil, err
	}
	config := p.options.Gateway
	if config.PublicURL == "" {
		config.PublicURL = p.publicURL()
	}
	return gateway.New(ctx, gateway.Deps{
		International: conns[bus.International], Regional: conns[bus.Regional], Local: conns[bus.Local],
		Log:        p.options.Log.With("service", "gateway"),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"service": "gateway"}, p.registry),
		Gatherer:   p.registry, Config: config,
	})
}

// run starts everything that has a life of its own, and waits until the tiers answer.
func (p *Platform) run(ctx context.Context, tiers []Tier, handler http.Handler) error {
	running, stopTiers := context.WithCancel(context.Background())
	p.stopTiers, p.stopped, p.done = stopTiers, make(chan struct{}), make(chan struct{})
	group, running := errgroup.WithContext(running)
	ready := make(chan struct{}, len(tiers))
	for _, tier := range tiers {
		group.Go(func() error {
			return tier.Run(running, p.grpc[tier.Name], func() { ready <- struct{}{} })
		})
	}
	if p.cluster != nil {
		group.Go(func() error { return p.watchCluster(running) })
	}
	serving, stopGateway := context.WithCancel(running)
	p.stopGateway = stopGateway
	group.Go(func() error {
		defer close(p.stopped)
		if handler == nil {
			return nil
		}
		return gateway.Serve(serving, p.http, handler, p.options.Gateway, p.options.Log)
	})
	go func() {
		p.err = group.Wait()
		close(p.done)
	}()
	for range tiers {
		select {
		case <-ready:
		case <-p.done:
			return p.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.awaitHealth(ctx)
}

// awaitHealth waits until every tier says that it serves: they look after their databases once more before they do.
func (p *Platform) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watches too, which would hold up a stop
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	conns, err := p.dialTiers(nil)
	if err != nil {
		return err
	}
	for name, conn := range conns {
		if err := awaitServing(ctx, conn); err != nil {
			return fmt.Errorf("wait for the %s service: %w", name, err)
		}
	}
	return nil
}

func awaitServing(ctx context.Context, conn grpc.ClientConnInterface) error {
	health, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		answer, err := health.Recv()
		if err != nil || answer.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return err
		}
	}
}

// watchCluster ends the platform when PostgreSQL cannot be kept running.
func (p *Platform) watchCluster(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.cluster.Done():
		return fmt.Errorf("PostgreSQL: %w", p.cluster.Err())
	}
}

// publish says where the platform is reached.
func (p *Platform) publish() error {
	p.Endpoints.PID, p.Endpoints.Version = os.Getpid(), p.options.Version
	p.Endpoints.GRPC = map[string]string{}
	for name, lis := range p.grpc {
		p.Endpoints.GRPC[name] = lis.Addr().String()
	}
	p.Endpoints.NATS = redacted(p.natsURL)
	if p.http != nil {
		p.Endpoints.REST = "http://" + reachable(p.http.Addr())
		p.Endpoints.Docs = p.Endpoints.REST + "/docs"
	}
	return p.dir.publish(p.Endpoints)
}

// reachable is where a listener on all addresses is reached from this machine.
func reachable(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return address.String()
}

func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		u.User = nil
		return u.String()
	}
	return ""
}

// Done is closed when the platform has ended, by Stop or because something failed; then Err says what.
func (p *Platform) Done() <-chan struct{} { return p.done }

// Err says, after Done, what failed.
func (p *Platform) Err() error { return p.err }

// Mint makes a token for a person who holds one role on one scope.
func (p *Platform) Mint(role authz.Role, scope string, ttl time.Duration) (string, error) {
	return p.Keys.Mint(Person(role, scope, ""), ttl, p.options.Clock.Now())
}

// Person is who holds a role on a scope; without a subject each role and scope is a person of its own.
func Person(role authz.Role, scope, subject string) authz.Principal {
	if scope == "" {
		scope = authz.Federation
	}
	if subject == "" {
		subject = string(role) + ":" + scope
	}
	return authz.Principal{Subject: subject, Grants: []authz.Grant{{Role: role, Scope: scope}}}
}

// Stop ends the platform: the gateway first, then the tiers, each when its running calls are finished, then NATS and
// PostgreSQL. When ctx ends, nothing is waited for any longer and PostgreSQL is cut short.
func (p *Platform) Stop(ctx context.Context) error {
	p.stopGateway()
	_ = await(ctx, p.stopped)
	p.stopTiers()
	err := await(ctx, p.done)
	if err == nil {
		err = p.err
	}
	return errors.Join(err, p.close(ctx))
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("the services did not stop in time")
	}
}

// abort ends what a failed start has left.
func (p *Platform) abort() error {
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	if p.done == nil {
		return p.close(ctx)
	}
	p.stopTiers()
	return errors.Join(await(ctx, p.done), p.close(ctx))
}

// close ends what Start has opened, as far as it came.
func (p *Platform) close(ctx context.Context) (err error) {
	for _, conn := range p.conns {
		_ = conn.Close() // its only error: that whoever dialled has closed it
	}
	err = p.closeMail(ctx)
	if p.nats != nil {
		p.nats.Shutdown()
	}
	if p.cluster != nil {
		err = errors.Join(err, p.cluster.Stop(ctx))
	}
	if p.http != nil {
		_ = p.http.Close() // closed already, unless the start failed
	}
	for _, lis := range p.grpc {
		_ = lis.Close() // likewise
	}
	if p.dir != nil {
		err = errors.Join(err, p.dir.unpublish(), p.dir.Close())
	}
	return err
}
