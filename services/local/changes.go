package local

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// The kinds of changes as the database has them: those of the API, and some that the API does not show or tell apart.
const (
	kindAdd        = int16(localv1.SyncChange_ADD)
	kindUpdate     = int16(localv1.SyncChange_UPDATE)
	kindRemove     = int16(localv1.SyncChange_REMOVE)
	kindSuppressed = int16(localv1.SyncChange_SUPPRESSED)
	kindRejected   = int16(localv1.SyncChange_REJECTED)
	kindDuplicate  = int16(localv1.SyncChange_DUPLICATE)
	// An unchanged entry that gains the source's claim.
	kindClaim = int16(7)
	// An entry that loses the source's claim and stays by another.
	kindKept = int16(8)
	// An UPDATE that gains the claim.
	kindUpdateClaim = int16(9)
	// An entry that a revert leaves as it is.
	kindConflict = int16(localv1.SyncChange_CONFLICT)
	// An UPDATE that loses the claim: the opposite of kindUpdateClaim.
	kindUpdateUnclaim = int16(12)
)

// ListSyncChanges lists what the plan would do, or did, kind by kind. What becomes of claims is not listed.
func (s *Service) ListSyncChanges(ctx context.Context, req *localv1.ListSyncChangesRequest) (*localv1.ListSyncChangesResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOf(req.GetFilter())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	sync, err := findSync(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	if sync.ChangesPruned {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "the changes of %s were kept for %s", req.GetParent(), s.config.KeepChanges)
	}
	args := changesAfter(page.after)
	args.SyncNo, args.Kinds, args.Size = sync.SyncNo, kinds, page.fetch()
	rows, err := q.SyncChangesFrom(ctx, args)
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListSyncChangesResponse{}
	rows, answer.NextPageToken = cut(page, rows, changeCursor)
	for _, row := range rows {
		answer.Changes = append(answer.Changes, viewChange(listOf(req.GetParent()), row))
	}
	return answer, nil
}

var filterTerm = regexp.MustCompile(`^\s*kind\s*=\s*"?([A-Z]+)"?\s*$`)

// kindsOf reads `kind = ADD OR kind = REMOVE`; all kinds that are listed where the filter is empty.
func kindsOf(filter string) ([]int16, error) {
	if strings.TrimSpace(filter) == "" {
		return []int16{kindAdd, kindUpdate, kindUpdateClaim, kindRemove, kindSuppressed, kindRejected, kindDuplicate, kindConflict}, nil
	}
	var kinds []int16
	for term := range strings.SplitSeq(filter, " OR ") {
		match := filterTerm.FindStringSubmatch(term)
		if match == nil {
			return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "filter", "must be `kind = REMOVE`, or several such joined by OR")
		}
		kind := int16(localv1.SyncChange_Kind_value[match[1]])
		if kind == 0 {
			return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "filter", "%s is no kind of change", match[1])
		}
		if kinds = append(kinds, kind); kind == kindUpdate {
			kinds = append(kinds, kindUpdateClaim)
		}
	}
	return kinds, nil
}

const changePosition = "%d %d %d %d"

func changeCursor(c db.SyncChangesFromRow) string {
	return fmt.Sprintf(changePosition, c.Kind, c.State, c.Page, c.Position)
}

func changesAfter(cursor string) (args db.SyncChangesFromParams) {
	_, _ = fmt.Sscanf(cursor, changePosition, &args.Kind, &args.State, &args.Page, &args.Position) // sealed by us, or empty
	return args
}

func viewChange(list string, c db.SyncChangesFromRow) *localv1.SyncChange {
	change := &localv1.SyncChange{
		Kind:                localv1.SyncChange_Kind(c.Kind),
		Line:                c.Line,
		Address:             c.Address,
		DisplayName:         c.DisplayName,
		PreviousDisplayName: c.PreviousDisplayName,
		Entry:               entryName(list, c.Token),
		Code:                c.Code,
		Text:                c.Text,
		FirstLine:           c.FirstLine,
	}
	switch c.Kind {
	case kindUpdateClaim:
		change.Kind = localv1.SyncChange_UPDATE
	case kindSuppressed:
		change.Code, change.Text = localv1.Entry_State(c.State).String(), "the person has left this list"
		if c.State == bounced {
			change.Text = "the address does not take mail"
		}
		change.SinceTime = timestamppb.New(c.SinceTime)
	}
	return change
}
