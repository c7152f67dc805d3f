package platformtest

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

var french = role{authz.Coordinator, "regions/france-$x"}

// readers are two chapters in two regions, with who acts for the upper one, lists, and people on them.
var readers = []step{
	{
		does: "ARegion", as: staff,
		grpc: `regional.v1.RegionService/CreateRegion {"regionId":"europe-$x","region":{"displayName":"Europe","parentRegion":"regions/world"}}`,
		rest: `POST /v1/regions?regionId=europe-$x {"displayName":"Europe","parentRegion":"regions/world"}`,
	},
	{
		does: "AndOneBelow", as: staff,
		grpc: `regional.v1.RegionService/CreateRegion {"regionId":"france-$x","region":{"displayName":"France","parentRegion":"regions/europe-$x"}}`,
		rest: `POST /v1/regions?regionId=france-$x {"displayName":"France","parentRegion":"regions/europe-$x"}`,
	},
	{
		does: "SomebodyActs", as: staff,
		grpc: `regional.v1.CoordinatorService/CreateCoordinator {"parent":"regions/europe-$x","coordinator":{"subject":"inez-$x","displayName":"Inez $secret","role":"COORDINATOR"}}`,
		rest: `POST /v1/regions/europe-$x/coordinators {"subject":"inez-$x","displayName":"Inez $secret","role":"COORDINATOR"}`,
		keep: map[string]string{"inez": "name"},
	},
	{
		does: "AChapterBelow", as: staff,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"golang-$x","chapter":{"displayName":"Golang","region":"regions/france-$x"}}`,
		rest: `POST /v1/chapters?chapterId=golang-$x {"displayName":"Golang","region":"regions/france-$x"}`,
	},
	{
		does: "AndOneAbove", as: staff,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"rust-$x","chapter":{"displayName":"Rust","region":"regions/europe-$x"}}`,
		rest: `POST /v1/chapters?chapterId=rust-$x {"displayName":"Rust","region":"regions/europe-$x"}`,
	},
	{
		does: "AListThatTakesAllByItself", as: admin,
		grpc: `local.v1.ListService/CreateList {"parent":"chapters/golang-$x","listId":"announce","list":{"displayName":"Announcements","announcementMode":"AUTO"}}`,
		rest: `POST /v1/chapters/golang-$x/lists?listId=announce {"displayName":"Announcements","announcementMode":"AUTO"}`,
		want: `{"announcementMode":"AUTO"}`,
	},
	{
		does: "AndOneThatIsAskedFor", as: admin,
		grpc: `local.v1.ListService/CreateList {"parent":"chapters/golang-$x","listId":"friends","list":{"displayName":"Friends","replyTo":"orga@example.org"}}`,
		rest: `POST /v1/chapters/golang-$x/lists?listId=friends {"displayName":"Friends","replyTo":"orga@example.org"}`,
		want: `{"announcementMode":"ASK"}`,
	},
	{
		does: "PeopleOnTheFirst", as: admin, media: "text/csv", source: "email\nada.$x@$d\nbob.$x@$d\nmoved.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"REPLACE","source":"crm","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=REPLACE&source=crm&apply=true`,
		want: `{"state":"APPLIED","counts":{"add":3}}`,
	},
	{
		does: "OneOfThemOnTheSecondToo", as: admin, media: "text/csv", source: "email\nbob.$x@$d\ncleo.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/friends","mode":"REPLACE","source":"crm","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/friends/syncs?mode=REPLACE&source=crm&apply=true`,
		want: `{"state":"APPLIED","counts":{"add":2}}`,
	},
}

