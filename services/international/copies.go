package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// regionTopic keeps the copy of the region tree.
func regionTopic() bus.Topic {
	return bus.Topic{
		Kind: "region",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			region, err := data[*eventv1.RegionChanged](parts[0])
			if err != nil {
				return err
			}
			args := db.UpsertRegionParams{ID: strings.TrimPrefix(region.GetRegion(), "regions/"), DisplayName: region.GetDisplayName()}
			if parent := strings.TrimPrefix(region.GetParentRegion(), "regions/"); parent != "" {
				args.Parent = &parent
			}
			return db.New(tx).UpsertRegion(ctx, args)
		},
	}
}

// chapterTopic keeps the chapter directory. A chapter has a standing from its creation.
func (s *Service) chapterTopic(siteNo int16) bus.Topic {
	return bus.Topic{
		Kind: "chapter",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			chapter, err := data[*eventv1.ChapterChanged](parts[0])
			if err != nil {
				return err
			}
			return s.putChapter(ctx, tx, siteNo, chapter)
		},
	}
}

func (s *Service) putChapter(ctx context.Context, tx pgx.Tx, siteNo int16, chapter *eventv1.ChapterChanged) error {
	id := strings.TrimPrefix(chapter.GetChapter(), "chapters/")
	chapterNo, err := db.New(tx).UpsertChapter(ctx, db.UpsertChapterParams{
		ID:          id,
		SiteNo:      siteNo,
		Region:      strings.TrimPrefix(chapter.GetRegion(), "regions/"),
		DisplayName: chapter.GetDisplayName(),
		CountryCode: chapter.GetCountryCode(),
		City:        chapter.GetCity(),
		Language:    chapter.GetLanguageCode(),
		Latitude:    chapter.GetLatitude(),
		Longitude:   chapter.GetLongitude(),
	})
	if err != nil {
		return fmt.Errorf("put chapter %s: %w", id, err)
	}
	if err := s.setOfficers(ctx, tx, chapterNo, chapter.GetOfficers()); err != nil {
		return fmt.Errorf("put chapter %s: %w", id, err)
	}
	return s.beginStanding(ctx, tx, chapterNo, id)
}

// ensureChapter makes a chapter known by its id alone: a list's event may come before its chapter's, when that one was
// lost on the way.
func (s *Service) ensureChapter(ctx context.Context, tx pgx.Tx, siteNo int16, id string) error {
	q := db.New(tx)
	if err := q.EnsureChapter(ctx, db.EnsureChapterParams{ID: id, SiteNo: siteNo}); err != nil {
		return err
	}
	chapter, err := q.ReadChapter(ctx, id)
	if err != nil {
		return err
	}
	return s.beginStanding(ctx, tx, chapter.ChapterNo, id)
}

func (s *Service) beginStanding(ctx context.Context, tx pgx.Tx, chapterNo int64, id string) error {
	q := db.New(tx)
	made, err := q.InsertStanding(ctx, db.InsertStandingParams{ChapterNo: chapterNo, Now: s.clock.Now()})
	if err != nil || made == 0 {
		return err
	}
	row, err := q.ReadStanding(ctx, id)
	if err != nil {
		return err
	}
	return bus.Append(ctx, tx, standingChanged(id, row.Standing, standingEvent(id, row.Standing, row.Policy)))
}

// listTopic keeps the tokens of every list, and moves the standing with each version.
func (s *Service) listTopic(siteNo int16) bus.Topic {
	return bus.Topic{
		Kind:  "list",
		Delta: true,
		Alone: true,
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			return s.applyList(ctx, tx, siteNo, parts)
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			return s.replaceList(ctx, tx, siteNo, aggregate, snapshot)
		},
	}
}

// listChange is one version of a list on its way into the counters.
type listChange struct {
	list db.List
	// The other lists on the same basis.
	others []int64
	now    time.Time
	total  delta
	// Tokens that came and went.
	added, removed int
}

func (s *Service) applyList(ctx context.Context, tx pgx.Tx, siteNo int16, parts []bus.Event) error {
	first, err := data[*eventv1.ListChanged](parts[0])
	if err != nil {
		return err
	}
	changes := make([]*eventv1.ListChanged, len(parts))
	var touched [][]byte
	for i, part := range parts {
		if changes[i], err = data[*eventv1.ListChanged](part); err != nil {
			return err
		}
		touched = append(append(touched, changes[i].GetAdded()...), changes[i].GetRemoved()...)
	}
	if err := checkTokens(touched); err != nil {
		return err
	}
	held := buckets(touched)
	if first.GetDeleted() {
		held = allBuckets()
	}
	change, err := s.beginListChange(ctx, tx, siteNo, first.GetList(), first.GetKind(), held)
	if err != nil {
		return err
	}
	for _, part := range changes {
		if part.GetDeleted() {
			err = change.replace(ctx, tx, nil)
		} else {
			err = change.apply(ctx, tx, part.GetAdded(), part.GetRemoved())
		}
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", first.GetList(), parts[0].Version, err)
		}
	}
	return s.endListChange(ctx, tx, change, parts[0].Version, change.day(first.GetAddedFromNewDomain()))
}

