package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// The protocol between those who keep copies and the owner, over plain NATS requests.
//
// A snapshot request is answered by numbered parts to the reply subject. Each part has a reply
// subject of its own, to which the asker answers when the part is safe; the owner lets few parts be
// unanswered, so that neither side nor the server can be flooded. The last message has no data: it
// says how many parts there were, and the version. Nothing is lost silently: a part out of order, a
// wrong count or silence end the attempt on either side.

const (
	whatSnapshot = "snapshot"
	whatVersions = "versions"

	headerPart   = "chapterhouse-part"
	headerType   = "chapterhouse-type"
	headerCount  = "chapterhouse-count"
	headerEpoch  = "chapterhouse-epoch"
	headerNumber = "chapterhouse-number"
	headerGone   = "chapterhouse-gone"
	headerError  = "chapterhouse-error"
)

const (
	// snapshotWindow parts of up to 960 KiB may be unanswered.
	snapshotWindow = 4
	// partTimeout covers a slow disk on the asker's side and a slow query on the owner's.
	partTimeout = 30 * time.Second
	// snapshotTimeout bounds the owner's transaction.
	snapshotTimeout = 10 * time.Minute

	versionsTimeout = 10 * time.Second
	versionsPage    = 1000
)

type snapshotRequest struct {
	Kind      string `json:"kind"`
	Aggregate string `json:"aggregate"`
}

type versionsRequest struct {
	Kind  string `json:"kind"`
	After string `json:"after"`
	Limit int    `json:"limit"`
}

type versionsReply struct {
	Versions []AggregateVersion `json:"versions"`
}

var (
	errNobodyThere = errors.New("nobody answers for the owner")
	errOwnerSays   = errors.New("the owner says")
)

// answerError is the error that a message carries instead of an answer.
func answerError(msg *nats.Msg) error {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return errNobodyThere
	}
	if text := msg.Header.Get(headerError); text != "" {
		return fmt.Errorf("%w: %s", errOwnerSays, text)
	}
	return nil
}

func headerInt(msg *nats.Msg, name string) (int64, error) {
	value, err := strconv.ParseInt(msg.Header.Get(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", name, err)
	}
	return value, nil
}

func mustJSON(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // only strings and numbers are in the requests and replies above
	}
	return data
}

var errDisconnected = errors.New("the connection with NATS was lost")

// whileConnected returns a context that ends with the connection, since what was under way is lost
// with it, and after the limit.
func whileConnected(ctx context.Context, nc *nats.Conn, limit time.Duration) (context.Context, context.CancelFunc) {
	limited, stop := context.WithTimeout(ctx, limit)
	ctx, cancel := context.WithCancelCause(limited)
	lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go func() {
		defer nc.RemoveStatusListener(lost)
		select {
		case <-lost:
			cancel(errDisconnected)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		stop()
	}
}