// sendingOut takes an announcement down to the list that gets it by itself. $u is its UUID.
var sendingOut = []step{
	{
		does: "StaffWrite", as: staff,
		grpc: `international.v1.AnnouncementService/CreateAnnouncement {"announcementId":"$u","announcement":{"subject":"News","body":"All is *well*.","audience":{"regions":["regions/europe-$x"]}}}`,
		rest: `POST /v1/announcements?announcementId=$u {"subject":"News","body":"All is *well*.","audience":{"regions":["regions/europe-$x"]}}`,
	},
	{
		does: "AndPublish", as: staff, within: patience,
		grpc: `international.v1.AnnouncementService/PublishAnnouncement {"name":"announcements/$u"}`,
		rest: `POST /v1/announcements/$u:publish {}`,
		want: `{"state":"PUBLISHED"}`,
		keep: map[string]string{"published": "publishTime"},
	},
	{
		does: "TheReachSaysWithWhomItWaits", as: auditor, within: patience,
		grpc: `international.v1.AnnouncementService/GetAnnouncementReach {"name":"announcements/$u/reach"}`,
		rest: `GET /v1/announcements/$u/reach`,
		want: `{"relays":{"waiting":1,"held":0,"forwarded":1},"regions":[{"region":"regions/world","waitingWith":[],"children":[
			{"region":"regions/europe-$x","state":"WAITING","arriveTime":"*","actingRegion":"regions/europe-$x","waitingWith":["$inez"],"waitingSinceTime":"*","children":[]}]}]}`,
	},
	{
		does: "WhoIsAskedFor", as: staff,
		grpc: `regional.v1.CoordinatorService/GetCoordinator {"name":"$inez"}`,
		rest: `GET /v1/$inez`,
		want: `{"displayName":"Inez $secret"}`,
	},
	{
		does: "SheForwards", as: coordinator,
		grpc: `regional.v1.RelayService/ForwardRelay {"name":"regions/europe-$x/relays/$u","note":"Please read."}`,
		rest: `POST /v1/regions/europe-$x/relays/$u:forward {"note":"Please read."}`,
		want: `{"state":"FORWARDED","waitingWith":[]}`,
	},
	{
		does: "NobodyElseActsBelow", as: coordinator,
		grpc: `regional.v1.RelayService/GetRelayReach {"name":"regions/europe-$x/relays/$u/reach"}`,
		rest: `GET /v1/regions/europe-$x/relays/$u/reach`,
		want: `{"stop":{"region":"regions/europe-$x","state":"FORWARDED","children":[
			{"region":"regions/france-$x","state":"WAITING","actingRegion":"regions/europe-$x","waitingWith":["$inez"],"waitingSinceTime":"*"}]}}`,
	},
	{
		does: "ItsOwnCoordinatorForwardsAllTheSame", as: french,
		grpc: `regional.v1.RelayService/ForwardRelay {"name":"regions/france-$x/relays/$u"}`,
		rest: `POST /v1/regions/france-$x/relays/$u:forward {}`,
		want: `{"state":"FORWARDED"}`,
	},
	{
		does: "ItLiesInTheInboxOnce", as: admin, within: patience,
		grpc: `local.v1.InboxService/ListInboxItems {"parent":"chapters/golang-$x"}`,
		rest: `GET /v1/chapters/golang-$x/inbox`,
		want: `{"items":[{"name":"chapters/golang-$x/inbox/$u","region":"regions/france-$x","state":"SENT","subject":"News"}],"nextPageToken":""}`,
	},
}

