package platformtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/durationpb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

const (
	// A tree of four levels: the world, and ten regions in each region above.
	branches, levels = 10, 4
	chaptersInAll    = 20_000
	// countPause keeps counting, which is not what is measured, from taking the machine; it is the resolution.
	countPause = 20 * time.Millisecond
	// bodyBytes is a long announcement.
	bodyBytes = 16 << 10
)

// BenchmarkCascade publishes an announcement to 20,000 chapters through a tree of four levels, between separate processes,
// and measures the time from the call until the last inbox has it and until the reach says so. What it is held against is
// measured in the same run: JetStream delivering a message a chapter, or one a region, which is what the cascade sends, and
// a bare COPY of as many rows into a table like the inboxes'.
func BenchmarkCascade(b *testing.B) {
	d := &deployment{tampered: testkit.NATS(b)}
	d.open(b)
	regions := d.plant(b)
	local := get(postgres.Open(b.Context(), d.cluster.URL(d.tiers[bus.Local])))(b)
	b.Cleanup(local.Close)
	settleTree(b, local, regions)
	var inboxes, reach, perChapter, perRegion, copied time.Duration
	for b.Loop() {
		arrived, counted := d.cascade(b, local)
		inboxes, reach = inboxes+arrived, reach+counted
		perChapter += d.deliver(b, chaptersInAll)
		perRegion += d.deliver(b, regions)
		copied += copyItems(b, local)
	}
	ms := func(what time.Duration) float64 { return float64(what.Milliseconds()) / float64(b.N) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(inboxes), "ms-last-inbox")
	b.ReportMetric(ms(reach), "ms-reach")
	b.ReportMetric(ms(copied), "ms-copy")
	b.ReportMetric(ms(perChapter), "ms-message-a-chapter")
	b.ReportMetric(ms(perRegion), "ms-message-a-region")
	b.ReportMetric(inboxes.Seconds()/(perChapter+copied).Seconds(), "x-message-a-chapter")
	b.ReportMetric(inboxes.Seconds()/(perRegion+copied).Seconds(), "x-message-a-region")
}

// plant makes the tree, and puts the chapters where they lie with one statement. It returns how many regions there are.
func (d *deployment) plant(b *testing.B) int {
	b.Helper()
	for _, tier := range []string{bus.International, bus.Regional} { // nothing is to be asked for
		d.exec(b, tier, `INSERT INTO positions (tier, site, aggregate, kind, epoch, number)
			SELECT 'local', 'main', 'chapters/c' || i, 'chapter', 1, 1 FROM generate_series(1, $1::int) i`, chaptersInAll)
		d.exec(b, tier, "ANALYZE positions")
	}
	ctx := d.staff(bounded(b, 5*time.Minute), b)
	above, made := []string{"world"}, 1
	for level := 1; level < levels; level++ {
		var here []string
		var calls sync.WaitGroup
		for _, parent := range above {
			for i := range branches {
				id := fmt.Sprintf("%s-%d", strings.TrimPrefix(parent, "world"), i)
				id = "r" + strings.TrimPrefix(strings.TrimPrefix(id, "r"), "-")
				here = append(here, id)
				calls.Go(func() {
					_, err := d.regions.CreateRegion(ctx, &regionalv1.CreateRegionRequest{
						RegionId: id, Region: &regionalv1.Region{DisplayName: id, ParentRegion: "regions/" + parent},
					})
					if err != nil {
						b.Error(err)
					}
				})
			}
			calls.Wait()
		}
		above, made = here, made+len(here)
	}
	d.exec(b, bus.Local, `
INSERT INTO chapters (id, display_name, region, city, country_code, latitude, longitude, url, epoch, version, create_time, update_time)
SELECT 'c' || i, 'Chapter ' || i, ($1::text[])[1 + i % cardinality($1::text[])], '', '', 0, 0, '', 1, 1, now(), now()
FROM generate_series(1, $2::int) i`, above, chaptersInAll)
	return made
}

// exec runs a statement in a tier's database.
func (d *deployment) exec(b *testing.B, tier, statement string, args ...any) {
	b.Helper()
	pool := get(postgres.Open(b.Context(), d.cluster.URL(d.tiers[tier])))(b)
	defer pool.Close()
	_, err := pool.Exec(b.Context(), statement, args...)
	must(b, err)
}

