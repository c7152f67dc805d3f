package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// above are the tiers above the site, as far as it hears of them.
type above struct {
	*world

	international, regional func(bus.Event)
	versions                map[string]int64
}

func (w *world) above() *above {
	return &above{world: w, international: w.tell(bus.International), regional: w.tell(bus.Regional), versions: map[string]int64{}}
}

// next is the version of the next event of an aggregate.
func (a *above) next(aggregate string) bus.Version {
	a.versions[aggregate]++
	return bus.Version{Epoch: noon.UnixMicro(), Number: a.versions[aggregate]}
}

// announcement is one that starts at the international body.
func announcement(subject string) *eventv1.AnnouncementChanged {
	return &eventv1.AnnouncementChanged{
		Announcement: "announcements/" + uuid.Must(uuid.NewV7()).String(), Edition: 1, Language: "en", Subject: subject,
		Body: "Read **this** about " + subject + ".", PublishTime: timestamppb.New(noon),
	}
}

func idOf(given *eventv1.AnnouncementChanged) string {
	return given.GetAnnouncement()[strings.LastIndexByte(given.GetAnnouncement(), '/')+1:]
}

func (a *above) publish(given *eventv1.AnnouncementChanged) {
	a.t.Helper()
	tell, subject := a.international, "announcement."+idOf(given)+".changed"
	if strings.HasPrefix(given.GetAnnouncement(), "regions/") {
		tell, subject = a.regional, "announcement."+element(given.GetAnnouncement(), 1)+"."+idOf(given)+".changed"
	}
	tell(bus.Event{Subject: subject, Aggregate: given.GetAnnouncement(), Version: a.next(given.GetAnnouncement()), Data: proto.Clone(given)})
}

// relay is what a region has forwarded.
func relay(given *eventv1.AnnouncementChanged, region string) *eventv1.RelayChanged {
	return &eventv1.RelayChanged{
		Relay: regionName(region) + "/relays/" + idOf(given), Announcement: given.GetAnnouncement(), State: relayForwarded,
		Edition: given.GetEdition(), ForwardTime: timestamppb.New(noon),
	}
}

func (a *above) forward(given *eventv1.RelayChanged) {
	a.t.Helper()
	subject := "relay." + element(given.GetRelay(), 1) + "." + element(given.GetRelay(), 3) + ".changed"
	a.regional(bus.Event{Subject: subject, Aggregate: given.GetRelay(), Version: a.next(given.GetRelay()), Data: proto.Clone(given)})
}

func (a *above) charter(chapter, state string) {
	a.t.Helper()
	name := "charters/" + chapter
	a.international(bus.Event{Subject: "charter." + chapter + ".changed", Aggregate: name, Version: a.next(name), Data: &eventv1.CharterChanged{
		Charter: name, State: state, UpdateTime: timestamppb.New(noon),
	}})
}

// settled waits until all that was told has been taken in.
func (a *above) settled() {
	a.t.Helper()
	for aggregate, number := range a.versions {
		a.reaches(aggregate, number)
	}
}

func (a *above) reaches(aggregate string, number int64) {
	a.t.Helper()
	testkit.Eventually(a.t, patience, func() (bool, string) {
		var reached int64
		err := a.pool.QueryRow(a.t.Context(), "SELECT coalesce(max(number), 0) FROM positions WHERE aggregate = $1", aggregate).Scan(&reached)
		return reached == number, fmt.Sprintf("%s is at %d of %d (%v)", aggregate, reached, number, err)
	})
}

// has says which of the chapters have an announcement in their inboxes, and that none has it twice.
func (w *world) has(given *eventv1.AnnouncementChanged) []string {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "SELECT chapter_id FROM inbox_items WHERE announcement_id = $1 ORDER BY 1", idOf(given))
	w.must(err)
	defer rows.Close()
	var chapters []string
	for rows.Next() { //nolint:forbidigo // a list of texts
		var id string
		w.must(rows.Scan(&id))
		chapters = append(chapters, id)
	}
	w.must(rows.Err())
	return chapters
}

func (w *world) item(name string) *localv1.InboxItem {
	w.t.Helper()
	item, err := w.inbox.GetInboxItem(w.t.Context(), &localv1.GetInboxItemRequest{Name: name})
	w.must(err)
	return item
}

// arrives waits until an announcement lies in golang-paris's inbox.
func (w *world) arrives(given *eventv1.AnnouncementChanged) string {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		return slices.Contains(w.has(given), "golang-paris"), "it has not arrived"
	})
	return paris + "/inbox/" + idOf(given)
}

