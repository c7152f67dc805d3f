package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

const (
	// sampleSize is how much of the text is looked at to find out what it is.
	sampleSize = 64 << 10
	// maxRecord bounds a row, and so memory: an export whose closing quote is missing is one endless cell.
	maxRecord = 1 << 20
)

var (
	errRecordTooLong = errors.New("a row has more than 1 MiB; is a closing quotation mark missing?")
	errBinary        = errors.New("it contains zero bytes: it is not a text; export the list as CSV")
)

// text is the file as UTF-8 without a byte order mark, whatever it was written in.
type text struct {
	*bufio.Reader
	source  *sourceReader
	decoder *textDecoder
	limit   *limitReader
	utf16   string // the name of the encoding, where it is one of UTF-16
}

// openText returns an *Error for what is no text, or nothing.
func openText(r io.Reader) (*text, error) {
	t := &text{source: &sourceReader{r: r}, decoder: new(textDecoder)}
	raw := bufio.NewReaderSize(t.source, 4096)
	head, _ := raw.Peek(512) // a failed read is seen again below
	if err := refuseMagic(head); err != nil {
		return nil, err
	}
	var in io.Reader = raw
	if utf16, order := detectUTF16(head); utf16 != "" {
		t.utf16 = utf16
		in = transform.NewReader(raw, unicode.UTF16(order, unicode.UseBOM).NewDecoder())
	}
	t.limit = &limitReader{r: transform.NewReader(in, t.decoder)}
	t.Reader = bufio.NewReaderSize(t.limit, sampleSize)
	sample, err := t.Peek(sampleSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, t.explain(err, 1+bytes.Count(sample, []byte("\n")))
	}
	if bytes.IndexByte(sample, '\r') >= 0 && bytes.IndexByte(sample, '\n') < 0 {
		t.Reader = bufio.NewReaderSize(carriageReturns{t.Reader}, sampleSize)
	}
	return t, refuseSample(sample, err != nil)
}

// sample is the beginning of the text; whole says that there is no more.
func (t *text) sample() (sample []byte, whole bool) {
	sample, err := t.Peek(sampleSize)
	return sample, err != nil
}

func (t *text) encoding() string {
	switch {
	case t.utf16 != "":
		return t.utf16
	case t.decoder.mode == windows1252:
		return "windows-1252"
	}
	return "utf-8"
}

// consumed says that a row was read whole: the next one may again be as long as is allowed.
func (t *text) consumed() { t.limit.base = t.limit.delivered }

// atEnd reports whether nothing follows.
func (t *text) atEnd() bool {
	_, err := t.Peek(1)
	return errors.Is(err, io.EOF)
}

// explain turns an error of reading into the one to return: a failure of the underlying reader as it is,
// since it says nothing about the file, and what the layers above it found as an *Error.
func (t *text) explain(err error, line int) error {
	switch {
	case t.source.err != nil:
		return t.source.err
	case errors.Is(err, errRecordTooLong), errors.Is(err, bufio.ErrTooLong):
		return &Error{Kind: Unreadable, Line: line, Text: errRecordTooLong.Error()}
	case errors.Is(err, errBinary):
		return &Error{Kind: Unreadable, Line: line, Text: errBinary.Error()}
	}
	return err
}

// sourceReader remembers how reading failed, to tell a broken connection from a broken file.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// carriageReturns makes line feeds of them: "CSV (Macintosh)" of spreadsheets ends its lines so.
type carriageReturns struct{ r io.Reader }

func (c carriageReturns) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\r' {
			p[i] = '\n'
		}
	}
	return n, err
}

// limitReader fails when more than one row's worth of bytes was delivered since the last row.
// What is buffered above it makes the limit inexact by one sampleSize.
type limitReader struct {
	r               io.Reader
	delivered, base int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.delivered-l.base > maxRecord {
		return 0, errRecordTooLong
	}
	n, err := l.r.Read(p)
	l.delivered += int64(n)
	return n, err
}

// refuseMagic knows the files that people upload in place of CSV.
func refuseMagic(head []byte) error {
	for _, magic := range []struct{ prefix, text string }{
		{"PK\x05\x06", "it is a zip archive with nothing in it; export the list again"},
		{"PK\x03\x04", "it is a spreadsheet (xlsx, ods) or a zip archive; save or unpack it as CSV"},
		{"\xD0\xCF\x11\xE0", "it is an Excel workbook (xls); save it as CSV"},
		{"\x1F\x8B", "it is compressed with gzip; unpack it first"},
		{"7z\xBC\xAF\x27\x1C", "it is a 7z archive; unpack it first"},
		{"Rar!\x1A\x07", "it is a RAR archive; unpack it first"},
		{"BZh91AY&SY", "it is compressed with bzip2; unpack it first"},
		{"\xFD7zXZ\x00", "it is compressed with xz; unpack it first"},
		{"{\\rtf", "it is a formatted document (RTF); save it as plain text or CSV"},
		{"%PDF-", "it is a PDF document; export the list as CSV"},
		{"\xFF\xFE\x00\x00", "it is written in UTF-32; save it as UTF-8"},
	} {
		if bytes.HasPrefix(head, []byte(magic.prefix)) {
			return &Error{Kind: Unreadable, Text: magic.text}
		}
	}
	return nil
}

