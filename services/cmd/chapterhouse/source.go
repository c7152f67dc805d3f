package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// source is a file on its way to the server, which can be read as often as that takes.
type source struct {
	file    *os.File
	size    int64
	changed time.Time
	media   string
	zipped  bool          // already
	read    func(n int64) // is told how far it is
	done    func()
}

// sourceError is a file that cannot be read, as opposed to a network that cannot be reached.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

var errChanged = errors.New("the file changed while it was sent: nothing was done")

// openSource opens the file, or takes all of stdin. The caller closes it.
func openSource(a *app, path, media string) (*source, error) {
	file, err := a.stdin, error(nil)
	if path != "-" {
		file, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && (path == "-" || !info.Mode().IsRegular()) {
		file, info, err = spool(file)
	}
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return nil, err
	}
	s := &source{
		file: file, size: info.Size(), changed: info.ModTime(), media: media,
		read: func(int64) {}, done: func() {},
	}
	s.zipped = s.beginsWith([]byte{0x1f, 0x8b})
	if s.media == "" {
		s.media = mediaOf(path)
	}
	return s, nil
}

// spool keeps what can be read only once. The file has no name any more when this returns: it holds addresses, and
// must not be left behind however this process ends.
func spool(from *os.File) (*os.File, os.FileInfo, error) {
	info, err := from.Stat()
	if err != nil || info.IsDir() {
		return from, info, err
	}
	file, err := os.CreateTemp("", "chapterhouse-*") // mode 0600
	if err != nil {
		return nil, nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	if _, err := io.Copy(file, from); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read %s: %w", from.Name(), err), file.Close())
	}
	info, err = file.Stat()
	return file, info, err
}

func (s *source) beginsWith(magic []byte) bool {
	first := make([]byte, len(magic))
	_, err := s.file.ReadAt(first, 0)
	return err == nil && bytes.Equal(first, magic)
}

// mediaOf tells the media type by the name. CSV is what most files are; the server finds out which kind.
func mediaOf(path string) string {
	switch filepath.Ext(strings.TrimSuffix(path, ".gz")) {
	case ".json":
		return "application/json"
	case ".ndjson", ".jsonl":
		return "application/x-ndjson"
	}
	return "text/csv"
}

// body is the source once more from the beginning, compressed. Closing it early is allowed.
func (s *source) body() io.ReadCloser {
	read, write := io.Pipe()
	go func() { write.CloseWithError(s.send(write)) }()
	return read
}

// send fails before it completes a stream that would not be what the file is now: a part of a list looks like a list.
func (s *source) send(w io.Writer) error {
	if s.zipped {
		if err := s.copy(w); err != nil {
			return err
		}
		return s.unchanged()
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := s.copy(zip); err != nil {
		return err
	}
	if err := s.unchanged(); err != nil {
		return err
	}
	return zip.Close()
}

func (s *source) copy(w io.Writer) error {
	_, err := io.Copy(w, &counted{from: io.NewSectionReader(s.file, 0, s.size), read: s.read})
	return err
}

func (s *source) unchanged() error {
	info, err := s.file.Stat()
	if err == nil && (info.Size() != s.size || !info.ModTime().Equal(s.changed)) {
		err = errChanged
	}
	if err != nil {
		return &sourceError{err}
	}
	return nil
}

// counted says how far reading is, and tells its errors from those of writing.
type counted struct {
	from io.Reader
	read func(int64)
	n    int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	c.read(c.n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	return n, err
}

// Close ends the showing of progress too.
func (s *source) Close() error {
	s.done()
	return s.file.Close()
}
