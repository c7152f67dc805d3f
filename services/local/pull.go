package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// staleTries is how often a pull is planned anew because somebody changed the list meanwhile.
const staleTries = 3

// leaveBatch is how many people are taken off a list in one version of it.
const leaveBatch = 10_000

// pulled is what was read of the other tool's list, which is used whole or not at all.
type pulled struct {
	source bytes.Buffer // of those who are subscribed there, as NDJSON
	limit  int64
	people int
	// Tokens of those who have left there, and of those whom mail does not reach.
	gone, unreached [][]byte
	siteKey         address.SiteKey
}

func (p *pulled) take(person connector.Person) error {
	if person.State == connector.Subscribed {
		row, err := json.Marshal(map[string]string{"address": person.Address, "displayName": person.DisplayName})
		if err != nil {
			return err
		}
		p.source.Write(append(row, '\n'))
		if p.people++; int64(p.source.Len()) > p.limit {
			return rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE, "the list has more than %d bytes", p.limit).With("limit", p.limit)
		}
		return nil
	}
	canonical, err := address.Canonical(strings.TrimSpace(person.Address))
	if err != nil || person.State == connector.Pending {
		return nil //nolint:nilerr // what cannot be on a list cannot have left it
	}
	token := p.siteKey.Token(canonical)
	if person.State == connector.Bounced {
		p.unreached = append(p.unreached, token[:])
	} else {
		p.gone = append(p.gone, token[:])
	}
	return nil
}

// pull reads the other tool's list, and only when all of it was read: takes off this list who has left there, and syncs
// with the rest, with the connector's id as the source.
func (s *Service) pull(ctx context.Context, list string, c db.Connector, mode localv1.Sync_Mode, remote connector.Remote) (runResult, error) {
	got := &pulled{limit: s.config.MaxUploadBytes, siteKey: s.siteKey}
	if err := remote.Pull(ctx, got.take); err != nil {
		return runResult{}, err
	}
	var result runResult
	for state, tokens := range map[int16][][]byte{unsubscribed: got.gone, bounced: got.unreached} {
		left, err := s.leaveBecause(ctx, c, state, tokens)
		if err != nil {
			return result, err
		}
		result.left += int32(left)
	}
	ctx = authz.NewContext(ctx, authz.Principal{Subject: "connector:" + connectorName(list, c.ID)})
	var sync *localv1.Sync
	var err error
	for range staleTries {
		sync, err = s.createSync(ctx, &localv1.CreateSyncHeader{
			Parent: list, Mode: mode, Source: c.ID, Apply: true, ContentType: "application/x-ndjson",
		}, chunks(bytes.NewReader(got.source.Bytes())))
		if !rpc.Is(err, errorv1.Reason_REASON_PLAN_STALE) {
			break
		}
	}
	if err != nil {
		result.sync = blockedSync(err)
		return result, err
	}
	result.counts = sync.GetCounts()
	id, _ := syncID(sync.GetName())
	result.sync = &id
	return result, nil
}

// chunks hands a source on as an upload comes.
func chunks(source io.Reader) func() ([]byte, error) {
	return func() ([]byte, error) {
		chunk := make([]byte, 256<<10)
		n, err := io.ReadFull(source, chunk)
		if n > 0 {
			return chunk[:n], nil
		}
		return nil, err
	}
}

// blockedSync is the plan that waits for somebody's word, nil where there is none.
func blockedSync(err error) *uuid.UUID {
	if !rpc.Is(err, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED) {
		return nil
	}
	id, ok := syncID(rpc.InfoOf(err).GetMetadata()["sync"])
	if !ok {
		return nil
	}
	return &id
}

// leaveBecause makes tombstones of entries because the other tool says that the people have left, or are not reached.
func (s *Service) leaveBecause(ctx context.Context, c db.Connector, state int16, tokens [][]byte) (left int, err error) {
	kind := withdrawn
	if state == bounced {
		kind = hardBounce
	}
	for len(tokens) > 0 {
		batch := tokens[:min(len(tokens), leaveBatch)]
		tokens = tokens[len(batch):]
		n, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) {
			list, err := db.New(tx).ListByNoForUpdate(ctx, c.ListNo)
			if err != nil {
				return 0, err
			}
			return bury(ctx, tx, list, state, consent{kind, s.clock.Now(), "connector:" + c.ID, ""}, batch...)
		})
		if err != nil {
			return left, fmt.Errorf("take off who has left: %w", err)
		}
		left += n
	}
	if left > 0 {
		s.publisher.Wake()
		s.moves.wake()
	}
	return left, nil
}
