package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// tokensPerPart keeps a message of tokens at 720 kB, below what a NATS server takes.
const tokensPerPart = 20_000

// connectBus makes what publishes chapters and lists, answers for them, keeps the copies of the regions and of cases, and
// follows the placements.
func (s *Service) connectBus(deps Deps) error {
	s.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Local, Site: s.config.Site,
		Log: deps.Log, Registerer: deps.Registerer, OnRestored: s.beginEpoch,
	})
	s.responder = bus.NewResponder(bus.ResponderConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Local, Site: s.config.Site,
		Log: deps.Log, Registerer: deps.Registerer,
	}, s.owners()...)
	for tier, topics := range map[string][]bus.Topic{
		bus.Regional:      {regionTopic(), s.placementTopic(), caseTopic(), s.relayTopic(), s.announcementTopic()},
		bus.International: {s.charterTopic(), s.announcementTopic(), s.policyTopic(), s.noticeTopic(), s.erasureTopic()},
	} {
		// One worker takes events as they come, so that a charter is known before what is for the chartered.
		consumer, err := bus.NewConsumer(bus.ConsumerConfig{
			Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Local, Site: s.config.Site, FromTier: tier, FromSite: bus.MainSite,
			Topics: topics, Workers: 1, AfterCommit: s.publisher.Wake,
			Log: deps.Log, Registerer: deps.Registerer, GapWait: s.config.GapWait, CompareEvery: s.config.CompareEvery,
		})
		if err != nil {
			return fmt.Errorf("consume from the %s tier: %w", tier, err)
		}
		s.consumers = append(s.consumers, consumer)
	}
	return nil
}

// chaptersChanged tells of chapters as they stand, with their officers.
func (s *Service) chaptersChanged(ctx context.Context, tx pgx.Tx, chapters ...db.Chapter) ([]bus.Event, error) {
	officers, err := officersByChapter(ctx, tx, chapters...)
	if err != nil {
		return nil, err
	}
	events := make([]bus.Event, 0, len(chapters))
	for _, c := range chapters {
		events = append(events, bus.Event{
			Subject:   "chapter." + c.ID + ".changed",
			Aggregate: chapterName(c.ID),
			Version:   bus.Version{Epoch: c.Epoch, Number: c.Version},
			Data:      s.chapterMessage(c, officers[c.ID]),
		})
	}
	return events, nil
}

func (s *Service) chapterMessage(c db.Chapter, officers []db.Officer) *eventv1.ChapterChanged {
	message := &eventv1.ChapterChanged{
		Chapter:      chapterName(c.ID),
		DisplayName:  c.DisplayName,
		Region:       regionName(c.Region),
		City:         c.City,
		CountryCode:  c.CountryCode,
		Latitude:     c.Latitude,
		Longitude:    c.Longitude,
		Url:          c.Url,
		LanguageCode: c.LanguageCode,
		CreateTime:   timestamppb.New(c.CreateTime),
		UpdateTime:   timestamppb.New(c.UpdateTime),
	}
	now, people := s.clock.Now(), map[string]bool{}
	for _, o := range officers {
		told := &eventv1.ChapterOfficer{TermStartTime: timestamppb.New(o.TermStart), TermEndTime: timestamppb.New(o.TermEnd)}
		person := o.ID.String()
		if o.Subject != "" {
			told.SubjectToken = s.siteKey.SubjectToken(o.Subject)
			person = string(told.GetSubjectToken())
		}
		message.Officers = append(message.Officers, told)
		if officerState(o, now) == localv1.Officer_CURRENT {
			people[person] = true
		}
	}
	message.OfficerCount = int32(len(people))
	return message
}

// listChanged tells of a list's version that moves no token.
func listChanged(l db.List) bus.Event { return listEvent(l, &eventv1.ListChanged{}) }

