package regional

import (
	"bytes"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// letter is a mail to a coordinator before it is written down.
type letter struct {
	// topic names what it is about, once for all: nobody gets two letters of one topic.
	topic   string
	subject string
	intro   string
	// sections follow the intro.
	sections []section
	// reason says why the reader gets it.
	reason string
}

type section struct {
	Title string
	Lines []line
	// More says what of it is not listed.
	More string
}

type line struct {
	Title, Details, Remedy string
	// Link leads to what it is about.
	Link string
}

// letterView is what the templates are given.
type letterView struct {
	Name, Intro string
	Sections    []section
	Reason      string
}

var textLetter = texttemplate.Must(texttemplate.New("text").Parse(`Hello {{.Name}},

{{.Intro}}
{{range .Sections}}
{{.Title}}
{{range .Lines}}
  * {{.Title}}
    {{.Details}}
    {{.Remedy}}
    {{.Link}}
{{end}}{{with .More}}
  {{.}}
{{end}}{{end}}
-- 
{{.Reason}}
`))

var htmlLetter = htmltemplate.Must(htmltemplate.New("html").Parse(`<p>Hello {{.Name}},</p>
<p>{{.Intro}}</p>
{{range .Sections}}<h2>{{.Title}}</h2>
<ul>
{{range .Lines}}<li><a href="{{.Link}}">{{.Title}}</a><br>{{.Details}}<br>{{.Remedy}}</li>
{{end}}</ul>
{{with .More}}<p>{{.}}</p>
{{end}}{{end}}<hr>
<p>{{.Reason}}</p>
`))

// render writes the letter as text and as HTML.
func (l letter) render(name string) (text, html string, err error) {
	view := letterView{Name: oneLine(name), Intro: l.intro, Sections: l.sections, Reason: l.reason}
	var plain, marked bytes.Buffer
	if err := textLetter.Execute(&plain, view); err != nil {
		return "", "", fmt.Errorf("write a letter: %w", err)
	}
	if err := htmlLetter.Execute(&marked, view); err != nil {
		return "", "", fmt.Errorf("write a letter: %w", err)
	}
	return plain.String(), marked.String(), nil
}

// maxLine is what of a text goes into a subject or a line.
const maxLine = 200

// oneLine makes a text fit into one line, and what it says stay there.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	}), " ")
	if runes := []rune(text); len(runes) > maxLine {
		return string(runes[:maxLine-1]) + "…"
	}
	return text
}

// inWords is a time as people read it.
func inWords(at *timestamppb.Timestamp) string {
	return at.AsTime().UTC().Format("Monday 2 January 2006, 15:04 UTC")
}

func dayInWords(at *timestamppb.Timestamp) string {
	return at.AsTime().UTC().Format("2 January 2006")
}

// daysInWords is a length as people say it.
func daysInWords(length time.Duration) string {
	if days := int(length / (24 * time.Hour)); days != 1 {
		return fmt.Sprintf("%d days", days)
	}
	return "a day"
}

// namesOf lists regions by their names.
func namesOf(regions []db.OpenRegionsRow) string {
	names := make([]string, 0, len(regions))
	for _, region := range regions {
		names = append(names, oneLine(region.DisplayName))
	}
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more regions", strings.Join(names[:4], ", "), len(names)-4)
	}
	if len(names) > 1 {
		last := len(names) - 1
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

// whyYou says to whom such mail goes, and how it ends.
func whyYou(regions []db.OpenRegionsRow) string {
	return "You get this mail because you act for " + namesOf(regions) + ". It goes to the address that is kept with you as a coordinator; whoever keeps the region's coordinators can change it or take it out."
}

// link leads to a resource.
func (s *Service) link(resource string) string {
	return strings.TrimSuffix(s.config.PublicURL, "/") + "/v1/" + resource
}
