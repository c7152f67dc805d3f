package markdown

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// schemes are those of links that are shown as links.
var schemes = []string{"http", "https", "mailto"}

// Text renders Markdown as plain text for those who see no HTML: paragraphs apart, lists with their marks, and the
// address of a link after its words. Lines are not broken; a mail reader does that.
func Text(markdown string) string {
	source := []byte(markdown)
	w := writer{source: source}
	return w.blocks(dialect.Parser().Parse(text.NewReader(source)))
}

type writer struct{ source []byte }

// blocks renders the blocks in a node, an empty line between two.
func (w writer) blocks(parent ast.Node) string {
	between := "\n\n"
	if list, ok := parent.(*ast.List); ok && list.IsTight || parent.Kind() == ast.KindListItem && tight(parent) {
		between = "\n"
	}
	var parts []string
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		if part := w.block(n); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, between)
}

func tight(item ast.Node) bool {
	list, ok := item.Parent().(*ast.List)
	return ok && list.IsTight
}

func (w writer) block(n ast.Node) string {
	switch n := n.(type) {
	case *ast.ThematicBreak:
		return "----"
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		return indent(strings.TrimRight(string(n.Lines().Value(w.source)), "\n"), "    ", "    ")
	case *ast.HTMLBlock:
		return ""
	case *ast.Blockquote:
		return indent(w.blocks(n), "> ", "> ")
	case *ast.List:
		return w.blocks(n)
	case *ast.ListItem:
		mark := w.mark(n)
		return indent(w.blocks(n), mark, strings.Repeat(" ", len(mark)))
	case *extast.Table:
		return w.table(n)
	case *ast.Heading:
		return w.heading(n)
	}
	return strings.TrimSpace(w.inlines(n))
}

func (w writer) heading(n *ast.Heading) string {
	title := strings.TrimSpace(w.inlines(n))
	line := "-"
	if n.Level == 1 {
		line = "="
	}
	return title + "\n" + strings.Repeat(line, len([]rune(title)))
}

func (w writer) mark(item *ast.ListItem) string {
	list, ok := item.Parent().(*ast.List)
	if !ok || !list.IsOrdered() {
		return "- "
	}
	number := list.Start
	for n := item.PreviousSibling(); n != nil; n = n.PreviousSibling() {
		number++
	}
	return fmt.Sprintf("%d%c ", number, list.Marker)
}

// table writes a line a row.
func (w writer) table(table ast.Node) string {
	var rows []string
	for row := table.FirstChild(); row != nil; row = row.NextSibling() {
		var cells []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, strings.TrimSpace(w.inlines(cell)))
		}
		rows = append(rows, strings.Join(cells, " | "))
	}
	return strings.Join(rows, "\n")
}

func (w writer) inlines(parent ast.Node) string {
	var b strings.Builder
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		b.WriteString(w.inline(n))
	}
	return b.String()
}

func (w writer) inline(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Text:
		return w.words(n)
	case *ast.String:
		return string(n.Value)
	case *ast.CodeSpan:
		return w.raw(n)
	case *ast.RawHTML:
		return ""
	case *ast.AutoLink:
		return string(n.Label(w.source))
	case *ast.Link:
		return withAddress(w.inlines(n), string(n.Destination))
	}
	return w.inlines(n)
}

// words are a text's, with its escapes and entities resolved. A line end in the source is none to the reader.
func (w writer) words(n *ast.Text) string {
	value := string(util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(n.Value(w.source)))))
	switch {
	case n.HardLineBreak():
		return value + "\n"
	case n.SoftLineBreak():
		return value + " "
	}
	return value
}

// raw is a code span's text as it stands.
func (w writer) raw(n ast.Node) string {
	var b strings.Builder
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		if t, ok := child.(*ast.Text); ok {
			b.Write(t.Value(w.source))
		}
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

func withAddress(words, address string) string {
	parsed, err := url.Parse(address)
	if err != nil || !slices.Contains(schemes, parsed.Scheme) || words == address || "mailto:"+words == address {
		return words
	}
	return strings.TrimSpace(words) + " (" + address + ")"
}

// indent puts first before the first line and rest before the others, but nothing before an empty one.
func indent(s, first, rest string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		switch {
		case i == 0:
			lines[i] = first + line
		case line == "":
			lines[i] = strings.TrimRight(rest, " ")
		default:
			lines[i] = rest + line
		}
	}
	return strings.Join(lines, "\n")
}
