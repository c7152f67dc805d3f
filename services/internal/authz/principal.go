// Package authz decides who may call what. Each RPC's option names one permission and the request field that holds
// the scope; roles are held on a scope and map to permissions in one table; tokens carry the roles.
package authz

import (
	"context"
	"slices"
)

// Principal is who calls. The zero value is somebody who is not signed in.
type Principal struct {
	// Subject is the person or service, as the token issuer names it.
	Subject string
	Grants  []Grant
}

// Grant is a role held on a scope: "federation", "regions/x", "chapters/x", "members/x",
// "organizations/x" or "sites/x".
type Grant struct {
	Role  Role   `json:"role"`
	Scope string `json:"scope"`
}

// SignedIn says whether the caller showed a valid token.
func (p Principal) SignedIn() bool { return p.Subject != "" }

// Scopes lists where the principal holds a permission, sorted and without repetition. What lies below a region is not
// spelled out. It is what a handler filters by when its method asks for no more than a token.
func (p Principal) Scopes(permission Permission) []string {
	var scopes []string
	for _, grant := range p.Grants {
		scope, ok := grant.scope()
		if ok && grant.Role.holds(permission) {
			scopes = append(scopes, scope)
		}
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// scope returns the grant's scope in its one spelling, or false when the role cannot be held there.
// A grant that makes no sense grants nothing: a token may come from an issuer that knows newer roles.
func (g Grant) scope() (string, bool) {
	scope := g.Scope
	if scope == "" || scope == "*" {
		scope = Federation
	}
	kind, known := roleScopes[g.Role]
	return scope, known && scopeKind(scope) == kind
}

type principalKey struct{}

// NewContext returns a context that carries the caller.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the caller, the zero Principal when nobody is signed in.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
