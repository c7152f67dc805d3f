package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// acceptedAlgorithms are those that an outside issuer may sign with; never a symmetric one, never "none".
var acceptedAlgorithms = []string{oidc.EdDSA, oidc.ES256, oidc.PS256, oidc.RS256}

// OIDCVerifier checks tokens of an OpenID Connect issuer, which puts the roles into the claim "grants" in the
// same form as the platform's own tokens.
type OIDCVerifier struct{ tokens *oidc.IDTokenVerifier }

// NewOIDCVerifier asks the issuer for its configuration, so the issuer must be reachable. Its keys are fetched when
// needed and kept.
func NewOIDCVerifier(ctx context.Context, issuer, audience string, c clock.Clock) (*OIDCVerifier, error) {
	if audience == "" {
		return nil, errors.New("OIDC verifier: no audience")
	}
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("OIDC issuer %s: %w", issuer, err)
	}
	var about struct {
		KeysURL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&about); err != nil {
		return nil, fmt.Errorf("OIDC issuer %s: %w", issuer, err)
	}
	keys := issuerKeys{oidc.NewRemoteKeySet(ctx, about.KeysURL)}
	config := &oidc.Config{ClientID: audience, SupportedSigningAlgs: slices.Clone(acceptedAlgorithms), Now: c.Now}
	return &OIDCVerifier{oidc.NewVerifier(issuer, keys, config)}, nil
}

// Verify checks signature, issuer, audience and times.
func (v *OIDCVerifier) Verify(ctx context.Context, token string) (Principal, error) {
	if len(token) > maxTokenBytes {
		return Principal{}, fmt.Errorf("%w: too long", ErrInvalidToken)
	}
	var unreachable error
	verified, err := v.tokens.Verify(context.WithValue(ctx, unreachableKey{}, &unreachable), token)
	if unreachable != nil {
		return Principal{}, fmt.Errorf("keys of the token issuer: %w", unreachable)
	}
	if _, expired := errors.AsType[*oidc.TokenExpiredError](err); expired {
		return Principal{}, fmt.Errorf("%w: expired", ErrInvalidToken)
	}
	if err != nil {
		return Principal{}, fmt.Errorf("%w: the OIDC issuer's signature, audience or times do not hold", ErrInvalidToken)
	}
	var c claims
	if verified.Claims(&c) != nil {
		return Principal{}, fmt.Errorf("%w: unreadable claims", ErrInvalidToken)
	}
	if verified.Subject == "" {
		return Principal{}, fmt.Errorf("%w: no subject", ErrInvalidToken)
	}
	return Principal{Subject: verified.Subject, Grants: c.Grants}, nil
}

type unreachableKey struct{}

// issuerKeys notes in the context when the keys could not be fetched: go-oidc flattens that into the same error
// as a forged signature, but the one is our trouble and the other the caller's.
type issuerKeys struct{ remote *oidc.RemoteKeySet }

func (k issuerKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, token)
	if err != nil && errors.Unwrap(err) != nil { // only "fetching keys" wraps a cause
		if unreachable, ok := ctx.Value(unreachableKey{}).(*error); ok {
			*unreachable = err
		}
	}
	return payload, err
}
