// Package source reads the file that a list is compared with, as a stream of rows: CSV in the shapes that list tools
// and spreadsheets write, NDJSON, and JSON. A bad row is a rejection with its line and reason and the rest is read on;
// a file that may not be what it claims to be is an error, because what is missing from it would be removed.
//
// Memory does not grow with the file: a row has at most 1 MiB and nothing older than the last row is kept.
package source

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

// DefaultMaxRows is the limit where Options say none.
const DefaultMaxRows = 5_000_000

// Options are what the caller of a sync may say about the file.
type Options struct {
	MapAddress     string // header of the column that holds addresses; found by itself where empty. CSV only
	MapDisplayName string // header of the column that holds names; found by itself where empty. CSV only
	MaxRows        int    // 0 is DefaultMaxRows; rejected rows count, blank ones do not
	// Fields are further columns of CSV, by their headers, and fields of JSON that a row may have. A file that may have some
	// is no mailing list: no column of it is taken for one that says who has left.
	Fields []string
}

// Row is one person's row. Either Address or Rejected is set.
type Row struct {
	Line        int      // line on which the row begins, from 1; in a JSON document the number of the entry, from 1
	Address     string   // canonical
	DisplayName string   // as address.DisplayName cleans it; may be empty
	Fields      []string // as Options.Fields has them; empty where the row has none
	Rejected    *Rejection
}

// Rejection says why a row cannot be used. Code is one of package address (EMAIL_...) or of this package (SOURCE_...).
// Text never contains the address.
type Rejection struct {
	Code string
	Text string
}

// The rejections of this package.
var (
	AddressMissing = &Rejection{"SOURCE_ADDRESS_MISSING", "the row has no address"}
	BrokenQuotes   = &Rejection{"SOURCE_BROKEN_QUOTES", "a quotation mark stands where none may; inside a quoted cell it is written twice"}
	NotText        = &Rejection{"SOURCE_NOT_TEXT", "the entry is not an object whose fields are texts"}
)

// Kind sorts the reasons for which a file as a whole is refused.
type Kind string

// The kinds of Error.
const (
	Empty                Kind = "EMPTY"                  // nothing, or a header and nothing else
	Unreadable           Kind = "UNREADABLE"             // not what the media type says, or broken in a way that may hide rows
	NoAddressColumn      Kind = "NO_ADDRESS_COLUMN"      // CSV without a column known to hold addresses
	TooLarge             Kind = "TOO_LARGE"              // more rows than allowed
	UnsupportedMediaType Kind = "UNSUPPORTED_MEDIA_TYPE" // none of those that New reads
)

// Error refuses the file. Text never contains anything out of a row.
type Error struct {
	Kind Kind
	Line int // where it was noticed, counted as Row.Line; 0 where no line is to blame
	Text string
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Text)
	}
	return e.Text
}

// Detected is what the file was taken for, so that a plan can show it.
type Detected struct {
	Format        Format
	Encoding      string   // "utf-8", "utf-16le", "utf-16be", "windows-1252"
	Delimiter     string   // of CSV: ",", ";" or a tab
	Header        bool     // CSV has a header
	AddressColumn Column   // of CSV
	NameColumns   []Column // of CSV, in the order in which they make up the name; empty where there is none
	StateColumns  []Column // of CSV: those that say who has left
	TitleLines    int      // of CSV: how many lines precede the header
}

// Format is how rows are written.
type Format string

// The formats. Mailboxes is what `list_members -f` of Mailman writes as text/csv: an RFC 5322 mailbox a line,
// with quoted names that are not CSV.
const (
	CSV       Format = "csv"
	Mailboxes Format = "mailboxes"
	NDJSON    Format = "ndjson"
	JSON      Format = "json"
)

// Column is a column of a CSV file.
type Column struct {
	Number int    // from 1
	Header string // as written; empty where there is no header
}

// record is a row before its address is judged. Its texts are valid until the next one is read.
type record struct {
	line     int
	address  string
	name     string
	fields   []string
	rejected *Rejection
}

// format reads the records of one format, each at most maxRecord long. It returns io.EOF after the last one.
type format interface {
	next() (record, error)
}

