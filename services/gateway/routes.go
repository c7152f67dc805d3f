package gateway

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
)

// services are the services whose annotated methods are routes.
func services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		internationalv1.File_chapterhouse_international_v1_members_proto,
		internationalv1.File_chapterhouse_international_v1_organizations_proto,
		internationalv1.File_chapterhouse_international_v1_erasures_proto,
		internationalv1.File_chapterhouse_international_v1_member_links_proto,
		internationalv1.File_chapterhouse_international_v1_imports_proto,
		internationalv1.File_chapterhouse_international_v1_standings_proto,
		internationalv1.File_chapterhouse_international_v1_charters_proto,
		internationalv1.File_chapterhouse_international_v1_announcements_proto,
		internationalv1.File_chapterhouse_international_v1_concerns_proto,
		regionalv1.File_chapterhouse_regional_v1_regions_proto,
		regionalv1.File_chapterhouse_regional_v1_coordinators_proto,
		regionalv1.File_chapterhouse_regional_v1_transfers_proto,
		regionalv1.File_chapterhouse_regional_v1_concerns_proto,
		regionalv1.File_chapterhouse_regional_v1_digest_proto,
		regionalv1.File_chapterhouse_regional_v1_feeds_proto,
		regionalv1.File_chapterhouse_regional_v1_relays_proto,
		localv1.File_chapterhouse_local_v1_chapters_proto,
		localv1.File_chapterhouse_local_v1_lists_proto,
		localv1.File_chapterhouse_local_v1_syncs_proto,
		localv1.File_chapterhouse_local_v1_subscriptions_proto,
		localv1.File_chapterhouse_local_v1_connectors_proto,
		localv1.File_chapterhouse_local_v1_inbox_proto,
		localv1.File_chapterhouse_local_v1_officers_proto,
		localv1.File_chapterhouse_local_v1_concerns_proto,
	} {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
	}
	return all
}

// route is an RPC's HTTP rule, read from the descriptors: what the generated handlers know and do not tell.
type route struct {
	method  string // of HTTP
	pattern string
	rpc     protoreflect.FullName
	input   protoreflect.MessageType
	body    string // as in the HTTP rule: "", "*" or a field
	// query holds the parameters by their name, which is the field's JSON name.
	query map[string]protoreflect.FieldDescriptor
}

// routes knows all routes, and finds those that a path could have meant.
type routes struct {
	byPattern map[string]*route // "GET /v1/{name=chapters/*}"
	probe     *runtime.ServeMux
}

func newRoutes(services []protoreflect.ServiceDescriptor) (*routes, error) {
	found := &routes{byPattern: map[string]*route{}, probe: runtime.NewServeMux(
		runtime.WithDisablePathLengthFallback(),
		runtime.WithRoutingErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}),
	)}
	for _, service := range services {
		for i := range service.Methods().Len() {
			if err := found.addMethod(service.Methods().Get(i)); err != nil {
				return nil, err
			}
		}
	}
	for _, uploaded := range []string{syncsPath, importPath} {
		if err := found.addProbe(http.MethodPost, uploaded); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (t *routes) addMethod(method protoreflect.MethodDescriptor) error {
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil
	}
	for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		if err := t.add(method, binding); err != nil {
			return fmt.Errorf("%s: %w", method.FullName(), err)
		}
	}
	return nil
}

func (t *routes) add(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) error {
	input, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return err
	}
	verb, pattern := verbOf(rule)
	r := &route{method: verb, pattern: pattern, rpc: method.FullName(), input: input, body: rule.GetBody()}
	r.query = r.parameters()
	t.byPattern[verb+" "+pattern] = r
	return t.addProbe(verb, pattern)
}

func verbOf(rule *annotations.HttpRule) (method, pattern string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	}
	return "", ""
}

// parameters are the request's own fields that neither the path nor the body carries. A message of ours among them is
// set field by field: consent.text.
func (r *route) parameters() map[string]protoreflect.FieldDescriptor {
	parameters := map[string]protoreflect.FieldDescriptor{}
	if r.body == "*" {
		return parameters
	}
	fields := r.input.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := string(field.Name())
		if name == r.body || strings.Contains(r.pattern, "{"+name+"=") || strings.Contains(r.pattern, "{"+name+"}") {
			continue
		}
		if message := field.Message(); message == nil || !strings.HasPrefix(string(message.FullName()), "chapterhouse.") {
			parameters[field.JSONName()] = field
			continue
		}
		for j := range field.Message().Fields().Len() {
			inner := field.Message().Fields().Get(j)
			parameters[field.JSONName()+"."+inner.JSONName()] = inner
		}
	}
	return parameters
}

// find returns the route of a generated handler, nil for one of ours.
func (t *routes) find(method, pattern string) *route { return t.byPattern[method+" "+pattern] }

// methodsAt returns the HTTP methods that the path takes.
func (t *routes) methodsAt(r *http.Request) []string {
	var allowed []string
	for _, method := range slices.Sorted(maps.Keys(t.methods())) {
		attempt := r.Clone(r.Context())
		attempt.Method = method
		answer := &probed{}
		t.probe.ServeHTTP(answer, attempt)
		if answer.matched {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

func (t *routes) methods() map[string]bool {
	methods := map[string]bool{http.MethodPost: true}
	for _, r := range t.byPattern {
		methods[r.method] = true
	}
	return methods
}

func (t *routes) addProbe(method, pattern string) error {
	return t.probe.HandlePath(method, pattern, func(w http.ResponseWriter, _ *http.Request, params map[string]string) {
		if answer, ok := w.(*probed); ok && !impossible(params) {
			answer.matched = true
		}
	})
}

// impossible says whether a parameter of the path is no resource's name: an id is not empty, and holds no colon, behind
// which there is a verb that the pattern does not have.
func impossible(params map[string]string) bool {
	for _, value := range params {
		if strings.Contains(value, ":") || slices.Contains(strings.Split(value, "/"), "") {
			return true
		}
	}
	return false
}

// probed is a response writer that only records that a route was found.
type probed struct{ matched bool }

func (*probed) Header() http.Header         { return http.Header{} }
func (*probed) Write(p []byte) (int, error) { return len(p), nil }
func (*probed) WriteHeader(int)             {}
