package regional

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// noticeBatch bounds how many notices go into one mail: what one cause does to many chapters comes together.
	noticeBatch = 200
	// noticeLines is how many of them are written out.
	noticeLines = 50
)

// noticeTopic keeps what the international body tells of chapters until it is told to those who act for their regions. A
// notice may come before its chapter's placement.
var noticeTopic = whole("notice",
	func(ctx context.Context, q *db.Queries, n *eventv1.NoticeIssued) error {
		id, err := uuid.Parse(strings.TrimPrefix(n.GetNotice(), "notices/"))
		if err != nil {
			return fmt.Errorf("the last element of %q is no UUID", n.GetNotice())
		}
		content, err := proto.Marshal(n)
		if err != nil {
			return err
		}
		issued := n.GetIssueTime().AsTime()
		return q.KeepNotice(ctx, db.KeepNoticeParams{
			ID: id, ChapterID: chapterID(n.GetChapter()), Content: content, IssueTime: issued, Issued: issued.UnixMicro(),
		})
	},
	func(context.Context, *db.Queries, string) error { return nil }) // what nobody answers for any more was told all the same

// tellNotices writes to those who act for regions of whose chapters there are notices, to each one mail of all of them, and
// says how many notices there were. They are marked in the transaction that queues the mails.
func (s *Service) tellNotices(ctx context.Context) (n int, err error) {
	err = s.alone(ctx, func(tx pgx.Tx) error {
		q, now := db.New(tx), s.clock.Now()
		rows, err := q.NoticesToTell(ctx, noticeBatch)
		if err != nil || len(rows) == 0 {
			return err
		}
		n = len(rows)
		lines, ids := map[string][]line{}, make([]uuid.UUID, 0, len(rows))
		var regions []string
		for _, row := range rows {
			one, err := s.noticeLine(row.Content)
			if err != nil {
				return err
			}
			lines[row.RegionID], ids, regions = append(lines[row.RegionID], one), append(ids, row.ID), append(regions, row.RegionID)
		}
		if err := q.NoticesTold(ctx, ids); err != nil {
			return err
		}
		topic := "notices/" + ids[0].String() // that there is no second one is up to the marks
		return s.tellActing(ctx, q, regions, now, func(acts []db.OpenRegionsRow) letter { return noticeLetter(topic, acts, lines) })
	})
	if err != nil {
		return 0, fmt.Errorf("tell of notices: %w", err)
	}
	return n, nil
}

// noticeLine is a notice as a letter has it.
func (s *Service) noticeLine(content []byte) (line, error) {
	n := &eventv1.NoticeIssued{}
	if err := proto.Unmarshal(content, n); err != nil {
		return line{}, fmt.Errorf("read a notice: %w", err)
	}
	words, err := notice.Of(n, notice.Coordinator)
	if err != nil {
		return line{}, err
	}
	one := line{Title: oneLine(words.Subject), Link: s.link(strings.Replace(n.GetChapter(), "chapters/", "charters/", 1))}
	one.Details, one.Remedy = words.Paragraphs[0], strings.Join(strings.Fields(strings.Join(words.Paragraphs[1:], " ")), " ")
	return one, nil
}

// noticeLetter has what is told of the chapters of the regions that somebody acts for. A single notice is its subject.
func noticeLetter(topic string, acts []db.OpenRegionsRow, lines map[string][]line) letter {
	l := letter{
		topic: topic, intro: "The international body has told the officers of your chapters:", reason: whyYou(acts),
	}
	count, left := 0, noticeLines
	for _, region := range acts {
		all := lines[region.ID]
		part := section{Title: oneLine(region.DisplayName), Lines: all[:min(len(all), left)]}
		if more := len(all) - len(part.Lines); more > 0 {
			part.More = fmt.Sprintf("And %d more; the charters of the region list all.", more)
		}
		l.sections = append(l.sections, part)
		count, left = count+len(all), left-len(part.Lines)
		l.subject = all[0].Title
	}
	if count > 1 {
		l.subject = fmt.Sprintf("%d notices about chapters in %s", count, namesOf(acts))
	}
	return l
}
