package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	authzv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/authz/v1"
	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// Protos are the project's own descriptors with their comments.
type Protos struct {
	files   *protoregistry.Files
	methods map[string]Method // by name, which is the operation's id
}

// Method is an RPC together with what its options say.
type Method struct {
	protoreflect.MethodDescriptor
	Rule   *authzv1.Rule
	Errors []errorv1.Reason
}

// readProtos reads an image written by `buf build`.
func readProtos(path string) (*Protos, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	protos := &Protos{files: files, methods: map[string]Method{}}
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			if err = protos.addService(file.Services().Get(i)); err != nil {
				return false
			}
		}
		return true
	})
	return protos, err
}

func (p *Protos) addService(service protoreflect.ServiceDescriptor) error {
	for i := range service.Methods().Len() {
		descriptor := service.Methods().Get(i)
		name := string(descriptor.Name())
		if other, taken := p.methods[name]; taken {
			return fmt.Errorf("%s and %s would share an operation id: rename one", descriptor.FullName(), other.FullName())
		}
		p.methods[name] = Method{
			MethodDescriptor: descriptor,
			Rule:             proto.GetExtension(descriptor.Options(), authzv1.E_Rule).(*authzv1.Rule),
			Errors:           proto.GetExtension(descriptor.Options(), errorv1.E_Errors).([]errorv1.Reason),
		}
	}
	return nil
}

// request is the message whose fields the caller fills in: that of a streamed request is the header sent first.
func (m Method) request() protoreflect.MessageDescriptor {
	if !m.IsStreamingClient() {
		return m.Input()
	}
	for i := range m.Input().Fields().Len() {
		if field := m.Input().Fields().Get(i); field.Message() != nil {
			return field.Message()
		}
	}
	return m.Input()
}

// template matches the one variable of our paths: {name=chapters/*/lists/*}.
var template = regexp.MustCompile(`\{([a-z_.]+)=([^}]+)\}`)

// pathPatterns are the patterns of the wildcards in the method's path, from left to right, taken from the rule
// of the field that holds the resource's name; nil where the rule does not go by segments.
func (m Method) pathPatterns() []string {
	rule := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	match := template.FindStringSubmatch(httpPath(rule))
	if match == nil {
		return nil
	}
	field := fieldAt(m.Input(), match[1])
	if field == nil {
		return nil
	}
	pattern := rules(field).GetString().GetPattern()
	return wildcards(match[2], strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$"))
}

func wildcards(path, pattern string) []string {
	segments, patterns := strings.Split(path, "/"), strings.Split(pattern, "/")
	if len(segments) != len(patterns) {
		return nil
	}
	var found []string
	for i, segment := range segments {
		if segment == "*" {
			found = append(found, "^"+patterns[i]+"$")
		} else if segment != patterns[i] {
			return nil
		}
	}
	return found
}

func httpPath(rule *annotations.HttpRule) string {
	for _, path := range []string{rule.GetGet(), rule.GetPost(), rule.GetPut(), rule.GetPatch(), rule.GetDelete()} {
		if path != "" {
			return path
		}
	}
	return ""
}

// fieldAt finds a field by a path of names as they stand in the proto or in JSON, "chapter.name".
func fieldAt(message protoreflect.MessageDescriptor, path string) protoreflect.FieldDescriptor {
	var field protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil
		}
		if field = message.Fields().ByTextName(name); field == nil {
			field = message.Fields().ByJSONName(name)
		}
		if field == nil {
			return nil
		}
		message = field.Message()
	}
	return field
}

// comment is what stands above the declaration.
func comment(descriptor protoreflect.Descriptor) string {
	location := descriptor.ParentFile().SourceLocations().ByDescriptor(descriptor)
	return oneLine(strings.ReplaceAll(location.LeadingComments, "\n ", "\n"))
}
