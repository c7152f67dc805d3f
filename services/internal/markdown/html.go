// Package markdown shows what people wrote in Markdown, as HTML that nothing can hide in and as plain text.
package markdown

import (
	"bytes"
	"fmt"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// dialect is CommonMark with what announcements use besides: tables, strikethrough and bare links. Raw HTML is left out.
var dialect = goldmark.New(
	goldmark.WithExtensions(extension.Table, extension.Strikethrough, linkify),
	goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(imagesAsLinks{}, 500))),
)

// linkify makes links of bare URLs and addresses, never of "www." alone, whose scheme would be a guess.
var linkify = extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"http:", "https:", "mailto:"}))

// policy is a second look at the HTML, by a program that knows nothing of Markdown: should the first be mistaken about a
// link, no scheme but these passes, and no attribute that runs anything.
var policy = newPolicy()

func newPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre",
		"blockquote", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes(schemes...)
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}

// HTML renders Markdown as a fragment of HTML, safe to put into a page or a mail. Raw HTML in it is left out, links lead
// to http, https or mailto, and a picture becomes a link to it: one that loads by itself tells its owner who reads.
func HTML(markdown string) (string, error) {
	var rendered bytes.Buffer
	if err := dialect.Convert([]byte(markdown), &rendered); err != nil {
		return "", fmt.Errorf("render Markdown: %w", err)
	}
	return policy.Sanitize(rendered.String()), nil
}

// imagesAsLinks turns every picture into a link with its alternative text.
type imagesAsLinks struct{}

func (imagesAsLinks) Transform(document *ast.Document, _ text.Reader, _ parser.Context) {
	var images []*ast.Image
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // the walker gives no errors
		if image, ok := n.(*ast.Image); ok && entering {
			images = append(images, image)
		}
		return ast.WalkContinue, nil
	})
	for _, image := range images {
		replace(image)
	}
}

// replace puts a link in the image's place, or its text alone within another link, where no link may be.
func replace(image *ast.Image) {
	parent := image.Parent()
	var children []ast.Node
	for child := image.FirstChild(); child != nil; child = child.NextSibling() {
		children = append(children, child)
	}
	if within(parent, ast.KindLink) {
		for _, child := range children {
			parent.InsertBefore(parent, image, child)
		}
		parent.RemoveChild(parent, image)
		return
	}
	link := ast.NewLink()
	link.Destination = image.Destination
	for _, child := range children {
		link.AppendChild(link, child)
	}
	if link.FirstChild() == nil {
		link.AppendChild(link, ast.NewString(image.Destination))
	}
	parent.ReplaceChild(parent, image, link)
}

func within(n ast.Node, kind ast.NodeKind) bool {
	for ; n != nil; n = n.Parent() {
		if n.Kind() == kind {
			return true
		}
	}
	return false
}
