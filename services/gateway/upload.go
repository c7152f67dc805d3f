package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	syncsPath = "/v1/{parent=chapters/*/lists/*}/syncs"
	// chunkBytes is what travels in one message: large enough that messages cost nothing beside the bytes.
	chunkBytes = 256 << 10
	// chunkTime is how long a chunk that is not full may wait for more.
	chunkTime = time.Second
)

// sourceTypes are the media types of a sync's source.
var sourceTypes = []string{mediaCSV, "application/csv", "text/tab-separated-values", mediaNDJSON, "application/ndjson", mediaJSON}

// createSync streams a source to the local service as its bytes arrive, and hands the answer back, which may come
// before the source has ended.
func (g *gateway) createSync(w http.ResponseWriter, r *http.Request, params map[string]string) {
	_ = http.NewResponseController(w).SetWriteDeadline(never)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	up := &upload{cancel: cancel, patience: &patience{w: w, limit: g.cfg.IdleTimeout}}
	header, err := g.open(up, r, params["parent"])
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if ctx, err = runtime.AnnotateContext(ctx, g.api, r, localv1.SyncService_CreateSync_FullMethodName); err != nil {
		g.fail(w, r, err)
		return
	}
	answer := &localv1.Sync{}
	md, err := up.run(syncStream(ctx, g.syncs, header), answer)
	defer up.stop()
	_ = http.NewResponseController(w).SetWriteDeadline(clock.System{}.Now().Add(writeSlack))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{HeaderMD: md})
	if answer.GetState() == localv1.Sync_PLANNING {
		w = accepted(w, answer, header.GetRespondAsync())
	}
	_, out := runtime.MarshalerForRequest(g.api, r)
	runtime.ForwardResponseMessage(ctx, g.api, out, w, r, answer, g.api.GetForwardResponseOptions()...)
}

// open gives the upload its source, and returns its first message. Of the body nothing is read but the fields of a form,
// so that a wrong parameter does not cost an upload.
func (g *gateway) open(up *upload, r *http.Request, parent string) (*localv1.CreateSyncHeader, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	boundary, isForm, err := boundaryOf(r.Header)
	if err != nil {
		return nil, err
	}
	if isForm {
		return g.openForm(up, r, parent, boundary, query)
	}
	contentType := r.Header.Get("Content-Type")
	if err := checkSourceType(contentType); err != nil {
		return nil, err
	}
	header, err := syncHeader(r, parent, contentType, query)
	if err != nil {
		return nil, err
	}
	up.source, err = g.source(r, up.patience)
	return header, err
}

func (g *gateway) openForm(up *upload, r *http.Request, parent, boundary string, query url.Values) (*localv1.CreateSyncHeader, error) {
	if err := setSyncParameters(&localv1.CreateSyncHeader{}, query).refusal(); err != nil {
		return nil, err
	}
	body, err := g.source(r, up.patience)
	if err != nil {
		return nil, err
	}
	sent, err := openForm(body, boundary, query)
	if err != nil {
		return nil, err
	}
	up.source = sent
	return syncHeader(r, parent, sent.contentType, sent.values)
}

// accepted makes the answer say that the sync is still being planned, and where it can be read.
func accepted(w http.ResponseWriter, sync *localv1.Sync, preferred bool) http.ResponseWriter {
	w.Header().Set("Location", "/v1/"+sync.GetName())
	w.Header().Set("Retry-After", "1")
	if preferred {
		w.Header().Set("Preference-Applied", "respond-async")
	}
	return &withStatus{ResponseWriter: w, status: http.StatusAccepted}
}

// withStatus is for what writes a body without a status.
type withStatus struct {
	http.ResponseWriter
	status  int
	written bool
}

func (w *withStatus) Write(p []byte) (int, error) {
	if !w.written {
		w.written = true
		w.WriteHeader(w.status)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *withStatus) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// upload is one source on its way.
type upload struct {
	source   io.Reader
	patience *patience
	cancel   context.CancelFunc
	pumped   chan struct{} // closed when cause is known
	cause    error
}

// sender is a call that a source is sent in.
type sender struct {
	stream grpc.ClientStream
	err    error
	header proto.Message
	chunk  func([]byte) proto.Message
}

func syncStream(ctx context.Context, client localv1.SyncServiceClient, header *localv1.CreateSyncHeader) sender {
	stream, err := client.CreateSync(ctx)
	return sender{
		stream: stream, err: err,
		header: &localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{Header: header}},
		chunk: func(chunk []byte) proto.Message {
			return &localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Chunk{Chunk: chunk}}
		},
	}
}

// run fills in the service's answer. Where the source could not be read to its end the call is cancelled, so that the
// service sees no end either, and the reason is returned.
func (u *upload) run(call sender, answer proto.Message) (metadata.MD, error) {
	u.pumped = make(chan struct{})
	if call.err != nil {
		close(u.pumped)
		return nil, call.err
	}
	go func() {
		u.cause = u.pump(call)
		close(u.pumped)
		if u.cause != nil {
			u.cancel()
		}
	}()
	if err := call.stream.RecvMsg(answer); err != nil {
		return nil, u.blame(err)
	}
	return call.stream.Header()
}

