package main

import (
	"fmt"
	"regexp"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// constrainComponents writes the rules of protovalidate into the schemas that were made from messages.
func constrainComponents(doc *Document, protos *Protos) error {
	for name, schema := range doc.Components.Schemas {
		message, err := protos.messageOf(name)
		if err != nil {
			return err
		}
		if message != nil {
			constrainObject(schema, message)
		}
	}
	return nil
}

// messageOf finds the message behind a schema; nil for an enum. A body whose path holds some of the request's
// fields is called after the method: Service.MethodBody.
func (p *Protos) messageOf(schema string) (protoreflect.MessageDescriptor, error) {
	if descriptor, err := p.files.FindDescriptorByName(protoreflect.FullName(schema)); err == nil {
		message, _ := descriptor.(protoreflect.MessageDescriptor)
		return message, nil
	}
	method := strings.TrimSuffix(schema[strings.LastIndexByte(schema, '.')+1:], "Body")
	if found, ok := p.methods[method]; ok {
		return found.Input(), nil
	}
	return nil, fmt.Errorf("no message or method makes the schema %s", schema)
}

func constrainObject(schema *Schema, message protoreflect.MessageDescriptor) {
	for _, property := range schema.Properties {
		field := message.Fields().ByJSONName(property.Name)
		if field == nil {
			continue
		}
		if constrain(property.Schema, field) {
			schema.Required = append(schema.Required, property.Name)
		}
	}
}

func rules(field protoreflect.FieldDescriptor) *validate.FieldRules {
	found := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	if found.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
		return nil
	}
	return found
}

// constrain writes the field's rules into its schema and says whether the field must be sent.
func constrain(schema *Schema, field protoreflect.FieldDescriptor) (required bool) {
	rule := rules(field)
	if rule == nil {
		return false
	}
	// A reference stands for a message or an enum; what is allowed in it, it says itself.
	if schema.Ref == "" {
		apply(schema, rule)
	}
	if rule.GetRequired() {
		return true
	}
	return !field.HasPresence() && rule.GetIgnore() != validate.Ignore_IGNORE_IF_ZERO_VALUE && refusesZero(rule)
}

func apply(schema *Schema, rule *validate.FieldRules) {
	switch {
	case rule.HasString():
		applyString(schema, rule.GetString())
	case rule.HasRepeated():
		applyRepeated(schema, rule.GetRepeated())
	case rule.HasInt32():
		applyNumber(schema, rule.GetInt32())
	case rule.HasUint32():
		applyNumber(schema, rule.GetUint32())
	case rule.HasDouble():
		applyNumber(schema, rule.GetDouble())
	case rule.HasFloat():
		applyNumber(schema, rule.GetFloat())
	}
}

func applyString(schema *Schema, rule *validate.StringRules) {
	schema.MinLength, schema.MaxLength = rule.MinLen, rule.MaxLen
	if rule.HasLen() {
		schema.MinLength, schema.MaxLength = rule.Len, rule.Len
	}
	schema.Pattern = rule.GetPattern()
	schema.Enum = rule.GetIn()
	switch {
	case rule.GetUuid():
		schema.Format = "uuid"
	case rule.GetEmail():
		schema.Format = "email"
	case rule.GetUri():
		schema.Format = "uri"
	}
}

func applyRepeated(schema *Schema, rule *validate.RepeatedRules) {
	schema.MinItems, schema.MaxItems, schema.UniqueItems = rule.MinItems, rule.MaxItems, rule.GetUnique()
	if schema.Items != nil && schema.Items.Ref == "" && rule.GetItems() != nil {
		apply(schema.Items, rule.GetItems())
	}
}

// numberRules is what the rules of all kinds of numbers have in common.
type numberRules[N int32 | uint32 | float32 | float64] interface {
	HasGte() bool
	GetGte() N
	HasLte() bool
	GetLte() N
	HasGt() bool
	GetGt() N
	HasLt() bool
	GetLt() N
}

func applyNumber[N int32 | uint32 | float32 | float64](schema *Schema, rule numberRules[N]) {
	limit := func(has bool, value N) *float64 {
		if !has {
			return nil
		}
		number := float64(value)
		return &number
	}
	schema.Minimum = limit(rule.HasGte(), rule.GetGte())
	schema.Maximum = limit(rule.HasLte(), rule.GetLte())
	schema.ExclusiveMinimum = limit(rule.HasGt(), rule.GetGt())
	schema.ExclusiveMaximum = limit(rule.HasLt(), rule.GetLt())
}

// refusesZero says whether a field that is left out, and so holds its zero value, breaks the rule.
func refusesZero(rule *validate.FieldRules) bool {
	switch {
	case rule.HasString():
		text := rule.GetString()
		if text.GetMinLen() > 0 || text.GetLen() > 0 || text.GetUuid() || text.GetEmail() || text.GetUri() {
			return true
		}
		pattern, err := regexp.Compile(text.GetPattern())
		return err == nil && !pattern.MatchString("")
	case rule.HasRepeated():
		return rule.GetRepeated().GetMinItems() > 0
	case rule.HasEnum():
		for _, value := range rule.GetEnum().GetNotIn() {
			if value == 0 {
				return true
			}
		}
	}
	return false
}
