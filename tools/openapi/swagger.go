package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// swagger is what protoc-gen-openapiv2 writes: OpenAPI 2.0.
type swagger struct {
	Tags        []Tag                                   `json:"tags"`
	Paths       map[string]map[string]*swaggerOperation `json:"paths"`
	Definitions map[string]*Schema                      `json:"definitions"`
}

type swaggerOperation struct {
	Tags        []string                   `json:"tags"`
	OperationID string                     `json:"operationId"`
	Summary     string                     `json:"summary"`
	Description string                     `json:"description"`
	Parameters  []swaggerParameter         `json:"parameters"`
	Responses   map[string]swaggerResponse `json:"responses"`
}

type swaggerParameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description"`
	Required    bool    `json:"required"`
	Body        *Schema `json:"schema"` // of a parameter in the body
	Schema              // of any other, written inline
}

type swaggerResponse struct {
	Description string  `json:"description"`
	Schema      *Schema `json:"schema"`
}

const (
	definition = "#/definitions/"
	component  = "#/components/schemas/"
	jsonType   = "application/json"
)

// readSwagger reads an OpenAPI 2.0 document and gives it the shape of 3.1. Schemas keep their full protobuf names.
func readSwagger(path string) (*Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var old swagger
	if err := json.Unmarshal(data, &old); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	doc := &Document{OpenAPI: "3.1.0", Paths: map[string]PathItem{}, Components: Components{Schemas: old.Definitions}}
	for _, tag := range old.Tags {
		doc.Tags = append(doc.Tags, Tag{Name: tagName(tag.Name), Description: predicate(tag)})
	}
	for path, item := range old.Paths {
		doc.Paths[path] = PathItem{}
		for method, operation := range item {
			doc.Paths[path][method] = operation.modern()
		}
	}
	doc.schemas(modernSchema)
	return doc, nil
}

func (o *swaggerOperation) modern() *Operation {
	operation := &Operation{OperationID: o.OperationID, Responses: map[string]*Response{}}
	for _, tag := range o.Tags {
		operation.Tags = append(operation.Tags, tagName(tag))
	}
	operation.Summary, operation.Description = headline(o.Summary + "\n\n" + o.Description)
	for i := range o.Parameters {
		if parameter := &o.Parameters[i]; parameter.In == "body" {
			operation.RequestBody = parameter.body()
		} else {
			operation.Parameters = append(operation.Parameters, parameter.modern())
		}
	}
	for status, response := range o.Responses {
		operation.Responses[status] = &Response{
			Description: response.Description,
			Content:     map[string]MediaType{jsonType: {Schema: response.Schema}},
		}
	}
	return operation
}

func (p *swaggerParameter) body() *RequestBody {
	return &RequestBody{
		Description: oneLine(p.Description),
		Required:    p.Required,
		Content:     map[string]MediaType{jsonType: {Schema: p.Body}},
	}
}

func (p *swaggerParameter) modern() *Parameter {
	schema := p.Schema
	return &Parameter{Name: p.Name, In: p.In, Description: oneLine(p.Description), Required: p.Required, Schema: &schema}
}

func modernSchema(s *Schema) {
	if s.Ref != "" {
		s.Ref = component + strings.TrimPrefix(s.Ref, definition)
		s.Type = "" // the plugin repeats it beside the reference
	}
	s.Description = oneLine(s.Description)
}

func tagName(service string) string { return strings.TrimSuffix(service, "Service") }

// predicate is the tag's description without its subject: "SyncService compares ..." is "Compares ...".
func predicate(tag Tag) string {
	text := strings.TrimPrefix(strings.TrimPrefix(oneLine(tag.Description), tag.Name+" "), "is ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// headline divides a comment into its first sentence, without the full stop, and the whole.
func headline(comment string) (summary, description string) {
	description = oneLine(comment)
	summary, _, _ = strings.Cut(description, ". ")
	summary, _, _ = strings.Cut(summary, "\n")
	return strings.TrimSuffix(summary, "."), description
}

// oneLine joins the lines of each paragraph; lists keep theirs.
func oneLine(comment string) string {
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(comment), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case i == 0:
		case line == "" || strings.HasPrefix(line, "- ") || strings.HasSuffix(out.String(), "\n"):
			out.WriteByte('\n')
		default:
			out.WriteByte(' ')
		}
		out.WriteString(line)
	}
	return out.String()
}