// replaceList sets a list to its owner's snapshot by applying the difference.
func (s *Service) replaceList(ctx context.Context, tx pgx.Tx, siteNo int16, aggregate string, snapshot *bus.Snapshot) error {
	var tokens [][]byte
	kind := eventv1.ListKind_LIST_KIND_MAILING
	if strings.HasSuffix(aggregate, "/lists/members") {
		kind = eventv1.ListKind_LIST_KIND_MEMBERSHIP
	}
	for message, err := range snapshot.Parts() {
		if err != nil {
			return err
		}
		part, ok := message.(*eventv1.ListSnapshot)
		if !ok {
			return fmt.Errorf("the snapshot of %s holds a %T", aggregate, message)
		}
		kind = part.GetKind()
		tokens = append(tokens, part.GetTokens()...)
	}
	if err := checkTokens(tokens); err != nil {
		return err
	}
	change, err := s.beginListChange(ctx, tx, siteNo, aggregate, kind, allBuckets())
	if err != nil {
		return err
	}
	if err := change.replace(ctx, tx, tokens); err != nil {
		return fmt.Errorf("replace %s: %w", aggregate, err)
	}
	return s.endListChange(ctx, tx, change, snapshot.Version, nil) // what was missed is no change of today's
}

// beginListChange takes the locks, in the order that move.go sets, and finds the list.
func (s *Service) beginListChange(ctx context.Context, tx pgx.Tx, siteNo int16, name string, kind eventv1.ListKind, touched []int32) (*listChange, error) {
	chapterID, listID, ok := listNames(name)
	if !ok {
		return nil, fmt.Errorf("%q is no list", name)
	}
	if kind != eventv1.ListKind_LIST_KIND_MEMBERSHIP && kind != eventv1.ListKind_LIST_KIND_MAILING {
		return nil, fmt.Errorf("%s is of kind %s", name, kind)
	}
	change, err := s.lockList(ctx, tx, chapterID, listID, kind, touched)
	if !errors.Is(err, pgx.ErrNoRows) {
		return change, err
	}
	if err := s.ensureChapter(ctx, tx, siteNo, chapterID); err != nil {
		return nil, fmt.Errorf("make the chapter of %s known: %w", name, err)
	}
	return s.lockList(ctx, tx, chapterID, listID, kind, touched)
}

// lockList takes the locks and finds the list; pgx.ErrNoRows when its chapter is not known.
func (s *Service) lockList(ctx context.Context, tx pgx.Tx, chapterID, listID string, kind eventv1.ListKind, touched []int32) (*listChange, error) {
	var lock pipeline
	var standing db.Standing
	var lists []db.List
	lock.exec(genericPlans)
	lock.exec(db.LockTokensShared, tokenLocks, touched)
	one(&lock, &standing, db.LockStanding, chapterID)
	many(&lock, &lists, db.ListsOfChapter, chapterID)
	if err := lock.run(ctx, tx); err != nil {
		return nil, fmt.Errorf("lock chapters/%s/lists/%s: %w", chapterID, listID, err)
	}
	change := &listChange{others: []int64{}, now: s.clock.Now()}
	for _, row := range lists {
		switch {
		case row.ID == listID:
			change.list = row
		case row.Basis == int16(kind):
			change.others = append(change.others, row.ListNo)
		}
	}
	if change.list.ID == listID && change.list.Basis == int16(kind) {
		return change, nil
	}
	list, err := db.New(tx).EnsureList(ctx, db.EnsureListParams{ID: listID, Basis: int16(kind), Chapter: chapterID})
	if err != nil {
		return nil, fmt.Errorf("make chapters/%s/lists/%s known: %w", chapterID, listID, err)
	}
	change.list = list
	return change, nil
}

func (s *Service) endListChange(ctx context.Context, tx pgx.Tx, change *listChange, version bus.Version, today *listDay) error {
	var write pipeline
	var changed *time.Time
	if today != nil {
		changed = &change.now
		write.exec(db.PutListDay, change.list.ListNo, dateOf(change.now), today.added, today.removed, today.fromNewDomain)
	}
	write.exec(db.SetListVersion, version.Epoch, version.Number, changed, change.list.ListNo)
	return s.settle(ctx, tx, deltas{change.list.ChapterNo: change.total}, byList(change.list.ListNo, version), change.now, &write)
}

// listDay is what a change adds to the record of its day.
type listDay struct {
	added, removed int
	fromNewDomain  int32
}

