package regional

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// maxContent is what an announcement may hold in all its languages: its event has to fit into one message.
const maxContent = 900 << 10

// announcement is one as it is kept, with its content read.
type announcement struct {
	db.Announcement
	said *eventv1.AnnouncementChanged
}

func readAnnouncement(row db.Announcement, err error) (announcement, error) {
	if err != nil {
		return announcement{}, err
	}
	said := &eventv1.AnnouncementChanged{}
	if err := proto.Unmarshal(row.Content, said); err != nil {
		return announcement{}, fmt.Errorf("read announcement %s: %w", row.ID, err)
	}
	return announcement{row, said}, nil
}

// passes says whether regions need not forward it: it is urgent, or the time that they had for that is over.
func (a announcement) passes(now time.Time) bool {
	return a.said.GetUrgent() || !now.Before(a.said.GetRelayDeadlineTime().AsTime())
}

// audience holds the ids of the regions that it is for; none does not narrow.
func (a announcement) audience() []string {
	ids := make([]string, 0, len(a.said.GetAudienceRegions()))
	for _, name := range a.said.GetAudienceRegions() {
		ids = append(ids, regionID(name))
	}
	return ids
}

// splitName returns the region and the UUID of "regions/<region>/relays/<uuid>" and of announcements.
func splitName(name string) (region string, id uuid.UUID, err error) {
	elements := strings.Split(name, "/")
	if len(elements) != 4 {
		return "", uuid.Nil, notFound(name)
	}
	id, err = uuid.Parse(elements[3])
	if err != nil {
		return "", uuid.Nil, notFound(name)
	}
	return elements[1], id, nil
}

func ownName(region string, id uuid.UUID) string {
	return regionName(region) + "/announcements/" + id.String()
}

// CreateRegionalAnnouncement publishes an announcement of a region to its own chapters and the regions below.
func (s *Service) CreateRegionalAnnouncement(ctx context.Context, req *regionalv1.CreateRegionalAnnouncementRequest) (*regionalv1.RegionalAnnouncement, error) {
	id, err := idOrNew(req.GetAnnouncementId())
	if err != nil {
		return nil, err
	}
	region := regionID(req.GetParent())
	if err := checkOwn(req.GetAnnouncement()); err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.RegionalAnnouncement, error) {
		if err := db.New(tx).LockTreeShared(ctx, treeLock); err != nil {
			return nil, err
		}
		if _, err := db.New(tx).Region(ctx, region); err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		now := s.clock.Now()
		said := s.saidByRegion(req.GetAnnouncement(), region, id, now)
		content, err := encode(said)
		if err != nil {
			return nil, err
		}
		a, err := readAnnouncement(db.New(tx).InsertAnnouncement(ctx, db.InsertAnnouncementParams{
			ID: id, RegionID: &region, Edition: 1, Public: isPublic(said), Languages: said.GetAudienceLanguages(), Content: content, Epoch: now.UnixMicro(), Version: 1, Now: now,
		}))
		if errors.Is(err, pgx.ErrNoRows) {
			name := ownName(region, id)
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s exists already", name).With("resource", name)
		}
		if err != nil {
			return nil, err
		}
		if err := bus.Append(ctx, tx, ownChanged(a)); err != nil {
			return nil, err
		}
		return viewOwn(a), s.begin(ctx, tx, a, region, now)
	})
}

func checkOwn(a *regionalv1.RegionalAnnouncement) error {
	if a.GetPublic() && len(a.GetCharterStates()) > 0 {
		return rpc.Invalid(errorv1.Reason_REASON_PUBLIC_NARROWED, "announcement.public", "contradicts charterStates: its feeds would tell who is in these states; leave out either")
	}
	return refuseTwice(a.GetTranslations(), "announcement.translations")
}

// isPublic does not rely on the sender alone: a feed of what is for some states of charters would tell who is in them.
func isPublic(said *eventv1.AnnouncementChanged) bool {
	return said.GetPublic() && len(said.GetAudienceCharterStates()) == 0
}

func idOrNew(given string) (uuid.UUID, error) {
	if given == "" {
		return uuid.NewV7()
	}
	return uuid.Parse(given)
}

// refuseTwice refuses two texts in one language.
func refuseTwice(translations []*regionalv1.RelayTranslation, field string) error {
	seen := map[string]bool{}
	for i, one := range translations {
		if seen[one.GetLanguage()] {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, fmt.Sprintf("%s[%d].language", field, i), "%s is there already", one.GetLanguage())
		}
		seen[one.GetLanguage()] = true
	}
	return nil
}