func (w *world) send(item string, lists ...string) *localv1.InboxItem {
	w.t.Helper()
	answer, err := w.inbox.SendInboxItem(w.t.Context(), &localv1.SendInboxItemRequest{Name: item, Lists: lists})
	w.must(err)
	return answer
}

func (w *world) mode(list string, mode localv1.List_AnnouncementMode) {
	w.t.Helper()
	_, err := w.lists.UpdateList(w.t.Context(), &localv1.UpdateListRequest{List: &localv1.List{Name: list, AnnouncementMode: mode}})
	w.must(err)
}

// mailed waits until all mailings of an item are done.
func (w *world) mailed(name string) *localv1.InboxItem {
	w.t.Helper()
	var item *localv1.InboxItem
	testkit.Eventually(w.t, patience, func() (bool, string) {
		item = w.item(name)
		done := len(item.GetMailings()) > 0
		for _, mailing := range item.GetMailings() {
			done = done && mailing.GetState() >= localv1.Mailing_DONE
		}
		return done, fmt.Sprint(item.GetMailings())
	})
	return item
}

func TestAnnouncementArrivesOnce(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"body first", "relay first"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.chapter("golang-lyon")
			a := w.above()
			news := announcement("news")
			if order == "body first" {
				a.publish(news)
				a.settled()
				a.forward(relay(news, "world"))
			} else {
				a.forward(relay(news, "world"))
				a.settled()
				a.publish(news)
			}
			name := w.arrives(news)
			// Told again, with new versions: by another path, and with nothing but counts that moved.
			again := relay(news, "world")
			again.Reach = &eventv1.Reach{ChaptersReached: 2}
			a.forward(again)
			again.Note = "Seen again."
			a.forward(again)
			a.publish(news)
			a.settled()
			if got := w.has(news); !slices.Equal(got, []string{"golang-lyon", "golang-paris"}) {
				t.Errorf("%v have it", got)
			}
			item := w.item(name)
			if item.GetSubject() != "news" || item.GetState() != localv1.InboxItem_ARRIVED || item.GetCorrected() ||
				!strings.Contains(item.GetBodyHtml(), "<strong>this</strong>") || item.GetNotes()[0].GetText() != "Seen again." {
				t.Errorf("the item is %v", item)
			}
		})
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.regional.set(func() {
		w.regional.regions["regions/europe"], w.regional.regions["regions/asia"] = "regions/world", "regions/world"
	})
	for id, chapter := range map[string]*localv1.Chapter{
		"berlin": {Region: "regions/europe", LanguageCode: "de-AT"}, "madrid": {Region: "regions/europe", LanguageCode: "es"},
		"tokyo": {Region: "regions/asia", LanguageCode: "ja"},
	} {
		chapter.DisplayName = id
		_, err := w.chapters.CreateChapter(t.Context(), &localv1.CreateChapterRequest{ChapterId: id, Chapter: chapter})
		w.must(err)
	}
	a := w.above()
	a.charter("madrid", "CHARTERED")
	a.settled()
	for _, test := range []struct {
		name   string
		narrow func(*eventv1.AnnouncementChanged, *eventv1.RelayChanged)
		want   []string
	}{
		{"Everybody", func(*eventv1.AnnouncementChanged, *eventv1.RelayChanged) {}, []string{"berlin", "madrid"}},
		{"Language", func(a *eventv1.AnnouncementChanged, _ *eventv1.RelayChanged) {
			a.AudienceLanguages = []string{"DE", "fr"}
		}, []string{"berlin"}},
		{"Charter", func(a *eventv1.AnnouncementChanged, _ *eventv1.RelayChanged) {
			a.AudienceCharterStates = []string{"CHARTERED"}
		}, []string{"madrid"}},
		{"RegionAbove", func(a *eventv1.AnnouncementChanged, _ *eventv1.RelayChanged) {
			a.AudienceRegions = []string{"regions/world"}
		}, []string{"berlin", "madrid"}},
		{"OnlyOnTheWay", func(a *eventv1.AnnouncementChanged, r *eventv1.RelayChanged) {
			a.AudienceRegions, r.ChaptersChosen = []string{"regions/asia"}, true
		}, nil},
		{"ChosenChapters", func(_ *eventv1.AnnouncementChanged, r *eventv1.RelayChanged) {
			r.ChaptersChosen, r.Chapters = true, []string{"chapters/berlin"}
		}, []string{"berlin"}},
		{"NoChapter", func(_ *eventv1.AnnouncementChanged, r *eventv1.RelayChanged) { r.ChaptersChosen = true }, nil},
		{"NotForwarded", func(_ *eventv1.AnnouncementChanged, r *eventv1.RelayChanged) { r.State = "HELD" }, nil},
	} {
		given := announcement(test.name)
		forwarded := relay(given, "europe")
		test.narrow(given, forwarded)
		a.publish(given)
		a.forward(forwarded)
		a.settled()
		if got := w.has(given); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v have it, want %v", test.name, got, test.want)
		}
	}
	// A charter of which is told here after the relay that was for the chartered.
	late := announcement("late")
	late.AudienceCharterStates = []string{"CHARTERED"}
	a.publish(late)
	a.forward(relay(late, "europe"))
	a.settled()
	a.charter("berlin", "CHARTERED")
	a.settled()
	if got := w.has(late); !slices.Equal(got, []string{"berlin", "madrid"}) {
		t.Errorf("%v have it", got)
	}
}