// day is nil where nothing came or went.
func (c *listChange) day(fromNewDomain int32) *listDay {
	if c.added+c.removed == 0 {
		return nil
	}
	return &listDay{added: c.added, removed: c.removed, fromNewDomain: fromNewDomain}
}

// apply adds and removes tokens and counts what that does to the people on the basis. Tokens that no member has are people
// of their own, and counted as they are written; members are counted before and after, with all their tokens.
func (c *listChange) apply(ctx context.Context, tx pgx.Tx, added, removed [][]byte) error {
	if len(added)+len(removed) == 0 {
		return nil
	}
	c.added += len(added)
	c.removed += len(removed)
	q := db.New(tx)
	siblings, err := q.CloseTokens(ctx, slices.Concat(added, removed))
	if err != nil {
		return fmt.Errorf("find members and their other tokens: %w", err)
	}
	addedKnown, addedStrange := split(added, siblings)
	removedKnown, removedStrange := split(removed, siblings)
	var write pipeline
	var before, after db.PeopleOnBasisRow
	var gone, come, ignored int32
	basis := append(slices.Clone(c.others), c.list.ListNo)
	// Most changes move one token: a statement without any would be most of the work.
	if len(siblings) > 0 {
		one(&write, &before, db.PeopleOnBasis, basis, siblings)
	}
	c.remove(&write, &gone, removedStrange)
	c.add(&write, &come, addedStrange)
	c.remove(&write, &ignored, removedKnown)
	c.add(&write, &ignored, addedKnown)
	if len(siblings) > 0 {
		one(&write, &after, db.PeopleOnBasis, basis, siblings)
	}
	if err := write.run(ctx, tx); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	p := c.total.on(c.list.Basis)
	p.total += come - gone + after.Total - before.Total
	p.international += after.International - before.International
	return nil
}

// add and remove write tokens, and count those that are new to the basis or gone from it.
func (c *listChange) add(write *pipeline, come *int32, tokens [][]byte) {
	if len(tokens) > 0 {
		write.value(come, db.InsertListTokens, c.others, c.list.ListNo, tokens)
	}
}

func (c *listChange) remove(write *pipeline, gone *int32, tokens [][]byte) {
	if len(tokens) > 0 {
		write.value(gone, db.DeleteListTokens, c.others, c.list.ListNo, tokens)
	}
}

// split sorts tokens into those that are known and those that are not.
func split(tokens, known [][]byte) (familiar, strange [][]byte) {
	is := make(map[address.Token]struct{}, len(known))
	for _, token := range known {
		is[address.Token(token)] = struct{}{}
	}
	familiar, strange = [][]byte{}, [][]byte{}
	for _, token := range tokens {
		if _, ok := is[address.Token(token)]; ok {
			familiar = append(familiar, token)
		} else {
			strange = append(strange, token)
		}
	}
	return familiar, strange
}

// stepTokens is how many tokens one statement takes: as many as one event's part holds.
const stepTokens = 20_000

// replace makes the list hold exactly the given tokens.
func (c *listChange) replace(ctx context.Context, tx pgx.Tx, tokens [][]byte) error {
	wanted := make(map[address.Token]struct{}, len(tokens))
	for _, token := range tokens {
		wanted[address.Token(token)] = struct{}{}
	}
	var surplus [][]byte
	after := []byte{}
	for {
		page, err := db.New(tx).TokensAfter(ctx, db.TokensAfterParams{ListNo: c.list.ListNo, After: after, Size: stepTokens})
		if err != nil {
			return err
		}
		for _, token := range page {
			if _, stays := wanted[address.Token(token)]; stays {
				delete(wanted, address.Token(token))
			} else {
				surplus = append(surplus, token)
			}
		}
		if len(page) < stepTokens {
			break
		}
		after = page[len(page)-1]
	}
	missing := make([][]byte, 0, len(wanted))
	for token := range wanted {
		missing = append(missing, token[:])
	}
	for part := range slices.Chunk(surplus, stepTokens) {
		if err := c.apply(ctx, tx, nil, part); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(missing, stepTokens) {
		if err := c.apply(ctx, tx, part, nil); err != nil {
			return err
		}
	}
	return nil
}

func checkTokens(tokens [][]byte) error {
	for _, token := range tokens {
		if _, err := address.TokenFromBytes(token); err != nil {
			return err
		}
	}
	return nil
}

func allBuckets() []int32 {
	all := make([]int32, tokenBuckets)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// listNames splits "chapters/<chapter>/lists/<list>".
func listNames(name string) (chapter, list string, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "chapters" || parts[2] != "lists" || parts[1] == "" || parts[3] == "" {
		return "", "", false
	}
	return parts[1], parts[3], true
}

// data is the event's message, which must be of the type that its topic carries.
func data[T any](event bus.Event) (T, error) {
	message, ok := event.Data.(T)
	if !ok {
		return message, fmt.Errorf("%s carries a %T", event.Subject, event.Data)
	}
	return message, nil
}
