package platformtest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

var tierNames = []string{bus.International, bus.Regional, bus.Local}

// deployment is the platform in separate processes: NATS on a real port, three services with a database and a role
// each, and a gateway. Each process gets a directory with those keys alone that are its own.
type deployment struct {
	*federation

	t         testing.TB
	dir       string
	cluster   *postgres.Cluster
	tiers     map[string]postgres.Tier
	nats      string
	processes map[string]*process
	restarts  int // of processes that ended by themselves

	// sink takes the local tier's mail; without one none is sent.
	sink *mailsink.Sink
	// tampered stands for the NATS process, and lets the test do everything with what it holds.
	tampered *testkit.NATSServer
	// cable is what the local tier is connected to NATS by; without one it is so directly.
	cable *cable
}

// natsName and gatewayName are the processes beside those of the tiers.
const (
	natsName    = "nats"
	gatewayName = "gateway"
)

func deploy(t testing.TB, extra ...string) *deployment {
	t.Helper()
	return (&deployment{}).open(t, extra...)
}

// open starts a deployment that says what is special about it. All tiers get the extra flags.
func (d *deployment) open(t testing.TB, extra ...string) *deployment {
	t.Helper()
	d.t, d.dir, d.tiers, d.processes = t, t.TempDir(), map[string]postgres.Tier{}, map[string]*process{}
	keys := get(platform.MakeKeys(filepath.Join(d.dir, "keys"), []string{bus.MainSite}))(t)
	must(t, keys.MintServiceTokens([]string{bus.MainSite}, 24*time.Hour, clock.System{}.Now()))
	d.cluster = testkit.Cluster(t)
	addresses := map[string]string{natsName: freeAddress(t), gatewayName: freeAddress(t)}
	for _, tier := range tierNames {
		d.tiers[tier] = postgres.Tier{Database: "of_" + tier, Role: "role_" + tier, Password: "password of " + tier}
		must(t, postgres.CreateTier(t.Context(), d.cluster.AdminURL("postgres"), d.tiers[tier]))
		addresses[tier] = freeAddress(t)
	}
	d.nats = "nats://" + addresses[natsName]
	if d.tampered != nil {
		d.nats = d.tampered.URL()
	}
	if d.cable != nil {
		d.cable.plug(t, strings.TrimPrefix(d.nats, "nats://"))
	}
	d.federation = newFederation(t, keys, clock.System{}, "http://"+addresses[gatewayName],
		map[string]string{bus.International: addresses[bus.International], bus.Regional: addresses[bus.Regional], bus.Local: addresses[bus.Local]})
	level := "debug" // for the search for secrets
	if _, measures := t.(*testing.B); measures {
		level = "warn"
	}
	for _, name := range append([]string{natsName, gatewayName}, tierNames...) {
		if name == natsName && d.tampered != nil {
			continue
		}
		args := append([]string{"serve", name, "--listen", addresses[name], "--log-level", level}, d.flags(name, addresses)...)
		if name != natsName && name != gatewayName {
			args = append(args, extra...)
		}
		d.processes[name] = newProcess(t, args...)
		d.processes[name].start()
	}
	d.ready()
	return d
}

func (d *deployment) flags(name string, addresses map[string]string) []string {
	peers := []string{"--international", addresses[bus.International], "--regional", addresses[bus.Regional]}
	switch name {
	case natsName:
		return []string{"--data", d.natsDir(), "--users-file", d.give(name, "nats-users.json")}
	case gatewayName:
		return append(peers, "--local", addresses[bus.Local])
	}
	user := bus.User(name, bus.MainSite)
	password, nats := d.give(name, "nats-"+user+".password"), d.nats
	if d.tampered != nil {
		must(d.t, os.WriteFile(password, []byte(testkit.NATSPassword), 0o600))
	}
	if name == bus.Local && d.cable != nil {
		nats = "nats://" + d.cable.address
	}
	flags := []string{
		"--postgres-url", d.cluster.URL(d.tiers[name]), "--nats-url", nats, "--nats-password-file", password,
		"--jwks", d.give(name, "token-jwks.json"), "--token-file", d.give(name, "service-"+user+".token"),
	}
	switch name {
	case bus.International:
		flags = append(flags, "--master-key-file", d.give(name, "master.key"), "--local", "main="+addresses[bus.Local], "--lapse-every", "1s")
	case bus.Local:
		flags = append(append(flags, peers...), "--site", "main", "--site-key-file", d.give(name, "site-main.key"))
		if d.sink != nil {
			flags = append(flags, "--public-url", d.rest, "--mail-smtp", "smtp+plain://"+d.sink.Addr(), "--mail-from", "site@chapterhouse.example")
		}
	}
	return flags
}

func (d *deployment) natsDir() string { return filepath.Join(d.dir, "jetstream") }

// give puts a key into the process's own directory.
func (d *deployment) give(process, file string) string {
	d.t.Helper()
	own := filepath.Join(d.dir, process)
	must(d.t, os.MkdirAll(own, 0o700))
	content := get(os.ReadFile(filepath.Join(d.keys.Dir, file)))(d.t)
	must(d.t, os.WriteFile(filepath.Join(own, file), content, 0o600))
	return filepath.Join(own, file)
}

// ready waits until everything answers.
func (d *deployment) ready() {
	d.t.Helper()
	for _, tier := range tierNames {
		d.serving(tier)
	}
	eventually(d.t, patience, func() string {
		r := get(http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.rest+"/readyz", nil))(d.t)
		response, err := restClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return "the gateway is not ready: " + response.Status
		}
		return ""
	})
}

// serving waits until a tier says that it serves. One that found its database gone when it started has ended, and is
// started again, as whoever runs it would.
func (d *deployment) serving(tier string) {
	d.t.Helper()
	eventually(d.t, patience, func() string {
		if d.processes[tier].ended() {
			d.restarts++
			d.processes[tier].start()
		}
		return d.health(tier)
	})
}

// logs is what all processes said, at debug level.
func (d *deployment) logs() string {
	var all strings.Builder
	for _, p := range d.processes {
		all.WriteString(p.log.String())
	}
	return all.String()
}

// logged is the log of a federation that runs in this process.
func logged(t testing.TB, log *recorder) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log ends with:\n%s", tail(log.String(), 60))
		}
	})
}
