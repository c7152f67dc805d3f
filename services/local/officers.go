package local

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// termYears is how long a term is of which nobody says when it ends, and longestTerm how long it can be: officers who
	// stay in the books for good are found there long after they have left.
	termYears   = 1
	longestTerm = 5
	// mostOfficers of a chapter go into its event, 60 bytes each.
	mostOfficers = 100
)

// officerID takes the officer out of a name, whose form the request's rules have checked.
func officerID(name string) uuid.UUID {
	id, _ := uuid.Parse(element(name, 3)) // zero, and nobody's, where it is none
	return id
}

func officerName(chapter string, id uuid.UUID) string {
	return chapterName(chapter) + "/officers/" + id.String()
}

// CreateOfficer appoints somebody.
func (s *Service) CreateOfficer(ctx context.Context, req *localv1.CreateOfficerRequest) (*localv1.Officer, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Officer, error) {
		q, now, chapter := db.New(tx), s.clock.Now(), chapterID(req.GetParent())
		if _, err := q.ChapterForUpdate(ctx, chapter); err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		count, err := q.CountOfficers(ctx, chapter)
		if err != nil {
			return nil, err
		}
		if count >= mostOfficers {
			return nil, rpc.Precondition(errorv1.Reason_REASON_OFFICERS_TOO_MANY, "%s has %d officers, and can have no more; delete those whose term is over", req.GetParent(), count).
				With("limit", mostOfficers)
		}
		given, _ := proto.Clone(req.GetOfficer()).(*localv1.Officer)
		if given.GetTermStartTime() == nil {
			given.TermStartTime = timestamppb.New(now)
		}
		if given.GetTermEndTime() == nil {
			given.TermEndTime = timestamppb.New(given.GetTermStartTime().AsTime().AddDate(termYears, 0, 0))
		}
		if err := checkOfficer(given); err != nil {
			return nil, err
		}
		row, err := q.InsertOfficer(ctx, db.InsertOfficerParams{
			ID: id, ChapterID: chapter, DisplayName: given.GetDisplayName(), Role: int16(given.GetRole()), Subject: given.GetSubject(),
			MailAddress: given.GetMailAddress(), MailToken: s.mailToken(given.GetMailAddress()), NoticesMuted: given.GetNoticesMuted(),
			TermStart: given.GetTermStartTime().AsTime(), TermEnd: given.GetTermEndTime().AsTime(), Now: now,
		})
		if err != nil {
			return nil, fmt.Errorf("insert an officer: %w", err)
		}
		return viewOfficer(row, now), s.tellOfficers(ctx, tx, chapter)
	})
}

// mailToken is empty for no address.
func (s *Service) mailToken(canonical string) []byte {
	if canonical == "" {
		return []byte{}
	}
	token := s.siteKey.Token(canonical)
	return token[:]
}

// checkOfficer checks what the rules of the request cannot, and writes the address as addresses are compared. No error
// repeats it.
func checkOfficer(o *localv1.Officer) error {
	if err := printable("officer.displayName", o.GetDisplayName()); err != nil {
		return err
	}
	if err := printable("officer.subject", o.GetSubject()); err != nil {
		return err
	}
	if o.GetMailAddress() != "" {
		canonical, err := address.Canonical(o.GetMailAddress())
		if err != nil {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "officer.mailAddress", "is no e-mail address")
		}
		o.MailAddress = canonical
	}
	start, end := o.GetTermStartTime(), o.GetTermEndTime()
	if start == nil || end == nil {
		return rpc.Invalid(errorv1.Reason_REASON_OFFICER_TERM_INVALID, "officer.termEndTime", "a term has a beginning and an end")
	}
	latest := start.AsTime().AddDate(longestTerm, 0, 0)
	if !end.AsTime().After(start.AsTime()) || end.AsTime().After(latest) {
		return rpc.Invalid(errorv1.Reason_REASON_OFFICER_TERM_INVALID, "officer.termEndTime", "must be after termStartTime, by %d years at most", longestTerm).
			With("latest", latest.Format(time.RFC3339))
	}
	return nil
}

