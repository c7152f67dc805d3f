package regional

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// waitingEvery is how often it is looked whether relays wait with others than before: somebody is away from today on,
	// a term has begun.
	waitingEvery = 5 * time.Second
	// waitingBatch bounds how many relays one transaction tells of.
	waitingBatch = 500
)

// roster is everybody in their term, by whom it is found who acts for many regions at once.
type roster struct {
	here map[string][]coordinator
	all  map[uuid.UUID]coordinator
	now  time.Time
}

func readRoster(ctx context.Context, q *db.Queries, now time.Time) (roster, error) {
	rows, err := q.PeopleInTerm(ctx, now)
	if err != nil {
		return roster{}, fmt.Errorf("read who is in their term: %w", err)
	}
	r := roster{here: map[string][]coordinator{}, all: make(map[uuid.UUID]coordinator, len(rows)), now: now}
	for _, row := range rows {
		one := coordinator(row)
		r.all[row.Coordinator.ID] = one
		r.here[row.Coordinator.RegionID] = append(r.here[row.Coordinator.RegionID], one)
	}
	return r, nil
}

// acting says who acts for the region that a path leads to.
func (r roster) acting(path []string) *regionalv1.Acting {
	var people []coordinator
	for _, region := range slices.Backward(path) {
		people = append(people, r.here[region]...)
	}
	return whoActs(path[len(path)-1], people, r.all, r.now)
}

// waiters is with whom relays wait, region by region: as the statements take it.
type waiters struct {
	regions, with, actingRegions []string
}

// add notes with whom relays of a region wait. Its path is that of the region that stands for it.
func (w *waiters) add(region string, path []string, r roster) {
	found := r.acting(path)
	var names []string
	for _, one := range found.GetCoordinators() {
		names = append(names, one.GetName())
	}
	w.regions = append(w.regions, region)
	w.with = append(w.with, strings.Join(names, " "))
	w.actingRegions = append(w.actingRegions, regionID(found.GetActingRegion()))
}

// waitersAt finds with whom an announcement will wait that arrives in regions now.
func waitersAt(ctx context.Context, q *db.Queries, at []db.TouchedChildrenRow, now time.Time) (waiters, error) {
	var w waiters
	r, err := readRoster(ctx, q, now)
	if err != nil {
		return w, err
	}
	ids := make([]string, 0, len(at))
	for _, place := range at {
		ids = append(ids, place.ID)
	}
	found, err := q.RegionsOf(ctx, ids)
	if err != nil {
		return w, err
	}
	paths := make(map[string][]string, len(found))
	for _, region := range found {
		paths[region.ID] = region.Path
	}
	for _, id := range ids {
		path := paths[id]
		if path == nil { // it was closed a moment ago
			path = []string{id}
		}
		w.add(id, path, r)
	}
	return w, nil
}

// tellWaiting tells of relays that wait with others than before, and says how many there were.
func (s *Service) tellWaiting(ctx context.Context) (int, error) {
	n := 0
	err := s.alone(ctx, func(tx pgx.Tx) error {
		q, now := db.New(tx), s.clock.Now()
		open, err := q.WaitingRegions(ctx)
		if err != nil || len(open) == 0 {
			return err
		}
		r, err := readRoster(ctx, q, now)
		if err != nil {
			return err
		}
		var w waiters
		for _, region := range open {
			path := region.Path
			if region.Closed {
				heir, err := successor(ctx, q, region.ID)
				if err != nil {
					return err
				}
				path = heir.Path
			}
			w.add(region.ID, path, r)
		}
		changed, err := q.SetWaitingWith(ctx, db.SetWaitingWithParams{
			Regions: w.regions, WaitingWith: w.with, ActingRegions: w.actingRegions, Size: waitingBatch, Now: now,
		})
		if err != nil {
			return err
		}
		n = len(changed)
		return appendMixedRelays(ctx, tx, changed)
	})
	if err != nil {
		return 0, fmt.Errorf("tell with whom relays wait: %w", err)
	}
	return n, nil
}
