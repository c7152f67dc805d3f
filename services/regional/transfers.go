package regional

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// The sides of a transfer are bits: who has both speaks for both.
const (
	giving    = regionalv1.Transfer_GIVING
	receiving = regionalv1.Transfer_RECEIVING
	both      = regionalv1.Transfer_BOTH
)

// sideOf says for which side of a transfer the caller speaks, and refuses who speaks for none.
func sideOf(ctx context.Context, from, to string) (side regionalv1.Transfer_Side, err error) {
	for region, as := range map[string]regionalv1.Transfer_Side{from: giving, to: receiving} {
		may, err := authz.Can(ctx, "chapters.transfer", regionName(region))
		if err != nil {
			return side, err
		}
		if may {
			side |= as
		}
	}
	if side == 0 {
		return side, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED,
			"this takes chapters.transfer on %s or on %s", regionName(from), regionName(to))
	}
	return side, nil
}

// moving is a transfer on its way through one transaction.
type moving struct {
	q    *db.Queries
	tx   pgx.Tx
	now  time.Time
	who  string
	side regionalv1.Transfer_Side
}

// move runs fn while the tree and the chapter stay where they are, which must be where the caller saw it.
func (s *Service) move(ctx context.Context, chapter, from string, side regionalv1.Transfer_Side,
	fn func(m *moving) (db.Transfer, error), via string,
) (*regionalv1.Transfer, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Transfer, error) {
		m := &moving{q: db.New(tx), tx: tx, who: authz.FromContext(ctx).Subject, side: side}
		if err := m.q.LockTreeShared(ctx, treeLock); err != nil {
			return nil, err
		}
		m.now = s.clock.Now()
		placed, err := m.q.PlacementForUpdate(ctx, chapter)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
		if placed.RegionID != from {
			return nil, rpc.Aborted(errorv1.Reason_REASON_PLACEMENT_MOVED, "%s has been moved meanwhile", chapterName(chapter))
		}
		transfer, err := fn(m)
		if err != nil {
			return nil, err
		}
		return viewTransfer(transfer, via), nil
	})
}

// AdoptChapter proposes a transfer, or carries out the one that the other side proposed.
func (s *Service) AdoptChapter(ctx context.Context, req *regionalv1.AdoptChapterRequest) (*regionalv1.Transfer, error) {
	chapter, to := chapterID(req.GetChapter()), regionID(req.GetRegion())
	placed, err := db.New(s.pool).Placement(ctx, chapter)
	if err != nil {
		return nil, orNotFound(err, req.GetChapter())
	}
	side, err := sideOf(ctx, placed.RegionID, to)
	if err != nil {
		return nil, err
	}
	return s.move(ctx, chapter, placed.RegionID, side, func(m *moving) (db.Transfer, error) {
		if _, err := findRegion(ctx, m.q, req.GetRegion()); err != nil {
			return db.Transfer{}, err
		}
		if placed.RegionID == to {
			return db.Transfer{}, rpc.Precondition(errorv1.Reason_REASON_CHAPTER_PLACED_THERE, "%s lies in %s already", req.GetChapter(), req.GetRegion())
		}
		pending, err := m.q.ProposedTransfer(ctx, chapter)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return m.propose(ctx, chapter, placed.RegionID, to, req.GetNote())
		case err != nil:
			return pending, err
		case pending.ToRegion != to:
			return pending, rpc.Precondition(errorv1.Reason_REASON_TRANSFER_PENDING, "%s is proposed to %s; that has to be declined first",
				req.GetChapter(), regionName(pending.ToRegion)).With("transfer", viewTransfer(pending, pending.ToRegion).GetName())
		case !m.completes(pending):
			return pending, nil
		}
		return m.complete(ctx, pending, req.GetNote())
	}, to)
}

func (m *moving) completes(t db.Transfer) bool {
	return m.side|regionalv1.Transfer_Side(t.ProposedBy) == both
}

// propose records the first consent; who speaks for both sides has given the second too.
func (m *moving) propose(ctx context.Context, chapter, from, to, note string) (db.Transfer, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return db.Transfer{}, err
	}
	proposed, err := m.q.InsertTransfer(ctx, db.InsertTransferParams{
		ID: id, ChapterID: chapter, FromRegion: from, ToRegion: to, State: int16(regionalv1.Transfer_PROPOSED),
		ProposedBy: int16(m.side), Proposer: m.who, Note: note, CreateTime: m.now,
	})
	if err != nil || m.side != both {
		return proposed, err
	}
	return m.complete(ctx, proposed, "")
}

func (m *moving) complete(ctx context.Context, t db.Transfer, note string) (db.Transfer, error) {
	decided, err := m.decide(ctx, t, regionalv1.Transfer_COMPLETED, note)
	if err != nil {
		return decided, err
	}
	to, err := m.q.Region(ctx, t.ToRegion)
	if err != nil {
		return decided, err
	}
	at := m.now
	if to.EffectiveTime.After(at) {
		at = to.EffectiveTime // another replica's clock is ahead
	}
	events, err := place(ctx, m.q, t.ToRegion, at, t.ChapterID)
	if err != nil {
		return decided, err
	}
	return decided, bus.Append(ctx, m.tx, events...)
}

