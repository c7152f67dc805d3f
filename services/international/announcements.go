package international

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
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The states of an announcement.
const (
	draft     = "DRAFT"
	scheduled = "SCHEDULED"
	published = "PUBLISHED"
	recalled  = "RECALLED"
)

// maxContent is what an announcement may hold in all its languages: its event has to fit into one message.
const maxContent = 900 << 10

// readAnnouncements is held on the federation by those who see drafts, and elsewhere by those who see what is published.
const readAnnouncements authz.Permission = "announcements.read"

// CreateAnnouncement writes a draft.
func (s *Service) CreateAnnouncement(ctx context.Context, req *internationalv1.CreateAnnouncementRequest) (*internationalv1.Announcement, error) {
	id, err := announcementIDOrNew(req.GetAnnouncementId())
	if err != nil {
		return nil, err
	}
	content, err := encodeContent(req.GetAnnouncement(), "announcement.")
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Announcement, error) {
		given := req.GetAnnouncement()
		row, err := db.New(tx).InsertAnnouncement(ctx, db.InsertAnnouncementParams{
			ID: id, Subject: given.GetSubject(), Content: content, Language: orElse(given.GetLanguage(), "en"),
			Urgent: given.GetPriority() == internationalv1.Announcement_URGENT, RelayDeadline: deadlineSeconds(given), Now: s.clock.Now(),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			name := announcementName(id)
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s exists already", name).With("resource", name)
		}
		if err != nil {
			return nil, err
		}
		return s.viewAnnouncement(row)
	})
}

func announcementIDOrNew(given string) (uuid.UUID, error) {
	if given == "" {
		return uuid.NewV7()
	}
	return uuid.Parse(given)
}

func announcementName(id uuid.UUID) string { return "announcements/" + id.String() }

// announcementID reads "announcements/<uuid>" and what lies below it.
func announcementID(name string) (uuid.UUID, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(name, "announcements/"), "/")
	id, err := uuid.Parse(first)
	if err != nil {
		return uuid.Nil, noAnnouncement(pgx.ErrNoRows, name)
	}
	return id, nil
}

func noAnnouncement(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s", name)
	}
	return err
}

func deadlineSeconds(a *internationalv1.Announcement) int64 {
	return int64(a.GetRelayDeadline().AsDuration() / time.Second)
}

// encodeContent is what a row keeps as protobuf. It refuses two texts in one language, a public announcement that is for some
// states of charters alone, and what would not fit into one event.
// within is where the texts lie in the request, with a dot.
func encodeContent(a *internationalv1.Announcement, within string) ([]byte, error) {
	seen := map[string]bool{}
	for i, one := range a.GetTranslations() {
		if seen[one.GetLanguage()] {
			return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, fmt.Sprintf("%stranslations[%d].language", within, i), "%s is there already", one.GetLanguage())
		}
		seen[one.GetLanguage()] = true
	}
	if a.GetPublic() && len(a.GetAudience().GetCharterStates()) > 0 {
		return nil, rpc.Invalid(errorv1.Reason_REASON_PUBLIC_NARROWED, within+"public", "contradicts audience.charterStates: its feeds would tell who is in these states; leave out either")
	}
	content, err := proto.Marshal(&internationalv1.Announcement{
		Body: a.GetBody(), Translations: a.GetTranslations(), Links: a.GetLinks(), Audience: a.GetAudience(), Public: a.GetPublic(),
	})
	if err == nil && len(content) > maxContent {
		err = rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "the announcement with its translations is larger than %d bytes", maxContent).With("limit", maxContent)
	}
	return content, err
}

// GetAnnouncement reads an announcement. To those who see no drafts they do not exist.
func (s *Service) GetAnnouncement(ctx context.Context, req *internationalv1.GetAnnouncementRequest) (*internationalv1.Announcement, error) {
	states, err := visibleStates(ctx)
	if err != nil {
		return nil, err
	}
	row, err := s.readAnnouncement(ctx, req.GetName())
	if err == nil && !slices.Contains(states, row.State) {
		err = noAnnouncement(pgx.ErrNoRows, req.GetName())
	}
	if err != nil {
		return nil, err
	}
	return s.viewAnnouncement(row)
}

func (s *Service) readAnnouncement(ctx context.Context, name string) (db.Announcement, error) {
	id, err := announcementID(name)
	if err != nil {
		return db.Announcement{}, err
	}
	row, err := db.New(s.pool).ReadAnnouncement(ctx, id)
	return row, noAnnouncement(err, name)
}

