package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func (w *world) concerns(role authz.Role, scope string) localv1.ConcernServiceClient {
	w.t.Helper()
	return localv1.NewConcernServiceClient(w.as(role, scope))
}

func (w *world) raise(client localv1.ConcernServiceClient, chapter, subject string) *localv1.Concern {
	w.t.Helper()
	raised, err := client.CreateConcern(w.t.Context(), &localv1.CreateConcernRequest{
		Parent: chapter, Concern: &localv1.Concern{Subject: subject, Body: "Line one.\n\nLine two."},
	})
	w.must(err)
	return raised
}

// told are the events of concerns in the outbox.
func (w *world) told() []*eventv1.ConcernChanged {
	w.t.Helper()
	var all []*eventv1.ConcernChanged
	for _, event := range w.outbox() {
		if message, ok := event.Data.(*eventv1.ConcernChanged); ok {
			all = append(all, message)
		}
	}
	return all
}

// regionalTier is the regional service as far as it tells of cases.
type regionalTier struct {
	w         *world
	publisher *bus.Publisher
	send      func(*eventv1.CaseChanged, int64)
}

func (w *world) regionalTier() *regionalTier {
	w.t.Helper()
	pool := testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations})
	r := &regionalTier{w: w, publisher: bus.NewPublisher(bus.PublisherConfig{
		Pool: pool, NATS: w.connect(bus.Regional), Tier: bus.Regional, Site: bus.MainSite, Log: w.log(),
	})}
	w.background(r.publisher.Run)
	r.send = func(c *eventv1.CaseChanged, number int64) {
		w.t.Helper()
		_, err := postgres.InTx(w.t.Context(), pool, func(tx pgx.Tx) (struct{}, error) {
			parts := strings.Split(c.GetCase(), "/")
			return struct{}{}, bus.Append(w.t.Context(), tx, bus.Event{
				Subject: "case." + parts[1] + "." + parts[3] + ".changed", Aggregate: c.GetCase(),
				Version: bus.Version{Epoch: 1, Number: number}, Data: c,
			})
		})
		w.must(err)
		r.publisher.Wake()
	}
	return r
}

// caseOf is what the region says first of a concern.
func caseOf(c *localv1.Concern, change ...func(*eventv1.CaseChanged)) *eventv1.CaseChanged {
	message := &eventv1.CaseChanged{
		Case: c.GetCase(), Concern: c.GetName(), Subject: c.GetSubject(), State: "OPEN", LiesWith: c.GetRegion(), LiesState: "OPEN",
		DueTime: timestamppb.New(noon.Add(14 * 24 * time.Hour)), RaiserCount: 1, CreateTime: timestamppb.New(noon), UpdateTime: timestamppb.New(noon),
	}
	for _, one := range change {
		one(message)
	}
	return message
}

func answeredBy(by string, bodies ...string) func(*eventv1.CaseChanged) {
	return func(c *eventv1.CaseChanged) {
		for _, body := range bodies {
			c.Answers = append(c.Answers, &eventv1.ConcernAnswer{
				Id: uuid.NewSHA1(uuid.Nil, []byte(body)).String(), By: by, Body: body,
				CreateTime: timestamppb.New(noon.Add(time.Duration(len(c.GetAnswers())) * time.Hour)),
			})
		}
	}
}

func lies(with, state string) func(*eventv1.CaseChanged) {
	return func(c *eventv1.CaseChanged) { c.LiesWith, c.LiesState = with, state }
}

// awaitConcern waits until a concern is as wanted: "STATE with whom it lies: answers".
func (w *world) awaitConcern(client localv1.ConcernServiceClient, name, want string) *localv1.Concern {
	w.t.Helper()
	var got *localv1.Concern
	testkit.Eventually(w.t, patience, func() (bool, string) {
		var err error
		got, err = client.GetConcern(w.t.Context(), &localv1.GetConcernRequest{Name: name})
		w.must(err)
		var answers []string
		for _, answer := range got.GetAnswers() {
			answers = append(answers, answer.GetBy()+" "+answer.GetBody())
		}
		text := fmt.Sprintf("%s %s: %s", got.GetState(), got.GetLiesWith(), strings.Join(answers, ", "))
		return text == want, text + ", want " + want
	})
	return got
}

