package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func accounts() postgres.Migration {
	return set("accounts", "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO account VALUES (1, 0), (2, 0);")
}

func add(ctx context.Context, tx pgx.Tx, id int) error {
	_, err := tx.Exec(ctx, "UPDATE account SET balance = balance + 1 WHERE id = $1", id)
	return err
}

func balance(t *testing.T, pool *pgxpool.Pool) (sum int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT sum(balance) FROM account").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestInTxCommits(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t, accounts())
	got, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (string, error) {
		return "done", add(t.Context(), tx, 1)
	})
	if got != "done" || err != nil {
		t.Errorf("InTx = %q, %v", got, err)
	}
	if n := balance(t, pool); n != 1 {
		t.Errorf("balance %d, want 1", n)
	}
}

func TestInTxRollsBackAndGivesBackTheConnection(t *testing.T) {
	t.Parallel()
	refusal := errors.New("refused")
	endings := map[string]func(cancel func()) error{
		"Error":  func(func()) error { return refusal },
		"Cancel": func(cancel func()) error { cancel(); return nil },
		"Panic":  func(func()) error { panic(refusal) },
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := testkit.Pool(t, accounts())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			func() {
				defer func() { _ = recover() }()
				got, err := postgres.InTx(ctx, pool, func(tx pgx.Tx) (int, error) {
					if err := add(ctx, tx, 1); err != nil {
						t.Error(err)
					}
					return 7, end(cancel)
				})
				if got != 0 || err == nil {
					t.Errorf("InTx = %d, %v", got, err)
				}
			}()
			if n := balance(t, pool); n != 0 {
				t.Errorf("balance %d, want 0", n)
			}
			if stat := pool.Stat(); stat.AcquiredConns() != 0 || stat.NewConnsCount() != 1 {
				t.Errorf("%d connections are taken, %d were made", stat.AcquiredConns(), stat.NewConnsCount())
			}
		})
	}
}

func TestInTxOptionsRetriesSerializationFailures(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t, accounts())
	meet := newMeeting(2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			first := true
			_, err := postgres.InTxOptions(t.Context(), pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) (int, error) {
				var n int
				if err := tx.QueryRow(t.Context(), "SELECT sum(balance) FROM account").Scan(&n); err != nil {
					return 0, err
				}
				if first {
					first = false
					meet.wait() // both have read before either writes
				}
				return n, add(t.Context(), tx, 1)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := balance(t, pool); n != 2 {
		t.Errorf("balance %d, want 2", n)
	}
}

func TestInTxRetriesDeadlocks(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t, accounts())
	meet := newMeeting(2)
	var wg sync.WaitGroup
	for _, order := range [][2]int{{1, 2}, {2, 1}} {
		wg.Go(func() {
			first := true
			_, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (struct{}, error) {
				if err := add(t.Context(), tx, order[0]); err != nil {
					return struct{}{}, err
				}
				if first {
					first = false
					meet.wait() // both hold one row before either wants the other
				}
				return struct{}{}, add(t.Context(), tx, order[1])
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := balance(t, pool); n != 4 {
		t.Errorf("balance %d, want 4", n)
	}
}

func TestInTxGivesUpAfterFiveTries(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t)
	tries := 0
	_, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (int, error) {
		tries++
		_, err := tx.Exec(t.Context(), "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
		return 0, fmt.Errorf("wrapped: %w", err)
	})
	if tries != 5 || code(err) != "40001" {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestInTxSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	pool := open(t, cluster.AdminURL("postgres"))
	warm(t, pool, 8)
	if err := cluster.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Every connection in the pool is dead, and the pool does not know.
	got, err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (n int, err error) {
		return n, tx.QueryRow(t.Context(), "SELECT 1").Scan(&n)
	})
	if err != nil {
		t.Errorf("InTx = %d, %v", got, err)
	}
}

func TestOpenWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	if err := cluster.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		pool, err := postgres.Open(t.Context(), cluster.AdminURL("postgres"))
		if err == nil {
			pool.Close()
		}
		opened <- err
	}()
	if err := cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestOpenDoesNotWaitForARefusal(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	for url, want := range map[string]string{
		cluster.URL(postgres.Tier{Database: "postgres", Role: "postgres", Password: "guess"}): invalidPassword,
		cluster.AdminURL("absent"): "3D000",
	} {
		began := time.Now()
		_, err := postgres.Open(t.Context(), url, postgres.WithWait(time.Hour))
		if code(err) != want {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	}
}

func TestOpenTakesOptions(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	pool, err := postgres.Open(t.Context(), url, postgres.WithApplicationName("regional"), postgres.WithMaxConns(3))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var name string
	if err := pool.QueryRow(t.Context(), "SHOW application_name").Scan(&name); err != nil {
		t.Fatal(err)
	}
	if name != "regional" || pool.Config().MaxConns != 3 {
		t.Errorf("application_name %q, %d connections", name, pool.Config().MaxConns)
	}
}

// warm fills the pool with n idle connections.
func warm(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for range n {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
}

// meeting lets goroutines wait for each other.
type meeting struct {
	wg sync.WaitGroup
}

func newMeeting(n int) *meeting {
	m := &meeting{}
	m.wg.Add(n)
	return m
}

func (m *meeting) wait() {
	m.wg.Done()
	m.wg.Wait()
}