// visibleStates are those of the announcements that the caller may see.
func visibleStates(ctx context.Context) ([]string, error) {
	scopes := authz.FromContext(ctx).Scopes(readAnnouncements)
	switch {
	case slices.Contains(scopes, authz.Federation):
		return []string{draft, scheduled, published, recalled}, nil
	case len(scopes) > 0:
		return []string{published, recalled}, nil
	}
	return nil, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "announcements are for staff, auditors, coordinators and chapter admins")
}

// ListAnnouncements lists announcements, the latest first.
func (s *Service) ListAnnouncements(ctx context.Context, req *internationalv1.ListAnnouncementsRequest) (*internationalv1.ListAnnouncementsResponse, error) {
	states, err := visibleStates(ctx)
	if err != nil {
		return nil, err
	}
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.AnnouncementsBeforeParams{States: states, Size: page.size + 1}
	if wanted := req.GetState(); wanted != internationalv1.Announcement_STATE_UNSPECIFIED {
		args.States = slices.DeleteFunc(states, func(state string) bool { return state != wanted.String() })
	}
	if page.after != "" {
		before, err := uuid.Parse(page.after) // sealed by us
		if err != nil {
			return nil, err
		}
		args.Before = &before
	}
	rows, err := db.New(s.pool).AnnouncementsBefore(ctx, args)
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.AnnouncementsBeforeRow) string { return last.ID.String() })
	answer := &internationalv1.ListAnnouncementsResponse{NextPageToken: next}
	for _, row := range rows {
		short, err := s.viewAnnouncement(db.Announcement(row))
		if err != nil {
			return nil, err
		}
		answer.Announcements = append(answer.Announcements, short)
	}
	if n := rpc.Fit(answer.GetAnnouncements()); n < len(rows) {
		answer.Announcements, answer.NextPageToken = answer.GetAnnouncements()[:n], page.seal(rows[n-1].ID.String())
	}
	return answer, nil
}

// UpdateAnnouncement changes what the mask names of a draft.
func (s *Service) UpdateAnnouncement(ctx context.Context, req *internationalv1.UpdateAnnouncementRequest) (*internationalv1.Announcement, error) {
	given := req.GetAnnouncement()
	return s.onAnnouncement(ctx, given.GetName(), given.GetEtag(), func(_ pgx.Tx, row *db.Announcement) error {
		if row.State != draft {
			return announcementState(*row, "changed; publish a correction instead")
		}
		merged, err := s.viewAnnouncement(*row)
		if err != nil {
			return err
		}
		if err := rpc.Merge(merged, given, req.GetUpdateMask(), "announcement",
			"subject", "body", "language", "translations", "links", "audience", "priority", "relay_deadline", "public"); err != nil {
			return err
		}
		if row.Content, err = encodeContent(merged, "announcement."); err != nil {
			return err
		}
		row.Subject, row.Language = merged.GetSubject(), orElse(merged.GetLanguage(), "en")
		row.Urgent, row.RelayDeadline = merged.GetPriority() == internationalv1.Announcement_URGENT, deadlineSeconds(merged)
		return nil
	})
}

// DeleteAnnouncement removes what nobody else has heard of.
func (s *Service) DeleteAnnouncement(ctx context.Context, req *internationalv1.DeleteAnnouncementRequest) (*emptypb.Empty, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*emptypb.Empty, error) {
		row, err := lockAnnouncement(ctx, tx, req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		if row.State != draft && row.State != scheduled {
			return nil, announcementState(row, "deleted; :recall takes back what is published")
		}
		return &emptypb.Empty{}, db.New(tx).DeleteAnnouncement(ctx, row.ID)
	})
}

// lockAnnouncement finds one that must be as the caller read it.
func lockAnnouncement(ctx context.Context, tx pgx.Tx, name, given string) (db.Announcement, error) {
	id, err := announcementID(name)
	if err != nil {
		return db.Announcement{}, err
	}
	row, err := db.New(tx).AnnouncementForUpdate(ctx, id)
	if err != nil {
		return row, noAnnouncement(err, name)
	}
	return row, rpc.CheckEtags(ctx, given, etag(row.Epoch, row.Version))
}

// PublishAnnouncement publishes a draft, now or at a time to come.
func (s *Service) PublishAnnouncement(ctx context.Context, req *internationalv1.PublishAnnouncementRequest) (*internationalv1.Announcement, error) {
	return s.onAnnouncement(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row *db.Announcement) error {
		if row.State != draft && row.State != scheduled {
			return announcementState(*row, "published")
		}
		if err := refuseUnknownRegions(ctx, tx, *row); err != nil {
			return err
		}
		now := s.clock.Now()
		if at := req.GetPublishTime(); at != nil && at.AsTime().After(now) {
			s.setPublishTime(row, at.AsTime())
			row.State = scheduled
			return nil
		}
		s.makePublic(row, now)
		return nil
	})
}

