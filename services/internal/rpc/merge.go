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
// fields that are filled. It refuses fields that are not among the changeable ones (in snake_case), and checks those that
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
	for _, path := range paths {
		if !slices.Contains(changeable, path) {
			return Invalid(errorv1.Reason_REASON_INVALID_FIELD, "updateMask", "%q cannot be changed here; %s can", path, jsonNames(descriptors, changeable))
		}
		descriptor := descriptors.ByName(protoreflect.Name(path))
		if from.Has(descriptor) {
			to.Set(descriptor, from.Get(descriptor))
		} else {
			to.Clear(descriptor)
		}
	}
	return Validate(field, stored, paths...)
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
