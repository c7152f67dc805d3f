package notice

import (
	"fmt"
	"html"
	"strings"
	"text/template"
	"time"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
)

// Reader is whom the words are for.
type Reader int

// The readers.
const (
	Officer Reader = iota
	Coordinator
)

// Words are a notice as people read it, in English.
type Words struct {
	Subject string
	// Paragraphs are plain text. Only those that quote what somebody wrote have several lines.
	Paragraphs []string
}

// Of writes a notice. A kind that is not known here, of a newer international tier, is told as it is.
func Of(n *eventv1.NoticeIssued, reader Reader) (Words, error) {
	known, ok := texts[n.GetKind()]
	if !ok {
		known = unknown
	}
	f := facts{NoticeIssued: n, Chapter: short(n.GetChapterDisplayName(), 100), Your: "its"}
	if reader == Officer {
		f.Your = "your"
	}
	subject, err := fill(known.subject, f)
	if err != nil {
		return Words{}, err
	}
	body, err := fill(known.body, f)
	if err != nil {
		return Words{}, err
	}
	words := Words{Subject: strings.Join(strings.Fields(subject), " ")}
	for paragraph := range strings.SplitSeq(body, "\n\n") {
		if text := strings.TrimSpace(paragraph); text != "" {
			words.Paragraphs = append(words.Paragraphs, strings.Join(strings.Fields(text), " "))
		}
	}
	return words.quote(n.GetNote()), nil
}

func fill(t *template.Template, f facts) (string, error) {
	var text strings.Builder
	if err := t.Execute(&text, f); err != nil {
		return "", fmt.Errorf("write a notice of kind %s: %w", f.GetKind(), err)
	}
	return text.String(), nil
}

// quote adds what somebody wrote, line by line.
func (w Words) quote(note string) Words {
	note = strings.TrimSpace(strings.ReplaceAll(note, "\r", ""))
	if note == "" {
		return w
	}
	w.Paragraphs = append(w.Paragraphs, "What was said with it:", "> "+strings.ReplaceAll(note, "\n", "\n> "))
	return w
}

// Text is the notice as plain text.
func (w Words) Text() string { return strings.Join(w.Paragraphs, "\n\n") + "\n" }

// HTML is the notice as a fragment in which nothing is what somebody wrote, but text.
func (w Words) HTML() string {
	var page strings.Builder
	for _, paragraph := range w.Paragraphs {
		if quoted, ok := strings.CutPrefix(paragraph, "> "); ok {
			lines := html.EscapeString(strings.ReplaceAll(quoted, "\n> ", "\n"))
			page.WriteString("<blockquote><p>" + strings.ReplaceAll(lines, "\n", "<br>\n") + "</p></blockquote>\n")
			continue
		}
		page.WriteString("<p>" + html.EscapeString(paragraph) + "</p>\n")
	}
	return page.String()
}

// Markdown is the notice with everything escaped that Markdown would take for more than text.
func (w Words) Markdown() string {
	paragraphs := make([]string, 0, len(w.Paragraphs))
	for _, paragraph := range w.Paragraphs {
		quoted, ok := strings.CutPrefix(paragraph, "> ")
		if !ok {
			paragraphs = append(paragraphs, escaper.Replace(paragraph))
			continue
		}
		var lines []string
		for line := range strings.SplitSeq(strings.ReplaceAll(quoted, "\n> ", "\n"), "\n") {
			lines = append(lines, "> "+escaper.Replace(line))
		}
		paragraphs = append(paragraphs, strings.Join(lines, "  \n"))
	}
	return strings.Join(paragraphs, "\n\n") + "\n"
}

// escaper escapes what begins emphasis, links, code, HTML, tables and headings, and lists and rules at the beginnings of lines.
var escaper = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "#", `\#`, "~", `\~`, "|", `\|`,
	"&", `\&`, "!", `\!`, "-", `\-`, "+", `\+`, "=", `\=`, ".", `\.`, ":", `\:`, "@", `\@`,
)

func short(text string, runes int) string {
	if all := []rune(text); len(all) > runes {
		return string(all[:runes-1]) + "…"
	}
	return text
}

// facts are what the templates ask for.
type facts struct {
	*eventv1.NoticeIssued

	Chapter string
	// Your is whose the people are: the reader's, or the chapter's.
	Your string
}

// Deadline is a day, in UTC; empty where there is none.
func (f facts) Deadline() string {
	if f.GetDeadlineTime() == nil {
		return ""
	}
	return date(f.GetDeadlineTime().AsTime())
}

// Reapply is the day from which the chapter can apply again.
func (f facts) Reapply() string {
	if f.GetReapplyTime() == nil {
		return ""
	}
	return date(f.GetReapplyTime().AsTime())
}

func date(t time.Time) string { return t.UTC().Format("2 January 2006") }

// Left is how long until the deadline.
func (f facts) Left() string { return many(f.GetDaysLeft(), "day", "days") }

// Charter is how the charter's name is spelt in the API.
func (f facts) Charter() string { return strings.Replace(f.GetChapter(), "chapters/", "charters/", 1) }

// Eligible says whether the chapter is on the line or over it.
func (f facts) Eligible() bool { return f.GetStanding().GetEligible() }

// Margin is how many members could lapse before eligibility is lost.
func (f facts) Margin() int32 { return f.GetStanding().GetMargin() }

// Figures are the people and members on both bases.
func (f facts) Figures() string {
	var parts []string
	for _, basis := range []struct {
		people *eventv1.BasisFigures
		where  string
	}{{f.GetStanding().GetMembership(), "on the members list"}, {f.GetStanding().GetMailing(), "on the mailing lists"}} {
		if total := basis.people.GetTotal(); total > 0 {
			parts = append(parts, fmt.Sprintf("%d of %s %s", basis.people.GetInternational(), many(total, "person", "people"), basis.where))
		}
	}
	if len(parts) == 0 {
		return "there is nobody on its lists"
	}
	return strings.Join(parts, " and ") + " hold international membership"
}

// Remedy is what would make the chapter eligible.
func (f facts) Remedy() string {
	standing := f.GetStanding()
	var ways []string
	if standing.GapConvert != nil && standing.GetGapConvert() > 0 {
		ways = append(ways, fmt.Sprintf("%d of %s people would have to join", standing.GetGapConvert(), f.Your))
	}
	if standing.GapRecruit != nil && standing.GetGapRecruit() > 0 {
		ways = append(ways, many(standing.GetGapRecruit(), "newcomer who is a member", "newcomers who are members"))
	}
	if len(ways) == 0 {
		return "more international members"
	}
	return strings.Join(ways, ", or ")
}

// Reasons are the codes of a decision in words.
func (f facts) Reasons() string {
	var words []string
	for _, code := range f.GetReasonCodes() {
		words = append(words, strings.ToLower(strings.ReplaceAll(code, "_", " "))) //nolint:forbidigo // the name of a constant of ours
	}
	return strings.Join(words, "; ")
}

func many(n int32, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
