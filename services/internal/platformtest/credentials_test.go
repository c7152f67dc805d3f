package platformtest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

// credentials shows that what one tier holds opens nothing of another's.
func (d *deployment) credentials(t *testing.T) {
	t.Run("ARoleConnectsToItsOwnDatabaseOnly", d.roles)
	t.Run("AUserPublishesItsOwnSubjectsOnly", d.subjects)
	t.Run("AServicesTokenOpensItsOwnDoorsOnly", d.serviceTokens)
	t.Run("LocalHoldsNoMasterKey", d.masterKey)
}

func (d *deployment) roles(t *testing.T) {
	ctx := bounded(t, patience)
	for _, role := range tierNames {
		for _, database := range append([]string{"postgres", "template1"}, tierNames...) {
			tier := d.tiers[role]
			if other, known := d.tiers[database]; known {
				tier.Database = other.Database
			} else {
				tier.Database = database
			}
			conn, err := pgx.Connect(ctx, d.cluster.URL(tier))
			if err == nil {
				must(t, conn.Close(ctx))
			}
			refusal, _ := errors.AsType[*pgconn.PgError](err)
			switch {
			case database == role && err != nil:
				t.Errorf("%s cannot connect to its own database: %v", role, err)
			case database != role && (refusal == nil || refusal.Code != "42501"):
				t.Errorf("%s on the database %s: %v, want a refusal for lack of privilege", role, tier.Database, err)
			}
		}
		wrong := d.tiers[role]
		wrong.Password = "guessed"
		if conn, err := pgx.Connect(ctx, d.cluster.URL(wrong)); err == nil {
			_ = conn.Close(ctx)
			t.Errorf("%s connects with a wrong password", role)
		}
	}
}

func (d *deployment) subjects(t *testing.T) {
	for _, tier := range tierNames {
		refusals := make(chan error, 10)
		nc := get(bus.Connect(d.nats, bus.User(tier, bus.MainSite), get(d.keys.Password(tier, bus.MainSite))(t), slog.New(slog.DiscardHandler),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refusals <- err })))(t)
		defer nc.Close()
		for _, other := range tierNames {
			if other == tier {
				continue
			}
			for _, subject := range []string{
				"ch." + other + ".main.list.golang-r.members.changed",
				"chdead." + other + ".main.x",
				"chq." + other + ".main.local.main.snapshot",
				"$JS.API.STREAM.DELETE." + bus.Stream(other, bus.MainSite),
				"$JS.API.STREAM.PURGE." + bus.Stream(other, bus.MainSite),
				"$JS.API.STREAM.MSG.DELETE." + bus.Stream(other, bus.MainSite),
				"$JS.ACK." + bus.Stream(tier, bus.MainSite) + "." + bus.Durable(other, bus.MainSite) + ".1.1.1.1.1",
			} {
				wantRefused(t, nc, refusals, tier, subject)
			}
		}
		own := bus.Stream(tier, bus.MainSite)
		wantRefused(t, nc, refusals, tier, "$JS.API.STREAM.DELETE."+own)
		js := get(jetstream.New(nc))(t)
		if _, err := js.Stream(bounded(t, patience), own); err != nil {
			t.Errorf("%s cannot look at its own stream: %v", tier, err)
		}
	}
	if nc, err := nats.Connect(d.nats); err == nil {
		nc.Close()
		t.Error("NATS lets in whoever comes without a name")
	}
}

func wantRefused(t *testing.T, nc *nats.Conn, refusals <-chan error, tier, subject string) {
	t.Helper()
	must(t, nc.Publish(subject, []byte("forged")))
	must(t, nc.FlushTimeout(patience))
	select {
	case err := <-refusals:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s publishing %s: %v", tier, subject, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("%s may publish %s", tier, subject)
	}
}

func (d *deployment) serviceTokens(t *testing.T) {
	ctx := bounded(t, patience)
	token := func(tier string) string {
		return get(platform.ReadSecret(d.keys.ServiceToken(tier, bus.MainSite)))(t)
	}
	calls := map[string]func(tier string) error{
		"enter a member": func(tier string) error {
			_, err := d.members.CreateMember(withToken(ctx, token(tier)), &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{DisplayName: "Forged"}})
			return err
		},
		"list members": func(tier string) error {
			_, err := d.members.ListMembers(withToken(ctx, token(tier)), &internationalv1.ListMembersRequest{})
			return err
		},
		"approve a charter": func(tier string) error {
			_, err := d.charters.ApproveCharter(withToken(ctx, token(tier)), &internationalv1.ApproveCharterRequest{Name: "charters/golang-g", StandingEtag: "1-1"})
			return err
		},
		"read entries": func(tier string) error {
			_, err := d.lists.ListEntries(withToken(ctx, token(tier)), &localv1.ListEntriesRequest{Parent: "chapters/golang-g/lists/members"})
			return err
		},
		"add an entry": func(tier string) error {
			_, err := d.lists.CreateEntry(withToken(ctx, token(tier)), &localv1.CreateEntryRequest{
				Parent: "chapters/golang-g/lists/members", Entry: &localv1.Entry{Address: "forged@example.org"},
			})
			return err
		},
		"ask as another site": func(tier string) error {
			stream, err := d.standings.PreviewStanding(withToken(ctx, token(tier)))
			if err != nil {
				return err
			}
			_ = stream.Send(&internationalv1.PreviewStandingRequest{Part: &internationalv1.PreviewStandingRequest_Header{
				Header: &internationalv1.PreviewHeader{Site: "sites/other", List: "chapters/golang-g/lists/members"},
			}})
			_, err = stream.CloseAndRecv()
			return err
		},
	}
	for what, call := range calls {
		for _, tier := range tierNames {
			if err := call(tier); status.Code(err) != codes.PermissionDenied {
				t.Errorf("the %s service may %s: %v", tier, what, err)
			}
		}
	}
}

// masterKey looks for the key in all that the local service was given: files, arguments, environment.
func (d *deployment) masterKey(t *testing.T) {
	key := bytes.TrimSpace(get(os.ReadFile(filepath.Join(d.keys.Dir, "master.key")))(t))
	for _, name := range []string{bus.Local, bus.Regional, gatewayName, natsName} {
		given := strings.Join(d.processes[name].args, " ")
		if strings.Contains(given, "master") || strings.Contains(given, d.keys.Dir) {
			t.Errorf("%s is told of the master key: %s", name, given)
		}
		files, err := filepath.Glob(filepath.Join(d.dir, name, "*"))
		must(t, err)
		for _, file := range append(files, fmt.Sprintf("/proc/%d/environ", d.processes[name].pid())) {
			content, err := os.ReadFile(file)
			if errors.Is(err, os.ErrNotExist) {
				continue // no /proc on this system
			}
			must(t, err)
			if bytes.Contains(content, key) {
				t.Errorf("%s holds the master key, in %s", name, file)
			}
		}
	}
	said, code := runProgram(t, "serve", "local", "--listen", "127.0.0.1:0", "--postgres-url", "postgres://x", "--nats-url", d.nats,
		"--international", "x:1", "--regional", "x:1", "--master-key-file", filepath.Join(d.keys.Dir, "master.key"))
	if code != 2 || !strings.Contains(said, "master-key-file") {
		t.Errorf("serve local takes a master key: exit code %d: %s", code, said)
	}
}
