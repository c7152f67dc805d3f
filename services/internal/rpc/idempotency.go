package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

const (
	// IdempotencyHeader is the metadata that stands for request_id where the request has that field and leaves it empty,
	// and for streams, which have none.
	IdempotencyHeader = "idempotency-key"
	// ReplayedHeader is set on an answer that was stored by an earlier call.
	ReplayedHeader = "idempotent-replayed"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations holds the tables of a service that calls InTx, PruneIdempotency or LoadSealer.
var Migrations = func() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil { // the folder is compiled in
		panic(err)
	}
	return files
}()

// requestKey identifies a call that must be carried out once.
type requestKey struct {
	principal string
	method    string
	key       string
	hash      []byte
}

type requestKeyKey struct{}

var keyPattern = regexp.MustCompile(`^[!-~]{1,200}$`)

// withRequestKey looks for a request id in a unary request. A rehearsal (validate_only) and a caller who is not signed in
// have none: the first changes nothing, and the second could be anybody.
func withRequestKey(ctx context.Context, c *call, request proto.Message) (context.Context, error) {
	if request == nil {
		return ctx, nil
	}
	message := request.ProtoReflect()
	field := message.Descriptor().Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind || rehearsal(message) {
		return ctx, nil
	}
	key, header := message.Get(field).String(), IdempotencyKey(ctx)
	if key != "" && header != "" && key != header {
		return ctx, Invalid(errorv1.Reason_REASON_INVALID_FIELD, "requestId", "differs from the Idempotency-Key")
	}
	if key == "" {
		key = header
	}
	if key == "" || !c.principal.SignedIn() {
		return ctx, nil
	}
	hash, err := hashWithout(request, "request_id")
	if err != nil {
		return ctx, err
	}
	return WithIdempotency(ctx, key, hash), nil
}

func rehearsal(message protoreflect.Message) bool {
	field := message.Descriptor().Fields().ByName("validate_only")
	return field != nil && field.Kind() == protoreflect.BoolKind && message.Get(field).Bool()
}

// hashWithout hashes a message without some of its fields.
func hashWithout(message proto.Message, fields ...protoreflect.Name) ([]byte, error) {
	reduced := proto.Clone(message).ProtoReflect()
	for _, name := range fields {
		if field := reduced.Descriptor().Fields().ByName(name); field != nil {
			reduced.Clear(field)
		}
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(reduced.Interface())
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", reduced.Descriptor().FullName(), err)
	}
	sum := sha256.Sum256(content)
	return sum[:], nil
}

// IdempotencyKey returns the idempotency-key metadata of the call, "" where there is none.
func IdempotencyKey(ctx context.Context) string { return single(ctx, IdempotencyHeader) }

// WithIdempotency makes the next InTx in ctx happen once for this caller, method and key. Unary calls have it by
// themselves; the handler of a stream calls it when it has read, and hashed, all that it was sent.
// An empty key changes nothing.
func WithIdempotency(ctx context.Context, key string, hash []byte) context.Context {
	c := callFrom(ctx)
	if key == "" || c == nil || !c.principal.SignedIn() {
		return ctx
	}
	return context.WithValue(ctx, requestKeyKey{}, &requestKey{c.principal.Subject, c.method, key, hash})
}

// InTx runs fn in a transaction, as postgres.InTx does. When the call carries a request id, the answer is stored in the
// same transaction, and the same call sent again gets that answer without fn being run. Errors are not stored.
//
// A call commits one such transaction, that which its answer rests on; for whatever else it has to write there is
// postgres.InTx.
func InTx[T proto.Message](ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) (T, error)) (T, error) {
	var none T
	c := callFrom(ctx)
	if c != nil && c.committed.Load() {
		return none, errors.New("second rpc.InTx in one call: use postgres.InTx for what the stored answer does not rest on")
	}
	key, _ := ctx.Value(requestKeyKey{}).(*requestKey)
	if key != nil && !keyPattern.MatchString(key.key) {
		return none, Invalid(errorv1.Reason_REASON_INVALID_FIELD, "requestId", "must be 1 to 200 printable ASCII characters without spaces")
	}
	result, err := postgres.InTx(ctx, pool, func(tx pgx.Tx) (T, error) {
		if key == nil {
			return fn(tx)
		}
		return once(ctx, tx, key, fn)
	})
	if err == nil && c != nil {
		c.committed.Store(true)
	}
	return result, err
}

