package international

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The states of an import as the database has them.
var (
	importPlanned   = internationalv1.MemberImport_PLANNED.String()
	importApplied   = internationalv1.MemberImport_APPLIED.String()
	importCancelled = internationalv1.MemberImport_CANCELLED.String()
	importExpired   = internationalv1.MemberImport_EXPIRED.String()
)

// GetMemberImport reads an import.
func (s *Service) GetMemberImport(ctx context.Context, req *internationalv1.GetMemberImportRequest) (*internationalv1.MemberImport, error) {
	row, err := findImport(ctx, db.New(s.pool), req.GetName())
	if err != nil {
		return nil, err
	}
	return s.viewImport(row), nil
}

func findImport(ctx context.Context, q *db.Queries, name string) (db.Import, error) {
	id, err := uuid.Parse(idOf(name))
	if err != nil {
		return db.Import{}, noMember(pgx.ErrNoRows, name)
	}
	row, err := q.ReadImport(ctx, id)
	return row, noMember(err, name)
}

// ListMemberImports lists imports, the newest first.
func (s *Service) ListMemberImports(ctx context.Context, req *internationalv1.ListMemberImportsRequest) (*internationalv1.ListMemberImportsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := page.number()
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := db.New(s.pool).ImportsBefore(ctx, db.ImportsBeforeParams{Before: before, Size: page.size + 1})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Import) string { return strconv.FormatInt(last.ImportNo, 10) })
	answer := &internationalv1.ListMemberImportsResponse{NextPageToken: next}
	for _, row := range rows {
		answer.MemberImports = append(answer.MemberImports, s.viewImport(row))
	}
	return answer, nil
}

// ListMemberImportChanges lists every row's fate, in the order of the file.
func (s *Service) ListMemberImportChanges(ctx context.Context, req *internationalv1.ListMemberImportChangesRequest) (*internationalv1.ListMemberImportChangesResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	found, err := findImport(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	if found.Pruned {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "the changes of %s were kept for %s", req.GetParent(), s.config.KeepImports)
	}
	rows, err := q.ImportRowsAfter(ctx, db.ImportRowsAfterParams{
		ImportNo: found.ImportNo, After: int32(page.number()), Kind: int16(req.GetKind()), Size: page.size + 1,
	})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.ImportRow) string { return strconv.Itoa(int(last.Line)) })
	answer := &internationalv1.ListMemberImportChangesResponse{NextPageToken: next}
	for _, row := range rows {
		answer.Changes = append(answer.Changes, viewImportRow(row))
	}
	return answer, nil
}

// ApplyMemberImport applies a plan exactly as shown, or not at all.
func (s *Service) ApplyMemberImport(ctx context.Context, req *internationalv1.ApplyMemberImportRequest) (*internationalv1.MemberImport, error) {
	return s.onImport(ctx, req.GetName(), req.GetEtag(), importApplied, func(tx pgx.Tx, row db.Import, now time.Time) (db.Import, error) {
		return s.applyImport(ctx, tx, row, now)
	})
}

// CancelMemberImport gives a plan up.
func (s *Service) CancelMemberImport(ctx context.Context, req *internationalv1.CancelMemberImportRequest) (*internationalv1.MemberImport, error) {
	return s.onImport(ctx, req.GetName(), req.GetEtag(), importCancelled, func(tx pgx.Tx, row db.Import, _ time.Time) (db.Import, error) {
		return db.New(tx).SetImportState(ctx, db.SetImportStateParams{State: importCancelled, ImportNo: row.ImportNo})
	})
}

// onImport takes a plan to a state, under the lock of its row. One that is there already stays as it is.
func (s *Service) onImport(ctx context.Context, name, given, to string, change func(pgx.Tx, db.Import, time.Time) (db.Import, error)) (*internationalv1.MemberImport, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.MemberImport, error) {
		id, err := uuid.Parse(idOf(name))
		if err != nil {
			return nil, noMember(pgx.ErrNoRows, name)
		}
		row, err := db.New(tx).ImportForUpdate(ctx, id)
		if err != nil {
			return nil, noMember(err, name)
		}
		if row.State == to {
			return s.viewImport(row), nil
		}
		if err := rpc.CheckEtags(ctx, given, importEtag(row)); err != nil {
			return nil, err
		}
		now := s.clock.Now()
		if state := importState(row, now); state != importPlanned {
			return nil, rpc.Precondition(errorv1.Reason_REASON_IMPORT_STATE, "%s is %s", name, state).With("state", state)
		}
		if row, err = change(tx, row, now); err != nil {
			return nil, err
		}
		return s.viewImport(row), nil
	})
}

