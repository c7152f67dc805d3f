package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

const maxHeaderBytes = 64 << 10

// stopKey finds the context that ends with the order to stop; a request's own goes on until the drain timeout.
type stopKey struct{}

var errStopping = errors.New("the gateway is stopping")

// untilStop ends with the order to stop: nobody should have to wait for one who waits for a change.
func untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	order, ok := ctx.Value(stopKey{}).(context.Context)
	if !ok {
		return ctx, func() { cancel(nil) }
	}
	forget := context.AfterFunc(order, func() { cancel(errStopping) })
	return ctx, func() {
		forget()
		cancel(nil)
	}
}

// Serve answers requests on lis until ctx ends, then lets running ones finish for at most the drain timeout. When it
// returns, no handler runs any more.
func Serve(ctx context.Context, lis net.Listener, handler http.Handler, cfg Config, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	running, cut := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), stopKey{}, ctx))
	defer cut()
	var handlers sync.WaitGroup
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return running },
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		IdleTimeout:       cfg.KeepAliveTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	if log != nil {
		server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	draining, stop := context.WithTimeout(running, cfg.DrainTimeout)
	defer stop()
	if server.Shutdown(draining) != nil {
		cut()
		_ = server.Close() // the listener is closed already
	}
	handlers.Wait()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", lis.Addr(), err)
	}
	return nil
}
