package local

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// officers is the client of the chapter's admin.
func (w *world) officers() localv1.OfficerServiceClient {
	return localv1.NewOfficerServiceClient(w.as(authz.ChapterAdmin, paris))
}

// appoint makes somebody an officer of golang-paris.
func (w *world) appoint(given *localv1.Officer) *localv1.Officer {
	w.t.Helper()
	if given.GetDisplayName() == "" {
		given.DisplayName = "Somebody"
	}
	if given.GetRole() == 0 {
		given.Role = localv1.Officer_ORGANISER
	}
	officer, err := w.officers().CreateOfficer(w.t.Context(), &localv1.CreateOfficerRequest{Parent: paris, Officer: given})
	w.must(err)
	return officer
}

func (w *world) officer(name string) *localv1.Officer {
	w.t.Helper()
	officer, err := w.officers().GetOfficer(w.t.Context(), &localv1.GetOfficerRequest{Name: name})
	w.must(err)
	return officer
}

// toldOfficers is what the chapter's last event says of its officers.
func (w *world) toldOfficers() *eventv1.ChapterChanged {
	w.t.Helper()
	var last *eventv1.ChapterChanged
	for _, event := range w.outbox() {
		if event.Aggregate == paris {
			last, _ = event.Data.(*eventv1.ChapterChanged)
		}
	}
	return last
}

func TestOfficersAreKeptWithTheirTerms(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client := w.officers()
	made := w.appoint(&localv1.Officer{DisplayName: "Zoe Quux", Role: localv1.Officer_PRESIDENT, Subject: "zoe-subject", MailAddress: "Zoe@EXAMPLE.org"})
	if made.GetMailAddress() != "zoe@example.org" || made.GetState() != localv1.Officer_CURRENT || !made.GetTermStartTime().AsTime().Equal(noon) ||
		!made.GetTermEndTime().AsTime().Equal(noon.AddDate(1, 0, 0)) {
		t.Errorf("appointed: %v", made)
	}
	later := w.appoint(&localv1.Officer{
		Role: localv1.Officer_TREASURER, TermStartTime: timestamppb.New(noon.AddDate(0, 1, 0)), TermEndTime: timestamppb.New(noon.AddDate(5, 1, 0)),
	})
	if later.GetState() != localv1.Officer_UPCOMING {
		t.Errorf("a term that begins later is %s", later.GetState())
	}
	if told := w.toldOfficers(); told.GetOfficerCount() != 1 || len(told.GetOfficers()) != 2 ||
		!bytes.Equal(told.GetOfficers()[0].GetSubjectToken(), w.key.SubjectToken("zoe-subject")) || len(told.GetOfficers()[1].GetSubjectToken()) != 0 {
		t.Errorf("the event says %v", told)
	}

	for name, given := range map[string]*localv1.Officer{
		"ends before it begins": {TermEndTime: timestamppb.New(noon.Add(-time.Hour))},
		"is too long":           {TermEndTime: timestamppb.New(noon.AddDate(5, 0, 1))},
	} {
		given.DisplayName, given.Role = "x", localv1.Officer_OTHER
		_, err := client.CreateOfficer(t.Context(), &localv1.CreateOfficerRequest{Parent: paris, Officer: given})
		if refuses(t, err, errorv1.Reason_REASON_OFFICER_TERM_INVALID); !strings.Contains(err.Error(), "termEndTime") {
			t.Errorf("a term that %s: %v", name, err)
		}
	}
	_, err := client.CreateOfficer(t.Context(), &localv1.CreateOfficerRequest{Parent: paris, Officer: &localv1.Officer{
		DisplayName: "x", Role: localv1.Officer_OTHER, MailAddress: "no address",
	}})
	if refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD); strings.Contains(err.Error(), "no address") {
		t.Errorf("the error repeats the address: %v", err)
	}

	// What the mask names, and nothing where it is the same.
	same, err := client.UpdateOfficer(t.Context(), &localv1.UpdateOfficerRequest{Officer: &localv1.Officer{Name: made.GetName(), DisplayName: "Zoe Quux", Etag: made.GetEtag()}})
	w.must(err)
	changed, err := client.UpdateOfficer(t.Context(), &localv1.UpdateOfficerRequest{
		Officer: &localv1.Officer{Name: made.GetName(), Etag: made.GetEtag()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"subject"}},
	})
	w.must(err)
	if same.GetEtag() != made.GetEtag() || changed.GetSubject() != "" || changed.GetMailAddress() != "zoe@example.org" {
		t.Errorf("changed: %v, then %v", same, changed)
	}
	_, err = client.DeleteOfficer(t.Context(), &localv1.DeleteOfficerRequest{Name: made.GetName(), Etag: made.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)

	// A term lapses by the clock, and is prolonged.
	w.clock.Advance(366 * 24 * time.Hour)
	if got := w.officer(made.GetName()); got.GetState() != localv1.Officer_LAPSED {
		t.Errorf("a year later: %v", got)
	}
	prolonged, err := w.officers().UpdateOfficer(t.Context(), &localv1.UpdateOfficerRequest{Officer: &localv1.Officer{Name: made.GetName(), TermEndTime: timestamppb.New(noon.AddDate(2, 0, 0))}})
	w.must(err)
	if prolonged.GetState() != localv1.Officer_CURRENT {
		t.Errorf("prolonged: %v", prolonged)
	}
	_, err = w.officers().DeleteOfficer(t.Context(), &localv1.DeleteOfficerRequest{Name: made.GetName()})
	w.must(err)
	_, err = w.officers().GetOfficer(t.Context(), &localv1.GetOfficerRequest{Name: made.GetName()})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	if told := w.toldOfficers(); told.GetOfficerCount() != 1 || len(told.GetOfficers()) != 1 {
		t.Errorf("the event says %v", told)
	}
	// Neither a name nor an address nor a subject has crossed.
	var events []byte
	w.must(w.pool.QueryRow(t.Context(), "SELECT string_agg(data, '') FROM outbox").Scan(&events))
	for _, text := range []string{"Zoe", "zoe@", "zoe-subject"} {
		if bytes.Contains(events, []byte(text)) {
			t.Errorf("an event holds %q", text)
		}
	}
}

