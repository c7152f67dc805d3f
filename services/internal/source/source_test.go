package source_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

const (
	csvType    = "text/csv"
	ndjsonType = "application/x-ndjson"
	jsonType   = "application/json"
)

// readAll returns the rows before the end or the error.
func readAll(r io.Reader, mediaType string, opts source.Options) ([]source.Row, source.Detected, error) {
	reader, err := source.New(r, mediaType, opts)
	if err != nil {
		return nil, source.Detected{}, err
	}
	var rows []source.Row
	for {
		row, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return rows, reader.Detected(), nil
		}
		if err != nil {
			return rows, reader.Detected(), err
		}
		rows = append(rows, row)
	}
}

// show writes a row as "line address|name" or "line !CODE".
func show(rows []source.Row) string {
	var b strings.Builder
	for _, row := range rows {
		if row.Rejected != nil {
			fmt.Fprintf(&b, "%d !%s\n", row.Line, row.Rejected.Code)
			continue
		}
		fmt.Fprintf(&b, "%d %s|%s\n", row.Line, row.Address, row.DisplayName)
	}
	return b.String()
}

func wantRows(t *testing.T, body, mediaType string, opts source.Options, want ...string) source.Detected {
	t.Helper()
	rows, detected, err := readAll(strings.NewReader(body), mediaType, opts)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	if got := strings.TrimSuffix(show(rows), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	return detected
}

func wantError(t *testing.T, body, mediaType string, opts source.Options, kind source.Kind, line int) {
	t.Helper()
	rows, _, err := readAll(strings.NewReader(body), mediaType, opts)
	var refusal *source.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v and\n%s\nwant %s", err, show(rows), kind)
	}
	if refusal.Kind != kind || refusal.Line != line {
		t.Errorf("got %s in line %d (%v), want %s in line %d", refusal.Kind, refusal.Line, refusal, kind, line)
	}
	if refusal.Text == "" || strings.Contains(refusal.Error(), "@") {
		t.Errorf("the text says nothing, or tells an address: %q", refusal.Error())
	}
}

func file(t testing.TB, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var (
	kofi  = "kofi.lindqvist0@example.org|Kofi Lindqvist"
	mika  = "mika.kaya1@example.org|Mika Kaya"
	bina  = "bina.rao2@example.org|Bina Rao"
	rosa  = "rosa.rao3@example.org|Rosa Rao"
	lea   = "lea.nguyen4@example.org|Léa Nguyễn"
	bina5 = "bina.obrien5@example.org|Bina O'Brien"
	goran = "goran.okafor6@example.org|Goran Okafor"
	chen  = "chen.novak7@example.org|Chen Novák"
	nadia = "nadia.rao8@example.org|Nadia Rao"
	hana  = "hana.rao9@example.org|Hana Rao"
)

// numbered prefixes rows with their lines: from, from+step, ...
func numbered(from, step int, rows ...string) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = fmt.Sprintf("%d %s", from+i*step, row)
	}
	return out
}

var firstName = func(row string) string { return row[:strings.LastIndexByte(row, ' ')] }

