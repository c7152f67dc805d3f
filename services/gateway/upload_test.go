package gateway_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	syncPath = listPath + "/syncs?mode=REPLACE&source=crm"
	asCSV    = "Content-Type: text/csv"
)

// received is what an upload brought to the service.
type received struct {
	header  *localv1.CreateSyncHeader
	content []byte
	largest int
	end     error
}

// syncs makes the service read uploads to their end, and answer; each is told to the channel when it has ended.
func (w *world) syncs() <-chan received {
	uploads := make(chan received, 10)
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		got := receive(stream)
		uploads <- got
		if !errors.Is(got.end, io.EOF) {
			return got.end
		}
		_ = stream.SetHeader(metadata.Pairs(rpc.ReplayedHeader, "true"))
		return stream.SendMsg(&localv1.Sync{Name: "chapters/golang-paris/lists/members/syncs/1", Etag: "1-1", Counts: &localv1.SyncCounts{}})
	})
	return uploads
}

func receive(stream grpc.ServerStream) received {
	var got received
	for {
		var message localv1.CreateSyncRequest
		if got.end = stream.RecvMsg(&message); got.end != nil {
			return got
		}
		if header := message.GetHeader(); header != nil {
			got.header = header
		}
		got.largest = max(got.largest, len(message.GetChunk()))
		got.content = append(got.content, message.GetChunk()...)
	}
}

func (w *world) wantUpload(uploads <-chan received) received {
	w.t.Helper()
	select {
	case got := <-uploads:
		return got
	case <-time.After(10 * time.Second):
		w.t.Fatal("no upload ends")
		return received{}
	}
}

// wantCancelled checks that the service saw the upload break off: an end would have been taken for the whole source.
func (w *world) wantCancelled(uploads <-chan received) {
	w.t.Helper()
	if got := w.wantUpload(uploads); status.Code(got.end) != codes.Canceled {
		w.t.Errorf("the service saw %v", got.end)
	}
}

func random(n int) []byte {
	content := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	return content
}

func zipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUpload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	content := random(3 << 20)
	path := syncPath + "&apply=true&confirmRemovals=12&map.address=E-Mail&map.displayName=Wer"
	got := w.send(http.MethodPost, path, bytes.NewReader(content), asCSV+"; charset=utf-16", "Idempotency-Key: nightly-1", "Authorization: Bearer abc")
	if got.status != http.StatusOK || got.header.Get("ETag") != `"1-1"` || got.header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	if !strings.Contains(got.body, `"counts":{"add":0,`) || strings.Contains(got.body, "standingBefore") {
		t.Errorf("the answer is %s", got.body)
	}
	upload := w.wantUpload(uploads)
	header := upload.header
	if header.GetParent() != "chapters/golang-paris/lists/members" || header.GetMode() != localv1.Sync_REPLACE || header.GetSource() != "crm" ||
		!header.GetApply() || header.GetConfirmRemovals() != 12 || header.GetMapAddress() != "E-Mail" || header.GetMapDisplayName() != "Wer" ||
		header.GetContentType() != "text/csv; charset=utf-16" || header.GetRequestId() != "nightly-1" {
		t.Errorf("the header is %v", header)
	}
	if !bytes.Equal(upload.content, content) {
		t.Errorf("%d bytes arrived, and not those that were sent", len(upload.content))
	}
	if upload.largest != 256<<10 {
		t.Errorf("the largest chunk has %d bytes", upload.largest)
	}
	if md := w.lastCall().metadata; md.Get("authorization")[0] != "Bearer abc" || md.Get("idempotency-key")[0] != "nightly-1" {
		t.Errorf("metadata: %v", md)
	}
}

