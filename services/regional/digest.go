package regional

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// digestCases is how many cases a digest shows with all that they say, and digestItems how many items of each kind.
	digestCases = 20
	digestItems = 50
	// maxSnooze is how long an item can be out of sight; a longer one is a decision that nobody hears of.
	maxSnooze = 90 * 24 * time.Hour
)

// digestKinds are all kinds, in their order.
var digestKinds = []regionalv1.DigestItem_Kind{
	regionalv1.DigestItem_RELAY_WAITING, regionalv1.DigestItem_RELAY_HELD, regionalv1.DigestItem_CONCERN_UNANSWERED,
	regionalv1.DigestItem_CHARTER_AT_RISK, regionalv1.DigestItem_CHARTER_SUSPENDED, regionalv1.DigestItem_CHAPTER_SILENT,
}

// GetRegionDigest reads what waits in a region.
func (s *Service) GetRegionDigest(ctx context.Context, req *regionalv1.GetRegionDigestRequest) (*regionalv1.RegionDigest, error) {
	reader := s.digestOf(req.GetName(), authz.FromContext(ctx).Subject)
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.RegionDigest, error) {
		concerns, err := reader.concerns(ctx, q, req.GetIncludeSnoozed())
		if err != nil {
			return nil, orNotFound(err, req.GetName())
		}
		parts, err := reader.parts(ctx, q)
		if err != nil {
			return nil, err
		}
		if !req.GetIncludeSnoozed() {
			for _, part := range parts {
				part.Items = awake(part.Items)
			}
		}
		return &regionalv1.RegionDigest{Name: req.GetName(), ReadTime: timestamppb.New(reader.now), Concerns: concerns, Parts: parts}, nil
	})
}

// digestReader reads a region's digest as one person sees it.
type digestReader struct {
	region, subject string
	now             time.Time
	silentBefore    time.Time
}

func (s *Service) digestOf(region, subject string) digestReader {
	now := s.clock.Now()
	return digestReader{region: regionID(region), subject: subject, now: now, silentBefore: now.Add(-s.config.SilentAfter)}
}

func (r digestReader) args() db.DigestItemsParams {
	return db.DigestItemsParams{RegionID: r.region, Subject: r.subject, Now: r.now, SilentBefore: r.silentBefore, Size: digestItems}
}

// concerns is the digest's part about concerns; pgx.ErrNoRows when there is no such region.
func (r digestReader) concerns(ctx context.Context, q *db.Queries, snoozed bool) (*regionalv1.ConcernDigest, error) {
	counts, err := q.ConcernDigest(ctx, r.region)
	if err != nil {
		return nil, err
	}
	rows, err := q.FirstDueCases(ctx, db.FirstDueCasesParams{
		RegionID: r.region, Subject: r.subject, Snoozed: snoozed, Now: r.now, Size: digestCases,
	})
	if err != nil {
		return nil, err
	}
	cases, err := viewCases(ctx, q, rows)
	return &regionalv1.ConcernDigest{
		UnansweredCount: counts.Unanswered, OverdueCount: counts.Overdue, OverdueBelowCount: counts.OverdueBelow, FirstDue: cases,
	}, err
}

// parts reads all kinds. What is snoozed comes last in each.
func (r digestReader) parts(ctx context.Context, q *db.Queries) ([]*regionalv1.DigestPart, error) {
	rows, err := q.DigestItems(ctx, r.args())
	if err != nil {
		return nil, fmt.Errorf("read the digest of %s: %w", r.region, err)
	}
	parts := make([]*regionalv1.DigestPart, 0, len(digestKinds))
	byKind := map[regionalv1.DigestItem_Kind]*regionalv1.DigestPart{}
	for _, kind := range digestKinds {
		part := &regionalv1.DigestPart{Kind: kind}
		parts, byKind[kind] = append(parts, part), part
	}
	for _, row := range rows {
		part := byKind[regionalv1.DigestItem_Kind(row.Kind)]
		part.Count, part.SnoozedCount = row.KindCount, row.SnoozedCount
		item, err := r.view(row)
		if err != nil {
			return nil, err
		}
		part.Items = append(part.Items, item)
	}
	return parts, nil
}

// awake leaves out what is snoozed.
func awake(items []*regionalv1.DigestItem) []*regionalv1.DigestItem {
	kept := []*regionalv1.DigestItem{}
	for _, item := range items {
		if item.GetSnoozedUntilTime() == nil {
			kept = append(kept, item)
		}
	}
	return kept
}

