package international

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// noon is when every test's clock starts.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// world is an international service behind a real server on a real database. Lists reach it through the topics that its
// consumers run; what the bus does in between has tests of its own.
type world struct {
	t       testing.TB
	clock   *clock.Fake
	service *Service
	pool    *pgxpool.Pool
	site    address.SiteKey
	members internationalv1.MemberServiceClient
	stands  internationalv1.StandingServiceClient
	charter internationalv1.CharterServiceClient
	bodies  internationalv1.OrganizationServiceClient
	ledger  internationalv1.ErasureServiceClient
	imports internationalv1.MemberImportServiceClient
	links   internationalv1.MemberLinkServiceClient
	sink    *mailsink.Sink
	dialAs  func(authz.Principal) *grpc.ClientConn
	epoch   atomic.Int64
}

func setup(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	return setupOn(t, testkit.Pool(t, Migrations()...), change...)
}

func setupOn(t testing.TB, pool *pgxpool.Pool, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(noon), pool: pool}
	master := address.NewMasterKey()
	w.site = master.SiteKey("main")
	config := Config{PublicURL: "https://members.example.org"}
	for _, one := range change {
		one(&config)
	}
	var err error
	w.service, err = New(t.Context(), Deps{
		Pool: w.pool, Clock: w.clock, Log: w.log(), MasterKey: master, Config: config, Mail: w.mailer(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.serve()
	staff := w.dial(authz.InternationalStaff, "")
	w.members = internationalv1.NewMemberServiceClient(staff)
	w.stands = internationalv1.NewStandingServiceClient(staff)
	w.charter = internationalv1.NewCharterServiceClient(staff)
	w.bodies = internationalv1.NewOrganizationServiceClient(staff)
	w.ledger = internationalv1.NewErasureServiceClient(staff)
	w.imports = internationalv1.NewMemberImportServiceClient(staff)
	w.links = internationalv1.NewMemberLinkServiceClient(w.dialAs(authz.Principal{Subject: "somebody"}))
	return w
}

// mailer hands mail to a sink; it goes out when a test calls mails.
func (w *world) mailer() *mail.Mailer {
	var err error
	w.sink, err = mailsink.Start(context.Background(), mailsink.Config{})
	w.must(err)
	mailer, err := mail.New(mail.Config{SMTP: "smtp+plain://" + w.sink.Addr(), From: "register@chapterhouse.example", Connections: 2}, w.clock)
	w.must(err)
	w.t.Cleanup(func() {
		mailer.Close(context.Background())
		_ = w.sink.Close()
	})
	return mailer
}

// mails sends what is due and returns everything that has gone out.
func (w *world) mails() []mailsink.Message {
	w.t.Helper()
	w.must(w.service.sendMails(w.t.Context()))
	return w.sink.Messages()
}

// linkTo returns the link in the newest mail to an address.
func (w *world) linkTo(address string) string {
	w.t.Helper()
	for _, message := range slices.Backward(w.mails()) {
		if !slices.Contains(message.To, address) {
			continue
		}
		_, rest, found := strings.Cut(message.Text, "https://members.example.org/m/")
		if !found {
			w.t.Fatalf("no link in %q", message.Text)
		}
		return "memberLinks/" + strings.Fields(rest)[0]
	}
	w.t.Fatalf("no mail to %s", address)
	return ""
}

func (w *world) serve() {
	dir := w.t.TempDir()
	w.must(authz.GenerateKey(dir))
	signer, err := authz.LoadSigner(filepath.Join(dir, authz.SigningKeyFile))
	w.must(err)
	verifier, err := authz.NewStaticVerifier(filepath.Join(dir, authz.JWKSFile), w.clock)
	w.must(err)
	server, err := rpc.NewServer(rpc.ServerConfig{
		Log: w.log(), Verifier: verifier, Hierarchy: w.service,
		Undeclared: func(method string, reason errorv1.Reason) {
			w.t.Errorf("%s gave %s, which its proto does not declare", method, reason)
		},
	}, func(r *grpc.Server) { w.service.Register(r) })
	w.must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	w.t.Cleanup(func() {
		stop()
		w.must(<-done)
	})
	w.dialAs = func(principal authz.Principal) *grpc.ClientConn {
		conn, err := rpc.Dial(listener.Addr().String(), rpc.MintedToken(signer, principal, w.clock), rpc.WithPlaintext())
		w.must(err)
		w.t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// log shows faults beside the test that they fail.
func (w *world) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// dial connects as somebody who holds one role.
func (w *world) dial(role authz.Role, scope string) *grpc.ClientConn {
	return w.dialAs(authz.Principal{Subject: fmt.Sprintf("%s %s", role, scope), Grants: []authz.Grant{{Role: role, Scope: scope}}})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// chapter lets the service hear of a chapter.
func (w *world) chapter(id string) {
	w.t.Helper()
	w.inTx(func(tx pgx.Tx) error {
		return w.service.chapterTopic(w.service.sites[0].no).Apply(w.t.Context(), tx, []bus.Event{{
			Data: &eventv1.ChapterChanged{Chapter: "chapters/" + id, Region: "regions/world", DisplayName: id},
		}})
	})
}

// list lets the service hear of a change of a list, and returns an error instead of ending the test: writers run it.
func (w *world) list(chapter, list string, added, removed []string) error {
	change := &eventv1.ListChanged{List: "chapters/" + chapter + "/lists/" + list, Kind: eventv1.ListKind_LIST_KIND_MAILING}
	if list == "members" {
		change.Kind = eventv1.ListKind_LIST_KIND_MEMBERSHIP
	}
	for _, one := range added {
		change.Added = append(change.Added, w.token(one))
	}
	for _, one := range removed {
		change.Removed = append(change.Removed, w.token(one))
	}
	event := bus.Event{Data: change, Version: bus.Version{Epoch: 1, Number: w.epoch.Add(1)}}
	_, err := postgres.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, w.service.listTopic(w.service.sites[0].no).Apply(w.t.Context(), tx, []bus.Event{event})
	})
	return err
}

func (w *world) token(address string) []byte {
	token := w.site.Token(address)
	return token[:]
}

func (w *world) inTx(fn func(pgx.Tx) error) {
	w.t.Helper()
	_, err := postgres.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) (struct{}, error) { return struct{}{}, fn(tx) })
	w.must(err)
}

// member enters a member with verified addresses and a term of a year.
func (w *world) member(id string, addresses ...string) *internationalv1.Member {
	w.t.Helper()
	member := &internationalv1.Member{DisplayName: id, TermEndTime: timestamppb.New(w.clock.Now().AddDate(1, 0, 0))}
	for _, one := range addresses {
		member.Addresses = append(member.Addresses, &internationalv1.Address{Address: one, Verified: true})
	}
	made, err := w.members.CreateMember(w.t.Context(), &internationalv1.CreateMemberRequest{MemberId: id, Member: member})
	w.must(err)
	return made
}

func (w *world) standing(chapter string) *internationalv1.Standing {
	w.t.Helper()
	standing, err := w.stands.GetStanding(w.t.Context(), &internationalv1.GetStandingRequest{Name: "chapters/" + chapter + "/standing"})
	w.must(err)
	return standing
}

// figures asserts a chapter's counters, and that a recount finds the same.
func (w *world) figures(chapter string, membership, mailing people) {
	w.t.Helper()
	s := w.standing(chapter)
	got := [2]people{{s.GetMembership().GetTotal(), s.GetMembership().GetInternational()}, {s.GetMailing().GetTotal(), s.GetMailing().GetInternational()}}
	if want := [2]people{membership, mailing}; got != want {
		w.t.Fatalf("the standing of %s is %v, want %v", chapter, got, want)
	}
	w.audit()
}

func (w *world) audit() {
	w.t.Helper()
	audit, err := w.stands.AuditStandings(w.t.Context(), &internationalv1.AuditStandingsRequest{})
	w.must(err)
	if audit.GetDifferenceCount() > 0 {
		w.t.Fatalf("the recount finds %d differences: %v", audit.GetDifferenceCount(), audit.GetDifferences())
	}
}

// refuses asserts that a call was refused with the reason.
func refuses(t testing.TB, err error, reason errorv1.Reason) {
	t.Helper()
	if !rpc.Is(err, reason) {
		t.Fatalf("got %v, want %s", err, reason)
	}
}
