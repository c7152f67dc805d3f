package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

func concernName(chapter, id string) string { return "chapters/" + chapter + "/concerns/" + id }

// The states of a case, and of where it lies, that mean something here; see CaseChanged.
const (
	caseAnswered       = "ANSWERED"
	caseClosed         = "CLOSED"
	caseHandedToVendor = "HANDED_TO_VENDOR"
)

// raiser is who calls, if they may raise concerns for a chapter: its admins and, since membership is all that it takes to
// be heard, every member of the international body. All says whether they see all of the chapter's concerns.
type raiser struct {
	subject     string
	all, raises bool
}

func raiserFor(ctx context.Context, chapter string) (raiser, error) {
	principal := authz.FromContext(ctx)
	r := raiser{subject: principal.Subject}
	var err error
	if r.raises, err = authz.Can(ctx, "concerns.raise", chapter); err != nil {
		return r, err
	}
	if r.all, err = authz.Can(ctx, "concerns.read", chapter); err != nil {
		return r, err
	}
	r.raises = r.raises || isMember(principal)
	return r, nil
}

func isMember(p authz.Principal) bool {
	for _, scope := range p.Scopes("concerns.raise") {
		if strings.HasPrefix(scope, "members/") {
			return true
		}
	}
	return false
}

func concernDenied(chapter string) error {
	return rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "this is for the admins of %s and for members of the international body", chapter)
}

// sees says whether a caller may read a concern.
func (r raiser) sees(c db.Concern) bool { return r.all || c.Raiser == r.subject }

// CreateConcern raises a concern in the region that the chapter lies in.
func (s *Service) CreateConcern(ctx context.Context, req *localv1.CreateConcernRequest) (*localv1.Concern, error) {
	who, err := mayRaise(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Concern, error) {
		chapter, err := chapterOf(ctx, db.New(tx), req.GetParent())
		if err != nil {
			return nil, err
		}
		return s.raise(ctx, tx, chapter, db.InsertConcernParams{
			Subject: req.GetConcern().GetSubject(), Body: req.GetConcern().GetBody(), Shared: req.GetConcern().GetShared(), Raiser: who.subject,
		})
	})
}

func mayRaise(ctx context.Context, chapter string) (raiser, error) {
	who, err := raiserFor(ctx, chapter)
	if err == nil && !who.raises {
		err = concernDenied(chapter)
	}
	return who, err
}

func chapterOf(ctx context.Context, q *db.Queries, name string) (db.Chapter, error) {
	chapter, err := q.Chapter(ctx, chapterID(name))
	return chapter, orNotFound(err, name)
}

// raise writes a concern of a chapter and tells of it.
func (s *Service) raise(ctx context.Context, tx pgx.Tx, chapter db.Chapter, args db.InsertConcernParams) (*localv1.Concern, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	args.Now = s.clock.Now()
	args.Name, args.ChapterID, args.Region = concernName(chapter.ID, id.String()), chapter.ID, chapter.Region
	args.CaseName, args.Epoch = regionName(chapter.Region)+"/concerns/"+id.String(), args.Now.UnixMicro()
	row, err := db.New(tx).InsertConcern(ctx, args)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s has joined %s already", chapterName(chapter.ID), args.Joins)
	}
	if err != nil {
		return nil, err
	}
	return viewConcern(row, db.Case{}, nil), bus.Append(ctx, tx, concernChanged(row))
}

// JoinConcern raises the same concern as a case that was shared.
func (s *Service) JoinConcern(ctx context.Context, req *localv1.JoinConcernRequest) (*localv1.Concern, error) {
	who, err := mayRaise(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Concern, error) {
		q := db.New(tx)
		chapter, err := chapterOf(ctx, q, req.GetParent())
		if err != nil {
			return nil, err
		}
		joins, err := q.JoinableCase(ctx, db.JoinableCaseParams{Name: req.GetConcern(), Region: chapter.Region})
		if err != nil {
			return nil, orNotFound(err, req.GetConcern())
		}
		if _, err := q.Concern(ctx, concernName(chapter.ID, element(joins.Name, 3))); !errors.Is(err, pgx.ErrNoRows) {
			return nil, errors.Join(err, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s raised this itself", req.GetParent()))
		}
		return s.raise(ctx, tx, chapter, db.InsertConcernParams{Subject: joins.Subject, Joins: joins.Name, Raiser: who.subject})
	})
}

