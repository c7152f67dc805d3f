package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// What the process that is to be killed is told.
const (
	victimDatabase = "CHAPTERHOUSE_TEST_DATABASE"
	victimNATS     = "CHAPTERHOUSE_TEST_NATS"
	victimSMTP     = "CHAPTERHOUSE_TEST_SMTP"
)

// runVictim is a local service in a process of its own, until its standard input ends.
func runVictim() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		cancel()
	}()
	pool, err := postgres.Open(ctx, os.Getenv(victimDatabase))
	if err != nil {
		return err
	}
	defer pool.Close()
	conn, err := bus.Connect(os.Getenv(victimNATS), bus.User(bus.Local, bus.MainSite), testkit.NATSPassword, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer conn.Close()
	mailer, err := mail.New(mail.Config{SMTP: "smtp+plain://" + os.Getenv(victimSMTP), From: "site@chapterhouse.example"}, clock.System{})
	if err != nil {
		return err
	}
	defer mailer.Close(context.Background())
	s, err := New(ctx, Deps{
		Pool: pool, NATS: conn, Clock: clock.System{}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		SiteKey: address.NewMasterKey().SiteKey(bus.MainSite), Mail: mailer,
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// victim is such a process, which can be killed and started again.
type victim struct {
	t    testing.TB
	env  []string
	cmd  *exec.Cmd
	pipe io.Closer
}

func (v *victim) start() {
	v.t.Helper()
	program, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	v.cmd = exec.CommandContext(context.Background(), program)
	v.cmd.Env = append(os.Environ(), v.env...)
	if v.pipe, err = v.cmd.StdinPipe(); err == nil {
		err = v.cmd.Start()
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// kill is kill -9.
func (v *victim) kill() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill() // it may have ended
	_ = v.cmd.Wait()         // it was killed
	_ = v.pipe.Close()
	v.cmd = nil
}

// massMailing is a mailing that is due, and processes that send it into a sink, none of which is started.
type massMailing struct {
	t       *testing.T
	people  int
	pool    *pgxpool.Pool
	sink    *mailsink.Sink
	victims []*victim
}

func newMassMailing(t *testing.T, people, processes int) *massMailing {
	t.Helper()
	database := testkit.Database(t, Migrations()...)
	pool, err := postgres.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	sink, err := mailsink.Start(t.Context(), mailsink.Config{Keep: 2 * people})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	scheduleMailing(t, pool, people)
	m := &massMailing{t: t, people: people, pool: pool, sink: sink}
	nats := testkit.NATS(t).URL()
	for range processes {
		v := &victim{t: t, env: []string{victimDatabase + "=" + database, victimNATS + "=" + nats, victimSMTP + "=" + sink.Addr()}}
		t.Cleanup(v.kill)
		m.victims = append(m.victims, v)
	}
	return m
}

// arrived waits until so many mails have arrived.
func (m *massMailing) arrived(n int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if _, err := m.sink.Wait(ctx, func(all []mailsink.Message) bool { return len(all) >= n }); err != nil {
		m.t.Fatal(err)
	}
}

// ended waits until nothing is queued any more.
func (m *massMailing) ended() {
	m.t.Helper()
	states := map[string]int{}
	testkit.Eventually(m.t, time.Minute, func() (bool, string) {
		states = mailStates(m.t, m.pool)
		return states["QUEUED"] == 0, fmt.Sprint(states)
	})
	for _, v := range m.victims {
		v.kill()
	}
	m.t.Logf("%v, %d mails arrived", states, len(m.sink.Messages()))
}

// TestKillsSendNobodyTwice kills a process that sends 5,000 mails 50 times, in the middle of them. Nobody is missed who is
// not UNCERTAIN, nobody gets two, and at most one mail a connection and kill is UNCERTAIN.
func TestKillsSendNobodyTwice(t *testing.T) {
	t.Parallel()
	const people, kills, connections = 5000, 50, 4
	m := newMassMailing(t, people, 1)
	v := m.victims[0]
	for range kills {
		v.start()
		// Those that are lost never arrive; and the last life has some mails left to send.
		m.arrived(min(len(m.sink.Messages())+rand.IntN(2*people/(kills+10)), people-connections*kills))
		v.kill()
	}
	v.start()
	m.ended()
	judge(t, m.pool, m.sink.Messages(), people, kills*connections)
}

// TestProcessesShareAMailing has three processes send one mailing from one database, and kills them in turn: the others take
// over what the dead one had taken, and the promises are those of one process.
func TestProcessesShareAMailing(t *testing.T) {
	t.Parallel()
	const people, kills, connections = 3000, 12, 4
	m := newMassMailing(t, people, 3)
	for _, v := range m.victims {
		v.start()
	}
	for i := range kills {
		m.arrived(min(len(m.sink.Messages())+rand.IntN(2*people/(kills+4)), people-connections*kills))
		v := m.victims[i%len(m.victims)]
		v.kill()
		if i < kills-2 { // the end is one process's
			v.start()
		}
	}
	m.ended()
	judge(t, m.pool, m.sink.Messages(), people, kills*connections)
}

// judge compares what arrived with what is recorded.
func judge(t *testing.T, pool *pgxpool.Pool, messages []mailsink.Message, people, mayBeUncertain int) {
	t.Helper()
	copies := map[string]int{}
	for _, message := range messages {
		copies[message.To[0]]++
	}
	rows, err := pool.Query(t.Context(), "SELECT e.address, m.state FROM mails m JOIN entries e USING (list_no, token)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen, uncertain := 0, 0
	for rows.Next() { //nolint:forbidigo // two texts
		var to, state string
		if err := rows.Scan(&to, &state); err != nil {
			t.Fatal(err)
		}
		seen++
		switch n := copies[to]; {
		case n > 1:
			t.Errorf("%s got %d", to, n)
		case state == mailUncertain:
			uncertain++
		case state != mailSent || n != 1:
			t.Errorf("%s got %d, and the mail is %s", to, n, state)
		}
	}
	if err := errors.Join(rows.Err()); err != nil {
		t.Fatal(err)
	}
	if seen != people || uncertain > mayBeUncertain {
		t.Errorf("%d mails, %d of them uncertain, want %d and at most %d", seen, uncertain, people, mayBeUncertain)
	}
	var counted int
	if err := pool.QueryRow(t.Context(), "SELECT sent + uncertain FROM mailings WHERE state = 'DONE' AND uncertain = $1", uncertain).Scan(&counted); err != nil || counted != people {
		t.Errorf("the mailing counts %d (%v)", counted, err)
	}
}

func mailStates(t testing.TB, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	var started bool
	if err := pool.QueryRow(t.Context(), "SELECT bool_and(start_time IS NOT NULL) FROM mailings").Scan(&started); err != nil {
		t.Fatal(err)
	}
	states := map[string]int{"QUEUED": 1}
	if !started {
		return states
	}
	clear(states)
	rows, err := pool.Query(t.Context(), "SELECT state, count(*) FROM mails GROUP BY state")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() { //nolint:forbidigo // a text and a number
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			t.Fatal(err)
		}
		states[state] = n
	}
	return states
}

// scheduleMailing makes a list of so many people and an announcement that is due to be mailed to it.
func scheduleMailing(t testing.TB, pool *pgxpool.Pool, people int) {
	t.Helper()
	news := announcement("news")
	content, err := proto.Marshal(news)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO chapters (id, display_name, region, city, country_code, latitude, longitude, url, epoch, version, create_time, update_time)
		  VALUES ('golang-paris', 'Golang Paris', 'world', '', '', 0, 0, '', 1, 1, now(), now()) ON CONFLICT DO NOTHING`, nil},
		{`INSERT INTO lists (chapter_id, id, display_name, double_opt_in, epoch, version, create_time, update_time, subscribed)
		  VALUES ('golang-paris', 'members', 'Members', false, 1, 1, now(), now(), $1) ON CONFLICT DO NOTHING`, []any{people}},
		{`INSERT INTO entries (list_no, token, version, create_time, update_time, state, address, display_name, sources)
		  SELECT list_no, '\x0101' || sha256(i::text::bytea), 1, now(), now(), 1, 'person' || i || '@example.org', 'Person ' || i, '{crm}'
		  FROM lists, generate_series(1, $1::integer) i`, []any{people}},
		{`INSERT INTO announcements (id, name, edition, content) VALUES ($1, $2, 1, $3)`, []any{idOf(news), news.GetAnnouncement(), content}},
		{`INSERT INTO inbox_items (announcement_id, chapter_id, region, arrived_edition, arrive_time, update_time, epoch)
		  VALUES ($1, 'golang-paris', 'world', 1, now(), now(), 1)`, []any{idOf(news)}},
		{`INSERT INTO mailings (announcement_id, chapter_id, list_no, state, automatic, due_time, create_time)
		  SELECT $1, 'golang-paris', list_no, 'SCHEDULED', true, now(), now() FROM lists`, []any{idOf(news)}},
		{`ANALYZE`, nil},
	} {
		if _, err := pool.Exec(t.Context(), statement.sql, statement.args...); err != nil {
			t.Fatalf("%s: %v", statement.sql, err)
		}
	}
}
