package mailsink

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

//go:embed pages
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"linked": linked}).ParseFS(pageFiles, "pages/*.html"))

const (
	pagePolicy = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	// What somebody else wrote is shown by itself: nothing in it runs, loads, submits or leaves its frame.
	mailPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)

// listLimit is how many mails messages.json has when not asked for another number.
const listLimit = 100

// Handler shows what is kept: a list at /, each mail at /messages/ID, and for programs /messages.json, newest first,
// which takes to=ADDRESS and limit=NUMBER.
func (s *Sink) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.list)
	mux.HandleFunc("GET /page.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, pageFiles, "pages/page.css") })
	mux.HandleFunc("GET /messages.json", s.listJSON)
	mux.HandleFunc("GET /messages/{id}", s.one(show))
	mux.HandleFunc("GET /messages/{id}/html", s.one(showHTML))
	mux.HandleFunc("GET /messages/{id}/raw", s.one(download))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		// Another name for this machine would be a page elsewhere that has its own name lead here, to read the mail.
		if !isLoopback(hostOf(r.Host)) {
			http.Error(w, "ask for this by the address of this machine", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func secure(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
}

func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	return host
}

// newest returns what is kept, the last first.
func (s *Sink) newest() []Message {
	kept := s.Messages()
	slices.Reverse(kept)
	return kept
}

func (s *Sink) list(w http.ResponseWriter, _ *http.Request) { render(w, "list.html", s.newest()) }

// one finds the mail that a path names.
func (s *Sink) one(show func(http.ResponseWriter, Message)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, m := range s.Messages() {
			if m.ID == r.PathValue("id") {
				show(w, m)
				return
			}
		}
		http.Error(w, "no such mail; only the newest are kept", http.StatusNotFound)
	}
}

func show(w http.ResponseWriter, m Message) { render(w, "message.html", m) }

func showHTML(w http.ResponseWriter, m Message) {
	w.Header().Set("Content-Security-Policy", mailPolicy)
	w.Header().Set("X-Frame-Options", "SAMEORIGIN")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(m.HTML)) // the client may go
}

func download(w http.ResponseWriter, m Message) {
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Disposition", `attachment; filename="`+m.ID+`.eml"`)
	_, _ = w.Write(m.Raw) // likewise
}

func render(w http.ResponseWriter, page string, data any) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, page, data); err != nil {
		http.Error(w, "this mail cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes()) // the client may go
}

// listed is a mail in messages.json.
type listed struct {
	ID       string            `json:"id"`
	Received time.Time         `json:"received"`
	From     string            `json:"from"`
	To       []string          `json:"to"`
	Subject  string            `json:"subject"`
	Text     string            `json:"text"`
	HTML     string            `json:"html,omitempty"`
	Links    []string          `json:"links"`
	Headers  map[string]string `json:"headers"`
}

func (s *Sink) listJSON(w http.ResponseWriter, r *http.Request) {
	limit := listLimit
	if asked := r.FormValue("limit"); asked != "" {
		var err error
		if limit, err = strconv.Atoi(asked); err != nil || limit < 1 {
			http.Error(w, "limit must be a number above 0", http.StatusBadRequest)
			return
		}
	}
	all := []listed{}
	for _, m := range s.newest() {
		if to := r.FormValue("to"); to != "" && !m.Reached(to) {
			continue
		}
		if len(all) == limit {
			break
		}
		all = append(all, m.listed())
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // so that links can be cut out as they are
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(map[string]any{"messages": all}) // the client may go
}

func (m Message) listed() listed {
	l := listed{
		ID: m.ID, Received: m.Received, From: m.From, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Links: append([]string{}, m.Links()...), Headers: map[string]string{},
	}
	for _, header := range m.Headers {
		if _, again := l.Headers[header.Name]; !again {
			l.Headers[header.Name] = header.Value
		}
	}
	return l
}

// piece is text, or a link in it.
type piece struct {
	Text string
	Link bool
}

// linked takes a text apart at its links.
func linked(text string) []piece {
	var all []piece
	end := 0
	for _, at := range link.FindAllStringIndex(text, -1) {
		all = append(all, piece{text[end:at[0]], false}, piece{text[at[0]:at[1]], true})
		end = at[1]
	}
	return append(all, piece{text[end:], false})
}
