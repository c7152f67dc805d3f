package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// coordinator is a person with the region that the substitute is of, which the substitute's name holds.
type coordinator = db.CoordinatorRow

func coordinatorName(region string, id uuid.UUID) string {
	return regionName(region) + "/coordinators/" + id.String()
}

// coordinatorID splits a name; the id is zero, and nobody's, when it is no UUID.
func coordinatorID(name string) (region string, id uuid.UUID) {
	parent, text, _ := strings.Cut(name, "/coordinators/")
	id, _ = uuid.Parse(text) // zero where it is none
	return regionID(parent), id
}

// viewCoordinator leaves out the address.
func viewCoordinator(row coordinator) *regionalv1.Coordinator {
	c := row.Coordinator
	view := &regionalv1.Coordinator{
		Name:          coordinatorName(c.RegionID, c.ID),
		Subject:       c.Subject,
		DisplayName:   c.DisplayName,
		Role:          regionalv1.Coordinator_Role(c.Role),
		TermStartTime: timestamppb.New(c.TermStartTime),
		TermEndTime:   timestamp(c.TermEndTime),
		AwayStartTime: timestamp(c.AwayStartTime),
		AwayEndTime:   timestamp(c.AwayEndTime),
		CreateTime:    timestamppb.New(c.CreateTime),
		UpdateTime:    timestamppb.New(c.UpdateTime),
		Etag:          fmt.Sprintf("%d-%d", c.CreateTime.UnixMicro(), c.Version),
	}
	if c.SubstituteID != nil && row.SubstituteRegion != nil {
		view.Substitute = coordinatorName(*row.SubstituteRegion, *c.SubstituteID)
	}
	return view
}

// writeCoordinators is held on a region by those who may know where mail to its coordinators goes.
const writeCoordinators authz.Permission = "coordinators.write"

// mayKnowAddresses says whether the caller may know the addresses of a region's coordinators.
func mayKnowAddresses(ctx context.Context, q *db.Queries, region string) (bool, error) {
	scopes := authz.FromContext(ctx).Scopes(writeCoordinators)
	if slices.Contains(scopes, authz.Federation) {
		return true, nil
	}
	path, err := q.RegionPath(ctx, region)
	return slices.ContainsFunc(regionNames(path), func(above string) bool { return slices.Contains(scopes, above) }), err
}

// settleAddress gives the address its one form, where there is one.
func settleAddress(c *regionalv1.Coordinator) (err error) {
	if c.GetMailAddress() == "" {
		return nil
	}
	c.MailAddress, err = address.Canonical(c.GetMailAddress())
	if wrong, ok := errors.AsType[*address.Error](err); ok {
		return rpc.Invalid(errorv1.Reason_REASON_ADDRESS_INVALID, "coordinator.mailAddress", "%s", wrong.Text).With("rule", wrong.Code)
	}
	return err
}

// CreateCoordinator appoints somebody.
func (s *Service) CreateCoordinator(ctx context.Context, req *regionalv1.CreateCoordinatorRequest) (*regionalv1.Coordinator, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Coordinator, error) {
		q, now := db.New(tx), s.clock.Now()
		if err := q.LockTreeShared(ctx, treeLock); err != nil {
			return nil, err
		}
		region, err := findRegion(ctx, q, req.GetParent())
		if err != nil {
			return nil, err
		}
		given, _ := proto.Clone(req.GetCoordinator()).(*regionalv1.Coordinator)
		if given.GetTermStartTime() == nil {
			given.TermStartTime = timestamppb.New(now)
		}
		if err := settleAddress(given); err != nil {
			return nil, err
		}
		substitute, err := checkCoordinator(ctx, q, id, given)
		if err != nil {
			return nil, err
		}
		_, err = q.InsertCoordinator(ctx, db.InsertCoordinatorParams{
			ID: id, RegionID: region.ID, Subject: given.GetSubject(), DisplayName: given.GetDisplayName(), Role: int16(given.GetRole()),
			TermStartTime: given.GetTermStartTime().AsTime(), TermEndTime: instant(given.GetTermEndTime()),
			AwayStartTime: instant(given.GetAwayStartTime()), AwayEndTime: instant(given.GetAwayEndTime()),
			SubstituteID: substitute, MailAddress: given.GetMailAddress(), DigestDueTime: new(s.nextDigest(now)), Now: now,
		})
		if err != nil {
			return nil, err
		}
		return readCoordinator(ctx, q, coordinatorName(region.ID, id))
	})
}

// readCoordinator reads one as the caller may see them.
func readCoordinator(ctx context.Context, q *db.Queries, name string) (*regionalv1.Coordinator, error) {
	region, id := coordinatorID(name)
	row, err := q.Coordinator(ctx, db.CoordinatorParams{ID: id, RegionID: region})
	if err != nil {
		return nil, orNotFound(err, name)
	}
	may, err := mayKnowAddresses(ctx, q, region)
	if err != nil {
		return nil, err
	}
	if may {
		return viewWithAddress(row), nil
	}
	return viewCoordinator(row), nil
}

