package main

import (
	"log/slog"
	"os"

	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// operator is where an operator's command finds the international service: on the local platform, running or not, or
// at an address of a deployment.
type operator struct {
	dataFlag

	International string `env:"CHAPTERHOUSE_INTERNATIONAL" placeholder:"ADDRESS" help:"The international service of a deployment, instead of a local platform."`
	TokenFile     string `env:"CHAPTERHOUSE_TOKEN_FILE" placeholder:"FILE" help:"Holds your bearer token there; without it the token is that in CHAPTERHOUSE_TOKEN."`
	platform.Transport
}

// connect returns a connection to the international service. On a local platform the operator holds the grants given;
// elsewhere the token says what one may do. The caller closes it.
func (o *operator) connect(a *app, grants ...authz.Grant) (*grpc.ClientConn, func(), error) {
	if o.International != "" {
		conn, err := o.Dial(o.International, o.tokens(), false)
		if err != nil {
			return nil, nil, err
		}
		return conn, func() { _ = conn.Close() }, nil
	}
	session, err := platform.Attach(a.ctx, platform.Options{
		Data: o.Data, Version: version, Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = session.Close() }
	signer, err := session.Keys.Signer()
	if err != nil {
		done()
		return nil, nil, err
	}
	conn, err := session.Dial(bus.International, rpc.MintedToken(signer, operatorPerson(grants...), clock.System{}))
	if err != nil {
		done()
		return nil, nil, err
	}
	return conn, func() { _ = conn.Close(); done() }, nil
}

// operatorPerson is whoever has the keys of a local platform.
func operatorPerson(grants ...authz.Grant) authz.Principal {
	return authz.Principal{Subject: "operator:" + os.Getenv("USER"), Grants: grants}
}

// tokens never come from a flag: every user of the machine can read those.
func (o *operator) tokens() rpc.TokenSource {
	if o.TokenFile != "" {
		return rpc.TokenFile(o.TokenFile)
	}
	return rpc.StaticToken(os.Getenv(envToken))
}

// staff is the grant that most of an operator's commands need.
var staff = authz.Grant{Role: authz.InternationalStaff, Scope: authz.Federation}
