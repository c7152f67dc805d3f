package main

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestSingular(t *testing.T) {
	for plural, want := range map[string]string{
		"chapters": "chapter", "entries": "entry", "addresses": "address", "syncs": "sync", "revisions": "revision",
	} {
		if got := singular(plural); got != want {
			t.Errorf("singular(%q) = %q, want %q", plural, got, want)
		}
	}
}

func TestSchemaName(t *testing.T) {
	for full, want := range map[string]string{
		"chapterhouse.local.v1.Sync":                       "Sync",
		"chapterhouse.local.v1.Sync.State":                 "SyncState",
		"chapterhouse.local.v1.SyncService.ApplySyncBody":  "ApplySyncBody",
		"chapterhouse.international.v1.CharterTransition":  "CharterTransition",
		"chapterhouse.international.v1.Charter.State.Deep": "CharterStateDeep",
	} {
		if got := schemaName(full); got != want {
			t.Errorf("schemaName(%q) = %q, want %q", full, got, want)
		}
	}
}

func TestPathsAreNamedAfterTheirCollections(t *testing.T) {
	operation := &Operation{Parameters: []*Parameter{
		{In: "path", Name: "chapter"}, {In: "path", Name: "entrie"}, {In: "query", Name: "entrie"},
	}}
	doc := &Document{Paths: map[string]PathItem{"/v1/chapters/{chapter}/entries/{entrie}:unsubscribe": {"post": operation}}}
	if err := namePathParameters(doc); err != nil {
		t.Fatal(err)
	}
	if doc.Paths["/v1/chapters/{chapter}/entries/{entry}:unsubscribe"] == nil {
		t.Errorf("paths: %v", doc.Paths)
	}
	var names []string
	for _, parameter := range operation.Parameters {
		names = append(names, parameter.Name)
	}
	if want := []string{"chapter", "entry", "entrie"}; !slices.Equal(names, want) {
		t.Errorf("parameters %v, want %v", names, want)
	}
}

func TestWildcardsTakeTheirPatternFromTheName(t *testing.T) {
	const id = "[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
	got := wildcards("chapters/*/lists/*", "chapters/"+id+"/lists/[a-z]+")
	if want := []string{"^" + id + "$", "^[a-z]+$"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := wildcards("chapters/*", "regions/[a-z]+"); got != nil {
		t.Errorf("another collection's pattern gave %q", got)
	}
}

func TestCommentsLoseTheirLineBreaks(t *testing.T) {
	summary, description := headline("Reads a list. It\nis paged.\n\nMore:\n- one\n- two\n  and a half\n")
	if summary != "Reads a list" {
		t.Errorf("summary %q", summary)
	}
	if want := "Reads a list. It is paged.\n\nMore:\n- one\n- two and a half"; description != want {
		t.Errorf("description %q, want %q", description, want)
	}
}

func TestPropertiesKeepTheirOrder(t *testing.T) {
	const text = `{"name":{"type":"string","description":"<id>"},"etag":{"type":"string"},"address":{}}`
	var properties Properties
	if err := json.Unmarshal([]byte(text), &properties); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, property := range properties {
		names = append(names, property.Name)
	}
	if want := []string{"name", "etag", "address"}; !slices.Equal(names, want) {
		t.Errorf("read %v, want %v", names, want)
	}
	again, err := json.Marshal(properties)
	if err != nil {
		t.Fatal(err)
	}
	var reread Properties
	if err := json.Unmarshal(again, &reread); err != nil || reread[0].Name != "name" || reread[2].Name != "address" {
		t.Errorf("written as %s", again)
	}
}