// settleTree waits until the local tier knows the tree.
func settleTree(b *testing.B, local *pgxpool.Pool, regions int) {
	b.Helper()
	eventually(b, 2*time.Minute, func() string {
		var known int
		must(b, local.QueryRow(b.Context(), "SELECT count(*) FROM regions").Scan(&known))
		if known < regions {
			return fmt.Sprintf("%d of %d regions are known", known, regions)
		}
		return ""
	})
	for _, statement := range []string{
		"ANALYZE chapters", "DROP TABLE IF EXISTS bare_items", "CREATE TABLE bare_items (LIKE inbox_items INCLUDING ALL)",
	} {
		_, err := local.Exec(b.Context(), statement)
		must(b, err)
	}
}

// cascade publishes one announcement, and says after what time the last inbox had it and after what time the reach said so.
func (d *deployment) cascade(b *testing.B, local *pgxpool.Pool) (arrived, counted time.Duration) {
	b.Helper()
	client, ctx := internationalv1.NewAnnouncementServiceClient(d.conns[bus.International]), d.staff(bounded(b, 5*time.Minute), b)
	draft := get(client.CreateAnnouncement(ctx, &internationalv1.CreateAnnouncementRequest{Announcement: &internationalv1.Announcement{
		Subject: "News", Body: strings.Repeat("All is well. ", bodyBytes/13), Priority: internationalv1.Announcement_URGENT,
		RelayDeadline: durationpb.New(time.Hour),
	}}))(b)
	id := strings.TrimPrefix(draft.GetName(), "announcements/")
	begin := time.Now()
	get(client.PublishAnnouncement(ctx, &internationalv1.PublishAnnouncementRequest{Name: draft.GetName()}))(b)
	since := func(complaint func() string) time.Duration {
		eventually(b, 5*time.Minute, complaint)
		return time.Since(begin)
	}
	arrived = since(func() string {
		var have int
		must(b, local.QueryRow(ctx, "SELECT count(*) FROM inbox_items WHERE announcement_id = $1", id).Scan(&have))
		<-time.After(countPause)
		return orNothing(have == chaptersInAll, fmt.Sprintf("%d inboxes have it", have))
	})
	counted = since(func() string {
		reach := get(client.GetAnnouncementReach(ctx, &internationalv1.GetAnnouncementReachRequest{Name: draft.GetName() + "/reach"}))(b)
		<-time.After(5 * countPause)
		return orNothing(reach.GetTotal().GetChaptersReached() == chaptersInAll, fmt.Sprintf("%d chapters are counted", reach.GetTotal().GetChaptersReached()))
	})
	return arrived, counted
}

func orNothing(good bool, complaint string) string {
	if good {
		return ""
	}
	return complaint
}

// deliver is how long JetStream takes to take so many messages of the size of a relay's event and to hand them to a consumer
// that acknowledges each.
func (d *deployment) deliver(b *testing.B, count int) time.Duration {
	b.Helper()
	nc := d.tampered.Admin(b)
	js := get(jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(500)))(b)
	ctx := bounded(b, 5*time.Minute)
	name := "BARE" + strings.ToUpper(uuid.NewString()[:8])
	stream := get(js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{"bare." + name + ".>"}, Storage: jetstream.FileStorage}))(b)
	defer func() { must(b, js.DeleteStream(context.WithoutCancel(ctx), name)) }()
	consumer := get(stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, Durable: "bare", MaxAckPending: 5000}))(b)
	messages := get(consumer.Messages(jetstream.PullMaxMessages(500)))(b)
	defer messages.Stop()
	data := make([]byte, 400)
	begin := time.Now()
	go func() {
		for i := range count {
			if _, err := js.PublishMsgAsync(&nats.Msg{Subject: fmt.Sprintf("bare.%s.%d", name, i), Data: data}, jetstream.WithStallWait(time.Minute)); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	for range count {
		must(b, get(messages.Next())(b).Ack())
	}
	return time.Since(begin)
}

// copyItems is a bare COPY of as many items.
func copyItems(b *testing.B, local *pgxpool.Pool) time.Duration {
	b.Helper()
	id, at := uuid.New(), time.Now()
	_, err := local.CopyFrom(b.Context(), pgx.Identifier{"bare_items"},
		[]string{"announcement_id", "chapter_id", "region", "arrived_edition", "arrive_time", "update_time", "epoch"},
		pgx.CopyFromSlice(chaptersInAll, func(i int) ([]any, error) {
			return []any{id, fmt.Sprint("c", i), "world", int32(1), at, at, int64(1)}, nil
		}))
	must(b, err)
	return time.Since(at)
}
