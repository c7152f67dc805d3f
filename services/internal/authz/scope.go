package authz

import (
	"regexp"
	"strings"
)

const (
	// Federation is the scope of what belongs to no region, chapter, member or site. It covers all others.
	Federation = "federation"
	// World is the root of the regions; it covers all regions and chapters.
	World = "regions/world"
)

var resourceID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ScopeOf returns the scope that a resource lies in: its first collection and id, a charter's being its chapter's.
// It returns false for what is no resource name.
func ScopeOf(resource string) (string, bool) {
	collection, rest, _ := strings.Cut(resource, "/")
	id, _, _ := strings.Cut(rest, "/")
	if !resourceID.MatchString(id) {
		return "", false
	}
	switch collection {
	case "charters":
		return "chapters/" + id, true
	case "regions", "chapters", "members", "organizations", "sites":
		return collection + "/" + id, true
	}
	return "", false
}

// scopeKind returns "federation", "regions", "chapters", "members", "organizations" or "sites"; "" for what is no scope.
func scopeKind(scope string) string {
	if scope == Federation {
		return Federation
	}
	if whole, ok := ScopeOf(scope); !ok || whole != scope {
		return ""
	}
	kind, _, _ := strings.Cut(scope, "/")
	return kind
}
