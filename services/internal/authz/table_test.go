package authz

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/permissions.md anew")

// TestPermissionTable walks all methods of the platform: each says who may call it, and the documentation says the same.
func TestPermissionTable(t *testing.T) {
	t.Parallel()
	page, err := PermissionTable(platformServices()...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "..", "docs", "permissions.md")
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != page {
		t.Error("docs/permissions.md is not current: go test ./internal/authz -run PermissionTable -update")
	}
}

// TestOnlyChapterAdminsSeeEntries keeps the promise that no address leaves its chapter: whatever a role is given later.
func TestOnlyChapterAdminsSeeEntries(t *testing.T) {
	t.Parallel()
	for _, role := range Roles() {
		for _, permission := range role.Permissions() {
			private := strings.HasPrefix(string(permission), "entries.") || strings.HasPrefix(string(permission), "syncs.")
			if private && role != ChapterAdmin {
				t.Errorf("%s holds %s", role, permission)
			}
		}
	}
}

func TestEveryRoleIsComplete(t *testing.T) {
	t.Parallel()
	if len(Roles()) != len(roleScopes) || len(Roles()) != len(rolePermissions) {
		t.Errorf("%d roles, %d scopes, %d lists of permissions", len(Roles()), len(roleScopes), len(rolePermissions))
	}
	for _, role := range Roles() {
		if role.ScopeKind() == "" || len(role.Permissions()) == 0 {
			t.Errorf("%s has no scope or no permissions", role)
		}
	}
}
