package regional

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// maxDepth keeps trees far below the nesting that protobuf and JSON decoders refuse.
	maxDepth = 32
	worldID  = "world"
	// treeLock is the advisory lock of the whole tree: "regitree".
	treeLock = 0x7265676974726565
	// farthestBack is how long ago a change may have taken effect.
	farthestBack = 30 * 24 * time.Hour
)

// change is one change of the tree on its way. What it does to regions and chapters is told when it ends.
type change struct {
	ctx   context.Context //nolint:containedctx // lives for one transaction, which is the call's
	q     *db.Queries
	now   time.Time
	actor string
	// events is what the other tiers are told, in the order in which it happened.
	events []bus.Event
}

var errRehearsed = errors.New("rehearsed")

// changeTree runs fn alone with the tree: nobody else changes it or places a chapter meanwhile. A rehearsal answers what
// would be and leaves no trace.
func changeTree[T proto.Message](ctx context.Context, s *Service, rehearse bool, fn func(*change) (T, error)) (T, error) {
	var rehearsed T
	answer, err := inTx(ctx, s, func(tx pgx.Tx) (T, error) {
		q := db.New(tx)
		if err := q.LockTree(ctx, treeLock); err != nil {
			return rehearsed, err
		}
		answer, events, err := runChange(ctx, s, q, fn)
		if err == nil && rehearse {
			rehearsed, err = answer, errRehearsed
		}
		if err != nil {
			return answer, err
		}
		return answer, bus.Append(ctx, tx, events...)
	})
	if errors.Is(err, errRehearsed) {
		return rehearsed, nil
	}
	return answer, err
}

// runChange reads the clock only now that the tree is locked: changes take effect in the order in which they are made.
func runChange[T proto.Message](ctx context.Context, s *Service, q *db.Queries, fn func(*change) (T, error)) (T, []bus.Event, error) {
	c := &change{ctx: ctx, q: q, now: s.clock.Now(), actor: authz.FromContext(ctx).Subject}
	answer, err := fn(c)
	return answer, c.events, err
}

// region finds one that is there.
func (c *change) region(name string) (db.Region, error) { return findRegion(c.ctx, c.q, name) }

// parent finds one that something is to hang under.
func (c *change) parent(field, name string) (db.Region, error) {
	parent, err := c.q.Region(c.ctx, regionID(name))
	if errors.Is(err, pgx.ErrNoRows) {
		return parent, parentInvalid(field, "%q does not exist", name)
	}
	return parent, err
}

func parentInvalid(field, format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_REGION_PARENT_INVALID, field, format, args...)
}

func permanent(id, what string) error {
	if id != worldID {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_REGION_PERMANENT, "regions/world is the root and cannot be %s", what)
}

// since returns when a change takes effect: at the given time, now without one, never before what it depends on last
// changed. So whatever hangs under something did so all the time since then, and the tree as it is stands for the tree
// as it was.
func (c *change) since(given *timestamppb.Timestamp, dependsOn ...db.Region) (time.Time, error) {
	earliest := c.now.Add(-farthestBack)
	latest := c.now
	for _, region := range dependsOn {
		if region.EffectiveTime.After(earliest) {
			earliest = region.EffectiveTime
		}
		if region.EffectiveTime.After(latest) {
			latest = region.EffectiveTime // another replica's clock is ahead
		}
	}
	if given == nil {
		return latest, nil
	}
	at := given.AsTime().Truncate(time.Microsecond)
	if at.After(latest) || at.Before(earliest) {
		return at, rpc.Invalid(errorv1.Reason_REASON_EFFECTIVE_TIME_INVALID, "effectiveTime",
			"must lie between %s and now", earliest.Format(time.RFC3339Nano)).With("earliest", earliest.Format(time.RFC3339Nano))
	}
	return at, nil
}

// above returns the regions on the way up from one, itself among them.
func (c *change) above(region db.Region) ([]db.Region, error) {
	return c.q.RegionsOf(c.ctx, region.Path)
}