// files says of each sample file what must come of it.
var files = []struct {
	name     string
	rows     []string
	kind     source.Kind // of the error, where there is one
	line     int
	detected source.Detected
}{
	{
		name: "bevy.csv", rows: numbered(2, 1, kofi, mika, bina, rosa, lea, bina5),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-8", Delimiter: ",", Header: true, AddressColumn: source.Column{Number: 3, Header: "Email"},
			NameColumns: []source.Column{{Number: 1, Header: "First Name"}, {Number: 2, Header: "Last Name"}},
		},
	},
	{name: "empty.csv", kind: source.Empty},
	{
		name: "google-groups.csv",
		rows: numbered(3, 1, firstName(kofi), firstName(mika), firstName(bina), firstName(rosa), firstName(lea), firstName(bina5),
			firstName(goran), firstName(chen), firstName(nadia), firstName(hana)),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-8", Delimiter: ",", Header: true, AddressColumn: source.Column{Number: 1, Header: "Email address"},
			NameColumns:  []source.Column{{Number: 2, Header: "Nickname"}},
			StateColumns: []source.Column{{Number: 3, Header: "Group status"}, {Number: 4, Header: "Email status"}}, TitleLines: 1,
		},
	},
	{name: "header-only.csv", kind: source.Empty},
	{
		name: "listmonk.csv", rows: numbered(2, 1, kofi, mika, bina, rosa, lea, bina5),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-8", Delimiter: ",", Header: true, AddressColumn: source.Column{Number: 1, Header: "email"},
			NameColumns: []source.Column{{Number: 2, Header: "name"}},
		},
	},
	{
		name: "mailchimp.csv", rows: numbered(2, 2, kofi, mika, bina, rosa, lea, bina5, goran, chen),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-8", Delimiter: ",", Header: true, AddressColumn: source.Column{Number: 1, Header: "Email Address"},
			NameColumns: []source.Column{{Number: 2, Header: "First Name"}, {Number: 3, Header: "Last Name"}},
		},
	},
	{name: "no-address-column.csv", kind: source.NoAddressColumn},
	{
		name: "plain.csv",
		rows: append(numbered(2, 1, kofi, mika, bina, rosa, lea, bina5, goran, chen, nadia, hana,
			"rosa.novak10@example.org|Rosa Novák", "bina.nguyen11@example.org|Bina Nguyễn", mika),
			"15 !EMAIL_DOMAIN", "16 !SOURCE_ADDRESS_MISSING"),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-8", Delimiter: ",", Header: true, AddressColumn: source.Column{Number: 1, Header: "email"},
			NameColumns: []source.Column{{Number: 2, Header: "name"}},
		},
	},
	{
		name: "semicolon-utf16le.csv", rows: numbered(2, 1, kofi, mika, bina, rosa, lea, bina5, goran, chen, nadia),
		detected: source.Detected{
			Format: source.CSV, Encoding: "utf-16le", Delimiter: ";", Header: true, AddressColumn: source.Column{Number: 1, Header: "E-Mail"},
			NameColumns: []source.Column{{Number: 2, Header: "Vorname"}, {Number: 3, Header: "Nachname"}},
		},
	},
	{
		name: "semicolon-windows1252.csv", rows: numbered(2, 1, kofi, mika, bina, rosa, bina5, goran, chen, nadia),
		detected: source.Detected{
			Format: source.CSV, Encoding: "windows-1252", Delimiter: ";", Header: true, AddressColumn: source.Column{Number: 1, Header: "E-Mail"},
			NameColumns: []source.Column{{Number: 2, Header: "Vorname"}, {Number: 3, Header: "Nachname"}},
		},
	},
	{name: "truncated.csv", kind: source.Unreadable, line: 7},
}

func TestSampleFiles(t *testing.T) {
	present, err := filepath.Glob("testdata/*.csv")
	if err != nil || len(present) != len(files) {
		t.Fatalf("%d sample files, %d of them described: %v", len(present), len(files), err)
	}
	for _, f := range files {
		t.Run(f.name, func(t *testing.T) {
			if f.kind != "" {
				wantError(t, file(t, f.name), csvType, source.Options{}, f.kind, f.line)
				return
			}
			detected := wantRows(t, file(t, f.name), csvType, source.Options{}, f.rows...)
			if !reflect.DeepEqual(detected, f.detected) {
				t.Errorf("taken for\n%+v\nwant\n%+v", detected, f.detected)
			}
		})
	}
}

// A stream arrives in pieces that end anywhere.
func TestPiecesDoNotMatter(t *testing.T) {
	for _, f := range files {
		body := file(t, f.name)
		want, _, wantErr := readAll(strings.NewReader(body), csvType, source.Options{})
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"OneByte": iotest.OneByteReader, "Half": iotest.HalfReader, "DataWithError": iotest.DataErrReader,
		} {
			got, _, err := readAll(wrap(strings.NewReader(body)), csvType, source.Options{})
			if show(got) != show(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%s in pieces of %s: %v\n%s", f.name, name, err, show(got))
			}
		}
	}
}

