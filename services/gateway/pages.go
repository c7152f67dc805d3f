package gateway

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	swagger "github.com/swaggest/swgui/v5/static"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/gen/openapi"
)

//go:embed pages
var pageFiles embed.FS

const (
	assetsPath = "/docs/assets/"
	mediaHTML  = "text/html; charset=utf-8"
	// Pages load what the gateway serves and nothing else. Swagger UI sets styles on its elements and has its icons
	// in its style sheet.
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// newPages returns what is served outside of /v1, by path.
func (g *gateway) newPages() (map[string]http.Handler, error) {
	errors, err := errorsDocument()
	if err != nil {
		return nil, err
	}
	pages := map[string]http.Handler{
		"/openapi.json": asset(mediaJSON, openapi.Document),
		errorsPage:      page(errors),
		healthPath:      http.HandlerFunc(g.health),
		readyPath:       http.HandlerFunc(g.readiness),
		metricsPath:     promhttp.HandlerFor(g.metrics, promhttp.HandlerOpts{}),
	}
	for path, file := range map[string]string{"/": "index.html", "/docs": "docs.html"} {
		content, err := pageFiles.ReadFile("pages/" + file)
		if err != nil {
			return nil, err
		}
		pages[path] = page(content)
	}
	return pages, addAssets(pages)
}

func page(content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		write(w, mediaHTML, content)
	})
}

// asset is served for as long as the program runs: whoever has it asks again after an hour.
func asset(media string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		write(w, media, content)
	})
}

// packed is an asset that is kept compressed, as nearly every client takes it.
func packed(media string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			write(w, media, content)
			return
		}
		plain, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			panic(fmt.Errorf("embedded asset: %w", err))
		}
		w.Header().Set("Content-Type", media)
		_, _ = io.Copy(w, plain) //nolint:gosec // compiled in, so no bomb; and the client may go
	})
}

func write(w http.ResponseWriter, media string, content []byte) {
	writeStatus(w, http.StatusOK, media, content)
}

func writeStatus(w http.ResponseWriter, status int, media string, content []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.WriteHeader(status)
	_, _ = w.Write(content) // the client may go
}

// addAssets adds Swagger UI and our own style sheet and script.
func addAssets(pages map[string]http.Handler) error {
	for folder, files := range map[string]fs.FS{".": swagger.FS, "pages": pageFiles} {
		entries, err := fs.ReadDir(files, folder)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			content, err := fs.ReadFile(files, path.Join(folder, entry.Name()))
			if err != nil {
				return err
			}
			if name, ok := strings.CutSuffix(entry.Name(), ".gz"); ok {
				pages[assetsPath+name] = packed(mediaOf(name), content)
			} else if mediaOf(entry.Name()) != mediaHTML {
				pages[assetsPath+entry.Name()] = asset(mediaOf(entry.Name()), content)
			}
		}
	}
	return nil
}

// mediaOf does not ask the machine, whose table of media types may be any.
func mediaOf(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".png":
		return "image/png"
	}
	return mediaHTML
}

// documented is a reason as the page of errors shows it.
type documented struct {
	Name    string
	Text    []piece
	Any     bool
	Methods []string
}

// piece is text, or a name in it that stands between backquotes.
type piece struct {
	Text string
	Code bool
}

func pieces(text string) []piece {
	var all []piece
	for i, part := range strings.Split(text, "`") {
		all = append(all, piece{part, i%2 == 1})
	}
	return all
}

// firstOfOne is the first reason that only some methods give, by its number.
const firstOfOne = errorv1.Reason_REASON_ADDRESS_TAKEN

// reasonText matches a reason in the description of OpenAPI's Reason, which holds the proto's comments: the compiled
// descriptors have none.
var reasonText = regexp.MustCompile("(?m)^- `([A-Z_]+)`: (.*)$")

func errorsDocument() ([]byte, error) {
	texts, err := reasonTexts()
	if err != nil {
		return nil, err
	}
	methods := methodsByReason()
	var reasons []documented
	values := errorv1.Reason(0).Descriptor().Values()
	for i := range values.Len() {
		reason := errorv1.Reason(values.Get(i).Number())
		if reason == errorv1.Reason_REASON_UNSPECIFIED {
			continue
		}
		name := nameOf(reason)
		reasons = append(reasons, documented{name, pieces(texts[name]), reason < firstOfOne, methods[reason]})
	}
	tmpl, err := template.ParseFS(pageFiles, "pages/errors.html")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, reasons)
	return out.Bytes(), err
}

func reasonTexts() (map[string]string, error) {
	var document struct {
		Components struct {
			Schemas struct {
				Reason struct {
					Description string `json:"description"`
				}
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(openapi.Document, &document); err != nil {
		return nil, fmt.Errorf("read openapi.json: %w", err)
	}
	texts := map[string]string{}
	for _, match := range reasonText.FindAllStringSubmatch(document.Components.Schemas.Reason.Description, -1) {
		texts[match[1]] = match[2]
	}
	return texts, nil
}

func methodsByReason() map[errorv1.Reason][]string {
	found := map[errorv1.Reason][]string{}
	for _, service := range services() {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			for _, reason := range reasonsOf(method) {
				found[reason] = append(found[reason], string(method.Name()))
			}
		}
	}
	return found
}

func reasonsOf(method protoreflect.MethodDescriptor) []errorv1.Reason {
	reasons, _ := proto.GetExtension(method.Options(), errorv1.E_Errors).([]errorv1.Reason)
	return reasons
}
