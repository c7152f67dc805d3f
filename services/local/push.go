package local

import (
	"context"
	"fmt"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// pushBatch is how many changes the other tool is told of at a time: enough for its import, and little to repeat.
const pushBatch = 2000

// What a push has told the other tool of a person.
const (
	personThere    = int16(1)
	personOff      = int16(2)
	personLeft     = int16(3)
	personUnfit    = int16(4)
	actionAdd      = 1
	actionRename   = 2
	actionRemove   = 3
	actionWithdraw = 4
)

var actions = map[int16]connector.Action{
	actionAdd: connector.Add, actionRename: connector.Rename, actionRemove: connector.Remove, actionWithdraw: connector.Unsubscribe,
}

// push tells the other tool what changed since it was last told, some at a time. What was told is kept, so that nobody is
// added twice: who is missing there after that has left there.
func (s *Service) push(ctx context.Context, c db.Connector, remote connector.Remote) (runResult, error) {
	q, result := db.New(s.pool), runResult{counts: &localv1.SyncCounts{}}
	if err := remote.Check(ctx); err != nil {
		return result, err
	}
	after := []byte{}
	for {
		rows, err := q.PushChanges(ctx, db.PushChangesParams{ListNo: c.ListNo, ConnectorNo: c.ConnectorNo, After: after, Size: pushBatch})
		if err != nil {
			return result, fmt.Errorf("look for changes: %w", err)
		}
		if len(rows) == 0 {
			return result, nil
		}
		changes := make([]connector.Change, 0, len(rows))
		for _, row := range rows {
			changes = append(changes, connector.Change{Action: actions[row.Action], Address: row.Address, DisplayName: row.DisplayName})
		}
		told, err := remote.Push(ctx, changes)
		count(result.counts, told)
		if err != nil {
			return result, err // told again the next time, which is harmless
		}
		if err := s.remember(ctx, c, rows, told); err != nil {
			return result, fmt.Errorf("keep what was told: %w", err)
		}
		after = rows[len(rows)-1].Token
	}
}

func count(counts *localv1.SyncCounts, told connector.Result) {
	counts.Add += int32(told.Added)
	counts.Update += int32(told.Renamed)
	counts.Remove += int32(told.Removed)
	counts.Unchanged += int32(told.Unchanged + told.NameKept)
	counts.Suppressed += int32(len(told.Suppressed))
	counts.Rejected += int32(len(told.Rejected))
}

// remember keeps what the other tool was told of each person.
func (s *Service) remember(ctx context.Context, c db.Connector, rows []db.PushChangesRow, told connector.Result) error {
	refused := map[string]int16{}
	for _, outcome := range told.Suppressed {
		refused[outcome.Address] = personLeft
	}
	for _, outcome := range told.Rejected {
		refused[outcome.Address] = personUnfit
	}
	put := db.PutPeopleParams{ConnectorNo: c.ConnectorNo}
	var off [][]byte
	for _, row := range rows {
		state, address := personThere, row.Address
		switch row.Action {
		case actionRemove:
			off = append(off, row.Token)
			continue
		case actionWithdraw:
			state, address = personOff, ""
		default:
			if why, ok := refused[row.Address]; ok {
				state = why
			}
		}
		put.Tokens, put.States = append(put.Tokens, row.Token), append(put.States, state)
		put.Addresses, put.DisplayNames = append(put.Addresses, address), append(put.DisplayNames, row.DisplayName)
	}
	q := db.New(s.pool)
	if err := q.PutPeople(ctx, put); err != nil {
		return err
	}
	return q.DropPeople(ctx, db.DropPeopleParams{ConnectorNo: c.ConnectorNo, Tokens: off})
}