func TestUploadOfOtherTypes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	for _, media := range []string{"application/x-ndjson", "application/json", "application/json; charset=utf-8"} {
		if got := w.do(http.MethodPost, syncPath, `{"entries":[]}`, "Content-Type: "+media); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", media, got.status, got.body)
		}
		if upload := w.wantUpload(uploads); upload.header.GetContentType() != media || string(upload.content) != `{"entries":[]}` {
			t.Errorf("%s: %v %s", media, upload.header, upload.content)
		}
	}
	// An empty source is the service's to refuse.
	w.do(http.MethodPost, syncPath, "", asCSV)
	if upload := w.wantUpload(uploads); !errors.Is(upload.end, io.EOF) || len(upload.content) != 0 {
		t.Errorf("%v", upload)
	}
}

func TestUploadParametersThatAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for query, field := range map[string]string{
		"source=crm": "mode", "mode=REPLACE": "source", "mode=replace&source=crm": "mode", "mode=MODE_UNSPECIFIED&source=crm": "mode",
		"mode=1&source=crm": "mode", "mode=MERGE&source=crm&apply=maybe": "apply", "mode=MERGE&source=crm&confirmRemovals=-1": "confirmRemovals",
		"mode=MERGE&source=crm&confirmRemovals=99999999999": "confirmRemovals", "mode=MERGE&source=crm&force=true": "force",
		"mode=MERGE&source=crm&source=crm": "source", "mode=MERGE&source=crm&requestId=b": "requestId",
	} {
		got := w.do(http.MethodPost, listPath+"/syncs?"+query, "address\n", asCSV, "Idempotency-Key: a")
		got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		got.wantField(t, field)
	}
	for path, field := range map[string]string{
		listPath + "/syncs?mode=MERGE&source=C+R+M":                             "source",
		"/v1/chapters/Golang/lists/members/syncs?mode=MERGE&source=crm":         "parent",
		listPath + "/syncs?mode=MERGE&source=" + url.QueryEscape("ada@example"): "source",
	} {
		got := w.do(http.MethodPost, path, "address\n", asCSV)
		got.wantError(t, http.StatusBadRequest, "INVALID_FIELD")
		got.wantField(t, field)
	}
	for _, headers := range [][]string{
		{},
		{"Content-Type: application/x-www-form-urlencoded"},
		{"Content-Type: application/octet-stream"},
		{"Content-Type: text/plain"},
		{asCSV, "Content-Encoding: br"},
	} {
		w.do(http.MethodPost, syncPath, "address\n", headers...).wantError(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	}
	if w.called() != 0 {
		t.Errorf("%d calls reached the service", w.called())
	}
}

func TestUploadThatIsTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 600_000
	for name, body := range map[string]io.Reader{
		"Declared":     bytes.NewReader(random(limit + 1)),
		"Chunked":      struct{ io.Reader }{bytes.NewReader(random(limit + 1))},
		"Decompressed": bytes.NewReader(zipped(t, make([]byte, limit+1))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(cfg *gateway.Config) { cfg.MaxUploadBytes = limit })
			uploads := w.syncs()
			headers := []string{asCSV}
			if name == "Decompressed" {
				headers = append(headers, "Content-Encoding: gzip")
			}
			body := w.send(http.MethodPost, syncPath, body, headers...).wantError(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")
			if limit := body["details"].([]any)[0].(map[string]any)["metadata"].(map[string]any)["limit"]; limit != "600000" {
				t.Errorf("limit is %v", limit)
			}
			if name != "Declared" {
				w.wantCancelled(uploads)
			}
		})
	}
	t.Run("NotByOne", func(t *testing.T) {
		t.Parallel()
		w := setup(t, func(cfg *gateway.Config) { cfg.MaxUploadBytes = limit })
		w.syncs()
		if got := w.send(http.MethodPost, syncPath, bytes.NewReader(random(limit)), asCSV); got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
}

// A body that is announced as a terabyte is refused before any of it is read.
func TestUploadThatAnnouncesTooMuch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	conn := w.dial()
	conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1099511627776\r\nExpect: 100-continue\r\n\r\n")
	if got := conn.answer(); got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", got.StatusCode)
	}
}

