package platformtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// wantNoSecret finds the story's addresses and names in a text, whatever their letters' case.
func wantNoSecret(t *testing.T, where, text string) {
	t.Helper()
	if text == "" {
		t.Errorf("nothing in %s: it was not recorded", where)
	}
	for _, line := range strings.Split(text, "\n") {
		if isSecret(line) {
			t.Errorf("in %s: %s", where, line)
			return
		}
	}
}

func isSecret(text string) bool {
	lower := strings.ToLower(text)
	return strings.Contains(lower, strings.ToLower(secretDomain)) || strings.Contains(lower, strings.ToLower(secretName))
}

// wantNoSecretInStreams finds them in messages: subjects, headers and data.
func wantNoSecretInStreams(t *testing.T, messages map[string][]*jetstream.RawStreamMsg) {
	t.Helper()
	for stream, all := range messages {
		for _, m := range all {
			if text := fmt.Sprintf("%s %v %s", m.Subject, m.Header, m.Data); isSecret(text) {
				t.Errorf("in %s: %s", stream, m.Subject)
				break
			}
		}
	}
	for _, tier := range []string{bus.International, bus.Regional, bus.Local} {
		if len(messages[bus.Stream(tier, bus.MainSite)]) == 0 {
			t.Errorf("no message of the %s tier: the search found nothing because there is nothing", tier)
		}
	}
}

// streams is all messages of all streams, each read with the credentials of its owner.
func (f *federation) readStreams(t *testing.T, url string) map[string][]*jetstream.RawStreamMsg {
	t.Helper()
	ctx := bounded(t, patience)
	all := map[string][]*jetstream.RawStreamMsg{}
	for _, tier := range []string{bus.International, bus.Regional, bus.Local} {
		password := get(f.keys.Password(tier, bus.MainSite))(t)
		nc := get(bus.Connect(url, bus.User(tier, bus.MainSite), password, slog.New(slog.DiscardHandler)))(t)
		defer nc.Close()
		for _, name := range []string{bus.Stream(tier, bus.MainSite), bus.DeadStream(tier, bus.MainSite)} {
			all[name] = readStream(ctx, t, nc, name)
		}
	}
	return all
}

func readStream(ctx context.Context, t *testing.T, nc *nats.Conn, name string) []*jetstream.RawStreamMsg {
	t.Helper()
	js := get(jetstream.New(nc))(t)
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	must(t, err)
	var all []*jetstream.RawStreamMsg
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		must(t, err)
		all = append(all, m)
	}
	return all
}

func (o *one) streams(t *testing.T) map[string][]*jetstream.RawStreamMsg {
	t.Helper()
	return o.readStreams(t, o.natsURL)
}

func (d *deployment) streams(t *testing.T) map[string][]*jetstream.RawStreamMsg {
	t.Helper()
	return d.readStreams(t, d.nats)
}

// wantNoSecretAbove finds addresses that are on chapters' lists alone, and no member's, in the databases of the tiers
// above.
func (d *deployment) wantNoSecretAbove(t *testing.T) {
	t.Helper()
	for _, tier := range []string{bus.International, bus.Regional} {
		for table, rows := range d.search(t, tier, "%bob.%@"+secretDomain+"%") {
			t.Errorf("the %s database has %d rows with a chapter's addresses in %s", tier, rows, table)
		}
	}
	if len(d.search(t, bus.Local, "%bob.%@"+secretDomain+"%")) == 0 {
		t.Error("the search does not find the addresses where they belong")
	}
}

// search counts the rows of each table of a tier's database that match a pattern in any column.
func (d *deployment) search(t *testing.T, tier, pattern string) map[string]int {
	t.Helper()
	ctx := bounded(t, patience)
	pool := get(postgres.Open(ctx, d.cluster.URL(d.tiers[tier])))(t)
	defer pool.Close()
	rows := get(pool.Query(ctx, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"))(t)
	tables := get(pgx.CollectRows(rows, pgx.RowTo[string]))(t)
	found := map[string]int{}
	for _, table := range tables {
		var count int
		must(t, pool.QueryRow(ctx, "SELECT count(*) FROM "+table+" AS x WHERE x::text LIKE $1", pattern).Scan(&count))
		if count > 0 {
			found[table] = count
		}
	}
	return found
}
