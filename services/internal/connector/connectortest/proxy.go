// Package connectortest breaks what connectors stand on, for their tests.
package connectortest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

// Fault is what happens to an answer.
type Fault int

// The faults.
const (
	None   Fault = iota
	Cut          // half of it arrives, and the connection ends
	Shrunk       // half of it arrives, and looks whole
	Dead         // nothing arrives, and the connection ends
	Failed       // 503
)

// Proxy stands before the target and does to the answers what fault says, which is asked for each request before it is
// passed on; one at a time, numbered from 1.
func Proxy(t testing.TB, target string, fault func(number int, r *http.Request) Fault) (url string) {
	t.Helper()
	client := &http.Client{Timeout: time.Minute}
	turn, number := make(chan struct{}, 1), 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		turn <- struct{}{}
		defer func() { <-turn }()
		number++
		kind := fault(number, r)
		status, header, body := forward(t, client, target, r)
		answer(t, w, kind, status, header, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func forward(t testing.TB, client *http.Client, target string, r *http.Request) (int, http.Header, []byte) {
	body, _ := io.ReadAll(r.Body)
	request, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.RequestURI(), bytes.NewReader(body)) //nolint:gosec // a test's proxy passes on what it gets
	if err != nil {
		t.Error(err)
		return http.StatusBadGateway, nil, nil
	}
	request.Header = r.Header.Clone()
	response, err := client.Do(request) //nolint:gosec // as above
	if err != nil {
		t.Error(err)
		return http.StatusBadGateway, nil, nil
	}
	defer func() { _ = response.Body.Close() }()
	answered, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, response.Header, answered
}

func answer(t testing.TB, w http.ResponseWriter, kind Fault, status int, header http.Header, body []byte) {
	w.Header().Set("Content-Type", header.Get("Content-Type"))
	switch kind {
	case None:
	case Cut:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = w.Write(body[:len(body)/2]) //nolint:gosec // as above
		hangUp(t, w)
		return
	case Dead:
		hangUp(t, w)
		return
	case Shrunk:
		body = body[:len(body)/2]
	case Failed:
		status, body = http.StatusServiceUnavailable, nil
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // as above
}

func hangUp(t testing.TB, w http.ResponseWriter) {
	if flusher, ok := w.(http.Flusher); ok && w.Header().Get("Content-Length") != "" {
		flusher.Flush()
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = conn.Close()
}

// Pull pulls everybody into a map by address, and fails the test where somebody comes twice.
func Pull(t testing.TB, remote connector.Remote) map[string]connector.Person {
	t.Helper()
	people := map[string]connector.Person{}
	err := remote.Pull(t.Context(), func(p connector.Person) error {
		if _, twice := people[p.Address]; twice {
			t.Errorf("%s comes twice", p.Address)
		}
		people[p.Address] = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return people
}

// PullError is what a pull that has to fail fails with.
func PullError(t testing.TB, remote connector.Remote) error {
	t.Helper()
	people := 0
	err := remote.Pull(t.Context(), func(connector.Person) error { people++; return nil })
	if err == nil {
		t.Fatalf("pulled %d people, want an error", people)
	}
	return err
}