// Reader reads rows. It is not safe for concurrent use.
type Reader struct {
	rows     format
	text     *text
	detected Detected
	maxRows  int
	count    int
	err      error
}

// New looks at the beginning of the file. It may already return an *Error, as Next does; any other error
// is one of reading from r.
func New(r io.Reader, mediaType string, opts Options) (*Reader, error) {
	format, err := formatOf(mediaType)
	if err != nil {
		return nil, err
	}
	text, err := openText(r)
	if err != nil {
		return nil, err
	}
	reader := &Reader{text: text, maxRows: opts.MaxRows, detected: Detected{Format: format}}
	if reader.maxRows <= 0 {
		reader.maxRows = DefaultMaxRows
	}
	if reader.rows, err = newFormat(text, opts, &reader.detected); err != nil {
		return nil, err
	}
	return reader, nil
}

func newFormat(text *text, opts Options, detected *Detected) (format, error) {
	if detected.Format == CSV {
		return newCSV(text, opts, detected)
	}
	if opts.MapAddress != "" || opts.MapDisplayName != "" {
		return nil, &Error{Kind: Unreadable, Text: "only columns of CSV can be mapped; entries in JSON have the fields address and displayName"}
	}
	if detected.Format == NDJSON {
		return newNDJSON(text, opts), nil
	}
	return newJSON(text, opts), nil
}

func formatOf(mediaType string) (Format, error) {
	base, _, _ := mime.ParseMediaType(mediaType) // parameters, even wrong ones, change nothing: the bytes tell the encoding
	switch base {
	case "text/csv", "application/csv", "text/tab-separated-values":
		return CSV, nil
	case "application/x-ndjson", "application/ndjson":
		return NDJSON, nil
	case "application/json":
		return JSON, nil
	}
	return "", &Error{Kind: UnsupportedMediaType, Text: "a list is read from text/csv, application/x-ndjson or application/json"}
}

// Detected is complete after New, but for the encoding: plain ASCII counts as UTF-8 until the first
// byte that is not.
func (r *Reader) Detected() Detected {
	d := r.detected
	d.Encoding = r.text.encoding()
	return d
}

// Next returns the next row, io.EOF after the last, an *Error when the file must be refused, or the error of
// reading from the underlying reader. Errors stay: after one, Next returns it again.
func (r *Reader) Next() (Row, error) {
	if r.err != nil {
		return Row{}, r.err
	}
	row, err := r.read()
	r.err = err
	return row, err
}

func (r *Reader) read() (Row, error) {
	rec, err := r.rows.next()
	switch {
	case errors.Is(err, io.EOF) && r.count == 0:
		return Row{}, &Error{Kind: Empty, Text: "there is no row in it; export the list again, without a filter"}
	case err != nil:
		return Row{}, err
	case r.count == r.maxRows:
		return Row{}, &Error{Kind: TooLarge, Line: rec.line, Text: fmt.Sprintf("there are more than %d rows, which is the limit here; is it the right file?", r.maxRows)}
	}
	r.count++
	return rec.judge(), nil
}

// judge copies what it keeps: a row that is kept must not keep the whole line, notes and tags, alive.
func (rec record) judge() Row {
	row := Row{Line: rec.line, Rejected: rec.rejected}
	for _, field := range rec.fields {
		row.Fields = append(row.Fields, strings.Clone(strings.TrimSpace(field)))
	}
	if row.Rejected != nil {
		return row
	}
	name, addr := address.ParseMailbox(rec.address)
	if row.DisplayName = strings.Clone(address.DisplayName(rec.name)); row.DisplayName == "" {
		row.DisplayName = strings.Clone(name)
	}
	if addr == "" {
		row.Rejected = AddressMissing
		return row
	}
	canonical, err := address.Canonical(addr)
	if err != nil {
		row.Rejected = rejection(err)
		return row
	}
	row.Address = strings.Clone(canonical)
	return row
}

func rejection(err error) *Rejection {
	var refusal *address.Error
	if !errors.As(err, &refusal) {
		refusal = address.ErrSyntax
	}
	return &Rejection{Code: refusal.Code, Text: refusal.Text}
}
