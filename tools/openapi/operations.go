package main

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// constrainParameters writes the rules of protovalidate into the parameters that were made from fields.
func constrainParameters(doc *Document, protos *Protos) {
	for _, item := range doc.Paths {
		for _, operation := range item {
			completeParameters(operation, protos.methods[operation.OperationID])
		}
	}
}

// completeOperations adds to each operation what the options of its method say, and what holds for all:
// headers, errors, who may call. Operations without a method are left as the overlay describes them.
func completeOperations(doc *Document, protos *Protos) {
	for _, item := range doc.Paths {
		for verb, operation := range item {
			if method, ok := protos.methods[operation.OperationID]; ok {
				completeDescription(operation, method)
				completeHeaders(operation, method)
				completeConditions(verb, operation, method)
				operation.Responses["default"] = &Response{Ref: "#/components/responses/Error"}
				if method.Rule.GetPublic() {
					operation.Security = &[]map[string][]string{}
				}
			}
		}
	}
}

func completeParameters(operation *Operation, method Method) {
	patterns := method.pathPatterns()
	for _, parameter := range operation.Parameters {
		switch parameter.In {
		case "path":
			if len(patterns) > 0 {
				parameter.Schema.Pattern, patterns = patterns[0], patterns[1:]
			}
		case "query":
			if field := fieldAt(method.Input(), parameter.Name); field != nil {
				completeQuery(parameter, field)
			}
		}
	}
}

func completeQuery(parameter *Parameter, field protoreflect.FieldDescriptor) {
	parameter.Required = constrain(parameter.Schema, field)
	if field.Enum() != nil && !field.IsList() {
		parameter.Schema = &Schema{Ref: component + string(field.Enum().FullName())}
		parameter.Description = comment(field)
	}
}

func completeDescription(operation *Operation, method Method) {
	if operation.Summary == "" {
		operation.Summary, operation.Description = headline(comment(method))
	}
	var lines []string
	if operation.Description != operation.Summary+"." {
		lines = append(lines, operation.Description)
	}
	lines = append(lines, access(method))
	if len(method.Errors) > 0 {
		var names []string
		for _, reason := range method.Errors {
			names = append(names, "`"+reasonName(reason.String())+"`")
		}
		lines = append(lines, "Refuses with: "+strings.Join(names, ", ")+".")
	}
	operation.Description = strings.Join(lines, "\n\n")
}

func access(method Method) string {
	switch rule := method.Rule; {
	case rule.GetPublic():
		return "Anybody may call this."
	case rule.GetAuthenticated():
		return "Anybody who is signed in may call this."
	case rule.GetScopeField() == "":
		return fmt.Sprintf("Permission: `%s`.", rule.GetPermission())
	default:
		return fmt.Sprintf("Permission: `%s` on the scope of `%s`.", rule.GetPermission(), rule.GetScopeField())
	}
}

func completeHeaders(operation *Operation, method Method) {
	if fieldAt(method.request(), "request_id") != nil {
		operation.Parameters = append(operation.Parameters, &Parameter{Ref: "#/components/parameters/IdempotencyKey"})
	}
	if takesEtag(method) {
		operation.Parameters = append(operation.Parameters, &Parameter{Ref: "#/components/parameters/IfMatch"})
	}
	if fieldAt(method.Output(), "etag") == nil {
		return
	}
	for _, response := range operation.Responses {
		if response.Headers == nil {
			response.Headers = map[string]Parameter{}
		}
		response.Headers["ETag"] = Parameter{Ref: "#/components/headers/ETag"}
	}
}

// completeConditions says of a GET that answers an etag that it also answers 304.
func completeConditions(verb string, operation *Operation, method Method) {
	if verb != "get" || fieldAt(method.Output(), "etag") == nil {
		return
	}
	operation.Parameters = append(operation.Parameters, &Parameter{Ref: "#/components/parameters/IfNoneMatch"})
	operation.Responses["304"] = &Response{Ref: "#/components/responses/NotModified"}
}

