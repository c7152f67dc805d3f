package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// output is the flag of the commands that print data.
type output struct {
	Output string `short:"o" enum:"table,json,csv" default:"table" help:"Form of the data: ${enum}."`
}

// table is a list of things: as rows for people and spreadsheets, as messages for programs.
type table[M any] struct {
	head  []string
	row   func(M) []string
	items []M
}

// printTable writes a table, with the messages' JSON when that is asked for.
func printTable[M any](o output, w io.Writer, t table[M]) error {
	p := newPrinter(o, w, t)
	return p.end(p.print(t.items))
}

// printer writes a table page by page, so that it need not be in memory as a whole.
type printer[M any] struct {
	form    string
	w       io.Writer
	csv     *csv.Writer
	columns *tabwriter.Writer
	row     func(M) []string
	printed int
}

// newPrinter writes the head. Errors of writing are kept until a page is complete.
func newPrinter[M any](o output, w io.Writer, t table[M]) *printer[M] {
	p := &printer[M]{form: o.Output, w: w, row: t.row}
	switch o.Output {
	case "json":
	case "csv":
		p.csv = csv.NewWriter(w)
		_ = p.csv.Write(t.head)
	default:
		p.columns = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		_, _ = fmt.Fprintln(p.columns, strings.ToUpper(strings.Join(t.head, "\t")))
	}
	return p
}

// print writes one page. Columns are as wide as their page needs.
func (p *printer[M]) print(items []M) error {
	switch p.form {
	case "json":
		return p.printJSON(items)
	case "csv":
		for _, item := range items {
			_ = p.csv.Write(each(p.row(item), harmless))
		}
		p.csv.Flush()
		return p.csv.Error()
	}
	for _, item := range items {
		_, _ = fmt.Fprintln(p.columns, strings.Join(each(p.row(item), visible), "\t"))
	}
	return p.columns.Flush()
}

// printJSON writes the messages as the REST interface does, as items of one array.
func (p *printer[M]) printJSON(items []M) error {
	var page bytes.Buffer
	for _, item := range items {
		text, err := marshal(item)
		if err != nil {
			return err
		}
		before := ",\n  "
		if p.printed++; p.printed == 1 {
			before = "[\n  "
		}
		page.WriteString(before)
		if err := json.Indent(&page, text, "  ", "  "); err != nil {
			return err
		}
	}
	_, err := page.WriteTo(p.w)
	return err
}

// end completes what was printed, unless printing failed.
func (p *printer[M]) end(err error) error {
	if err != nil || p.form != "json" {
		return err
	}
	last := "\n]\n"
	if p.printed == 0 {
		last = "[]\n"
	}
	_, err = io.WriteString(p.w, last)
	return err
}

// marshal is an item in JSON, in one line: protojson puts spaces at random.
func marshal(item any) ([]byte, error) {
	message, ok := item.(proto.Message)
	if !ok {
		return json.Marshal(item)
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, text)
	return compact.Bytes(), err
}

func each(cells []string, change func(string) string) []string {
	for i, cell := range cells {
		cells[i] = change(cell)
	}
	return cells
}

// visible keeps what somebody wrote into a list from moving the cursor of whoever reads it.
func visible(cell string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\u00b7'
		}
		return r
	}, cell)
}

// harmless keeps a spreadsheet from taking text that somebody chose for a formula (OWASP, CSV injection).
func harmless(cell string) string {
	if cell == "" || !strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return cell
	}
	if _, err := strconv.Atoi(cell); err == nil {
		return cell
	}
	return "'" + cell
}

// date is a time as people and spreadsheets read it.
func date(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format("2006-01-02 15:04:05Z")
}
