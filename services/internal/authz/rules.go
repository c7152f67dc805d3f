package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authzv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/authz/v1"
)

// Rule is what a method's option says about who may call it. Exactly one of Permission, Authenticated and Public is set.
type Rule struct {
	// Method is "/package.Service/Method".
	Method        string
	Permission    Permission
	Authenticated bool
	Public        bool
	// ScopeField is the path of the request field that holds the scope; empty for the federation.
	ScopeField string

	path []protoreflect.FieldDescriptor
}

// Rules holds the rule of each method of a server.
type Rules struct{ byMethod map[string]Rule }

// NewRules reads the rule of each method. Its error names every method that has none, asks for a permission that
// nobody can hold there, or takes its scope from what is no string field of the request.
func NewRules(services ...protoreflect.ServiceDescriptor) (*Rules, error) {
	rules := &Rules{byMethod: map[string]Rule{}}
	var faults []error
	for _, service := range services {
		methods := service.Methods()
		for i := range methods.Len() {
			rule, err := ruleOf(methods.Get(i))
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", methods.Get(i).FullName(), err))
				continue
			}
			rules.byMethod[rule.Method] = rule
		}
	}
	return rules, errors.Join(faults...)
}

// ServicesOf returns the descriptors of the services that are registered with a server, without those of gRPC itself.
func ServicesOf(server *grpc.Server) ([]protoreflect.ServiceDescriptor, error) {
	var services []protoreflect.ServiceDescriptor
	for _, name := range slices.Sorted(maps.Keys(server.GetServiceInfo())) {
		if openToAll(name) {
			continue
		}
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("%s is no service", name)
		}
		services = append(services, service)
	}
	return services, nil
}

// Of returns the rule of "/package.Service/Method"; false for a method that the server does not have.
// Health and reflection, which are not ours to annotate, are public.
func (r *Rules) Of(method string) (Rule, bool) {
	if openToAll(strings.TrimPrefix(method, "/")) {
		return Rule{Method: method, Public: true}, true
	}
	rule, ok := r.byMethod[method]
	return rule, ok
}

func openToAll(service string) bool {
	return strings.HasPrefix(service, "grpc.health.") || strings.HasPrefix(service, "grpc.reflection.")
}

func ruleOf(method protoreflect.MethodDescriptor) (Rule, error) {
	rule := Rule{Method: fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())}
	option, _ := proto.GetExtension(method.Options(), authzv1.E_Rule).(*authzv1.Rule)
	switch access := option.GetAccess().(type) {
	case *authzv1.Rule_Permission:
		rule.Permission = Permission(access.Permission)
	case *authzv1.Rule_Authenticated:
		rule.Authenticated = access.Authenticated
	case *authzv1.Rule_Public:
		rule.Public = access.Public
	}
	if rule.Permission == "" && !rule.Authenticated && !rule.Public {
		return rule, errors.New("has no chapterhouse.authz.v1.rule: give it a permission, or say authenticated or public")
	}
	rule.ScopeField = option.GetScopeField()
	if rule.Permission == "" {
		if rule.ScopeField != "" {
			return rule, errors.New("has a scope_field without a permission: nothing would check it")
		}
		return rule, nil
	}
	return rule.resolve(method.Input())
}

// resolve finds the scope field in the request and checks that somebody can hold the permission there.
func (r Rule) resolve(request protoreflect.MessageDescriptor) (Rule, error) {
	roles := holders(r.Permission)
	if len(roles) == 0 {
		return r, fmt.Errorf("asks for the unknown permission %q: add it to a role in authz/permissions.go", r.Permission)
	}
	if r.ScopeField == "" {
		if !slices.ContainsFunc(roles, func(role Role) bool { return role.ScopeKind() == Federation }) {
			return r, fmt.Errorf("asks for %q on the federation, where no role holds it: give it a scope_field", r.Permission)
		}
		return r, nil
	}
	message := request
	for i, name := range strings.Split(r.ScopeField, ".") {
		if message == nil {
			return r, fmt.Errorf("scope_field %q: %s is no message", r.ScopeField, r.path[i-1].Name())
		}
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil || field.Cardinality() == protoreflect.Repeated {
			return r, fmt.Errorf("scope_field %q: %s has no single field %q", r.ScopeField, message.FullName(), name)
		}
		r.path = append(r.path, field)
		message = field.Message()
	}
	if last := r.path[len(r.path)-1]; last.Kind() != protoreflect.StringKind {
		return r, fmt.Errorf("scope_field %q: %s is no string", r.ScopeField, last.Name())
	}
	return r, nil
}

// Resource returns the content of the scope field; empty where a message on the way is absent.
func (r Rule) Resource(request proto.Message) string {
	if request == nil || len(r.path) == 0 {
		return ""
	}
	message := request.ProtoReflect()
	for _, field := range r.path[:len(r.path)-1] {
		message = message.Get(field).Message()
	}
	return message.Get(r.path[len(r.path)-1]).String()
}
