package gateway_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
)

const syncsOf = listPath + "/syncs"

// part is a part of a form: a field, or a file where it has a name or a type.
type part struct {
	field, content string
	file, media    string
}

// formOf writes a form as a browser does.
func formOf(t *testing.T, parts ...part) (body, contentType string) {
	t.Helper()
	var out bytes.Buffer
	writer := multipart.NewWriter(&out)
	for _, p := range parts {
		header := textproto.MIMEHeader{}
		disposition := `form-data; name="` + p.field + `"`
		if p.file != "" || p.media != "" {
			disposition += `; filename="` + p.file + `"`
		}
		header.Set("Content-Disposition", disposition)
		if p.media != "" {
			header.Set("Content-Type", p.media)
		}
		to, err := writer.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(to, p.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), "Content-Type: " + writer.FormDataContentType()
}

func TestFormUpload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	content := string(random(1 << 20))
	body, contentType := formOf(t, part{field: "mode", content: "REPLACE"}, part{field: "source", content: "crm"}, part{field: "apply", content: "true"},
		part{field: "confirmRemovals", content: "12"}, part{field: "map.address", content: "Kontakt é"}, part{field: "map.displayName", content: "Wer"},
		part{field: "requestId", content: "nightly-1"}, part{field: "list", content: content, file: "Mitglieder.csv", media: "text/csv; charset=utf-8"})
	if got := w.do(http.MethodPost, syncsOf, body, contentType, "Authorization: Bearer abc"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	upload := w.wantUpload(uploads)
	header := upload.header
	if header.GetParent() != "chapters/golang-paris/lists/members" || header.GetMode() != localv1.Sync_REPLACE || header.GetSource() != "crm" || !header.GetApply() ||
		header.GetConfirmRemovals() != 12 || header.GetMapAddress() != "Kontakt é" || header.GetMapDisplayName() != "Wer" || header.GetRequestId() != "nightly-1" ||
		header.GetContentType() != "text/csv; charset=utf-8" {
		t.Errorf("the header is %v", header)
	}
	if string(upload.content) != content {
		t.Errorf("%d bytes arrived, and not those that were sent", len(upload.content))
	}
	if w.lastCall().metadata.Get("authorization")[0] != "Bearer abc" {
		t.Error("the token is not handed on")
	}
}

// Fields and the query may both say something, as long as they say the same; inputs that nobody filled in say nothing.
func TestFormBesideQuery(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	file := part{field: "file", content: "address\n", file: "a.csv", media: "text/csv"}
	for _, fields := range [][]part{
		{file},
		{{field: "mode", content: "REPLACE"}, {field: "confirmRemovals"}, {field: "map.address"}, file},
	} {
		body, contentType := formOf(t, fields...)
		if got := w.do(http.MethodPost, syncPath, body, contentType, "Idempotency-Key: k"); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if header := w.wantUpload(uploads).header; header.GetMode() != localv1.Sync_REPLACE || header.GetSource() != "crm" || header.ConfirmRemovals != nil || header.GetRequestId() != "k" {
			t.Errorf("the header is %v", header)
		}
	}
}

func TestFormFileTypes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	for _, c := range []struct{ file, media, want string }{
		{"a.csv", "text/csv", "text/csv"},
		{"a.csv", "", "text/csv"},
		{"A.CSV", "application/octet-stream", "text/csv"},
		{"a.csv", "application/vnd.ms-excel", "text/csv"},
		{"a.tsv", "text/tab-separated-values", "text/tab-separated-values"},
		{"a.tsv", "", "text/csv"},
		{"a.txt", "text/plain", "text/csv"},
		{"a.ndjson", "application/octet-stream", "application/x-ndjson"},
		{"a.jsonl", "", "application/x-ndjson"},
		{"a.json", "application/json", "application/json"},
		{"a.json", "", "application/json"},
		{"whatever", "application/x-ndjson", "application/x-ndjson"},
	} {
		body, contentType := formOf(t, part{field: "file", content: "x", file: c.file, media: c.media})
		if got := w.do(http.MethodPost, syncPath, body, contentType); got.status != http.StatusOK {
			t.Errorf("%v: %d %s", c, got.status, got.body)
			continue
		}
		if got := w.wantUpload(uploads).header.GetContentType(); got != c.want {
			t.Errorf("%v is taken for %s", c, got)
		}
	}
	for _, c := range [][2]string{{"a.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}, {"a.pdf", ""}, {"members", "text/plain"}} {
		body, contentType := formOf(t, part{field: "file", content: "x", file: c[0], media: c[1]})
		w.do(http.MethodPost, syncPath, body, contentType).wantError(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	t.Parallel()
	file := part{field: "file", content: "address\n", file: "a.csv", media: "text/csv"}
	var many []part
	for range 21 {
		many = append(many, part{field: "mode", content: "MERGE"})
	}
	for name, c := range map[string]struct {
		query string
		parts []part
		field string
	}{
		"NoFile":        {"mode=MERGE&source=crm", []part{{field: "apply", content: "true"}}, "file"},
		"NoneChosen":    {"mode=MERGE&source=crm", []part{{field: "file", media: "application/octet-stream"}}, "file"},
		"Differs":       {"mode=MERGE&source=crm", []part{{field: "mode", content: "REPLACE"}, file}, "mode"},
		"Twice":         {"source=crm", []part{{field: "mode", content: "MERGE"}, {field: "mode", content: "MERGE"}, file}, "mode"},
		"Unknown":       {"mode=MERGE&source=crm", []part{{field: "colour", content: "red"}, file}, "colour"},
		"UnknownByName": {"mode=MERGE&source=crm", []part{{field: "ada@example.org", content: "red"}, file}, "form"},
		"FieldAsFile":   {"mode=MERGE&source=crm", []part{{field: "file", content: "address\n"}}, "file"},
		"WrongValue":    {"source=crm", []part{{field: "mode", content: "replace"}, file}, "mode"},
		"Missing":       {"source=crm", []part{file}, "mode"},
		"MissingEmpty":  {"source=crm", []part{{field: "mode"}, file}, "mode"},
		"WrongInQuery":  {"mode=MERGE&source=crm&force=true", []part{file}, "force"},
		"Key":           {"mode=MERGE&source=crm", []part{{field: "requestId", content: "other"}, file}, "requestId"},
		"TooLong":       {"mode=MERGE&source=crm", []part{{field: "map.address", content: strings.Repeat("x", 4097)}, file}, "map.address"},
		"TooMany":       {"source=crm", many, "mode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			body, contentType := formOf(t, c.parts...)
			got := w.do(http.MethodPost, syncsOf+"?"+c.query, body, contentType, "Idempotency-Key: key")
			got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
			got.wantField(t, c.field)
			if w.called() > 0 {
				t.Error("the service is called")
			}
			if strings.Contains(got.body, "ada@") {
				t.Errorf("the form is quoted: %s", got.body)
			}
		})
	}
}

// What is wrong behind the file is seen when the service has it already: it must not take the file for the whole source.
func TestFormsThatGoOn(t *testing.T) {
	t.Parallel()
	file := part{field: "file", content: "address\n", file: "a.csv", media: "text/csv"}
	whole, contentType := formOf(t, file)
	twice, typeOfTwice := formOf(t, file, file)
	after, typeOfAfter := formOf(t, file, part{field: "apply", content: "true"})
	_, boundary, _ := strings.Cut(contentType, "boundary=")
	for name, c := range map[string]struct{ body, contentType, field string }{
		"TwoFiles":      {twice, typeOfTwice, "file"},
		"FieldAfter":    {after, typeOfAfter, "apply"},
		"CutInFile":     {whole[:strings.Index(whole, "address")+3], contentType, ""},
		"CutAtBoundary": {strings.TrimSuffix(whole, "--\r\n"), contentType, ""},
		"OneMorePart":   {strings.TrimSuffix(whole, "--\r\n") + "\r\n", contentType, ""},
		"OtherBoundary": {strings.ReplaceAll(whole, "\r\n--"+boundary+"--", "\r\n--other--"), contentType, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			uploads := w.syncs()
			got := w.do(http.MethodPost, syncPath, c.body, c.contentType)
			got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
			if c.field != "" {
				got.wantField(t, c.field)
			}
			w.wantCancelled(uploads)
		})
	}
	t.Run("Epilogue", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.syncs()
		if got := w.do(http.MethodPost, syncPath, "preamble\r\n"+whole+"epilogue", contentType); got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
	t.Run("NotAForm", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		for _, media := range []string{"multipart/form-data", "multipart/form-data; boundary=x"} {
			w.do(http.MethodPost, syncPath, "address\n", "Content-Type: "+media).wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		}
	})
}

func TestFormThatIsTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 600_000
	body, contentType := formOf(t, part{field: "file", content: string(random(limit)), file: "a.csv", media: "text/csv"})
	for name, reader := range map[string]io.Reader{"Declared": strings.NewReader(body), "Chunked": struct{ io.Reader }{strings.NewReader(body)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(cfg *gateway.Config) { cfg.MaxUploadBytes = limit })
			uploads := w.syncs()
			w.send(http.MethodPost, syncPath, reader, contentType).wantError(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")
			if name == "Chunked" {
				w.wantCancelled(uploads)
			}
		})
	}
}

// A form reaches the service as it arrives, and a client that goes away in the middle is no end.
func TestFormThatStreams(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	body, contentType := formOf(t, part{field: "file", content: strings.Repeat("ada@example.org\n", 40_000), file: "a.csv", media: "text/csv"})
	conn := w.dial()
	conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\n" + contentType + "\r\nContent-Length: 1000000\r\n\r\n" + body[:400_000])
	within(t, "the call reaches the service", func() bool { return w.called() == 1 })
	_ = conn.Close()
	w.wantCancelled(uploads)
}
