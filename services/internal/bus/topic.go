package bus

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
)

// Topic is how a consumer keeps its copy of one kind of aggregate.
//
// Apply and Replace run in the transaction that records the event, may run again after a
// deadlock or an outage, and so have no effect outside tx. An error or a panic that is not the
// database's fault is tried five times and then sends the event to the dead letters.
type Topic struct {
	// Kind is the first element of the subjects, such as "list".
	Kind string
	// Delta says that an event holds a difference, so that only the next version can be applied
	// and what is missing is fetched as a snapshot. Otherwise each event carries the whole state:
	// it is applied when it is newer than the copy, in a transaction that it may share with events of
	// other aggregates, in the order of the second elements of their subjects.
	Delta bool
	// Alone gives each version a transaction of its own, for an Apply that takes locks in an order: a second version in
	// the same transaction would begin that order anew while it holds the first one's.
	Alone bool
	// Passing says that no copy is kept: each message is applied by itself as it passes, once, whatever its version and the
	// other parts of it. Nothing is compared with the owner or fetched from it, so that what was lost stays unheard of.
	Passing bool
	// Apply applies one version, all its parts in order, or one notice (whose Aggregate is empty).
	Apply func(ctx context.Context, tx pgx.Tx, parts []Event) error
	// Replace sets the copy to the snapshot, by applying the difference; when Snapshot.Gone, the
	// owner has no such aggregate. Required when Delta. Without it Apply gets the snapshot's
	// messages as the parts of one event without Subject and ID, and aggregates that the owner no
	// longer has stay in the copy.
	Replace func(ctx context.Context, tx pgx.Tx, aggregate string, s *Snapshot) error
}

// Snapshot is an aggregate as its owner had it at Version.
type Snapshot struct {
	Version Version
	// Gone says that the owner has no such aggregate; there are no parts then.
	Gone bool

	parts iter.Seq2[proto.Message, error]
}

// NewSnapshot makes a snapshot of messages in memory, for tests of a Replace.
func NewSnapshot(version Version, parts ...proto.Message) *Snapshot {
	return &Snapshot{Version: version, parts: func(yield func(proto.Message, error) bool) {
		for _, part := range parts {
			if !yield(part, nil) {
				return
			}
		}
	}}
}

// GoneSnapshot says that the owner has no such aggregate.
func GoneSnapshot() *Snapshot {
	s := NewSnapshot(Version{})
	s.Gone = true
	return s
}

// Parts yields what the owner sent, in order, one message in memory at a time. It reads through
// the transaction between two statements of the caller, and stops after an error.
func (s *Snapshot) Parts() iter.Seq2[proto.Message, error] { return s.parts }

// AggregateVersion is the version at which an owner holds an aggregate.
type AggregateVersion struct {
	Aggregate string
	Version   Version
}

// Owner answers for the aggregates of one kind.
type Owner struct {
	Kind string
	// Versions returns up to limit aggregates whose names come after the given one, in the order
	// of their names. It lists exactly those for which Snapshot finds something.
	Versions func(ctx context.Context, tx pgx.Tx, after string, limit int) ([]AggregateVersion, error)
	// Snapshot sends the aggregate in messages of at most 960 KiB and returns its version, or
	// false when there is none. tx is one repeatable read; send waits for a slow consumer.
	Snapshot func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (Version, bool, error)
}
