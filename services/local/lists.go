package local

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// CreateList makes a mailing list, or makes a deleted one anew: empty, but with the tombstones that it had.
func (s *Service) CreateList(ctx context.Context, req *localv1.CreateListRequest) (*localv1.List, error) {
	if err := printable("list.displayName", req.GetList().GetDisplayName()); err != nil {
		return nil, err
	}
	if err := readable("list.consentText", req.GetList().GetConsentText()); err != nil {
		return nil, err
	}
	if err := mailable(req.GetList()); err != nil {
		return nil, err
	}
	chapter := chapterID(req.GetParent())
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.List, error) {
		q := db.New(tx)
		if _, err := q.Chapter(ctx, chapter); err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		now := s.clock.Now()
		args := newList(chapter, req, now)
		list, err := q.InsertList(ctx, args)
		if errors.Is(err, pgx.ErrNoRows) {
			list, err = q.ReviveList(ctx, db.ReviveListParams{
				ChapterID: args.ChapterID, ID: args.ID, DisplayName: args.DisplayName, DoubleOptIn: args.DoubleOptIn,
				ConsentText: args.ConsentText, GuardPercent: args.GuardPercent, GuardEntries: args.GuardEntries,
				AnnouncementMode: args.AnnouncementMode, FromName: args.FromName, ReplyTo: args.ReplyTo, PostingAddress: args.PostingAddress,
				Epoch: args.Epoch, Now: args.Now,
			})
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, alreadyExists(listName(chapter, args.ID))
		}
		if err != nil {
			return nil, err
		}
		return viewList(list), bus.Append(ctx, tx, listChanged(list))
	})
}

func newList(chapter string, req *localv1.CreateListRequest, now time.Time) db.InsertListParams {
	given := req.GetList()
	args := db.InsertListParams{
		ChapterID: chapter, ID: req.GetListId(), DisplayName: given.GetDisplayName(),
		DoubleOptIn: given.GetDoubleOptIn(), ConsentText: given.GetConsentText(),
		AnnouncementMode: announcementMode(given), FromName: given.GetFromName(), ReplyTo: given.GetReplyTo(), PostingAddress: given.GetPostingAddress(),
		Epoch: now.UnixMicro(), Now: now,
	}
	args.GuardPercent, args.GuardEntries = guardOf(given)
	return args
}

func guardOf(list *localv1.List) (percent int16, entries int32) {
	if guard := list.GetRemovalGuard(); guard != nil {
		return int16(guard.GetPercent()), guard.GetEntries()
	}
	return guardPercent, guardEntries
}

func announcementMode(list *localv1.List) int16 {
	return int16(cmp.Or(list.GetAnnouncementMode(), localv1.List_ASK))
}

// mailable refuses what could not stand in the head of a mail. The posting address is kept as addresses are compared; no
// error repeats an address.
func mailable(list *localv1.List) error {
	if err := printable("list.fromName", list.GetFromName()); err != nil {
		return err
	}
	for field, value := range map[string]*string{"list.replyTo": &list.ReplyTo, "list.postingAddress": &list.PostingAddress} {
		if *value == "" {
			continue
		}
		canonical, err := address.Canonical(*value)
		if err != nil {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, field, "is no e-mail address")
		}
		*value = canonical
	}
	return nil
}

// The removal guard of a list that says nothing.
const (
	guardPercent = 20
	guardEntries = 5
)

// GetList reads a list with its counts.
func (s *Service) GetList(ctx context.Context, req *localv1.GetListRequest) (*localv1.List, error) {
	list, err := findList(ctx, db.New(s.pool), req.GetName())
	if err != nil {
		return nil, err
	}
	return viewList(list), nil
}

// findList reads the list that a name, or what lies below it, belongs to.
func findList(ctx context.Context, q *db.Queries, name string) (db.List, error) {
	chapter, id := listIDs(name)
	list, err := q.List(ctx, db.ListParams{ChapterID: chapter, ID: id})
	return list, orNotFound(err, listName(chapter, id))
}

