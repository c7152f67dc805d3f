package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// readOverlay reads what no proto says: the document's head, the shape of errors, and the gateway's own routes.
func readOverlay(path string) (*Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	overlay := &Document{}
	if err := decoder.Decode(overlay); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return overlay, nil
}

// merge adds the overlay to the document. Where both have an operation, the overlay's parameters and media types
// come to those that are there, and its descriptions take their place.
func (d *Document) merge(overlay *Document) {
	d.Info, d.Servers, d.Security = overlay.Info, overlay.Servers, overlay.Security
	d.Tags = append(d.Tags, overlay.Tags...)
	slices.SortFunc(d.Tags, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	for path, item := range overlay.Paths {
		if d.Paths[path] == nil {
			d.Paths[path] = PathItem{}
		}
		for method, operation := range item {
			if present := d.Paths[path][method]; present != nil {
				present.merge(operation)
			} else {
				d.Paths[path][method] = operation
			}
		}
	}
	schemas := d.Components.Schemas
	maps.Copy(schemas, overlay.Components.Schemas)
	d.Components = overlay.Components
	d.Components.Schemas = schemas
}

func (o *Operation) merge(overlay *Operation) {
	o.Parameters = append(o.Parameters, overlay.Parameters...)
	for status, response := range overlay.Responses {
		if present := o.Responses[status]; present != nil {
			maps.Copy(present.Content, response.Content)
			if response.Description != "" {
				present.Description = response.Description
			}
		} else {
			o.Responses[status] = response
		}
	}
}
