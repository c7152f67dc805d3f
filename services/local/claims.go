package local

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// seenBySource says when each source of a list last gave all of it: it had every entry then that it claims now.
func seenBySource(ctx context.Context, q *db.Queries, listNo int64) (map[string]time.Time, error) {
	rows, err := q.SourcesSeen(ctx, listNo)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]time.Time, len(rows))
	for _, row := range rows {
		seen[row.Source] = row.ReplaceTime
	}
	return seen, nil
}

// viewClaims says when each source first and last had the entry, in the order in which they came: a claim that a revert
// gave back stands behind the others.
func viewClaims(e db.Entry, seen map[string]time.Time) []*localv1.Claim {
	claims := make([]*localv1.Claim, 0, len(e.Sources))
	for i, source := range e.Sources {
		claims = append(claims, &localv1.Claim{
			Source: source, FirstSeenTime: timestamppb.New(firstSeen(e, i)), LastSeenTime: timestamppb.New(lastSeen(e, i, seen)),
		})
	}
	slices.SortStableFunc(claims, func(a, b *localv1.Claim) int {
		return a.GetFirstSeenTime().AsTime().Compare(b.GetFirstSeenTime().AsTime())
	})
	return claims
}

// firstSeen and lastSeen are when the source in a place of an entry first and last had it.
func firstSeen(e db.Entry, place int) time.Time {
	if place < len(e.ClaimedTimes) {
		return e.ClaimedTimes[place]
	}
	return e.CreateTime
}

func lastSeen(e db.Entry, place int, seen map[string]time.Time) time.Time {
	last := firstSeen(e, place)
	if place < len(e.SeenTimes) {
		last = later(last, e.SeenTimes[place])
	}
	if e.State <= pending {
		last = later(last, seen[e.Sources[place]])
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
