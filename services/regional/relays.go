package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// The states of a relay that verbs and deadlines ask for; the others are in SQL alone.
const (
	waiting   = "WAITING"
	held      = "HELD"
	forwarded = "FORWARDED"
)

const (
	// maxHold is how long a coordinator can hold a relay; a longer one is a decline that says so to nobody.
	maxHold = 90 * 24 * time.Hour
	// maxForwardAll bounds what one call forwards in its transaction.
	maxForwardAll = 200
	// maxAddition is what a coordinator may add: a relay's event has to fit into one message, with up to 10,000 chapters.
	maxAddition = 900 << 10
)

func relayName(region string, id uuid.UUID) string {
	return regionName(region) + "/relays/" + id.String()
}

// relayCase is a relay that a coordinator decides on, with its announcement, both locked.
type relayCase struct {
	service *Service
	tx      pgx.Tx
	q       *db.Queries
	a       announcement
	relay   db.Relay
	now     time.Time
}

// openRelay locks a relay and what it is about. The tree stays as it is meanwhile: no region leaves between the look at
// what lies below and the end.
func (s *Service) openRelay(ctx context.Context, tx pgx.Tx, region string, id uuid.UUID) (*relayCase, error) {
	c := &relayCase{service: s, tx: tx, q: db.New(tx)}
	err := c.q.LockTreeShared(ctx, treeLock)
	if err != nil {
		return nil, err
	}
	c.now = s.clock.Now()
	if c.a, err = readAnnouncement(c.q.AnnouncementForShare(ctx, id)); err != nil {
		return nil, orNotFound(err, relayName(region, id))
	}
	c.relay, err = c.q.RelayForUpdate(ctx, db.RelayForUpdateParams{RegionID: region, AnnouncementID: id})
	return c, orNotFound(err, relayName(region, id))
}

// decide runs a verb on a relay that was not decided on yet.
func (s *Service) decide(ctx context.Context, name, given string, verb func(*relayCase) error) (*regionalv1.Relay, error) {
	return s.onRelay(ctx, name, given, func(c *relayCase) error {
		if !c.undecided() {
			return c.refused("that is final here")
		}
		return verb(c)
	})
}

// refused says that the relay's state does not allow a verb.
func (c *relayCase) refused(why string) error {
	return rpc.Precondition(errorv1.Reason_REASON_RELAY_STATE, "%s is %s; %s", relayName(c.relay.RegionID, c.a.ID), c.relay.State, why).
		With("state", c.relay.State)
}

// onRelay runs a verb on a relay, and shows what it made of it.
func (s *Service) onRelay(ctx context.Context, name, given string, verb func(*relayCase) error) (*regionalv1.Relay, error) {
	region, id, err := splitName(name)
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Relay, error) {
		c, err := s.openRelay(ctx, tx, region, id)
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, given, relayEtag(c.relay)); err != nil {
			return nil, err
		}
		if err := verb(c); err != nil {
			return nil, err
		}
		after, err := c.q.Relay(ctx, db.RelayParams{RegionID: region, AnnouncementID: id})
		if err != nil {
			return nil, err
		}
		return viewRelay(after, c.a)
	})
}

func (c *relayCase) undecided() bool { return c.relay.State == waiting || c.relay.State == held }

// ForwardRelay forwards a relay with what the coordinator adds to it.
func (s *Service) ForwardRelay(ctx context.Context, req *regionalv1.ForwardRelayRequest) (*regionalv1.Relay, error) {
	if err := checkForward(req); err != nil {
		return nil, err
	}
	return s.decide(ctx, req.GetName(), req.GetEtag(), func(c *relayCase) error {
		children, err := c.children(ctx, req.GetChildRegions())
		if err != nil {
			return err
		}
		if err := c.checkChapters(ctx, req.GetChapters()); err != nil {
			return err
		}
		return c.forward(ctx, addition{
			note: req.GetNote(), translations: textsOfEdition(req.GetTranslations(), c.a.Edition), chapters: req.GetChapters(),
			chosen: len(req.GetChapters()) > 0 || req.GetNoChapters(),
		}, step{chosen: children, narrow: len(children) > 0 || req.GetNoChildRegions()})
	})
}

