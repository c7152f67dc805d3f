package platformtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// TestNoticesArriveByMail follows notices from the international body into the mailboxes of an officer and of a coordinator,
// over a restart of everything, after which nobody gets any of them again.
func TestNoticesArriveByMail(t *testing.T) {
	t.Parallel()
	sink := get(mailsink.Start(t.Context(), mailsink.Config{}))(t)
	t.Cleanup(func() { _ = sink.Close() })
	dir := get(postgres.TempDir())(t)
	t.Cleanup(func() { must(t, errors.Join(postgres.Remove(dir), os.RemoveAll(dir))) })
	options := platform.Options{Data: dir, HTTP: "127.0.0.1:0", Clock: clock.System{}}
	options.Local.Mail = mail.Config{SMTP: "smtp+plain://" + sink.Addr(), From: "Chapterhouse <mail@chapterhouse.example>"}
	options.International.NoticeSettle, options.International.NoticeEvery = time.Second, time.Second
	start := func() (f *federation, stop func()) {
		running := get(platform.Start(bounded(t, 2*patience), options))(t)
		stopped := false
		stop = func() {
			if stopped {
				return
			}
			stopped = true
			must(t, running.Stop(bounded(t, 20*time.Second)))
		}
		t.Cleanup(stop)
		return newFederation(t, running.Keys, options.Clock, running.Endpoints.REST, running.Endpoints.GRPC), stop
	}
	f, stop := start()
	ctx := bounded(t, 10*patience)
	f.found(t, "golang-paris")
	_, err := localv1.NewOfficerServiceClient(f.conns[bus.Local]).CreateOfficer(f.admin(ctx, t, "golang-paris"), &localv1.CreateOfficerRequest{
		Parent: "chapters/golang-paris", Officer: &localv1.Officer{DisplayName: "Ada", Role: localv1.Officer_PRESIDENT, MailAddress: "ada@example.org"},
	})
	must(t, err)
	_, err = regionalv1.NewCoordinatorServiceClient(f.conns[bus.Regional]).CreateCoordinator(f.staff(ctx, t), &regionalv1.CreateCoordinatorRequest{
		Parent: "regions/world", Coordinator: &regionalv1.Coordinator{
			DisplayName: "Cleo", Subject: "cleo", Role: regionalv1.Coordinator_COORDINATOR, MailAddress: "cleo@example.org",
		},
	})
	must(t, err)
	_, err = f.charters.CreateCharter(f.admin(ctx, t, "golang-paris"), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/golang-paris"}})
	must(t, err)
	wantMails(t, sink, map[string][]string{
		"ada@example.org": {"golang-paris has applied for a charter"}, "cleo@example.org": {"golang-paris has applied for a charter"},
	})

	_, err = f.members.CreateMember(f.staff(ctx, t), &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{
		DisplayName: "Ada", TermEndTime: timestamppb.New(time.Now().AddDate(1, 0, 0)),
		Addresses: []*internationalv1.Address{{Address: "ada@example.org", Verified: true}},
	}})
	must(t, err)
	_, err = f.lists.CreateEntry(f.admin(ctx, t, "golang-paris"), &localv1.CreateEntryRequest{
		Parent: "chapters/golang-paris/lists/members", Entry: &localv1.Entry{Address: "ada@example.org"},
	})
	must(t, err)
	told := []string{"golang-paris has applied for a charter", "golang-paris is eligible"}
	wantMails(t, sink, map[string][]string{"ada@example.org": told, "cleo@example.org": told})

	stop()
	f, _ = start()
	_, err = f.charters.WithdrawCharter(f.admin(ctx, t, "golang-paris"), &internationalv1.WithdrawCharterRequest{Name: "charters/golang-paris"})
	must(t, err)
	told = append(told, "The application of golang-paris was withdrawn")
	wantMails(t, sink, map[string][]string{"ada@example.org": told, "cleo@example.org": told})
}

// wantMails waits until people have had mails of these subjects, in any order, and asserts that they had no others.
func wantMails(t *testing.T, sink *mailsink.Sink, want map[string][]string) {
	t.Helper()
	n := 0
	for _, subjects := range want {
		n += len(subjects)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	messages, err := sink.Wait(ctx, func(all []mailsink.Message) bool { return len(all) >= n })
	got := map[string][]string{}
	for _, message := range messages {
		got[message.To[0]] = append(got[message.To[0]], message.Header("Subject"))
	}
	for who, subjects := range want {
		slices.Sort(got[who])
		slices.Sort(subjects)
		if err != nil || !slices.Equal(got[who], subjects) || len(messages) != n {
			t.Fatalf("%s got %s, want %s (%v)", who, strings.Join(got[who], "; "), fmt.Sprint(subjects), err)
		}
	}
}
