package platformtest

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

// house is the platform in this process, on servers that a test can stop, wipe and tamper with, and on a clock that it
// moves. Each tier can be stopped and started by itself.
type house struct {
	*federation

	t         testing.TB
	clock     *clock.Fake
	nats      *testkit.NATSServer
	databases map[string]string
	addresses map[string]string
	rooms     map[string]*room
	log       *recorder
	settings  settings
}

// room is a tier that runs.
type room struct {
	registry *prometheus.Registry
	stop     context.CancelFunc
	ended    chan error
}

type settings struct {
	international international.Config
	regional      regional.Config
	local         local.Config
	gateway       gateway.Config
}

// noon is when every house's clock starts.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func build(t testing.TB, change ...func(*settings)) *house {
	t.Helper()
	h := &house{
		t: t, clock: clock.NewFake(noon), nats: testkit.NATS(t), log: &recorder{},
		addresses: map[string]string{}, rooms: map[string]*room{},
		databases: map[string]string{
			bus.International: testkit.Database(t, international.Migrations()...),
			bus.Regional:      testkit.Database(t, regional.Migrations()...),
			bus.Local:         testkit.Database(t, local.Migrations()...),
		},
		settings: settings{
			international: international.Config{Sites: []string{bus.MainSite}, LapseEvery: time.Second, GapWait: 300 * time.Millisecond, CompareEvery: 3 * time.Second},
			regional:      regional.Config{Sites: []string{bus.MainSite}, GapWait: 300 * time.Millisecond, CompareEvery: 3 * time.Second},
			local:         local.Config{GapWait: 300 * time.Millisecond, CompareEvery: 3 * time.Second},
		},
	}
	for _, one := range change {
		one(&h.settings)
	}
	logged(t, h.log)
	keys := get(platform.MakeKeys(filepath.Join(t.TempDir(), "keys"), []string{bus.MainSite}))(t)
	must(t, keys.MintServiceTokens([]string{bus.MainSite}, tokenTTL, h.clock.Now()))
	for _, tier := range tierNames {
		h.addresses[tier] = freeAddress(t)
	}
	h.federation = newFederation(t, keys, h.clock, "", h.addresses)
	h.rest = h.openGateway()
	for _, tier := range tierNames {
		h.start(tier)
	}
	return h
}

func (h *house) openGateway() string {
	h.t.Helper()
	handler := get(gateway.New(h.t.Context(), gateway.Deps{
		International: h.conns[bus.International], Regional: h.conns[bus.Regional], Local: h.conns[bus.Local],
		Log: h.logger("gateway"), Registerer: prometheus.NewRegistry(), Config: h.settings.gateway,
	}))(h.t)
	server := httptest.NewServer(handler)
	h.t.Cleanup(server.Close)
	return server.URL
}

func (h *house) logger(service string) *slog.Logger {
	return slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelInfo})).With("service", service)
}

// start starts a tier and waits until it answers.
func (h *house) start(name string) {
	h.t.Helper()
	registry := prometheus.NewRegistry()
	verifier := get(authz.NewStaticVerifier(filepath.Join(h.keys.Dir, authz.JWKSFile), h.clock))(h.t)
	tier := platform.Tier{
		Name: name, Site: bus.MainSite, Postgres: h.databases[name],
		NATS:     platform.NATSAccount{URL: h.nats.URL(), User: bus.User(name, bus.MainSite), Password: testkit.NATSPassword},
		Verifier: verifier, Clock: h.clock, Log: h.logger(name), Registerer: registry,
	}
	h.furnish(&tier)
	lis := get((&net.ListenConfig{}).Listen(context.Background(), "tcp", h.addresses[name]))(h.t)
	ctx, stop := context.WithCancel(context.Background())
	r := &room{registry: registry, stop: stop, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() { r.ended <- tier.Run(ctx, lis, func() { close(ready) }) }()
	h.rooms[name] = r
	h.t.Cleanup(func() { h.stop(name) })
	select {
	case <-ready:
	case err := <-r.ended:
		h.t.Fatalf("start %s: %v", name, err)
	case <-time.After(patience):
		h.t.Fatalf("%s does not start", name)
	}
	eventually(h.t, patience, func() string { return h.health(name) })
}

func (h *house) furnish(tier *platform.Tier) {
	h.t.Helper()
	peer := func(name string) *grpc.ClientConn {
		tokens := rpc.TokenFile(h.keys.ServiceToken(tier.Name, bus.MainSite))
		conn := get(platform.Transport{}.Dial(h.addresses[name], tokens, false))(h.t)
		h.t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	switch tier.Name {
	case bus.International:
		master := get(platform.ReadMasterKey(filepath.Join(h.keys.Dir, "master.key")))(h.t)
		tier.International(h.settings.international, master, nil, map[string]*grpc.ClientConn{bus.MainSite: peer(bus.Local)})
	case bus.Regional:
		tier.Regional(h.settings.regional, nil)
	case bus.Local:
		tier.Local(h.settings.local, h.siteKey(h.t), nil, peer(bus.International), peer(bus.Regional))
	}
}

// stop stops a tier, if it runs.
func (h *house) stop(name string) {
	h.t.Helper()
	r := h.rooms[name]
	if r == nil {
		return
	}
	delete(h.rooms, name)
	r.stop()
	select {
	case err := <-r.ended:
		must(h.t, err)
	case <-time.After(patience):
		h.t.Fatalf("%s does not stop", name)
	}
}

// pool opens a tier's database.
func (h *house) pool(tier string) *pgxpool.Pool {
	h.t.Helper()
	pool := get(postgres.Open(h.t.Context(), h.databases[tier]))(h.t)
	h.t.Cleanup(pool.Close)
	return pool
}

// admin is JetStream in the hands of somebody who may do everything.
func (h *house) jetStream() jetstream.JetStream {
	h.t.Helper()
	return get(jetstream.New(h.nats.Admin(h.t)))(h.t)
}

// metric is the sum of a metric's values that have the labels, as "name", "value", ...
func (h *house) metric(tier, name string, labels ...string) float64 {
	h.t.Helper()
	var sum float64
	for _, family := range get(h.rooms[tier].registry.Gather())(h.t) {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if labelled(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func labelled(m *dto.Metric, labels []string) bool {
	values := map[string]string{}
	for _, pair := range m.GetLabel() {
		values[pair.GetName()] = pair.GetValue()
	}
	for i := 0; i < len(labels); i += 2 {
		if values[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}