func checkForward(req *regionalv1.ForwardRelayRequest) error {
	switch {
	case req.GetNoChildRegions() && len(req.GetChildRegions()) > 0:
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "noChildRegions", "contradicts childRegions")
	case req.GetNoChapters() && len(req.GetChapters()) > 0:
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "noChapters", "contradicts chapters")
	}
	return refuseTwice(req.GetTranslations(), "translations")
}

// children are the ids of the regions that the coordinator chose, each directly below and touched by the audience.
func (c *relayCase) children(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	below, err := c.q.TouchedChildren(ctx, db.TouchedChildrenParams{
		Parents: []string{c.relay.RegionID}, AnnouncementID: c.a.ID, Audience: c.a.audience(),
	})
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(names))
	for i, name := range names {
		id := regionID(name)
		if !slices.ContainsFunc(below, func(child db.TouchedChildrenRow) bool { return child.ID == id }) {
			return nil, targetInvalid("childRegions", i, name, "%s is not directly below %s, or not touched by the audience", name, regionName(c.relay.RegionID))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c *relayCase) checkChapters(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ids := make([]string, 0, len(names))
	for _, name := range names {
		ids = append(ids, chapterID(name))
	}
	there, err := c.q.ChaptersOfRegion(ctx, db.ChaptersOfRegionParams{RegionID: c.relay.RegionID, Chapters: ids})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if c.relay.ChaptersChosen || !slices.Contains(there, id) && !slices.Contains(c.relay.LeftChapters, names[i]) {
			return targetInvalid("chapters", i, names[i], "%s is not directly in %s, or the announcement is not for this region's own chapters", names[i], regionName(c.relay.RegionID))
		}
	}
	return nil
}

func targetInvalid(field string, i int, target, format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_RELAY_TARGET_INVALID, fmt.Sprintf("%s[%d]", field, i), format, args...).With("target", target)
}

// addition is what a coordinator gives an announcement on its further way.
type addition struct {
	note         string
	translations []*eventv1.AnnouncementText
	chapters     []string
	chosen       bool
}

// forward sends the relay on with what was added to it.
func (c *relayCase) forward(ctx context.Context, added addition, at step) error {
	translations, err := proto.Marshal(&eventv1.RelayChanged{Translations: added.translations})
	if err != nil {
		return err
	}
	size := len(translations) + len(added.note)
	for _, chapter := range added.chapters {
		size += len(chapter) + 2
	}
	if size > maxAddition {
		return tooLarge("what is added", maxAddition)
	}
	err = c.q.AddToRelay(ctx, db.AddToRelayParams{
		RegionID: c.relay.RegionID, AnnouncementID: c.a.ID, Note: added.note, Translations: orEmpty(translations),
		Chapters: append([]string{}, added.chapters...), ChaptersChosen: added.chosen,
	})
	if err != nil {
		return err
	}
	at.regions = []string{c.relay.RegionID}
	return c.service.spread(ctx, c.tx, c.a, at, c.now)
}

// orEmpty is never nil: the column takes no NULL.
func orEmpty(b []byte) []byte { return append([]byte{}, b...) }