// sendingOn mails it to the list that is asked for.
var sendingOn = []step{
	{
		does: "TheAdminSendsItToTheOtherList", as: admin,
		grpc: `local.v1.InboxService/SendInboxItem {"name":"chapters/golang-$x/inbox/$u","lists":["chapters/golang-$x/lists/friends"],"note":"For friends."}`,
		rest: `POST /v1/chapters/golang-$x/inbox/$u:send {"lists":["chapters/golang-$x/lists/friends"],"note":"For friends."}`,
		want: `{"state":"SENT","mailings":[{"automatic":true},{"automatic":false}]}`,
	},
	{
		does: "WhatWasSentIsNotDismissed", as: admin,
		grpc:  `local.v1.InboxService/DismissInboxItem {"name":"chapters/golang-$x/inbox/$u","reason":"not for us"}`,
		rest:  `POST /v1/chapters/golang-$x/inbox/$u:dismiss {"reason":"not for us"}`,
		fails: refused("INBOX_ITEM_STATE", codes.FailedPrecondition, 400, "state", "SENT"),
	},
	{
		does: "AnotherChapterPassesItBy", as: otherAdmin,
		grpc: `local.v1.InboxService/DismissInboxItem {"name":"chapters/rust-$x/inbox/$u","reason":"not for us"}`,
		rest: `POST /v1/chapters/rust-$x/inbox/$u:dismiss {"reason":"not for us"}`,
		want: `{"state":"DISMISSED"}`,
	},
}

// theWholeReach is what both tiers say at the end: of four people two were mailed and stay so, of whom one left; one mail
// was refused, and one came back.
var theWholeReach = []step{
	{
		does: "AMailComesBack", as: admin,
		grpc: `local.v1.InboxService/ReportBounce {"parent":"chapters/golang-$x","messageId":"$cleosMail","status":"5.1.1"}`,
		rest: `POST /v1/chapters/golang-$x:reportBounce {"messageId":"$cleosMail","status":"5.1.1"}`,
		want: `{"bounced":true}`,
	},
	{
		does: "TheInternationalBodySeesAll", as: staff, within: patience,
		grpc: `international.v1.AnnouncementService/GetAnnouncementReach {"name":"announcements/$u/reach"}`,
		rest: `GET /v1/announcements/$u/reach`,
		want: `{"edition":1,"relays":{"waiting":0,"held":0,"forwarded":3,"declined":0,"recalled":0},
			"total":{"chaptersReached":2,"chaptersSent":1,"chaptersDismissed":1,"peopleQueued":0,"peopleMailed":2,"peopleBounced":2,"peopleFailed":0,"peopleUncertain":0,"peopleUnsubscribed":1},
			"regions":[{"region":"regions/world","reach":{"chaptersReached":0,"peopleMailed":0},"children":[
				{"region":"regions/europe-$x","reach":{"chaptersReached":1,"chaptersSent":0,"chaptersDismissed":1,"peopleMailed":0},"total":{"chaptersReached":2,"peopleMailed":2},"children":[
					{"region":"regions/france-$x","reach":{"chaptersReached":1,"chaptersSent":1,"peopleMailed":2,"peopleBounced":2,"peopleUnsubscribed":1}}]}]}]}`,
	},
	{
		does: "AndSoDoesTheRegion", as: coordinator,
		grpc: `regional.v1.RelayService/GetRelayReach {"name":"regions/europe-$x/relays/$u/reach"}`,
		rest: `GET /v1/regions/europe-$x/relays/$u/reach`,
		want: `{"stop":{"total":{"chaptersReached":2,"chaptersSent":1,"chaptersDismissed":1,"peopleQueued":0,"peopleMailed":2,"peopleBounced":2,"peopleFailed":0,"peopleUncertain":0,"peopleUnsubscribed":1},
			"children":[{"region":"regions/france-$x","reach":{"peopleMailed":2,"peopleBounced":2,"peopleUnsubscribed":1}}]}}`,
	},
	{
		does: "WhoLeftIsGone", as: admin,
		grpc: `local.v1.ListService/ListEntries {"parent":"chapters/golang-$x/lists/announce","address":"ada.$x@$d"}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/entries?address=ada.$x@$d`,
		want: `{"entries":[{"state":"UNSUBSCRIBED"}]}`,
	},
}

