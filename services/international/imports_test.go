package international

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// importFile uploads a file in chunks.
func (w *world) importFile(header *internationalv1.ImportMembersHeader, content string) (*internationalv1.MemberImport, error) {
	return importAs(w.t.Context(), w.imports, header, content)
}

func importAs(ctx context.Context, client internationalv1.MemberImportServiceClient, header *internationalv1.ImportMembersHeader, content string) (*internationalv1.MemberImport, error) {
	if header.GetContentType() == "" {
		header.ContentType = "text/csv"
	}
	stream, err := client.ImportMembers(ctx)
	if err != nil {
		return nil, err
	}
	parts := []*internationalv1.ImportMembersRequest{{Part: &internationalv1.ImportMembersRequest_Header{Header: header}}}
	for len(content) > 0 {
		n := min(len(content), 100_000)
		parts = append(parts, &internationalv1.ImportMembersRequest{Part: &internationalv1.ImportMembersRequest_Chunk{Chunk: []byte(content[:n])}})
		content = content[n:]
	}
	for _, part := range parts {
		if err := stream.Send(part); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

func (w *world) planned(content string) *internationalv1.MemberImport {
	w.t.Helper()
	plan, err := w.importFile(&internationalv1.ImportMembersHeader{}, content)
	w.must(err)
	return plan
}

// fates are the rows of an import with what becomes of them.
func (w *world) fates(plan *internationalv1.MemberImport) string {
	w.t.Helper()
	answer, err := w.imports.ListMemberImportChanges(w.t.Context(), &internationalv1.ListMemberImportChangesRequest{Parent: plan.GetName()})
	w.must(err)
	var told []string
	for _, change := range answer.GetChanges() {
		fate := fmt.Sprintf("%d %s", change.GetLine(), change.GetKind())
		if change.GetCode() != "" {
			fate += " " + change.GetCode()
		}
		told = append(told, fate)
	}
	return strings.Join(told, "\n")
}

func (w *world) apply(plan *internationalv1.MemberImport) *internationalv1.MemberImport {
	w.t.Helper()
	done, err := w.imports.ApplyMemberImport(w.t.Context(), &internationalv1.ApplyMemberImportRequest{Name: plan.GetName(), Etag: plan.GetEtag()})
	w.must(err)
	return done
}

func TestImportSaysWhatBecomesOfEveryRow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"new@example.org", "ada@example.org", "ada@example.net", "gone@example.org"}, nil))
	w.member("ada", "ada@example.org")
	w.member("bob", "bob@example.org")
	w.suspend(w.member("eve", "eve@example.org").GetName())
	w.withoutTerm("gone", "gone@example.org")
	w.figures("paris", people{4, 1}, people{})
	plan := w.planned(`address,displayName,memberId,termEndTime
new@example.org,Newton,,2027-12-31
ada@example.org,ada,,
ada@example.net,Ada Rao,ada,2028-01-01T00:00:00Z
bob@example.org,Bob,,2026-07-01
eve@example.org,,,2029-01-01
gone@example.org,gone,,2027-01-01
not an address,X,,
late@example.org,Late,,2020-01-01
odd@example.org,Odd,,sometime
nameless@example.org,,,
nameless@example.org,Named,,
bob@example.org,Bob,other,
NEW@example.org,Newton again,,
id@example.org,Id,BAD ID,
named@example.org,With an id,newton-2,
third@example.org,Bob B,bob,
`)
	if got, want := w.fates(plan), `2 ADD
3 UNCHANGED
4 DUPLICATE DUPLICATE
5 REJECTED TERM_END_INVALID
6 REJECTED MEMBER_STATE
7 RENEW
8 REJECTED EMAIL_SYNTAX
9 REJECTED TERM_END_PAST
10 REJECTED TERM_END_UNREADABLE
11 REJECTED NAME_MISSING
12 ADD
13 REJECTED ADDRESS_TAKEN
14 DUPLICATE DUPLICATE
15 REJECTED MEMBER_ID_INVALID
16 ADD
17 UPDATE`; got != want {
		t.Errorf("the fates are\n%s\nwant\n%s", got, want)
	}
	counts := plan.GetCounts()
	if counts.GetAdd() != 3 || counts.GetRenew() != 1 || counts.GetUpdate() != 1 || counts.GetUnchanged() != 1 || counts.GetRejected() != 8 || counts.GetDuplicate() != 2 {
		t.Errorf("the counts are %v", counts)
	}
	w.figures("paris", people{4, 1}, people{}) // a plan changes nothing

	done := w.apply(plan)
	if done.GetState() != internationalv1.MemberImport_APPLIED || done.GetApplyTime() == nil {
		t.Errorf("applied: %v", done)
	}
	w.figures("paris", people{4, 3}, people{})
	again, err := w.imports.ApplyMemberImport(t.Context(), &internationalv1.ApplyMemberImportRequest{Name: plan.GetName()})
	w.must(err)
	if again.GetEtag() != done.GetEtag() {
		t.Errorf("applied again: %v", again)
	}
	w.figures("paris", people{4, 3}, people{})
	bob := w.expectState("members/bob", internationalv1.Member_ACTIVE)
	if bob.GetDisplayName() != "Bob B" || len(bob.GetAddresses()) != 2 || bob.GetAddresses()[1].GetVerifyMethod() != internationalv1.Address_STAFF {
		t.Errorf("bob is %v", bob)
	}
	newton := w.expectState("members/newton-2", internationalv1.Member_LAPSED)
	if got, want := w.memberHistory(newton.GetName()), "IMPORTED:LAPSED"; got != want {
		t.Errorf("the history is %s, want %s", got, want)
	}
	// The same file again finds everybody as it left them.
	second := w.planned("address,displayName,termEndTime\nnew@example.org,Newton,2027-12-31\ngone@example.org,gone,2027-01-01\n")
	if n := second.GetCounts().GetUnchanged(); n != 2 {
		t.Errorf("imported again: %v", second)
	}
}

