package rpc

import (
	"slices"
	"strings"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// Merge lays the fields of given that the mask names over the stored resource, as AIP-134 has it: without a mask all
// fields that are filled; with a path into a message, that part of it. It refuses fields that are not among the changeable ones (in snake_case), and checks those that
// were laid over by the rules of the proto. field is the request field that holds the resource.
func Merge(stored, given proto.Message, mask *fieldmaskpb.FieldMask, field string, changeable ...string) error {
	from, to := given.ProtoReflect(), stored.ProtoReflect()
	descriptors := to.Descriptor().Fields()
	paths := mask.GetPaths()
	if len(paths) == 0 {
		for _, name := range changeable {
			if descriptor := descriptors.ByName(protoreflect.Name(name)); from.Has(descriptor) {
				paths = append(paths, name)
			}
		}
	}
	var changed []string
	for _, path := range paths {
		name, _, _ := strings.Cut(path, ".")
		if !slices.Contains(changeable, name) || !lay(to, from, path) {
			return Invalid(errorv1.Reason_REASON_INVALID_FIELD, "updateMask", "%q cannot be changed here; %s can", path, jsonNames(descriptors, changeable))
		}
		changed = append(changed, name)
	}
	return Validate(field, stored, changed...)
}

// lay sets a field, or a field of a field, as the other message has it. It says whether there is such a field.
func lay(to, from protoreflect.Message, path string) bool {
	name, rest, nested := strings.Cut(path, ".")
	descriptor := to.Descriptor().Fields().ByName(protoreflect.Name(name))
	switch {
	case descriptor == nil, nested && (descriptor.Message() == nil || descriptor.Cardinality() == protoreflect.Repeated):
		return false
	case nested:
		return lay(to.Mutable(descriptor).Message(), from.Get(descriptor).Message(), rest)
	case from.Has(descriptor):
		to.Set(descriptor, from.Get(descriptor))
	default:
		to.Clear(descriptor)
	}
	return true
}

var sharedRules = sync.OnceValues(func() (*validator, error) {
	rules, err := protovalidate.New()
	return &validator{rules}, err
})

// Validate checks the named fields of a message, or all without names, by the rules of the proto. field is where the
// message lies in the request.
func Validate(field string, message proto.Message, names ...string) error {
	rules, err := sharedRules()
	if err != nil {
		return err
	}
	return rules.checkFields(field, message, names)
}

func jsonNames(fields protoreflect.FieldDescriptors, names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = fields.ByName(protoreflect.Name(name)).JSONName()
	}
	return strings.Join(all, ", ")
}
