package regional

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// actors says who acts for each region at one moment.
type actors struct {
	// regions are all that are open, those above before those below.
	regions []db.OpenRegionsRow
	people  map[uuid.UUID]coordinator
	of      map[string][]uuid.UUID
}

func readActors(ctx context.Context, q *db.Queries, now time.Time) (*actors, error) {
	regions, err := q.OpenRegions(ctx)
	if err != nil {
		return nil, err
	}
	r, err := readRoster(ctx, q, now)
	if err != nil {
		return nil, err
	}
	a := &actors{regions: regions, people: r.all, of: map[string][]uuid.UUID{}}
	for _, region := range regions {
		for _, c := range r.acting(region.Path).GetCoordinators() {
			_, id := coordinatorID(c.GetName())
			a.of[region.ID] = append(a.of[region.ID], id)
		}
	}
	return a, nil
}

// actsFor lists the regions that somebody acts for, those above before those below.
func (a *actors) actsFor(id uuid.UUID) []db.OpenRegionsRow {
	var regions []db.OpenRegionsRow
	for _, region := range a.regions {
		if slices.Contains(a.of[region.ID], id) {
			regions = append(regions, region)
		}
	}
	return regions
}

// among narrows what somebody acts for to some regions, and lists all who act for one of them.
func (a *actors) among(regions []string) map[uuid.UUID][]db.OpenRegionsRow {
	found := map[uuid.UUID][]db.OpenRegionsRow{}
	for _, region := range a.regions {
		if slices.Contains(regions, region.ID) {
			for _, id := range a.of[region.ID] {
				found[id] = append(found[id], region)
			}
		}
	}
	return found
}
