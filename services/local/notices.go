package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// noticeTopic keeps what the international body tells the chapters, and mails it to their officers.
func (s *Service) noticeTopic() bus.Topic { return wholeTopic("notice", s.putNotice) }

// putNotice lays a notice in the chapter's inbox and queues a mail to each of its officers, once: the notice's key says
// whether that was done. Chapters of other sites are passed over.
func (s *Service) putNotice(ctx context.Context, tx pgx.Tx, given *eventv1.NoticeIssued) error {
	id, err := lastID(given.GetNotice())
	if err != nil {
		return err
	}
	content, err := proto.Marshal(given)
	if err != nil {
		return err
	}
	q, now, chapter := db.New(tx), s.clock.Now(), chapterID(given.GetChapter())
	added, err := q.InsertNotice(ctx, db.InsertNoticeParams{ID: id, ChapterID: chapter, Content: content, Now: now})
	if err != nil || added == 0 {
		return err
	}
	_, err = q.QueueNotice(ctx, db.QueueNoticeParams{
		NoticeID: &id, ChapterID: chapter, Issued: given.GetIssueTime().AsTime().UnixMicro(), Now: now,
	})
	if err != nil {
		return fmt.Errorf("queue the mails: %w", err)
	}
	return nil
}

// noticeMail writes the mail of a notice to an officer.
func (d *delivery) noticeMail(ctx context.Context, taken taken) (mail.Message, error) {
	row, err := db.New(d.pool).NoticeOfMail(ctx, *taken.now.NoticeID)
	if err != nil {
		return mail.Message{}, fmt.Errorf("read a notice: %w", err)
	}
	words, _, err := readNotice(row.Content)
	if err != nil {
		return mail.Message{}, err
	}
	words.Paragraphs = append(words.Paragraphs, fmt.Sprintf(
		"You get this as an officer of %s. It lies in the chapter's inbox too. The chapter's admins can mute notices for you.", row.ChapterName))
	message := mail.Message{
		To: netmail.Address{Name: taken.now.DisplayName, Address: taken.now.Address}, Subject: words.Subject, Language: noticeLanguage,
		ID: d.messageID(taken.ID), Automatic: true,
	}
	message.Text, message.HTML = document(noticeLanguage, words.Text(), words.HTML())
	return message, nil
}

// noticeLanguage is that of all notices.
const noticeLanguage = "en"

func readNotice(content []byte) (notice.Words, *eventv1.NoticeIssued, error) {
	issued := &eventv1.NoticeIssued{}
	if err := proto.Unmarshal(content, issued); err != nil {
		return notice.Words{}, nil, fmt.Errorf("read a notice: %w", err)
	}
	words, err := notice.Of(issued, notice.Officer)
	return words, issued, err
}

// bounceOfficers notes that nobody is reached at an address to which notices go.
func bounceOfficers(ctx context.Context, tx pgx.Tx, token []byte, said string, now time.Time) error {
	return db.New(tx).BounceOfficers(ctx, db.BounceOfficersParams{MailToken: token, Failure: said, Now: now})
}

// viewNotices shows notices without their texts.
func viewNotices(ctx context.Context, q *db.Queries, rows []db.Notice) ([]*localv1.InboxItem, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	views, byID, ids := make([]*localv1.InboxItem, 0, len(rows)), map[uuid.UUID]*localv1.InboxItem{}, make([]uuid.UUID, 0, len(rows))
	for _, row := range rows {
		words, issued, err := readNotice(row.Content)
		if err != nil {
			return nil, err
		}
		view := viewNotice(row, issued)
		view.Subject = words.Subject
		views, ids, byID[row.ID] = append(views, view), append(ids, row.ID), view
	}
	mails, err := q.NoticeMails(ctx, ids)
	for _, row := range mails {
		byID[*row.NoticeID].Counts = &localv1.MailCounts{
			Queued: row.Queued, Mailed: row.Sent, Bounced: row.Bounced, Failed: row.Failed, Uncertain: row.Uncertain,
		}
	}
	return views, err
}

func viewNotice(row db.Notice, issued *eventv1.NoticeIssued) *localv1.InboxItem {
	return &localv1.InboxItem{
		Name: inboxName(row.ChapterID, row.ID), Kind: localv1.InboxItem_NOTICE, State: localv1.InboxItem_State(row.State),
		Edition: 1, ArrivedEdition: 1, Language: noticeLanguage, DismissReason: row.DismissReason,
		PublishTime: issued.GetIssueTime(), ArriveTime: timestamppb.New(row.ArriveTime), UpdateTime: timestamppb.New(row.UpdateTime),
		Counts: &localv1.MailCounts{},
		Notice: &localv1.InboxNotice{
			Kind: issued.GetKind(), Charter: "charters/" + row.ChapterID, CharterState: issued.GetCharterState(),
			DeadlineTime: issued.GetDeadlineTime(), ReapplyTime: issued.GetReapplyTime(), Note: issued.GetNote(), ReasonCodes: issued.GetReasonCodes(),
		},
	}
}

// readNoticeItem reads a notice with its text.
func readNoticeItem(ctx context.Context, q *db.Queries, name string) (*localv1.InboxItem, error) {
	row, err := q.Notice(ctx, db.NoticeParams{ChapterID: chapterID(name), ID: itemID(name)})
	if err != nil {
		return nil, orNotFound(err, name)
	}
	views, err := viewNotices(ctx, q, []db.Notice{row})
	if err != nil {
		return nil, err
	}
	words, _, err := readNotice(row.Content)
	item := views[0]
	item.Body, item.BodyHtml, item.BodyText = words.Markdown(), words.HTML(), words.Text()
	return item, err
}

// dismissNotice says that a notice was seen; false where there is no such notice.
func (s *Service) dismissNotice(ctx context.Context, tx pgx.Tx, req *localv1.DismissInboxItemRequest) (bool, error) {
	q := db.New(tx)
	row, err := q.NoticeForUpdate(ctx, db.NoticeForUpdateParams{ChapterID: chapterID(req.GetName()), ID: itemID(req.GetName())})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil || row.State == itemDismissed && row.DismissReason == req.GetReason() {
		return true, err
	}
	return true, q.DismissNotice(ctx, db.DismissNoticeParams{ID: row.ID, Reason: req.GetReason(), Now: s.clock.Now()})
}

// isNotice refuses to send a notice; nil where the name is none's.
func isNotice(ctx context.Context, q *db.Queries, name string) error {
	_, err := q.Notice(ctx, db.NoticeParams{ChapterID: chapterID(name), ID: itemID(name)})
	if err != nil {
		return ignoreNoRows(err)
	}
	return rpc.Precondition(errorv1.Reason_REASON_INBOX_ITEM_IS_NOTICE, "%s is a notice to the chapter's officers, who have it; it goes to no list", name).
		With("resource", name)
}

// inOrder merges announcements and notices, in the order of the inbox.
func inOrder(items ...[]*localv1.InboxItem) []*localv1.InboxItem {
	all := slices.Concat(items...)
	slices.SortFunc(all, func(a, b *localv1.InboxItem) int {
		return cmp.Or(b.GetArriveTime().AsTime().Compare(a.GetArriveTime().AsTime()), cmp.Compare(element(b.GetName(), 3), element(a.GetName(), 3)))
	})
	return all
}
