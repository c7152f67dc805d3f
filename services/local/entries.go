package local

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// manual is the source that edits through the API claim as.
const manual = "manual"

// The states of an entry as the database has them.
const (
	subscribed   = int16(localv1.Entry_SUBSCRIBED)
	pending      = int16(localv1.Entry_PENDING)
	unsubscribed = int16(localv1.Entry_UNSUBSCRIBED)
	bounced      = int16(localv1.Entry_BOUNCED)
)

// CreateEntry adds one address, claimed by the source `manual`.
func (s *Service) CreateEntry(ctx context.Context, req *localv1.CreateEntryRequest) (*localv1.Entry, error) {
	name, raw := address.ParseMailbox(req.GetEntry().GetAddress())
	if given := address.DisplayName(req.GetEntry().GetDisplayName()); given != "" {
		name = given
	}
	canonical, err := address.Canonical(raw)
	if err != nil {
		return nil, invalidAddress("entry.address", err)
	}
	if err := readable("consent.text", req.GetConsent().GetText()); err != nil {
		return nil, err
	}
	token, now := s.siteKey.Token(canonical), s.clock.Now()
	chapter, id := listIDs(req.GetParent())
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Entry, error) {
		row, err := db.New(tx).AddEntry(ctx, db.AddEntryParams{
			ChapterID: chapter, ID: id, Token: token[:], Address: canonical, DisplayName: name, Source: manual, Now: now,
		})
		if err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		list := db.List{
			ListNo: row.ListNo, ChapterID: chapter, ID: id, Epoch: row.Epoch, Version: row.Version, DoubleOptIn: row.DoubleOptIn,
		}
		if !row.Added {
			return nil, refuseEntry(ctx, tx, list, token[:])
		}
		entry := db.Entry{
			Token: token[:], Address: canonical, DisplayName: name, State: newState(list), Sources: []string{manual},
			Version: row.Version, CreateTime: now, UpdateTime: now,
		}
		if err := s.welcome(ctx, tx, list, entry, req.GetConsent(), now); err != nil {
			return nil, err
		}
		change := &eventv1.ListChanged{}
		move{to: entry.State, token: token[:]}.tell(change)
		return viewEntry(req.GetParent(), entry, nil), bus.Append(ctx, tx, listEvent(list, change))
	})
}

// welcome records what the person has agreed to and, on a list with double opt-in, asks for the person's own word.
func (s *Service) welcome(ctx context.Context, tx pgx.Tx, list db.List, entry db.Entry, given *localv1.Consent, now time.Time) error {
	if given != nil {
		at := now
		if given.GetTime() != nil {
			at = given.GetTime().AsTime()
		}
		if err := record(ctx, tx, list.ListNo, consent{granted, at, given.GetMethod(), given.GetText()}, entry.Token); err != nil {
			return err
		}
	}
	if entry.State != pending {
		return nil
	}
	return s.askToConfirm(ctx, tx, list.ListNo, entry.Token, now)
}

// newState is the state in which a list takes new entries.
func newState(list db.List) int16 {
	if list.DoubleOptIn {
		return pending
	}
	return subscribed
}

// invalidAddress does not repeat the address: errors are logged.
func invalidAddress(field string, err error) error {
	refusal, ok := errors.AsType[*address.Error](err)
	if !ok {
		return err
	}
	return rpc.Invalid(errorv1.Reason_REASON_ADDRESS_INVALID, field, "%s", refusal.Text).With("rule", refusal.Code)
}

// refuseEntry says why an address that is on the list already cannot be added.
func refuseEntry(ctx context.Context, tx pgx.Tx, list db.List, token []byte) error {
	name := entryName(listName(list.ChapterID, list.ID), token)
	entry, err := db.New(tx).Entry(ctx, db.EntryParams{ListNo: list.ListNo, Token: token})
	if err != nil {
		return err
	}
	if entry.State > pending {
		return suppressed(name, entry)
	}
	return alreadyExists(name)
}

