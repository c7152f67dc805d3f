package authz

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// PermissionTable writes docs/permissions.md: which roles may call each method of the services, and which permissions
// each role holds.
func PermissionTable(services ...protoreflect.ServiceDescriptor) (string, error) {
	rules, err := NewRules(services...)
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString(`# Who may do what

This page is written from the methods' options and the role table by
` + "`go test ./internal/authz -run PermissionTable -update`" + `; that test keeps it current.

Roles are held on a scope: international_staff, auditor and service on the federation, coordinator on a region and all
below it, chapter_admin on a chapter, member on oneself, site on one local deployment. A method asks for one permission
on the scope that its field names; without a field, on the federation.
`)
	writeRoles(&page)
	for _, service := range services {
		fmt.Fprintf(&page, "\n## %s\n\n| method | permission | scope | roles |\n|---|---|---|---|\n", service.FullName())
		methods := service.Methods()
		for i := range methods.Len() {
			name := methods.Get(i).Name()
			rule, _ := rules.Of(fmt.Sprintf("/%s/%s", service.FullName(), name))
			fmt.Fprintf(&page, "| %s | %s |\n", name, rule.row())
		}
	}
	return page.String(), nil
}

func writeRoles(page *strings.Builder) {
	page.WriteString("\n## Permissions of each role\n\n| permission |")
	for _, role := range Roles() {
		fmt.Fprintf(page, " %s |", role)
	}
	page.WriteString("\n|---|" + strings.Repeat(":-:|", len(Roles())) + "\n")
	for _, permission := range permissions() {
		fmt.Fprintf(page, "| %s |", permission)
		for _, role := range Roles() {
			mark := " "
			if role.holds(permission) {
				mark = " x "
			}
			page.WriteString(mark + "|")
		}
		page.WriteString("\n")
	}
}

func (r Rule) row() string {
	switch {
	case r.Public:
		return "public | | everybody"
	case r.Authenticated:
		return "authenticated | | everybody who is signed in"
	case r.ScopeField == "":
		return fmt.Sprintf("%s | federation | %s", r.Permission, r.roleNames())
	}
	return fmt.Sprintf("%s | `%s` | %s", r.Permission, r.ScopeField, r.roleNames())
}

// roleNames lists the roles that can call the method: on the federation only those that are held there.
func (r Rule) roleNames() string {
	var names []string
	for _, role := range holders(r.Permission) {
		if r.ScopeField != "" || role.ScopeKind() == Federation {
			names = append(names, string(role))
		}
	}
	return strings.Join(names, ", ")
}