// TestAnnouncementsReachPeople follows an announcement from the international body into mailboxes and back, at both doors.
func TestAnnouncementsReachPeople(t *testing.T) {
	t.Parallel()
	sink := get(mailsink.Start(t.Context(), mailsink.Config{}))(t)
	t.Cleanup(func() { _ = sink.Close() })
	address := freeAddress(t)
	o := onePlatform(t, func(options *platform.Options) {
		options.HTTP = address
		options.Local.PublicURL = "http://" + address
		options.Local.Mail = mail.Config{SMTP: "smtp+plain://" + sink.Addr(), From: "Chapterhouse <site@chapterhouse.example>"}
	})
	errs := &recorder{}
	for _, d := range o.doors(errs) {
		t.Run(d.name(), func(t *testing.T) {
			x := map[string]string{"GRPC": "mg", "REST": "mr"}[d.name()]
			vars := story(x)
			vars["u"] = uuid.NewSHA1(uuid.NameSpaceURL, []byte(x)).String()
			person := func(name string) string { return name + "." + x + "@" + secretDomain }
			sink.Reject(person("moved"), 550)
			play(t, d, slices.Concat(readers, sendingOut), vars)
			for _, name := range []string{"ada", "bob"} {
				wantMail(t, sink, person(name), "announce", x, "Please read.")
			}
			leave(t, mailTo(t, sink, person("ada")))
			play(t, d, sendingOn, vars)
			wantMail(t, sink, person("cleo"), "friends", x, "For friends.")
			vars["cleosMail"] = strings.Trim(mailTo(t, sink, person("cleo")).Header("Message-Id"), "<>")
			play(t, d, theWholeReach, vars)
			for _, name := range []string{"ada", "bob", "cleo"} {
				if n := countMails(sink, person(name)); n != 1 {
					t.Errorf("%s has %d mails", name, n)
				}
			}
		})
	}
	t.Run("KeepsSecrets", func(t *testing.T) {
		wantNoSecret(t, "the log", o.log.String())
		wantNoSecret(t, "errors", errs.String())
		wantNoSecretInStreams(t, o.streams(t))
	})
}

// mailTo waits for the mail to somebody.
func mailTo(t *testing.T, sink *mailsink.Sink, address string) mailsink.Message {
	t.Helper()
	var found mailsink.Message
	_, err := sink.Wait(bounded(t, patience), func(all []mailsink.Message) bool {
		at := slices.IndexFunc(all, func(m mailsink.Message) bool { return m.Reached(address) })
		if at >= 0 {
			found = all[at]
		}
		return at >= 0
	})
	must(t, err)
	return found
}

func countMails(sink *mailsink.Sink, address string) (n int) {
	for _, m := range sink.Messages() {
		if m.Reached(address) {
			n++
		}
	}
	return n
}

// wantMail wants the announcement as the subscribers of a list get it.
func wantMail(t *testing.T, sink *mailsink.Sink, address, list, x, note string) {
	t.Helper()
	m := mailTo(t, sink, address)
	if id := m.Header("List-Id"); !strings.Contains(id, "<"+list+".golang-"+x+".chapterhouse.example>") {
		t.Errorf("List-Id is %q", id)
	}
	if m.Header("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" || m.Subject != "News" {
		t.Errorf("%q, %q", m.Header("List-Unsubscribe-Post"), m.Subject)
	}
	if !strings.Contains(m.Text, note) || !strings.Contains(m.Text, "All is well.") || !strings.Contains(m.HTML, "<em>well</em>") {
		t.Errorf("the mail reads\n%s\n%s", m.Text, m.HTML)
	}
}

// leave does what a mail program does with the link of a mail (RFC 8058).
func leave(t *testing.T, m mailsink.Message) {
	t.Helper()
	link := strings.Trim(m.Header("List-Unsubscribe"), "<>")
	body := url.Values{"List-Unsubscribe": {"One-Click"}}.Encode()
	r := get(http.NewRequestWithContext(context.Background(), http.MethodPost, link, strings.NewReader(body)))(t)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, text := send(t, r); status != http.StatusOK {
		t.Fatalf("leaving by %s: %d %s", link, status, text)
	}
}