func (s *Service) saidByRegion(a *regionalv1.RegionalAnnouncement, region string, id uuid.UUID, now time.Time) *eventv1.AnnouncementChanged {
	deadline := s.config.RelayDeadline
	if a.GetRelayDeadline() != nil {
		deadline = a.GetRelayDeadline().AsDuration()
	}
	language := a.GetLanguage()
	if language == "" {
		language = "en"
	}
	return &eventv1.AnnouncementChanged{
		Announcement:          ownName(region, id),
		Edition:               1,
		Language:              language,
		Subject:               a.GetSubject(),
		Body:                  a.GetBody(),
		Translations:          textsOf(a.GetTranslations()),
		Links:                 linksOf(a.GetLinks()),
		AudienceRegions:       []string{regionName(region)},
		AudienceCharterStates: a.GetCharterStates(),
		AudienceLanguages:     a.GetLanguages(),
		Urgent:                a.GetUrgent(),
		PublishTime:           timestamppb.New(now),
		RelayDeadlineTime:     timestamppb.New(now.Add(deadline)),
		UpdateTime:            timestamppb.New(now),
		Public:                a.GetPublic(),
	}
}

// encode refuses what would not fit into one event.
func encode(said *eventv1.AnnouncementChanged) ([]byte, error) {
	content, err := proto.Marshal(said)
	if err == nil && len(content) > maxContent {
		err = tooLarge("the announcement with its translations", maxContent)
	}
	return content, err
}

func tooLarge(what string, limit int) error {
	return rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "%s is larger than %d bytes", what, limit).With("limit", limit)
}

// GetRegionalAnnouncement reads an announcement of a region.
func (s *Service) GetRegionalAnnouncement(ctx context.Context, req *regionalv1.GetRegionalAnnouncementRequest) (*regionalv1.RegionalAnnouncement, error) {
	region, id, err := splitName(req.GetName())
	if err != nil {
		return nil, err
	}
	a, err := readAnnouncement(db.New(s.pool).Announcement(ctx, id))
	if err == nil && (a.RegionID == nil || *a.RegionID != region) {
		err = notFound(req.GetName())
	}
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	return viewOwn(a), nil
}

// ListRegionalAnnouncements lists a region's own announcements, the latest first.
func (s *Service) ListRegionalAnnouncements(ctx context.Context, req *regionalv1.ListRegionalAnnouncementsRequest) (*regionalv1.ListRegionalAnnouncementsResponse, error) {
	page, err := s.openLatest(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	region := regionID(req.GetParent())
	rows, err := db.New(s.pool).AnnouncementsOfRegion(ctx, db.AnnouncementsOfRegionParams{
		RegionID: &region, Before: page.before, Size: page.size + 1,
	})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Announcement) uuid.UUID { return last.ID })
	answer := &regionalv1.ListRegionalAnnouncementsResponse{NextPageToken: next}
	for _, row := range rows {
		a, err := readAnnouncement(row, nil)
		if err != nil {
			return nil, err
		}
		short := viewOwn(a)
		short.Body, short.Translations, short.Links = "", nil, nil
		answer.Announcements = append(answer.Announcements, short)
	}
	if n := rpc.Fit(answer.GetAnnouncements()); n < len(rows) {
		answer.Announcements, answer.NextPageToken = answer.GetAnnouncements()[:n], page.seal(rows[n-1].ID)
	}
	return answer, nil
}

// CorrectRegionalAnnouncement makes a new edition, which follows the ways of the earlier one.
func (s *Service) CorrectRegionalAnnouncement(ctx context.Context, req *regionalv1.CorrectRegionalAnnouncementRequest) (*regionalv1.RegionalAnnouncement, error) {
	if err := refuseTwice(req.GetTranslations(), "translations"); err != nil {
		return nil, err
	}
	return s.changeOwn(ctx, req.GetName(), req.GetEtag(), func(said *eventv1.AnnouncementChanged) {
		said.Edition++
		if req.GetSubject() != "" {
			said.Subject = req.GetSubject()
		}
		if req.GetBody() != "" {
			said.Body = req.GetBody()
		}
		said.Translations, said.Links = textsOf(req.GetTranslations()), linksOf(req.GetLinks())
	})
}

// RecallRegionalAnnouncement takes an announcement back.
func (s *Service) RecallRegionalAnnouncement(ctx context.Context, req *regionalv1.RecallRegionalAnnouncementRequest) (*regionalv1.RegionalAnnouncement, error) {
	return s.changeOwn(ctx, req.GetName(), req.GetEtag(), func(said *eventv1.AnnouncementChanged) {
		said.Recalled, said.RecallReason = true, req.GetReason()
	})
}

