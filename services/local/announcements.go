package local

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// relayForwarded and relayRecalled are states of a relay in its events.
const (
	relayForwarded = "FORWARDED"
	relayRecalled  = "RECALLED"
)

// inboxLock is the advisory lock of all who fill inboxes: "inboxes ".
const inboxLock = 0x696e626f78657320

// announcementTopic keeps the announcements of a tier above, each once.
func (s *Service) announcementTopic() bus.Topic {
	return wholeTopic("announcement", s.putAnnouncement)
}

// relayTopic keeps the relays, and gives the chapters what their region forwards.
func (s *Service) relayTopic() bus.Topic {
	return wholeTopic("relay", s.putRelay)
}

// charterTopic keeps the charters' states, which audiences ask for.
func (s *Service) charterTopic() bus.Topic {
	return wholeTopic("charter", s.putCharter)
}

// wholeTopic is one whose every event holds the whole aggregate. Other messages are passed over: later versions of the
// tier may say more. What the owner no longer has stays here: it was sent.
func wholeTopic[T proto.Message](kind string, put func(context.Context, pgx.Tx, T) error) bus.Topic {
	return bus.Topic{Kind: kind, Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
		for _, part := range parts {
			message, ok := part.Data.(T)
			if !ok {
				continue
			}
			if err := put(ctx, tx, message); err != nil {
				return fmt.Errorf("%s: %w", part.Aggregate, err)
			}
		}
		return nil
	}}
}

// putAnnouncement keeps an announcement as it stands now. Its relays may be here before it.
func (s *Service) putAnnouncement(ctx context.Context, tx pgx.Tx, given *eventv1.AnnouncementChanged) error {
	id, err := lastID(given.GetAnnouncement())
	if err != nil {
		return err
	}
	q := db.New(tx)
	if err := q.LockAnnouncement(ctx, db.LockAnnouncementParams{Key: inboxLock, ID: id, Name: given.GetAnnouncement()}); err != nil {
		return err
	}
	before, err := q.AnnouncementEdition(ctx, id)
	if err != nil {
		return err
	}
	content, err := proto.Marshal(given)
	if err != nil {
		return err
	}
	err = q.PutAnnouncement(ctx, db.PutAnnouncementParams{
		ID: id, Name: given.GetAnnouncement(), Edition: max(given.GetEdition(), 1), Content: content,
		AudienceRegions: array(given.GetAudienceRegions()), AudienceCharterStates: array(given.GetAudienceCharterStates()),
		AudienceLanguages: array(given.GetAudienceLanguages()), Recalled: given.GetRecalled(),
	})
	if err != nil {
		return err
	}
	if given.GetRecalled() {
		return s.recall(ctx, tx, id)
	}
	if before > 0 {
		return q.TouchInboxItems(ctx, db.TouchInboxItemsParams{AnnouncementID: id, Now: s.clock.Now()})
	}
	return s.fill(ctx, tx, id, "", "")
}

// recall stops all mailings of an announcement, and tells those who have it. Recalling again tells no more than that.
func (s *Service) recall(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	q, now := db.New(tx), s.clock.Now()
	if err := q.RecallAnnouncement(ctx, id); err != nil {
		return err
	}
	if err := q.CancelMailings(ctx, db.CancelMailingsParams{AnnouncementID: id, Now: now}); err != nil {
		return err
	}
	if err := q.CancelQueued(ctx, db.CancelQueuedParams{AnnouncementID: &id, Now: now}); err != nil {
		return err
	}
	return q.TouchInboxItems(ctx, db.TouchInboxItemsParams{AnnouncementID: id, Now: now})
}

// putRelay keeps a relay as it stands now. One that only counts what became of it is no news here.
func (s *Service) putRelay(ctx context.Context, tx pgx.Tx, given *eventv1.RelayChanged) error {
	id, err := lastID(given.GetRelay())
	if err != nil {
		return err
	}
	content, err := relayContent(given)
	if err != nil {
		return err
	}
	region := element(given.GetRelay(), 1)
	news, err := db.New(tx).PutRelay(ctx, db.PutRelayParams{
		Key: inboxLock, Name: given.GetAnnouncement(), AnnouncementID: id, Region: region, ParentRegion: optional(element(given.GetParentRelay(), 1)),
		State: given.GetState(), Content: content, Chapters: array(given.GetChapters()), ChaptersChosen: given.GetChaptersChosen(),
		LeftChapters: array(given.GetLeftChapters()), ForwardTime: timeOf(given.GetForwardTime()),
	})
	if err != nil || news == 0 {
		return err
	}
	switch given.GetState() {
	case relayForwarded:
		return s.fill(ctx, tx, id, region, "")
	case relayRecalled:
		return s.recall(ctx, tx, id)
	}
	return nil
}

// relayContent is a relay without what moves with every receipt, and without what is no business of chapters.
func relayContent(given *eventv1.RelayChanged) ([]byte, error) {
	kept, _ := proto.Clone(given).(*eventv1.RelayChanged)
	kept.Reach, kept.UpdateTime = nil, nil
	kept.WaitingWith, kept.ActingRegion, kept.WaitingSinceTime = nil, "", nil
	return proto.MarshalOptions{Deterministic: true}.Marshal(kept)
}

// putCharter keeps the state of a charter. Relays that were forwarded since then, and heard of here before, may be for
// the chapter now.
func (s *Service) putCharter(ctx context.Context, tx pgx.Tx, given *eventv1.CharterChanged) error {
	q, chapter, since := db.New(tx), chapterID(given.GetCharter()), given.GetUpdateTime().AsTime()
	if err := q.LockInboxes(ctx, inboxLock); err != nil {
		return err
	}
	err := q.PutCharter(ctx, db.PutCharterParams{ChapterID: chapter, State: given.GetState(), UpdateTime: since})
	if err != nil {
		return err
	}
	missed, err := q.AnnouncementsForCharter(ctx, db.AnnouncementsForCharterParams{ChapterID: chapter, Since: since})
	if err != nil {
		return err
	}
	return s.fillMissed(ctx, tx, missed, chapter)
}

// fillMissed gives announcements to a chapter that was not known to be among those that they are for.
func (s *Service) fillMissed(ctx context.Context, tx pgx.Tx, missed []uuid.UUID, chapter string) error {
	for _, id := range missed { // a handful: those of the last moments
		if err := s.fill(ctx, tx, id, "", chapter); err != nil {
			return err
		}
	}
	return nil
}

// fill gives an announcement to the chapters that have not got it, of a region, or to one chapter. The caller has the lock.
func (s *Service) fill(ctx context.Context, tx pgx.Tx, id uuid.UUID, region, chapter string) error {
	now, last := s.clock.Now(), region
	if region == "" {
		last = "~" // after all ids
	}
	_, err := db.New(tx).FillInboxes(ctx, db.FillInboxesParams{
		AnnouncementID: id, FirstRegion: region, LastRegion: last, Chapter: chapter, Now: now, Epoch: now.UnixMicro(),
	})
	if err != nil {
		return fmt.Errorf("fill the inboxes: %w", err)
	}
	return nil
}

// array is what the database takes for an empty one, which null is not.
func array(texts []string) []string { return append([]string{}, texts...) }

// lastID is the UUID that an announcement, its relays, inbox items and receipts have in common.
func lastID(name string) (uuid.UUID, error) {
	id, err := uuid.Parse(name[strings.LastIndexByte(name, '/')+1:])
	if err != nil {
		return id, fmt.Errorf("the last element of %q is no UUID", name)
	}
	return id, nil
}
