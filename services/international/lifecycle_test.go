package international

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

var update = flag.Bool("update", false, "write the table in docs/charters.md anew")

// TestLifecycleTable keeps the table in docs/charters.md current.
func TestLifecycleTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "charters.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the table: go test ./international -run LifecycleTable -update -->\n", "<!-- end of the table -->\n"
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("docs/charters.md lacks %q or %q", begin, end)
	}
	want := before + begin + lifecycleTable() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Error("docs/charters.md is not current: go test ./international -run LifecycleTable -update")
	}
}

func lifecycleTable() string {
	var table strings.Builder
	table.WriteString("\n| verb | by | from | to | |\n|---|---|---|---|---|\n")
	for _, rule := range lifecycle {
		var kept []string
		rows := map[string][]string{}
		for _, from := range charterStates {
			switch to := strings.Join(rule.next[from], " or "); to {
			case "":
			case from:
				kept = append(kept, nameOfState(from))
			default:
				rows[to] = append(rows[to], nameOfState(from))
			}
		}
		for _, to := range slices.Sorted(maps.Keys(rows)) {
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", rule.verb, rule.by, strings.Join(rows[to], ", "), to, rule.remark)
		}
		if len(kept) > 0 {
			fmt.Fprintf(&table, "| %s | %s | %s | stays | %s |\n", rule.verb, rule.by, strings.Join(kept, ", "), rule.remark)
		}
	}
	table.WriteString("\nIn every other state the verb is refused with `CHARTER_STATE`.\n\n")
	return table.String()
}

func nameOfState(state string) string { return orElse(state, "(none)") }

// walker tries verbs on charters that it puts into states.
type walker struct {
	*world

	chapter string
	// What differs between the walks.
	origin   string
	override bool
	admin    internationalv1.CharterServiceClient
	reached  map[string]bool
}

// TestEveryVerbInEveryState walks all pairs of state and verb through the service, once on this side of the line and once on
// the other, and finds allowed and refused what the table says; every next state of the table is reached.
func TestEveryVerbInEveryState(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for _, walk := range []struct {
		name, origin, policy string
		members              []string
	}{
		{"Eligible", applied, "renewal_days = 365", []string{"a", "b", "c"}},
		{"BelowTheLine", inReview, "renewal_days = 365, second_approval = true, grace_end = 'SUSPEND'", []string{"a", "b"}},
	} {
		t.Run(walk.name, func(t *testing.T) {
			w := setup(t)
			w.applicant("paris", walk.members...)
			w.amend(walk.policy)
			p := &walker{
				world: w, chapter: "paris", origin: walk.origin, override: len(walk.members) < 3,
				admin: w.adminOf("paris"), reached: reached,
			}
			for _, state := range charterStates[1:] {
				for _, rule := range lifecycle {
					if rule.by != byItself {
						p.try(state, rule)
					}
				}
			}
			p.tryWithout()
			for _, rule := range lifecycle {
				if rule.by == byItself {
					for state := range rule.next {
						p.wait(state, rule)
					}
				}
			}
		})
	}
	for _, rule := range lifecycle {
		for state, next := range rule.next {
			for _, to := range next {
				if !reached[state+" "+rule.verb+" "+to] {
					t.Errorf("%s in %s never led to %s", rule.verb, nameOfState(state), to)
				}
			}
		}
	}
}

// put brings the charter into a state, with what belongs to it.
func (p *walker) put(state string) {
	p.t.Helper()
	p.exec(`UPDATE charters SET state = $2, reviewer = '', claim_expire_time = NULL, origin = '', review_due_time = NULL, changes_due_time = NULL,
		cure_by_time = NULL, renewal_due_time = NULL, override_until_time = NULL, protect_until_time = NULL, reapply_time = NULL,
		review_passed = false, cure_passed = false, renewal_passed = false, first_approval = NULL, next_time = NULL
		WHERE chapter_id = $1`, p.chapter, state)
	if state == inReview {
		p.exec(`UPDATE charters SET reviewer = 'international_staff ', claim_expire_time = $2 WHERE chapter_id = $1`, p.chapter, p.clock.Now().Add(time.Hour))
	}
	if state == changesRequested {
		p.exec(`UPDATE charters SET origin = $2, reviewer = 'somebody' WHERE chapter_id = $1`, p.chapter, p.origin)
	}
}