func viewWithAddress(row coordinator) *regionalv1.Coordinator {
	view := viewCoordinator(row)
	view.MailAddress = row.Coordinator.MailAddress
	return view
}

// instant is nil for none.
func instant(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// checkCoordinator checks the periods, and finds the substitute.
func checkCoordinator(ctx context.Context, q *db.Queries, id uuid.UUID, c *regionalv1.Coordinator) (*uuid.UUID, error) {
	if err := checkPeriod("coordinator.termEndTime", c.GetTermStartTime(), c.GetTermEndTime()); err != nil {
		return nil, err
	}
	if err := checkPeriod("coordinator.awayEndTime", c.GetAwayStartTime(), c.GetAwayEndTime()); err != nil {
		return nil, err
	}
	if c.GetSubstitute() == "" {
		return nil, nil //nolint:nilnil // nobody
	}
	region, substitute := coordinatorID(c.GetSubstitute())
	if substitute == id {
		return nil, substituteInvalid("nobody substitutes for themselves")
	}
	_, err := q.CoordinatorForShare(ctx, db.CoordinatorForShareParams{ID: substitute, RegionID: region})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, substituteInvalid("%s does not exist", c.GetSubstitute())
	}
	return &substitute, err
}

func substituteInvalid(format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_SUBSTITUTE_INVALID, "coordinator.substitute", format, args...)
}

func checkPeriod(field string, start, end *timestamppb.Timestamp) error {
	switch {
	case end == nil:
		return nil
	case start == nil:
		return rpc.Invalid(errorv1.Reason_REASON_PERIOD_INVALID, field, "has no beginning")
	case !end.AsTime().After(start.AsTime()):
		return rpc.Invalid(errorv1.Reason_REASON_PERIOD_INVALID, field, "must come after the beginning")
	}
	return nil
}

// GetCoordinator reads one.
func (s *Service) GetCoordinator(ctx context.Context, req *regionalv1.GetCoordinatorRequest) (*regionalv1.Coordinator, error) {
	return readCoordinator(ctx, db.New(s.pool), req.GetName())
}

// ListCoordinators lists a region's own, in the order of their appointment.
func (s *Service) ListCoordinators(ctx context.Context, req *regionalv1.ListCoordinatorsRequest) (*regionalv1.ListCoordinatorsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.CoordinatorsAfterParams{RegionID: regionID(req.GetParent()), Size: page.fetch()}
	if page.after != "" {
		if args.After, err = uuid.Parse(page.after); err != nil {
			return nil, err
		}
	}
	q := db.New(s.pool)
	if _, err := findRegion(ctx, q, req.GetParent()); err != nil {
		return nil, err
	}
	rows, err := q.CoordinatorsAfter(ctx, args)
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListCoordinatorsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(r db.CoordinatorsAfterRow) string { return r.Coordinator.ID.String() })
	view := viewCoordinator
	if may, err := mayKnowAddresses(ctx, q, args.RegionID); err != nil {
		return nil, err
	} else if may {
		view = viewWithAddress
	}
	for _, row := range rows {
		answer.Coordinators = append(answer.Coordinators, view(coordinator(row)))
	}
	return answer, nil
}

// UpdateCoordinator changes what the mask names. What is the same as before changes nothing, not even the etag.
func (s *Service) UpdateCoordinator(ctx context.Context, req *regionalv1.UpdateCoordinatorRequest) (*regionalv1.Coordinator, error) {
	name := req.GetCoordinator().GetName()
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Coordinator, error) {
		q := db.New(tx)
		before, id, err := lockCoordinator(ctx, q, name, req.GetCoordinator().GetEtag())
		if err != nil {
			return nil, err
		}
		merged, _ := proto.Clone(before).(*regionalv1.Coordinator)
		err = rpc.Merge(merged, req.GetCoordinator(), req.GetUpdateMask(), "coordinator", "subject", "display_name", "role",
			"term_start_time", "term_end_time", "away_start_time", "away_end_time", "substitute", "mail_address")
		if err != nil {
			return nil, err
		}
		if merged.GetTermStartTime() == nil {
			return nil, rpc.Invalid(errorv1.Reason_REASON_PERIOD_INVALID, "coordinator.termStartTime", "cannot be taken away")
		}
		if err := settleAddress(merged); err != nil {
			return nil, err
		}
		if proto.Equal(before, merged) {
			return before, nil
		}
		substitute, err := checkCoordinator(ctx, q, id, merged)
		if err != nil {
			return nil, err
		}
		err = q.UpdateCoordinator(ctx, db.UpdateCoordinatorParams{
			ID: id, Subject: merged.GetSubject(), DisplayName: merged.GetDisplayName(), Role: int16(merged.GetRole()),
			TermStartTime: merged.GetTermStartTime().AsTime(), TermEndTime: instant(merged.GetTermEndTime()),
			AwayStartTime: instant(merged.GetAwayStartTime()), AwayEndTime: instant(merged.GetAwayEndTime()),
			SubstituteID: substitute, MailAddress: merged.GetMailAddress(), Now: s.clock.Now(),
		})
		if err != nil {
			return nil, err
		}
		return readCoordinator(ctx, q, name)
	})
}