func TestImportMovesTheStandingsItTouches(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.chapter("lyon")
	w.must(w.list("paris", "members", []string{"ada@example.org", "ada@example.net"}, nil))
	w.must(w.list("lyon", "members", []string{"bob@example.org"}, nil))
	w.withoutTerm("ada", "ada@example.org")
	w.member("bob", "bob@example.org")
	w.figures("paris", people{2, 0}, people{})
	if w.standingMoves("lyon", func() {
		// One row starts a term and makes two people one; the other only prolongs a term.
		w.apply(w.planned("memberId,address,displayName,termEndTime\nada,ada@example.net,Ada,2027-12-31\nbob,bob@example.org,Bob,2030-01-01\n"))
	}) {
		t.Error("a longer term moves no figure, and the etag changed")
	}
	w.figures("paris", people{1, 1}, people{})
}

func TestImportIsAppliedAsPlannedOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada", "ada@example.org").GetName()
	const csv = "address,displayName,termEndTime\nada@example.org,Ada Rao,2030-01-01\nnew@example.org,Newton,2027-01-01\n"
	stale := func(plan *internationalv1.MemberImport) {
		t.Helper()
		_, err := w.imports.ApplyMemberImport(t.Context(), &internationalv1.ApplyMemberImportRequest{Name: plan.GetName()})
		refuses(t, err, errorv1.Reason_REASON_PLAN_STALE)
	}
	plan := w.planned(csv)
	w.renew(ada, 500)
	stale(plan)

	plan = w.planned(csv)
	other := w.member("other", "new@example.org").GetName()
	stale(plan)
	found, err := w.members.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{DisplayName: "Newton"})
	w.must(err)
	if n := len(found.GetMembers()); n != 0 {
		t.Errorf("a stale plan has entered %d members", n)
	}
	plan = w.planned("address,memberId,displayName\nx@example.org,taken,X\n")
	w.withoutTerm("taken")
	stale(plan)

	plan = w.planned("address,displayName,termEndTime\nlate@example.org,Late,2026-06-01T18:00:00Z\n")
	w.clock.Advance(7 * time.Hour)
	stale(plan)
	w.expectState(other, internationalv1.Member_ACTIVE)
}

