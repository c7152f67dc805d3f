package gateway_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// refusesSyncs makes the service refuse an upload before it has read it.
func (w *world) refusesSyncs() {
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(grpc.ServerStream) error {
		return rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "not your chapter")
	})
}

// A client that pauses is told at once that the service has refused.
func TestEarlyAnswerWhileTheClientPauses(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]string{"Declared": "Content-Length: 1000000", "Chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.refusesSyncs()
			conn := w.dial()
			conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n" + framing + "\r\n\r\n8\r\naddress\n\r\n")
			start := time.Now()
			got := conn.answer()
			if got.StatusCode != http.StatusForbidden || got.Header.Get("Connection") != "close" && !got.Close {
				t.Errorf("%d %v", got.StatusCode, got.Header)
			}
			if _, err := io.ReadAll(got.Body); err != nil || time.Since(start) > 4*time.Second {
				t.Errorf("the answer is whole after %s: %v", time.Since(start), err)
			}
		})
	}
}

// Many clients read nothing before they have sent everything.
func TestEarlyAnswerToAClientThatSendsEverythingFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refusesSyncs()
	content := random(8 << 20)
	conn := w.dial()
	conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: " + strconv.Itoa(len(content)) + "\r\n\r\n")
	if _, err := conn.Write(content); err != nil {
		t.Fatalf("the body is not taken: %v", err)
	}
	if got := conn.answer(); got.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", got.StatusCode)
	}
}

func TestWrongParameterCostsNoUpload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	conn := w.dial()
	conn.write("POST " + listPath + "/syncs HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
	got := conn.answer()
	if got.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", got.StatusCode)
	}
	_, _ = io.Copy(io.Discard, got.Body)
	if _, err := conn.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection stays open: %v", err)
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.syncs()
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			reused++
		}
	}})
	for range 3 {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+syncPath, strings.NewReader("address\n"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "text/csv")
		response, err := w.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	if reused != 2 {
		t.Errorf("%d of 2 requests use the connection again", reused)
	}
}

// raw is a connection on which the test says each byte.
type raw struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (w *world) dial() *raw {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	w.t.Cleanup(func() { _ = conn.Close() })
	return &raw{conn, w.t, bufio.NewReader(conn)}
}

func (c *raw) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) answer() *http.Response {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}
