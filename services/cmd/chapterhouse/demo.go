package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/demo"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

type demoCommand struct {
	Load demoLoadCommand `cmd:"" help:"Fill a local platform, running or not, with the demo federation."`
}

type demoLoadCommand struct{ dataFlag }

// Run loads the demo.
func (c *demoLoadCommand) Run(a *app) error {
	session, err := platform.Attach(a.ctx, platform.Options{
		Data: c.Data, Version: version, Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	return loadDemo(a, session.Dial, session.Keys)
}

// dialTier connects to a tier of a local platform.
type dialTier func(tier string, tokens rpc.TokenSource) (*grpc.ClientConn, error)

func loadDemo(a *app, dial dialTier, keys platform.Keys) error {
	conns, done, err := demoConns(dial, keys)
	if err != nil {
		return err
	}
	defer done()
	return demo.Load(a.ctx, conns, progressBar(a.stderr, "loading the demo"))
}

// demoTTL outlasts the loading on a slow machine.
const demoTTL = time.Hour

func demoConns(dial dialTier, keys platform.Keys) (conns demo.Conns, done func(), err error) {
	var opened []*grpc.ClientConn
	done = func() {
		for _, conn := range opened {
			_ = conn.Close()
		}
	}
	for _, tier := range []struct {
		name string
		conn *grpc.ClientConnInterface
	}{{bus.International, &conns.International}, {bus.Regional, &conns.Regional}, {bus.Local, &conns.Local}} {
		conn, err := dial(tier.name, nil)
		if err != nil {
			done()
			return conns, nil, err
		}
		opened = append(opened, conn)
		*tier.conn = conn
	}
	conns.Mint = func(role authz.Role, scope string) (string, error) {
		return keys.Mint(platform.Person(role, scope, ""), demoTTL, clock.System{}.Now())
	}
	return conns, done, nil
}

const barWidth = 40

// progressBar shows how much is done: as a bar on a terminal, elsewhere as one line at the beginning and the end.
func progressBar(w io.Writer, what string) func(done, total int) {
	if !isTerminal(w) {
		said := false
		return func(done, total int) {
			if !said || done == total {
				_, _ = fmt.Fprintf(w, "%s: %d of %d\n", what, done, total)
			}
			said = true
		}
	}
	return func(done, total int) {
		filled := barWidth * done / max(total, 1)
		_, _ = fmt.Fprintf(w, "\r%s [%s%s] %d of %d", what, strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done, total)
		if done == total {
			_, _ = fmt.Fprintln(w)
		}
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