func suppressed(name string, entry db.Entry) error {
	state := localv1.Entry_State(entry.State)
	return rpc.Precondition(errorv1.Reason_REASON_ENTRY_SUPPRESSED, "%s is %s; only the person can change that", name, state).
		With("state", state).With("resource", name)
}

// GetEntry reads one entry.
func (s *Service) GetEntry(ctx context.Context, req *localv1.GetEntryRequest) (*localv1.Entry, error) {
	q := db.New(s.pool)
	list, err := findList(ctx, q, req.GetName())
	if err != nil {
		return nil, err
	}
	entry, err := findEntry(ctx, q, list, req.GetName())
	if err != nil {
		return nil, err
	}
	seen, err := seenBySource(ctx, q, list.ListNo)
	if err != nil {
		return nil, err
	}
	return viewEntry(listOf(req.GetName()), entry, seen), nil
}

func findEntry(ctx context.Context, q *db.Queries, list db.List, name string) (db.Entry, error) {
	token, ok := entryToken(name)
	if !ok {
		return db.Entry{}, notFound(name)
	}
	entry, err := q.Entry(ctx, db.EntryParams{ListNo: list.ListNo, Token: token})
	return entry, orNotFound(err, name)
}

// ListEntries lists entries in all states, tombstones too, in the order of their ids.
func (s *Service) ListEntries(ctx context.Context, req *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	after, err := hex.DecodeString(page.after)
	if err != nil {
		return nil, fmt.Errorf("open a page token: %w", err) // sealed by us
	}
	q := db.New(s.pool)
	list, err := findList(ctx, q, req.GetParent()) // before the entries, so that who follows from its version misses none
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListEntriesResponse{Etag: entriesEtag(list)}
	rows, err := s.entriesOf(ctx, q, list, req, after, page.fetch())
	if err != nil {
		return nil, err
	}
	seen, err := seenBySource(ctx, q, list.ListNo)
	if err != nil {
		return nil, err
	}
	rows, answer.NextPageToken = cut(page, rows, func(e db.Entry) string { return hex.EncodeToString(e.Token) })
	for _, row := range rows {
		answer.Entries = append(answer.Entries, viewEntry(req.GetParent(), row, seen))
	}
	return answer, nil
}

// entriesOf reads a page of entries, or the one of an address.
func (s *Service) entriesOf(ctx context.Context, q *db.Queries, list db.List, req *localv1.ListEntriesRequest, after []byte, size int32) ([]db.Entry, error) {
	if req.GetAddress() == "" {
		return q.EntriesAfter(ctx, db.EntriesAfterParams{
			ListNo: list.ListNo, After: after, State: int16(req.GetState()), Source: req.GetSource(), Size: size,
		})
	}
	canonical, err := address.Canonical(req.GetAddress())
	if err != nil {
		return nil, invalidAddress("address", err)
	}
	token := s.siteKey.Token(canonical)
	entry, err := q.Entry(ctx, db.EntryParams{ListNo: list.ListNo, Token: token[:]})
	if err != nil || req.GetState() != 0 && int16(req.GetState()) != entry.State ||
		req.GetSource() != "" && !slices.Contains(entry.Sources, req.GetSource()) {
		return nil, ignoreNoRows(err)
	}
	return []db.Entry{entry}, nil
}

// entriesEtag is that of all entries of a list: it moves with what a sync has seen too.
func entriesEtag(list db.List) string {
	return etag(list.Epoch, list.Version) + "-" + strconv.FormatInt(max(0, list.SeenTime.UnixMicro()), 36)
}

// UpdateEntry changes the display name. A tombstone says since when it is one, and nobody is written to by its name.
func (s *Service) UpdateEntry(ctx context.Context, req *localv1.UpdateEntryRequest) (*localv1.Entry, error) {
	given := req.GetEntry()
	return onEntry(ctx, s, given.GetName(), given.GetEtag(), func(c entryChange) (*localv1.Entry, error) {
		if c.entry.State > pending {
			return nil, suppressed(given.GetName(), c.entry)
		}
		merged := viewEntry("", c.entry, nil)
		if err := rpc.Merge(merged, given, req.GetUpdateMask(), "entry", "display_name"); err != nil {
			return nil, err
		}
		name := address.DisplayName(merged.GetDisplayName())
		if name == c.entry.DisplayName {
			return c.view(ctx, c.entry)
		}
		after, err := db.New(c.tx).RenameEntry(ctx, db.RenameEntryParams{
			ListNo: c.list.ListNo, Token: c.entry.Token, DisplayName: name, Version: c.list.Version + 1, Now: c.now,
		})
		if err != nil {
			return nil, err
		}
		if err := c.move(ctx, after.State); err != nil {
			return nil, err
		}
		return c.view(ctx, after)
	})
}

