package main

import (
	"fmt"
	"log/slog"
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
	summary, err := loadDemo(a, session.Dial, session.Keys)
	if err == nil && !summary.New {
		_, _ = fmt.Fprintln(a.stderr, "demo: it is there already")
	}
	return err
}

// dialTier connects to a tier of a local platform.
type dialTier func(tier string, tokens rpc.TokenSource) (*grpc.ClientConn, error)

func loadDemo(a *app, dial dialTier, keys platform.Keys) (demo.Summary, error) {
	conns, done, err := demoConns(dial, keys)
	if err != nil {
		return demo.Summary{}, err
	}
	defer done()
	began := time.Now()
	summary, err := demo.Load(a.ctx, conns, demo.Options{Progress: demo.Progress(a.stderr), Now: began})
	if err != nil {
		return summary, fmt.Errorf("load the demo: %w", err)
	}
	if summary.New {
		_, _ = fmt.Fprintf(a.stderr, "demo: %d chapters in %d regions, %d members, %d entries on %d lists (%.1f s)\n",
			summary.Chapters, summary.Regions, summary.Members, summary.Entries, summary.Lists, time.Since(began).Seconds())
	}
	return summary, nil
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