func TestCompressedUpload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	content := []byte(strings.Repeat("ada@example.org,Ada\n", 50_000))
	whole := zipped(t, content)
	if got := w.send(http.MethodPost, syncPath, bytes.NewReader(whole), asCSV, "Content-Encoding: gzip"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if upload := w.wantUpload(uploads); !bytes.Equal(upload.content, content) {
		t.Errorf("%d bytes arrived, and not those that were sent", len(upload.content))
	}
	for _, broken := range [][]byte{content, whole[:len(whole)/2], append(bytes.Clone(whole), "more"...)} {
		w.send(http.MethodPost, syncPath, bytes.NewReader(broken), asCSV, "Content-Encoding: gzip").
			wantError(t, http.StatusBadRequest, "SOURCE_UNREADABLE")
		w.wantCancelled(uploads)
	}
}

func TestUploadThatPauses(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.RequestTimeout, cfg.IdleTimeout = 100*time.Millisecond, 2*time.Second })
	uploads := w.syncs()
	reader, writer := pipe(t)
	go func() {
		for range 4 {
			_, _ = writer.Write([]byte("ada@example.org\n"))
			<-time.After(150 * time.Millisecond)
		}
		_ = writer.Close()
	}()
	if got := w.send(http.MethodPost, syncPath, reader, asCSV); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if upload := w.wantUpload(uploads); len(upload.content) != 64 {
		t.Errorf("%d bytes arrived", len(upload.content))
	}
}

// A source that trickles reaches the service as it comes.
func TestUploadThatTrickles(t *testing.T) {
	t.Parallel()
	w := setup(t)
	arrived := make(chan int, 100)
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		for {
			var message localv1.CreateSyncRequest
			if err := stream.RecvMsg(&message); err != nil {
				return err
			}
			arrived <- len(message.GetChunk())
		}
	})
	reader, writer := pipe(t)
	go func() { _, _ = w.try(http.MethodPost, syncPath, reader, asCSV) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for {
		select {
		case n := <-arrived:
			if n > 0 {
				return
			}
		case <-tick.C:
			_, _ = writer.Write([]byte("ada@example.org\n"))
		case <-limit:
			t.Fatal("nothing reaches the service")
		}
	}
}

func TestUploadThatStops(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.IdleTimeout = 100 * time.Millisecond })
	uploads := w.syncs()
	reader, writer := pipe(t)
	go func() { _, _ = writer.Write([]byte("ada@example.org\n")) }()
	w.send(http.MethodPost, syncPath, reader, asCSV).wantError(t, http.StatusRequestTimeout, "UPLOAD_INTERRUPTED")
	w.wantCancelled(uploads)
}

// The deadline for the next bytes must not outlast them: applying a large plan takes longer than a pause may.
func TestUploadWhoseAnswerTakesTime(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) {
		cfg.IdleTimeout, cfg.RequestTimeout = 500*time.Millisecond, 500*time.Millisecond
	})
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		receive(stream)
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(time.Second):
			return stream.SendMsg(&localv1.Sync{})
		}
	})
	for _, body := range []io.Reader{strings.NewReader("address\n"), struct{ io.Reader }{strings.NewReader("address\n")}} {
		if got := w.send(http.MethodPost, syncPath, body, asCSV); got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	uploads := w.syncs()
	conn := w.dial()
	conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\nada@example.org\n")
	within(t, "the call reaches the service", func() bool { return w.called() == 1 })
	_ = conn.Close()
	w.wantCancelled(uploads)
}

func TestClientGoesAwayBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ended := make(chan error, 1)
	w.stream(localv1.SyncService_CreateSync_FullMethodName, func(stream grpc.ServerStream) error {
		receive(stream)
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return stream.Context().Err()
	})
	conn := w.dial()
	conn.write("POST " + syncPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 4\r\n\r\nada\n")
	within(t, "the call reaches the service", func() bool { return w.called() == 1 })
	_ = conn.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the service saw %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the service is not told")
	}
}
