package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/demo"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

// stopTimeout is how long a stop may take in all before PostgreSQL is cut short.
const stopTimeout = 9 * time.Second

type upCommand struct {
	dataFlag
	logging `set:"log_level=warn"`

	HTTP        string `name:"http" default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Where REST, docs and console are."`
	Demo        bool   `help:"Load the demo federation, once."`
	Reset       bool   `help:"Delete all data first."`
	PostgresURL string `name:"postgres-url" env:"CHAPTERHOUSE_POSTGRES_URL" placeholder:"URL" help:"An administrator's, of a server to use instead of an own one."`
	NATSURL     string `name:"nats-url" env:"CHAPTERHOUSE_NATS_URL" placeholder:"URL" help:"Of a server to use instead of an own one."`

	International international.Config `embed:"" prefix:"international-" group:"International service"`
	Regional      regional.Config      `embed:"" prefix:"regional-" group:"Regional service"`
	Local         local.Config         `embed:"" prefix:"local-" group:"Local service"`
	Gateway       gateway.Config       `embed:"" prefix:"gateway-" group:"Gateway"`
}

// Run starts everything, says where it is, and waits for the order to stop.
func (c *upCommand) Run(a *app) error {
	tracing, stopTracing, err := startTracing(a.ctx, "chapterhouse")
	if err != nil {
		return err
	}
	defer stopTracing()
	began := time.Now()
	running, err := platform.Start(a.ctx, c.options(a.stderr, tracing))
	if err != nil {
		return err
	}
	if err := c.welcome(a, running, began); err != nil {
		return stop(a.stderr, running, err)
	}
	select {
	case <-a.ctx.Done():
	case <-running.Done():
	}
	return stop(a.stderr, running, nil)
}

func (c *upCommand) options(stderr io.Writer, tracing bool) platform.Options {
	c.Gateway.Tracing = tracing
	return platform.Options{
		Data: c.Data, HTTP: c.HTTP, PostgresURL: c.PostgresURL, NATSURL: c.NATSURL, Reset: c.Reset, MailSink: true,
		International: c.International, Regional: c.Regional, Local: c.Local, Gateway: c.Gateway,
		Version: version, Log: c.logger(stderr), Tracing: tracing,
		Progress: func(what string) { _, _ = fmt.Fprintf(stderr, "%s ...\n", what) },
	}
}

// welcome loads the demo where it is wanted, and prints all that one needs to begin.
func (c *upCommand) welcome(a *app, running *platform.Platform, began time.Time) error {
	took := time.Since(began)
	var summary *demo.Summary
	if c.Demo {
		loaded, err := loadDemo(a, running.Dial, running.Keys)
		if err != nil {
			return err
		}
		summary = &loaded
	}
	if err := printEndpoints(a.stdout, running.Endpoints, took); err != nil {
		return err
	}
	if err := printTokens(a.stdout, running, summary); err != nil || summary == nil {
		return err
	}
	return printStory(a, running, summary)
}

func printEndpoints(w io.Writer, e platform.Endpoints, took time.Duration) error {
	_, err := fmt.Fprintf(w, `Chapterhouse is up (%.1f s).

  REST           %s/v1
  Docs           %s
  gRPC           international %s
                 regional      %s
                 local         %s
  NATS           %s
%s
`, took.Seconds(), e.REST, e.Docs, e.GRPC[bus.International], e.GRPC[bus.Regional], e.GRPC[bus.Local], e.NATS, mailLine(e))
	return err
}

// mailLine says where mail is looked at; nothing when it is sent.
func mailLine(e platform.Endpoints) string {
	if e.Mail == "" {
		return ""
	}
	return fmt.Sprintf("  Mail           %s   (what would have been sent)\n", e.Mail)
}

// stop ends the platform within its time. An error from before goes first.
func stop(stderr io.Writer, running *platform.Platform, err error) error {
	_, _ = fmt.Fprintln(stderr, "stopping ... (again to stop at once)")
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if stopErr := running.Stop(ctx); err == nil {
		err = stopErr
	}
	return err
}