// makePublic is what publishing makes of a row.
func (s *Service) makePublic(row *db.Announcement, now time.Time) {
	s.setPublishTime(row, now)
	row.State, row.Edition = published, 1
}

func (s *Service) setPublishTime(row *db.Announcement, at time.Time) {
	deadline := at.Add(s.deadlineOf(*row))
	row.PublishTime, row.DeadlineTime = &at, &deadline
}

func (s *Service) deadlineOf(row db.Announcement) time.Duration {
	return orElse(time.Duration(row.RelayDeadline)*time.Second, s.config.RelayDeadline)
}

// CorrectAnnouncement makes a new edition, which follows the ways of the earlier one.
func (s *Service) CorrectAnnouncement(ctx context.Context, req *internationalv1.CorrectAnnouncementRequest) (*internationalv1.Announcement, error) {
	return s.onAnnouncement(ctx, req.GetName(), req.GetEtag(), func(_ pgx.Tx, row *db.Announcement) error {
		if row.State != published {
			return announcementState(*row, "corrected")
		}
		content, err := decodeContent(*row)
		if err != nil {
			return err
		}
		content.Body = orElse(req.GetBody(), content.GetBody())
		content.Translations, content.Links = req.GetTranslations(), req.GetLinks()
		row.Content, err = encodeContent(content, "")
		row.Subject = orElse(req.GetSubject(), row.Subject)
		row.Edition++
		return err
	})
}

// RecallAnnouncement takes back what is scheduled or published.
func (s *Service) RecallAnnouncement(ctx context.Context, req *internationalv1.RecallAnnouncementRequest) (*internationalv1.Announcement, error) {
	return s.onAnnouncement(ctx, req.GetName(), req.GetEtag(), func(_ pgx.Tx, row *db.Announcement) error {
		if row.State != published && row.State != scheduled {
			return announcementState(*row, "recalled")
		}
		now := s.clock.Now()
		row.State, row.RecallTime, row.RecallReason = recalled, &now, req.GetReason()
		return nil
	})
}

func announcementState(row db.Announcement, verb string) error {
	return rpc.Precondition(errorv1.Reason_REASON_ANNOUNCEMENT_STATE, "%s is %s and cannot be %s", announcementName(row.ID), row.State, verb).
		With("state", row.State)
}

// onAnnouncement runs a verb on an announcement, writes what it made of the row, and tells of it when others know it.
func (s *Service) onAnnouncement(ctx context.Context, name, given string, verb func(pgx.Tx, *db.Announcement) error) (*internationalv1.Announcement, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Announcement, error) {
		row, err := lockAnnouncement(ctx, tx, name, given)
		if err != nil {
			return nil, err
		}
		before := row.Edition
		if err := verb(tx, &row); err != nil {
			return nil, err
		}
		after, err := s.putAnnouncement(ctx, tx, row, before)
		if err != nil {
			return nil, err
		}
		return s.viewAnnouncement(after)
	})
}

// putAnnouncement writes a row, its edition where that is a new one, and the event.
func (s *Service) putAnnouncement(ctx context.Context, tx pgx.Tx, row db.Announcement, before int32) (db.Announcement, error) {
	q := db.New(tx)
	now := s.clock.Now()
	after, err := q.PutAnnouncement(ctx, db.PutAnnouncementParams{
		ID: row.ID, State: row.State, Subject: row.Subject, Content: row.Content, Language: row.Language, Urgent: row.Urgent,
		RelayDeadline: row.RelayDeadline, Edition: row.Edition, PublishTime: row.PublishTime, DeadlineTime: row.DeadlineTime,
		RecallTime: row.RecallTime, RecallReason: row.RecallReason, Now: now,
	})
	if err != nil || after.Edition == 0 {
		return after, err
	}
	if after.Edition != before {
		err := q.InsertEdition(ctx, db.InsertEditionParams{
			AnnouncementID: after.ID, Edition: after.Edition, Subject: after.Subject, Content: after.Content, Now: now,
		})
		if err != nil {
			return after, fmt.Errorf("keep edition %d of %s: %w", after.Edition, announcementName(after.ID), err)
		}
	}
	event, err := announcementChanged(after)
	if err != nil {
		return after, err
	}
	return after, bus.Append(ctx, tx, event)
}

// scheduleBatch bounds what one transaction publishes.
const scheduleBatch = 20

// publishDue publishes what is scheduled for now or earlier, and says how much that was.
func (s *Service) publishDue(ctx context.Context) (int, error) {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) {
		now := s.clock.Now()
		due, err := db.New(tx).DueAnnouncements(ctx, db.DueAnnouncementsParams{Now: now, Size: scheduleBatch})
		if err != nil {
			return 0, fmt.Errorf("look for what is scheduled: %w", err)
		}
		for _, row := range due {
			s.makePublic(&row, now)
			if _, err := s.putAnnouncement(ctx, tx, row, 0); err != nil {
				return 0, fmt.Errorf("publish %s: %w", announcementName(row.ID), err)
			}
		}
		return len(due), nil
	})
}