// applyImport does what a plan says, set-wise. Whatever needs no lock of tokens is written first: lists wait for those.
func (s *Service) applyImport(ctx context.Context, tx pgx.Tx, plan db.Import, now time.Time) (db.Import, error) {
	q, no := db.New(tx), plan.ImportNo
	if err := prepareToImport(ctx, q, int(plan.Added+plan.Renewed+plan.Updated)); err != nil {
		return plan, err
	}
	touched, err := lockImported(ctx, q, plan, now)
	if err != nil {
		return plan, err
	}
	added, err := s.enterImported(ctx, q, plan, now)
	if err != nil {
		return plan, err
	}
	given, err := s.importedTokens(ctx, q, no)
	if err != nil {
		return plan, err
	}
	movers, err := q.ImportMovers(ctx, no)
	if err != nil {
		return plan, err
	}
	err = s.changeTokens(ctx, tx, movers, given.all(), now, func(write *pipeline) {
		write.exec(db.ProlongImportedTerms, no)
		write.exec(db.ImportMembers, now, no)
		for _, part := range given {
			write.exec(db.InsertSiteTokens, part.Tokens, part.SiteNo, part.MemberNos, part.AddressNos)
		}
		deed{verb: imported, subject: plan.Subject}.record(write, now, append(touched, added...)...)
	})
	if err != nil {
		return plan, fmt.Errorf("apply memberImports/%s: %w", plan.ID, err)
	}
	return q.SetImportState(ctx, db.SetImportStateParams{State: importApplied, ApplyTime: &now, ImportNo: no})
}

// scanFrom is the number of rows from which a table is rather read once than looked up in. What was just staged, and the
// members that were just entered, are nothing that the planner knows of: left to itself it would look at each row of the
// one once for every row of the other.
const scanFrom = 5000

func prepareToImport(ctx context.Context, q *db.Queries, rows int) error {
	if err := q.PrepareToImport(ctx); err != nil || rows < scanFrom {
		return err
	}
	return q.ScanImport(ctx)
}

func staleImport(plan db.Import, why string) error {
	name := "memberImports/" + plan.ID.String()
	return rpc.Aborted(errorv1.Reason_REASON_PLAN_STALE, "%s since %s was planned; import again", why, name).With("import", name)
}

// lockImported locks the members that a plan changes, and returns their numbers.
func lockImported(ctx context.Context, q *db.Queries, plan db.Import, now time.Time) ([]int64, error) {
	runOut, err := q.ImportRunOut(ctx, db.ImportRunOutParams{ImportNo: plan.ImportNo, Now: now})
	if err != nil {
		return nil, err
	}
	if runOut {
		return nil, staleImport(plan, "a term of it has run out")
	}
	locked, err := q.LockImportMembers(ctx, plan.ImportNo)
	if err != nil {
		return nil, err
	}
	if len(locked) != int(plan.Renewed+plan.Updated) {
		return nil, staleImport(plan, "a member changed")
	}
	return locked, nil
}

// enterImported enters new members, all addresses, and the terms that start. Nothing of it is known to a standing yet:
// addresses count by their tokens.
func (s *Service) enterImported(ctx context.Context, q *db.Queries, plan db.Import, now time.Time) ([]int64, error) {
	no := plan.ImportNo
	entered, err := q.ImportNewMembers(ctx, db.ImportNewMembersParams{Now: now, ImportNo: no})
	if err != nil {
		return nil, err
	}
	if entered != int64(plan.Added) {
		return nil, staleImport(plan, "an id was taken")
	}
	added, err := q.NoteNewMembers(ctx, no)
	if err != nil {
		return nil, err
	}
	if err := q.ImportTerms(ctx, db.ImportTermsParams{Now: now, ImportNo: no}); err != nil {
		return nil, err
	}
	attested, err := q.AttestImportedAddresses(ctx, db.AttestImportedAddressesParams{Now: now, Subject: plan.Subject, ImportNo: no})
	if isTaken(err) {
		return nil, staleImport(plan, "an address was taken")
	}
	if err != nil {
		return nil, err
	}
	inserted, err := q.ImportAddresses(ctx, db.ImportAddressesParams{Now: now, Subject: plan.Subject, ImportNo: no})
	if err != nil {
		return nil, err
	}
	want, err := q.CountImportedAddresses(ctx, no)
	if err == nil && attested+inserted != int64(want) {
		err = staleImport(plan, "an address was taken")
	}
	return added, err
}