// tellOfficers tells of a chapter whose officers changed. The caller holds the chapter.
func (s *Service) tellOfficers(ctx context.Context, tx pgx.Tx, chapter string) error {
	row, err := db.New(tx).TouchChapter(ctx, chapter)
	if err != nil {
		return err
	}
	return s.tellChapters(ctx, tx, row)
}

// GetOfficer reads an officer.
func (s *Service) GetOfficer(ctx context.Context, req *localv1.GetOfficerRequest) (*localv1.Officer, error) {
	row, err := db.New(s.pool).Officer(ctx, db.OfficerParams{ChapterID: chapterID(req.GetName()), ID: officerID(req.GetName())})
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	return s.showOfficers(ctx, row)[0], nil
}

// ListOfficers lists a chapter's officers in the order of their appointment.
func (s *Service) ListOfficers(ctx context.Context, req *localv1.ListOfficersRequest) (*localv1.ListOfficersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q, chapter := db.New(s.pool), chapterID(req.GetParent())
	if _, err := q.Chapter(ctx, chapter); err != nil {
		return nil, orNotFound(err, req.GetParent())
	}
	after, _ := uuid.Parse(page.after) // zero for the first page
	rows, err := q.OfficersAfter(ctx, db.OfficersAfterParams{ChapterID: chapter, After: after, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListOfficersResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(row db.Officer) string { return row.ID.String() })
	answer.Officers = s.showOfficers(ctx, rows...)
	return answer, nil
}

// showOfficers shows to the chapter's admins everything, and to all others names, roles and terms.
func (s *Service) showOfficers(ctx context.Context, rows ...db.Officer) []*localv1.Officer {
	views := make([]*localv1.Officer, 0, len(rows))
	mine := authz.FromContext(ctx).Scopes("officers.write")
	for _, row := range rows {
		view := viewOfficer(row, s.clock.Now())
		if !slices.Contains(mine, chapterName(row.ChapterID)) {
			view.Subject, view.MailAddress, view.NoticesMuted, view.BounceTime, view.BounceFailure = "", "", false, nil, ""
		}
		views = append(views, view)
	}
	return views
}

// UpdateOfficer changes what the mask names. What is the same as before changes nothing, not even the etag.
func (s *Service) UpdateOfficer(ctx context.Context, req *localv1.UpdateOfficerRequest) (*localv1.Officer, error) {
	name := req.GetOfficer().GetName()
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Officer, error) {
		before, err := lockOfficer(ctx, tx, name, req.GetOfficer().GetEtag())
		if err != nil {
			return nil, err
		}
		now := s.clock.Now()
		merged := viewOfficer(before, now)
		err = rpc.Merge(merged, req.GetOfficer(), req.GetUpdateMask(), "officer",
			"display_name", "role", "subject", "mail_address", "term_start_time", "term_end_time", "notices_muted")
		if err != nil {
			return nil, err
		}
		if err := checkOfficer(merged); err != nil {
			return nil, err
		}
		if proto.Equal(merged, viewOfficer(before, now)) {
			return merged, nil
		}
		after, err := db.New(tx).UpdateOfficer(ctx, db.UpdateOfficerParams{
			ID: before.ID, DisplayName: merged.GetDisplayName(), Role: int16(merged.GetRole()), Subject: merged.GetSubject(),
			MailAddress: merged.GetMailAddress(), MailToken: s.mailToken(merged.GetMailAddress()), NoticesMuted: merged.GetNoticesMuted(),
			TermStart: merged.GetTermStartTime().AsTime(), TermEnd: merged.GetTermEndTime().AsTime(), Now: now,
		})
		if err != nil {
			return nil, fmt.Errorf("update an officer: %w", err)
		}
		return viewOfficer(after, now), s.tellOfficers(ctx, tx, before.ChapterID)
	})
}

// lockOfficer finds one who must be as the caller read them, and holds the chapter.
func lockOfficer(ctx context.Context, tx pgx.Tx, name, given string) (db.Officer, error) {
	q := db.New(tx)
	if _, err := q.ChapterForUpdate(ctx, chapterID(name)); err != nil {
		return db.Officer{}, orNotFound(err, name)
	}
	row, err := q.Officer(ctx, db.OfficerParams{ChapterID: chapterID(name), ID: officerID(name)})
	if err != nil {
		return row, orNotFound(err, name)
	}
	return row, rpc.CheckEtags(ctx, given, officerEtag(row))
}

