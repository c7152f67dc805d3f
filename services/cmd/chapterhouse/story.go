package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	storyTTL = 24 * time.Hour
	// mostNewcomers keeps the upload of the story short enough to read.
	mostNewcomers = 12
)

// story is the main job on this platform's own data: a chapter that waits for its charter just below the line, and
// members whom it could win to rise over it.
type story struct {
	chapter string // its id
	region  string
	// newcomers are members who are not on the chapter's list.
	newcomers []*internationalv1.Member
}

var errNoStory = errors.New("no chapter waits just below the line")

// printStory prints one token a role, and the commands that tell the story.
func printStory(a *app, running *platform.Platform) error {
	told, err := findStory(a.ctx, running)
	if err != nil && !errors.Is(err, errNoStory) {
		return fmt.Errorf("look for a chapter to tell of: %w", err)
	}
	if err := printTokens(a.stdout, running, told); err != nil {
		return err
	}
	if errors.Is(err, errNoStory) {
		_, err := fmt.Fprintln(a.stdout, "No chapter waits just below the line; chapterhouse up --demo --reset begins anew with some that do.")
		return err
	}
	_, err = io.WriteString(a.stdout, told.commands(running.Endpoints.REST))
	return err
}

func printTokens(w io.Writer, running *platform.Platform, told story) error {
	tokens := []struct {
		variable string
		role     authz.Role
		scope    string
	}{
		{"STAFF", authz.InternationalStaff, authz.Federation},
		{"AUDITOR", authz.Auditor, authz.Federation},
		{"COORDINATOR", authz.Coordinator, orElse(told.region, "regions/world")},
		{"ADMIN", authz.ChapterAdmin, "chapters/" + orElse(told.chapter, "golang-paris")},
		{"MEMBER", authz.Member, told.member()},
	}
	_, _ = fmt.Fprintln(w, "# One token a role, valid for a day (chapterhouse token makes others):")
	for _, t := range tokens {
		token, err := running.Mint(t.role, t.scope, storyTTL)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(w, "%s=%s  # %s\n", t.variable, token, t.scope)
	}
	_, err := fmt.Fprintln(w)
	return err
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (s story) member() string {
	if len(s.newcomers) == 0 {
		return "members/nobody"
	}
	return s.newcomers[0].GetName()
}

// commands are ready to paste, in any POSIX shell.
func (s story) commands(rest string) string {
	var rows strings.Builder
	for _, member := range s.newcomers {
		fmt.Fprintf(&rows, "%s,%s\n", verified(member), strings.ReplaceAll(member.GetDisplayName(), ",", " "))
	}
	standing := fmt.Sprintf(`curl -sS -H "Authorization: Bearer $STAFF" %s/v1/chapters/%s/standing`, rest, s.chapter)
	return fmt.Sprintf(`# 1. %[2]s has applied for its charter, and stands below the line:
%[3]s

# 2. Its admin uploads a list with %[4]d more people, all of them members:
curl -sS -H "Authorization: Bearer $ADMIN" -H 'Content-Type: text/csv' --data-binary @- \
  '%[1]s/v1/chapters/%[2]s/lists/members/syncs?mode=MERGE&source=story&apply=true' <<'CSV'
address,displayName
%[5]sCSV

# 3. A moment later it stands over the line:
%[3]s

# 4. Staff approve the charter on exactly that standing:
ETAG=$(%[3]s | sed 's/.*"etag": *"\([^"]*\)".*/\1/')
curl -sS -H "Authorization: Bearer $STAFF" -H 'Content-Type: application/json' \
  %[1]s/v1/charters/%[2]s:approve -d "{\"standingEtag\": \"$ETAG\", \"note\": \"Welcome\"}"
`, rest, s.chapter, standing, len(s.newcomers), rows.String())
}

// findStory asks the services, as anybody could, so that it fits whatever is on the platform.
func findStory(ctx context.Context, running *platform.Platform) (story, error) {
	signer, err := running.Keys.Signer()
	if err != nil {
		return story{}, err
	}
	tokens := rpc.MintedToken(signer, platform.Person(authz.InternationalStaff, "", "chapterhouse up"), clock.System{})
	international, err := running.Dial(bus.International, tokens)
	if err != nil {
		return story{}, err
	}
	local, err := running.Dial(bus.Local, nil)
	if err != nil {
		return story{}, err
	}
	return storyteller{international, local, running}.find(ctx)
}

type storyteller struct {
	international, local grpc.ClientConnInterface
	running              *platform.Platform
}

func (t storyteller) find(ctx context.Context) (story, error) {
	charters, err := listCharters(ctx, t.international, internationalv1.Charter_APPLIED, "")
	if err != nil {
		return story{}, err
	}
	for _, charter := range charters {
		chapter := chapterID(charter.GetName())
		standing, err := internationalv1.NewStandingServiceClient(t.international).GetStanding(ctx,
			&internationalv1.GetStandingRequest{Name: "chapters/" + chapter + "/standing"})
		if err != nil {
			return story{}, err
		}
		gap := int(standing.GetGap().GetRecruit())
		if gap == 0 || gap > mostNewcomers || standing.GetGapBasis() != internationalv1.Basis_MEMBERSHIP {
			continue
		}
		return t.cast(ctx, chapter, gap)
	}
	return story{}, errNoStory
}

// cast finds members who are not on the chapter's list.
func (t storyteller) cast(ctx context.Context, chapter string, size int) (story, error) {
	admin, err := t.running.Mint(authz.ChapterAdmin, "chapters/"+chapter, time.Minute)
	if err != nil {
		return story{}, err
	}
	asAdmin := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+admin)
	listed, err := t.listed(asAdmin, chapter)
	if err != nil {
		return story{}, err
	}
	about, err := localv1.NewChapterServiceClient(t.local).GetChapter(asAdmin, &localv1.GetChapterRequest{Name: "chapters/" + chapter})
	if err != nil {
		return story{}, err
	}
	members, err := internationalv1.NewMemberServiceClient(t.international).ListMembers(ctx,
		&internationalv1.ListMembersRequest{PageSize: 1000, State: internationalv1.Member_ACTIVE})
	if err != nil {
		return story{}, err
	}
	told := story{chapter: chapter, region: about.GetRegion()}
	for _, member := range members.GetMembers() {
		if address := verified(member); address != "" && !listed[address] {
			told.newcomers = append(told.newcomers, member)
		}
		if len(told.newcomers) == size {
			return told, nil
		}
	}
	return story{}, errNoStory
}

// listed are the addresses on the chapter's members list, in any state.
func (t storyteller) listed(ctx context.Context, chapter string) (map[string]bool, error) {
	listed := map[string]bool{}
	req := &localv1.ListEntriesRequest{Parent: "chapters/" + chapter + "/lists/members", PageSize: 1000}
	for {
		page, err := localv1.NewListServiceClient(t.local).ListEntries(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, entry := range page.GetEntries() {
			listed[entry.GetAddress()] = true
		}
		if page.GetNextPageToken() == "" {
			return listed, nil
		}
		req.PageToken = page.GetNextPageToken()
	}
}

// verified returns an address by which the member counts, "" where there is none.
func verified(member *internationalv1.Member) string {
	for _, address := range member.GetAddresses() {
		if address.GetVerified() {
			return address.GetAddress()
		}
	}
	return ""
}