// HoldRelay holds a relay until a time.
func (s *Service) HoldRelay(ctx context.Context, req *regionalv1.HoldRelayRequest) (*regionalv1.Relay, error) {
	return s.decide(ctx, req.GetName(), req.GetEtag(), func(c *relayCase) error {
		until, latest := req.GetUntilTime().AsTime(), c.now.Add(maxHold)
		if !until.After(c.now) || until.After(latest) {
			return rpc.Invalid(errorv1.Reason_REASON_HOLD_TIME_INVALID, "untilTime", "must lie in the future, and not after %s", latest.Format(time.RFC3339)).
				With("latest", latest.Format(time.RFC3339))
		}
		relay, err := c.q.HoldRelay(ctx, db.HoldRelayParams{
			RegionID: c.relay.RegionID, AnnouncementID: c.a.ID, UntilTime: &until, Reason: req.GetReason(), Now: c.now,
		})
		if err != nil {
			return err
		}
		return appendRelays(ctx, c.tx, c.a, []db.Relay{relay})
	})
}

// DeclineRelay ends an announcement's way here, and tells why.
func (s *Service) DeclineRelay(ctx context.Context, req *regionalv1.DeclineRelayRequest) (*regionalv1.Relay, error) {
	return s.decide(ctx, req.GetName(), req.GetEtag(), func(c *relayCase) error {
		relay, err := c.q.DeclineRelay(ctx, db.DeclineRelayParams{
			RegionID: c.relay.RegionID, AnnouncementID: c.a.ID, Reason: req.GetReason(), Now: c.now,
		})
		if err != nil {
			return err
		}
		return appendRelays(ctx, c.tx, c.a, []db.Relay{relay})
	})
}

// TranslateRelay adds translations of the present edition. Those of an earlier one in the same languages make room.
func (s *Service) TranslateRelay(ctx context.Context, req *regionalv1.TranslateRelayRequest) (*regionalv1.Relay, error) {
	if err := refuseTwice(req.GetTranslations(), "translations"); err != nil {
		return nil, err
	}
	return s.onRelay(ctx, req.GetName(), req.GetEtag(), func(c *relayCase) error {
		if c.relay.State != forwarded {
			return c.refused("translations come with :forward, and after it with :translate")
		}
		added, err := addedTexts(c.relay)
		if err != nil {
			return err
		}
		texts := textsOfEdition(req.GetTranslations(), c.a.Edition)
		for i, text := range texts {
			same := func(known *eventv1.AnnouncementText) bool { return known.GetLanguage() == text.GetLanguage() }
			if slices.ContainsFunc(ofEdition(added, c.a.Edition), same) {
				return rpc.Precondition(errorv1.Reason_REASON_TRANSLATION_EXISTS,
					"translations[%d]: edition %d has %s already, and what was forwarded stays as it is", i, c.a.Edition, text.GetLanguage()).
					With("language", text.GetLanguage())
			}
			added = slices.DeleteFunc(added, same)
		}
		return c.translate(ctx, append(added, texts...))
	})
}

// translate writes a relay's translations, and tells of them.
func (c *relayCase) translate(ctx context.Context, texts []*eventv1.AnnouncementText) error {
	translations, err := proto.Marshal(&eventv1.RelayChanged{Translations: texts})
	if err != nil {
		return err
	}
	if len(translations) > maxAddition {
		return tooLarge("what is added", maxAddition)
	}
	relay, err := c.q.TranslateRelay(ctx, db.TranslateRelayParams{
		RegionID: c.relay.RegionID, AnnouncementID: c.a.ID, Translations: translations, Now: c.now,
	})
	if err != nil {
		return err
	}
	return appendRelays(ctx, c.tx, c.a, []db.Relay{relay})
}

// ForwardAllRelays forwards what the filter finds, to everybody. Each has an audience of its own, and so is a step of its own.
func (s *Service) ForwardAllRelays(ctx context.Context, req *regionalv1.ForwardAllRelaysRequest) (*regionalv1.ForwardAllRelaysResponse, error) {
	region := regionID(req.GetParent())
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.ForwardAllRelaysResponse, error) {
		takenOver, err := db.New(tx).TakenOver(ctx, region)
		if err != nil {
			return nil, err
		}
		found, err := db.New(tx).RelaysToForward(ctx, forwardFilter(req, append(takenOver, region)))
		if err != nil {
			return nil, err
		}
		answer := &regionalv1.ForwardAllRelaysResponse{More: len(found) > maxForwardAll}
		for _, one := range found[:min(len(found), maxForwardAll)] {
			if !req.GetValidateOnly() {
				done, err := s.forwardOne(ctx, tx, one.RegionID, one.AnnouncementID, req.GetNote())
				if err != nil {
					return nil, err
				}
				if !done {
					continue
				}
			}
			answer.Relays = append(answer.Relays, relayName(one.RegionID, one.AnnouncementID))
		}
		return answer, nil
	})
}