// A connection that breaks is neither the end of the file nor the file's fault.
func TestBrokenConnectionIsNotTheFilesFault(t *testing.T) {
	broken := errors.New("connection reset")
	for mediaType, body := range map[string]string{
		csvType:    "email,name\n" + strings.Repeat("ada@example.org,\"Ada\"\n", 4000),
		ndjsonType: strings.Repeat(`{"address":"ada@example.org"}`+"\n", 4000),
		jsonType:   `{"entries":[` + strings.Repeat(`{"address":"ada@example.org"},`, 4000),
	} {
		for _, cut := range []int{0, 1, 2, 7, 12, 25} {
			part := body[:len(body)-cut]
			_, _, err := readAll(io.MultiReader(strings.NewReader(part), iotest.ErrReader(broken)), mediaType, source.Options{})
			if !errors.Is(err, broken) {
				t.Errorf("%s cut %d bytes early: %v", mediaType, cut, err)
			}
			if _, _, err := readAll(io.MultiReader(strings.NewReader(part[:20]), iotest.ErrReader(broken)), mediaType, source.Options{}); !errors.Is(err, broken) {
				t.Errorf("%s broken in the sample: %v", mediaType, err)
			}
		}
	}
}

func TestErrorsStay(t *testing.T) {
	reader, err := source.New(strings.NewReader("email\nada@example.org\n\"x\n"), csvType, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	_, first := reader.Next()
	_, second := reader.Next()
	if first == nil || errors.Is(first, io.EOF) || second != first { //nolint:errorlint // the very same error is meant
		t.Errorf("%v, then %v", first, second)
	}
}

func TestRowLimit(t *testing.T) {
	body := "email\n" + strings.Repeat("ada@example.org\n", 3)
	wantRows(t, body, csvType, source.Options{MaxRows: 3}, "2 ada@example.org|", "3 ada@example.org|", "4 ada@example.org|")
	wantError(t, body, csvType, source.Options{MaxRows: 2}, source.TooLarge, 4)
	wantError(t, strings.Repeat(`{"address":"x"}`+"\n", 3), ndjsonType, source.Options{MaxRows: 2}, source.TooLarge, 3)
}

func TestEndlessRow(t *testing.T) {
	cell := strings.Repeat("x", 10<<20)
	for name, c := range map[string]struct {
		body, mediaType string
		line            int
	}{
		"Cell":       {"email,name\nada@example.org,Ada\nbob@example.org," + cell, csvType, 3},
		"QuotedCell": {"email,name\nada@example.org,Ada\nbob@example.org,\"" + strings.Repeat("x@example.org\n", 1<<20), csvType, 3},
		"FirstLine":  {cell, csvType, 0},
		"NDJSON":     {"{\"address\":\"ada@example.org\"}\n{\"address\":\"" + cell, ndjsonType, 2},
		"JSON":       {`{"entries":[{"address":"ada@example.org"},{"address":"` + cell, jsonType, 2},
		"Mailboxes":  {"\"Rao, Ada\" <ada@example.org>\n" + cell, csvType, 2},
	} {
		t.Run(name, func(t *testing.T) {
			kind := source.Unreadable
			if name == "FirstLine" {
				kind = source.NoAddressColumn
			}
			wantError(t, c.body, c.mediaType, source.Options{}, kind, c.line)
		})
	}
	t.Run("HalfAMegabyteIsFine", func(t *testing.T) {
		wantRows(t, "email,notes\nada@example.org,"+cell[:1<<19]+"\nbob@example.org,\""+cell[:1<<19]+"\"\n", csvType, source.Options{},
			"2 ada@example.org|", "3 bob@example.org|")
	})
}

// Each refusal says what to do about it.
func TestRefusalsNameTheRemedy(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"Empty":         {"", "there is nothing in it; export the list again"},
		"HeaderOnly":    {"email,name\n", "there is no row in it; export the list again, without a filter"},
		"WebPage":       {"<!DOCTYPE html><title>Sign in</title>", "it is a web page, perhaps a sign-in page, and not a list; sign in where it comes from and export the list again"},
		"Spreadsheet":   {"PK\x03\x04", "it is a spreadsheet (xlsx, ods) or a zip archive; save or unpack it as CSV"},
		"Binary":        {"email\na\x00\n", "line 2: it contains zero bytes: it is not a text; export the list as CSV"},
		"CutShort":      {"email,name\nada@example.org,\"Ad", "line 2: the file ends within a quoted cell; it seems to be cut short: export it again"},
		"SwallowsLines": {"email,name\nada@example.org,\"Ada\nbob@example.org,\"Bob\"\n", "line 2: a quoted cell that begins here is not closed properly and swallows the lines after it; close it, and write a quotation mark inside of it twice"},
		"NoColumn":      {"wer,wo\nada@example.org,Paris\n", "no column is known to hold addresses; call it email, or name it with map.address (column 1 looks like it)"},
		"TooLong":       {"email\na@example.org\nb@example.org\nc@example.org\n", "line 4: there are more than 2 rows, which is the limit here; is it the right file?"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readAll(strings.NewReader(c.body), csvType, source.Options{MaxRows: 2})
			if fmt.Sprint(err) != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestMediaTypes(t *testing.T) {
	for _, mediaType := range []string{"text/csv", "text/csv; charset=utf-8; header=present", "TEXT/CSV", "application/csv"} {
		wantRows(t, "email\nada@example.org\n", mediaType, source.Options{}, "2 ada@example.org|")
	}
	wantRows(t, "email\tname\nada@example.org\tAda\n", "text/tab-separated-values", source.Options{}, "2 ada@example.org|Ada")
	for _, mediaType := range []string{"", "text/html", "text/plain", "application/x-www-form-urlencoded", "text/csv/x", "multipart/form-data; boundary=x"} {
		wantError(t, "email\nada@example.org\n", mediaType, source.Options{}, source.UnsupportedMediaType, 0)
	}
}

func TestWhatIsNoList(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		kind source.Kind
		line int
	}{
		"OnlyByteOrderMark": {"\ufeff", source.Empty, 0},
		"OnlyBlankLines":    {"\r\n \n\t\n", source.Empty, 0},
		"UTF16MarkOnly":     {"\xff\xfe", source.Empty, 0},
		"EmptyArchive":      {"PK\x05\x06\x00\x00", source.Unreadable, 0},
		"SevenZip":          {"7z\xbc\xaf\x27\x1c\x00", source.Unreadable, 0},
		"RAR":               {"Rar!\x1a\x07\x01\x00", source.Unreadable, 0},
		"Bzip2":             {"BZh91AY&SY\x00", source.Unreadable, 0},
		"XZ":                {"\xfd7zXZ\x00\x00", source.Unreadable, 0},
		"RichText":          {"{\\rtf1\\ansi ada@example.org}", source.Unreadable, 0},
		"Picture":           {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", source.Unreadable, 3},
		"Spreadsheet":       {"PK\x03\x04\x14\x00\x06\x00", source.Unreadable, 0},
		"OldSpreadsheet":    {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", source.Unreadable, 0},
		"Gzip":              {"\x1f\x8b\x08\x00\x00", source.Unreadable, 0},
		"PDF":               {"%PDF-1.7\n", source.Unreadable, 0},
		"UTF32":             {"\xff\xfe\x00\x00e\x00\x00\x00", source.Unreadable, 0},
		"WebPage":           {"\ufeff\n<!DOCTYPE html>\n<html><body>Sign in: help@example.org</body></html>", source.Unreadable, 0},
		"XML":               {`<?xml version="1.0"?><a/>`, source.Unreadable, 0},
		"Zeros":             {"email\nada@example.org\nb\x00b@example.org\n", source.Unreadable, 3},
		"LateZeros":         {"email\n" + strings.Repeat("ada@example.org\n", 9000) + "b\x00b@example.org\n", source.Unreadable, 9002},
	} {
		for _, mediaType := range []string{csvType, ndjsonType, jsonType} {
			if strings.HasSuffix(name, "Zeros") && mediaType != csvType {
				continue
			}
			t.Run(name+"/"+mediaType, func(t *testing.T) { wantError(t, c.body, mediaType, source.Options{}, c.kind, c.line) })
		}
	}
}

const germanBody = "E-Mail;Name\r\nlea@example.org;Léa Nguyễn 😀\r\nİ@bücher.example;Ada\r\n"

func germanUTF16(bigEndian, mark bool) string {
	s := germanBody
	if mark {
		s = "\ufeff" + s
	}
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune(s)) {
		if bigEndian {
			unit = unit<<8 | unit>>8
		}
		b.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return b.String()
}

func TestEncodings(t *testing.T) {
	const body = germanBody
	want := []string{"2 lea@example.org|Léa Nguyễn 😀", "3 İ@xn--bcher-kva.example|Ada"}
	for name, c := range map[string]struct{ body, encoding string }{
		"UTF8":             {body, "utf-8"},
		"UTF8WithMark":     {"\ufeff" + body, "utf-8"},
		"UTF16LE":          {germanUTF16(false, true), "utf-16le"},
		"UTF16BE":          {germanUTF16(true, true), "utf-16be"},
		"UTF16LENoMark":    {germanUTF16(false, false), "utf-16le"},
		"UTF16BENoMark":    {germanUTF16(true, false), "utf-16be"},
		"CarriageReturns":  {strings.ReplaceAll(body, "\r\n", "\r"), "utf-8"},
		"UnixLines":        {strings.ReplaceAll(body, "\r\n", "\n"), "utf-8"},
		"NoFinalLineBreak": {strings.TrimRight(body, "\r\n"), "utf-8"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := wantRows(t, c.body, csvType, source.Options{}, want...); d.Encoding != c.encoding {
				t.Errorf("encoding %s, want %s", d.Encoding, c.encoding)
			}
		})
	}
}

func TestEncodingThatShowsLate(t *testing.T) {
	head := "email,name\n" + strings.Repeat("ada@example.org,Ada\n", 9000)
	rows, detected, err := readAll(strings.NewReader(head+"chen@example.org,Nov\xe1k \x80\n"), csvType, source.Options{})
	if err != nil || rows[9000].DisplayName != "Novák €" || detected.Encoding != "windows-1252" {
		t.Errorf("%+v, %s, %v", rows[9000], detected.Encoding, err)
	}
	rows, detected, err = readAll(strings.NewReader(head+"lea@example.org,Léa\nchen@example.org,Nov\xe1k\n\xe1@example.org,x\n"), csvType, source.Options{})
	if err != nil || rows[9001].DisplayName != "Nov\ufffdk" || detected.Encoding != "utf-8" {
		t.Errorf("%+v, %s, %v", rows[9001], detected.Encoding, err)
	}
	if r := rows[9002].Rejected; r == nil || r.Code != "EMAIL_LOCAL_CHARACTER" {
		t.Errorf("a broken address is not refused: %+v", rows[9002])
	}
}

func TestEveryRejectionIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/lists.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*source.Rejection{source.AddressMissing, source.BrokenQuotes, source.NotText, {Code: source.NotSubscribed}} {
		if !strings.Contains(string(page), "`"+r.Code+"`") {
			t.Errorf("docs/lists.md does not explain %s", r.Code)
		}
	}
	for _, kind := range []source.Kind{source.Empty, source.Unreadable, source.NoAddressColumn, source.TooLarge, source.UnsupportedMediaType} {
		if !strings.Contains(string(page), "`"+string(kind)+"`") {
			t.Errorf("docs/lists.md does not explain %s", kind)
		}
	}
}
