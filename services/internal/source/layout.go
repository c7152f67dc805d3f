package source

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

const (
	sampleRecords = 30 // how many records decide
	maxTitles     = 5  // how many lines of a title may precede the header
)

// layout is how a CSV file is built.
type layout struct {
	certainty certainty
	delimiter rune
	skip      int // records before the first row: titles and the header
	header    []string
	width     int   // cells of the header, or of the first row where there is none
	address   int   // column, from 0
	names     []int // columns, from 0, that make up the name
	states    []stateColumn
	fields    []int // columns, from 0, of Options.Fields; -1 for one that is not there
	ownExport bool  // the header is that of our own export
}

// certainty orders the layouts that the delimiters give; the highest wins.
type certainty uint8

const (
	unknown     certainty = iota
	onlyColumn            // one column, whose header is no known word
	byContent             // a header about mail, over cells that hold addresses
	headerless            // the first row holds an address
	byHeader              // a header that only a column of addresses has
	asRequested           // the caller named the column
)

// detectLayout reads the sample with each delimiter and takes the layout that explains it best.
func detectLayout(sample []byte, whole bool, opts Options) (layout, error) {
	var best layout
	for _, delimiter := range delimiters(sample) {
		grid := readGrid(sample, whole, delimiter)
		l := locate(grid, opts)
		l.delimiter = delimiter
		if opts.Fields == nil {
			l.states = findStates(l.header, grid[min(l.skip, len(grid)):], l.address)
		}
		if l.certainty > best.certainty || (l.certainty == best.certainty && l.width > best.width) {
			best = l
		}
	}
	if best.certainty == unknown {
		return layout{}, noAddressColumn(sample, opts)
	}
	best.ownExport = slices.Equal(best.header, ExportColumns) || slices.Equal(best.header, MemberColumns)
	best.findFields(opts)
	return best, best.nameColumns(opts)
}

