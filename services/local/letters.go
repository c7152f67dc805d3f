package local

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/markdown"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// letter is an announcement as a chapter reads it: in its language, with what the regions on the way have added.
type letter struct {
	announcement *eventv1.AnnouncementChanged
	text         *eventv1.AnnouncementText
	// notes are the regions', the nearest last.
	notes []regionNote
}

type regionNote struct{ region, text string }

// plainLetter is an announcement with nothing that regions have added.
func plainLetter(row db.Announcement, language string) (letter, error) {
	l := letter{announcement: &eventv1.AnnouncementChanged{}}
	if err := proto.Unmarshal(row.Content, l.announcement); err != nil {
		return l, fmt.Errorf("read an announcement: %w", err)
	}
	l.text = l.choose(language, nil)
	return l, nil
}

// letterOf reads what a chapter in a region gets of an announcement.
func letterOf(ctx context.Context, q *db.Queries, row db.Announcement, region, language string) (letter, error) {
	l, err := plainLetter(row, language)
	if err != nil {
		return l, err
	}
	rows, err := q.RelaysAbove(ctx, db.RelaysAboveParams{AnnouncementID: row.ID, Region: region})
	if err != nil {
		return l, err
	}
	var translations [][]*eventv1.AnnouncementText
	for _, above := range rows {
		relay := &eventv1.RelayChanged{}
		if err := proto.Unmarshal(above.Content, relay); err != nil {
			return l, fmt.Errorf("read a relay: %w", err)
		}
		// Relay and announcement are heard of one after the other: a translation of another edition says something else.
		if relay.GetEdition() == row.Edition {
			translations = append(translations, relay.GetTranslations())
		}
		if relay.GetNote() != "" {
			l.notes = append(l.notes, regionNote{above.Region, relay.GetNote()})
		}
	}
	slices.Reverse(l.notes)
	l.text = l.choose(language, translations)
	return l, nil
}

// choose finds the text for a language: the exact tag, then any text of the same language, and the original where there is
// none. Of those that fit, the regions' come before the announcement's own, the nearest region's first.
func (l letter) choose(language string, regions [][]*eventv1.AnnouncementText) *eventv1.AnnouncementText {
	original := &eventv1.AnnouncementText{
		Language: l.announcement.GetLanguage(), Subject: l.announcement.GetSubject(), Body: l.announcement.GetBody(),
	}
	if language == "" {
		return original
	}
	texts := append(slices.Concat(regions...), l.announcement.GetTranslations()...)
	texts = append(texts, original)
	for _, fits := range []func(tag string) bool{
		func(tag string) bool { return asciiLower(tag) == asciiLower(language) },
		func(tag string) bool { return primary(tag) == primary(language) },
	} {
		for _, text := range texts {
			if fits(text.GetLanguage()) {
				return &eventv1.AnnouncementText{
					Language: text.GetLanguage(), Body: text.GetBody(), Subject: cmp.Or(text.GetSubject(), original.GetSubject()),
				}
			}
		}
	}
	return original
}

// primary is the language of a tag without region and script (BCP 47).
func primary(tag string) string {
	language, _, _ := strings.Cut(asciiLower(tag), "-")
	return language
}

// asciiLower folds a language tag, which has no other letters.
func asciiLower(tag string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, tag)
}

// show fills in what the letter says.
func (l letter) show(item *localv1.InboxItem) error {
	item.Language, item.Subject = l.text.GetLanguage(), l.text.GetSubject()
	rendered, err := markdown.HTML(l.text.GetBody())
	if err != nil {
		return fmt.Errorf("render an announcement: %w", err)
	}
	item.Body, item.BodyHtml, item.BodyText = l.text.GetBody(), rendered, markdown.Text(l.text.GetBody())
	for _, note := range l.notes {
		rendered, err := markdown.HTML(note.text)
		if err != nil {
			return fmt.Errorf("render a note: %w", err)
		}
		item.Notes = append(item.Notes, &localv1.InboxNote{Region: regionName(note.region), Text: note.text, Html: rendered})
	}
	return nil
}

// pages is a letter as a mail holds it, but for what concerns one person.
type pages struct {
	subject, language string
	text, html        string
}

// render writes the letter, below the chapter's own note. The notes stand above it, the nearest first.
func (l letter) render(chapterNote string) (pages, error) {
	parts := []string{chapterNote}
	for _, note := range slices.Backward(l.notes) {
		parts = append(parts, note.text)
	}
	parts = append(parts, l.text.GetBody())
	p := pages{subject: l.text.GetSubject(), language: l.text.GetLanguage()}
	for i, part := range slices.DeleteFunc(parts, func(part string) bool { return strings.TrimSpace(part) == "" }) {
		rendered, err := markdown.HTML(part)
		if err != nil {
			return p, fmt.Errorf("render a mail: %w", err)
		}
		if i > 0 {
			p.text += "\n* * *\n\n"
			p.html += "<hr>\n"
		}
		p.text += strings.TrimRight(markdown.Text(part), "\n") + "\n"
		p.html += rendered
	}
	p.addLinks(l.announcement.GetLinks())
	return p, nil
}

// addLinks lists the attachments. Whatever else than the web they lead to is left out.
func (p *pages) addLinks(links []*eventv1.AnnouncementLink) {
	links = slices.DeleteFunc(slices.Clone(links), func(link *eventv1.AnnouncementLink) bool {
		return !strings.HasPrefix(link.GetUrl(), "https://") && !strings.HasPrefix(link.GetUrl(), "http://")
	})
	if len(links) == 0 {
		return
	}
	p.text += "\n"
	p.html += "<ul>\n"
	for _, link := range links {
		title := cmp.Or(link.GetTitle(), link.GetUrl())
		p.text += title + ": " + link.GetUrl() + "\n"
		p.html += `<li><a href="` + html.EscapeString(link.GetUrl()) + `" rel="noopener">` + html.EscapeString(title) + "</a></li>\n"
	}
	p.html += "</ul>\n"
}

// inboxName is where an announcement lies in a chapter.
func inboxName(chapter string, id uuid.UUID) string {
	return chapterName(chapter) + "/inbox/" + id.String()
}