func (r digestReader) view(row db.DigestItemsRow) (*regionalv1.DigestItem, error) {
	item := &regionalv1.DigestItem{
		Name:             regionName(r.region) + "/digestItems/" + row.Item,
		Kind:             regionalv1.DigestItem_Kind(row.Kind),
		Region:           regionName(row.RegionID),
		Title:            row.Title,
		SinceTime:        unlessEpoch(row.SinceTime),
		DeadlineTime:     unlessEpoch(row.DeadlineTime),
		HoldUntilTime:    unlessEpoch(row.HoldUntilTime),
		Pressing:         row.Pressing,
		SnoozedUntilTime: optionalTime(row.UntilTime),
	}
	switch item.Kind {
	case regionalv1.DigestItem_RELAY_WAITING, regionalv1.DigestItem_RELAY_HELD:
		said := &eventv1.AnnouncementChanged{}
		if err := proto.Unmarshal(row.Content, said); err != nil {
			return nil, fmt.Errorf("read announcement %s: %w", row.ID, err)
		}
		item.Title, item.Resource = said.GetSubject(), item.Region+"/relays/"+row.ID
	case regionalv1.DigestItem_CONCERN_UNANSWERED:
		item.Resource = item.Region + "/concerns/" + row.ID
	case regionalv1.DigestItem_CHARTER_AT_RISK, regionalv1.DigestItem_CHARTER_SUSPENDED:
		item.Resource = "charters/" + row.ID
	default:
		item.Resource = chapterName(row.ID)
	}
	if item.Title == "" { // of a chapter that is not in the directory yet
		item.Title = row.ID
	}
	item.Remedy = remedyOf(item)
	return item, nil
}

// unlessEpoch is nil for what the database has as no time.
func unlessEpoch(at time.Time) *timestamppb.Timestamp {
	if at.Unix() == 0 {
		return nil
	}
	return timestamppb.New(at)
}

// remedyOf says what can be done about an item.
func remedyOf(item *regionalv1.DigestItem) string {
	switch item.GetKind() {
	case regionalv1.DigestItem_RELAY_WAITING:
		if item.GetPressing() {
			return "Its deadline is near: forward, hold or decline it now, or it forwards itself to everybody."
		}
		return "Forward it, hold it until a date, or decline it with a reason; at its deadline it forwards itself."
	case regionalv1.DigestItem_RELAY_HELD:
		return "Forward or decline it; when the hold ends, it waits again, or forwards itself if its deadline has passed."
	case regionalv1.DigestItem_CONCERN_UNANSWERED:
		if item.GetPressing() {
			return "It is beyond its time: answer it, merge it with a similar one, or escalate it."
		}
		return "Answer it, merge it with a similar one, or escalate it with a summary."
	case regionalv1.DigestItem_CHARTER_AT_RISK:
		return "Talk to the chapter's officers: its standing says how many more of its people have to be international members."
	case regionalv1.DigestItem_CHARTER_SUSPENDED:
		return "Talk to the chapter's officers and to international staff, who alone can reinstate the charter."
	case regionalv1.DigestItem_CHAPTER_SILENT:
		return "Ask the chapter whether it is still there, and whether its site works."
	default:
		return ""
	}
}

// SnoozeDigestItem leaves an item out of the caller's digests until a time.
func (s *Service) SnoozeDigestItem(ctx context.Context, req *regionalv1.SnoozeDigestItemRequest) (*regionalv1.DigestItem, error) {
	return s.onDigestItem(ctx, req.GetName(), func(q *db.Queries, r digestReader, item string) error {
		until, latest := req.GetUntilTime().AsTime(), r.now.Add(maxSnooze)
		if !until.After(r.now) || until.After(latest) {
			return rpc.Invalid(errorv1.Reason_REASON_SNOOZE_TIME_INVALID, "untilTime", "must lie in the future, and not after %s", latest.Format(time.RFC3339)).
				With("latest", latest.Format(time.RFC3339))
		}
		if err := q.ForgetSnoozes(ctx, db.ForgetSnoozesParams{Subject: r.subject, Now: r.now}); err != nil {
			return err
		}
		return q.PutSnooze(ctx, db.PutSnoozeParams{Subject: r.subject, RegionID: r.region, Item: item, UntilTime: until})
	})
}

// UnsnoozeDigestItem brings an item back.
func (s *Service) UnsnoozeDigestItem(ctx context.Context, req *regionalv1.UnsnoozeDigestItemRequest) (*regionalv1.DigestItem, error) {
	return s.onDigestItem(ctx, req.GetName(), func(q *db.Queries, r digestReader, item string) error {
		return q.DeleteSnooze(ctx, db.DeleteSnoozeParams{Subject: r.subject, RegionID: r.region, Item: item})
	})
}

// onDigestItem changes how the caller sees an item that waits, and shows it.
func (s *Service) onDigestItem(ctx context.Context, name string, change func(*db.Queries, digestReader, string) error) (*regionalv1.DigestItem, error) {
	region, item, _ := strings.Cut(name, "/digestItems/")
	reader := s.digestOf(region, authz.FromContext(ctx).Subject)
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.DigestItem, error) {
		q := db.New(tx)
		if err := change(q, reader, item); err != nil {
			return nil, err
		}
		args := reader.args()
		args.Wanted = item
		rows, err := q.DigestItems(ctx, args)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, rpc.NotFound(errorv1.Reason_REASON_DIGEST_ITEM_UNKNOWN, "nothing waits in %s under the name %s now; read the digest again", region, item)
		}
		return reader.view(rows[0])
	})
}