func TestConcernIsToldOfWithoutItsRaiser(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.concerns(authz.ChapterAdmin, paris)
	raised := w.raise(admin, paris, "No rooms")
	if raised.GetState() != localv1.Concern_SENT || raised.GetRegion() != "regions/world" || raised.GetCase() == "" || raised.GetEtag() == "" {
		t.Errorf("raised %v", raised)
	}
	told := w.told()
	if len(told) != 1 || told[0].GetConcern() != raised.GetName() || told[0].GetRegion() != "regions/world" || told[0].GetSubject() != "No rooms" {
		t.Fatalf("told of %v", told)
	}
	if text := told[0].String(); strings.Contains(text, string(authz.ChapterAdmin)) {
		t.Errorf("the event says who raised it: %s", text)
	}
	_, err := admin.CreateConcern(t.Context(), &localv1.CreateConcernRequest{Parent: paris, Concern: &localv1.Concern{Subject: "a\x00b"}})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = w.concerns(authz.ChapterAdmin, "chapters/nowhere").CreateConcern(t.Context(), &localv1.CreateConcernRequest{
		Parent: "chapters/nowhere", Concern: &localv1.Concern{Subject: "Hello"},
	})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestWhoRaisesAndReadsConcerns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin, ada, bob := w.concerns(authz.ChapterAdmin, paris), w.concerns(authz.Member, "members/ada"), w.concerns(authz.Member, "members/bob")
	byAdmin, byAda := w.raise(admin, paris, "The chapter's"), w.raise(ada, paris, "A member's")
	for name, test := range map[string]struct {
		client  localv1.ConcernServiceClient
		sees    []string
		refused bool
	}{
		"the chapter's admin":          {client: admin, sees: []string{byAda.GetName(), byAdmin.GetName()}},
		"the member who raised one":    {client: ada, sees: []string{byAda.GetName()}},
		"another member":               {client: bob},
		"staff":                        {client: w.concerns(authz.InternationalStaff, authz.Federation), sees: []string{byAda.GetName(), byAdmin.GetName()}},
		"the region's coordinator":     {client: w.concerns(authz.Coordinator, "regions/world"), sees: []string{byAda.GetName(), byAdmin.GetName()}},
		"another region's coordinator": {client: w.concerns(authz.Coordinator, "regions/europe"), refused: true},
		"another chapter's admin":      {client: w.concerns(authz.ChapterAdmin, "chapters/golang-lyon"), refused: true},
		"a site":                       {client: w.concerns(authz.Site, "sites/main"), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := test.client.ListConcerns(t.Context(), &localv1.ListConcernsRequest{Parent: paris})
			if test.refused {
				refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
				_, err = test.client.GetConcern(t.Context(), &localv1.GetConcernRequest{Name: byAda.GetName()})
				refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
				_, err = test.client.CreateConcern(t.Context(), &localv1.CreateConcernRequest{Parent: paris, Concern: &localv1.Concern{Subject: "Hello"}})
				refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
				return
			}
			w.must(err)
			var sees []string
			for _, one := range list.GetConcerns() {
				sees = append(sees, one.GetName())
			}
			if !slices.Equal(sees, test.sees) {
				t.Errorf("sees %v, want %v", sees, test.sees)
			}
			for _, one := range []*localv1.Concern{byAdmin, byAda} {
				_, err := test.client.GetConcern(t.Context(), &localv1.GetConcernRequest{Name: one.GetName()})
				if slices.Contains(test.sees, one.GetName()) {
					w.must(err)
				} else {
					refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
				}
			}
		})
	}
	_, err := bob.WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: byAda.GetName()})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = w.concerns(authz.Coordinator, "regions/world").WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: byAda.GetName()})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
}

