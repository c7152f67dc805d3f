package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	// lingerTime and lingerBytes bound how much more of a body is read after it was refused. A connection that is
	// closed on a client that still sends takes the answer down with it.
	lingerTime  = 5 * time.Second
	lingerBytes = 32 << 20
	writeSlack  = 30 * time.Second
)

var (
	never = time.Time{}
	past  = time.Unix(1, 0)
)

// exchange is what the log and the metrics say of one request. It is written by the goroutine that serves it.
type exchange struct {
	route  string // the pattern: paths hold ids
	reason string
	body   *body

	headOnly bool // of an answer to HEAD nothing but the headers is sent
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request that observe let in.
func exchangeOf(ctx context.Context) *exchange {
	if found, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return found
	}
	return &exchange{body: &body{ReadCloser: http.NoBody}}
}

// observe gives a request its id, its deadlines, its log line and its measures, and catches faults.
func (g *gateway) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := g.clock.Now()
		id := rpc.NewRequestID(r.Header.Get(headerRequestID))
		current := &exchange{route: "unknown", body: &body{ReadCloser: r.Body}}
		current.body.ended.Store(r.ContentLength == 0 || r.Body == http.NoBody)
		answer := &response{ResponseWriter: w, request: current.body}
		answer.Header().Set(headerRequestID, id)
		secure(answer.Header())
		r = r.WithContext(context.WithValue(rpc.WithRequestID(r.Context(), id), exchangeKey{}, current))
		r.Body = current.body
		r.Header.Del("Grpc-Timeout") // the generated code would take it for the caller's to decide
		done := g.meter.begin()
		defer func() {
			fault := recover()
			done(r.Method, current, answer, g.clock.Now().Sub(start))
			g.logExchange(r, current, answer, g.clock.Now().Sub(start), fault)
			if fault != nil {
				panic(http.ErrAbortHandler) // what was answered is not whole: let the client see that
			}
		}()
		g.bound(answer, current)
		g.serve(next, answer, r)
		linger(answer, r, current)
	})
}

// bound gives a request the time that an ordinary one needs; uploads and exports set their own.
func (g *gateway) bound(w http.ResponseWriter, current *exchange) {
	now := g.clock.Now()
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(now.Add(2*g.cfg.RequestTimeout + writeSlack)) // a recorder has none
	if current.body.finished() {
		return // net/http reads on by itself, and would take a deadline that passes for the client going away
	}
	// The answer to a refused body goes out at once, not after the body.
	_ = control.EnableFullDuplex()
	_ = control.SetReadDeadline(now.Add(g.cfg.RequestTimeout))
}

// serve answers a fault with an internal error where nothing was answered yet.
func (g *gateway) serve(next http.Handler, w *response, r *http.Request) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		aborted, _ := fault.(error)
		if w.status != 0 || errors.Is(aborted, http.ErrAbortHandler) {
			panic(fault)
		}
		g.log.ErrorContext(r.Context(), "panic", "request_id", rpc.RequestID(r.Context()), "cause", causeOf(fault), "stack", string(debug.Stack()))
		g.fail(w, r, internal(r))
	}()
	next.ServeHTTP(w, r)
}

func (g *gateway) logExchange(r *http.Request, current *exchange, answer *response, took time.Duration, fault any) {
	level := slog.LevelInfo
	switch {
	case fault != nil || answer.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case isProbe(current.route):
		level = slog.LevelDebug
	}
	attributes := []slog.Attr{
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", current.route),
		slog.Int("status", answer.code()),
		slog.Duration("duration", took),
		slog.Int64("bytes_in", current.body.read.Load()),
		slog.Int64("bytes_out", answer.bytes),
		slog.String("request_id", rpc.RequestID(r.Context())),
	}
	if current.reason != "" {
		attributes = append(attributes, slog.String("reason", current.reason))
	}
	if aborted, ok := fault.(error); ok && errors.Is(aborted, http.ErrAbortHandler) {
		attributes = append(attributes, slog.Bool("aborted", true))
	} else if fault != nil {
		attributes = append(attributes, slog.String("panic", causeOf(fault)))
	}
	g.log.LogAttrs(r.Context(), level, "request", attributes...)
}

// causeOf is what may be logged of a panic: what Go says of itself. Any other value can quote what a caller sent.
func causeOf(fault any) string {
	if own, ok := fault.(runtime.Error); ok {
		return own.Error()
	}
	return fmt.Sprintf("%T", fault)
}

func isProbe(route string) bool {
	return route == healthPath || route == readyPath || route == metricsPath
}

// linger reads on a while after a body was refused, so that the client comes to read the answer.
func linger(w http.ResponseWriter, r *http.Request, current *exchange) {
	if current.body.finished() {
		return
	}
	_ = http.NewResponseController(w).Flush()
	if r.Header.Get("Expect") == "" || current.body.read.Load() > 0 { // else it waits to be told to send
		setReadDeadline(w, clock.System{}.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
	}
	if !current.body.finished() {
		setReadDeadline(w, past) // net/http would go on where we stop
	}
}

func setReadDeadline(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(at) // a recorder has none
}

// body counts what is read of a request's body, and knows whether it was read to its end.
type body struct {
	io.ReadCloser
	read  atomic.Int64
	ended atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}

func (b *body) finished() bool { return b.ended.Load() }

// response counts what is written, and knows the status.
type response struct {
	http.ResponseWriter
	request *body
	status  int
	bytes   int64
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
		if !w.request.finished() {
			w.Header().Set("Connection", "close") // what is left of the body must not be taken for the next request
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
