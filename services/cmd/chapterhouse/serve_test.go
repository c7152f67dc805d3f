package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// deployment is a platform of separate processes: three services with a database and a role each, NATS and a gateway.
type deployment struct {
	t         *testing.T
	keys      string
	nats      string
	databases map[string]string
	addresses map[string]string // by tier
	admin     string            // where the international service shows its health
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, keys: filepath.Join(t.TempDir(), "keys"), databases: map[string]string{}, addresses: map[string]string{}}
	if _, stderr, code := runProgram(t, "keys", "init", d.keys); code != 0 {
		t.Fatal(stderr)
	}
	cluster := testkit.Cluster(t)
	for _, tier := range []string{bus.International, bus.Regional, bus.Local} {
		database := postgres.Tier{Database: tier, Role: tier, Password: "of " + tier}
		if err := postgres.CreateTier(t.Context(), cluster.AdminURL("postgres"), database); err != nil {
			t.Fatal(err)
		}
		d.databases[tier] = cluster.URL(database)
		d.addresses[tier] = freeAddress(t)
	}
	d.admin = freeAddress(t)
	d.nats = d.start("nats", "--data", filepath.Join(t.TempDir(), "nats"), "--listen", "127.0.0.1:0",
		"--users-file", d.file("nats-users.json")).await(`nats: ready on (\S+)`)
	return d
}

func (d *deployment) file(name string) string { return filepath.Join(d.keys, name) }

func (d *deployment) start(service string, flags ...string) *process {
	d.t.Helper()
	return startProgram(d.t, program(d.t, append([]string{"serve", service}, flags...)...))
}

func (d *deployment) tier(tier string, flags ...string) *process {
	d.t.Helper()
	user := bus.User(tier, bus.MainSite)
	p := d.start(tier, append([]string{
		"--listen", d.addresses[tier], "--postgres-url", d.databases[tier],
		"--nats-url", d.nats, "--nats-password-file", d.file("nats-" + user + ".password"),
		"--jwks", d.file("token-jwks.json"), "--token-file", d.file("service-" + user + ".token"),
	}, flags...)...)
	p.await(user + ": ready on")
	return p
}

func (d *deployment) international() *process {
	d.t.Helper()
	return d.tier(bus.International, "--master-key-file", d.file("master.key"),
		"--local", "main="+d.addresses[bus.Local], "--admin-listen", d.admin)
}

func (d *deployment) regional() *process {
	d.t.Helper()
	return d.tier(bus.Regional)
}

func (d *deployment) local() *process {
	d.t.Helper()
	return d.tier(bus.Local, "--site", "main", "--site-key-file", d.file("site-main.key"),
		"--international", d.addresses[bus.International], "--regional", d.addresses[bus.Regional])
}

func (d *deployment) gateway() *rest {
	d.t.Helper()
	p := d.start("gateway", "--listen", "127.0.0.1:0", "--international", d.addresses[bus.International],
		"--regional", d.addresses[bus.Regional], "--local", d.addresses[bus.Local])
	return &rest{t: d.t, base: "http://" + p.await(`gateway: ready on (\S+)`), keys: d.keys}
}

func TestMainJobOnSeparateProcesses(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	processes := []*process{d.international(), d.regional(), d.local()}
	api := d.gateway()
	api.makeChapter()
	members := []string{api.member(1), api.member(2), api.member(3)}

	api.upload("m1@example.org", "m2@example.org", "x1@example.org", "x2@example.org")
	early := api.awaitStanding("2 of 4")
	api.post(api.admin(), "/v1/charters", `{"chapter":"chapters/golang-paris"}`)
	approve := func(etag string) string { return fmt.Sprintf(`{"standingEtag":%q,"note":"welcome"}`, etag) }
	if status, reason := api.refused(api.staff(), "/v1/charters/golang-paris:approve", approve(early)); status != 400 || reason != "NOT_ELIGIBLE" {
		t.Errorf("below the line: %d %s", status, reason)
	}

	api.upload("m1@example.org", "m2@example.org", "m3@example.org", "x1@example.org", "x2@example.org")
	etag := api.awaitStanding("3 of 5")
	if status, reason := api.refused(api.staff(), "/v1/charters/golang-paris:approve", approve(early)); status != 409 || reason != "STANDING_MOVED" {
		t.Errorf("on an old standing: %d %s", status, reason)
	}
	api.post(api.staff(), "/v1/charters/golang-paris:approve", approve(etag))
	api.awaitCharter("CHARTERED")

	api.post(api.staff(), "/v1/"+members[0]+":resign", `{}`)
	api.awaitStanding("2 of 5")
	api.awaitCharter("AT_RISK")

	audit := commandLine{env: []string{envToken + "=" + api.staff()}}.
		run(t, "audit", "standings", "--international", d.addresses[bus.International])
	if audit.code != 0 {
		t.Errorf("audit: exit code %d: %s", audit.code, audit.stderr)
	}
	admin := &rest{t: t, base: "http://" + d.admin}
	if got := admin.status("/readyz"); got != 200 {
		t.Errorf("readyz of the international service: %d", got)
	}
	for _, p := range processes {
		if code, _ := p.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%v: exit code %d", p.cmd.Args[1:3], code)
		}
	}
	if log := processes[2].stderr.String(); strings.Count(log, "no mail can be sent") != 1 {
		t.Errorf("the local service does not say once that it sends no mail: %s", log)
	}
}

func TestServeRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	flags := func(changes ...string) []string {
		return append([]string{
			"serve", "regional", "--listen", "127.0.0.1:0", "--postgres-url", d.databases[bus.Regional], "--nats-url", d.nats,
		}, changes...)
	}
	password := []string{"--nats-password-file", d.file("nats-regional.password")}
	for name, test := range map[string]struct {
		flags []string
		code  int
	}{
		"NobodysTokens":        {flags(password...), exitUsage},
		"AnotherTiersPassword": {flags("--jwks", d.file("token-jwks.json"), "--nats-password-file", d.file("nats-local.main.password")), exitError},
		"AnotherTiersUser": {flags("--jwks", d.file("token-jwks.json"), "--nats-password-file", d.file("nats-regional.password"),
			"--nats-user", "international"), exitError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, stderr, code := runProgram(t, test.flags...); code != test.code {
				t.Errorf("exit code %d, want %d: %s", code, test.code, stderr)
			}
		})
	}
}
