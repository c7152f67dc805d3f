package local

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// The states of an inbox item as the database has them. What is recalled is the announcement, for everybody.
const (
	itemArrived   = int16(localv1.InboxItem_ARRIVED)
	itemSent      = int16(localv1.InboxItem_SENT)
	itemDismissed = int16(localv1.InboxItem_DISMISSED)
)

// sendWithin is until when an announcement can be sent, from its arrival. It is less than keepMails by what a mail may be
// tried: while anybody can be mailed an announcement it is known who had it.
const sendWithin = 60 * 24 * time.Hour

// ListInboxItems lists what has arrived, newest first.
func (s *Service) ListInboxItems(ctx context.Context, req *localv1.ListInboxItemsRequest) (*localv1.ListInboxItemsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q, chapter := db.New(s.pool), chapterID(req.GetParent())
	if _, err := q.Chapter(ctx, chapter); err != nil {
		return nil, orNotFound(err, req.GetParent())
	}
	args := db.InboxItemsBeforeParams{ChapterID: chapter, State: int32(req.GetState()), Size: page.fetch(), First: page.after == ""}
	if !args.First {
		args.BeforeTime, args.BeforeID = openItemCursor(page.after)
	}
	var announcements, notices []*localv1.InboxItem
	if req.GetKind() != localv1.InboxItem_NOTICE {
		if announcements, err = announcementsBefore(ctx, q, args); err != nil {
			return nil, err
		}
	}
	if req.GetKind() != localv1.InboxItem_ANNOUNCEMENT {
		rows, err := q.NoticesBefore(ctx, db.NoticesBeforeParams(args))
		if err != nil {
			return nil, err
		}
		if notices, err = viewNotices(ctx, q, rows); err != nil {
			return nil, err
		}
	}
	answer := &localv1.ListInboxItemsResponse{}
	answer.Items, answer.NextPageToken = cut(page, inOrder(announcements, notices), itemCursor)
	if n := rpc.Fit(answer.GetItems()); n < len(answer.GetItems()) {
		answer.Items, answer.NextPageToken = answer.GetItems()[:n], page.seal(itemCursor(answer.GetItems()[n-1]))
	}
	return answer, nil
}

func announcementsBefore(ctx context.Context, q *db.Queries, args db.InboxItemsBeforeParams) ([]*localv1.InboxItem, error) {
	found, err := q.InboxItemsBefore(ctx, args)
	if err != nil {
		return nil, err
	}
	rows := make([]db.InboxItemRow, 0, len(found))
	for _, row := range found {
		rows = append(rows, db.InboxItemRow(row))
	}
	return viewInboxItems(ctx, q, args.ChapterID, rows)
}

func itemCursor(item *localv1.InboxItem) string {
	return strconv.FormatInt(item.GetArriveTime().AsTime().UnixMicro(), 10) + "." + element(item.GetName(), 3)
}

// openItemCursor reads what was sealed by us.
func openItemCursor(cursor string) (time.Time, uuid.UUID) {
	micros, id, _ := strings.Cut(cursor, ".")
	at, _ := strconv.ParseInt(micros, 10, 64)
	parsed, _ := uuid.Parse(id)
	return time.UnixMicro(at), parsed
}

// GetInboxItem reads an item with its text.
func (s *Service) GetInboxItem(ctx context.Context, req *localv1.GetInboxItemRequest) (*localv1.InboxItem, error) {
	return readInboxItem(ctx, db.New(s.pool), req.GetName())
}