// delimiters honours the first line "sep=;" that Excel reads and writes.
func delimiters(sample []byte) []rune {
	line, _, _ := bytes.Cut(sample, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	if d, ok := bytes.CutPrefix(line, []byte("sep=")); ok && len(d) == 1 && strings.IndexByte(",;\t", d[0]) >= 0 {
		return []rune{rune(d[0])}
	}
	return []rune{',', ';', '\t'}
}

// newCSVReader is the one way in which the sample and the file are read. A *bufio.Reader is used as it is,
// so what is left in it is what follows the record.
func newCSVReader(r io.Reader, delimiter rune) *csv.Reader {
	reader := csv.NewReader(r)
	reader.Comma = delimiter
	reader.FieldsPerRecord = -1
	reader.ReuseRecord = true
	reader.TrimLeadingSpace = delimiter != '\t' // `a, "b"`; with tabs it would swallow empty cells
	return reader
}

// readGrid returns the first records; nil stands for one whose quotes are broken.
func readGrid(sample []byte, whole bool, delimiter rune) [][]string {
	reader := newCSVReader(bytes.NewReader(sample), delimiter)
	var grid [][]string
	for len(grid) < sampleRecords {
		cells, err := reader.Read()
		var broken *csv.ParseError
		switch {
		case err == nil:
			grid = append(grid, slices.Clone(cells))
		case errors.As(err, &broken) && broken.StartLine == broken.Line:
			grid = append(grid, nil)
		default:
			if !whole && len(grid) > 1 {
				grid = grid[:len(grid)-1] // the sample may end within it
			}
			return grid
		}
	}
	return grid
}

func width(grid [][]string) int {
	w := 0
	for _, cells := range grid {
		w = max(w, len(cells))
	}
	return w
}

// locate finds the header and the column of addresses, or leaves the certainty unknown.
func locate(grid [][]string, opts Options) layout {
	first := slices.IndexFunc(grid, func(cells []string) bool { return !blank(cells) })
	if first < 0 {
		return layout{}
	}
	if opts.MapAddress != "" {
		return findHeader(grid, first, asRequested, func(_ int, header string) bool { return sameHeader(header, opts.MapAddress) })
	}
	if column := slices.IndexFunc(grid[first], looksLikeAddress); column >= 0 {
		return layout{certainty: headerless, skip: first, width: len(grid[first]), address: column}
	}
	if l := findHeader(grid, first, byHeader, func(_ int, header string) bool { return roleOf(header) == addressRole }); l.certainty > unknown {
		return l
	}
	if l := findByContent(grid, first); l.certainty > unknown {
		return l
	}
	if next := first + 1; width(grid) == 1 && next < len(grid) && slices.ContainsFunc(grid[next], looksLikeAddress) {
		return layout{certainty: onlyColumn, skip: next, header: grid[first], width: 1}
	}
	return layout{}
}

func findHeader(grid [][]string, first int, found certainty, match func(column int, header string) bool) layout {
	for i := first; i < min(len(grid), first+1+maxTitles); i++ {
		for column, header := range grid[i] {
			if match(column, header) {
				return layout{certainty: found, skip: i + 1, header: grid[i], width: len(grid[i]), address: column}
			}
		}
	}
	return layout{}
}

// findByContent takes a header that may or may not be about addresses at its rows' word.
func findByContent(grid [][]string, first int) layout {
	for i := first; i < min(len(grid), first+1+maxTitles); i++ {
		best, most := -1, 0
		for column, header := range grid[i] {
			if roleOf(header) != maybeAddress {
				continue
			}
			if n := countAddresses(grid[i+1:], column); n > most || (best < 0 && i+1 == len(grid)) {
				best, most = column, n
			}
		}
		if best >= 0 {
			return layout{certainty: byContent, skip: i + 1, header: grid[i], width: len(grid[i]), address: best}
		}
	}
	return layout{}
}

func countAddresses(rows [][]string, column int) int {
	n := 0
	for _, cells := range rows {
		if column < len(cells) && looksLikeAddress(cells[column]) {
			n++
		}
	}
	return n
}

// looksLikeAddress is also true of addresses that will be refused: a first row that holds one is a row, not a header,
// and must not vanish.
func looksLikeAddress(cell string) bool {
	_, addr := address.ParseMailbox(cell)
	at := strings.LastIndexByte(addr, '@')
	return at > 0 && at < len(addr)-1 && !strings.ContainsAny(addr, " \t\n,;")
}

func sameHeader(a, b string) bool {
	return strings.TrimSpace(a) == strings.TrimSpace(b) || (key(a) != "" && key(a) == key(b))
}

// findFields finds the further columns.
func (l *layout) findFields(opts Options) {
	for _, field := range opts.Fields {
		l.fields = append(l.fields, slices.IndexFunc(l.header, func(header string) bool { return sameHeader(header, field) }))
	}
}

// nameColumns finds the columns that make up a person's name.
func (l *layout) nameColumns(opts Options) error {
	if opts.MapDisplayName != "" {
		column := slices.IndexFunc(l.header, func(header string) bool { return sameHeader(header, opts.MapDisplayName) })
		if column < 0 {
			return &Error{Kind: Unreadable, Text: fmt.Sprintf("no column is called %q", opts.MapDisplayName)}
		}
		l.names = []int{column}
		return nil
	}
	columns := make(map[role]int)
	for column, header := range l.header {
		if role := roleOf(header); column != l.address && role != other {
			if _, taken := columns[role]; !taken {
				columns[role] = column
			}
		}
	}
	for _, roles := range [][]role{
		{fullName},
		{familyFirst, givenName},
		{givenName, familyName},
		{givenName, anyName},
		{anyName, familyName},
		{anyName},
		{givenName},
		{familyFirst},
		{familyName},
		{nickname},
	} {
		if l.names = pick(columns, roles); l.names != nil {
			return nil
		}
	}
	return nil
}

// pick returns the columns of all these roles, or nil where one is missing.
func pick(columns map[role]int, roles []role) []int {
	var picked []int
	for _, role := range roles {
		column, ok := columns[role]
		if !ok {
			return nil
		}
		picked = append(picked, column)
	}
	return picked
}

// noAddressColumn says what to do without repeating a cell: what stands in the place of the header may be a person.
func noAddressColumn(sample []byte, opts Options) error {
	refusal := &Error{Kind: NoAddressColumn}
	switch start := bytes.TrimSpace(sample); {
	case opts.MapAddress != "":
		refusal.Text = fmt.Sprintf("no column is called %q", opts.MapAddress)
	case bytes.HasPrefix(start, []byte("{")), bytes.HasPrefix(start, []byte("[")):
		return &Error{Kind: Unreadable, Text: "it looks like JSON; send it as application/json or application/x-ndjson"}
	default:
		refusal.Text = "no column is known to hold addresses; call it email, or name it with map.address"
		if column := likeliest(sample); column > 0 {
			refusal.Text += fmt.Sprintf(" (column %d looks like it)", column)
		} else if isMeetup(sample) {
			refusal.Text = "this is a member export of Meetup, which holds no addresses; ask for them with a question when people join, " +
				"and export its answers, or add a column email"
		}
	}
	return refusal
}

// isMeetup knows the export that organisers try first, by two columns that nobody else has.
func isMeetup(sample []byte) bool {
	for _, cells := range readGrid(sample, true, '\t') {
		keys := make([]string, len(cells))
		for i, header := range cells {
			keys[i] = key(header)
		}
		if slices.Contains(keys, "urlofmemberprofile") && (slices.Contains(keys, "memberid") || slices.Contains(keys, "userid")) {
			return true
		}
	}
	return false
}

// likeliest is the number of the column that holds the most addresses, 0 where none holds any.
func likeliest(sample []byte) int {
	likeliest, most := 0, 0
	for _, delimiter := range delimiters(sample) {
		grid := readGrid(sample, true, delimiter)
		for column := range width(grid) {
			if n := countAddresses(grid, column); n > most {
				likeliest, most = column+1, n
			}
		}
	}
	return likeliest
}