// try uses a verb, and holds what comes of it against the table.
func (p *walker) try(state string, rule transitionRule) {
	p.t.Helper()
	p.put(state)
	if rule.verb == verbUnprotect {
		p.exec(`UPDATE charters SET protect_until_time = $2 WHERE chapter_id = $1`, p.chapter, p.clock.Now().Add(time.Hour))
	}
	p.clock.Advance(time.Second)
	charter, err := p.use(rule.verb)
	p.judge(state, rule, charter, err)
}

func (p *walker) judge(state string, rule transitionRule, charter *internationalv1.Charter, err error) {
	p.t.Helper()
	next := rule.next[state]
	if len(next) == 0 {
		if !rpc.Is(err, errorv1.Reason_REASON_CHARTER_STATE) {
			p.t.Errorf("%s in %s: %v, %v; it should be refused", rule.verb, state, charter.GetState(), err)
		}
		return
	}
	if err != nil {
		p.t.Errorf("%s in %s: %v", rule.verb, state, err)
		return
	}
	p.arrived(state, rule, charter.GetState().String())
}

func (p *walker) arrived(state string, rule transitionRule, to string) {
	p.t.Helper()
	if !slices.Contains(rule.next[state], to) {
		p.t.Errorf("%s leads from %s to %s, the table says %v", rule.verb, nameOfState(state), to, rule.next[state])
	}
	p.reached[state+" "+rule.verb+" "+to] = true
	var verb, from, into string
	err := p.pool.QueryRow(p.t.Context(), `SELECT h.verb, h.from_state, h.to_state FROM charter_history h JOIN charters c USING (chapter_no)
		WHERE c.chapter_id = $1 ORDER BY h.number DESC LIMIT 1`, p.chapter).Scan(&verb, &from, &into)
	if err != nil || verb != rule.verb || from != state || into != to {
		p.t.Errorf("%s from %s to %s: the history says %s from %s to %s, %v", rule.verb, state, to, verb, from, into, err)
	}
}

// tryWithout uses every verb on a chapter that has never applied.
func (p *walker) tryWithout() {
	p.t.Helper()
	p.world.chapter("lyon")
	without := *p
	without.chapter = "lyon"
	without.admin = p.adminOf("lyon")
	for _, rule := range lifecycle {
		if rule.by == byItself || rule.verb == verbApply {
			continue
		}
		if _, err := without.use(rule.verb); !rpc.Is(err, errorv1.Reason_REASON_NOT_FOUND) {
			p.t.Errorf("%s without a charter: %v", rule.verb, err)
		}
	}
	charter, err := without.use(verbApply)
	without.judge(noCharter, lifecycle[0], charter, err)
}

