package regional

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// heardWithin is how exactly it is known when a chapter was last heard of: a busy one is written once an hour.
const heardWithin = time.Hour

// listTopic keeps nothing of the lists, whose tokens are none of a region's business: that they move is a sign of life.
var listTopic = bus.Topic{
	Kind: "list", Passing: true,
	Apply: func(context.Context, pgx.Tx, []bus.Event) error { return nil },
}

// heard lets a topic of a site also note that the chapter was heard of, whose id is the second element of every subject
// there. What is fetched as a snapshot is no sign of life: it has no subject.
func (s *Service) heard(site string, topic bus.Topic) bus.Topic {
	apply := topic.Apply
	topic.Apply = func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
		if err := apply(ctx, tx, parts); err != nil {
			return err
		}
		elements := strings.Split(parts[0].Subject, ".")
		if len(elements) < 2 {
			return nil
		}
		now := s.clock.Now()
		return db.New(tx).HearOfChapter(ctx, db.HearOfChapterParams{
			ID: elements[1], Site: site, Now: now, NotSince: now.Add(-heardWithin),
		})
	}
	return topic
}
