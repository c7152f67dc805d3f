package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// remindRelays bounds how many relays one round reminds of, and digestBatch how many coordinators get their digest.
	remindRelays = 500
	digestBatch  = 50
)

// remindOfRelays writes to those who act for regions in which announcements wait whose deadline is near, to each one mail of
// all of them, and says how many there were. A relay is marked in the same transaction, and reminded of once for each time
// that it comes to wait.
func (s *Service) remindOfRelays(ctx context.Context) (n int, err error) {
	err = s.alone(ctx, func(tx pgx.Tx) error {
		q, now := db.New(tx), s.clock.Now()
		rows, err := q.RemindableRelays(ctx, db.RemindableRelaysParams{Now: &now, Size: remindRelays})
		if err != nil || len(rows) == 0 {
			return err
		}
		n = len(rows)
		marked := db.MarkRemindedParams{Now: &now}
		for _, row := range rows {
			marked.Announcements = append(marked.Announcements, row.Relay.AnnouncementID)
			marked.Regions = append(marked.Regions, row.Relay.RegionID)
		}
		if err := q.MarkReminded(ctx, marked); err != nil {
			return err
		}
		lines, err := s.reminderLines(rows)
		if err != nil {
			return err
		}
		topic := "reminder/" + uuid.NewString() // that there is no second one is up to the marks
		return s.tellActing(ctx, q, marked.Regions, now, func(acts []db.OpenRegionsRow) letter { return reminder(topic, acts, lines) })
	})
	if err != nil {
		return 0, fmt.Errorf("remind of relays: %w", err)
	}
	return n, nil
}

// reminderLines are the lines of relays, by region.
func (s *Service) reminderLines(rows []db.RemindableRelaysRow) (map[string][]line, error) {
	lines := map[string][]line{}
	for _, row := range rows {
		a, err := readAnnouncement(row.Announcement, nil)
		if err != nil {
			return nil, err
		}
		region, deadline := row.Relay.RegionID, timestamppb.New(row.Relay.DeadlineTime)
		lines[region] = append(lines[region], line{
			Title:   oneLine(a.said.GetSubject()),
			Details: fmt.Sprintf("It waits since %s; at its deadline, %s, it forwards itself to everybody.", inWords(timestamppb.New(row.Relay.ArriveTime)), inWords(deadline)),
			Remedy:  "Forward it, hold it until a date, or decline it with a reason before then.",
			Link:    s.link(relayName(region, a.ID)),
		})
	}
	return lines, nil
}

func reminder(topic string, acts []db.OpenRegionsRow, lines map[string][]line) letter {
	l := letter{
		topic: topic, subject: "Announcements wait for you in " + namesOf(acts),
		intro:  "The deadline of what follows is near, and nobody has forwarded, held or declined it.",
		reason: whyYou(acts),
	}
	for _, region := range acts {
		l.sections = append(l.sections, section{Title: oneLine(region.DisplayName), Lines: lines[region.ID]})
	}
	return l
}

