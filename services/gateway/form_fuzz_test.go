package gateway

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/url"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// FuzzForm demands that a form is either refused with a reason or holds exactly the file that the standard library
// finds in it, between fields of ours and nothing.
func FuzzForm(f *testing.F) {
	const file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\nContent-Type: text/csv\r\n\r\nemail\nada@example.org\n\r\n"
	const field = "--b\r\nContent-Disposition: form-data; name=\"mode\"\r\n\r\nMERGE\r\n"
	for _, body := range []string{"", file, file + "--b--\r\n", field + file + "--b--", file + field + "--b--\r\n", file + file + "--b--\r\n", "x\r\n" + file + "--b--\r\nx", file + "--b\r\n"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		content, err := readWholeForm(body)
		if err != nil {
			if rpc.InfoOf(err) == nil {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		sent, err := multipart.NewReader(bytes.NewReader(body), "b").ReadForm(1 << 20)
		if err != nil {
			t.Fatalf("taken, but it is no form: %v", err)
		}
		defer func() { _ = sent.RemoveAll() }()
		for name := range sent.Value {
			if syncParameters[name] == nil {
				t.Errorf("the field %q is passed over", name)
			}
		}
		if len(sent.File) != 1 {
			t.Fatalf("%d files", len(sent.File))
		}
		for _, headers := range sent.File {
			opened, err := headers[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			want, err := io.ReadAll(opened)
			if err != nil || len(headers) != 1 || !bytes.Equal(content, want) {
				t.Errorf("%d files, %q, want %q: %v", len(headers), content, want, err)
			}
			_ = opened.Close()
		}
	})
}

func readWholeForm(body []byte) ([]byte, error) {
	sent, err := openForm(bytes.NewReader(body), "b", url.Values{})
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(sent)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("an end that is no end")
	}
	return content, err
}
