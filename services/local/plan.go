package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// CreateSync uploads a source and plans; with apply also applies.
func (s *Service) CreateSync(stream grpc.ClientStreamingServer[localv1.CreateSyncRequest, localv1.Sync]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header", "must be the first message")
	}
	sync, err := s.createSync(stream.Context(), header, func() ([]byte, error) {
		message, err := stream.Recv()
		if err == nil && message.GetHeader() != nil {
			err = rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header", "must come once")
		}
		return message.GetChunk(), err
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(sync)
}

func (s *Service) createSync(ctx context.Context, header *localv1.CreateSyncHeader, recv func() ([]byte, error)) (*localv1.Sync, error) {
	if header.GetSource() == self {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header.source", "%s is kept for people's own word; call the source otherwise", self)
	}
	key, err := requestID(ctx, header)
	if err != nil {
		return nil, err
	}
	release, err := s.running.begin(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { release() }()
	if _, err := findList(ctx, db.New(s.pool), header.GetParent()); err != nil {
		return nil, err
	}
	source, err := s.stage(ctx, header, recv)
	if err != nil {
		return nil, err
	}
	ctx = rpc.WithIdempotency(ctx, key, contentHash(header, source.sum))
	answer := &localv1.Sync{}
	if found, err := rpc.Answered(ctx, s.pool, answer); found || err != nil {
		s.dropRows(ctx, source.syncNo)
		return answer, err
	}
	if header.GetRespondAsync() {
		done := release
		release = func() {} // the plan may outlive the call
		return s.planAside(ctx, header, source, done)
	}
	return s.work(ctx, header, source)
}

// work makes a plan of what is staged and, when asked to, applies it.
func (s *Service) work(ctx context.Context, header *localv1.CreateSyncHeader, source staged) (*localv1.Sync, error) {
	sync, err := s.plan(ctx, header, source)
	if err != nil {
		s.dropRows(ctx, source.syncNo)
		return nil, err
	}
	return s.conclude(ctx, header, sync, s.preview(ctx, header.GetParent(), sync))
}

// conclude stores what the plan would do to the standing and, when asked to, applies the plan.
func (s *Service) conclude(ctx context.Context, header *localv1.CreateSyncHeader, sync db.Sync, standing db.SetStandingParams) (*localv1.Sync, error) {
	name := syncName(header.GetParent(), sync.ID)
	if header.GetApply() {
		if refusal := refuseUnconfirmed(sync, name, header.ConfirmRemovals); refusal != nil {
			_, err := db.New(s.pool).SetStanding(ctx, standing) // the plan stays, for a second call
			return nil, errors.Join(err, refusal)
		}
	}
	answer, err := inTx(ctx, s, func(tx pgx.Tx) (*localv1.Sync, error) {
		now := s.clock.Now()
		sync, err := db.New(tx).SetStanding(ctx, standing)
		if err == nil && header.GetApply() {
			sync, err = apply(ctx, tx, sync, name, now)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, errUploadLost // with the plan, which nobody had been told of: the database crashed
		}
		if err != nil {
			return nil, err
		}
		return s.viewSync(header.GetParent(), sync, now), nil
	})
	if err == nil && answer.GetName() != name ||
		rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE) || rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED) {
		// Another replica answered this request meanwhile, or does so now: nobody will ask for this plan.
		err = errors.Join(err, db.New(s.pool).DeleteSync(ctx, sync.SyncNo))
	}
	return answer, err
}

// plan compares the staged rows with the list, as of one moment, and stores what is to be done. It writes nothing that
// others wait for.
func (s *Service) plan(ctx context.Context, header *localv1.CreateSyncHeader, source staged) (db.Sync, error) {
	id, err := newSyncID()
	if err != nil {
		return db.Sync{}, err
	}
	format, err := proto.Marshal(source.format)
	if err != nil {
		return db.Sync{}, fmt.Errorf("store the source's format: %w", err)
	}
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead}
	return postgres.InTxOptions(ctx, s.pool, snapshot, func(tx pgx.Tx) (db.Sync, error) {
		q := db.New(tx)
		if err := q.PrepareToPlan(ctx); err != nil {
			return db.Sync{}, err
		}
		list, err := findList(ctx, q, header.GetParent())
		if err != nil {
			return db.Sync{}, err
		}
		source, err := setRepeatedApart(ctx, q, source)
		if err != nil {
			return db.Sync{}, fmt.Errorf("look for repeated rows: %w", err)
		}
		fates, err := compare(ctx, q, header, list, source)
		if err != nil {
			return db.Sync{}, fmt.Errorf("compare with %s: %w", header.GetParent(), err)
		}
		// An unlogged table is empty after a crash of the database: a list must not be compared with what is left.
		if pages, err := q.DeleteSyncRows(ctx, source.syncNo); err != nil || pages != int64(source.pages) {
			return db.Sync{}, errors.Join(err, errUploadLost)
		}
		now := s.clock.Now()
		sync := fates.sync(source, list)
		sync.SyncNo, sync.ID, sync.Format = source.syncNo, id, format
		sync.ListNo, sync.ListEpoch, sync.ListVersion = list.ListNo, list.Epoch, list.Version
		sync.Mode, sync.Source, sync.AddedState = header.GetMode().String(), header.GetSource(), newState(list)
		sync.CreateTime, sync.ExpireTime = now, now.Add(s.config.PlanLifetime)
		verdict := sync.State
		if header.GetRespondAsync() {
			sync.State = planning // who looks meanwhile is not to take a plan for the end
		}
		stored, err := q.InsertSync(ctx, sync)
		stored.State = verdict
		return stored, err
	})
}

