package source_test

import (
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

func TestNDJSON(t *testing.T) {
	d := wantRows(t, "\ufeff"+`{"address":"Ada@Example.org","displayName":" Ada  Rao "}`+"\r\n\n"+
		`{"address":"Bob <bob@example.org>"}`+"\n"+`{"displayName":"Nobody"}`+"\n"+`{"address":null}`+"\n"+`{"address":7}`+"\n"+`"eve@example.org"`+"\n"+
		`{"address":"x@localhost"}`,
		ndjsonType, source.Options{},
		"1 ada@example.org|Ada Rao", "3 bob@example.org|Bob", "4 !SOURCE_ADDRESS_MISSING", "5 !SOURCE_ADDRESS_MISSING", "6 !SOURCE_NOT_TEXT",
		"7 !SOURCE_NOT_TEXT", "8 !EMAIL_DOMAIN")
	if d.Format != source.NDJSON {
		t.Errorf("taken for %+v", d)
	}
	const good = `{"address":"ada@example.org"}` + "\n"
	for name, c := range map[string]struct {
		body string
		line int
	}{
		"Invalid":       {good + "{address}\n", 2},
		"CutShort":      {good + good + `{"address":"bob@exam`, 3},
		"UnknownField":  {good + `{"email":"bob@example.org"}`, 2},
		"KeyedByPerson": {good + `{"bob@example.org":"Bob"}`, 2},
		"TwoOnALine":    {good + `{"address":"a@example.org"} {"address":"b@example.org"}`, 2},
		"CSV":           {"email,name\nada@example.org,Ada\n", 1},
		"Document":      {`{"entries":[{"address":"ada@example.org"}]}`, 1},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.body, ndjsonType, source.Options{}, source.Unreadable, c.line) })
	}
}

func TestJSON(t *testing.T) {
	d := wantRows(t, `{"entries":[{"address":"Ada@Example.org","displayName":"Ada"}, {"address":""},
		null, ["x"], {"address":"bob@example.org"}]}`+"\n", jsonType, source.Options{},
		"1 ada@example.org|Ada", "2 !SOURCE_ADDRESS_MISSING", "3 !SOURCE_ADDRESS_MISSING", "4 !SOURCE_NOT_TEXT", "5 bob@example.org|")
	if d.Format != source.JSON {
		t.Errorf("taken for %+v", d)
	}
	wantError(t, `{"entries":[]}`, jsonType, source.Options{}, source.Empty, 0)
	wantError(t, `{}`, jsonType, source.Options{}, source.Empty, 0)
	const one = `{"entries":[{"address":"ada@example.org"}`
	for name, c := range map[string]struct {
		body  string
		entry int
	}{
		"Array":           {`[{"address":"ada@example.org"}]`, 0},
		"Text":            {`"entries"`, 0},
		"OtherField":      {`{"people":[]}`, 0},
		"EntriesNoArray":  {`{"entries":{}}`, 0},
		"FieldAfter":      {one + `],"nextPageToken":""}`, 1},
		"UnknownField":    {one + `,{"address":"bob@example.org","email":"bob@example.org"}]}`, 2},
		"CutShort":        {one + `,{"address":"bob@ex`, 2},
		"CutAfterEntry":   {one, 1},
		"CutAfterEntries": {one + `]`, 1},
		"Trailing":        {one + `]}{}`, 1},
		"MissingComma":    {one + `{"address":"bob@example.org"}]}`, 2},
		"CSV":             {"email,name\nada@example.org,Ada\n", 0},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.body, jsonType, source.Options{}, source.Unreadable, c.entry) })
	}
}