// The chapter's admins see addresses, staff and coordinators names and roles, and nobody else anything.
func TestWhoSeesOfficers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("golang-lyon")
	made := w.appoint(&localv1.Officer{DisplayName: "Zoe Quux", Subject: "zoe-subject", MailAddress: "zoe@example.org", NoticesMuted: true})
	for role, scope := range map[authz.Role]string{
		authz.InternationalStaff: authz.Federation, authz.Auditor: authz.Federation, authz.Coordinator: "regions/world",
	} {
		client := localv1.NewOfficerServiceClient(w.as(role, scope))
		listed, err := client.ListOfficers(t.Context(), &localv1.ListOfficersRequest{Parent: paris})
		w.must(err)
		got, err := client.GetOfficer(t.Context(), &localv1.GetOfficerRequest{Name: made.GetName()})
		w.must(err)
		for _, officer := range []*localv1.Officer{listed.GetOfficers()[0], got} {
			if officer.GetDisplayName() != "Zoe Quux" || officer.GetRole() != localv1.Officer_ORGANISER || officer.GetTermEndTime() == nil {
				t.Errorf("%s sees %v", role, officer)
			}
			if officer.GetMailAddress()+officer.GetSubject() != "" || officer.GetNoticesMuted() {
				t.Errorf("%s sees more than names and roles: %v", role, officer)
			}
		}
		_, err = client.DeleteOfficer(t.Context(), &localv1.DeleteOfficerRequest{Name: made.GetName()})
		refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	}
	for role, scope := range map[authz.Role]string{authz.Member: "members/zoe", authz.ChapterAdmin: "chapters/golang-lyon"} {
		_, err := localv1.NewOfficerServiceClient(w.as(role, scope)).ListOfficers(t.Context(), &localv1.ListOfficersRequest{Parent: paris})
		refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	}
	_, err := localv1.NewOfficerServiceClient(w.nobody()).GetOfficer(t.Context(), &localv1.GetOfficerRequest{Name: made.GetName()})
	refuses(t, err, errorv1.Reason_REASON_UNAUTHENTICATED)
}

func TestOfficersArePagedAndBounded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range mostOfficers {
		w.appoint(&localv1.Officer{DisplayName: fmt.Sprint(i), Subject: fmt.Sprint("subject ", i%90)})
	}
	_, err := w.officers().CreateOfficer(t.Context(), &localv1.CreateOfficerRequest{Parent: paris, Officer: &localv1.Officer{DisplayName: "x", Role: localv1.Officer_OTHER}})
	refuses(t, err, errorv1.Reason_REASON_OFFICERS_TOO_MANY)
	if told := w.toldOfficers(); told.GetOfficerCount() != 90 {
		t.Errorf("%d people are told, want 90: ten hold two offices", told.GetOfficerCount())
	}
	var names []string
	req := &localv1.ListOfficersRequest{Parent: paris, PageSize: 33}
	for {
		answer, err := w.officers().ListOfficers(t.Context(), req)
		w.must(err)
		for _, officer := range answer.GetOfficers() {
			names = append(names, officer.GetDisplayName())
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	for i, name := range names {
		if name != fmt.Sprint(i) {
			t.Fatalf("%d officers, number %d is %s", len(names), i, name)
		}
	}
	if len(names) != mostOfficers {
		t.Errorf("%d officers", len(names))
	}
}

// Asked for twice, somebody is appointed once; and an erased person is no officer any more, in no table.
func TestErasingAnOfficer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client, req := w.officers(), &localv1.CreateOfficerRequest{Parent: paris, RequestId: "once", Officer: &localv1.Officer{
		DisplayName: "Zoe Quux", Role: localv1.Officer_SECRETARY, Subject: "quux-subject", MailAddress: "zoe@example.org",
	}}
	first, err := client.CreateOfficer(t.Context(), req)
	w.must(err)
	again, err := client.CreateOfficer(t.Context(), req)
	w.must(err)
	if first.GetName() != again.GetName() {
		t.Errorf("%s, then %s", first.GetName(), again.GetName())
	}
	w.appoint(&localv1.Officer{DisplayName: "Ada"})
	a := w.above()
	a.tellNotice(lost())
	w.mails(1)
	w.noticeSettled()
	answer, err := w.lists.ErasePerson(t.Context(), &localv1.ErasePersonRequest{Parent: paris, Address: "Zoe@example.org"})
	w.must(err)
	if len(answer.GetOfficers()) != 1 || answer.GetOfficers()[0] != first.GetName() {
		t.Errorf("erased: %v", answer)
	}
	token := w.key.Token("zoe@example.org")
	for _, text := range []string{"zoe@", "Quux", "quux-subject"} {
		if tables := w.holds(text); len(tables) > 0 {
			t.Errorf("%v still hold %q", tables, text)
		}
	}
	var left int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM mails WHERE token = $1", token[:]).Scan(&left))
	if told := w.toldOfficers(); left != 0 || len(told.GetOfficers()) != 1 {
		t.Errorf("%d mails are left, and the event says %v", left, told)
	}
}