func (p *walker) use(verb string) (*internationalv1.Charter, error) {
	ctx, name := p.t.Context(), "charters/"+p.chapter
	until := timestamppb.New(p.clock.Now().AddDate(0, 1, 0))
	why := internationalv1.Charter_OTHER
	switch verb {
	case verbApply:
		return p.admin.CreateCharter(ctx, &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/" + p.chapter}})
	case verbClaim:
		return p.charter.ClaimCharter(ctx, &internationalv1.ClaimCharterRequest{Name: name})
	case verbRelease:
		return p.charter.ReleaseCharter(ctx, &internationalv1.ReleaseCharterRequest{Name: name})
	case verbRequestChanges:
		return p.charter.RequestCharterChanges(ctx, &internationalv1.RequestCharterChangesRequest{Name: name, Note: "more", Reasons: []internationalv1.Charter_Reason{why}})
	case verbResubmit:
		return p.admin.ResubmitCharter(ctx, &internationalv1.ResubmitCharterRequest{Name: name})
	case verbApprove:
		req := &internationalv1.ApproveCharterRequest{Name: name, StandingEtag: p.standing(p.chapter).GetEtag()}
		if p.override {
			req.Override = &internationalv1.CharterOverride{Reason: "a flood", UntilTime: until}
		}
		return p.charter.ApproveCharter(ctx, req)
	case verbDecline:
		return p.charter.DeclineCharter(ctx, &internationalv1.DeclineCharterRequest{Name: name, Note: "no"})
	case verbWithdraw:
		return p.admin.WithdrawCharter(ctx, &internationalv1.WithdrawCharterRequest{Name: name})
	case verbSuspend:
		return p.charter.SuspendCharter(ctx, &internationalv1.SuspendCharterRequest{Name: name, Reason: why, Note: "no"})
	case verbReinstate:
		return p.charter.ReinstateCharter(ctx, &internationalv1.ReinstateCharterRequest{Name: name})
	case verbRevoke:
		return p.charter.RevokeCharter(ctx, &internationalv1.RevokeCharterRequest{Name: name, Reason: why, Note: "no"})
	case verbSurrender:
		return p.admin.SurrenderCharter(ctx, &internationalv1.SurrenderCharterRequest{Name: name})
	case verbRenew:
		return p.charter.RenewCharter(ctx, &internationalv1.RenewCharterRequest{Name: name})
	case verbProtect:
		return p.charter.ProtectCharter(ctx, &internationalv1.ProtectCharterRequest{Name: name, UntilTime: until, Reason: "a flood"})
	case verbUnprotect:
		return p.charter.UnprotectCharter(ctx, &internationalv1.UnprotectCharterRequest{Name: name})
	}
	return nil, fmt.Errorf("%s is not known", verb)
}

// wait brings a charter into a state, and lets happen what happens by itself.
func (p *walker) wait(state string, rule transitionRule) {
	p.t.Helper()
	p.put(state)
	column := map[string]string{
		verbClaimExpired: "claim_expire_time", verbReviewOverdue: "review_due_time", verbChangesOverdue: "changes_due_time",
		verbGraceEnded: "cure_by_time", verbRenewalOverdue: "renewal_due_time", verbOverrideEnded: "override_until_time",
		verbProtectionEnded: "protect_until_time",
	}[rule.verb]
	if column == "" {
		p.cross(rule.verb)
	} else {
		p.side(!p.override)
		p.exec(`UPDATE charters SET claim_expire_time = NULL WHERE chapter_id = $1`, p.chapter)
		p.exec(`UPDATE charters SET `+column+` = $2, next_time = $2 WHERE chapter_id = $1`, p.chapter, p.clock.Now())
		p.passes()
	}
	p.arrived(state, rule, p.state(p.chapter).String())
}

// cross lets the chapter cross the line, from the side where it has to be for that.
func (p *walker) cross(verb string) {
	p.t.Helper()
	lost := verb == verbEligibilityLost
	p.side(lost)
	p.line(!lost)
}

// side brings the chapter to a side of the line, and leaves its charter alone.
func (p *walker) side(eligible bool) {
	p.t.Helper()
	if p.standing(p.chapter).GetEligible() == eligible {
		return
	}
	state := p.state(p.chapter).String()
	p.exec(`UPDATE charters SET state = 'DECLINED' WHERE chapter_id = $1`, p.chapter) // which nothing moves
	p.line(eligible)
	p.exec(`UPDATE charters SET state = $2 WHERE chapter_id = $1`, p.chapter, state)
}

// line takes two members out of the list and puts two others in, or the other way round.
func (p *walker) line(eligible bool) {
	p.t.Helper()
	members, others := []string{"a@example.org", "b@example.org"}, []string{"d@example.org", "e@example.org"}
	if eligible {
		p.must(p.list(p.chapter, "members", members, others))
	} else {
		p.must(p.list(p.chapter, "members", others, members))
	}
}

// amend makes a revision of the policy that comes into force now: the last one with these changes.
func (w *world) amend(changes string) {
	w.t.Helper()
	w.inTx(func(tx pgx.Tx) error {
		for _, statement := range []string{
			"CREATE TEMP TABLE revised ON COMMIT DROP AS SELECT * FROM policies ORDER BY revision DESC LIMIT 1",
			"UPDATE revised SET revision = revision + 1, effective_time = '" + w.clock.Now().Format(time.RFC3339Nano) + "'",
			"UPDATE revised SET " + changes,
			"INSERT INTO policies SELECT * FROM revised",
		} {
			if _, err := tx.Exec(w.t.Context(), statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

// passes runs the job that sees to deadlines, as River does, and returns nothing: what it did is on the charters.
func (w *world) passes() {
	w.t.Helper()
	w.must((&deadlineWorker{service: w.service}).Work(w.t.Context(), nil))
}

func (w *world) adminOf(chapter string) internationalv1.CharterServiceClient {
	return internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/"+chapter))
}