// create makes a region that is filled in but for its versions and times.
func (c *change) create(region db.Region, parent db.Region, at time.Time, kind regionalv1.RegionPeriod_Change) (db.Region, error) {
	if len(parent.Path) >= maxDepth {
		return region, parentInvalid("parentRegion", "%s lies at the %dth level, the last", regionName(parent.ID), maxDepth)
	}
	made, err := c.q.InsertRegion(c.ctx, db.InsertRegionParams{
		ID: region.ID, DisplayName: region.DisplayName, ParentID: &parent.ID, Path: append(slices.Clone(parent.Path), region.ID),
		CountryCodes: append([]string{}, region.CountryCodes...), Epoch: c.now.UnixMicro(), Now: c.now, EffectiveTime: at,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return made, taken(region.ID)
	}
	if err != nil {
		return made, err
	}
	c.tell(made)
	return made, c.q.BeginHistory(c.ctx, db.BeginHistoryParams{ID: made.ID, Change: int16(kind), Actor: c.actor})
}

// put writes a region's name and countries, and what was done to its parent before, as its next version.
func (c *change) put(region db.Region, at time.Time, kind regionalv1.RegionPeriod_Change) (db.Region, error) {
	after, err := c.q.ChangeRegion(c.ctx, db.ChangeRegionParams{
		ID: region.ID, DisplayName: region.DisplayName, CountryCodes: append([]string{}, region.CountryCodes...),
		EffectiveTime: at, Now: c.now, Change: int16(kind), Actor: c.actor,
	})
	if err == nil {
		c.tell(db.Region(after))
	}
	return db.Region(after), err
}

// rehang hangs a region and all below it under another parent, which must not be among them.
func (c *change) rehang(region, parent db.Region, at time.Time, kind regionalv1.RegionPeriod_Change) (db.Region, error) {
	if slices.Contains(parent.Path, region.ID) {
		return region, parentInvalid("parentRegion", "%s lies in %s: the tree would have a circle", regionName(parent.ID), regionName(region.ID))
	}
	height, err := c.q.Height(c.ctx, region.ID)
	if err != nil {
		return region, err
	}
	if len(parent.Path)+int(height) > maxDepth {
		return region, parentInvalid("parentRegion", "the tree would have more than %d levels", maxDepth)
	}
	// What waits above it waits for it still.
	if err := c.q.KeepForRegion(c.ctx, db.KeepForRegionParams{RegionID: region.ID, ParentID: *region.ParentID}); err != nil {
		return region, err
	}
	err = c.q.Rehang(c.ctx, db.RehangParams{ID: region.ID, ParentID: &parent.ID, ParentPath: parent.Path})
	if err != nil {
		return region, err
	}
	return c.put(region, at, kind)
}

// close ends a region, in which nothing lies any more. into is the region that it was dissolved in, if any.
func (c *change) close(region db.Region, into *string) error {
	if err := c.q.SupersedeByRegion(c.ctx, db.SupersedeByRegionParams{Region: region.ID, Now: c.now}); err != nil {
		return err
	}
	closed, err := c.q.CloseRegion(c.ctx, db.CloseRegionParams{ID: region.ID, Now: c.now, MergedInto: into})
	if err != nil {
		return err
	}
	c.tell(db.Region(closed))
	return c.q.ForgetCoordinators(c.ctx, region.ID)
}

// checkEmpty refuses what would leave orphans.
func (c *change) checkEmpty(region db.Region) error {
	children, err := c.q.Children(c.ctx, &region.ID)
	if err != nil {
		return err
	}
	chapters, err := c.q.DirectChapters(c.ctx, region.ID)
	if err != nil || len(children)+len(chapters) == 0 {
		return err
	}
	return rpc.Precondition(errorv1.Reason_REASON_REGION_NOT_EMPTY, "%s still holds %d chapters and %d regions",
		regionName(region.ID), len(chapters), len(children)).With("chapters", len(chapters)).With("regions", len(children))
}

// checkCountries refuses when one of the regions covers a country that another one below its parent covers.
func (c *change) checkCountries(ids ...string) error {
	shared, err := c.q.SharedCountry(c.ctx, ids)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	holder := shared.Regions[0]
	if other := slices.IndexFunc(shared.Regions, func(id string) bool { return !slices.Contains(ids, id) }); other >= 0 {
		holder = shared.Regions[other]
	}
	return rpc.Precondition(errorv1.Reason_REASON_REGION_COUNTRY_TAKEN, "%s is covered by %s, below the same parent", shared.Country, regionName(holder)).
		With("country", shared.Country).With("region", regionName(holder))
}

// place moves chapters, and tells their sites.
func (c *change) place(region string, at time.Time, chapters ...string) error {
	placed, err := place(c.ctx, c.q, region, at, chapters...)
	c.events = append(c.events, placed...)
	return err
}

func (c *change) tell(region db.Region) { c.events = append(c.events, regionChanged(region)) }
