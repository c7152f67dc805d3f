package rpc

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// TokenSource returns the bearer token for a call; "" sends none. It is safe for concurrent use.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken always returns the same token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile reads the token from a file at every call, so that it can be replaced while the service runs.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// mintedTTL is the lifetime of tokens that a service mints for itself.
const mintedTTL = 10 * time.Minute

// MintedToken mints tokens for a service that holds the signing key, a new one when half of the last one's life is over.
func MintedToken(signer *authz.Signer, p authz.Principal, c clock.Clock) TokenSource {
	var (
		mu     sync.Mutex
		token  string
		minted time.Time
	)
	return func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		now := c.Now()
		if age := now.Sub(minted); token != "" && age >= 0 && age < mintedTTL/2 {
			return token, nil
		}
		fresh, err := authz.Mint(signer, p, mintedTTL, now)
		if err != nil {
			return "", err
		}
		token, minted = fresh, now
		return token, nil
	}
}

// tokenCredentials adds the token to each call. Dial decides whether the transport is safe enough.
type tokenCredentials struct{ tokens TokenSource }

func (t tokenCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get("authorization")) > 0 {
		return nil, nil
	}
	token, err := t.tokens(ctx)
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (tokenCredentials) RequireTransportSecurity() bool { return false }