func forwardFilter(req *regionalv1.ForwardAllRelaysRequest, regions []string) db.RelaysToForwardParams {
	filter := db.RelaysToForwardParams{Regions: regions, State: waiting, Size: maxForwardAll + 1}
	if req.GetState() == regionalv1.Relay_HELD {
		filter.State = held
	}
	if req.GetArriveBeforeTime() != nil {
		before := req.GetArriveBeforeTime().AsTime()
		filter.ArrivedBefore = &before
	}
	if req.GetOrigin() != regionalv1.ForwardAllRelaysRequest_ORIGIN_UNSPECIFIED {
		filter.Origin = req.GetOrigin().String()
	}
	return filter
}

// forwardOne forwards a relay, unless somebody else decided on it meanwhile.
func (s *Service) forwardOne(ctx context.Context, tx pgx.Tx, region string, id uuid.UUID, note string) (bool, error) {
	c, err := s.openRelay(ctx, tx, region, id)
	if err != nil || !c.undecided() {
		return false, err
	}
	return true, c.forward(ctx, addition{note: note}, step{})
}

// GetRelay reads a relay with its announcement.
func (s *Service) GetRelay(ctx context.Context, req *regionalv1.GetRelayRequest) (*regionalv1.Relay, error) {
	region, id, err := splitName(req.GetName())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	relay, err := q.Relay(ctx, db.RelayParams{RegionID: region, AnnouncementID: id})
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	a, err := readAnnouncement(q.Announcement(ctx, id))
	if err != nil {
		return nil, err
	}
	return viewRelay(relay, a)
}

// ListRelays lists a region's inbox, the latest first.
func (s *Service) ListRelays(ctx context.Context, req *regionalv1.ListRelaysRequest) (*regionalv1.ListRelaysResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q, args := db.New(s.pool), db.RelaysBeforeParams{RegionID: regionID(req.GetParent()), Size: page.fetch()}
	if req.GetState() != regionalv1.Relay_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	if page.after != "" {
		region, id, err := splitName(page.after) // sealed by us
		if err != nil {
			return nil, err
		}
		args.Before, args.BeforeRegion = &id, region
	}
	if args.TakenOver, err = q.TakenOver(ctx, args.RegionID); err != nil {
		return nil, err
	}
	rows, err := q.RelaysBefore(ctx, args)
	if err != nil {
		return nil, err
	}
	name := func(last db.Relay) string { return relayName(last.RegionID, last.AnnouncementID) }
	rows, next := cut(page, rows, name)
	byID, err := announcementsOf(ctx, q, rows)
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListRelaysResponse{NextPageToken: next}
	for _, row := range rows {
		relay, err := viewRelay(row, byID[row.AnnouncementID])
		if err != nil {
			return nil, err
		}
		answer.Relays = append(answer.Relays, shorten(relay))
	}
	if n := rpc.Fit(answer.GetRelays()); n < len(rows) {
		answer.Relays, answer.NextPageToken = answer.GetRelays()[:n], page.seal(name(rows[n-1]))
	}
	return answer, nil
}

// shorten leaves out what is long, so that a page of a thousand fits into one message.
func shorten(relay *regionalv1.Relay) *regionalv1.Relay {
	whole := relay.GetContent()
	relay.Note, relay.Translations, relay.Chapters = "", nil, nil
	relay.Content = &regionalv1.RelayedAnnouncement{
		Edition: whole.GetEdition(), Language: whole.GetLanguage(), Subject: whole.GetSubject(), Urgent: whole.GetUrgent(),
		PublishTime: whole.GetPublishTime(),
	}
	return relay
}