func readInboxItem(ctx context.Context, q *db.Queries, name string) (*localv1.InboxItem, error) {
	chapter, id := chapterID(name), itemID(name)
	row, err := q.InboxItem(ctx, db.InboxItemParams{ChapterID: chapter, AnnouncementID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return readNoticeItem(ctx, q, name)
	}
	if err != nil {
		return nil, err
	}
	views, err := viewInboxItems(ctx, q, chapter, []db.InboxItemRow{row})
	if err != nil {
		return nil, err
	}
	l, err := letterOf(ctx, q, row.Announcement, row.InboxItem.Region, row.LanguageCode)
	if err != nil {
		return nil, err
	}
	return views[0], l.show(views[0])
}

// itemID takes the announcement out of an item's name, whose form the request's rules have checked.
func itemID(name string) uuid.UUID {
	id, _ := uuid.Parse(element(name, 3))
	return id
}

// SendInboxItem schedules mailings to lists.
func (s *Service) SendInboxItem(ctx context.Context, req *localv1.SendInboxItemRequest) (*localv1.InboxItem, error) {
	if err := readable("note", req.GetNote()); err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.InboxItem, error) {
		q, now := db.New(tx), s.clock.Now()
		if err := isNotice(ctx, q, req.GetName()); err != nil {
			return nil, err
		}
		item, err := lockInboxItem(ctx, q, req.GetName())
		if err != nil {
			return nil, err
		}
		due, err := sendTime(req, item, now)
		if err != nil {
			return nil, err
		}
		for i, name := range req.GetLists() { // a chapter has a handful
			list, err := listToSend(ctx, q, item.InboxItem.ChapterID, i, name)
			if err != nil {
				return nil, err
			}
			err = q.PutMailing(ctx, db.PutMailingParams{
				AnnouncementID: item.InboxItem.AnnouncementID, ChapterID: item.InboxItem.ChapterID, ListNo: list.ListNo,
				Note: req.GetNote(), DueTime: due, Now: now,
			})
			if err != nil {
				return nil, fmt.Errorf("schedule a mailing: %w", err)
			}
		}
		if item.InboxItem.State == itemDismissed {
			if err := setItem(ctx, q, item.InboxItem, itemArrived, "", now); err != nil {
				return nil, err
			}
		}
		return readInboxItem(ctx, q, req.GetName())
	})
}

func setItem(ctx context.Context, q *db.Queries, item db.InboxItem, state int16, reason string, now time.Time) error {
	return q.SetInboxItem(ctx, db.SetInboxItemParams{
		AnnouncementID: item.AnnouncementID, ChapterID: item.ChapterID, State: state, DismissReason: reason, Now: now,
	})
}

// lockInboxItem reads an item that is to change. One that was recalled changes no more.
func lockInboxItem(ctx context.Context, q *db.Queries, name string) (db.InboxItemForUpdateRow, error) {
	row, err := q.InboxItemForUpdate(ctx, db.InboxItemForUpdateParams{ChapterID: chapterID(name), AnnouncementID: itemID(name)})
	if err != nil {
		return row, orNotFound(err, name)
	}
	if row.Announcement.Recalled {
		return row, itemState(name, localv1.InboxItem_RECALLED, "whoever wrote it took it back")
	}
	return row, nil
}

func itemState(name string, state localv1.InboxItem_State, text string) error {
	return rpc.Precondition(errorv1.Reason_REASON_INBOX_ITEM_STATE, "%s is %s: %s", name, state, text).With("state", state)
}

// sendTime is when a mailing starts.
func sendTime(req *localv1.SendInboxItemRequest, item db.InboxItemForUpdateRow, now time.Time) (time.Time, error) {
	due, latest := now, item.InboxItem.ArriveTime.Add(sendWithin)
	if req.GetSendTime() != nil && req.GetSendTime().AsTime().After(now) {
		due = req.GetSendTime().AsTime()
	}
	switch {
	case now.After(latest):
		return due, itemState(req.GetName(), localv1.InboxItem_State(item.InboxItem.State), "it arrived more than 60 days ago, and is sent no more")
	case due.After(latest):
		return due, rpc.Invalid(errorv1.Reason_REASON_SEND_TIME_INVALID, "sendTime", "must be within 60 days after it arrived").
			With("latest", latest.Format(time.RFC3339))
	}
	return due, nil
}

// listToSend finds a list of the chapter that takes announcements.
func listToSend(ctx context.Context, q *db.Queries, chapter string, i int, name string) (db.List, error) {
	field := fmt.Sprintf("lists[%d]", i)
	owner, id := listIDs(name)
	if owner != chapter {
		return db.List{}, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, field, "is a list of another chapter")
	}
	list, err := q.List(ctx, db.ListParams{ChapterID: chapter, ID: id})
	if err != nil {
		return list, orNotFound(err, name)
	}
	if list.AnnouncementMode == int16(localv1.List_NEVER) {
		return list, rpc.Precondition(errorv1.Reason_REASON_LIST_TAKES_NO_ANNOUNCEMENTS, "the announcementMode of %s is NEVER", name).
			With("resource", name)
	}
	return list, nil
}