// lockCoordinator finds one who must be as the caller read them.
func lockCoordinator(ctx context.Context, q *db.Queries, name, given string) (*regionalv1.Coordinator, uuid.UUID, error) {
	region, id := coordinatorID(name)
	row, err := q.CoordinatorForUpdate(ctx, db.CoordinatorForUpdateParams{ID: id, RegionID: region})
	if err != nil {
		return nil, id, orNotFound(err, name)
	}
	view := viewWithAddress(coordinator(row)) // whoever changes may know it
	return view, id, rpc.CheckEtags(ctx, given, view.GetEtag())
}

// DeleteCoordinator removes somebody.
func (s *Service) DeleteCoordinator(ctx context.Context, req *regionalv1.DeleteCoordinatorRequest) (*emptypb.Empty, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*emptypb.Empty, error) {
		q := db.New(tx)
		_, id, err := lockCoordinator(ctx, q, req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, q.DeleteCoordinator(ctx, id)
	})
}

// GetActing says who acts for a region now.
func (s *Service) GetActing(ctx context.Context, req *regionalv1.GetActingRequest) (*regionalv1.Acting, error) {
	q := db.New(s.pool)
	if _, err := findRegion(ctx, q, req.GetRegion()); err != nil {
		return nil, err
	}
	return acting(ctx, q, regionID(req.GetRegion()), s.clock.Now())
}

// acting finds the nearest region, going up from one, that somebody acts for.
func acting(ctx context.Context, q *db.Queries, region string, now time.Time) (*regionalv1.Acting, error) {
	rows, err := q.PeopleAbove(ctx, db.PeopleAboveParams{Region: region, Now: now})
	if err != nil {
		return nil, err
	}
	var people []coordinator
	var stand []uuid.UUID
	for _, row := range rows {
		people = append(people, coordinator{Coordinator: row.Coordinator, SubstituteRegion: row.SubstituteRegion})
		if row.Coordinator.SubstituteID != nil {
			stand = append(stand, *row.Coordinator.SubstituteID)
		}
	}
	found, err := q.CoordinatorsOf(ctx, db.CoordinatorsOfParams{Ids: stand, Now: now})
	if err != nil {
		return nil, err
	}
	substitutes := map[uuid.UUID]coordinator{}
	for _, row := range found {
		substitutes[row.Coordinator.ID] = coordinator(row)
	}
	return whoActs(region, people, substitutes, now), nil
}

// whoActs goes through the people of a region and those above it, nearest first and all in their term, region by
// region: the coordinators who are there; else the substitutes, as far as they are there, of those who are away; else
// the deputies who are there.
func whoActs(region string, people []coordinator, substitutes map[uuid.UUID]coordinator, now time.Time) *regionalv1.Acting {
	for len(people) > 0 {
		here := people[0].Coordinator.RegionID
		var of [4][]coordinator // by basis
		n := 0
		for ; n < len(people) && people[n].Coordinator.RegionID == here; n++ {
			basis, who, ok := standing(people[n], substitutes, now)
			if ok {
				of[basis] = append(of[basis], who)
			}
		}
		for _, basis := range []regionalv1.Acting_Basis{regionalv1.Acting_COORDINATORS, regionalv1.Acting_SUBSTITUTES, regionalv1.Acting_DEPUTIES} {
			if len(of[basis]) > 0 {
				return &regionalv1.Acting{
					Region: regionName(region), ActingRegion: regionName(here), Basis: basis, Coordinators: viewAll(of[basis]),
				}
			}
		}
		people = people[n:]
	}
	return &regionalv1.Acting{Region: regionName(region)}
}

// standing says as what somebody could act, or who could for them; false when nobody can.
func standing(c coordinator, substitutes map[uuid.UUID]coordinator, now time.Time) (regionalv1.Acting_Basis, coordinator, bool) {
	deputy := regionalv1.Coordinator_Role(c.Coordinator.Role) == regionalv1.Coordinator_DEPUTY
	switch {
	case !away(c, now) && deputy:
		return regionalv1.Acting_DEPUTIES, c, true
	case !away(c, now):
		return regionalv1.Acting_COORDINATORS, c, true
	case deputy || c.Coordinator.SubstituteID == nil:
		return regionalv1.Acting_BASIS_UNSPECIFIED, c, false
	}
	substitute, ok := substitutes[*c.Coordinator.SubstituteID]
	return regionalv1.Acting_SUBSTITUTES, substitute, ok && !away(substitute, now)
}

func away(c coordinator, now time.Time) bool {
	from, to := c.Coordinator.AwayStartTime, c.Coordinator.AwayEndTime
	return from != nil && !from.After(now) && (to == nil || to.After(now))
}

// viewAll leaves out who stands for two.
func viewAll(people []coordinator) []*regionalv1.Coordinator {
	var views []*regionalv1.Coordinator
	seen := map[uuid.UUID]bool{}
	for _, c := range people {
		if !seen[c.Coordinator.ID] {
			views = append(views, viewCoordinator(c))
		}
		seen[c.Coordinator.ID] = true
	}
	return views
}
