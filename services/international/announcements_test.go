package international

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// newsroom is a world with announcements in it.
type newsroom struct {
	*world
	staff internationalv1.AnnouncementServiceClient
}

func setupNewsroom(t *testing.T) *newsroom {
	t.Helper()
	t.Parallel()
	w := setup(t)
	return &newsroom{world: w, staff: internationalv1.NewAnnouncementServiceClient(w.dial(authz.InternationalStaff, ""))}
}

func (n *newsroom) draft(change ...func(*internationalv1.Announcement)) *internationalv1.Announcement {
	n.t.Helper()
	a := &internationalv1.Announcement{Subject: "News", Body: "*All* is well."}
	for _, one := range change {
		one(a)
	}
	made, err := n.staff.CreateAnnouncement(n.t.Context(), &internationalv1.CreateAnnouncementRequest{Announcement: a})
	n.must(err)
	return made
}

func (n *newsroom) get(name string) *internationalv1.Announcement {
	n.t.Helper()
	a, err := n.staff.GetAnnouncement(n.t.Context(), &internationalv1.GetAnnouncementRequest{Name: name})
	n.must(err)
	return a
}

func (n *newsroom) publish(name string) *internationalv1.Announcement {
	n.t.Helper()
	a, err := n.staff.PublishAnnouncement(n.t.Context(), &internationalv1.PublishAnnouncementRequest{Name: name})
	n.must(err)
	return a
}

// told are the events of an announcement, in order.
func (n *newsroom) told(name string) []*eventv1.AnnouncementChanged {
	n.t.Helper()
	rows, err := n.pool.Query(n.t.Context(), "SELECT data FROM outbox WHERE aggregate = $1 ORDER BY epoch, number", name)
	n.must(err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*eventv1.AnnouncementChanged, error) {
		var data []byte
		if err := row.Scan(&data); err != nil {
			return nil, err
		}
		said := &eventv1.AnnouncementChanged{}
		return said, proto.Unmarshal(data, said)
	})
	n.must(err)
	return all
}

// regions lets the service hear of regions: "europe world" is europe below world.
func (n *newsroom) regions(pairs ...string) {
	n.t.Helper()
	for _, pair := range append([]string{"world"}, pairs...) {
		id, parent, _ := strings.Cut(pair, " ")
		region := &eventv1.RegionChanged{Region: "regions/" + id, DisplayName: "The " + id}
		if parent != "" {
			region.ParentRegion = "regions/" + parent
		}
		n.inTx(func(tx pgx.Tx) error { return regionTopic().Apply(n.t.Context(), tx, []bus.Event{{Data: region}}) })
	}
}

// relay lets the service hear of a relay.
func (n *newsroom) relay(relay *eventv1.RelayChanged) {
	n.t.Helper()
	n.inTx(func(tx pgx.Tx) error { return relayTopic().Apply(n.t.Context(), tx, []bus.Event{{Data: relay}}) })
}

