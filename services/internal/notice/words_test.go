package notice

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/markdown"
)

const page = "../../../docs/notices.md"

var update = flag.Bool("update", false, "write the table of docs/notices.md")

// sample is a notice of a kind about a chapter that is below the line.
func sample(kind string) *eventv1.NoticeIssued {
	n := &eventv1.NoticeIssued{
		Notice: "notices/1", Chapter: "chapters/golang-paris", ChapterDisplayName: "Golang Paris", Kind: kind, ThresholdPercent: 60, CharterState: "AT_RISK",
		Standing: &eventv1.StandingChanged{
			Membership: &eventv1.BasisFigures{Total: 96, International: 55}, GapConvert: proto.Int32(3), GapRecruit: proto.Int32(7), Margin: -3,
		},
		DeadlineTime: timestamppb.New(time.Date(2026, 8, 30, 12, 0, 0, 0, time.UTC)),
	}
	if Marks(kind) != nil {
		n.DaysLeft = 7
	}
	switch kind {
	case EligibilityGained, Approved, Reinstated, Renewed, InReview, Resubmitted, Applied, ReviewDue:
		n.CharterState = "CHARTERED"
		n.Standing = &eventv1.StandingChanged{Eligible: true, Margin: 1, Membership: &eventv1.BasisFigures{Total: 100, International: 61}}
	case ChangesRequested, Declined, Suspended, Revoked:
		n.ReasonCodes = []string{"TOO_FEW_OFFICERS"}
	}
	switch kind {
	case EligibilityGained, InReview, Resubmitted, Reinstated, Suspended:
		n.DeadlineTime = nil
	case Declined, Revoked, Surrendered, Withdrawn:
		n.DeadlineTime, n.ReapplyTime = nil, timestamppb.New(time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC))
	}
	return n
}

// when says what leads to each kind.
var when = map[string]string{
	EligibilityGained: "the chapter rose to the line and stayed there for an hour",
	EligibilityLost:   "the chapter fell below the line and stayed there for an hour",
	Applied:           "`apply`", InReview: "`claim`", ChangesRequested: "`requestChanges`", Resubmitted: "`resubmit`", Approved: "`approve`",
	Declined: "`decline`", Withdrawn: "`withdraw`", Suspended: "`suspend`", Reinstated: "`reinstate`", Revoked: "`revoke`",
	Surrendered: "`surrender`", Renewed: "`renew` by staff", Protected: "`protect`", Unprotected: "`unprotect`, or its time is over",
	AtRisk:     "an approval against the figures has come to its end",
	GraceEnded: "`cureByTime` has passed", ReviewOverdue: "`reviewDueTime` has passed", ChangesOverdue: "`changesDueTime` has passed",
	RenewalOverdue: "`renewalDueTime` has passed",
	CureBy:         marks(CureBy), ReviewDue: marks(ReviewDue), ChangesDue: marks(ChangesDue), RenewalDue: marks(RenewalDue), ProtectionEnd: marks(ProtectionEnd),
}

func marks(kind string) string {
	var days []string
	for _, mark := range Marks(kind) {
		days = append(days, fmt.Sprint(int(mark/day)))
	}
	return strings.Join(days, ", ") + " days before"
}

func TestNoticesAreDocumented(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| kind | when | subject, and words |\n|---|---|---|\n")
	for _, kind := range slices.Sorted(maps.Keys(texts)) {
		if when[kind] == "" {
			t.Errorf("nothing says when %s is told", kind)
		}
		words, err := Of(sample(kind), Officer)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&table, "| `%s` | %s | **%s**<br>%s |\n", kind, when[kind], words.Subject, strings.Join(words.Paragraphs, "<br>"))
	}
	written, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(written), "<!-- kinds -->\n")
	_, after, found := strings.Cut(rest, "<!-- end of kinds -->\n")
	if !found {
		t.Fatal("docs/notices.md has no place for the table")
	}
	want := before + "<!-- kinds -->\n" + table.String() + "<!-- end of kinds -->\n" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(written) != want {
		t.Error("docs/notices.md is not current: go test ./internal/notice -run NoticesAreDocumented -update")
	}
}

