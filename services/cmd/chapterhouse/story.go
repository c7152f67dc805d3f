package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/demo"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// storyTTL is how long the printed tokens are valid.
const storyTTL = 24 * time.Hour

// printTokens prints one for each role, as assignments that a shell takes. Without a demo there is no chapter and no
// member to hold a role on.
func printTokens(w io.Writer, running *platform.Platform, summary *demo.Summary) error {
	_, _ = fmt.Fprintln(w, "# Tokens, valid for a day; chapterhouse token makes others.")
	type holder struct {
		variable string
		role     authz.Role
		scope    string
	}
	holders := []holder{
		{"STAFF", authz.InternationalStaff, authz.Federation},
		{"AUDITOR", authz.Auditor, authz.Federation},
		{"COORDINATOR", authz.Coordinator, authz.World},
	}
	if summary != nil {
		holders = append(holders,
			holder{"ADMIN", authz.ChapterAdmin, summary.Applied},
			holder{"MEMBER", authz.Member, summary.Story.Resigns})
	}
	for _, h := range holders {
		token, err := running.Mint(h.role, h.scope, storyTTL)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(w, "# %s on %s:\n%s=%s\n", h.role, h.scope, h.variable, token)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// printStory prints the main job as four commands, as long as the chapter that it is about waits for its charter.
func printStory(a *app, running *platform.Platform, summary *demo.Summary) error {
	waits, err := waitsBelowTheLine(a.ctx, running, summary.Applied)
	if err != nil {
		return fmt.Errorf("look at %s: %w", summary.Applied, err)
	}
	if !waits {
		_, err := fmt.Fprintf(a.stdout, "The story of %s is told; chapterhouse up --demo --reset begins anew.\n", summary.Applied)
		return err
	}
	_, err = io.WriteString(a.stdout, storyOf(running.Endpoints.REST, summary))
	return err
}

func waitsBelowTheLine(ctx context.Context, running *platform.Platform, chapter string) (bool, error) {
	signer, err := running.Keys.Signer()
	if err != nil {
		return false, err
	}
	tokens := rpc.MintedToken(signer, platform.Person(authz.InternationalStaff, "", "chapterhouse up"), clock.System{})
	conn, err := running.Dial(bus.International, tokens)
	if err != nil {
		return false, err
	}
	charter, err := internationalv1.NewCharterServiceClient(conn).GetCharter(ctx,
		&internationalv1.GetCharterRequest{Name: "charters/" + chapterID(chapter)})
	if err != nil || charter.GetState() != internationalv1.Charter_APPLIED {
		return false, err
	}
	standing, err := internationalv1.NewStandingServiceClient(conn).GetStanding(ctx,
		&internationalv1.GetStandingRequest{Name: chapter + "/standing"})
	return !standing.GetEligible(), err
}

// storyOf is ready to paste into any POSIX shell, after the tokens.
func storyOf(rest string, summary *demo.Summary) string {
	standing := fmt.Sprintf(`curl -sS -H "Authorization: Bearer $STAFF" %s/v1/%s/standing`, rest, summary.Applied)
	return fmt.Sprintf(`# 1. %[2]s has applied for its charter, and stands below the line:
%[3]s

# 2. Its admin uploads a file with %[4]d more people, all of them members:
curl -sS -H "Authorization: Bearer $ADMIN" -H 'Content-Type: text/csv' --data-binary @- \
  '%[1]s/v1/%[5]s/syncs?mode=MERGE&source=story&apply=true' <<'CSV'
%[6]s
CSV

# 3. A moment later it stands over the line:
sleep 1; %[3]s

# 4. Staff approve the charter on exactly that standing:
ETAG=$(%[3]s | sed 's/.*"etag": *"\([^"]*\)".*/\1/')
curl -sS -H "Authorization: Bearer $STAFF" -H 'Content-Type: application/json' \
  %[1]s/v1/charters/%[7]s:approve -d "{\"standingEtag\": \"$ETAG\", \"note\": \"Welcome\"}"
`, rest, summary.Applied, standing, strings.Count(strings.TrimSpace(summary.Story.CSV), "\n"), summary.Story.List,
		strings.TrimSpace(summary.Story.CSV), chapterID(summary.Applied))
}
