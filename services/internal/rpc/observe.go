package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recoverPanic keeps a fault in one call from ending the calls of everybody else.
func recoverPanic(ctx context.Context, _ *call, next func(context.Context) error) (err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = asError(ctx, fmt.Errorf("panic: %v\n%s", thrown, debug.Stack()))
		}
	}()
	return next(ctx)
}

// stopwatch measures by the monotonic clock, which a clock.Clock leaves out.
func stopwatch() func() time.Duration {
	start := time.Now() //nolint:forbidigo // a duration is measured, not told
	return func() time.Duration { return time.Since(start) }
}

type meter struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// newMeter registers the metrics. Servers that share a process and a registry share them too: the method says which is meant.
func newMeter(registerer prometheus.Registerer) (*meter, error) {
	m := &meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chapterhouse_rpc_requests_total",
			Help: "Calls answered, by method and gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "chapterhouse_rpc_duration_seconds",
			Help:    "Time from a call's arrival to its answer, by method.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method"}),
	}
	if registerer == nil {
		return m, nil
	}
	var err error
	if m.requests, err = registered(registerer, m.requests); err != nil {
		return nil, err
	}
	m.duration, err = registered(registerer, m.duration)
	return m, err
}

func registered[C prometheus.Collector](registerer prometheus.Registerer, collector C) (C, error) {
	err := registerer.Register(collector)
	if taken, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := taken.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return collector, err
}

func (m *meter) measure(ctx context.Context, c *call, next func(context.Context) error) error {
	elapsed := stopwatch()
	err := next(ctx)
	method := strings.TrimPrefix(c.method, "/")
	if !c.known { // whatever a caller makes up must not become a time series
		method = "unknown"
	}
	m.requests.WithLabelValues(method, status.Code(err).String()).Inc()
	m.duration.WithLabelValues(method).Observe(elapsed().Seconds())
	return err
}

// accessLog writes one line a call. No payload goes into it, and no message of an error, which may quote the payload.
type accessLog struct{ log *slog.Logger }

func (a accessLog) write(ctx context.Context, c *call, next func(context.Context) error) error {
	elapsed := stopwatch()
	err := next(ctx)
	attributes := []slog.Attr{
		slog.String("method", strings.TrimPrefix(c.method, "/")),
		slog.String("code", status.Code(err).String()),
		slog.Duration("duration", elapsed()),
		slog.String("subject", redact(c.principal.Subject)),
		slog.String("request_id", c.requestID),
	}
	level := slog.LevelInfo
	if strings.HasPrefix(c.method, "/grpc.") {
		level = slog.LevelDebug
	}
	if known, ok := errors.AsType[*Error](err); ok {
		attributes = append(attributes, slog.String("reason", reasonName(known.reason)))
		if known.cause != nil {
			attributes = append(attributes, slog.String("cause", redact(known.cause.Error())))
		}
		level = max(level, severity(known.code))
	}
	a.log.LogAttrs(ctx, level, "call", attributes...)
	return err
}

// severity is at least what a code is logged with: a fault of ours is an error, a part that is down a warning.
func severity(code codes.Code) slog.Level {
	switch code {
	case codes.Internal, codes.Unknown:
		return slog.LevelError
	case codes.Unavailable:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

const maxLogText = 16 << 10

var (
	mailbox  = regexp.MustCompile(`[^\s"'<>(),;:=/@]+@[^\s"'<>(),;:=/@]+`)
	webToken = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)
	goModule = regexp.MustCompile(`@v[0-9]`) // a stack trace is full of them
)

// redact takes addresses and tokens out of text that is not ours: the causes of faults can quote values.
func redact(text string) string {
	if len(text) > maxLogText {
		text = text[:maxLogText] + "..."
	}
	text = mailbox.ReplaceAllStringFunc(text, func(found string) string {
		if goModule.MatchString(found) {
			return found
		}
		return "[address]"
	})
	return webToken.ReplaceAllString(text, "[token]")
}