// changeOwn changes a region's own announcement that was not recalled, tells of it, and lets its relays follow.
func (s *Service) changeOwn(ctx context.Context, name, given string, change func(*eventv1.AnnouncementChanged)) (*regionalv1.RegionalAnnouncement, error) {
	region, id, err := splitName(name)
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.RegionalAnnouncement, error) {
		a, err := readAnnouncement(db.New(tx).AnnouncementForUpdate(ctx, id))
		if err == nil && (a.RegionID == nil || *a.RegionID != region) {
			err = notFound(name)
		}
		if err != nil {
			return nil, orNotFound(err, name)
		}
		if err := rpc.CheckEtags(ctx, given, ownEtag(a)); err != nil {
			return nil, err
		}
		if a.Recalled {
			return nil, rpc.Precondition(errorv1.Reason_REASON_ANNOUNCEMENT_STATE, "%s is RECALLED", name).With("state", "RECALLED")
		}
		now := s.clock.Now()
		said := proto.CloneOf(a.said)
		change(said)
		said.UpdateTime = timestamppb.New(now)
		after, err := s.follow(ctx, tx, a, said, now)
		if err != nil {
			return nil, err
		}
		return viewOwn(after), bus.Append(ctx, tx, ownChanged(after))
	})
}

func ownEtag(a announcement) string { return fmt.Sprintf("%d-%d", a.Epoch, a.Version) }

// ownChanged tells of a region's own announcement.
func ownChanged(a announcement) bus.Event {
	return bus.Event{
		Subject:   "announcement." + *a.RegionID + "." + a.ID.String() + ".changed",
		Aggregate: ownName(*a.RegionID, a.ID),
		Version:   bus.Version{Epoch: a.Epoch, Number: a.Version},
		Data:      a.said,
	}
}

func viewOwn(a announcement) *regionalv1.RegionalAnnouncement {
	said := a.said
	view := &regionalv1.RegionalAnnouncement{
		Name:              said.GetAnnouncement(),
		Subject:           said.GetSubject(),
		Body:              said.GetBody(),
		Language:          said.GetLanguage(),
		Translations:      viewTexts(said.GetTranslations()),
		Links:             viewLinks(said.GetLinks()),
		CharterStates:     said.GetAudienceCharterStates(),
		Languages:         said.GetAudienceLanguages(),
		Urgent:            said.GetUrgent(),
		RelayDeadline:     durationpb.New(said.GetRelayDeadlineTime().AsTime().Sub(said.GetPublishTime().AsTime())),
		State:             regionalv1.RegionalAnnouncement_PUBLISHED,
		Edition:           a.Edition,
		PublishTime:       said.GetPublishTime(),
		RelayDeadlineTime: said.GetRelayDeadlineTime(),
		RecallReason:      said.GetRecallReason(),
		Public:            said.GetPublic(),
		UpdateTime:        timestamppb.New(a.UpdateTime),
		Etag:              ownEtag(a),
	}
	if a.Recalled {
		view.State = regionalv1.RegionalAnnouncement_RECALLED
	}
	return view
}

func textsOf(translations []*regionalv1.RelayTranslation) []*eventv1.AnnouncementText {
	texts := make([]*eventv1.AnnouncementText, 0, len(translations))
	for _, one := range translations {
		texts = append(texts, &eventv1.AnnouncementText{Language: one.GetLanguage(), Subject: one.GetSubject(), Body: one.GetBody()})
	}
	return texts
}

func viewTexts(texts []*eventv1.AnnouncementText) []*regionalv1.RelayTranslation {
	translations := make([]*regionalv1.RelayTranslation, 0, len(texts))
	for _, one := range texts {
		translations = append(translations, &regionalv1.RelayTranslation{Language: one.GetLanguage(), Subject: one.GetSubject(), Body: one.GetBody()})
	}
	return translations
}

func linksOf(links []*regionalv1.RelayLink) []*eventv1.AnnouncementLink {
	all := make([]*eventv1.AnnouncementLink, 0, len(links))
	for _, one := range links {
		all = append(all, &eventv1.AnnouncementLink{Title: one.GetTitle(), Url: one.GetUrl()})
	}
	return all
}

func viewLinks(links []*eventv1.AnnouncementLink) []*regionalv1.RelayLink {
	all := make([]*regionalv1.RelayLink, 0, len(links))
	for _, one := range links {
		all = append(all, &regionalv1.RelayLink{Title: one.GetTitle(), Url: one.GetUrl()})
	}
	return all
}