// setRepeatedApart takes the rows out that repeat others, where they were too many to be known while they arrived.
func setRepeatedApart(ctx context.Context, q *db.Queries, source staged) (staged, error) {
	if !source.crowded {
		return source, nil
	}
	addresses, err := q.CountRepeated(ctx, source.syncNo)
	if err != nil || addresses == 0 {
		return source, err
	}
	repeated, err := q.StoreRepeated(ctx, source.syncNo)
	source.valid -= int(repeated)
	source.duplicate += int(repeated)
	return source, err
}

var errUploadLost = rpc.Unavailable(errorv1.Reason_REASON_UPLOAD_INTERRUPTED, "the upload was lost; send it again")

// compare stores the fate of every row and entry that does not simply stay as it is, and counts them.
func compare(ctx context.Context, q *db.Queries, header *localv1.CreateSyncHeader, list db.List, source staged) (fates, error) {
	args := db.PlanReplaceParams{
		SyncNo: source.syncNo, ListNo: list.ListNo, Source: header.GetSource(), AddedState: newState(list),
		Pages: max(list.Subscribed+list.Pending, int32(source.valid))/rowsPerPage + 1,
	}
	counted := fates{}
	var rows []db.PlanReplaceRow
	var err error
	if header.GetMode() == localv1.Sync_REPLACE {
		rows, err = q.PlanReplace(ctx, args)
	} else {
		rows, err = planMerge(ctx, q, args)
	}
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		counted[fate{row.Kind, row.State}] += row.Size
	}
	if source.rejected+source.duplicate == 0 {
		return counted, nil
	}
	return counted, q.PlanJudged(ctx, source.syncNo)
}

func planMerge(ctx context.Context, q *db.Queries, args db.PlanReplaceParams) ([]db.PlanReplaceRow, error) {
	rows, err := q.PlanMerge(ctx, db.PlanMergeParams(args))
	same := make([]db.PlanReplaceRow, 0, len(rows))
	for _, row := range rows {
		same = append(same, db.PlanReplaceRow(row))
	}
	return same, err
}

// fate is what becomes of entries in one state.
type fate struct{ kind, state int16 }

// fates counts the entries of each fate.
type fates map[fate]int32

func (f fates) of(kind int16) (n int32) {
	for one, count := range f {
		if one.kind == kind {
			n += count
		}
	}
	return n
}

// sync is the plan's counts, and whether the list's guard lets it pass.
func (f fates) sync(source staged, list db.List) db.InsertSyncParams {
	valid := int32(source.valid)
	p := db.InsertSyncParams{
		State:          planned,
		Added:          f.of(kindAdd),
		AddedPending:   f[fate{kindAdd, pending}],
		Updated:        f.of(kindUpdate) + f.of(kindUpdateClaim),
		Removed:        f.of(kindRemove),
		RemovedPending: f[fate{kindRemove, pending}],
		Suppressed:     f.of(kindSuppressed),
		Rejected:       int32(source.rejected),
		Duplicate:      int32(source.duplicate),
		Kept:           f.of(kindKept),
		Claimed:        f.of(kindClaim),
	}
	known := valid - p.Added - p.Suppressed // rows that met an entry
	p.Unchanged = known - p.Updated
	claimed := known - p.Claimed - f.of(kindUpdateClaim) + p.Removed + p.Kept
	if guarded(list, p.Removed, claimed) {
		p.State = blocked
	}
	return p
}

// guarded says whether so many removals are too many without a person's word, of the SUBSCRIBED and PENDING entries
// that the source claims: an export that broke off must not empty a list.
func guarded(list db.List, removals, claimed int32) bool {
	return removals > list.GuardEntries && 100*int64(removals) > int64(list.GuardPercent)*int64(claimed)
}

// requestID is what makes a repeated call known, "" where the caller gave nothing.
func requestID(ctx context.Context, header *localv1.CreateSyncHeader) (string, error) {
	key, metadata := header.GetRequestId(), rpc.IdempotencyKey(ctx)
	if key != "" && metadata != "" && key != metadata {
		return "", rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "header.requestId", "differs from the Idempotency-Key")
	}
	if key == "" {
		key = metadata
	}
	return key, nil
}

// contentHash sums up what a sync was asked for: two calls are the same when it is.
func contentHash(header *localv1.CreateSyncHeader, source []byte) []byte {
	asked, _ := proto.Clone(header).(*localv1.CreateSyncHeader)
	asked.RequestId = ""
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(asked) // it came from the wire
	sum := sha256.Sum256(append(text, source...))
	return sum[:]
}

// running holds the request ids of syncs that are under way: an upload takes too long for a lock in the database.
type running struct {
	mu   sync.Mutex
	keys map[string]bool
}

// begin refuses a request id that is being worked on. The caller releases it.
func (r *running) begin(ctx context.Context, key string) (release func(), err error) {
	if key == "" {
		return func() {}, nil
	}
	mine := authz.FromContext(ctx).Subject + "\x00" + key
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys[mine] {
		return nil, rpc.Aborted(errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE, "the first call with this request id is still running")
	}
	if r.keys == nil {
		r.keys = map[string]bool{}
	}
	r.keys[mine] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.keys, mine)
	}, nil
}
