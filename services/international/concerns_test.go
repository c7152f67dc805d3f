package international

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// desk is a world in which staff answer concerns.
type desk struct {
	*world

	staff internationalv1.EscalationServiceClient
}

func setupDesk(t *testing.T) *desk {
	t.Helper()
	w := setup(t)
	return &desk{w, internationalv1.NewEscalationServiceClient(w.dial(authz.InternationalStaff, ""))}
}

// escalated is a case that Europe hands to the international body.
func escalated(subject string, raisers ...string) *eventv1.CaseChanged {
	id := uuid.NewString()
	return &eventv1.CaseChanged{
		Case: "regions/europe/concerns/" + id, Subject: subject, State: "ESCALATED", EscalatedTo: "concerns/" + id, Summary: "It is bad.",
		RaiserCount: int32(len(raisers)), Raisers: raisers,
	}
}

// hear lets the service hear of a case.
func (d *desk) hear(c *eventv1.CaseChanged) {
	d.t.Helper()
	d.inTx(func(tx pgx.Tx) error {
		return d.service.caseTopic().Apply(d.t.Context(), tx, []bus.Event{{Data: c}})
	})
}

func (d *desk) get(name string) *internationalv1.Escalation {
	d.t.Helper()
	got, err := d.staff.GetEscalation(d.t.Context(), &internationalv1.GetEscalationRequest{Name: name})
	d.must(err)
	return got
}

// told are the events of a concern, in the order of their versions.
func (d *desk) told(name string) []*eventv1.EscalationChanged {
	d.t.Helper()
	rows, err := d.pool.Query(d.t.Context(), "SELECT number, data FROM outbox WHERE aggregate = $1 ORDER BY id", name)
	d.must(err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*eventv1.EscalationChanged, error) {
		var number int
		var data []byte
		if err := row.Scan(&number, &data); err != nil {
			return nil, err
		}
		message := &eventv1.EscalationChanged{}
		return message, proto.Unmarshal(data, message)
	})
	d.must(err)
	return all
}

func TestConcernIsAnsweredByStaff(t *testing.T) {
	d := setupDesk(t)
	c := escalated("No rooms", "chapters/golang-paris/concerns/1")
	d.hear(c)
	got := d.get(c.GetEscalatedTo())
	if got.GetState() != internationalv1.Escalation_OPEN || got.GetSummary() != "It is bad." || got.GetCase() != c.GetCase() ||
		!got.GetDueTime().AsTime().Equal(noon.Add(14*24*time.Hour)) || got.GetRaiserCount() != 1 {
		t.Errorf("the concern is %v", got)
	}
	d.clock.Advance(time.Hour)
	answered, err := d.staff.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: got.GetName(), Body: "Rent.", Etag: got.GetEtag()})
	d.must(err)
	if answered.GetState() != internationalv1.Escalation_ANSWERED || !answered.GetFirstAnswerTime().AsTime().Equal(noon.Add(time.Hour)) {
		t.Errorf("answered it is %v", answered)
	}
	_, err = d.staff.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: got.GetName(), Body: "Or buy.", Etag: got.GetEtag()})
	d.refuses(err, codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = d.staff.HandEscalationToVendor(t.Context(), &internationalv1.HandEscalationToVendorRequest{Name: got.GetName(), Note: "They have some."})
	d.must(err)
	closed, err := d.staff.CloseEscalation(t.Context(), &internationalv1.CloseEscalationRequest{Name: got.GetName(), Body: "Done."})
	d.must(err)
	if closed.GetState() != internationalv1.Escalation_CLOSED || len(closed.GetAnswers()) != 2 {
		t.Errorf("closed it is %v", closed)
	}
	_, err = d.staff.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: got.GetName(), Body: "Late."})
	d.refuses(err, codes.FailedPrecondition, errorv1.Reason_REASON_CONCERN_STATE)

	told := d.told(got.GetName())
	states := ""
	for _, event := range told {
		states += fmt.Sprintf("%s %d ", event.GetState(), len(event.GetAnswers()))
	}
	if want := "OPEN 0 ANSWERED 1 HANDED_TO_VENDOR 1 CLOSED 2 "; states != want {
		t.Errorf("told of %q, want %q", states, want)
	}
	if last := told[len(told)-1]; last.GetVendorNote() != "They have some." || last.GetAnswers()[0].GetBy() != "international" {
		t.Errorf("told at last of %v", last)
	}
}

func (d *desk) refuses(err error, code codes.Code, reason errorv1.Reason) {
	d.t.Helper()
	if status.Code(err) != code || rpc.ReasonOf(err) != reason {
		d.t.Errorf("got %v, want %v %v", err, code, reason)
	}
}