// WithdrawConcern takes a concern back.
func (s *Service) WithdrawConcern(ctx context.Context, req *localv1.WithdrawConcernRequest) (*localv1.Concern, error) {
	who, err := mayRaise(ctx, chapterName(chapterID(req.GetName())))
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Concern, error) {
		q := db.New(tx)
		row, err := q.ConcernForUpdate(ctx, req.GetName())
		if err != nil {
			return nil, orNotFound(err, req.GetName())
		}
		if !who.sees(row) {
			return nil, concernDenied(chapterName(row.ChapterID))
		}
		lies, answers, err := whereabouts(ctx, q, row)
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), concernEtag(row, lies)); err != nil {
			return nil, err
		}
		if row.Withdrawn {
			return viewConcern(row, lies, answers), nil
		}
		if lies.LiesState == caseClosed {
			return nil, rpc.Precondition(errorv1.Reason_REASON_CONCERN_STATE, "%s is closed", row.Name).With("state", caseClosed)
		}
		row, err = q.WithdrawConcern(ctx, db.WithdrawConcernParams{Name: row.Name, Now: s.clock.Now()})
		if err != nil {
			return nil, err
		}
		return viewConcern(row, lies, answers), bus.Append(ctx, tx, concernChanged(row))
	})
}

// whereabouts is what is known of a concern's case; the empty case as long as there is nothing.
func whereabouts(ctx context.Context, q *db.Queries, row db.Concern) (db.Case, []db.CaseAnswer, error) {
	cases, err := q.Cases(ctx, []string{row.CaseName})
	if err != nil || len(cases) == 0 {
		return db.Case{}, nil, err
	}
	answers, err := q.CaseAnswers(ctx, row.CaseName)
	return cases[0], answers, err
}

// GetConcern reads a concern with all answers.
func (s *Service) GetConcern(ctx context.Context, req *localv1.GetConcernRequest) (*localv1.Concern, error) {
	chapter := chapterName(chapterID(req.GetName()))
	who, err := raiserFor(ctx, chapter)
	if err != nil {
		return nil, err
	}
	if !who.all && !who.raises {
		return nil, concernDenied(chapter)
	}
	q := db.New(s.pool)
	row, err := q.Concern(ctx, req.GetName())
	if err == nil && !who.sees(row) {
		return nil, concernDenied(chapter)
	}
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	lies, answers, err := whereabouts(ctx, q, row)
	if err != nil {
		return nil, err
	}
	return viewConcern(row, lies, answers), nil
}

// endOfTime is later than anything, where a list begins with the newest.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// newestFirst is the cursor of such a list.
func newestFirst(when time.Time, name string) string {
	return when.Format(time.RFC3339Nano) + " " + name
}

func readNewestFirst(cursor string) (time.Time, string) {
	if cursor == "" {
		return endOfTime, ""
	}
	when, name, _ := strings.Cut(cursor, " ")
	parsed, _ := time.Parse(time.RFC3339Nano, when) // sealed by us
	return parsed, name
}

// ListConcerns lists a chapter's concerns, or those that the caller raised.
func (s *Service) ListConcerns(ctx context.Context, req *localv1.ListConcernsRequest) (*localv1.ListConcernsResponse, error) {
	who, err := raiserFor(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	if !who.all && !who.raises {
		return nil, concernDenied(req.GetParent())
	}
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	if _, err := chapterOf(ctx, q, req.GetParent()); err != nil {
		return nil, err
	}
	args := db.ConcernsBeforeParams{ChapterID: chapterID(req.GetParent()), Size: page.fetch()}
	args.BeforeTime, args.BeforeName = readNewestFirst(page.after)
	if !who.all {
		args.Raiser = who.subject
	}
	rows, err := q.ConcernsBefore(ctx, args)
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListConcernsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(c db.Concern) string { return newestFirst(c.CreateTime, c.Name) })
	answer.Concerns, err = viewConcerns(ctx, q, rows)
	return answer, err
}

