package authz

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tree is a small federation: golang-paris lies in france, in europe, and belongs to the site "west".
type tree map[string][]string

var federation = tree{
	"regions/world":         nil,
	"regions/europe":        {World},
	"regions/france":        {"regions/europe", World},
	"regions/asia":          {World},
	"chapters/golang-paris": {"regions/france", "regions/europe", World, "sites/west"},
	"chapters/rust-tokyo":   {"regions/asia", World, "sites/east"},
}

func (t tree) Ancestors(_ context.Context, scope string) ([]string, error) {
	ancestors, ok := t[scope]
	if !ok {
		return nil, ErrUnknownScope
	}
	return ancestors, nil
}

func holding(role Role, scope string) Principal {
	return Principal{Subject: "ada", Grants: []Grant{{role, scope}}}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	staff, paris := holding(InternationalStaff, Federation), holding(ChapterAdmin, "chapters/golang-paris")
	europe, world := holding(Coordinator, "regions/europe"), holding(Coordinator, World)
	west, ada := holding(Site, "sites/west"), holding(Member, "members/ada")
	cases := []struct {
		name       string
		principal  Principal
		permission Permission
		resource   string
		want       bool
	}{
		{"NobodyMayNothing", Principal{}, "charters.read", "charters/golang-paris", false},
		{"StaffEverywhere", staff, "charters.approve", "charters/golang-paris", true},
		{"StaffWhereNothingIs", staff, "charters.approve", "charters/nowhere", true},
		{"StaffOnTheFederation", staff, "members.list", "", true},
		{"StaffNeverSeeEntries", staff, "entries.read", "chapters/golang-paris/lists/members", false},
		{"StaffNeverSeeSyncs", staff, "syncs.read", "chapters/golang-paris/lists/members/syncs/1", false},
		{"FederationSpelledAsStar", holding(Auditor, "*"), "members.list", "", true},
		{"FederationSpelledAsNothing", holding(Auditor, ""), "members.list", "", true},
		{"AuditorChangesNothing", holding(Auditor, Federation), "members.create", "", false},
		{"AdminOnTheChapter", paris, "chapters.update", "chapters/golang-paris", true},
		{"AdminOnItsLists", paris, "entries.write", "chapters/golang-paris/lists/members/entries/e1", true},
		{"AdminOnItsCharter", paris, "charters.apply", "charters/golang-paris", true},
		{"AdminOnItsStanding", paris, "standings.read", "chapters/golang-paris/standing", true},
		{"AdminNotOnAnother", paris, "entries.read", "chapters/rust-tokyo/lists/members", false},
		{"AdminNotOnALongerName", paris, "entries.read", "chapters/golang-paris-2/lists/members", false},
		{"AdminNotOnTheRegion", paris, "charters.read", "regions/france", false},
		{"AdminNotOnAll", paris, "charters.read", "", false},
		{"AdminNotWithAWildcard", paris, "entries.read", "chapters/-/lists/members", false},
		{"CoordinatorOnTheRegion", europe, "regions.update", "regions/europe", true},
		{"CoordinatorBelow", europe, "regions.update", "regions/france", true},
		{"CoordinatorOnAChapterBelow", europe, "charters.read", "charters/golang-paris", true},
		{"CoordinatorNotAbove", europe, "regions.update", World, false},
		{"CoordinatorNotBeside", europe, "chapters.create", "regions/asia", false},
		{"CoordinatorNotOnAChapterBeside", europe, "charters.read", "charters/rust-tokyo", false},
		{"CoordinatorNotWhereNothingIs", europe, "charters.read", "charters/nowhere", false},
		{"CoordinatorNotOnEntries", europe, "entries.read", "chapters/golang-paris/lists/members", false},
		{"CoordinatorNotOnAll", europe, "charters.read", "", false},
		{"WorldOnAnyChapter", world, "charters.read", "charters/rust-tokyo", true},
		{"WorldOnOneNotKnownYet", world, "charters.read", "charters/nowhere", true},
		{"WorldNotOnMembers", world, "members.read", "members/ada", false},
		{"SiteOnItself", west, "standings.preview", "sites/west", true},
		{"SiteOnItsChapter", west, "standings.preview", "chapters/golang-paris", true},
		{"SiteNotOnAnother", west, "standings.preview", "sites/east", false},
		{"SiteNotOnAnothersChapter", west, "standings.preview", "chapters/rust-tokyo", false},
		{"MemberOnOneself", ada, "addresses.add", "members/ada/addresses/1", true},
		{"MemberNotOnAnother", ada, "members.read", "members/grace", false},
		{"MemberDoesNotVerify", ada, "addresses.verify", "members/ada/addresses/1", false},
		{"RoleOnTheWrongScope", holding(InternationalStaff, "chapters/golang-paris"), "charters.approve", "charters/golang-paris", false},
		{"CoordinatorOfTheFederation", holding(Coordinator, Federation), "charters.read", "charters/golang-paris", false},
		{"UnknownRole", holding("emperor", Federation), "charters.read", "charters/golang-paris", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := NewAuthorizer(federation).Allowed(t.Context(), c.principal, c.permission, c.resource)
			if err != nil || got != c.want {
				t.Errorf("%v on %q: got %v, %v", c.permission, c.resource, got, err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Ancestors(context.Context, string) ([]string, error) { return nil, f.err }

func TestHierarchyErrors(t *testing.T) {
	t.Parallel()
	europe := holding(Coordinator, "regions/europe")
	for _, unknown := range []error{ErrUnknownScope, sql.ErrNoRows, status.FromProto(&spb.Status{Code: int32(codes.NotFound)}).Err(), nil} {
		a := NewAuthorizer(failing{wrap(unknown)})
		if allowed, err := a.Allowed(t.Context(), europe, "charters.read", "charters/x"); allowed || err != nil {
			t.Errorf("%v: got %v, %v", unknown, allowed, err)
		}
	}
	down := NewAuthorizer(failing{errors.New("connection refused")})
	if allowed, err := down.Allowed(t.Context(), europe, "charters.read", "charters/x"); allowed || err == nil {
		t.Errorf("hierarchy down: got %v, %v", allowed, err)
	}
	staff := holding(InternationalStaff, Federation)
	if allowed, err := down.Allowed(t.Context(), staff, "charters.read", "charters/x"); !allowed || err != nil {
		t.Errorf("staff need no hierarchy: got %v, %v", allowed, err)
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("look up: %w", err)
}

func TestCanAsksForTheCaller(t *testing.T) {
	t.Parallel()
	ctx := WithAuthorizer(NewContext(t.Context(), holding(Coordinator, "regions/europe")), NewAuthorizer(federation))
	for resource, want := range map[string]bool{"chapters/golang-paris": true, "chapters/rust-tokyo": false, "": false} {
		if got, err := Can(ctx, "lists.read", resource); err != nil || got != want {
			t.Errorf("%q: got %v, %v", resource, got, err)
		}
	}
	if got, err := Can(t.Context(), "lists.read", "chapters/golang-paris"); got || err != nil {
		t.Errorf("nobody: got %v, %v", got, err)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	p := Principal{Subject: "ada", Grants: []Grant{
		{Coordinator, "regions/europe"},
		{ChapterAdmin, "chapters/golang-paris"},
		{Coordinator, "regions/europe"},
		{ChapterAdmin, "regions/asia"},
		{Member, "members/ada"},
	}}
	got := fmt.Sprint(p.Scopes("charters.read"))
	if want := "[chapters/golang-paris regions/europe]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestScopeOf(t *testing.T) {
	t.Parallel()
	for resource, want := range map[string]string{
		"chapters/golang-paris":                                    "chapters/golang-paris",
		"chapters/golang-paris/lists/members":                      "chapters/golang-paris",
		"chapters/golang-paris/standing":                           "chapters/golang-paris",
		"charters/golang-paris":                                    "chapters/golang-paris",
		"charters/golang-paris/history/3":                          "chapters/golang-paris",
		"regions/world":                                            World,
		"members/0198aaaa-bbbb-7ccc-8ddd-eeeeffff0000/addresses/x": "members/0198aaaa-bbbb-7ccc-8ddd-eeeeffff0000",
		"sites/west":                                               "sites/west",
		"":                                                         "",
		"federation":                                               "",
		"chapters":                                                 "",
		"chapters/":                                                "",
		"chapters//x":                                              "",
		"chapters/-":                                               "",
		"chapters/..":                                              "",
		"chapters/Golang":                                          "",
		"chapters/a b":                                             "",
		"/chapters/x":                                              "",
		"announcements/x":                                          "",
		"chapters/x\x00/lists":                                     "",
	} {
		if got, ok := ScopeOf(resource); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", resource, got, ok)
		}
	}
}