func announcementsOf(ctx context.Context, q *db.Queries, relays []db.Relay) (map[uuid.UUID]announcement, error) {
	ids := make([]uuid.UUID, 0, len(relays))
	for _, relay := range relays {
		ids = append(ids, relay.AnnouncementID)
	}
	rows, err := q.AnnouncementsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[uuid.UUID]announcement, len(rows))
	for _, row := range rows {
		if byID[row.ID], err = readAnnouncement(row, nil); err != nil {
			return nil, err
		}
	}
	return byID, nil
}

func relayEtag(r db.Relay) string { return fmt.Sprintf("%d-%d", r.Epoch, r.Version) }

func viewRelay(r db.Relay, a announcement) (*regionalv1.Relay, error) {
	event, err := relayEvent(r, a)
	if err != nil {
		return nil, err
	}
	added, err := addedTexts(r)
	if err != nil {
		return nil, err
	}
	view := &regionalv1.Relay{
		Name:           event.GetRelay(),
		Announcement:   event.GetAnnouncement(),
		ParentRelay:    event.GetParentRelay(),
		State:          regionalv1.Relay_State(regionalv1.Relay_State_value[r.State]),
		Edition:        r.Edition,
		Automatic:      r.Automatic,
		ArriveTime:     event.GetArriveTime(),
		DeadlineTime:   event.GetDeadlineTime(),
		RemindTime:     optionalTime(r.RemindTime),
		HoldUntilTime:  event.GetHoldUntilTime(),
		HoldReason:     r.HoldReason,
		ForwardTime:    event.GetForwardTime(),
		DeclineReason:  r.DeclineReason,
		Note:           r.Note,
		Chapters:       r.Chapters,
		ChaptersChosen: r.ChaptersChosen,
		ChildRegions:   event.GetChildRegions(),
		Reach:          viewReach(event.GetReach()),
		UpdateTime:     event.GetUpdateTime(),
		Etag:           relayEtag(r),
		Content:        viewContent(a.said),

		WaitingWith:      event.GetWaitingWith(),
		ActingRegion:     event.GetActingRegion(),
		WaitingSinceTime: event.GetWaitingSinceTime(),

		TranslationsOutdated: len(added) > len(event.GetTranslations()),
	}
	for _, text := range added {
		view.Translations = append(view.Translations, &regionalv1.RelayTranslation{
			Language: text.GetLanguage(), Subject: text.GetSubject(), Body: text.GetBody(), Edition: text.GetEdition(),
		})
	}
	return view, nil
}

func viewReach(reach *eventv1.Reach) *regionalv1.RelayReach {
	return &regionalv1.RelayReach{
		ChaptersReached: reach.GetChaptersReached(), ChaptersSent: reach.GetChaptersSent(), ChaptersDismissed: reach.GetChaptersDismissed(),
		PeopleQueued: reach.GetPeopleQueued(), PeopleMailed: reach.GetPeopleMailed(), PeopleBounced: reach.GetPeopleBounced(),
		PeopleFailed: reach.GetPeopleFailed(), PeopleUncertain: reach.GetPeopleUncertain(), PeopleUnsubscribed: reach.GetPeopleUnsubscribed(),
	}
}

func viewContent(said *eventv1.AnnouncementChanged) *regionalv1.RelayedAnnouncement {
	return &regionalv1.RelayedAnnouncement{
		Edition:               said.GetEdition(),
		Language:              said.GetLanguage(),
		Subject:               said.GetSubject(),
		Body:                  said.GetBody(),
		Translations:          viewTexts(said.GetTranslations()),
		Links:                 viewLinks(said.GetLinks()),
		AudienceRegions:       said.GetAudienceRegions(),
		AudienceCharterStates: said.GetAudienceCharterStates(),
		AudienceLanguages:     said.GetAudienceLanguages(),
		Urgent:                said.GetUrgent(),
		PublishTime:           said.GetPublishTime(),
		RecallReason:          said.GetRecallReason(),
	}
}