// ListLists lists a chapter's lists by id.
func (s *Service) ListLists(ctx context.Context, req *localv1.ListListsRequest) (*localv1.ListListsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	if _, err := q.Chapter(ctx, chapterID(req.GetParent())); err != nil {
		return nil, orNotFound(err, req.GetParent())
	}
	rows, err := q.ListsAfter(ctx, db.ListsAfterParams{ChapterID: chapterID(req.GetParent()), After: page.after, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListListsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(l db.List) string { return l.ID })
	for _, row := range rows {
		answer.Lists = append(answer.Lists, viewList(row))
	}
	return answer, nil
}

// UpdateList changes the settings of a list, for entries and syncs that are made from then on.
func (s *Service) UpdateList(ctx context.Context, req *localv1.UpdateListRequest) (*localv1.List, error) {
	given := req.GetList()
	return onList(ctx, s, given.GetName(), func(tx pgx.Tx, before db.List, now time.Time) (*localv1.List, error) {
		if err := rpc.CheckEtags(ctx, given.GetEtag(), etag(before.Epoch, before.Version)); err != nil {
			return nil, err
		}
		merged := viewList(before)
		if err := rpc.Merge(merged, given, req.GetUpdateMask(), "list", "display_name", "double_opt_in", "consent_text", "removal_guard",
			"announcement_mode", "from_name", "reply_to", "posting_address"); err != nil {
			return nil, err
		}
		if err := printable("list.displayName", merged.GetDisplayName()); err != nil {
			return nil, err
		}
		if err := readable("list.consentText", merged.GetConsentText()); err != nil {
			return nil, err
		}
		if err := mailable(merged); err != nil {
			return nil, err
		}
		if proto.Equal(merged, viewList(before)) {
			return merged, nil
		}
		args := db.UpdateListParams{
			ListNo: before.ListNo, DisplayName: merged.GetDisplayName(), DoubleOptIn: merged.GetDoubleOptIn(),
			ConsentText: merged.GetConsentText(), AnnouncementMode: announcementMode(merged), FromName: merged.GetFromName(),
			ReplyTo: merged.GetReplyTo(), PostingAddress: merged.GetPostingAddress(), Now: now,
		}
		args.GuardPercent, args.GuardEntries = guardOf(merged)
		after, err := db.New(tx).UpdateList(ctx, args)
		if err != nil {
			return nil, err
		}
		return viewList(after), bus.Append(ctx, tx, listChanged(after))
	})
}

// DeleteList deletes a mailing list with its entries. The tombstones stay.
func (s *Service) DeleteList(ctx context.Context, req *localv1.DeleteListRequest) (*emptypb.Empty, error) {
	if _, id := listIDs(req.GetName()); id == membersID {
		return nil, rpc.Precondition(errorv1.Reason_REASON_LIST_PERMANENT, "%s always exists", req.GetName())
	}
	return onList(ctx, s, req.GetName(), func(tx pgx.Tx, before db.List, now time.Time) (*emptypb.Empty, error) {
		if err := rpc.CheckEtags(ctx, req.GetEtag(), etag(before.Epoch, before.Version)); err != nil {
			return nil, err
		}
		q := db.New(tx)
		if err := q.DeleteLiveEntries(ctx, before.ListNo); err != nil {
			return nil, err
		}
		if err := q.DeleteConnectorsOf(ctx, before.ListNo); err != nil {
			return nil, err
		}
		after, err := q.DeleteList(ctx, db.DeleteListParams{ListNo: before.ListNo, Now: now})
		if err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, bus.Append(ctx, tx, listChanged(after))
	})
}

// onList runs a change of the list that a name belongs to, whose row it locks first.
func onList[T proto.Message](ctx context.Context, s *Service, name string, change func(tx pgx.Tx, list db.List, now time.Time) (T, error)) (T, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (T, error) {
		var none T
		chapter, id := listIDs(name)
		list, err := db.New(tx).ListForUpdate(ctx, db.ListForUpdateParams{ChapterID: chapter, ID: id})
		if err != nil {
			return none, orNotFound(err, listName(chapter, id))
		}
		return change(tx, list, s.clock.Now())
	})
}

func viewList(l db.List) *localv1.List {
	return &localv1.List{
		Name:              listName(l.ChapterID, l.ID),
		DisplayName:       l.DisplayName,
		Kind:              listKind(l),
		DoubleOptIn:       l.DoubleOptIn,
		SubscribedCount:   l.Subscribed,
		PendingCount:      l.Pending,
		UnsubscribedCount: l.Unsubscribed,
		BouncedCount:      l.Bounced,
		CreateTime:        timestamppb.New(l.CreateTime),
		UpdateTime:        timestamppb.New(l.UpdateTime),
		Etag:              etag(l.Epoch, l.Version),
		ConsentText:       l.ConsentText,
		RemovalGuard:      &localv1.RemovalGuard{Percent: int32(l.GuardPercent), Entries: l.GuardEntries},
		AnnouncementMode:  localv1.List_AnnouncementMode(l.AnnouncementMode),
		FromName:          l.FromName,
		ReplyTo:           l.ReplyTo,
		PostingAddress:    l.PostingAddress,
	}
}

func listKind(l db.List) localv1.List_Kind {
	if l.ID == membersID {
		return localv1.List_MEMBERSHIP
	}
	return localv1.List_MAILING
}
