package platform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// attachTimeout is how long a platform that is just starting may take to be ready.
const attachTimeout = 20 * time.Second

// Session is a local platform in the hands of an operator: the one that runs on the directory, or else one that is
// started for the occasion.
type Session struct {
	Endpoints Endpoints
	Keys      Keys

	started *Platform // nil when it runs elsewhere
}

// Attach finds or starts the platform in o.Data, which must have been started before. One that it starts has a gateway
// where o.HTTP says so.
func Attach(ctx context.Context, o Options) (*Session, error) {
	keys, err := KeysOf(o.Data)
	if err != nil {
		return nil, err
	}
	servers, err := keys.outside()
	if err != nil {
		return nil, err
	}
	o.Reset, o.MailSink, o.PostgresURL, o.NATSURL = false, false, servers.Postgres, servers.NATS
	started, err := Start(ctx, o)
	if err == nil {
		return &Session{Endpoints: started.Endpoints, Keys: keys, started: started}, nil
	}
	if !errors.Is(err, ErrLocked) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	endpoints, err := AwaitEndpoints(ctx, o.Data)
	return &Session{Endpoints: endpoints, Keys: keys}, err
}

// Dial connects to a tier.
func (s *Session) Dial(tier string, tokens rpc.TokenSource) (*grpc.ClientConn, error) {
	address, known := s.Endpoints.GRPC[tier]
	if !known {
		return nil, fmt.Errorf("the platform has no %s service", tier)
	}
	return rpc.Dial(address, tokens)
}

// Close stops what Attach has started.
func (s *Session) Close() error {
	if s.started == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	return s.started.Stop(ctx)
}
