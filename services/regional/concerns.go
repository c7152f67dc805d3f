package regional

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// AnswerCase answers all who raised or joined a case.
func (s *Service) AnswerCase(ctx context.Context, req *regionalv1.AnswerCaseRequest) (*regionalv1.Case, error) {
	return s.onCase(ctx, req.GetName(), req.GetEtag(), func(c *caseChange, row *db.Case) error {
		if err := allowed(row, open, answered, escalated); err != nil {
			return err
		}
		return c.reply(ctx, row, req.GetBody())
	})
}

// reply answers in the region's name.
func (c *caseChange) reply(ctx context.Context, row *db.Case, body string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	if row.State == open {
		row.State = answered
	}
	row.Overdue = false
	c.touch(c.down(row.Name)...)
	return c.answer(ctx, id, row.Name, regionName(row.RegionID), body, c.now)
}

// MergeCase merges a case into another of its region, or into what that was merged into itself.
func (s *Service) MergeCase(ctx context.Context, req *regionalv1.MergeCaseRequest) (*regionalv1.Case, error) {
	return s.onCase(ctx, req.GetName(), req.GetEtag(), func(c *caseChange, row *db.Case) error {
		if err := allowed(row, open, answered); err != nil {
			return err
		}
		into, err := c.load(ctx, req.GetInto())
		if err != nil {
			return err
		}
		into, ok := c.mergeable(into)
		switch {
		case !ok || into.RegionID != row.RegionID:
			return mergeInvalid("%s is no case of the same region that has not come to its end", req.GetInto())
		case slices.Contains(c.up(into.Name), row.Name):
			return mergeInvalid("%s leads to %s", req.GetInto(), row.Name)
		}
		c.merge(row, into)
		return nil
	})
}

func mergeInvalid(format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_CONCERN_MERGE_INVALID, "into", format, args...)
}

// EscalateCase hands a case to the region above, or to the international body.
func (s *Service) EscalateCase(ctx context.Context, req *regionalv1.EscalateCaseRequest) (*regionalv1.Case, error) {
	return s.onCase(ctx, req.GetName(), req.GetEtag(), func(c *caseChange, row *db.Case) error {
		if err := allowed(row, open, answered); err != nil {
			return err
		}
		return c.escalate(ctx, row, req.GetSummary())
	})
}

// CloseCase ends a case that was answered, or answers it with that.
func (s *Service) CloseCase(ctx context.Context, req *regionalv1.CloseCaseRequest) (*regionalv1.Case, error) {
	return s.onCase(ctx, req.GetName(), req.GetEtag(), func(c *caseChange, row *db.Case) error {
		if err := allowed(row, open, answered); err != nil {
			return err
		}
		if req.GetBody() != "" {
			if err := c.reply(ctx, row, req.GetBody()); err != nil {
				return err
			}
		}
		if len(c.answersOf(row.Name)) == 0 {
			return rpc.Precondition(errorv1.Reason_REASON_CONCERN_NOT_ANSWERED, "nobody has answered %s yet: give an answer", row.Name)
		}
		row.State, row.Overdue = closed, false
		c.touch(c.down(row.Name)...)
		return nil
	})
}

// onCase runs a verb on a case with its tree, and tells what came of it.
func (s *Service) onCase(ctx context.Context, name, given string, verb func(*caseChange, *db.Case) error) (*regionalv1.Case, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Case, error) {
		c, err := s.openCases(ctx, tx)
		if err != nil {
			return nil, err
		}
		row, err := c.load(ctx, name)
		if err != nil {
			return nil, err
		}
		if row == nil {
			return nil, notFound(name)
		}
		if err := rpc.CheckEtags(ctx, given, caseEtag(row)); err != nil {
			return nil, err
		}
		if err := verb(c, row); err != nil {
			return nil, err
		}
		if err := c.settle(ctx); err != nil {
			return nil, err
		}
		return c.viewWhole(row), nil
	})
}

// allowed refuses a verb that the case's state is not for.
func allowed(row *db.Case, states ...string) error {
	if slices.Contains(states, row.State) {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_CONCERN_STATE, "%s is %s", row.Name, row.State).With("state", row.State)
}

// GetCase reads a case with all that was answered.
func (s *Service) GetCase(ctx context.Context, req *regionalv1.GetCaseRequest) (*regionalv1.Case, error) {
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.Case, error) {
		f := newForest()
		if err := f.loadTree(ctx, q, req.GetName()); err != nil {
			return nil, err
		}
		row := f.cases[req.GetName()]
		if row == nil {
			return nil, notFound(req.GetName())
		}
		return f.viewWhole(row), nil
	})
}

// snapshot reads everything as of one moment: a case that is merged meanwhile would else lead to what was not read.
func snapshot[T any](ctx context.Context, s *Service, read func(*db.Queries) (T, error)) (T, error) {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return postgres.InTxOptions(ctx, s.pool, options, func(tx pgx.Tx) (T, error) { return read(db.New(tx)) })
}

