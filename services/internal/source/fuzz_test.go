package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

func FuzzReader(f *testing.F) {
	names, err := filepath.Glob("testdata/*.csv")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"entries":[{"address":"ada@example.org","displayName":"Ada"}]}`))
	f.Add([]byte("{\"address\":\"ada@example.org\"}\n{\"address\":\"bob@example.org\"}\n"))
	f.Add([]byte("\"Rao, Ada\" <ada@example.org>\nbob@example.org\n"))
	f.Add([]byte(`{"name":"chapters/x/lists/y/entries/z","address":"ada@example.org","state":"BOUNCED","claims":[]}`))
	f.Add([]byte("address,displayName,state,sources,createTime,updateTime\n'=1@example.org,'''=1,PENDING,crm;manual,,\n"))
	f.Add([]byte("Email Address,UNSUB_TIME,STATUS\nada@example.org,2024-01-11,cleaned\n"))
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nemail\nada@example.org\n\r\n--x--\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, mediaType := range []string{csvType, ndjsonType, jsonType} {
			checkRows(t, body, mediaType)
		}
	})
}

// checkRows demands that every file ends in rows or in an *Error, and that each row keeps its promises.
func checkRows(t *testing.T, body []byte, mediaType string) {
	t.Helper()
	rows, _, err := readAll(bytesReader(body), mediaType, source.Options{})
	var refusal *source.Error
	if err != nil && (!errors.As(err, &refusal) || refusal.Text == "") {
		t.Fatalf("%s: %v", mediaType, err)
	}
	if err == nil && len(rows) == 0 {
		t.Fatalf("%s: an empty source is no error", mediaType)
	}
	last := 0
	for _, row := range rows {
		if row.Line <= last || row.Line > 1+len(body) {
			t.Fatalf("%s: line %d after line %d of %d bytes", mediaType, row.Line, last, len(body))
		}
		last = row.Line
		if (row.Address == "") == (row.Rejected == nil) {
			t.Fatalf("%s: both or neither of address and rejection: %+v", mediaType, row)
		}
		if canonical, err := address.Canonical(row.Address); row.Rejected == nil && (err != nil || canonical != row.Address) {
			t.Fatalf("%s: %+q is not canonical", mediaType, row.Address)
		}
		if !utf8.ValidString(row.DisplayName) || utf8.RuneCountInString(row.DisplayName) > address.MaxDisplayName {
			t.Fatalf("%s: name %+q", mediaType, row.DisplayName)
		}
	}
}
