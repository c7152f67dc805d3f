package source

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

// csvRows reads records in the sense of RFC 4180.
type csvRows struct {
	layout
	text   *text
	reader *csv.Reader
	line   int // on which the record after the last one read is expected
}

func newCSV(text *text, opts Options, detected *Detected) (format, error) {
	sample, whole := text.sample()
	if opts.MapAddress == "" && areMailboxes(sample) {
		detected.Format = Mailboxes
		return newMailboxes(text), nil
	}
	l, err := detectLayout(sample, whole, opts)
	if err != nil {
		return nil, err
	}
	l.describe(detected)
	rows := &csvRows{layout: l, text: text, reader: newCSVReader(text.Reader, l.delimiter), line: 1}
	detected.TitleLines, err = rows.skipHeader()
	return rows, err
}

func (l *layout) describe(detected *Detected) {
	column := func(i int) Column {
		c := Column{Number: i + 1}
		if i < len(l.header) {
			c.Header = strings.TrimSpace(l.header[i])
		}
		return c
	}
	detected.Delimiter = string(l.delimiter)
	detected.Header = l.header != nil
	detected.AddressColumn = column(l.address)
	for _, i := range l.names {
		detected.NameColumns = append(detected.NameColumns, column(i))
	}
	for _, state := range l.states {
		detected.StateColumns = append(detected.StateColumns, column(state.column))
	}
}

// skipHeader returns how many lines precede the header.
func (c *csvRows) skipHeader() (titles int, err error) {
	for range c.skip {
		cells, err := c.reader.Read()
		var broken *csv.ParseError
		if err != nil && !errors.As(err, &broken) { // a title may be full of quotes
			return 0, c.text.explain(err, c.line)
		}
		titles = c.advance(cells) - 1
	}
	if c.header == nil {
		return 0, nil
	}
	return titles, nil
}

func (c *csvRows) next() (record, error) {
	for {
		cells, err := c.reader.Read()
		if err != nil {
			return c.broken(err)
		}
		line := c.advance(cells)
		if blank(cells) {
			continue
		}
		if len(cells) != c.width && multiline(cells) {
			return record{}, &Error{Kind: Unreadable, Line: line, Text: "a quoted cell goes on over several lines and the row does not fit the others; is a closing quotation mark missing?"}
		}
		if c.ownExport {
			for i := range cells {
				cells[i] = Unprotected(cells[i])
			}
		}
		rec := record{line: line, address: cell(cells, c.address), name: c.name(cells), rejected: c.state(cells)}
		for _, column := range c.fields {
			rec.fields = append(rec.fields, cell(cells, column))
		}
		return rec, nil
	}
}

// state is the first reason that the row itself gives not to take it.
func (c *csvRows) state(cells []string) *Rejection {
	for i := range c.states {
		if rejected := c.states[i].rejection(cell(cells, c.states[i].column)); rejected != nil {
			return rejected
		}
	}
	return nil
}

// advance notes that a record was read whole and returns the line on which it began.
func (c *csvRows) advance(cells []string) int {
	c.text.consumed()
	if len(cells) == 0 {
		c.line++
		return c.line - 1
	}
	line, _ := c.reader.FieldPos(0)
	last := len(cells) - 1
	lastLine, _ := c.reader.FieldPos(last)
	c.line = lastLine + strings.Count(cells[last], "\n") + 1
	return line
}

// broken decides what a reading error means. Quotes that are wrong within one line cost that row. Where a cell
// swallowed lines, or the file ends, nobody knows how many rows are missing.
func (c *csvRows) broken(err error) (record, error) {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return record{}, io.EOF
	case !errors.As(err, &parse) || c.text.source.err != nil:
		return record{}, c.text.explain(err, c.line)
	case parse.StartLine != parse.Line:
		return record{}, &Error{Kind: Unreadable, Line: parse.StartLine, Text: "a quoted cell that begins here is not closed properly and swallows the lines after it; close it, and write a quotation mark inside of it twice"}
	case c.text.atEnd():
		return record{}, &Error{Kind: Unreadable, Line: parse.StartLine, Text: "the file ends within a quoted cell; it seems to be cut short: export it again"}
	}
	c.text.consumed()
	c.line = parse.Line + 1
	return record{line: parse.StartLine, rejected: BrokenQuotes}, nil
}

// name joins the parts of a name. A part that contains the other is the whole name: some tools write
// a "Name" beside a "First Name".
func (c *csvRows) name(cells []string) string {
	switch len(c.names) {
	case 0:
		return ""
	case 1:
		return cell(cells, c.names[0])
	}
	first, second := strings.TrimSpace(cell(cells, c.names[0])), strings.TrimSpace(cell(cells, c.names[1]))
	switch {
	case first == "", strings.HasPrefix(second, first+" "):
		return second
	case second == "", strings.HasSuffix(first, " "+second):
		return first
	}
	return first + " " + second
}

func cell(cells []string, column int) string {
	if column >= 0 && column < len(cells) {
		return cells[column]
	}
	return ""
}

func blank(cells []string) bool {
	for _, c := range cells {
		if c != "" && strings.TrimSpace(c) != "" {
			return false
		}
	}
	return true
}

func multiline(cells []string) bool {
	for _, c := range cells {
		if strings.Contains(c, "\n") {
			return true
		}
	}
	return false
}

// mailboxRows reads a mailbox a line.
type mailboxRows struct {
	lines *lines
}

func newMailboxes(text *text) *mailboxRows { return &mailboxRows{newLines(text)} }

func (m *mailboxRows) next() (record, error) {
	line, err := m.lines.next()
	return record{line: m.lines.number, address: string(line)}, err
}

// areMailboxes reports whether the first line is a mailbox and one line of the sample is a mailbox with
// a quoted name, which CSV cannot be.
func areMailboxes(sample []byte) bool {
	firstSeen := false
	for line := range bytes.Lines(sample) {
		mailbox := string(bytes.TrimSpace(line))
		if mailbox == "" {
			continue
		}
		if !firstSeen && !looksLikeAddress(mailbox) {
			return false
		}
		firstSeen = true
		if name, _ := address.ParseMailbox(mailbox); mailbox[0] == '"' && name != "" && looksLikeAddress(mailbox) {
			return true
		}
	}
	return false
}

// lines reads lines that are not blank.
type lines struct {
	text    *text
	scanner *bufio.Scanner
	number  int // of the line last read
}

func newLines(text *text) *lines {
	scanner := bufio.NewScanner(text)
	scanner.Buffer(nil, maxRecord)
	return &lines{text: text, scanner: scanner}
}

func (l *lines) next() ([]byte, error) {
	for l.scanner.Scan() {
		l.number++
		l.text.consumed()
		if line := bytes.TrimSpace(l.scanner.Bytes()); len(line) > 0 {
			return line, nil
		}
	}
	if err := l.scanner.Err(); err != nil {
		return nil, l.text.explain(err, l.number+1)
	}
	return nil, io.EOF
}