// DismissInboxItem says that the chapter does not pass it on, or has seen the notice. Dismissing again changes the reason at
// most.
func (s *Service) DismissInboxItem(ctx context.Context, req *localv1.DismissInboxItemRequest) (*localv1.InboxItem, error) {
	if err := readable("reason", req.GetReason()); err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.InboxItem, error) {
		q, now := db.New(tx), s.clock.Now()
		if done, err := s.dismissNotice(ctx, tx, req); done || err != nil {
			if err != nil {
				return nil, err
			}
			return readNoticeItem(ctx, q, req.GetName())
		}
		row, err := lockInboxItem(ctx, q, req.GetName())
		if err != nil {
			return nil, err
		}
		item := row.InboxItem
		if item.State == itemSent {
			return nil, itemState(req.GetName(), localv1.InboxItem_SENT, "what was sent cannot be dismissed")
		}
		err = q.CancelScheduled(ctx, db.CancelScheduledParams{AnnouncementID: item.AnnouncementID, ChapterID: item.ChapterID, Now: now})
		if err != nil {
			return nil, err
		}
		if item.State != itemDismissed || item.DismissReason != req.GetReason() {
			if err := setItem(ctx, q, item, itemDismissed, req.GetReason(), now); err != nil {
				return nil, err
			}
		}
		return readInboxItem(ctx, q, req.GetName())
	})
}

// viewInboxItems shows items of one chapter without their texts.
func viewInboxItems(ctx context.Context, q *db.Queries, chapter string, rows []db.InboxItemRow) ([]*localv1.InboxItem, error) {
	views := make([]*localv1.InboxItem, 0, len(rows))
	byID, ids := map[uuid.UUID]*localv1.InboxItem{}, make([]uuid.UUID, 0, len(rows))
	for _, row := range rows {
		view, err := viewInboxItem(row)
		if err != nil {
			return nil, err
		}
		views, ids = append(views, view), append(ids, row.InboxItem.AnnouncementID)
		byID[row.InboxItem.AnnouncementID] = view
	}
	mailings, err := q.MailingsOf(ctx, db.MailingsOfParams{ChapterID: chapter, AnnouncementIds: ids})
	if err != nil {
		return nil, err
	}
	for _, row := range mailings {
		item, view := byID[row.AnnouncementID], viewMailing(chapter, row)
		item.Mailings = append(item.Mailings, view)
		if !row.Posting {
			addCounts(item.GetCounts(), view.GetCounts())
		}
	}
	return views, nil
}

// viewInboxItem shows an item with the subject in the announcement's own languages: in lists, what regions translated is
// not worth a query each.
func viewInboxItem(row db.InboxItemRow) (*localv1.InboxItem, error) {
	l, err := plainLetter(row.Announcement, row.LanguageCode)
	if err != nil {
		return nil, err
	}
	item, announcement := row.InboxItem, l.announcement
	state := localv1.InboxItem_State(item.State)
	if row.Announcement.Recalled {
		state = localv1.InboxItem_RECALLED
	}
	view := &localv1.InboxItem{
		Name: inboxName(item.ChapterID, item.AnnouncementID), Kind: localv1.InboxItem_ANNOUNCEMENT, Announcement: row.Announcement.Name, Region: regionName(item.Region),
		State: state, Edition: row.Announcement.Edition, ArrivedEdition: item.ArrivedEdition,
		Corrected: row.Announcement.Edition > item.ArrivedEdition, Urgent: announcement.GetUrgent(),
		Language: l.text.GetLanguage(), Subject: l.text.GetSubject(),
		RecallReason: announcement.GetRecallReason(), DismissReason: item.DismissReason,
		PublishTime: announcement.GetPublishTime(), ArriveTime: timestamppb.New(item.ArriveTime), UpdateTime: timestamppb.New(item.UpdateTime),
		Counts: &localv1.MailCounts{},
	}
	for _, link := range announcement.GetLinks() {
		view.Links = append(view.Links, &localv1.InboxLink{Title: link.GetTitle(), Url: link.GetUrl()})
	}
	return view, nil
}

func viewMailing(chapter string, row db.MailingsOfRow) *localv1.Mailing {
	return &localv1.Mailing{
		List: listName(chapter, row.ListID), State: localv1.Mailing_State(localv1.Mailing_State_value[row.State]),
		Posting: row.Posting, Automatic: row.Automatic, Note: row.Note,
		SendTime: timestamppb.New(row.DueTime), StartTime: timestampOf(row.StartTime), EndTime: timestampOf(row.EndTime),
		Counts: &localv1.MailCounts{
			Queued: row.Queued, Mailed: row.Sent, Bounced: row.Bounced, Failed: row.Failed, Uncertain: row.Uncertain,
			Unsubscribed: row.Unsubscribed,
		},
	}
}

func addCounts(sum, part *localv1.MailCounts) {
	sum.Queued += part.GetQueued()
	sum.Mailed += part.GetMailed()
	sum.Bounced += part.GetBounced()
	sum.Failed += part.GetFailed()
	sum.Uncertain += part.GetUncertain()
	sum.Unsubscribed += part.GetUnsubscribed()
}
