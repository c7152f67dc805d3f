package authz

import (
	"maps"
	"slices"
)

// Permission is what a method's option names, for instance "charters.approve".
type Permission string

// Role is what a grant names.
type Role string

// The roles.
const (
	// InternationalStaff keep the register, review charters and set the policy. They see counts of lists, never entries.
	InternationalStaff Role = "international_staff"
	// Auditor reads what staff read and changes nothing.
	Auditor Role = "auditor"
	// Coordinator acts for a region and all below it.
	Coordinator Role = "coordinator"
	// ChapterAdmin keeps a chapter and its lists; the only one who sees the addresses on them.
	ChapterAdmin Role = "chapter_admin"
	// Member sees and keeps the own entry in the register.
	Member Role = "member"
	// OrganizationCoordinator gives away the seats of a corporate membership.
	OrganizationCoordinator Role = "organization_coordinator"
	// Site is a local service that calls another tier for its own chapters.
	Site Role = "site"
	// Service is the international or regional service that calls another tier.
	Service Role = "service"
)

// roleScopes says on which kind of scope a role is held.
var roleScopes = map[Role]string{
	InternationalStaff: Federation,
	Auditor:            Federation,
	Service:            Federation,
	Coordinator:        "regions",
	ChapterAdmin:       "chapters",
	Member:             "members",

	OrganizationCoordinator: "organizations",

	Site: "sites",
}

// rolePermissions is the whole of who may do what. A permission that no role holds is unknown, and a server that has
// a method asking for it does not start.
var rolePermissions = map[Role][]Permission{
	InternationalStaff: {
		"members.create", "members.read", "members.list", "members.update", "members.renew", "members.resign",
		"members.suspend", "members.merge", "members.erase", "members.import",
		"organizations.read", "organizations.list", "organizations.write", "seats.read", "seats.write",
		"erasures.read",
		"addresses.add", "addresses.read", "addresses.remove", "addresses.verify",
		"regions.create", "regions.update", "regions.arrange",
		"coordinators.read", "coordinators.write",
		"transfers.read",
		"chapters.create", "chapters.update", "chapters.transfer",
		"lists.read", "officers.read",
		"standings.read", "standings.audit",
		"charters.read", "charters.inspect", "charters.comment",
		"charters.review", "charters.approve", "charters.decline", "charters.override",
		"charters.suspend", "charters.revoke", "charters.renew", "charters.protect",
		"announcements.read", "announcements.write", "relays.read",
		"policy.read", "policy.update",
		"concerns.read", "concerns.decide", "cases.read",
		"bus.inspect",
	},
	Auditor: {
		"members.read", "members.list", "addresses.read",
		"organizations.read", "organizations.list", "seats.read", "erasures.read",
		"coordinators.read", "transfers.read",
		"lists.read", "officers.read",
		"standings.read", "standings.audit",
		"charters.read", "charters.inspect",
		"announcements.read", "relays.read",
		"policy.read",
		"concerns.read", "cases.read",
		"bus.inspect",
	},
	Coordinator: {
		"regions.update",
		"coordinators.read", "coordinators.write",
		"transfers.read",
		"chapters.create", "chapters.update", "chapters.transfer",
		"lists.read", "officers.read",
		"standings.read",
		"charters.read",
		"concerns.read", "cases.read", "cases.handle", "digests.snooze",
		"announcements.read", "announcements.publish", "relays.read", "relays.forward",
	},
	ChapterAdmin: {
		"chapters.update",
		"lists.read", "lists.create", "lists.update", "lists.delete",
		"entries.read", "entries.write",
		"syncs.read", "syncs.write",
		"connectors.read", "connectors.write",
		"inbox.read", "inbox.send",
		"officers.read", "officers.write",
		"standings.read",
		"charters.read", "charters.comment", "charters.apply", "charters.withdraw", "charters.surrender", "charters.renew",
		"concerns.read", "concerns.raise",
		"announcements.read",
	},
	Member: {
		"members.read",
		"addresses.add", "addresses.read", "addresses.remove",
		"concerns.raise",
	},
	OrganizationCoordinator: {
		"organizations.read", "seats.read", "seats.write",
	},
	Site: {
		"standings.preview",
	},
	Service: {
		"coordinators.read",
		"lists.read",
		"standings.read",
		"charters.read",
		"policy.read",
	},
}

// Roles lists all roles, in the order in which the documentation shows them.
func Roles() []Role {
	return []Role{InternationalStaff, Auditor, Coordinator, ChapterAdmin, Member, OrganizationCoordinator, Site, Service}
}

// ScopeKind returns on what a role is held: "federation", "regions", "chapters", "members",
// "organizations" or "sites";
// "" for an unknown role.
func (r Role) ScopeKind() string { return roleScopes[r] }

// Permissions lists what the role may do, sorted.
func (r Role) Permissions() []Permission { return slices.Sorted(slices.Values(rolePermissions[r])) }

func (r Role) holds(permission Permission) bool {
	return slices.Contains(rolePermissions[r], permission)
}

// holders lists the roles that hold a permission.
func holders(permission Permission) []Role {
	var roles []Role
	for _, role := range Roles() {
		if role.holds(permission) {
			roles = append(roles, role)
		}
	}
	return roles
}

// permissions lists everything that some role may do, sorted.
func permissions() []Permission {
	all := map[Permission]bool{}
	for _, held := range rolePermissions {
		for _, permission := range held {
			all[permission] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
