package gateway

import (
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	mediaForm     = "multipart/form-data"
	maxFormFields = 20
	maxFieldBytes = 4 << 10
)

// form is a source that a browser sends: the one file of a form (RFC 7578). Fields before it stand in for parameters of
// the query. The file is read as it arrives. Its end is told only once the form has ended with it: were there another
// file, the first would not be the whole source.
type form struct {
	body        io.Reader
	parts       *multipart.Reader
	file        *multipart.Part
	values      url.Values // of the query and the fields
	contentType string
}

// boundaryOf returns the boundary where the body is a form.
func boundaryOf(header http.Header) (boundary string, isForm bool, err error) {
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != mediaForm {
		return "", false, nil
	}
	if params["boundary"] == "" {
		return "", true, malformedForm("Content-Type", "has no boundary, by which a form is taken apart; leave it to what makes the form")
	}
	return params["boundary"], true, nil
}

// openForm reads the form up to its file.
func openForm(body io.Reader, boundary string, query url.Values) (*form, error) {
	// A part without a name behind the body: a form that is cut short ends in it, wherever it is cut, and not in an end
	// of file, which multipart takes for the last boundary when it meets one in a part's headers.
	guarded := io.MultiReader(body, strings.NewReader("\r\n--"+boundary+"\r\n\r\n"))
	f := &form{body: body, parts: multipart.NewReader(guarded, boundary), values: maps.Clone(query)}
	fields := url.Values{}
	for range maxFormFields + 1 {
		part, err := f.next()
		if err != nil {
			return nil, err
		}
		if part == nil {
			return nil, malformedForm("file", "is missing: the form has no file")
		}
		if name, isFile := fileName(part); isFile {
			return f, f.begin(part, name)
		}
		if err := f.addField(part, query, fields); err != nil {
			return nil, err
		}
	}
	return nil, malformedForm("", "the form has more than %d fields", maxFormFields)
}

// fileName says whether the part is a file, which may be one without a name.
func fileName(part *multipart.Part) (name string, isFile bool) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return "", false
	}
	_, isFile = params["filename"]
	return part.FileName(), isFile
}

func (f *form) addField(part *multipart.Part, query, fields url.Values) error {
	name := part.FormName()
	if syncParameters[name] == nil {
		return malformedForm(name, "is not a field of this form, which takes one file and before it %s", strings.Join(slices.Sorted(maps.Keys(syncParameters)), ", "))
	}
	text, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	if err != nil {
		return brokenForm(err)
	}
	value := string(text)
	switch {
	case len(text) > maxFieldBytes:
		return malformedForm(name, "is longer than %d bytes", maxFieldBytes)
	case fields.Has(name):
		return malformedForm(name, "is given more than once")
	case value == "": // an input that nobody filled in
		return nil
	case query.Has(name) && query.Get(name) != value:
		return malformedForm(name, "is given in the query and in the form, and differs")
	}
	fields.Set(name, value)
	f.values.Set(name, value)
	return nil
}

func (f *form) begin(part *multipart.Part, name string) error {
	if name == "" {
		return malformedForm("file", "has no name: no file was chosen")
	}
	contentType := typeOfFile(part.Header.Get("Content-Type"), name)
	if contentType == "" {
		return unsupportedMedia("the file is none that a list is read from: .csv, .tsv, .txt, .ndjson, .jsonl or .json")
	}
	f.file, f.contentType = part, contentType
	return nil
}

// typeOfFile goes by the file's Content-Type, and by its name where that is missing or says nothing: browsers ask the
// machine, and Windows calls a CSV file a spreadsheet.
func typeOfFile(contentType, name string) string {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && slices.Contains(sourceTypes, media):
		return contentType
	case err == nil && media == "application/vnd.ms-excel":
		return mediaCSV
	}
	switch asciiLower(path.Ext(name)) {
	case ".csv", ".tsv", ".tab", ".txt":
		return mediaCSV
	case ".ndjson", ".jsonl":
		return mediaNDJSON
	case ".json":
		return mediaJSON
	}
	return ""
}

func asciiLower(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

func (f *form) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		return n, f.end()
	case err != nil:
		return n, brokenForm(err)
	}
	return n, nil
}

// end returns io.EOF when the form ends with its file.
func (f *form) end() error {
	part, err := f.next()
	if err != nil {
		return err
	}
	if part != nil {
		if _, isFile := fileName(part); isFile {
			return malformedForm("file", "is given more than once: a sync has one source; nothing was changed")
		}
		return malformedForm(part.FormName(), "comes after the file; fields come before it, since the file is read as it arrives. Nothing was changed")
	}
	if _, err := io.Copy(io.Discard, f.body); err != nil { // what may follow the last boundary
		return err
	}
	return io.EOF
}

// next returns the next part, nil at the last boundary.
func (f *form) next() (*multipart.Part, error) {
	part, err := f.parts.NextPart()
	if err == io.EOF { // and not what wraps it: a body that ends before the last boundary
		return nil, nil
	}
	if err != nil {
		return nil, brokenForm(err)
	}
	if part.FormName() == "" {
		return nil, brokenForm(io.ErrUnexpectedEOF)
	}
	return part, nil
}

// brokenForm leaves errors of the body below as they are.
func brokenForm(err error) error {
	if rpc.InfoOf(err) != nil {
		return err
	}
	return malformedForm("", "the form is not well-formed, or ends before its last boundary; nothing was changed")
}

// malformedForm repeats a field's name only where it looks like one.
func malformedForm(field, format string, args ...any) error {
	if field != "" && !parameterName.MatchString(field) {
		field = "form"
	}
	return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, field, format, args...)
}