// listEvent tells of a list's version and the tokens that it moves.
func listEvent(l db.List, change *eventv1.ListChanged) bus.Event {
	change.List, change.Kind, change.Deleted = listName(l.ChapterID, l.ID), eventKind(l), l.Deleted
	return bus.Event{
		Subject:   "list." + l.ChapterID + "." + l.ID + ".changed",
		Aggregate: change.GetList(),
		Version:   bus.Version{Epoch: l.Epoch, Number: l.Version},
		Data:      change,
	}
}

func eventKind(l db.List) eventv1.ListKind {
	if l.ID == membersID {
		return eventv1.ListKind_LIST_KIND_MEMBERSHIP
	}
	return eventv1.ListKind_LIST_KIND_MAILING
}

// beginEpoch tells of everything again after this database was restored from a backup. The higher epoch makes whoever
// keeps a list ask for a snapshot of it.
func (s *Service) beginEpoch(ctx context.Context, tx pgx.Tx, epoch int64) error {
	q := db.New(tx)
	chapters, err := q.BeginChapterEpoch(ctx, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	lists, err := q.BeginListEpoch(ctx, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	if err := q.BeginReceiptEpoch(ctx, epoch); err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	now := time.UnixMicro(epoch)
	if err := q.DoubtMails(ctx, &now); err != nil {
		return fmt.Errorf("doubt the mails: %w", err)
	}
	events, err := s.chaptersChanged(ctx, tx, chapters...)
	if err != nil {
		return err
	}
	for _, list := range lists {
		events = append(events, listChanged(list))
	}
	concerns, err := beginConcernEpoch(ctx, tx, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	erasures, err := beginErasureEpoch(ctx, tx, s.config.Site, epoch)
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	return bus.Append(ctx, tx, append(append(events, concerns...), erasures...)...)
}

func (s *Service) owners() []bus.Owner {
	return []bus.Owner{
		{Kind: "chapter", Versions: chapterVersions, Snapshot: s.chapterSnapshot},
		{Kind: "list", Versions: listVersions, Snapshot: listSnapshot},
		{Kind: "receipt", Versions: receiptVersions, Snapshot: receiptSnapshot},
		concernOwner(),
		erasureOwner(s.config.Site),
	}
}

func chapterVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).ChapterVersions(ctx, db.ChapterVersionsParams{After: chapterID(after), Size: int32(limit)})
	if err != nil {
		return nil, err
	}
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: chapterName(row.ID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, nil
}

func (s *Service) chapterSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	chapter, err := db.New(tx).Chapter(ctx, chapterID(aggregate))
	if err != nil {
		return bus.Version{}, false, ignoreNoRows(err)
	}
	officers, err := officersByChapter(ctx, tx, chapter)
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: chapter.Epoch, Number: chapter.Version}, true, send(s.chapterMessage(chapter, officers[chapter.ID]))
}

func listVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).ListVersions(ctx, db.ListVersionsParams{After: after, Size: int32(limit)})
	if err != nil {
		return nil, err
	}
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: row.Name, Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, nil
}

// listSnapshot sends the tokens that count, in order. An empty or deleted list is one message without any.
func listSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	chapter, id := listIDs(aggregate)
	q := db.New(tx)
	list, err := q.ListAggregate(ctx, db.ListAggregateParams{ChapterID: chapter, ID: id})
	if err != nil {
		return bus.Version{}, false, ignoreNoRows(err)
	}
	version := bus.Version{Epoch: list.Epoch, Number: list.Version}
	after := []byte{}
	for first := true; ; first = false {
		tokens, err := q.SubscribedTokens(ctx, db.SubscribedTokensParams{ListNo: list.ListNo, After: after, Size: tokensPerPart})
		if err != nil {
			return version, true, err
		}
		if len(tokens) == 0 && !first {
			return version, true, nil
		}
		part := &eventv1.ListSnapshot{List: aggregate, Kind: eventKind(list), Tokens: tokens, Deleted: list.Deleted}
		if err := send(part); err != nil || len(tokens) < tokensPerPart {
			return version, true, err
		}
		after = tokens[len(tokens)-1]
	}
}

func ignoreNoRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}