// ListCases lists cases by when they came.
func (s *Service) ListCases(ctx context.Context, req *regionalv1.ListCasesRequest) (*regionalv1.ListCasesResponse, error) {
	const method = "ListCases"
	size, err := rpc.PageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	cursor, err := s.pages.Open(method, rpc.Filter(req), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.ListCasesParams{
		RegionID: regionID(req.GetParent()), Below: req.GetBelow() || req.GetOverdue(), Overdue: req.GetOverdue(), Size: int32(size) + 1,
	}
	args.AfterTime, args.AfterName = readCursor(cursor)
	if req.GetState() != regionalv1.Case_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.ListCasesResponse, error) {
		rows, err := q.ListCases(ctx, args)
		if err != nil {
			return nil, err
		}
		answer := &regionalv1.ListCasesResponse{}
		if len(rows) > size {
			rows = rows[:size]
			answer.NextPageToken = s.pages.Seal(method, rpc.Filter(req), cursorAt(rows[size-1]))
		}
		answer.Cases, err = viewCases(ctx, q, rows)
		return answer, err
	})
}

// cursorAt is where a page ended: a time and a name.
func cursorAt(row db.Case) string { return row.CreateTime.Format(time.RFC3339Nano) + " " + row.Name }

func readCursor(cursor string) (time.Time, string) {
	when, name, _ := strings.Cut(cursor, " ")
	parsed, _ := time.Parse(time.RFC3339Nano, when) // sealed by us; without a cursor the first of all times
	return parsed, name
}

// ListSimilarCases suggests what a case could be merged into.
func (s *Service) ListSimilarCases(ctx context.Context, req *regionalv1.ListSimilarCasesRequest) (*regionalv1.ListSimilarCasesResponse, error) {
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.ListSimilarCasesResponse, error) {
		if _, err := q.ReadCase(ctx, req.GetName()); err != nil {
			return nil, orNotFound(err, req.GetName())
		}
		similar, err := q.SimilarCases(ctx, req.GetName())
		if err != nil {
			return nil, err
		}
		names := make([]string, 0, len(similar))
		for _, one := range similar {
			names = append(names, one.Name)
		}
		rows, err := q.CasesNamed(ctx, names)
		if err != nil {
			return nil, err
		}
		views, err := viewCases(ctx, q, rows)
		if err != nil {
			return nil, err
		}
		byName := map[string]*regionalv1.Case{}
		for _, view := range views {
			byName[view.GetName()] = view
		}
		answer := &regionalv1.ListSimilarCasesResponse{}
		for _, one := range similar {
			answer.Cases = append(answer.Cases, &regionalv1.SimilarCase{Case: byName[one.Name], Similarity: one.Similarity})
		}
		return answer, nil
	})
}

// viewCases shows cases as lists do.
func viewCases(ctx context.Context, q *db.Queries, rows []db.Case) ([]*regionalv1.Case, error) {
	names := make([]string, 0, len(rows))
	for _, row := range rows {
		names = append(names, row.Name)
	}
	f := newForest()
	if err := f.loadWays(ctx, q, names); err != nil {
		return nil, err
	}
	counts, err := q.RaiserCounts(ctx, names)
	if err != nil {
		return nil, err
	}
	raisers := map[string]int32{}
	for _, count := range counts {
		raisers[count.Root] = count.Raisers
	}
	views := make([]*regionalv1.Case, 0, len(rows))
	for _, row := range rows {
		view := f.view(&row)
		view.RaiserCount = raisers[row.Name]
		views = append(views, view)
	}
	return views, nil
}

// maxRaisers is how many raisers are named.
const maxRaisers = 500

// viewWhole shows a case with its answers and raisers. Its tree is in the forest.
func (f *forest) viewWhole(row *db.Case) *regionalv1.Case {
	view := f.view(row)
	for _, answer := range f.answersOf(row.Name) {
		view.Answers = append(view.Answers, &regionalv1.CaseAnswer{
			Id: answer.ID.String(), By: answer.GivenBy, Body: answer.Body, CreateTime: timestamppb.New(answer.CreateTime),
		})
	}
	raisers := f.raisers(row.Name)
	view.RaiserCount = int32(len(raisers))
	view.Raisers = raisers[:min(len(raisers), maxRaisers)]
	return view
}

func (f *forest) view(row *db.Case) *regionalv1.Case {
	at := f.lies(row.Name)
	mergedInto, escalatedTo := leads(row)
	return &regionalv1.Case{
		Name:            row.Name,
		Concern:         row.Concern,
		FromRegion:      row.FromRegion,
		Subject:         row.Subject,
		Body:            row.Body,
		Shared:          row.Shared,
		State:           regionalv1.Case_State(regionalv1.Case_State_value[row.State]),
		MergedInto:      mergedInto,
		EscalatedTo:     escalatedTo,
		Summary:         summaryOf(row),
		LiesWith:        at.with,
		DueTime:         optionalTime(at.due),
		Overdue:         at.overdue,
		RemindedTime:    optionalTime(row.RemindedTime),
		FirstAnswerTime: optionalTime(row.FirstAnswerTime),
		VendorNote:      at.vendorNote,
		CreateTime:      timestamppb.New(row.CreateTime),
		UpdateTime:      timestamppb.New(row.UpdateTime),
		Etag:            caseEtag(row),
	}
}

// leads says where a case went: within its region it was merged, out of it escalated.
func leads(row *db.Case) (mergedInto, escalatedTo string) {
	switch {
	case row.LeadsTo == nil:
		return "", ""
	case strings.HasPrefix(*row.LeadsTo, regionName(row.RegionID)+"/"):
		return *row.LeadsTo, ""
	}
	return "", *row.LeadsTo
}

func summaryOf(row *db.Case) string {
	if row.EscalationSummary != "" {
		return row.EscalationSummary
	}
	return row.Summary
}

func caseEtag(row *db.Case) string { return versionEtag(row.Epoch, row.Version) }

func optionalTime(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