func TestOnePersonOneMail(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("golang-lyon")
	lyon := localv1.NewListServiceClient(w.as(authz.ChapterAdmin, "chapters/golang-lyon"))
	other := w.createList("other")
	w.sync(replace("crm", people(0, 30)).applied())
	w.sync(replace("crm", people(20, 30)).to(other).applied())
	_, err := lyon.CreateEntry(t.Context(), &localv1.CreateEntryRequest{
		Parent: "chapters/golang-lyon/lists/members", Entry: &localv1.Entry{Address: person(3)},
	})
	w.must(err)
	a := w.above()
	for _, list := range []string{members, other} {
		w.mode(list, localv1.List_AUTO)
	}
	_, err = lyon.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{
		Name: "chapters/golang-lyon/lists/members", AnnouncementMode: localv1.List_AUTO,
	}})
	w.must(err)
	news := announcement("news")
	a.publish(news)
	a.forward(relay(news, "world"))
	name := w.arrives(news)
	messages := w.mails(50)
	to := map[string]int{}
	for _, message := range messages {
		to[message.To[0]]++
	}
	for address, copies := range to {
		if copies != 1 {
			t.Errorf("%s got %d", address, copies)
		}
	}
	item := w.mailed(name)
	people := item.GetCounts()
	lyons, err := localv1.NewInboxServiceClient(w.as(authz.ChapterAdmin, "chapters/golang-lyon")).GetInboxItem(t.Context(),
		&localv1.GetInboxItemRequest{Name: "chapters/golang-lyon/inbox/" + idOf(news)})
	w.must(err)
	if n := people.GetMailed() + lyons.GetCounts().GetMailed(); n != 50 || item.GetState() != localv1.InboxItem_SENT || people.GetQueued() != 0 {
		t.Errorf("%d were mailed: %v and %v", n, item, lyons)
	}
	w.countsAreTrue()
}

// countsAreTrue compares the counts of all mailings with their mails.
func (w *world) countsAreTrue() {
	w.t.Helper()
	var wrong int
	w.must(w.pool.QueryRow(w.t.Context(), `
		SELECT count(*) FROM mailings g LEFT JOIN LATERAL (
			SELECT count(*) FILTER (WHERE state = 'QUEUED' AND EXISTS (SELECT FROM mail_queue q WHERE q.mail_no = m.mail_no)) AS queued, count(*) FILTER (WHERE state = 'SENT') AS sent,
			       count(*) FILTER (WHERE state = 'FAILED' AND bounced) AS bounced, count(*) FILTER (WHERE state = 'FAILED' AND NOT bounced) AS failed,
			       count(*) FILTER (WHERE state = 'UNCERTAIN') AS uncertain, count(*) FILTER (WHERE left_by_it) AS unsubscribed
			FROM mails m WHERE m.mailing_no = g.mailing_no) c ON true
		WHERE (g.queued, g.sent, g.bounced, g.failed, g.uncertain, g.unsubscribed) <> (c.queued, c.sent, c.bounced, c.failed, c.uncertain, c.unsubscribed)
	`).Scan(&wrong))
	if wrong != 0 {
		w.t.Errorf("%d mailings count otherwise than their mails", wrong)
	}
}

func TestNeverIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.above()
	w.mode(members, localv1.List_NEVER)
	news := announcement("news")
	a.publish(news)
	a.forward(relay(news, "world"))
	name := w.arrives(news)
	_, err := w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: name, Lists: []string{members}})
	refuses(t, err, errorv1.Reason_REASON_LIST_TAKES_NO_ANNOUNCEMENTS)
	_, err = w.inbox.SendInboxItem(t.Context(), &localv1.SendInboxItemRequest{Name: name, Lists: []string{"chapters/golang-lyon/lists/members"}})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
}