func TestConcernFollowsItsRaisers(t *testing.T) {
	d := setupDesk(t)
	c := escalated("No rooms", "chapters/a/concerns/1")
	d.hear(c)
	d.hear(c) // nothing new, and nothing to tell
	c.Raisers, c.RaiserCount = append(c.GetRaisers(), "chapters/b/concerns/2"), 2
	d.hear(c)
	if got := d.get(c.GetEscalatedTo()); got.GetRaiserCount() != 2 || len(got.GetRaisers()) != 2 {
		t.Errorf("raised by %v", got)
	}
	c.Raisers, c.RaiserCount, c.State = nil, 0, "WITHDRAWN"
	d.hear(c)
	d.hear(c)
	if got := d.get(c.GetEscalatedTo()); got.GetState() != internationalv1.Escalation_WITHDRAWN || got.GetRaiserCount() != 0 {
		t.Errorf("withdrawn it is %v", got)
	}
	if told := d.told(c.GetEscalatedTo()); len(told) != 3 {
		t.Errorf("told %d times", len(told))
	}
	// Escalated and withdrawn before this heard of it.
	late := escalated("Never mind")
	late.State = "WITHDRAWN"
	d.hear(late)
	if got := d.get(late.GetEscalatedTo()); got.GetState() != internationalv1.Escalation_WITHDRAWN {
		t.Errorf("it is %v", got)
	}
	// What lies in a region is not here.
	d.hear(&eventv1.CaseChanged{Case: "regions/france/concerns/" + uuid.NewString(), State: "OPEN"})
	list, err := d.staff.ListEscalations(t.Context(), &internationalv1.ListEscalationsRequest{})
	d.must(err)
	if len(list.GetConcerns()) != 2 {
		t.Errorf("%d concerns", len(list.GetConcerns()))
	}
}

func TestConcernsBecomeDue(t *testing.T) {
	d := setupDesk(t)
	first, second := escalated("First"), escalated("Second")
	d.hear(first)
	d.hear(second)
	_, err := d.staff.CloseEscalation(t.Context(), &internationalv1.CloseEscalationRequest{Name: second.GetEscalatedTo()})
	d.refuses(err, codes.FailedPrecondition, errorv1.Reason_REASON_CONCERN_NOT_ANSWERED)
	_, err = d.staff.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: second.GetEscalatedTo(), Body: "Yes."})
	d.must(err)
	overdue := func() int {
		list, err := d.staff.ListEscalations(t.Context(), &internationalv1.ListEscalationsRequest{Overdue: true})
		d.must(err)
		return len(list.GetConcerns())
	}
	d.clock.Advance(14*24*time.Hour - time.Second)
	d.must(d.service.remind(t.Context()))
	if n := overdue(); n != 0 {
		t.Errorf("%d are overdue before their time", n)
	}
	d.clock.Advance(time.Second)
	d.must(d.service.remind(t.Context()))
	d.must(d.service.remind(t.Context())) // once
	if n := overdue(); n != 1 {
		t.Errorf("%d are overdue", n)
	}
	if told := d.told(first.GetEscalatedTo()); len(told) != 2 || !told[1].GetOverdue() {
		t.Errorf("told of %v", told)
	}
	again := d.clock.Advance(7 * 24 * time.Hour)
	d.must(d.service.remind(t.Context()))
	if got := d.get(first.GetEscalatedTo()); !got.GetRemindedTime().AsTime().Equal(again) {
		t.Errorf("reminded at %v", got.GetRemindedTime().AsTime())
	}
}

func TestWhoAnswersConcerns(t *testing.T) {
	d := setupDesk(t)
	c := escalated("No rooms")
	d.hear(c)
	auditor := internationalv1.NewEscalationServiceClient(d.dial(authz.Auditor, ""))
	_, err := auditor.GetEscalation(t.Context(), &internationalv1.GetEscalationRequest{Name: c.GetEscalatedTo()})
	d.must(err)
	coordinator := internationalv1.NewEscalationServiceClient(d.dial(authz.Coordinator, "regions/world"))
	for _, client := range []internationalv1.EscalationServiceClient{auditor, coordinator} {
		_, err := client.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: c.GetEscalatedTo(), Body: "Yes."})
		d.refuses(err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	}
	_, err = coordinator.ListEscalations(t.Context(), &internationalv1.ListEscalationsRequest{})
	d.refuses(err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = d.staff.GetEscalation(t.Context(), &internationalv1.GetEscalationRequest{Name: "concerns/" + uuid.NewString()})
	d.refuses(err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
}

func TestRestoredDatabaseTellsOfConcernsAgain(t *testing.T) {
	d := setupDesk(t)
	c := escalated("No rooms")
	d.hear(c)
	_, err := d.staff.AnswerEscalation(t.Context(), &internationalv1.AnswerEscalationRequest{Name: c.GetEscalatedTo(), Body: "Yes."})
	d.must(err)
	d.inTx(func(tx pgx.Tx) error {
		if err := d.service.beginEpoch(t.Context(), tx, noon.UnixMicro()+7); err != nil {
			return err
		}
		rows, err := escalationVersions(t.Context(), tx, "", 10)
		d.must(err)
		if len(rows) != 1 || rows[0].Aggregate != c.GetEscalatedTo() || rows[0].Version.Epoch != noon.UnixMicro()+7 {
			t.Errorf("the versions are %v", rows)
		}
		var snapshot proto.Message
		version, found, err := escalationSnapshot(t.Context(), tx, c.GetEscalatedTo(), func(m proto.Message) error {
			snapshot = m
			return nil
		})
		if err != nil || !found || version != rows[0].Version || len(snapshot.(*eventv1.EscalationChanged).GetAnswers()) != 1 {
			t.Errorf("the snapshot is %v at %v, %t, %v", snapshot, version, found, err)
		}
		return nil
	})
	if told := d.told(c.GetEscalatedTo()); len(told) != 3 || len(told[2].GetAnswers()) != 1 {
		t.Errorf("told of %v", told)
	}
}