// appendRelays tells the other tiers what has become of relays of one announcement. The caller holds their locks.
func appendRelays(ctx context.Context, tx pgx.Tx, a announcement, relays []db.Relay) error {
	events := make([]bus.Event, 0, len(relays))
	for _, relay := range relays {
		event, err := relayEvent(relay, a)
		if err != nil {
			return err
		}
		events = append(events, relayChanged(relay, event))
	}
	return bus.Append(ctx, tx, events...)
}

func relayChanged(r db.Relay, event *eventv1.RelayChanged) bus.Event {
	return bus.Event{
		Subject:   "relay." + r.RegionID + "." + r.AnnouncementID.String() + ".changed",
		Aggregate: relayName(r.RegionID, r.AnnouncementID),
		Version:   bus.Version{Epoch: r.Epoch, Number: r.Version},
		Data:      event,
	}
}

func relayEvent(r db.Relay, a announcement) (*eventv1.RelayChanged, error) {
	reach := &eventv1.Reach{}
	added, err := addedTexts(r)
	if err := errors.Join(err, proto.Unmarshal(r.Reach, reach)); err != nil {
		return nil, fmt.Errorf("read %s: %w", relayName(r.RegionID, r.AnnouncementID), err)
	}
	event := &eventv1.RelayChanged{
		Relay:          relayName(r.RegionID, r.AnnouncementID),
		Announcement:   a.said.GetAnnouncement(),
		State:          r.State,
		Edition:        r.Edition,
		Automatic:      r.Automatic,
		ArriveTime:     timestamppb.New(r.ArriveTime),
		DeadlineTime:   timestamppb.New(r.DeadlineTime),
		HoldUntilTime:  optionalTime(r.HoldUntilTime),
		ForwardTime:    optionalTime(r.ForwardTime),
		DeclineReason:  r.DeclineReason,
		Note:           r.Note,
		Translations:   ofEdition(added, r.Edition),
		Chapters:       r.Chapters,
		ChaptersChosen: r.ChaptersChosen,
		ChildRegions:   regionNames(r.ChildRegions),
		Reach:          reach,
		UpdateTime:     timestamppb.New(r.UpdateTime),
	}
	if r.ParentID != nil {
		event.ParentRelay = relayName(*r.ParentID, r.AnnouncementID)
	}
	switch r.State {
	case waiting, held:
		event.WaitingWith, event.WaitingSinceTime = r.WaitingWith, optionalTime(r.WaitingSince)
		if r.ActingRegion != "" {
			event.ActingRegion = regionName(r.ActingRegion)
		}
	case forwarded:
		event.LeftChapters = r.LeftChapters
	}
	return event, nil
}

// addedTexts are the translations that coordinators added to a relay, of whatever edition: one a language.
func addedTexts(r db.Relay) ([]*eventv1.AnnouncementText, error) {
	added := &eventv1.RelayChanged{}
	if err := proto.Unmarshal(r.Translations, added); err != nil {
		return nil, err
	}
	for _, text := range added.GetTranslations() {
		text.Edition = max(text.GetEdition(), 1) // the first ones did not say
	}
	return added.GetTranslations(), nil
}

func ofEdition(texts []*eventv1.AnnouncementText, edition int32) []*eventv1.AnnouncementText {
	return slices.DeleteFunc(slices.Clone(texts), func(text *eventv1.AnnouncementText) bool { return text.GetEdition() != edition })
}

func textsOfEdition(translations []*regionalv1.RelayTranslation, edition int32) []*eventv1.AnnouncementText {
	texts := textsOf(translations)
	for _, text := range texts {
		text.Edition = edition
	}
	return texts
}
