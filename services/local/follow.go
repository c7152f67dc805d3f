package local

import (
	"context"
	"fmt"
	"sync"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// followPage is how many changes an answer holds at most.
	followPage = 1000
	// followTick is how soon a change is noticed that another process has made.
	followTick = time.Second
)

// FollowList answers what changed after a point. What changed several times is shown as it is now, every time: who
// follows puts the last word on what went before.
func (s *Service) FollowList(ctx context.Context, req *localv1.FollowListRequest) (*localv1.FollowListResponse, error) {
	from, err := parsePoint(req.GetSince())
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size <= 0 || size > followPage {
		size = followPage
	}
	deadline := time.NewTimer(time.Duration(req.GetWaitSeconds()) * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		moved := s.moves.next()
		answer, err := s.changesAfter(ctx, req.GetParent(), from, size)
		if err != nil || len(answer.GetChanges()) > 0 || req.GetWaitSeconds() == 0 {
			return answer, err
		}
		select {
		case <-moved:
		case <-tick.C:
		case <-deadline.C:
			return answer, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Service) changesAfter(ctx context.Context, name string, from point, size int) (*localv1.FollowListResponse, error) {
	q := db.New(s.pool)
	list, err := findList(ctx, q, name)
	if err != nil {
		return nil, err
	}
	if from.epoch != list.Epoch || from.version < list.ChangesFloor || from.version > list.Version {
		return nil, rpc.Precondition(errorv1.Reason_REASON_CHANGES_EXPIRED,
			"the changes of %s since then are not kept; read all entries, and follow from their etag", name)
	}
	rows, err := q.ChangesAfter(ctx, db.ChangesAfterParams{
		ListNo: list.ListNo, Epoch: from.epoch, Version: from.version, Part: from.part, Position: from.position, Size: int32(size) + 1,
	})
	if err != nil {
		return nil, err
	}
	answer := &localv1.FollowListResponse{More: len(rows) > size}
	if answer.GetMore() {
		rows = rows[:size]
	}
	seen, err := seenBySource(ctx, q, list.ListNo)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		answer.Changes = append(answer.Changes, viewEntryChange(name, row, seen))
	}
	// The list was read first: what was written meanwhile stands behind the last row, if it is not among them.
	next := from
	if len(rows) > 0 {
		last := rows[len(rows)-1]
		next = point{list.Epoch, last.ListVersion, last.Part, last.Position}
	}
	if !answer.GetMore() && next.version < list.Version {
		next = point{list.Epoch, list.Version, wholeVersion, 0}
	}
	answer.NextSince = next.String()
	return answer, nil
}

func viewEntryChange(list string, row db.ChangesAfterRow, seen map[string]time.Time) *localv1.EntryChange {
	change := &localv1.EntryChange{EntryName: entryName(list, row.Token)}
	if row.State != 0 {
		change.Entry = viewEntry(list, db.Entry{
			Token: row.Token, Version: row.Version, CreateTime: row.CreateTime, UpdateTime: row.UpdateTime, State: row.State,
			Address: row.Address, DisplayName: row.DisplayName, Sources: row.Sources,
			ClaimedTimes: row.ClaimedTimes, SeenTimes: row.SeenTimes,
		}, seen)
	}
	return change
}

// point is a place in a list's changes: behind the change at a position of a part of a version.
type point struct {
	epoch, version int64
	part, position int32
}

// wholeVersion is behind all parts of a version.
const wholeVersion = 1 << 30

func (p point) String() string {
	if p.part == wholeVersion {
		return etag(p.epoch, p.version)
	}
	return fmt.Sprintf("%d-%d-%d-%d", p.epoch, p.version, p.part, p.position)
}

// parsePoint reads a point, or the etag of a list or of its entries, which are behind all of their version.
func parsePoint(since string) (point, error) {
	var p point
	n, _ := fmt.Sscanf(since, "%d-%d-%d-%d", &p.epoch, &p.version, &p.part, &p.position)
	if n < 2 || p.epoch <= 0 || p.version <= 0 || p.part < 0 || p.position < 0 {
		return p, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "since", "must be a nextSince of before, or the etag of the list or of its entries")
	}
	if n < 4 {
		p.part, p.position = wholeVersion, 0
	}
	return p, nil
}

// moves wakes those who wait for a list to change. It does not say which one: looking costs less than knowing.
type moves struct {
	mu      sync.Mutex
	waiting chan struct{}
}

// next is closed when something is written after the call.
func (m *moves) next() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil {
		m.waiting = make(chan struct{})
	}
	return m.waiting
}

func (m *moves) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting != nil {
		close(m.waiting)
		m.waiting = nil
	}
}
