package main

import (
	"bytes"
	"encoding/json"
)

// Document is as much of OpenAPI 3.1 as the platform's API needs, in the order in which it is printed.
type Document struct {
	OpenAPI    string                `json:"openapi,omitempty"`
	Info       *Info                 `json:"info,omitempty"`
	Servers    []Server              `json:"servers,omitempty"`
	Security   []map[string][]string `json:"security,omitempty"`
	Tags       []Tag                 `json:"tags,omitempty"`
	Paths      map[string]PathItem   `json:"paths,omitempty"`
	Components Components            `json:"components"`
}

// Info heads the document.
type Info struct {
	Title       string `json:"title"`
	Summary     string `json:"summary,omitempty"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"`
	License     struct {
		Name       string `json:"name"`
		Identifier string `json:"identifier,omitempty"`
	} `json:"license"`
}

// Server is a base that the paths are relative to.
type Server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// Tag groups the operations of one service.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// PathItem holds a path's operations by HTTP method in lower case.
type PathItem map[string]*Operation

// Operation is one method on one path.
type Operation struct {
	Tags        []string             `json:"tags,omitempty"`
	OperationID string               `json:"operationId,omitempty"`
	Summary     string               `json:"summary,omitempty"`
	Description string               `json:"description,omitempty"`
	Parameters  []*Parameter         `json:"parameters,omitempty"`
	RequestBody *RequestBody         `json:"requestBody,omitempty"`
	Responses   map[string]*Response `json:"responses,omitempty"`
	// Security is nil where the document's own holds, and empty where anybody may call.
	Security *[]map[string][]string `json:"security,omitempty"`
}

// Parameter is a parameter in the path, the query or a header, or a reference to one.
type Parameter struct {
	Ref         string  `json:"$ref,omitempty"`
	Name        string  `json:"name,omitempty"`
	In          string  `json:"in,omitempty"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
}

// RequestBody is a body by media type.
type RequestBody struct {
	Description string               `json:"description,omitempty"`
	Required    bool                 `json:"required,omitempty"`
	Content     map[string]MediaType `json:"content"`
}

// MediaType is the schema of a body in one media type.
type MediaType struct {
	Schema  *Schema `json:"schema,omitempty"`
	Example any     `json:"example,omitempty"`
}

// Response is an answer, or a reference to one.
type Response struct {
	Ref         string               `json:"$ref,omitempty"`
	Description string               `json:"description,omitempty"`
	Headers     map[string]Parameter `json:"headers,omitempty"`
	Content     map[string]MediaType `json:"content,omitempty"`
}

// Components are what the operations refer to.
type Components struct {
	SecuritySchemes map[string]json.RawMessage `json:"securitySchemes,omitempty"`
	Parameters      map[string]*Parameter      `json:"parameters,omitempty"`
	Headers         map[string]Parameter       `json:"headers,omitempty"`
	Responses       map[string]*Response       `json:"responses,omitempty"`
	Schemas         map[string]*Schema         `json:"schemas,omitempty"`
}

// Schema is a JSON Schema, or a reference to one.
type Schema struct {
	Ref                  string     `json:"$ref,omitempty"`
	Type                 string     `json:"type,omitempty"`
	Format               string     `json:"format,omitempty"`
	Title                string     `json:"title,omitempty"`
	Description          string     `json:"description,omitempty"`
	Enum                 []string   `json:"enum,omitempty"`
	Pattern              string     `json:"pattern,omitempty"`
	MinLength            *uint64    `json:"minLength,omitempty"`
	MaxLength            *uint64    `json:"maxLength,omitempty"`
	Minimum              *float64   `json:"minimum,omitempty"`
	Maximum              *float64   `json:"maximum,omitempty"`
	ExclusiveMinimum     *float64   `json:"exclusiveMinimum,omitempty"`
	ExclusiveMaximum     *float64   `json:"exclusiveMaximum,omitempty"`
	MinItems             *uint64    `json:"minItems,omitempty"`
	MaxItems             *uint64    `json:"maxItems,omitempty"`
	UniqueItems          bool       `json:"uniqueItems,omitempty"`
	Items                *Schema    `json:"items,omitempty"`
	Required             []string   `json:"required,omitempty"`
	Properties           Properties `json:"properties,omitempty"`
	AdditionalProperties *Schema    `json:"additionalProperties,omitempty"`
}

// Properties are an object's properties in the order of their declaration.
type Properties []Property

// Property is a named property of an object.
type Property struct {
	Name   string
	Schema *Schema
}

// MarshalJSON writes an object whose keys keep their order.
func (p Properties) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	// What this encoder ends each value with, a newline, the outer encoder drops again.
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	out.WriteByte('{')
	for i, property := range p {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := encoder.Encode(property.Name); err != nil {
			return nil, err
		}
		out.WriteByte(':')
		if err := encoder.Encode(property.Schema); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// UnmarshalJSON reads an object and keeps the order of its keys.
func (p *Properties) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	*p = Properties{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		property := Property{Name: name.(string)}
		if err := decoder.Decode(&property.Schema); err != nil {
			return err
		}
		*p = append(*p, property)
	}
	return nil
}

// walk calls fn for the schema and all schemas inside it.
func (s *Schema) walk(fn func(*Schema)) {
	if s == nil {
		return
	}
	fn(s)
	s.Items.walk(fn)
	s.AdditionalProperties.walk(fn)
	for _, property := range s.Properties {
		property.Schema.walk(fn)
	}
}

// schemas calls fn for every schema of the document.
func (d *Document) schemas(fn func(*Schema)) {
	for _, schema := range d.Components.Schemas {
		schema.walk(fn)
	}
	for _, item := range d.Paths {
		for _, operation := range item {
			operation.schemas(fn)
		}
	}
}

func (o *Operation) schemas(fn func(*Schema)) {
	for _, parameter := range o.Parameters {
		parameter.Schema.walk(fn)
	}
	if o.RequestBody != nil {
		for _, media := range o.RequestBody.Content {
			media.Schema.walk(fn)
		}
	}
	for _, response := range o.Responses {
		for _, media := range response.Content {
			media.Schema.walk(fn)
		}
	}
}
