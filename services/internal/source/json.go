package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// entry is a row in JSON. It may be an entry as the API writes them, of which the rest means nothing here; other fields
// are errors.
type entry struct {
	Address     string `json:"address"`
	DisplayName string `json:"displayName"`
	State       string `json:"state"`

	Name       string          `json:"name"`
	Sources    json.RawMessage `json:"sources"`
	CreateTime json.RawMessage `json:"createTime"`
	UpdateTime json.RawMessage `json:"updateTime"`
	Etag       json.RawMessage `json:"etag"`
	Claims     json.RawMessage `json:"claims"`
}

// ndjsonRows reads an entry a line.
type ndjsonRows struct {
	lines  *lines
	fields []string
}

func newNDJSON(text *text, opts Options) *ndjsonRows { return &ndjsonRows{newLines(text), opts.Fields} }

func (n *ndjsonRows) next() (record, error) {
	line, err := n.lines.next()
	if err != nil {
		return record{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	rec, err := decodeEntry(decoder, n.lines.number, n.fields)
	if err == nil {
		_, err = decoder.Token()
		if errors.Is(err, io.EOF) {
			return rec, nil
		}
		err = errTrailing
	}
	if n.lines.text.source.err != nil { // the line is cut short because reading failed
		err = n.lines.text.source.err
		return record{}, err
	}
	return record{}, refuseJSON(err, n.lines.number)
}

var (
	errTrailing = errors.New("something follows where the JSON is complete")
	errName     = errors.New(`the field name is that of an entry of ours; a person's name is in displayName`)
	errShape    = errors.New(`expected {"entries":[{"address":"...","displayName":"..."}]}`)
)

// jsonRows reads one document entry by entry.
type jsonRows struct {
	text    *text
	decoder *json.Decoder
	opened  bool
	number  int // of the entry last read
	fields  []string
}

func newJSON(text *text, opts Options) *jsonRows {
	decoder := json.NewDecoder(text)
	decoder.DisallowUnknownFields()
	return &jsonRows{text: text, decoder: decoder, fields: opts.Fields}
}

func (j *jsonRows) next() (record, error) {
	rec, err := j.read()
	switch {
	case err == nil, errors.Is(err, errEnd):
	case j.text.source.err != nil:
		return record{}, j.text.source.err
	default:
		if explained := j.text.explain(err, j.number); explained != err { //nolint:errorlint // identity is meant: explain passes on what it does not know
			return record{}, explained
		}
		return record{}, refuseJSON(err, j.number)
	}
	if err != nil {
		return record{}, io.EOF
	}
	j.text.consumed()
	return rec, nil
}

// errEnd is the proper end of the document; io.EOF would be one that is cut short.
var errEnd = errors.New("end of the document")

func (j *jsonRows) read() (record, error) {
	if !j.opened {
		if err := j.open(); err != nil {
			return record{}, err
		}
		j.opened = true
	}
	if !j.decoder.More() {
		return record{}, j.close()
	}
	j.number++
	return decodeEntry(j.decoder, j.number, j.fields)
}

func (j *jsonRows) open() error {
	if err := j.expect(json.Delim('{')); err != nil {
		return err
	}
	if !j.decoder.More() { // {}
		if err := j.expect(json.Delim('}')); err != nil {
			return err
		}
		return j.expectEnd()
	}
	if err := j.expect("entries"); err != nil {
		return err
	}
	return j.expect(json.Delim('['))
}

func (j *jsonRows) close() error {
	for _, token := range []json.Delim{']', '}'} {
		if err := j.expect(token); err != nil {
			return err
		}
	}
	return j.expectEnd()
}

func (j *jsonRows) expect(token json.Token) error {
	got, err := j.decoder.Token()
	if err == nil && got != token {
		return errShape
	}
	return err
}

func (j *jsonRows) expectEnd() error {
	_, err := j.decoder.Token()
	switch {
	case errors.Is(err, io.EOF):
		return errEnd
	case err == nil:
		return errTrailing
	}
	return err
}

func decodeEntry(decoder *json.Decoder, number int, fields []string) (record, error) {
	if fields != nil {
		return decodeFields(decoder, number, fields)
	}
	var e entry
	err := decoder.Decode(&e)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return record{line: number, rejected: NotText}, nil
	}
	if err == nil && e.Name != "" && !strings.HasPrefix(e.Name, "chapters/") {
		err = errName
	}
	return record{line: number, address: e.Address, name: e.DisplayName, rejected: states()[key(e.State)]}, err
}

// decodeFields reads an entry that may have further fields, all of them texts.
func decodeFields(decoder *json.Decoder, number int, fields []string) (record, error) {
	var given map[string]json.RawMessage
	err := decoder.Decode(&given)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return record{line: number, rejected: NotText}, nil
	}
	if err != nil {
		return record{}, err
	}
	rec := record{line: number, fields: make([]string, len(fields))}
	for name, value := range given {
		var text *string
		switch {
		case name != "address" && name != "displayName" && !slices.Contains(fields, name):
			return record{}, fmt.Errorf("json: unknown field %q", name)
		case json.Unmarshal(value, &text) != nil:
			rec.rejected = NotText
		case text == nil: // null is as good as nothing
		case name == "address":
			rec.address = *text
		case name == "displayName":
			rec.name = *text
		default:
			rec.fields[slices.Index(fields, name)] = *text
		}
	}
	return rec, nil
}

// identifier is what a field's name may be to be repeated: a document that is keyed by address must not be.
var identifier = regexp.MustCompile(`^json: unknown field ("[A-Za-z0-9_]{1,40}")$`)

func refuseJSON(err error, number int) error {
	refusal := &Error{Kind: Unreadable, Line: number, Text: "it is not valid JSON"}
	switch {
	case errors.Is(err, errTrailing), errors.Is(err, errShape), errors.Is(err, errName):
		refusal.Text = err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		refusal.Text = "the JSON ends before it is complete; it seems to be cut short: export it again"
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		refusal.Text = "an entry has a field other than address, displayName and those of our own export"
		if m := identifier.FindStringSubmatch(err.Error()); m != nil {
			refusal.Text += fmt.Sprintf(": %s", m[1])
		}
	}
	return refusal
}