func TestRaiserSeesWhereItLies(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin, region := w.concerns(authz.ChapterAdmin, paris), w.regionalTier()
	raised := w.raise(admin, paris, "No rooms")
	region.send(caseOf(raised), 1)
	before := w.awaitConcern(admin, raised.GetName(), "OPEN regions/world: ")
	if !before.GetDueTime().AsTime().Equal(noon.Add(14 * 24 * time.Hour)) {
		t.Errorf("an answer is due %v", before.GetDueTime().AsTime())
	}
	// Versions that come twice, late or never: each answer is there once.
	first := answeredBy("regions/world", "We ask.")
	vendor := caseOf(raised, first, answeredBy("international", "They have some."), lies("vendor", "HANDED_TO_VENDOR"), func(c *eventv1.CaseChanged) {
		c.State, c.VendorNote, c.DueTime = "ESCALATED", "Please.", nil
	})
	region.send(vendor, 4)
	region.send(caseOf(raised, first, lies("regions/world", "ANSWERED")), 2)
	region.send(vendor, 5)
	after := w.awaitConcern(admin, raised.GetName(), "HANDED_TO_VENDOR vendor: regions/world We ask., international They have some.")
	if after.GetVendorNote() != "Please." || after.GetDueTime() != nil || after.GetEtag() == before.GetEtag() {
		t.Errorf("with the vendor it is %v", after)
	}
	// An event holds the newest answers alone; what was heard stays.
	region.send(caseOf(raised, answeredBy("regions/world", "And more."), lies("international", "CLOSED")), 6)
	testkit.Eventually(t, patience, func() (bool, string) {
		got, err := admin.GetConcern(t.Context(), &localv1.GetConcernRequest{Name: raised.GetName()})
		w.must(err)
		return got.GetState() == localv1.Concern_CLOSED && len(got.GetAnswers()) == 3, got.String()
	})
	_, err := admin.WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: raised.GetName()})
	refuses(t, err, errorv1.Reason_REASON_CONCERN_STATE)
}

func TestWithdrawnConcern(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.concerns(authz.ChapterAdmin, paris)
	raised := w.raise(admin, paris, "No rooms")
	_, err := admin.WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: raised.GetName(), Etag: "1-1"})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	for range 2 {
		got, err := admin.WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: raised.GetName()})
		w.must(err)
		if got.GetState() != localv1.Concern_WITHDRAWN {
			t.Errorf("withdrawn it is %v", got)
		}
	}
	if told := w.told(); len(told) != 2 || !told[1].GetWithdrawn() {
		t.Errorf("told of %v", told)
	}
}

