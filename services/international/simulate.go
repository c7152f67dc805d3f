package international

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// SimulateCharterPolicy judges every standing by a draft, as it would be when the draft came into force now. All standings
// are read at once; judging them takes less time than reading.
func (s *Service) SimulateCharterPolicy(ctx context.Context, req *internationalv1.SimulateCharterPolicyRequest) (*internationalv1.SimulateCharterPolicyResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.SimulateCharterPolicyResponse, error) {
		q := db.New(tx)
		book, err := readPolicies(ctx, q, s.clock.Now())
		if err != nil {
			return nil, err
		}
		draft, err := draftPolicy(book.inForce, req.GetCharterPolicy(), req.GetUpdateMask())
		if err != nil {
			return nil, err
		}
		args := db.StandingsForSimulationParams{AnyRegion: req.GetRegion() == ""}
		if !args.AnyRegion {
			if args.Regions, err = q.RegionsBelow(ctx, idOf(req.GetRegion())); err != nil {
				return nil, err
			}
		}
		rows, err := q.StandingsForSimulation(ctx, args)
		if err != nil {
			return nil, fmt.Errorf("read the standings: %w", err)
		}
		policies, err := policiesByRevision(ctx, q)
		if err != nil {
			return nil, err
		}
		sim := simulate(rows, policies, draft, req.GetKind())
		changes, next := cutPage(page, sim.after(page.after, int(page.size)+1), func(last *internationalv1.PolicyChange) string { return last.GetChapter() })
		shown := viewPolicy(draft)
		shown.Name, shown.Revision, shown.EffectiveTime, shown.CreateTime = "", "", nil, nil // it is none yet
		return &internationalv1.SimulateCharterPolicyResponse{
			InForce: book.view(book.inForce), Draft: shown, Total: sim.total, Regions: sim.byRegion(),
			Changes: changes, NextPageToken: next,
		}, nil
	})
}

// simulation is what a draft would do.
type simulation struct {
	total   *internationalv1.PolicyCounts
	regions map[string]*internationalv1.PolicyCounts
	// Of the kind that is asked for, by chapter.
	changes []*internationalv1.PolicyChange
}

func simulate(rows []db.StandingsForSimulationRow, policies map[int32]db.Policy, draft db.Policy, kind internationalv1.PolicyChange_Kind) *simulation {
	sim := &simulation{total: &internationalv1.PolicyCounts{}, regions: map[string]*internationalv1.PolicyCounts{}}
	for _, row := range rows {
		after := judged(row.Standing, draft, row.Standing.UpdateTime)
		of := sim.regions[row.Region]
		if of == nil {
			of = &internationalv1.PolicyCounts{}
			sim.regions[row.Region] = of
		}
		charterAfter := row.CharterState
		if row.Standing.Eligible != after.Eligible {
			charterAfter = follows(db.Charter{State: row.CharterState, OverrideUntilTime: row.OverrideUntilTime}, after.Eligible)
		}
		change := changeKind(row.Standing.Eligible, after.Eligible, row.CharterState != charterAfter)
		for _, counts := range []*internationalv1.PolicyCounts{sim.total, of} {
			tally(counts, row.Standing.Eligible, after.Eligible, change)
		}
		if change != internationalv1.PolicyChange_KIND_UNSPECIFIED && (kind == change || kind == internationalv1.PolicyChange_KIND_UNSPECIFIED) {
			sim.changes = append(sim.changes, viewPolicyChange(row, policies[row.Standing.PolicyRevision], after, draft, change, charterAfter))
		}
	}
	return sim
}

func changeKind(before, after, charterMoves bool) internationalv1.PolicyChange_Kind {
	switch {
	case before == after:
		return internationalv1.PolicyChange_KIND_UNSPECIFIED
	case after && charterMoves:
		return internationalv1.PolicyChange_RETURNS
	case after:
		return internationalv1.PolicyChange_GAINS
	case charterMoves:
		return internationalv1.PolicyChange_AT_RISK
	}
	return internationalv1.PolicyChange_LOSES
}

func tally(counts *internationalv1.PolicyCounts, before, after bool, change internationalv1.PolicyChange_Kind) {
	counts.Chapters++
	if before {
		counts.EligibleBefore++
	}
	if after {
		counts.EligibleAfter++
	}
	switch change {
	case internationalv1.PolicyChange_KIND_UNSPECIFIED:
		return
	case internationalv1.PolicyChange_AT_RISK:
		counts.ChartersAtRisk++
	case internationalv1.PolicyChange_RETURNS:
		counts.ChartersReturning++
	case internationalv1.PolicyChange_GAINS, internationalv1.PolicyChange_LOSES:
	}
	if after {
		counts.Gaining++
	} else {
		counts.Losing++
	}
}

func viewPolicyChange(row db.StandingsForSimulationRow, policy db.Policy, after db.Standing, draft db.Policy, kind internationalv1.PolicyChange_Kind, charterAfter string) *internationalv1.PolicyChange {
	change := &internationalv1.PolicyChange{
		Chapter: "chapters/" + row.ChapterID, Kind: kind,
		Before: viewStanding(row.ChapterID, row.Standing, policy), After: viewStanding(row.ChapterID, after, draft),
		CharterBefore: charterState(row.CharterState), CharterAfter: charterState(charterAfter),
	}
	if row.Region != "" {
		change.Region = "regions/" + row.Region
	}
	change.After.Etag, change.After.UpdateTime, change.After.PolicyRevision = "", nil, "" // it has not happened
	return change
}

// after is a page of the changes, behind a chapter, which may have left them since.
func (sim *simulation) after(chapter string, size int) []*internationalv1.PolicyChange {
	byChapter := func(c *internationalv1.PolicyChange, name string) int { return strings.Compare(c.GetChapter(), name) }
	slices.SortFunc(sim.changes, func(a, b *internationalv1.PolicyChange) int { return byChapter(a, b.GetChapter()) })
	i, found := slices.BinarySearchFunc(sim.changes, chapter, byChapter)
	if found {
		i++
	}
	return sim.changes[i:min(i+size, len(sim.changes))]
}

func (sim *simulation) byRegion() []*internationalv1.RegionPolicyCounts {
	counts := make([]*internationalv1.RegionPolicyCounts, 0, len(sim.regions))
	for _, region := range slices.Sorted(maps.Keys(sim.regions)) {
		of := &internationalv1.RegionPolicyCounts{Counts: sim.regions[region]}
		if region != "" {
			of.Region = "regions/" + region
		}
		counts = append(counts, of)
	}
	return counts
}