// DeleteOfficer removes somebody.
func (s *Service) DeleteOfficer(ctx context.Context, req *localv1.DeleteOfficerRequest) (*emptypb.Empty, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*emptypb.Empty, error) {
		row, err := lockOfficer(ctx, tx, req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, s.removeOfficers(ctx, tx, row)
	})
}

// removeOfficers forgets officers of one chapter, which the caller holds.
func (s *Service) removeOfficers(ctx context.Context, tx pgx.Tx, rows ...db.Officer) error {
	if len(rows) == 0 {
		return nil
	}
	var ids []uuid.UUID
	for _, row := range rows {
		ids = append(ids, row.ID)
		// They stand in the answer to whoever appointed them today.
		if err := rpc.ForgetAnswers(ctx, tx, officerName(row.ChapterID, row.ID)); err != nil {
			return err
		}
	}
	if err := db.New(tx).DeleteOfficers(ctx, ids); err != nil {
		return fmt.Errorf("delete officers: %w", err)
	}
	return s.tellOfficers(ctx, tx, rows[0].ChapterID)
}

// eraseOfficers deletes the officers of a chapter who have an address.
func (s *Service) eraseOfficers(ctx context.Context, tx pgx.Tx, chapter string, token []byte) (names []string, err error) {
	q := db.New(tx)
	if _, err := q.ChapterForUpdate(ctx, chapter); err != nil {
		return nil, err
	}
	rows, err := q.OfficersAt(ctx, db.OfficersAtParams{ChapterID: chapter, MailToken: token})
	for _, row := range rows {
		names = append(names, officerName(chapter, row.ID))
	}
	if err != nil {
		return nil, err
	}
	return names, s.removeOfficers(ctx, tx, rows...)
}

func viewOfficer(row db.Officer, now time.Time) *localv1.Officer {
	return &localv1.Officer{
		Name: officerName(row.ChapterID, row.ID), DisplayName: row.DisplayName, Role: localv1.Officer_Role(row.Role),
		Subject: row.Subject, MailAddress: row.MailAddress, NoticesMuted: row.NoticesMuted,
		TermStartTime: timestamppb.New(row.TermStart), TermEndTime: timestamppb.New(row.TermEnd), State: officerState(row, now),
		BounceTime: timestampOf(row.BounceTime), BounceFailure: row.BounceFailure,
		CreateTime: timestamppb.New(row.CreateTime), UpdateTime: timestamppb.New(row.UpdateTime), Etag: officerEtag(row),
	}
}

func officerState(row db.Officer, now time.Time) localv1.Officer_State {
	switch {
	case now.Before(row.TermStart):
		return localv1.Officer_UPCOMING
	case now.Before(row.TermEnd):
		return localv1.Officer_CURRENT
	}
	return localv1.Officer_LAPSED
}

func officerEtag(row db.Officer) string { return etag(row.CreateTime.UnixMicro(), row.Version) }

// officersByChapter reads the officers of chapters whose events are to tell of them.
func officersByChapter(ctx context.Context, tx pgx.Tx, chapters ...db.Chapter) (map[string][]db.Officer, error) {
	ids := make([]string, 0, len(chapters))
	for _, chapter := range chapters {
		ids = append(ids, chapter.ID)
	}
	rows, err := db.New(tx).OfficersOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the officers: %w", err)
	}
	by := map[string][]db.Officer{}
	for _, row := range rows {
		by[row.ChapterID] = append(by[row.ChapterID], row)
	}
	return by, nil
}

// tellChapters tells of chapters as they stand, with their officers.
func (s *Service) tellChapters(ctx context.Context, tx pgx.Tx, chapters ...db.Chapter) error {
	events, err := s.chaptersChanged(ctx, tx, chapters...)
	if err != nil {
		return err
	}
	return bus.Append(ctx, tx, events...)
}