func refuseSample(sample []byte, whole bool) error {
	trimmed := bytes.TrimSpace(sample)
	if len(trimmed) == 0 && whole {
		return &Error{Kind: Empty, Text: "there is nothing in it; export the list again"}
	}
	start := bytes.ToLower(trimmed[:min(len(trimmed), 200)])
	for _, tag := range []string{"<!doctype", "<html", "<head", "<body", "<?xml", "<!--"} {
		if bytes.HasPrefix(start, []byte(tag)) {
			return &Error{Kind: Unreadable, Text: "it is a web page, perhaps a sign-in page, and not a list; sign in where it comes from and export the list again"}
		}
	}
	return nil
}

// detectUTF16 goes by the byte order mark, or by two characters of ASCII at the beginning.
func detectUTF16(head []byte) (string, unicode.Endianness) {
	if len(head) < 2 {
		return "", unicode.LittleEndian
	}
	// In UTF-16 every other byte of ASCII is zero.
	zero := func(at ...int) bool {
		return len(head) >= 4 && !slices.ContainsFunc(at, func(i int) bool { return head[i] != 0 })
	}
	switch {
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}), zero(1, 3) && !zero(0) && !zero(2):
		return "utf-16le", unicode.LittleEndian
	case bytes.HasPrefix(head, []byte{0xFE, 0xFF}), zero(0, 2) && !zero(1) && !zero(3):
		return "utf-16be", unicode.BigEndian
	}
	return "", unicode.LittleEndian
}

// mode is what a textDecoder takes its input for.
type mode uint8

const (
	undecided   mode = iota // ASCII so far, which is the same in both
	utf8Text                // a byte that does not fit becomes U+FFFD
	windows1252             // the first byte beyond ASCII did not fit UTF-8
)

// textDecoder is a transform.Transformer to UTF-8. A file cannot be read twice, so the first character beyond ASCII
// decides, wherever it stands; what came before reads the same in both encodings.
type textDecoder struct {
	mode    mode
	started bool
}

const byteOrderMark = "\uFEFF"

func (d *textDecoder) Reset() { *d = textDecoder{} }

func (d *textDecoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	if zero := bytes.IndexByte(src, 0); zero >= 0 {
		// What precedes it is passed on first, so that the line can be counted.
		if nDst, nSrc, err = d.decodeAll(dst, src[:zero], true); err == nil {
			err = errBinary
		}
		return nDst, nSrc, err
	}
	return d.decodeAll(dst, src, atEOF)
}

func (d *textDecoder) decodeAll(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	if !d.started {
		if !atEOF && len(src) < len(byteOrderMark) && bytes.HasPrefix([]byte(byteOrderMark), src) {
			return 0, 0, transform.ErrShortSrc
		}
		d.started = true
		if bytes.HasPrefix(src, []byte(byteOrderMark)) {
			d.mode, nSrc = utf8Text, len(byteOrderMark)
		}
	}
	for nSrc < len(src) {
		n := copy(dst[nDst:], src[nSrc:nSrc+asciiPrefix(src[nSrc:])])
		nDst, nSrc = nDst+n, nSrc+n
		if nSrc == len(src) {
			break
		}
		if len(dst)-nDst < utf8.UTFMax {
			return nDst, nSrc, transform.ErrShortDst
		}
		if d.mode != windows1252 && !atEOF && !utf8.FullRune(src[nSrc:]) {
			return nDst, nSrc, transform.ErrShortSrc
		}
		r, size := d.decode(src[nSrc:])
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += size
	}
	return nDst, nSrc, nil
}

func (d *textDecoder) decode(src []byte) (rune, int) {
	r, size := utf8.DecodeRune(src)
	broken := r == utf8.RuneError && size == 1
	if d.mode == undecided {
		d.mode = utf8Text
		if broken {
			d.mode = windows1252
		}
	}
	if d.mode == windows1252 {
		return charmap.Windows1252.DecodeByte(src[0]), 1
	}
	return r, size
}

// asciiPrefix counts the leading ASCII bytes, eight at a time.
func asciiPrefix(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if binary.LittleEndian.Uint64(b[i:])&0x8080808080808080 != 0 {
			break
		}
	}
	for i < len(b) && b[i] < utf8.RuneSelf {
		i++
	}
	return i
}