func TestJoinedConcern(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("golang-lyon")
	const lyonName = "chapters/golang-lyon"
	admin, lyon, region := w.concerns(authz.ChapterAdmin, paris), w.concerns(authz.ChapterAdmin, lyonName), w.regionalTier()
	raised, err := admin.CreateConcern(t.Context(), &localv1.CreateConcernRequest{Parent: paris, Concern: &localv1.Concern{Subject: "No rooms", Shared: true}})
	w.must(err)
	share := func(c *eventv1.CaseChanged) { c.Shared, c.Body = true, "None." }
	region.send(caseOf(raised, share), 1)
	private := w.raise(admin, paris, "Ours")
	region.send(caseOf(private), 1)
	elsewhere := &localv1.Concern{Case: "regions/asia/concerns/" + uuid.NewString(), Subject: "Theirs", Region: "regions/asia"}
	region.send(caseOf(elsewhere, share), 1)
	w.awaitConcern(admin, private.GetName(), "OPEN regions/world: ")

	joinable := func(client localv1.ConcernServiceClient, parent string) string {
		list, err := client.ListJoinableConcerns(t.Context(), &localv1.ListJoinableConcernsRequest{Parent: parent})
		w.must(err)
		var names []string
		for _, one := range list.GetConcerns() {
			names = append(names, one.GetSubject()+" "+one.GetBody())
		}
		return strings.Join(names, ", ")
	}
	testkit.Eventually(t, patience, func() (bool, string) {
		got := joinable(lyon, lyonName)
		return got == "No rooms None.", got
	})
	if got := joinable(admin, paris); got != "" {
		t.Errorf("who raised it could join it: %s", got)
	}
	join := func(client localv1.ConcernServiceClient, parent, name string) (*localv1.Concern, error) {
		return client.JoinConcern(t.Context(), &localv1.JoinConcernRequest{Parent: parent, Concern: name})
	}
	joined, err := join(lyon, lyonName, raised.GetCase())
	w.must(err)
	if joined.GetSubject() != "No rooms" || joined.GetJoins() != raised.GetCase() || joined.GetCase() == raised.GetCase() {
		t.Errorf("joined %v", joined)
	}
	if told := w.told(); told[len(told)-1].GetJoins() != raised.GetCase() {
		t.Errorf("told of %v", told[len(told)-1])
	}
	for name, want := range map[string]errorv1.Reason{
		private.GetCase(): errorv1.Reason_REASON_NOT_FOUND, elsewhere.GetCase(): errorv1.Reason_REASON_NOT_FOUND,
		raised.GetCase(): errorv1.Reason_REASON_ALREADY_EXISTS,
	} {
		_, err := join(lyon, lyonName, name)
		refuses(t, err, want)
	}
	_, err = join(admin, paris, raised.GetCase())
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	if got := joinable(lyon, lyonName); got != "" {
		t.Errorf("what was joined can be joined again: %s", got)
	}
	// Having left it, the chapter can join it again.
	_, err = lyon.WithdrawConcern(t.Context(), &localv1.WithdrawConcernRequest{Name: joined.GetName()})
	w.must(err)
	_, err = join(lyon, lyonName, raised.GetCase())
	w.must(err)
}

func TestConcernsAreListedInPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.concerns(authz.ChapterAdmin, paris)
	for i := range 5 {
		w.raise(admin, paris, fmt.Sprint(i))
		if i%2 == 0 { // some at the same time
			w.clock.Advance(time.Second)
		}
	}
	seen := map[string]bool{}
	req := &localv1.ListConcernsRequest{Parent: paris, PageSize: 2}
	last := "9"
	for {
		page, err := admin.ListConcerns(t.Context(), req)
		w.must(err)
		for _, one := range page.GetConcerns() {
			if seen[one.GetSubject()] || one.GetSubject() > last {
				t.Errorf("%s comes after %s", one.GetSubject(), last)
			}
			seen[one.GetSubject()], last = true, one.GetSubject()
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("listed %v", seen)
	}
}

func TestRestoredDatabaseTellsOfConcernsAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	raised := w.raise(w.concerns(authz.ChapterAdmin, paris), paris, "No rooms")
	w.inTx(func(tx pgx.Tx) {
		w.must(w.service.beginEpoch(t.Context(), tx, noon.UnixMicro()+7))
		rows, err := concernVersions(t.Context(), tx, "", 10)
		w.must(err)
		if len(rows) != 1 || rows[0].Aggregate != raised.GetName() || rows[0].Version.Epoch != noon.UnixMicro()+7 {
			t.Errorf("the versions are %v", rows)
		}
		version, found, err := concernSnapshot(t.Context(), tx, raised.GetName(), func(m proto.Message) error {
			if !proto.Equal(m, w.told()[0]) {
				t.Errorf("the snapshot is %v", m)
			}
			return nil
		})
		if err != nil || !found || version != rows[0].Version {
			t.Errorf("the snapshot is at %v, %t, %v", version, found, err)
		}
	})
	if told := w.told(); len(told) != 2 {
		t.Errorf("told of %v", told)
	}
}