func TestImportsAreCancelledAndExpire(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const csv = "address,displayName\nada@example.org,Ada\n"
	first := w.planned(csv)
	gone, err := w.imports.CancelMemberImport(t.Context(), &internationalv1.CancelMemberImportRequest{Name: first.GetName()})
	w.must(err)
	if gone.GetState() != internationalv1.MemberImport_CANCELLED {
		t.Errorf("cancelled: %v", gone)
	}
	_, err = w.imports.ApplyMemberImport(t.Context(), &internationalv1.ApplyMemberImportRequest{Name: first.GetName()})
	refuses(t, err, errorv1.Reason_REASON_IMPORT_STATE)
	second := w.planned(csv)
	w.clock.Advance(24 * time.Hour)
	_, err = w.imports.ApplyMemberImport(t.Context(), &internationalv1.ApplyMemberImportRequest{Name: second.GetName()})
	refuses(t, err, errorv1.Reason_REASON_IMPORT_STATE)
	w.must(w.service.pruneImports(t.Context(), w.clock.Now()))
	all, err := w.imports.ListMemberImports(t.Context(), &internationalv1.ListMemberImportsRequest{PageSize: 1})
	w.must(err)
	if row := all.GetMemberImports()[0]; row.GetName() != second.GetName() || row.GetState() != internationalv1.MemberImport_EXPIRED || all.GetNextPageToken() == "" {
		t.Errorf("the newest is %v", all)
	}
	w.clock.Advance(31 * 24 * time.Hour)
	w.must(w.service.pruneImports(t.Context(), w.clock.Now()))
	_, err = w.imports.ListMemberImportChanges(t.Context(), &internationalv1.ListMemberImportChangesRequest{Parent: second.GetName()})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestImportsRefuseAndRepeat(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.MaxUploadRows = 3 })
	for name, c := range map[string]struct {
		media, content string
		reason         errorv1.Reason
	}{
		"Empty":        {"text/csv", "", errorv1.Reason_REASON_SOURCE_EMPTY},
		"OnlyHeader":   {"text/csv", "address,displayName\n", errorv1.Reason_REASON_SOURCE_EMPTY},
		"NoColumn":     {"text/csv", "name,town\nAda,Paris\n", errorv1.Reason_REASON_SOURCE_NO_ADDRESS_COLUMN},
		"UnknownField": {"application/x-ndjson", `{"address":"a@example.org","phone":"1"}` + "\n", errorv1.Reason_REASON_SOURCE_UNREADABLE},
		"TooMany":      {"text/csv", "address\na@example.org\nb@example.org\nc@example.org\nd@example.org\n", errorv1.Reason_REASON_TOO_LARGE},
		"Unsupported":  {"image/png", "x", errorv1.Reason_REASON_UNSUPPORTED_MEDIA_TYPE},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.importFile(&internationalv1.ImportMembersHeader{ContentType: c.media}, c.content)
			refuses(t, err, c.reason)
		})
	}
	header := func() *internationalv1.ImportMembersHeader {
		return &internationalv1.ImportMembersHeader{ContentType: "application/x-ndjson", RequestId: "once", Apply: true}
	}
	const rows = `{"address":"ada@example.org","displayName":"Ada","termEndTime":"2027-06-30","memberId":null}` + "\n"
	first, err := w.importFile(header(), rows)
	w.must(err)
	again, err := w.importFile(header(), rows)
	w.must(err)
	if first.GetName() != again.GetName() || first.GetCounts().GetAdd() != 1 {
		t.Errorf("imported %v, then %v", first, again)
	}
	_, err = w.importFile(header(), strings.ReplaceAll(rows, "Ada", "Eve"))
	refuses(t, err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED)
	_, err = importAs(t.Context(), internationalv1.NewMemberImportServiceClient(w.dial(authz.Auditor, "")), header(), rows)
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	var left int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(DISTINCT import_no) FROM import_rows").Scan(&left))
	if left != 1 {
		t.Errorf("the rows of %d imports are left, want those of the one", left)
	}
}

func TestErasingForgetsImportsToo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.apply(w.planned("address,displayName,memberId\nzaphod@example.org,Zaphod Quux,z\n"))
	open := w.planned("address,displayName,memberId\nzaphod@example.net,Zaphod Quuux,z\n")
	_, err := w.members.EraseMember(t.Context(), &internationalv1.EraseMemberRequest{Name: "members/z"})
	w.must(err)
	_, err = w.imports.ApplyMemberImport(t.Context(), &internationalv1.ApplyMemberImportRequest{Name: open.GetName()})
	refuses(t, err, errorv1.Reason_REASON_IMPORT_STATE)
	var found int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM import_rows r WHERE r::text ~* 'zaphod|quu'").Scan(&found))
	if found > 0 {
		t.Errorf("%d rows still name the person", found)
	}
}

// BenchmarkImport enters 100,000 members whose addresses are on a thousand lists already, and then renews them all.
func BenchmarkImport(b *testing.B) {
	const rows, chapters = 100_000, 1000
	for b.Loop() {
		b.StopTimer()
		w := setupOn(b, durablePool(b))
		for c := range chapters {
			w.chapter(fmt.Sprintf("c%d", c))
			added := make([]string, 0, rows/chapters)
			for i := range rows / chapters {
				added = append(added, fmt.Sprintf("m%d@example.org", c*rows/chapters+i))
			}
			w.must(w.list(fmt.Sprintf("c%d", c), "members", added, nil))
		}
		w.exec("ANALYZE")
		b.StartTimer()
		for _, run := range []struct{ unit, ends string }{{"enter-s", "2027-06-30"}, {"renew-s", "2028-06-30"}} {
			var csv strings.Builder
			csv.WriteString("address,displayName,termEndTime\n")
			for i := range rows {
				fmt.Fprintf(&csv, "m%d@example.org,Member Number%d,%s\n", i, i, run.ends)
			}
			start := time.Now()
			done, err := w.importFile(&internationalv1.ImportMembersHeader{Apply: true}, csv.String())
			w.must(err)
			b.ReportMetric(time.Since(start).Seconds(), run.unit)
			if done.GetCounts().GetAdd()+done.GetCounts().GetRenew() != rows {
				b.Fatalf("imported: %v", done)
			}
		}
		b.StopTimer()
		w.audit()
		b.StartTimer()
	}
}