// runSchedule publishes what is due until ctx ends. An outage of the database is waited out.
func (s *Service) runSchedule(ctx context.Context) error {
	ticker := time.NewTicker(s.config.PublishEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		n, err := s.publishDue(ctx)
		if n > 0 {
			s.publisher.Wake()
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "what is scheduled has to wait", "error", err)
		}
	}
}

func decodeContent(row db.Announcement) (*internationalv1.Announcement, error) {
	content := &internationalv1.Announcement{}
	if err := proto.Unmarshal(row.Content, content); err != nil {
		return nil, fmt.Errorf("read %s: %w", announcementName(row.ID), err)
	}
	return content, nil
}

func (s *Service) viewAnnouncement(row db.Announcement) (*internationalv1.Announcement, error) {
	a, err := decodeContent(row)
	if err != nil {
		return nil, err
	}
	a.Name = announcementName(row.ID)
	a.Subject = row.Subject
	a.Language = row.Language
	a.Priority = internationalv1.Announcement_NORMAL
	if row.Urgent {
		a.Priority = internationalv1.Announcement_URGENT
	}
	a.RelayDeadline = durationpb.New(s.deadlineOf(row))
	a.State = internationalv1.Announcement_State(internationalv1.Announcement_State_value[row.State])
	a.Edition = row.Edition
	a.PublishTime = optionalTime(row.PublishTime)
	a.RelayDeadlineTime = optionalTime(row.DeadlineTime)
	a.RecallTime = optionalTime(row.RecallTime)
	a.RecallReason = row.RecallReason
	a.CreateTime = timestamppb.New(row.CreateTime)
	a.UpdateTime = timestamppb.New(row.UpdateTime)
	a.Etag = etag(row.Epoch, row.Version)
	return a, nil
}

func announcementChanged(row db.Announcement) (bus.Event, error) {
	said, err := announcementEvent(row)
	return bus.Event{
		Subject:   "announcement." + row.ID.String() + ".changed",
		Aggregate: announcementName(row.ID),
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      said,
	}, err
}

// announcementEvent is a published announcement as the other tiers hear of it.
func announcementEvent(row db.Announcement) (*eventv1.AnnouncementChanged, error) {
	content, err := decodeContent(row)
	if err != nil {
		return nil, err
	}
	said := &eventv1.AnnouncementChanged{
		Announcement:      announcementName(row.ID),
		Edition:           row.Edition,
		Language:          row.Language,
		Subject:           row.Subject,
		Body:              content.GetBody(),
		AudienceRegions:   content.GetAudience().GetRegions(),
		AudienceLanguages: content.GetAudience().GetLanguages(),
		Urgent:            row.Urgent,
		PublishTime:       optionalTime(row.PublishTime),
		RelayDeadlineTime: optionalTime(row.DeadlineTime),
		Recalled:          row.State == recalled,
		RecallReason:      row.RecallReason,
		UpdateTime:        timestamppb.New(row.UpdateTime),
		Public:            content.GetPublic(),
	}
	for _, one := range content.GetTranslations() {
		said.Translations = append(said.Translations, &eventv1.AnnouncementText{Language: one.GetLanguage(), Subject: one.GetSubject(), Body: one.GetBody()})
	}
	for _, one := range content.GetLinks() {
		said.Links = append(said.Links, &eventv1.AnnouncementLink{Title: one.GetTitle(), Url: one.GetUrl()})
	}
	said.AudienceCharterStates = charterStateNames(content.GetAudience())
	return said, nil
}

func charterStateNames(audience *internationalv1.Audience) []string {
	names := make([]string, 0, len(audience.GetCharterStates()))
	for _, state := range audience.GetCharterStates() {
		names = append(names, state.String())
	}
	return names
}

func announcementVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	args := db.AnnouncementVersionsAfterParams{Size: int32(limit)}
	if id, err := uuid.Parse(strings.TrimPrefix(after, "announcements/")); err == nil {
		args.After = &id
	}
	rows, err := db.New(tx).AnnouncementVersionsAfter(ctx, args)
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: announcementName(row.ID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func announcementSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	id, err := uuid.Parse(strings.TrimPrefix(aggregate, "announcements/"))
	if err != nil {
		return bus.Version{}, false, nil //nolint:nilerr // what is no announcement's name is no announcement
	}
	row, err := db.New(tx).ReadAnnouncement(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && row.Edition == 0 {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	said, err := announcementEvent(row)
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: row.Epoch, Number: row.Version}, true, send(said)
}
