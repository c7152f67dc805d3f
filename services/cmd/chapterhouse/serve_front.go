package main

import (
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

type serveGateway struct {
	logging `set:"log_level=info"`

	Listen               string `default:":8080" env:"CHAPTERHOUSE_LISTEN" help:"Where REST is."`
	InternationalAddress string `name:"international" required:"" env:"CHAPTERHOUSE_INTERNATIONAL" placeholder:"ADDRESS" help:"Where the international service is."`
	RegionalAddress      string `name:"regional" required:"" env:"CHAPTERHOUSE_REGIONAL" placeholder:"ADDRESS" help:"Where the regional service is."`
	LocalAddress         string `name:"local" required:"" env:"CHAPTERHOUSE_LOCAL" placeholder:"ADDRESS" help:"Where the local service is."`

	platform.Transport
	gateway.Config
}

// Run serves REST until the order to stop. It holds no token: it hands on those of its callers.
func (c *serveGateway) Run(a *app) error {
	tracing, stopTracing, err := startTracing(a.ctx, "chapterhouse-gateway")
	if err != nil {
		return err
	}
	defer stopTracing()
	c.Tracing = c.Tracing || tracing
	var conns [3]*grpc.ClientConn
	for i, address := range []string{c.InternationalAddress, c.RegionalAddress, c.LocalAddress} {
		if conns[i], err = c.Dial(address, nil, tracing); err != nil {
			return err
		}
	}
	log, registry := c.logger(a.stderr).With("service", "gateway"), newRegistry()
	handler, err := gateway.New(a.ctx, gateway.Deps{
		International: conns[0], Regional: conns[1], Local: conns[2], Log: log, Registerer: registry, Config: c.Config,
	})
	if err != nil {
		return err
	}
	lis, err := listen(a.ctx, c.Listen)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.stderr, "gateway: ready on %s\n", lis.Addr())
	return gateway.Serve(a.ctx, lis, handler, c.Config, log)
}

type serveNATS struct {
	logging `set:"log_level=info"`

	dataFlag

	Listen    string `default:":4222" env:"CHAPTERHOUSE_LISTEN" help:"Where clients connect."`
	UsersFile string `required:"" env:"CHAPTERHOUSE_NATS_USERS_FILE" placeholder:"FILE" help:"The users, as chapterhouse keys init writes them."`
}

// Run serves NATS until the order to stop.
func (c *serveNATS) Run(a *app) error {
	users, err := platform.ReadUsers(c.UsersFile)
	if err != nil {
		return err
	}
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usage("--listen: %v", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return usage("--listen: %v", err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	server, err := bus.StartServer(bus.ServerConfig{
		Dir: c.Data, Host: host, Port: int(port), Users: users, Log: c.logger(a.stderr),
	})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.stderr, "nats: ready on %s\n", server.ClientURL())
	<-a.ctx.Done()
	server.Shutdown()
	return nil
}