func (m *moving) decide(ctx context.Context, t db.Transfer, state regionalv1.Transfer_State, note string) (db.Transfer, error) {
	decided, err := m.q.DecideTransfer(ctx, db.DecideTransferParams{
		ID: t.ID, State: int16(state), Decider: m.who, DecisionNote: note, Now: m.now,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return t, rpc.Aborted(errorv1.Reason_REASON_TRANSFER_STATE, "the transfer was decided meanwhile")
	}
	return decided, err
}

// AcceptTransfer gives the consent that is missing.
func (s *Service) AcceptTransfer(ctx context.Context, req *regionalv1.AcceptTransferRequest) (*regionalv1.Transfer, error) {
	return s.decideTransfer(ctx, req.GetName(), func(m *moving, t db.Transfer) (db.Transfer, error) {
		if !m.completes(t) {
			return t, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "the other side has to consent")
		}
		return m.complete(ctx, t, req.GetNote())
	})
}

// DeclineTransfer ends a proposal.
func (s *Service) DeclineTransfer(ctx context.Context, req *regionalv1.DeclineTransferRequest) (*regionalv1.Transfer, error) {
	return s.decideTransfer(ctx, req.GetName(), func(m *moving, t db.Transfer) (db.Transfer, error) {
		state := regionalv1.Transfer_DECLINED
		if m.side == regionalv1.Transfer_Side(t.ProposedBy) {
			state = regionalv1.Transfer_WITHDRAWN
		}
		return m.decide(ctx, t, state, req.GetNote())
	})
}

func (s *Service) decideTransfer(ctx context.Context, name string, fn func(*moving, db.Transfer) (db.Transfer, error)) (*regionalv1.Transfer, error) {
	t, via, err := s.transfer(ctx, name)
	if err != nil {
		return nil, err
	}
	side, err := sideOf(ctx, t.FromRegion, t.ToRegion)
	if err != nil {
		return nil, err
	}
	if state := regionalv1.Transfer_State(t.State); state != regionalv1.Transfer_PROPOSED {
		return nil, rpc.Precondition(errorv1.Reason_REASON_TRANSFER_STATE, "the transfer is %s", state).With("state", state)
	}
	return s.move(ctx, t.ChapterID, t.FromRegion, side, func(m *moving) (db.Transfer, error) { return fn(m, t) }, via)
}

// transfer reads one under either of its regions, and says under which.
func (s *Service) transfer(ctx context.Context, name string) (t db.Transfer, via string, err error) {
	parent, text, _ := strings.Cut(name, "/transfers/")
	id, err := uuid.Parse(text)
	if err != nil {
		return t, "", notFound(name)
	}
	via = regionID(parent)
	t, err = db.New(s.pool).Transfer(ctx, db.TransferParams{ID: id, Region: via})
	return t, via, orNotFound(err, name)
}

// GetTransfer reads a transfer.
func (s *Service) GetTransfer(ctx context.Context, req *regionalv1.GetTransferRequest) (*regionalv1.Transfer, error) {
	t, via, err := s.transfer(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return viewTransfer(t, via), nil
}

// ListTransfers lists a region's transfers, latest first.
func (s *Service) ListTransfers(ctx context.Context, req *regionalv1.ListTransfersRequest) (*regionalv1.ListTransfersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.TransfersOfParams{Region: regionID(req.GetParent()), State: int16(req.GetState()), Size: page.fetch()}
	if page.after != "" {
		before, err := uuid.Parse(page.after)
		if err != nil {
			return nil, err
		}
		args.Before = &before
	}
	q := db.New(s.pool)
	if _, err := q.AnyRegion(ctx, args.Region); err != nil {
		return nil, orNotFound(err, req.GetParent())
	}
	rows, err := q.TransfersOf(ctx, args)
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListTransfersResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(t db.Transfer) string { return t.ID.String() })
	for _, row := range rows {
		answer.Transfers = append(answer.Transfers, viewTransfer(row, args.Region))
	}
	return answer, nil
}

// viewTransfer names the transfer under the region that it was asked for by.
func viewTransfer(t db.Transfer, via string) *regionalv1.Transfer {
	return &regionalv1.Transfer{
		Name:         regionName(via) + "/transfers/" + t.ID.String(),
		Chapter:      chapterName(t.ChapterID),
		FromRegion:   regionName(t.FromRegion),
		ToRegion:     regionName(t.ToRegion),
		State:        regionalv1.Transfer_State(t.State),
		ProposedBy:   regionalv1.Transfer_Side(t.ProposedBy),
		Proposer:     t.Proposer,
		Decider:      t.Decider,
		Note:         t.Note,
		DecisionNote: t.DecisionNote,
		CreateTime:   timestamppb.New(t.CreateTime),
		DecideTime:   timestamp(t.DecideTime),
	}
}