func once[T proto.Message](ctx context.Context, tx pgx.Tx, key *requestKey, fn func(tx pgx.Tx) (T, error)) (T, error) {
	var none T
	stored, found, err := key.lookUp(ctx, tx)
	if err != nil {
		return none, err
	}
	if found {
		answer, ok := none.ProtoReflect().New().Interface().(T)
		if !ok {
			return none, fmt.Errorf("idempotency: %T cannot be made", none)
		}
		// The header cannot be set any more when the stream is gone; then nobody reads it either.
		_ = grpc.SetHeader(ctx, metadata.Pairs(ReplayedHeader, "true"))
		return answer, proto.Unmarshal(stored, answer)
	}
	answer, err := fn(tx)
	if err != nil {
		return none, err
	}
	return answer, key.store(ctx, tx, answer)
}

// lookUp takes the key for this transaction and returns the answer that is stored under it.
func (k *requestKey) lookUp(ctx context.Context, tx pgx.Tx) ([]byte, bool, error) {
	var mine bool
	if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", k.lock()).Scan(&mine); err != nil {
		return nil, false, fmt.Errorf("lock idempotency key: %w", err)
	}
	if !mine {
		return nil, false, Aborted(errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE,
			"the first call with this request id is still running").RetryAfter(time.Second)
	}
	// A statement of its own: only what begins after the lock is held sees what its last holder committed.
	var hash, answer []byte
	err := tx.QueryRow(ctx, "SELECT request_hash, answer FROM idempotency WHERE principal = $1 AND method = $2 AND key = $3",
		k.principal, k.method, k.key).Scan(&hash, &answer)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look up idempotency key: %w", err)
	}
	if !bytes.Equal(hash, k.hash) {
		return nil, false, Invalid(errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED, "requestId", "was used before with another content")
	}
	return answer, true, nil
}

func (k *requestKey) store(ctx context.Context, tx pgx.Tx, answer proto.Message) error {
	content, err := proto.Marshal(answer)
	if err != nil {
		return fmt.Errorf("store answer: %w", err)
	}
	if content == nil {
		content = []byte{}
	}
	if _, err := tx.Exec(ctx, "INSERT INTO idempotency (principal, method, key, request_hash, answer) VALUES ($1, $2, $3, $4, $5)",
		k.principal, k.method, k.key, k.hash, content); err != nil {
		return fmt.Errorf("store answer: %w", err)
	}
	return nil
}

// lock is the number of the key's advisory lock. Keys that share one by chance only refuse each other while both run.
func (k *requestKey) lock() int64 {
	sum := sha256.Sum256([]byte(strings.Join([]string{"idempotency", k.principal, k.method, k.key}, "\x00")))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// pruneBatch keeps a prune from holding locks for long.
const pruneBatch = 10_000

// PruneIdempotency forgets the answers that were stored before a moment, and returns how many. Services keep 24 hours.
func PruneIdempotency(ctx context.Context, pool *pgxpool.Pool, before time.Time) (int64, error) {
	var pruned int64
	for {
		tag, err := pool.Exec(ctx, `DELETE FROM idempotency WHERE ctid IN
			(SELECT ctid FROM idempotency WHERE create_time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`, before, pruneBatch)
		if err != nil {
			return pruned, fmt.Errorf("prune idempotency: %w", err)
		}
		pruned += tag.RowsAffected()
		if tag.RowsAffected() < pruneBatch {
			return pruned, nil
		}
	}
}

// ForgetAnswers drops kept answers that hold a text, for instance a person's address. It reads all of them.
func ForgetAnswers(ctx context.Context, tx pgx.Tx, text string) error {
	_, err := tx.Exec(ctx, "DELETE FROM idempotency WHERE position($1::bytea IN answer) > 0", []byte(text))
	return err
}
