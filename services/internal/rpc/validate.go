package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// validator checks requests against the rules in the proto.
type validator struct{ rules protovalidate.Validator }

// newValidator compiles the rules of all requests at once: the first caller need not wait for it.
func newValidator(services []protoreflect.ServiceDescriptor) (*validator, error) {
	var requests []protoreflect.MessageDescriptor
	for _, service := range services {
		for i := range service.Methods().Len() {
			requests = append(requests, service.Methods().Get(i).Input())
		}
	}
	rules, err := protovalidate.New(protovalidate.WithMessageDescriptors(requests...))
	if err != nil {
		return nil, fmt.Errorf("validation rules: %w", err)
	}
	return &validator{rules}, nil
}

// check returns an INVALID_FIELD error that names every field that breaks a rule. A nil request breaks none.
func (v *validator) check(request proto.Message) error {
	if request == nil {
		return nil
	}
	return v.checkFields("", request, nil)
}

// checkFields checks only the named fields, all when there are none, of a message that lies in a field of the request.
func (v *validator) checkFields(within string, request proto.Message, names []string) error {
	var options []protovalidate.ValidationOption
	if len(names) > 0 {
		options = append(options, protovalidate.WithFilter(protovalidate.FilterFunc(
			func(message protoreflect.Message, descriptor protoreflect.Descriptor) bool {
				field, ok := descriptor.(protoreflect.FieldDescriptor)
				return !ok || message.Descriptor() != request.ProtoReflect().Descriptor() || slices.Contains(names, string(field.Name()))
			})))
	}
	err := v.rules.Validate(request, options...)
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return err
	}
	result := newError(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, "the request is not valid", nil)
	for i, violation := range invalid.Violations {
		path := strings.Trim(within+"."+jsonPath(request.ProtoReflect().Descriptor(), violation.Proto.GetField()), ".")
		description := violation.Proto.GetMessage()
		if description == "" {
			description = violation.Proto.GetRuleId()
		}
		result = result.Field(path, description)
		if i == 0 {
			result.message = strings.TrimPrefix(path+": "+description, ": ")
		}
	}
	return result
}

// jsonPath writes a field path as the caller of the REST interface knows it: addresses[0].displayName.
func jsonPath(message protoreflect.MessageDescriptor, path *validate.FieldPath) string {
	var text strings.Builder
	for _, element := range path.GetElements() {
		if text.Len() > 0 {
			text.WriteByte('.')
		}
		name := element.GetFieldName()
		var field protoreflect.FieldDescriptor
		if message != nil {
			field = message.Fields().ByName(protoreflect.Name(name))
		}
		message = nil
		if field != nil {
			name, message = field.JSONName(), valueMessage(field)
		}
		text.WriteString(name + subscript(element))
	}
	return text.String()
}

func valueMessage(field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if field.IsMap() {
		return field.MapValue().Message()
	}
	return field.Message()
}

func subscript(element *validate.FieldPathElement) string {
	switch at := element.GetSubscript().(type) {
	case *validate.FieldPathElement_Index:
		return "[" + strconv.FormatUint(at.Index, 10) + "]"
	case *validate.FieldPathElement_StringKey:
		return "[" + strconv.Quote(at.StringKey) + "]"
	case *validate.FieldPathElement_IntKey:
		return "[" + strconv.FormatInt(at.IntKey, 10) + "]"
	case *validate.FieldPathElement_UintKey:
		return "[" + strconv.FormatUint(at.UintKey, 10) + "]"
	case *validate.FieldPathElement_BoolKey:
		return "[" + strconv.FormatBool(at.BoolKey) + "]"
	}
	return ""
}