// Each notice names the chapter in its subject and its words, the deadline where there is one, and for a chapter below the
// line what would lift it.
func TestWordsSayWhatMatters(t *testing.T) {
	t.Parallel()
	for kind := range texts {
		n := sample(kind)
		for reader, whose := range map[Reader]string{Officer: "3 of your people would have to join, or 7 newcomers who are members", Coordinator: "3 of its people would have to join, or 7 newcomers who are members"} {
			words, err := Of(n, reader)
			if err != nil {
				t.Fatal(err)
			}
			body := strings.Join(words.Paragraphs, "\n")
			if !strings.Contains(words.Subject, "Golang Paris") || !strings.Contains(body, "Golang Paris") || strings.Contains(words.Subject, "\n") {
				t.Errorf("%s does not name the chapter: %v", kind, words)
			}
			if n.GetDeadlineTime() != nil && !strings.Contains(words.Subject+body, "30 August 2026") {
				t.Errorf("%s does not name the deadline: %v", kind, words)
			}
			if n.GetReapplyTime() != nil && !strings.Contains(body, "1 July 2026") {
				t.Errorf("%s does not say when to come back: %v", kind, words)
			}
			if n.GetDaysLeft() > 0 && !strings.Contains(words.Subject+body, "7 days") {
				t.Errorf("%s does not say how long: %v", kind, words)
			}
			needs := slices.Contains([]string{EligibilityLost, AtRisk, CureBy, GraceEnded, Declined, Suspended, RenewalDue, RenewalOverdue, ProtectionEnd, Unprotected}, kind)
			if needs && !strings.Contains(body, whose) {
				t.Errorf("%s does not say what would help: %v", kind, words)
			}
			if strings.Contains(words.Subject+body, "<no value>") || strings.Contains(body, "  ") {
				t.Errorf("%s: %v", kind, words)
			}
		}
	}
}

func TestRemedies(t *testing.T) {
	t.Parallel()
	for want, standing := range map[string]*eventv1.StandingChanged{
		"1 of your people would have to join, or 1 newcomer who is a member": {GapConvert: proto.Int32(1), GapRecruit: proto.Int32(1)},
		"2 of your people would have to join":                                {GapConvert: proto.Int32(2)},
		"5 newcomers who are members":                                        {GapConvert: proto.Int32(0), GapRecruit: proto.Int32(5)},
		"more international members":                                         {},
	} {
		if got := (facts{NoticeIssued: &eventv1.NoticeIssued{Standing: standing}, Your: "your"}).Remedy(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Whatever a name or a note holds is text, in the mail's HTML and in what becomes of the Markdown.
func TestNothingIsMoreThanText(t *testing.T) {
	t.Parallel()
	n := sample(Declined)
	n.ChapterDisplayName = `<script>alert(1)</script> *Paris* {{.Kind}}`
	n.Note = "<b>no</b>\n# not a heading\n- not a list\n[x](javascript:alert(1)) `code` https://example.org/ {{.Kind}}"
	words, err := Of(n, Officer)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := markdown.HTML(words.Markdown())
	if err != nil {
		t.Fatal(err)
	}
	for name, html := range map[string]string{"HTML": words.HTML(), "Markdown": rendered} {
		for _, bad := range []string{"<script", "<b>", "<h1", "<li", "<a ", "<code", "<em", "<strong"} {
			if strings.Contains(html, bad) {
				t.Errorf("the %s holds %s:\n%s", name, bad, html)
			}
		}
		for _, good := range []string{"&lt;script&gt;", "*Paris*", "{{.Kind}}", "# not a heading", "- not a list", "<blockquote>"} {
			if !strings.Contains(html, good) {
				t.Errorf("the %s has lost %q:\n%s", name, good, html)
			}
		}
	}
	if !strings.Contains(words.Text(), "> <b>no</b>\n> # not a heading\n") {
		t.Errorf("the text is:\n%s", words.Text())
	}
}

// A kind of a newer international tier is told as it is.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	words, err := Of(sample("SOMETHING_NEW"), Officer)
	if err != nil || words.Subject != "Golang Paris: SOMETHING_NEW" {
		t.Errorf("%v, %v", words, err)
	}
}
