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
	rows, err := q.PeopleInTerm(ctx, now)
	if err != nil {
		return nil, err
	}
	a := &actors{regions: regions, people: map[uuid.UUID]coordinator{}, of: map[string][]uuid.UUID{}}
	here := map[string][]coordinator{}
	for _, row := range rows {
		one := coordinator(row)
		a.people[one.Coordinator.ID] = one
		here[one.Coordinator.RegionID] = append(here[one.Coordinator.RegionID], one)
	}
	for _, region := range regions {
		var nearest []coordinator
		for _, above := range slices.Backward(region.Path) {
			nearest = append(nearest, here[above]...)
		}
		for _, c := range whoActs(region.ID, nearest, a.people, now).GetCoordinators() {
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
