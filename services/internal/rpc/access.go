package rpc

import (
	"context"
	"errors"
	"regexp"

	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// gate holds who may pass: authenticate runs before any message is looked at, authorise on the first, and validation
// comes last, so that a caller without permission learns nothing about what a request should look like.
type gate struct {
	verifier   authz.Verifier
	authorizer *authz.Authorizer
	validator  *validator
}

// authenticate finds out who calls. On a public method a bad token counts as none.
func (g *gate) authenticate(ctx context.Context, c *call, next func(context.Context) error) error {
	if !c.known {
		return Unimplemented(errorv1.Reason_REASON_UNKNOWN_ROUTE, "no such method")
	}
	principal, err := g.principal(ctx)
	if err != nil && !c.rule.Public {
		return err
	}
	c.principal = principal
	ctx = authz.WithAuthorizer(authz.NewContext(ctx, principal), g.authorizer)
	return next(ctx)
}

func (g *gate) principal(ctx context.Context) (authz.Principal, error) {
	token, ok := bearer(ctx)
	if !ok {
		return authz.Principal{}, Unauthenticated(errorv1.Reason_REASON_UNAUTHENTICATED, "sign in: the call carries no bearer token")
	}
	principal, err := g.verifier.Verify(ctx, token)
	if errors.Is(err, authz.ErrInvalidToken) {
		return authz.Principal{}, Unauthenticated(errorv1.Reason_REASON_UNAUTHENTICATED,
			"sign in again: the token is not valid, or not any more").Because(err)
	}
	if err != nil && ctx.Err() == nil {
		return authz.Principal{}, Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "the token cannot be checked now; try again").Because(err)
	}
	return principal, err
}

var bearerPattern = regexp.MustCompile(`^(?i:bearer) +(\S+)$`)

// bearer returns the token of "authorization: Bearer <token>". Two such headers could mean two callers, so they count as none.
func bearer(ctx context.Context) (string, bool) {
	parts := bearerPattern.FindStringSubmatch(single(ctx, "authorization"))
	if parts == nil {
		return "", false
	}
	return parts[1], true
}

// authorise checks the method's permission on the resource that the request names.
func (g *gate) authorise(ctx context.Context, c *call, request proto.Message) error {
	if c.rule.Permission == "" {
		return nil
	}
	resource := c.rule.Resource(request)
	allowed, err := g.authorizer.Allowed(ctx, c.principal, c.rule.Permission, resource)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		return Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE, "the permission cannot be checked now; try again").Because(err)
	}
	if allowed {
		return nil
	}
	if err := g.misnamed(c, request, resource); err != nil {
		return err
	}
	on := resource
	if on == "" {
		on = authz.Federation
	}
	return Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "this needs the permission %s on %s", c.rule.Permission, on).
		With("permission", c.rule.Permission).With("scope", on)
}

// misnamed tells a caller who holds the permission somewhere that the resource's name is malformed or missing;
// "permission denied" would send them looking for the wrong mistake.
func (g *gate) misnamed(c *call, request proto.Message, resource string) error {
	_, wellFormed := authz.ScopeOf(resource)
	if wellFormed || c.rule.ScopeField == "" || len(c.principal.Scopes(c.rule.Permission)) == 0 {
		return nil
	}
	return g.validator.check(request)
}

func (g *gate) validate(_ context.Context, _ *call, request proto.Message) error {
	return g.validator.check(request)
}