// pump sends the source chunk by chunk. It ends early when the service has answered.
func (u *upload) pump(call sender) error {
	if call.stream.SendMsg(call.header) != nil {
		return nil // what RecvMsg returns says why
	}
	for {
		// gRPC may still look at a chunk that was sent, so each has its own buffer.
		chunk, err := readChunk(u.source)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(chunk) > 0 && call.stream.SendMsg(call.chunk(chunk)) != nil {
			return nil
		}
		if err != nil {
			return call.stream.CloseSend()
		}
	}
}

// readChunk fills a chunk as far as the source goes, or comes in time: the service takes a source that trickles for one
// that has stopped, if it sees nothing of it.
func readChunk(source io.Reader) ([]byte, error) {
	chunk := make([]byte, chunkBytes)
	filled := 0
	var first time.Time
	for filled < len(chunk) {
		n, err := source.Read(chunk[filled:])
		now := clock.System{}.Now()
		if filled == 0 {
			first = now
		}
		filled += n
		if err != nil || now.Sub(first) > chunkTime {
			return chunk[:filled], err
		}
	}
	return chunk, nil
}

// blame tells an error of the service from the end of a call whose source broke off: net/http cancels a request that
// cannot be read.
func (u *upload) blame(err error) error {
	if status.Code(err) != codes.Canceled || rpc.InfoOf(err) != nil {
		return err
	}
	<-u.pumped
	if u.cause != nil {
		return u.cause
	}
	return err
}

// stop ends the pump, which may still wait for bytes after the service has answered.
func (u *upload) stop() {
	_ = http.NewResponseController(u.patience.w).Flush() // the client need not wait for what is left
	u.patience.end(lingerTime)
	<-u.pumped
}

// source is the body, decompressed where it is compressed, and bounded either way.
func (g *gateway) source(r *http.Request, wait *patience) (io.Reader, error) {
	if r.ContentLength > g.cfg.MaxUploadBytes {
		return nil, tooLarge(g.cfg.MaxUploadBytes)
	}
	arriving := &bounded{&arriving{r.Body, wait}, g.cfg.MaxUploadBytes, g.cfg.MaxUploadBytes}
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
		return arriving, nil
	case "gzip":
		return &bounded{&gunzip{source: arriving}, g.cfg.MaxUploadBytes, g.cfg.MaxUploadBytes}, nil
	}
	return nil, unsupportedMedia("a source is sent as it is, or with Content-Encoding: gzip")
}

// arriving reads the body from the network. An error of it is an upload that was interrupted.
type arriving struct {
	body io.Reader
	wait *patience
}

func (a *arriving) Read(p []byte) (int, error) {
	a.wait.renew()
	n, err := a.body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		a.wait.over()
	case err != nil:
		err = interrupted(err)
	}
	return n, err
}

// bounded refuses to read more than its limit.
type bounded struct {
	source    io.Reader
	remaining int64
	limit     int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.source.Read(p)
	if b.remaining -= int64(n); b.remaining < 0 {
		return 0, tooLarge(b.limit)
	}
	return n, err
}

// gunzip decompresses; it opens the stream with the first read, which waits for the network.
type gunzip struct {
	source io.Reader
	stream *gzip.Reader
}

func (z *gunzip) Read(p []byte) (int, error) {
	if z.stream == nil {
		stream, err := gzip.NewReader(z.source)
		if err != nil {
			return 0, notGzip(err)
		}
		z.stream = stream
	}
	n, err := z.stream.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = notGzip(err)
	}
	return n, err
}

// notGzip leaves errors of the body below as they are.
func notGzip(err error) error {
	if rpc.InfoOf(err) != nil {
		return err
	}
	return rpc.Invalid(errorv1.Reason_REASON_SOURCE_UNREADABLE, "", "the source is not whole gzip, as its Content-Encoding says")
}

// patience bounds how long an upload may stand still, by the read deadline of its connection.
type patience struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	limit time.Duration
	ended bool
}

func (p *patience) renew() { p.set(clock.System{}.Now().Add(p.limit)) }

// over lifts the deadline when the body has ended: left on the connection it would end the request.
func (p *patience) over() { p.set(never) }

func (p *patience) set(deadline time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		setReadDeadline(p.w, deadline)
	}
}

// end leaves a read that is waiting only so much longer, and the deadline to others.
func (p *patience) end(remaining time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	setReadDeadline(p.w, clock.System{}.Now().Add(remaining))
}

func checkSourceType(contentType string) error {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && slices.Contains(sourceTypes, media):
		return nil
	case err == nil && (media == "text/plain" || media == "application/octet-stream"):
		return unsupportedMedia(media + " could be anything; say what the source is: Content-Type text/csv, which may have tabs or semicolons too, application/x-ndjson or application/json")
	}
	return unsupportedMedia("say what the source is: Content-Type text/csv, application/x-ndjson or application/json, or multipart/form-data with one file")
}
