package platform

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// data returns a directory in which PostgreSQL may keep its data; what lies there is gone when the test ends.
func data(t *testing.T) string {
	t.Helper()
	dir, err := postgres.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(postgres.Remove(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, o Options) *Platform {
	t.Helper()
	p, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return p
}

// stop may be called again.
func stop(t *testing.T, p *Platform) {
	t.Helper()
	if p.dir == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
	p.dir = nil
}

func readyz(t *testing.T, base string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func regions(t *testing.T, dial func(string, rpc.TokenSource) (*grpc.ClientConn, error), keys Keys) regionalv1.RegionServiceClient {
	t.Helper()
	token, err := keys.Mint(Person(authz.InternationalStaff, "", ""), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(bus.Regional, rpc.StaticToken(token))
	if err != nil {
		t.Fatal(err)
	}
	return regionalv1.NewRegionServiceClient(conn)
}

func TestPlatformKeepsItsDataUntilReset(t *testing.T) {
	t.Parallel()
	dir := data(t)
	europe := &regionalv1.GetRegionRequest{Name: "regions/europe"}

	p := start(t, Options{Data: dir})
	_, err := regions(t, p.Dial, p.Keys).CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
		RegionId: "europe", Region: &regionalv1.Region{DisplayName: "Europe", ParentRegion: "regions/world"},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, p)

	p = start(t, Options{Data: dir})
	if _, err := regions(t, p.Dial, p.Keys).GetRegion(t.Context(), europe); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	stop(t, p)

	p = start(t, Options{Data: dir, Reset: true})
	if region, err := regions(t, p.Dial, p.Keys).GetRegion(t.Context(), europe); err == nil {
		t.Errorf("after the reset there is %v", region)
	}
}

func TestRunningPlatformIsFoundByItsDirectory(t *testing.T) {
	t.Parallel()
	dir := data(t)
	p := start(t, Options{Data: dir, HTTP: "127.0.0.1:0"})

	if _, err := Start(t.Context(), Options{Data: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second start: %v, want ErrLocked", err)
	}
	session, err := Attach(t.Context(), Options{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	if session.Endpoints.REST != p.Endpoints.REST || session.Endpoints.PID != os.Getpid() {
		t.Errorf("found %v, started %v", session.Endpoints, p.Endpoints)
	}
	if _, err := regions(t, session.Dial, session.Keys).ListRegions(t.Context(), &regionalv1.ListRegionsRequest{}); err != nil {
		t.Error(err)
	}
	if got := readyz(t, session.Endpoints.REST); got != http.StatusOK {
		t.Errorf("readyz answers %d", got)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
		t.Error("closing the session stopped the platform")
	default:
	}

	stop(t, p)
	if _, err := os.Stat(dir + "/" + endpointsFile); !os.IsNotExist(err) {
		t.Errorf("endpoints after the stop: %v, want none", err)
	}
}

func TestOperatorStartsAPlatformThatIsStopped(t *testing.T) {
	t.Parallel()
	dir := data(t)
	if _, err := Attach(t.Context(), Options{Data: dir}); err == nil {
		t.Fatal("attached to a directory without a platform")
	}
	stop(t, start(t, Options{Data: dir}))
	session, err := Attach(t.Context(), Options{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := regions(t, session.Dial, session.Keys).ListRegions(t.Context(), &regionalv1.ListRegionsRequest{}); err != nil {
		t.Error(err)
	}
	if session.Endpoints.REST != "" {
		t.Errorf("a gateway that nobody asked for: %s", session.Endpoints.REST)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

func TestOperatorStartsAGatewayToo(t *testing.T) {
	t.Parallel()
	dir := data(t)
	stop(t, start(t, Options{Data: dir}))
	session, err := Attach(t.Context(), Options{Data: dir, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := readyz(t, session.Endpoints.REST); got != http.StatusOK {
		t.Errorf("readyz answers %d", got)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

func TestTakenPortIsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	dir := t.TempDir() + "/data"
	_, err = Start(t.Context(), Options{Data: dir, HTTP: taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "--http") {
		t.Errorf("start on a taken port: %v, want an error that names --http", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the data directory: %v, want none", err)
	}
}

func TestInterruptedStartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	dir := data(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Start(ctx, Options{Data: dir, Progress: func(what string) {
		if strings.Contains(what, "services") {
			cancel()
		}
	}})
	if err == nil {
		t.Fatal("started although it was interrupted")
	}
	start(t, Options{Data: dir})
}

func TestResetRefusesOutsideServers(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Data: t.TempDir(), Reset: true, PostgresURL: "postgres://example.org/x"})
	if err == nil || !strings.Contains(err.Error(), "--reset") {
		t.Errorf("reset with an outside server: %v, want an error that names --reset", err)
	}
}

// outsideNATS is a server that knows the users of a directory which has not been started yet.
func outsideNATS(t *testing.T, dir string) string {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := MakeKeys(d.path(secretsDir), []string{site})
	if err != nil {
		t.Fatal(err)
	}
	users, err := ReadUsers(keys.path(natsUsersFile))
	if err != nil {
		t.Fatal(err)
	}
	server, err := bus.StartServer(bus.ServerConfig{Dir: t.TempDir(), Users: users})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return server.ClientURL()
}

func TestOutsideServers(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	dir := t.TempDir() + "/data"
	nats := outsideNATS(t, dir)
	p := start(t, Options{Data: dir, PostgresURL: cluster.AdminURL("postgres"), NATSURL: nats})
	if p.cluster != nil || p.nats != nil {
		t.Error("servers of its own were started all the same")
	}
	_, err := regions(t, p.Dial, p.Keys).CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
		RegionId: "europe", Region: &regionalv1.Region{DisplayName: "Europe", ParentRegion: "regions/world"},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, p)
	session, err := Attach(t.Context(), Options{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := regions(t, session.Dial, session.Keys).GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/europe"}); err != nil {
		t.Errorf("as the operator finds it: %v", err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

func TestTierURL(t *testing.T) {
	t.Parallel()
	tier := postgres.Tier{Database: "d", Role: "r", Password: "p/w"}
	got, err := urlOf("postgres://admin:secret@db.example.org:5433/postgres?sslmode=require", tier)
	if err != nil || got != "postgres://r:p%2Fw@db.example.org:5433/d?sslmode=require" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := urlOf("host=db user=admin password=secret", tier); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want a refusal that tells no password", err)
	}
}