// DeleteEntry removes an entry, whoever claims it. A tombstone stays.
func (s *Service) DeleteEntry(ctx context.Context, req *localv1.DeleteEntryRequest) (*emptypb.Empty, error) {
	return onEntry(ctx, s, req.GetName(), req.GetEtag(), func(c entryChange) (*emptypb.Empty, error) {
		if c.entry.State > pending {
			return nil, suppressed(req.GetName(), c.entry)
		}
		if err := db.New(c.tx).DeleteEntry(ctx, db.DeleteEntryParams{ListNo: c.list.ListNo, Token: c.entry.Token}); err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, c.move(ctx, 0)
	})
}

// UnsubscribeEntry records that the person has left. Who has left already leaves no further trace.
func (s *Service) UnsubscribeEntry(ctx context.Context, req *localv1.UnsubscribeEntryRequest) (*localv1.Entry, error) {
	return onEntry(ctx, s, req.GetName(), "", func(c entryChange) (*localv1.Entry, error) {
		after, err := c.leave(ctx, "admin:"+authz.FromContext(ctx).Subject, "")
		if err != nil {
			return nil, err
		}
		return c.view(ctx, after)
	})
}

// BounceEntry records that the address does not take mail. Who has left stays so.
func (s *Service) BounceEntry(ctx context.Context, req *localv1.BounceEntryRequest) (*localv1.Entry, error) {
	if err := readable("text", req.GetText()); err != nil {
		return nil, err
	}
	return onEntry(ctx, s, req.GetName(), "", func(c entryChange) (*localv1.Entry, error) {
		if c.entry.State == unsubscribed {
			return nil, suppressed(req.GetName(), c.entry)
		}
		after, err := c.bounce(ctx, "admin:"+authz.FromContext(ctx).Subject, req.GetText())
		if err != nil {
			return nil, err
		}
		return c.view(ctx, after)
	})
}

// entryChange is one entry under the lock of its list.
type entryChange struct {
	tx    pgx.Tx
	list  db.List
	entry db.Entry
	now   time.Time
}

// leave makes a tombstone of the entry, which says how the person left. Who has left already leaves no further trace.
func (c entryChange) leave(ctx context.Context, method, text string) (db.Entry, error) {
	return c.bury(ctx, unsubscribed, consent{withdrawn, c.now, method, text})
}

// bounce makes a tombstone of the entry, which says what the receiving server said.
func (c entryChange) bounce(ctx context.Context, method, text string) (db.Entry, error) {
	return c.bury(ctx, bounced, consent{hardBounce, c.now, method, text})
}

func (c entryChange) bury(ctx context.Context, state int16, why consent) (db.Entry, error) {
	if c.entry.State == state {
		return c.entry, nil
	}
	if _, err := bury(ctx, c.tx, c.list, state, why, c.entry.Token); err != nil {
		return c.entry, err
	}
	return db.New(c.tx).Entry(ctx, db.EntryParams{ListNo: c.list.ListNo, Token: c.entry.Token})
}

