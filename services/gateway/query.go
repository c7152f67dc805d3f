package gateway

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// checkQuery refuses parameters that the route does not have, and values that it cannot read, and names all of them.
func (r *route) checkQuery(query url.Values) error {
	var problems complaints
	for _, name := range slices.Sorted(maps.Keys(query)) {
		problems.add(name, r.complaint(name, query[name]))
	}
	return problems.refusal()
}

// complaint says what is wrong with a parameter; empty when nothing is.
func (r *route) complaint(name string, values []string) string {
	field := r.query[name]
	if field == nil {
		return unknownParameter(slices.Sorted(maps.Keys(r.query)))
	}
	if len(values) > 1 && !field.IsList() {
		return "is given more than once"
	}
	// Read by what reads it in the end, so that both are of one mind.
	err := runtime.PopulateQueryParameters(r.input.New().Interface(), url.Values{name: values}, utilities.NewDoubleArray(nil))
	if err != nil {
		return "must be " + kindOf(field)
	}
	return ""
}

func unknownParameter(known []string) string {
	if len(known) == 0 {
		return "is not a parameter of this path, which takes none"
	}
	return "is not a parameter of this path, which takes " + strings.Join(known, ", ")
}

func kindOf(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return "one of " + strings.Join(valuesOf(field.Enum()), ", ")
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "a number"
	case protoreflect.MessageKind:
		return "a " + string(field.Message().Name())
	case protoreflect.StringKind, protoreflect.BytesKind:
		return "text"
	default:
		return "a whole number"
	}
}

// valuesOf lists an enum's values that mean something.
func valuesOf(enum protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range enum.Values().Len() {
		if value := enum.Values().Get(i); value.Number() != 0 {
			names = append(names, string(value.Name()))
		}
	}
	return names
}

// parameterName is what a parameter's name looks like; anything else could be somebody's address and is not repeated.
var parameterName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// complaints are what is wrong with the parameters of one query.
type complaints struct {
	first *rpc.Error
}

func (c *complaints) add(name, description string) {
	if description == "" {
		return
	}
	if !parameterName.MatchString(name) {
		name = "query"
	}
	if c.first == nil {
		c.first = rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, name, "%s", description)
		return
	}
	c.first = c.first.Field(name, description)
}

func (c *complaints) refusal() error {
	if c.first == nil {
		return nil
	}
	return c.first
}

func fieldName(name string) protoreflect.Name { return protoreflect.Name(name) }

// protoPath writes a path of a field mask in the proto's names. A path that leads nowhere stays as it is: the
// service says which ones there are.
func protoPath(resource proto.Message, path string) string {
	message := resource.ProtoReflect().Descriptor()
	segments := strings.Split(path, ".")
	for i, segment := range segments {
		if message == nil {
			return path
		}
		field := message.Fields().ByJSONName(segment)
		if field == nil {
			return path
		}
		segments[i], message = string(field.Name()), field.Message()
	}
	return strings.Join(segments, ".")
}
