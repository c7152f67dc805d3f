package source_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// repeat yields head once and then unit for rows times, without holding the whole.
type repeat struct {
	head []byte
	unit []byte
	rows int
	rest []byte
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.head != nil {
		r.rest, r.head = r.head, nil
	}
	n := 0
	for n < len(p) {
		if len(r.rest) == 0 {
			if r.rows == 0 {
				break
			}
			r.rows--
			r.rest = r.unit
		}
		c := copy(p[n:], r.rest)
		r.rest = r.rest[c:]
		n += c
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func drain(tb testing.TB, r io.Reader, mediaType string) int {
	tb.Helper()
	reader, err := source.New(r, mediaType, source.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	rows := 0
	for {
		row, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil || row.Rejected != nil {
			tb.Fatal(err, row.Rejected)
		}
		rows++
	}
}

func BenchmarkReader(b *testing.B) {
	for _, c := range []struct{ name, mediaType, head, unit string }{
		{"PlainCSV", csvType, "email,name\n", "kofi.lindqvist0@example.org,Kofi Lindqvist\n"},
		{"WideCSV", csvType, "email,name\n", "kofi.lindqvist0@example.org,\"Léa Nguyễn\"\n"},
		{"MailchimpCSV", csvType, "Email Address,First Name,Last Name,MEMBER_RATING,NOTES\n", "Kofi.Lindqvist0@Example.org,Kofi,\"Lindqvist\",2,\"met at the\nspring meeting\"\n"},
		{"NDJSON", ndjsonType, "", `{"address":"kofi.lindqvist0@example.org","displayName":"Kofi Lindqvist"}` + "\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			drain(b, &repeat{head: []byte(c.head), unit: []byte(c.unit), rows: b.N}, c.mediaType)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// A long file must not take more memory than a few buffers.
func TestMemoryIsFlat(t *testing.T) {
	const rows = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	reader, err := source.New(&repeat{head: []byte("email,name\n"), unit: []byte("kofi.lindqvist0@example.org,Kofi Lindqvist\n"), rows: rows}, csvType, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if _, err := reader.Next(); err != nil {
			t.Fatal(fmt.Errorf("row %d: %w", i, err))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(reader)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d rows keep %d bytes alive", rows, grown)
	}
}