func viewConcerns(ctx context.Context, q *db.Queries, rows []db.Concern) ([]*localv1.Concern, error) {
	names := make([]string, 0, len(rows))
	for _, row := range rows {
		names = append(names, row.CaseName)
	}
	cases, err := q.Cases(ctx, names)
	if err != nil {
		return nil, err
	}
	byName := map[string]db.Case{}
	for _, one := range cases {
		byName[one.Name] = one
	}
	views := make([]*localv1.Concern, 0, len(rows))
	for _, row := range rows {
		views = append(views, viewConcern(row, byName[row.CaseName], nil))
	}
	return views, nil
}

// ListJoinableConcerns lists what a chapter could join.
func (s *Service) ListJoinableConcerns(ctx context.Context, req *localv1.ListJoinableConcernsRequest) (*localv1.ListJoinableConcernsResponse, error) {
	if _, err := mayRaise(ctx, req.GetParent()); err != nil {
		return nil, err
	}
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	chapter, err := chapterOf(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	args := db.JoinableCasesParams{Region: chapter.Region, ChapterID: chapter.ID, Size: page.fetch()}
	args.BeforeTime, args.BeforeName = readNewestFirst(page.after)
	rows, err := q.JoinableCases(ctx, args)
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListJoinableConcernsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(c db.Case) string { return newestFirst(c.CreateTime, c.Name) })
	for _, row := range rows {
		answer.Concerns = append(answer.Concerns, &localv1.JoinableConcern{
			Name: row.Name, Subject: row.Subject, Body: row.Body, RaiserCount: row.RaiserCount, LiesWith: row.LiesWith,
			CreateTime: timestamppb.New(row.CreateTime),
		})
	}
	return answer, nil
}

// viewConcern shows a concern with what is known of its case.
func viewConcern(row db.Concern, lies db.Case, answers []db.CaseAnswer) *localv1.Concern {
	view := &localv1.Concern{
		Name:            row.Name,
		Subject:         row.Subject,
		Body:            row.Body,
		Shared:          row.Shared,
		State:           concernState(row, lies),
		Region:          regionName(row.Region),
		Case:            row.CaseName,
		Joins:           row.Joins,
		LiesWith:        lies.LiesWith,
		MergedInto:      lies.MergedInto,
		DueTime:         timestampOf(lies.DueTime),
		Overdue:         lies.Overdue,
		FirstAnswerTime: timestampOf(lies.FirstAnswerTime),
		VendorNote:      lies.VendorNote,
		CreateTime:      timestamppb.New(row.CreateTime),
		UpdateTime:      timestamppb.New(row.UpdateTime),
		Etag:            concernEtag(row, lies),
	}
	if lies.UpdateTime.After(row.UpdateTime) {
		view.UpdateTime = timestamppb.New(lies.UpdateTime)
	}
	for _, answer := range answers {
		view.Answers = append(view.Answers, &localv1.ConcernAnswer{
			Id: answer.ID.String(), By: answer.GivenBy, Body: answer.Body, CreateTime: timestamppb.New(answer.CreateTime),
		})
	}
	return view
}

func concernState(row db.Concern, lies db.Case) localv1.Concern_State {
	switch {
	case row.Withdrawn:
		return localv1.Concern_WITHDRAWN
	case lies.Name == "":
		return localv1.Concern_SENT
	}
	switch lies.LiesState {
	case caseAnswered:
		return localv1.Concern_ANSWERED
	case caseHandedToVendor:
		return localv1.Concern_HANDED_TO_VENDOR
	case caseClosed:
		return localv1.Concern_CLOSED
	default:
		return localv1.Concern_OPEN
	}
}

// concernEtag rises with the concern and with what becomes of it.
func concernEtag(row db.Concern, lies db.Case) string {
	return fmt.Sprintf("%s-%s", etag(row.Epoch, row.Version), etag(lies.Epoch, lies.Version))
}
