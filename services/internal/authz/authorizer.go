package authz

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Hierarchy knows what a scope lies in.
type Hierarchy interface {
	// Ancestors returns the regions above a region or chapter, in any order, up to regions/world; for a chapter also
	// its site, where the service knows it. A scope that does not exist has none: nil, ErrUnknownScope and "no rows"
	// all say so. Any other error means that the answer is not to be had now.
	Ancestors(ctx context.Context, scope string) ([]string, error)
}

// ErrUnknownScope is what a Hierarchy may answer for a scope that does not exist.
var ErrUnknownScope = errors.New("unknown scope")

// Flat is the hierarchy of a service that keeps no regions: nothing lies in anything.
type Flat struct{}

// Ancestors returns none.
func (Flat) Ancestors(context.Context, string) ([]string, error) { return nil, nil }

// Authorizer answers whether a principal holds a permission on a scope.
type Authorizer struct{ hierarchy Hierarchy }

// NewAuthorizer returns an Authorizer; a nil hierarchy is Flat.
func NewAuthorizer(hierarchy Hierarchy) *Authorizer {
	if hierarchy == nil {
		hierarchy = Flat{}
	}
	return &Authorizer{hierarchy: hierarchy}
}

// Allowed says whether p holds the permission on the scope of a resource: a grant on the federation covers everything,
// any other grant its own scope and what lies in it. What is no resource name, the empty string too, is covered by the
// federation alone. An error means that the hierarchy could not be asked.
func (a *Authorizer) Allowed(ctx context.Context, p Principal, permission Permission, resource string) (bool, error) {
	granted := p.Scopes(permission)
	if slices.Contains(granted, Federation) {
		return true, nil
	}
	scope, ok := ScopeOf(resource)
	if !ok || len(granted) == 0 {
		return false, nil
	}
	if slices.Contains(granted, scope) || inWorld(scope) && slices.Contains(granted, World) {
		return true, nil
	}
	if !slices.ContainsFunc(granted, coversOthers) {
		return false, nil
	}
	ancestors, err := a.ancestors(ctx, scope)
	if err != nil {
		return false, fmt.Errorf("look up what %s lies in: %w", scope, err)
	}
	return slices.ContainsFunc(ancestors, func(above string) bool { return slices.Contains(granted, above) }), nil
}

func (a *Authorizer) ancestors(ctx context.Context, scope string) ([]string, error) {
	ancestors, err := a.hierarchy.Ancestors(ctx, scope)
	if errors.Is(err, ErrUnknownScope) || errors.Is(err, sql.ErrNoRows) || status.Code(err) == codes.NotFound {
		return nil, nil
	}
	return ancestors, err
}

func inWorld(scope string) bool {
	return strings.HasPrefix(scope, "regions/") || strings.HasPrefix(scope, "chapters/")
}

func coversOthers(scope string) bool {
	return strings.HasPrefix(scope, "regions/") || strings.HasPrefix(scope, "sites/")
}

type authorizerKey struct{}

// WithAuthorizer returns a context in which Can works.
func WithAuthorizer(ctx context.Context, a *Authorizer) context.Context {
	return context.WithValue(ctx, authorizerKey{}, a)
}

// Can answers, inside a handler, whether the caller also holds another permission on a resource ("" for the federation):
// for what depends on more than the method, such as who may say that an address is verified.
func Can(ctx context.Context, permission Permission, resource string) (bool, error) {
	a, ok := ctx.Value(authorizerKey{}).(*Authorizer)
	if !ok {
		a = NewAuthorizer(nil)
	}
	return a.Allowed(ctx, FromContext(ctx), permission, resource)
}