func TestDraftIsWrittenAndPublished(t *testing.T) {
	n := setupNewsroom(t)
	n.regions("europe world")
	a := n.draft(func(a *internationalv1.Announcement) {
		a.Translations = []*internationalv1.Translation{{Language: "de", Subject: "Neues", Body: "Alles gut."}}
		a.Links = []*internationalv1.Link{{Title: "Map", Url: "https://example.org/map"}}
		a.Audience = &internationalv1.Audience{
			Regions: []string{"regions/europe"}, Languages: []string{"de"},
			CharterStates: []internationalv1.Charter_State{internationalv1.Charter_CHARTERED},
		}
		a.RelayDeadline = durationpb.New(time.Hour)
	})
	if a.GetState() != internationalv1.Announcement_DRAFT || a.GetLanguage() != "en" || a.GetPriority() != internationalv1.Announcement_NORMAL || a.GetEdition() != 0 {
		t.Errorf("drafted: %v", a)
	}
	changed, err := n.staff.UpdateAnnouncement(t.Context(), &internationalv1.UpdateAnnouncementRequest{
		Announcement: &internationalv1.Announcement{Name: a.GetName(), Subject: "Good news", Etag: a.GetEtag()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"subject"}},
	})
	n.must(err)
	if changed.GetSubject() != "Good news" || !proto.Equal(changed.GetAudience(), a.GetAudience()) || len(changed.GetTranslations()) != 1 {
		t.Errorf("changed: %v", changed)
	}
	if told := n.told(a.GetName()); len(told) > 0 {
		t.Fatalf("a draft was told: %v", told)
	}
	_, err = n.staff.PublishAnnouncement(t.Context(), &internationalv1.PublishAnnouncementRequest{Name: a.GetName(), Etag: a.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	if out := n.publish(a.GetName()); out.GetState() != internationalv1.Announcement_PUBLISHED || out.GetEdition() != 1 ||
		!out.GetPublishTime().AsTime().Equal(noon) || !out.GetRelayDeadlineTime().AsTime().Equal(noon.Add(time.Hour)) {
		t.Errorf("published: %v", out)
	}
	told := n.told(a.GetName())
	want := &eventv1.AnnouncementChanged{
		Announcement: a.GetName(), Edition: 1, Language: "en", Subject: "Good news", Body: "*All* is well.",
		Translations:    []*eventv1.AnnouncementText{{Language: "de", Subject: "Neues", Body: "Alles gut."}},
		Links:           []*eventv1.AnnouncementLink{{Title: "Map", Url: "https://example.org/map"}},
		AudienceRegions: []string{"regions/europe"}, AudienceCharterStates: []string{"CHARTERED"}, AudienceLanguages: []string{"de"},
		PublishTime: timestamppb.New(noon), RelayDeadlineTime: timestamppb.New(noon.Add(time.Hour)), UpdateTime: timestamppb.New(noon),
	}
	if len(told) != 1 || !proto.Equal(told[0], want) {
		t.Errorf("told %v, want %v", told, want)
	}
	_, err = n.staff.UpdateAnnouncement(t.Context(), &internationalv1.UpdateAnnouncementRequest{Announcement: &internationalv1.Announcement{Name: a.GetName(), Subject: "Bad news"}})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
	_, err = n.staff.PublishAnnouncement(t.Context(), &internationalv1.PublishAnnouncementRequest{Name: a.GetName()})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
}

func TestScheduledIsPublishedWhenDue(t *testing.T) {
	n := setupNewsroom(t)
	a := n.draft()
	at := timestamppb.New(noon.Add(time.Hour))
	out, err := n.staff.PublishAnnouncement(t.Context(), &internationalv1.PublishAnnouncementRequest{Name: a.GetName(), PublishTime: at})
	n.must(err)
	if out.GetState() != internationalv1.Announcement_SCHEDULED || !proto.Equal(out.GetPublishTime(), at) || out.GetEdition() != 0 {
		t.Errorf("scheduled: %v", out)
	}
	dropped := n.draft()
	_, err = n.staff.PublishAnnouncement(t.Context(), &internationalv1.PublishAnnouncementRequest{Name: dropped.GetName(), PublishTime: at})
	n.must(err)
	_, err = n.staff.RecallAnnouncement(t.Context(), &internationalv1.RecallAnnouncementRequest{Name: dropped.GetName(), Reason: "not now"})
	n.must(err)

	n.due(59*time.Minute, 0)
	if told := n.told(a.GetName()); len(told) > 0 {
		t.Fatalf("told too early: %v", told)
	}
	n.due(time.Minute, 1)
	n.due(time.Minute, 0)
	if got := n.get(a.GetName()); got.GetState() != internationalv1.Announcement_PUBLISHED || !proto.Equal(got.GetPublishTime(), at) ||
		!got.GetRelayDeadlineTime().AsTime().Equal(at.AsTime().Add(7*24*time.Hour)) {
		t.Errorf("published: %v", got)
	}
	if told := n.told(a.GetName()); len(told) != 1 || told[0].GetEdition() != 1 {
		t.Errorf("told: %v", told)
	}
	if told := n.told(dropped.GetName()); len(told) > 0 {
		t.Errorf("told of what was never published: %v", told)
	}
}

// due moves the clock and publishes what is due then.
func (n *newsroom) due(wait time.Duration, want int) {
	n.t.Helper()
	n.clock.Advance(wait)
	got, err := n.service.publishDue(n.t.Context())
	n.must(err)
	if got != want {
		n.t.Errorf("%d were due, want %d", got, want)
	}
}

func TestCorrectionIsANewEdition(t *testing.T) {
	n := setupNewsroom(t)
	a := n.draft(func(a *internationalv1.Announcement) {
		a.Translations = []*internationalv1.Translation{{Language: "de", Subject: "Neues", Body: "Alles gut."}}
		a.Audience = &internationalv1.Audience{Languages: []string{"de"}}
	})
	_, err := n.staff.CorrectAnnouncement(t.Context(), &internationalv1.CorrectAnnouncementRequest{Name: a.GetName(), Body: "Better."})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
	n.publish(a.GetName())
	n.clock.Advance(time.Hour)
	corrected, err := n.staff.CorrectAnnouncement(t.Context(), &internationalv1.CorrectAnnouncementRequest{Name: a.GetName(), Body: "Better."})
	n.must(err)
	if corrected.GetEdition() != 2 || corrected.GetSubject() != "News" || corrected.GetBody() != "Better." || len(corrected.GetTranslations()) > 0 ||
		!slices.Equal(corrected.GetAudience().GetLanguages(), []string{"de"}) || !corrected.GetPublishTime().AsTime().Equal(noon) {
		t.Errorf("corrected: %v", corrected)
	}
	recalled, err := n.staff.RecallAnnouncement(t.Context(), &internationalv1.RecallAnnouncementRequest{Name: a.GetName(), Reason: "wrong"})
	n.must(err)
	if recalled.GetState() != internationalv1.Announcement_RECALLED || recalled.GetRecallReason() != "wrong" {
		t.Errorf("recalled: %v", recalled)
	}
	told := n.told(a.GetName())
	if len(told) != 3 || told[1].GetEdition() != 2 || told[1].GetBody() != "Better." || told[1].GetRecalled() ||
		!told[2].GetRecalled() || told[2].GetRecallReason() != "wrong" || told[2].GetEdition() != 2 {
		t.Errorf("told: %v", told)
	}
	var editions int
	n.must(n.pool.QueryRow(t.Context(), "SELECT count(*) FROM announcement_editions").Scan(&editions))
	if editions != 2 {
		t.Errorf("%d editions are kept", editions)
	}
	_, err = n.staff.CorrectAnnouncement(t.Context(), &internationalv1.CorrectAnnouncementRequest{Name: a.GetName(), Body: "Late."})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
	_, err = n.staff.RecallAnnouncement(t.Context(), &internationalv1.RecallAnnouncementRequest{Name: a.GetName(), Reason: "again"})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
}

func TestAnnouncementsThatAreRefused(t *testing.T) {
	n := setupNewsroom(t)
	n.regions()
	german := &internationalv1.Translation{Language: "de", Subject: "a", Body: "b"}
	var long []*internationalv1.Translation
	for i := range 20 {
		long = append(long, &internationalv1.Translation{Language: fmt.Sprintf("en-x%d", i), Subject: "a", Body: strings.Repeat("b", 60000)})
	}
	for name, one := range map[string]struct {
		a    *internationalv1.Announcement
		want errorv1.Reason
	}{
		"NoSubject":      {&internationalv1.Announcement{Body: "b"}, errorv1.Reason_REASON_INVALID_FIELD},
		"TwoLineSubject": {&internationalv1.Announcement{Subject: "a\r\nBcc: x", Body: "b"}, errorv1.Reason_REASON_INVALID_FIELD},
		"PlainLink":      {&internationalv1.Announcement{Subject: "a", Body: "b", Links: []*internationalv1.Link{{Title: "x", Url: "http://example.org"}}}, errorv1.Reason_REASON_INVALID_FIELD},
		"TwoGermanTexts": {&internationalv1.Announcement{Subject: "a", Body: "b", Translations: []*internationalv1.Translation{german, german}}, errorv1.Reason_REASON_INVALID_FIELD},
		"TooLong":        {&internationalv1.Announcement{Subject: "a", Body: "b", Translations: long}, errorv1.Reason_REASON_TOO_LARGE},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := n.staff.CreateAnnouncement(t.Context(), &internationalv1.CreateAnnouncementRequest{Announcement: one.a})
			refuses(t, err, one.want)
		})
	}
	a := n.draft(func(a *internationalv1.Announcement) {
		a.Audience = &internationalv1.Audience{Regions: []string{"regions/atlantis"}}
	})
	_, err := n.staff.PublishAnnouncement(t.Context(), &internationalv1.PublishAnnouncementRequest{Name: a.GetName()})
	refuses(t, err, errorv1.Reason_REASON_AUDIENCE_UNKNOWN)
	id := strings.TrimPrefix(a.GetName(), "announcements/")
	_, err = n.staff.CreateAnnouncement(t.Context(), &internationalv1.CreateAnnouncementRequest{AnnouncementId: id, Announcement: &internationalv1.Announcement{Subject: "a", Body: "b"}})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	_, err = n.staff.GetAnnouncementReach(t.Context(), &internationalv1.GetAnnouncementReachRequest{Name: "announcements/00000000-0000-7000-8000-000000000000/reach"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestWhoSeesAnnouncements(t *testing.T) {
	n := setupNewsroom(t)
	draft, out := n.draft(), n.draft()
	n.publish(out.GetName())
	for _, one := range []struct {
		role          authz.Role
		scope         string
		list          int
		drafts, write bool
		reach         bool
	}{
		{authz.InternationalStaff, "", 2, true, true, true},
		{authz.Auditor, "", 2, true, false, true},
		{authz.Coordinator, "regions/europe", 1, false, false, false},
		{authz.ChapterAdmin, "chapters/golang-paris", 1, false, false, false},
		{authz.Member, "members/ada", -1, false, false, false},
	} {
		t.Run(string(one.role), func(t *testing.T) {
			who := internationalv1.NewAnnouncementServiceClient(n.dial(one.role, one.scope))
			allowed := func(what string, err error, want bool, otherwise errorv1.Reason) {
				t.Helper()
				if want && err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if !want {
					refuses(t, err, otherwise)
				}
			}
			listed, err := who.ListAnnouncements(t.Context(), &internationalv1.ListAnnouncementsRequest{})
			allowed("list", err, one.list >= 0, errorv1.Reason_REASON_PERMISSION_DENIED)
			if one.list >= 0 && len(listed.GetAnnouncements()) != one.list {
				t.Errorf("listed: %v", listed)
			}
			hidden := errorv1.Reason_REASON_NOT_FOUND
			if one.list < 0 {
				hidden = errorv1.Reason_REASON_PERMISSION_DENIED
			}
			_, err = who.GetAnnouncement(t.Context(), &internationalv1.GetAnnouncementRequest{Name: draft.GetName()})
			allowed("read the draft", err, one.drafts, hidden)
			_, err = who.GetAnnouncement(t.Context(), &internationalv1.GetAnnouncementRequest{Name: out.GetName()})
			allowed("read", err, one.list >= 0, errorv1.Reason_REASON_PERMISSION_DENIED)
			_, err = who.GetAnnouncementReach(t.Context(), &internationalv1.GetAnnouncementReachRequest{Name: out.GetName() + "/reach"})
			allowed("reach", err, one.reach, errorv1.Reason_REASON_PERMISSION_DENIED)
			_, err = who.PreviewAnnouncement(t.Context(), &internationalv1.PreviewAnnouncementRequest{Name: draft.GetName()})
			allowed("preview", err, one.reach, errorv1.Reason_REASON_PERMISSION_DENIED)
			_, err = who.CreateAnnouncement(t.Context(), &internationalv1.CreateAnnouncementRequest{Announcement: &internationalv1.Announcement{Subject: "a", Body: "b"}})
			allowed("write", err, one.write, errorv1.Reason_REASON_PERMISSION_DENIED)
			if one.write {
				n.must(n.forget())
			}
		})
	}
}

// forget deletes the drafts that a test wrote on the way.
func (n *newsroom) forget() error {
	_, err := n.pool.Exec(n.t.Context(), "DELETE FROM announcements WHERE subject = 'a'")
	return err
}

func TestListAnnouncementsPagesAndFilters(t *testing.T) {
	n := setupNewsroom(t)
	var want []string
	for i := range 5 {
		a := n.draft()
		if i%2 == 0 {
			n.publish(a.GetName())
		}
		want = append([]string{a.GetName()}, want...)
	}
	var got []string
	for token := ""; ; {
		page, err := n.staff.ListAnnouncements(t.Context(), &internationalv1.ListAnnouncementsRequest{PageSize: 2, PageToken: token})
		n.must(err)
		for _, a := range page.GetAnnouncements() {
			got = append(got, a.GetName())
			if a.GetSubject() != "News" || a.GetBody() != "" {
				t.Errorf("listed: %v", a)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	out, err := n.staff.ListAnnouncements(t.Context(), &internationalv1.ListAnnouncementsRequest{State: internationalv1.Announcement_PUBLISHED})
	n.must(err)
	if len(out.GetAnnouncements()) != 3 {
		t.Errorf("published: %v", out)
	}
}

func TestPreviewShowsAudienceAndLook(t *testing.T) {
	n := setupNewsroom(t)
	n.regions("europe world", "france europe", "asia world")
	for id, region := range map[string]string{"brussels": "europe", "paris": "france", "lyon": "france", "tokyo": "asia"} {
		n.inTx(func(tx pgx.Tx) error {
			return n.service.chapterTopic(n.service.sites[0].no).Apply(t.Context(), tx, []bus.Event{{Data: &eventv1.ChapterChanged{
				Chapter: "chapters/" + id, Region: "regions/" + region, DisplayName: id, LanguageCode: map[string]string{"paris": "fr-FR", "lyon": "fr"}[id],
			}}})
		})
	}
	n.must(n.list("paris", "members", []string{"a@example.org", "b@example.org"}, nil))
	n.must(n.list("paris", "news", []string{"a@example.org", "b@example.org", "c@example.org"}, nil))
	n.must(n.list("lyon", "members", []string{"d@example.org"}, nil))

	preview := func(audience *internationalv1.Audience) *internationalv1.AnnouncementPreview {
		t.Helper()
		a := n.draft(func(a *internationalv1.Announcement) {
			a.Audience = audience
			a.Body = "*All* is <b>well</b>: [x](javascript:alert(1))"
			a.Translations = []*internationalv1.Translation{{Language: "de", Subject: "Neues", Body: "# Alles\ngut"}}
		})
		got, err := n.staff.PreviewAnnouncement(t.Context(), &internationalv1.PreviewAnnouncementRequest{Name: a.GetName()})
		n.must(err)
		return got
	}
	for name, one := range map[string]struct {
		audience                  *internationalv1.Audience
		regions, chapters, people int32
	}{
		"Everybody": {nil, 4, 4, 4},
		"France":    {&internationalv1.Audience{Regions: []string{"regions/france"}}, 3, 2, 4},
		"Europe":    {&internationalv1.Audience{Regions: []string{"regions/europe"}}, 3, 3, 4},
		"French":    {&internationalv1.Audience{Languages: []string{"FR"}}, 4, 2, 4},
		"Canadians": {&internationalv1.Audience{Languages: []string{"fr-CA"}}, 4, 0, 0},
		"Chartered": {&internationalv1.Audience{CharterStates: []internationalv1.Charter_State{internationalv1.Charter_CHARTERED}}, 4, 0, 0},
		"Nowhere":   {&internationalv1.Audience{Regions: []string{"regions/atlantis"}}, 0, 0, 0},
	} {
		got := preview(one.audience)
		if got.GetRegions() != one.regions || got.GetChapters() != one.chapters || got.GetPeopleEstimate() != one.people || len(got.GetByRegion()) != int(one.regions) {
			t.Errorf("%s: %v", name, got)
		}
	}
	texts := preview(nil).GetTexts()
	if len(texts) != 2 || texts[0].GetHtml() != "<p><em>All</em> is well: x</p>\n" ||
		texts[0].GetText() != "All is well: x" || texts[1].GetHtml() != "<h1>Alles</h1>\n<p>gut</p>\n" || texts[1].GetSubject() != "Neues" {
		t.Errorf("texts: %v", texts)
	}
}

func TestReachIsTheTreeOfRelays(t *testing.T) {
	n := setupNewsroom(t)
	n.regions("europe world", "france europe")
	a := n.draft()
	n.publish(a.GetName())
	id := strings.TrimPrefix(a.GetName(), "announcements/")
	relay := func(region, parent, state string, mailed int32) *eventv1.RelayChanged {
		event := &eventv1.RelayChanged{
			Relay: "regions/" + region + "/relays/" + id, Announcement: a.GetName(), State: state,
			ArriveTime: timestamppb.New(noon), Reach: &eventv1.Reach{ChaptersReached: 1, PeopleMailed: mailed, PeopleUncertain: 1},
		}
		if parent != "" {
			event.ParentRelay = "regions/" + parent + "/relays/" + id
		}
		return event
	}
	// The lower ones come first.
	n.relay(relay("france", "europe", "WAITING", 0))
	declined := relay("asia", "world", "DECLINED", 0)
	declined.DeclineReason = "not for us"
	n.relay(declined)
	n.relay(relay("europe", "world", "FORWARDED", 7))
	n.relay(relay("world", "", "FORWARDED", 2))
	n.relay(relay("france", "europe", "FORWARDED", 5))
	own := relay("france", "", "FORWARDED", 100)
	own.Announcement = "regions/france/announcements/" + id
	n.relay(own)

	reach, err := n.staff.GetAnnouncementReach(t.Context(), &internationalv1.GetAnnouncementReachRequest{Name: a.GetName() + "/reach"})
	n.must(err)
	if reach.GetTotal().GetPeopleMailed() != 14 || reach.GetTotal().GetChaptersReached() != 4 || reach.GetEdition() != 1 ||
		reach.GetRelays().GetForwarded() != 3 || reach.GetRelays().GetDeclined() != 1 || len(reach.GetRegions()) != 1 {
		t.Fatalf("reach: %v", reach)
	}
	world := reach.GetRegions()[0]
	if world.GetRegion() != "regions/world" || !proto.Equal(world.GetTotal(), reach.GetTotal()) || len(world.GetChildren()) != 2 {
		t.Fatalf("world: %v", world)
	}
	asia, europe := world.GetChildren()[0], world.GetChildren()[1]
	if asia.GetDeclineReason() != "not for us" || asia.GetState() != internationalv1.RegionReach_DECLINED || asia.GetDisplayName() != "" {
		t.Errorf("asia: %v", asia)
	}
	if europe.GetDisplayName() != "The europe" || europe.GetReach().GetPeopleMailed() != 7 || europe.GetTotal().GetPeopleMailed() != 12 ||
		europe.GetChildren()[0].GetRegion() != "regions/france" || europe.GetTotal().GetPeopleUncertain() != 2 {
		t.Errorf("europe: %v", europe)
	}
}

func TestRestoreTellsOfWhatIsPublished(t *testing.T) {
	n := setupNewsroom(t)
	out, hidden := n.draft(), n.draft()
	n.publish(out.GetName())
	n.inTx(func(tx pgx.Tx) error { return n.service.beginEpoch(t.Context(), tx, noon.AddDate(1, 0, 0).UnixMicro()) })
	if told := n.told(out.GetName()); len(told) != 2 || told[1].GetEdition() != 1 {
		t.Errorf("told: %v", told)
	}
	if told := n.told(hidden.GetName()); len(told) > 0 {
		t.Errorf("told of a draft: %v", told)
	}
	n.inTx(func(tx pgx.Tx) error {
		versions, err := announcementVersions(t.Context(), tx, "", 10)
		if len(versions) != 1 || versions[0].Aggregate != out.GetName() {
			t.Errorf("versions: %v", versions)
		}
		_, found, none := announcementSnapshot(t.Context(), tx, hidden.GetName(), func(proto.Message) error { return nil })
		if found || none != nil {
			t.Errorf("a draft's snapshot: %v, %v", found, none)
		}
		return err
	})
}