// siteTokens are the tokens of imported addresses, in parts of as many as one statement takes.
type siteTokens []db.InsertSiteTokensParams

func (t siteTokens) all() [][]byte {
	var all [][]byte
	for _, part := range t {
		all = append(all, part.Tokens...)
	}
	return all
}

func (s *Service) importedTokens(ctx context.Context, q *db.Queries, importNo int64) (siteTokens, error) {
	var found siteTokens
	for after := int32(0); ; {
		page, err := q.ImportedAddressesAfter(ctx, db.ImportedAddressesAfterParams{ImportNo: importNo, After: after, Size: stepTokens})
		if err != nil || len(page) == 0 {
			return found, err
		}
		for _, site := range s.sites {
			part := db.InsertSiteTokensParams{SiteNo: site.no}
			for _, row := range page {
				token := site.key.Token(row.Address)
				part.Tokens = append(part.Tokens, token[:])
				part.MemberNos, part.AddressNos = append(part.MemberNos, row.MemberNo), append(part.AddressNos, row.AddressNo)
			}
			found = append(found, part)
		}
		after = page[len(page)-1].Line
	}
}

// pruneImports writes down which plans expired, and forgets old rows and what interrupted uploads left.
func (s *Service) pruneImports(ctx context.Context, now time.Time) error {
	q := db.New(s.pool)
	_, expiring := q.ExpireImports(ctx, now)
	// Twice the limit: an upload's rows carry the time of its beginning, and may be planned just now.
	_, dropping := q.DropStaleImportRows(ctx, now.Add(-2*s.config.UploadLimit))
	_, pruning := q.PruneImportRows(ctx, now.Add(-s.config.KeepImports))
	return errors.Join(expiring, dropping, pruning)
}

// importState is the state that a plan is in at a moment: the job that writes EXPIRED down may come later.
func importState(row db.Import, now time.Time) string {
	if row.State == importPlanned && !now.Before(row.ExpireTime) {
		return importExpired
	}
	return row.State
}

func importEtag(row db.Import) string { return strconv.FormatInt(row.Version, 10) }

func (s *Service) viewImport(row db.Import) *internationalv1.MemberImport {
	return &internationalv1.MemberImport{
		Name:  "memberImports/" + row.ID.String(),
		State: internationalv1.MemberImport_State(internationalv1.MemberImport_State_value[importState(row, s.clock.Now())]),
		Counts: &internationalv1.MemberImportCounts{
			Add: row.Added, Renew: row.Renewed, Update: row.Updated, Unchanged: row.Unchanged, Rejected: row.Rejected, Duplicate: row.Duplicate,
		},
		Subject:    row.Subject,
		CreateTime: timestamppb.New(row.CreateTime),
		ExpireTime: timestamppb.New(row.ExpireTime),
		ApplyTime:  optionalTime(row.ApplyTime),
		Etag:       importEtag(row),
	}
}

func viewImportRow(row db.ImportRow) *internationalv1.MemberImportChange {
	change := &internationalv1.MemberImportChange{
		Kind: internationalv1.MemberImportChange_Kind(row.Kind), Line: row.Line, Address: row.Address, DisplayName: row.DisplayName,
		TermEndTime: optionalTime(row.TermEnd), Code: row.Code, Text: row.Message, Renames: row.Renames, AddsAddress: row.AddsAddress,
	}
	if row.MemberID != "" {
		change.Member = "members/" + row.MemberID
	}
	return change
}
