package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestClusterKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	began := time.Now()
	cluster := start(t, postgres.ClusterConfig{Dir: dir})
	cold := time.Since(began)
	exec(t, cluster.AdminURL("postgres"), "CREATE TABLE kept AS SELECT 42 AS n")
	began = time.Now()
	stop(t, cluster)
	stopped := time.Since(began)

	began = time.Now()
	cluster = start(t, postgres.ClusterConfig{Dir: dir})
	t.Logf("cold start %v, stop %v, warm start %v", cold, stopped, time.Since(began))
	if n := query[int](t, cluster.AdminURL("postgres"), "SELECT n FROM kept"); n != 42 {
		t.Errorf("read %d, want 42", n)
	}
}

func TestClusterComesBackAfterAKill(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	url := cluster.AdminURL("postgres")
	pool := open(t, url)
	exec(t, url, "CREATE TABLE kept (n int)")
	for round := range 3 {
		exec(t, url, fmt.Sprintf("INSERT INTO kept VALUES (%d)", round))
		before := cluster.PID()
		if err := cluster.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := cluster.PID(); after == before {
			t.Fatalf("the postmaster is still process %d", before)
		}
		if n := query[int](t, url, "SELECT count(*) FROM kept"); n != round+1 {
			t.Fatalf("%d of %d committed rows are left", n, round+1)
		}
	}
	testkit.Eventually(t, 10*time.Second, func() (bool, string) {
		err := pool.Ping(t.Context())
		return err == nil, fmt.Sprint(err)
	})
}

func TestClusterComesBackWhileABackendOfItsPredecessorIsBusy(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	pool := open(t, cluster.AdminURL("postgres"))
	busy := make(chan error, 1)
	go func() {
		// Computes without ever looking whether its postmaster is alive.
		_, err := pool.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 1000000000)")
		busy <- err
	}()
	testkit.Eventually(t, 10*time.Second, func() (bool, string) {
		n := query[int](t, cluster.AdminURL("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()")
		return n > 0, "the query does not run yet"
	})
	if err := cluster.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-busy; err == nil {
		t.Error("the query survived its server")
	}
}

func TestClusterPausesAndResumes(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	url := cluster.AdminURL("postgres")
	if err := cluster.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pid := cluster.PID(); pid != 0 {
		t.Errorf("process %d runs during the pause", pid)
	}
	if _, err := postgres.Open(t.Context(), url, postgres.WithWait(0)); err == nil {
		t.Error("connected to a paused server")
	}
	if err := cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, url, "SELECT 1"); n != 1 {
		t.Errorf("read %d", n)
	}
}

func TestClustersStandSideBySide(t *testing.T) {
	t.Parallel()
	one, two := testkit.Cluster(t), testkit.Cluster(t)
	exec(t, one.AdminURL("postgres"), "CREATE TABLE mine ()")
	if n := query[int](t, two.AdminURL("postgres"), "SELECT count(*) FROM pg_class WHERE relname = 'mine'"); n != 0 {
		t.Error("the second cluster shows the first one's table")
	}
}

func TestClusterRefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	start(t, postgres.ClusterConfig{Dir: dir})
	_, err := postgres.StartCluster(t.Context(), postgres.ClusterConfig{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "another process is using "+dir) {
		t.Errorf("got %v", err)
	}
}

func TestClusterRefusesDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	stop(t, start(t, postgres.ClusterConfig{Dir: dir}))
	if err := os.WriteFile(filepath.Join(dir, "pgdata", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.StartCluster(t.Context(), postgres.ClusterConfig{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 9") {
		t.Errorf("got %v", err)
	}
}

func TestClusterSaysAtOnceWhyItCannotStart(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	_, err := postgres.StartCluster(t.Context(), postgres.ClusterConfig{
		Throwaway: true,
		Settings:  map[string]string{"no_such_setting": "1"},
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got %v", err)
	}
	if tries := strings.Count(log.String(), "FATAL"); tries != 1 {
		t.Errorf("tried %d times:\n%s", tries, &log)
	}
}

func TestClusterTakesSettings(t *testing.T) {
	t.Parallel()
	cluster := start(t, postgres.ClusterConfig{Throwaway: true, Settings: map[string]string{"work_mem": "7MB"}})
	for setting, want := range map[string]string{"work_mem": "7MB", "fsync": "off", "listen_addresses": "", "TimeZone": "UTC"} {
		if got := query[string](t, cluster.AdminURL("postgres"), "SELECT current_setting($1)", setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

// As root, the server runs under an account that cannot enter a directory of mode 0700.
func TestClusterWorksInADirectoryThatOthersCannotEnter(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	for range 2 {
		cluster := start(t, postgres.ClusterConfig{Dir: dir})
		query[int](t, cluster.AdminURL("postgres"), "SELECT 1")
		stop(t, cluster)
	}
	data, err := filepath.EvalSymlinks(filepath.Join(dir, "pgdata"))
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{data, dir} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
}

func TestThrowawayClusterLeavesNothing(t *testing.T) {
	t.Parallel()
	cluster := start(t, postgres.ClusterConfig{Throwaway: true})
	data := query[string](t, cluster.AdminURL("postgres"), "SHOW data_directory")
	socket := query[string](t, cluster.AdminURL("postgres"), "SHOW unix_socket_directories")
	if len(socket) > 70 {
		t.Errorf("the socket's directory %s is too long for the socket's path", socket)
	}
	stop(t, cluster)
	for _, path := range []string{data, filepath.Dir(data), socket} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
}

// parentEnv makes this test program a parent of a cluster in the directory it names.
const parentEnv = "CHAPTERHOUSE_TEST_PARENT"

func parent(dir string) {
	cluster, err := postgres.StartCluster(context.Background(), postgres.ClusterConfig{Dir: dir, Log: slog.Default()})
	if err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, cluster.PID(), cluster.AdminURL("postgres"))
	select {}
}

func TestClusterStartsAfterItsParentWasKilled(t *testing.T) {
	t.Parallel()
	for _, also := range []string{"the postmaster lives", "the postmaster is killed too"} {
		t.Run(also, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			command, pid, url := runParent(t, dir)
			exec(t, url, "CREATE TABLE kept AS SELECT 42 AS n")
			if also == "the postmaster is killed too" {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			_ = command.Process.Kill()
			_ = command.Wait()

			began := time.Now()
			cluster := start(t, postgres.ClusterConfig{Dir: dir})
			t.Logf("started again after %v", time.Since(began))
			if n := query[int](t, cluster.AdminURL("postgres"), "SELECT n FROM kept"); n != 42 {
				t.Errorf("read %d, want 42", n)
			}
		})
	}
}

func runParent(t *testing.T, dir string) (command *osexec.Cmd, pid int, url string) {
	t.Helper()
	command = osexec.Command(os.Args[0])
	command.Env = append(os.Environ(), parentEnv+"="+dir)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &pid, &url); err != nil {
		t.Fatalf("the parent said %q", line)
	}
	return command, pid, url
}

// A pid file outlives its server when the machine loses power, and the number in it then
// belongs to anybody; a zombie looks the same to PostgreSQL.
func TestClusterStartsWithTheNumberOfAnotherProcessInItsPidFile(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	stop(t, start(t, postgres.ClusterConfig{Dir: dir}))
	content := fmt.Sprintf("%d\n%s/pgdata\n0\n5432\n\n\n\nready\n", os.Getpid(), dir)
	if err := os.WriteFile(filepath.Join(dir, "pgdata", "postmaster.pid"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	cluster := start(t, postgres.ClusterConfig{Dir: dir})
	query[int](t, cluster.AdminURL("postgres"), "SELECT 1")
}