// takesEtag says whether the request names the state that it wants to change: by an etag of its own, or,
// in an update, by that of the resource.
func takesEtag(method Method) bool {
	request := method.request()
	if fieldAt(request, "etag") != nil {
		return true
	}
	if fieldAt(request, "update_mask") == nil {
		return false
	}
	for i := range request.Fields().Len() {
		if field := request.Fields().Get(i); field.Message() != nil && fieldAt(field.Message(), "etag") != nil {
			return true
		}
	}
	return false
}

// collection matches a collection and the parameter behind it.
var collection = regexp.MustCompile(`([A-Za-z]+)/\{([^}]+)\}`)

// namePathParameters calls every path parameter after its collection in the singular, where the plugin, which
// knows no plural but -s, makes {entrie} of entries.
func namePathParameters(doc *Document) error {
	paths := map[string]PathItem{}
	for path, item := range doc.Paths {
		names := map[string]string{}
		path = collection.ReplaceAllStringFunc(path, func(match string) string {
			parts := collection.FindStringSubmatch(match)
			names[parts[2]] = singular(parts[1])
			return parts[1] + "/{" + names[parts[2]] + "}"
		})
		for _, operation := range item {
			for _, parameter := range operation.Parameters {
				if parameter.In == "path" {
					parameter.Name = names[parameter.Name]
				}
			}
		}
		if _, taken := paths[path]; taken {
			return fmt.Errorf("two paths would be %s", path)
		}
		paths[path] = item
	}
	doc.Paths = paths
	return nil
}

func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	if stem, ok := strings.CutSuffix(plural, "sses"); ok {
		return stem + "ss"
	}
	return strings.TrimSuffix(plural, "s")
}

// schemaName shortens a protobuf name: chapterhouse.local.v1.Sync.State is SyncState,
// chapterhouse.local.v1.SyncService.ApplySyncBody is ApplySyncBody.
func schemaName(full string) string {
	var short strings.Builder
	for part := range strings.SplitSeq(full, ".") {
		if part[0] >= 'A' && part[0] <= 'Z' && !strings.HasSuffix(part, "Service") {
			short.WriteString(part)
		}
	}
	return short.String()
}

// nameSchemas gives all schemas and the references to them their short names.
func nameSchemas(doc *Document) error {
	named := map[string]*Schema{}
	for full, schema := range doc.Components.Schemas {
		short := schemaName(full)
		if _, taken := named[short]; taken {
			return fmt.Errorf("two messages would be the schema %s, one of them %s: rename one", short, full)
		}
		named[short] = schema
	}
	doc.schemas(func(s *Schema) {
		if full, ok := strings.CutPrefix(s.Ref, component); ok {
			s.Ref = component + schemaName(full)
		}
	})
	doc.Components.Schemas = named
	return nil
}

func reasonName(value string) string { return strings.TrimPrefix(value, "REASON_") }

// reasons is the schema of the reasons that errors carry, documented from the proto's comments.
func reasons(protos *Protos) (*Schema, error) {
	descriptor, err := protos.files.FindDescriptorByName(errorv1.Reason(0).Descriptor().FullName())
	if err != nil {
		return nil, err
	}
	schema := &Schema{Type: "string"}
	var text strings.Builder
	text.WriteString("Why a request was refused. Any operation may give the reasons from `UNAUTHENTICATED` to " +
		"`UNSUPPORTED_MEDIA_TYPE`; the others are named by the operations that give them.\n")
	values := descriptor.(protoreflect.EnumDescriptor).Values()
	for i := range values.Len() {
		value := values.Get(i)
		if value.Number() == 0 {
			continue
		}
		name := reasonName(string(value.Name()))
		schema.Enum = append(schema.Enum, name)
		fmt.Fprintf(&text, "\n- `%s`: %s", name, comment(value))
	}
	schema.Description = text.String()
	return schema, nil
}