// tellUrgent writes to those who act for regions through which an urgent announcement has passed, to each one mail, and says
// whether there was one.
func (s *Service) tellUrgent(ctx context.Context) (n int, err error) {
	err = s.alone(ctx, func(tx pgx.Tx) error {
		q, now := db.New(tx), s.clock.Now()
		id, err := q.AnnouncementToTell(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// What moves all relays of the announcement has it alone.
		a, err := readAnnouncement(q.AnnouncementForShare(ctx, id))
		if err != nil {
			return err
		}
		regions, err := q.TakeToTell(ctx, id)
		if err != nil || a.Recalled {
			return err
		}
		n = len(regions)
		return s.tellActing(ctx, q, regions, now, func(acts []db.OpenRegionsRow) letter { return s.urgentNote(a, acts) })
	})
	if err != nil {
		return 0, fmt.Errorf("tell of what is urgent: %w", err)
	}
	return n, nil
}

func (s *Service) urgentNote(a announcement, acts []db.OpenRegionsRow) letter {
	subject := oneLine(a.said.GetSubject())
	l := letter{
		topic: "urgent/" + a.ID.String(), subject: "Urgent, and sent on already: " + subject,
		intro:  "An urgent announcement has passed through " + namesOf(acts) + " by itself. There is nothing to forward; this is for you to know.",
		reason: whyYou(acts),
	}
	part := section{Title: "Announcement"}
	for _, region := range acts {
		part.Lines = append(part.Lines, line{
			Title: subject, Details: "Published " + inWords(a.said.GetPublishTime()) + ", passed through " + oneLine(region.DisplayName) + ".",
			Remedy: "Read it, so that you can answer your chapters' questions.", Link: s.link(relayName(region.ID, a.ID)),
		})
	}
	if len(part.Lines) > digestItems {
		part.More = fmt.Sprintf("And through %d more regions.", len(part.Lines)-digestItems)
		part.Lines = part.Lines[:digestItems]
	}
	l.sections = []section{part}
	return l
}

// sendDigests queues the weekly digests that are due, and says how many coordinators' turn it was. Each coordinator is locked
// and put off to the next week in the transaction that queues the mail.
func (s *Service) sendDigests(ctx context.Context) (n int, err error) {
	err = s.alone(ctx, func(tx pgx.Tx) error {
		q, now := db.New(tx), s.clock.Now()
		due, err := q.DueDigestsForUpdate(ctx, db.DueDigestsForUpdateParams{Now: &now, Size: digestBatch})
		if err != nil || len(due) == 0 {
			return err
		}
		n = len(due)
		a, err := readActors(ctx, q, now)
		if err != nil {
			return err
		}
		var ids []uuid.UUID
		for _, to := range due {
			ids = append(ids, to.ID)
			if err := s.sendDigest(ctx, q, a, to, now); err != nil {
				return err
			}
		}
		return q.SetDigestDue(ctx, db.SetDigestDueParams{Ids: ids, DueTime: new(s.nextDigest(now))})
	})
	if err != nil {
		return 0, fmt.Errorf("send digests: %w", err)
	}
	return n, nil
}

// sendDigest queues one coordinator's digest of a week, or records why there is none.
func (s *Service) sendDigest(ctx context.Context, q *db.Queries, a *actors, to db.Coordinator, now time.Time) error {
	topic := "digest/" + to.DigestDueTime.UTC().Format(time.DateOnly)
	acts := a.actsFor(to.ID)
	if len(acts) == 0 || to.MailAddress == "" {
		return putMail(ctx, q, db.InsertMailParams{CoordinatorID: to.ID, Topic: topic, State: mailCancelled, Now: now})
	}
	sections, err := s.digestSections(ctx, q, to.Subject, acts, regionsByName(a.regions))
	if err != nil {
		return err
	}
	if len(sections) == 0 {
		return putMail(ctx, q, db.InsertMailParams{CoordinatorID: to.ID, Topic: topic, State: mailEmpty, Now: now})
	}
	return s.queueLetter(ctx, q, to, letter{
		topic: topic, subject: "What waits for you in " + namesOf(acts), sections: sections, reason: whyYou(acts),
		intro: "This waits for you in " + namesOf(acts) + ". The same, at any time: " + s.link(regionName(acts[0].ID)+":digest"),
	}, now)
}

// digestSections are what waits in the regions that somebody acts for, by kind. What a region's digest has of the chapters in
// regions below is not repeated by theirs.
func (s *Service) digestSections(ctx context.Context, q *db.Queries, subject string, acts []db.OpenRegionsRow, names map[string]string) ([]section, error) {
	items, more := map[regionalv1.DigestItem_Kind][]*regionalv1.DigestItem{}, map[regionalv1.DigestItem_Kind]int{}
	for _, region := range acts {
		parts, err := s.digestOf(region.ID, subject).parts(ctx, q)
		if err != nil {
			return nil, err
		}
		covered := slices.ContainsFunc(acts, func(above db.OpenRegionsRow) bool {
			return above.ID != region.ID && slices.Contains(region.Path, above.ID)
		})
		for _, part := range parts {
			if covered && ofChapters(part.GetKind()) {
				continue
			}
			listed := awake(part.GetItems())
			items[part.GetKind()] = append(items[part.GetKind()], listed...)
			more[part.GetKind()] += int(part.GetCount()-part.GetSnoozedCount()) - len(listed)
		}
	}
	var sections []section
	for _, kind := range digestKinds {
		if len(items[kind]) == 0 {
			continue
		}
		part := section{Title: s.titleOf(kind)}
		for _, item := range items[kind] {
			part.Lines = append(part.Lines, s.digestLine(item, names))
		}
		if more[kind] > 0 {
			part.More = fmt.Sprintf("And %d more.", more[kind])
		}
		sections = append(sections, part)
	}
	return sections, nil
}

// ofChapters are the kinds of which a digest holds those of the regions below, too.
func ofChapters(kind regionalv1.DigestItem_Kind) bool {
	return kind == regionalv1.DigestItem_CHARTER_AT_RISK || kind == regionalv1.DigestItem_CHARTER_SUSPENDED || kind == regionalv1.DigestItem_CHAPTER_SILENT
}

func regionsByName(regions []db.OpenRegionsRow) map[string]string {
	names := map[string]string{}
	for _, region := range regions {
		names[regionName(region.ID)] = oneLine(region.DisplayName)
	}
	return names
}

func (s *Service) titleOf(kind regionalv1.DigestItem_Kind) string {
	switch kind {
	case regionalv1.DigestItem_RELAY_WAITING:
		return "Announcements that wait to be forwarded"
	case regionalv1.DigestItem_RELAY_HELD:
		return "Announcements that are held"
	case regionalv1.DigestItem_CONCERN_UNANSWERED:
		return "Concerns without an answer"
	case regionalv1.DigestItem_CHARTER_AT_RISK:
		return "Charters at risk"
	case regionalv1.DigestItem_CHARTER_SUSPENDED:
		return "Charters that are suspended"
	default:
		return "Chapters of which nothing was heard for " + daysInWords(s.config.SilentAfter)
	}
}

func (s *Service) digestLine(item *regionalv1.DigestItem, names map[string]string) line {
	return line{
		Title: oneLine(item.GetTitle()), Details: names[item.GetRegion()] + ": " + detailsOf(item), Remedy: item.GetRemedy(), Link: s.link(item.GetResource()),
	}
}

// detailsOf says since when an item waits, and until when.
func detailsOf(item *regionalv1.DigestItem) string {
	switch item.GetKind() {
	case regionalv1.DigestItem_RELAY_WAITING:
		return "here since " + dayInWords(item.GetSinceTime()) + ", forwards itself " + inWords(item.GetDeadlineTime())
	case regionalv1.DigestItem_RELAY_HELD:
		return "here since " + dayInWords(item.GetSinceTime()) + ", held until " + inWords(item.GetHoldUntilTime())
	case regionalv1.DigestItem_CONCERN_UNANSWERED:
		return "here since " + dayInWords(item.GetSinceTime()) + ", an answer is due by " + inWords(item.GetDeadlineTime())
	case regionalv1.DigestItem_CHAPTER_SILENT:
		return "last heard of on " + dayInWords(item.GetSinceTime())
	default:
		return charterDetails(item)
	}
}

// charterDetails does without the times that an earlier version did not keep.
func charterDetails(item *regionalv1.DigestItem) string {
	text := "not known since when"
	if item.GetSinceTime() != nil {
		text = "since " + dayInWords(item.GetSinceTime())
	}
	if item.GetDeadlineTime() != nil {
		text += ", to be cured by " + dayInWords(item.GetDeadlineTime())
	}
	return text
}