// bury makes tombstones, in one version of the list, and answers how many were none before.
func bury(ctx context.Context, tx pgx.Tx, list db.List, state int16, why consent, tokens ...[]byte) (int, error) {
	rows, err := db.New(tx).BuryEntries(ctx, db.BuryEntriesParams{
		ListNo: list.ListNo, Tokens: tokens, State: state, Version: list.Version + 1, Now: why.at,
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	moves := make([]move, 0, len(rows))
	buried := make([][]byte, 0, len(rows))
	for _, row := range rows {
		moves = append(moves, move{row.Was, state, row.Token})
		buried = append(buried, row.Token)
	}
	if err := record(ctx, tx, list.ListNo, why, buried...); err != nil {
		return 0, err
	}
	return len(rows), moveEntries(ctx, tx, list, why.at, moves...)
}

func (c entryChange) view(ctx context.Context, entry db.Entry) (*localv1.Entry, error) {
	seen, err := seenBySource(ctx, db.New(c.tx), c.list.ListNo)
	return viewEntry(c.listName(), entry, seen), err
}

func (c entryChange) listName() string { return listName(c.list.ChapterID, c.list.ID) }

// move records what state the entry is in now, 0 for gone.
func (c entryChange) move(ctx context.Context, state int16) error {
	return moveEntries(ctx, c.tx, c.list, c.now, move{c.entry.State, state, c.entry.Token})
}

// onEntry runs a change of one entry, under the lock of its list.
func onEntry[T proto.Message](ctx context.Context, s *Service, name, given string, change func(entryChange) (T, error)) (T, error) {
	return onList(ctx, s, name, func(tx pgx.Tx, list db.List, now time.Time) (T, error) {
		var none T
		entry, err := findEntry(ctx, db.New(tx), list, name)
		if err != nil {
			return none, err
		}
		if err := rpc.CheckEtags(ctx, given, entryEtag(entry)); err != nil {
			return none, err
		}
		return change(entryChange{tx: tx, list: list, entry: entry, now: now})
	})
}

// move is one entry that goes from one state to another; 0 is for not there.
type move struct {
	from, to int16
	token    []byte
}

// moveEntries takes the list to its next version, in which entries, at most a part of an event's, went to other states,
// and tells of it.
func moveEntries(ctx context.Context, tx pgx.Tx, list db.List, now time.Time, moves ...move) error {
	args := db.MoveListParams{ListNo: list.ListNo, Now: now}
	counters := map[int16]*int32{
		subscribed: &args.Subscribed, pending: &args.Pending, unsubscribed: &args.Unsubscribed, bounced: &args.Bounced, 0: new(int32),
	}
	change, tokens := &eventv1.ListChanged{}, make([][]byte, 0, len(moves))
	for _, m := range moves {
		*counters[m.from]--
		*counters[m.to]++
		m.tell(change)
		tokens = append(tokens, m.token)
	}
	q := db.New(tx)
	after, err := q.MoveList(ctx, args)
	if err != nil {
		return err
	}
	err = q.LogChanges(ctx, db.LogChangesParams{ListNo: after.ListNo, Epoch: after.Epoch, Version: after.Version, Tokens: tokens, Now: now})
	if err != nil {
		return fmt.Errorf("log the change: %w", err)
	}
	return bus.Append(ctx, tx, listEvent(after, change))
}

// tell says whether the token begins or ceases to count.
func (m move) tell(change *eventv1.ListChanged) {
	if m.to == subscribed && m.from != subscribed {
		change.Added = append(change.Added, m.token)
	}
	if m.from == subscribed && m.to != subscribed {
		change.Removed = append(change.Removed, m.token)
	}
}

// viewEntry shows an entry. seen says when each source last gave the whole list, nil where that does not matter.
func viewEntry(list string, e db.Entry, seen map[string]time.Time) *localv1.Entry {
	claims := viewClaims(e, seen)
	sources := make([]string, 0, len(claims))
	for _, claim := range claims {
		sources = append(sources, claim.GetSource())
	}
	return &localv1.Entry{
		Name:        entryName(list, e.Token),
		Address:     e.Address,
		DisplayName: e.DisplayName,
		State:       localv1.Entry_State(e.State),
		Sources:     sources,
		CreateTime:  timestamppb.New(e.CreateTime),
		UpdateTime:  timestamppb.New(e.UpdateTime),
		Etag:        entryEtag(e),
		Claims:      claims,
	}
}

// entryEtag holds the time too: a list made anew counts its versions from 1 again.
func entryEtag(e db.Entry) string { return etag(e.UpdateTime.UnixMicro(), e.Version) }
