package international

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// recentlyLapsed is how long a membership that ended by itself counts as one that could still be renewed.
const recentlyLapsed = 90 * day

// ExplainStanding walks from the figures to their parts.
func (s *Service) ExplainStanding(ctx context.Context, req *internationalv1.ExplainStandingRequest) (*internationalv1.StandingExplanation, error) {
	chapter := idOf(req.GetName())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	explanation, err := snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.StandingExplanation, error) {
		return explain(ctx, tx, chapter, s.clock.Now())
	})
	if err == nil && req.GetView() == internationalv1.ExplainStandingRequest_SOURCES {
		s.addSources(ctx, chapter, explanation)
	}
	return explanation, err
}

// explain takes a standing apart, within the caller's snapshot.
func explain(ctx context.Context, tx pgx.Tx, chapter string, now time.Time) (*internationalv1.StandingExplanation, error) {
	q := db.New(tx)
	row, err := q.ReadStanding(ctx, chapter)
	if err != nil {
		return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
	}
	standing, err := viewLive(ctx, q, row)
	if err != nil {
		return nil, err
	}
	lists, err := q.AddressesByList(ctx, row.Standing.ChapterNo)
	if err != nil {
		return nil, fmt.Errorf("count the addresses of %s: %w", chapter, err)
	}
	numbers, err := listsToCount(ctx, tx, chapter)
	if err != nil {
		return nil, err
	}
	groups, err := q.PeopleByLists(ctx, db.PeopleByListsParams{ListNos: numbers, Recent: now.Add(-recentlyLapsed)})
	if err != nil {
		return nil, fmt.Errorf("count the people of %s: %w", chapter, err)
	}
	membership, mailing := rules(row.Policy)
	return &internationalv1.StandingExplanation{Standing: standing, Bases: []*internationalv1.BasisExplanation{
		explainBasis(internationalv1.Basis_MEMBERSHIP, membership, standing.GetMembership(), chapter, lists, groups),
		explainBasis(internationalv1.Basis_MAILING, mailing, standing.GetMailing(), chapter, lists, groups),
	}}, nil
}

func explainBasis(basis internationalv1.Basis, rule basisRule, figures *internationalv1.Figures, chapter string, lists []db.AddressesByListRow, groups []db.PeopleByListsRow) *internationalv1.BasisExplanation {
	stands := people{figures.GetTotal(), figures.GetInternational()}
	explained := &internationalv1.BasisExplanation{
		Basis: basis, Figures: figures, Need: int32(rule.need(stands)), Allowed: rule.allowed, MinimumPeople: int32(rule.minimum),
		Eligible: rule.eligible(stands), OnSeveralLists: &internationalv1.Figures{}, Memberships: &internationalv1.MembershipCounts{},
	}
	var own []int64
	for _, list := range lists {
		if list.Basis == int16(basis) {
			own = append(own, list.ListNo)
			explained.Lists = append(explained.Lists, explainList(chapter, list, lists, groups))
		}
	}
	for _, group := range groups {
		switch on := among(group.Lists, own); {
		case on > 1:
			countPeople(explained.GetOnSeveralLists(), group)
			fallthrough
		case on == 1:
			countMembership(explained.GetMemberships(), group)
		}
	}
	return explained
}

func explainList(chapter string, list db.AddressesByListRow, all []db.AddressesByListRow, groups []db.PeopleByListsRow) *internationalv1.ListExplanation {
	name := func(id string) string { return "chapters/" + chapter + "/lists/" + id }
	explained := &internationalv1.ListExplanation{
		List:      &internationalv1.ListVersion{List: name(list.ID), Version: etag(list.Epoch, list.Version)},
		Addresses: list.Addresses, People: &internationalv1.Figures{}, OnlyHere: &internationalv1.Figures{},
	}
	var basis []int64
	for _, other := range all {
		if other.Basis == list.Basis {
			basis = append(basis, other.ListNo)
		}
		if other.ListNo == list.ListNo {
			continue
		}
		overlap := &internationalv1.ListOverlap{List: name(other.ID), People: &internationalv1.Figures{}}
		for _, group := range groups {
			if among(group.Lists, []int64{list.ListNo, other.ListNo}) == 2 {
				countPeople(overlap.GetPeople(), group)
			}
		}
		if overlap.GetPeople().GetTotal() > 0 {
			explained.AlsoOn = append(explained.AlsoOn, overlap)
		}
	}
	for _, group := range groups {
		if !slices.Contains(group.Lists, list.ListNo) {
			continue
		}
		countPeople(explained.GetPeople(), group)
		if among(group.Lists, basis) == 1 {
			countPeople(explained.GetOnlyHere(), group)
		}
	}
	return explained
}

// among is how many of the lists are among those.
func among(lists, those []int64) int {
	n := 0
	for _, list := range lists {
		if slices.Contains(those, list) {
			n++
		}
	}
	return n
}

func countPeople(figures *internationalv1.Figures, group db.PeopleByListsRow) {
	figures.Total += group.People
	if group.State == active {
		figures.International += group.People
	}
}

func countMembership(counts *internationalv1.MembershipCounts, group db.PeopleByListsRow) {
	switch {
	case group.State == active:
		counts.Active += group.People
	case group.Recent:
		counts.LapsedRecently += group.People
	case group.State == lapsed:
		counts.LapsedBefore += group.People
	case group.State == resigned:
		counts.Resigned += group.People
	case group.State == internationalv1.Member_SUSPENDED.String():
		counts.Suspended += group.People
	case group.State == "":
		counts.Unrecognised += group.People
	default:
		counts.Other += group.People
	}
}

// addSources asks the chapter's site by which sources its lists are claimed, which is known there alone.
func (s *Service) addSources(ctx context.Context, chapter string, explanation *internationalv1.StandingExplanation) {
	counted, err := s.askSources(ctx, chapter)
	if err != nil {
		s.log.WarnContext(ctx, "a standing is explained without sources", "chapter", chapter, "error", err)
		explanation.SourcesUnavailable = true
		return
	}
	for _, basis := range explanation.GetBases() {
		for _, list := range basis.GetLists() {
			i := slices.IndexFunc(counted.GetLists(), func(at *localv1.ListSources) bool { return at.GetList() == list.GetList().GetList() })
			if i < 0 {
				continue // it is gone there, and the news are on their way
			}
			there := counted.GetLists()[i]
			list.SourcesVersion, list.OnSeveralSources = there.GetVersion(), there.GetSeveral()
			for _, source := range there.GetSources() {
				list.Sources = append(list.Sources, &internationalv1.SourceCounts{
					Source: source.GetSource(), Addresses: source.GetEntries(), OnlyHere: source.GetOnly(),
				})
			}
		}
	}
}

func (s *Service) askSources(ctx context.Context, chapter string) (*localv1.CountSourcesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.LookupTimeout)
	defer cancel()
	row, err := db.New(s.pool).ReadChapter(ctx, chapter)
	if err != nil {
		return nil, err
	}
	for _, site := range s.sites {
		if client := s.chapters[site.name]; site.no == row.SiteNo && client != nil {
			return client.CountSources(ctx, &localv1.CountSourcesRequest{Name: "chapters/" + chapter})
		}
	}
	return nil, fmt.Errorf("the site of %s is not connected", chapter)
}
