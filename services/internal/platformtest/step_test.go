package platformtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// step is one call of a story, told once for each door, and what is expected at both of them. In its texts $word stands
// for a variable of the story.
type step struct {
	does string
	as   role
	// grpc is "<package>.<Service>/<Method> <request as JSON>"; the package without "chapterhouse.".
	grpc string
	// rest is "<method> <path> <body>", as BLUEPRINT 7.2 has it.
	rest string
	// header is sent over REST where gRPC has a field: "If-Match: ...".
	header string
	// source is a sync's, in the form that media names.
	source, media string

	// want is contained in the answer.
	want string
	// fails is how the call is refused; nil for not at all.
	fails *refusal
	// within repeats the call until it answers as wanted.
	within time.Duration
	// keep takes fields of the answer over into variables: "variable": "field.of.field".
	keep map[string]string
}

// role is who takes a step.
type role struct {
	role  authz.Role
	scope string
}

var (
	nobody      = role{}
	staff       = role{role: authz.InternationalStaff}
	auditor     = role{role: authz.Auditor}
	coordinator = role{authz.Coordinator, "regions/europe-$x"}
	admin       = role{authz.ChapterAdmin, "chapters/golang-$x"}
	otherAdmin  = role{authz.ChapterAdmin, "chapters/rust-$x"}
)

// refusal is an error as both doors show it.
type refusal struct {
	reason   string
	code     codes.Code
	status   int
	metadata map[string]string
}

func refused(reason string, code codes.Code, status int, metadata ...string) *refusal {
	r := &refusal{reason: reason, code: code, status: status, metadata: map[string]string{}}
	for pair := range slices.Chunk(metadata, 2) {
		r.metadata[pair[0]] = pair[1]
	}
	return r
}

func denied() *refusal { return refused("PERMISSION_DENIED", codes.PermissionDenied, 403) }

// answer is what came back, at either door.
type answer struct {
	body    any // of a success, as JSON
	refusal *refusal
	raw     string // the whole error, for the search for secrets
}

// variables of a story.
type variables map[string]string

// fill sets the variables' values; the longest names go first.
func (v variables) fill(text string) string {
	names := slices.SortedFunc(maps.Keys(v), func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(names))
	for _, name := range names {
		pairs = append(pairs, "$"+name, v[name])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (v variables) apply(s step) step {
	s.as.scope, s.grpc, s.rest, s.header = v.fill(s.as.scope), v.fill(s.grpc), v.fill(s.rest), v.fill(s.header)
	s.source, s.want = v.fill(s.source), v.fill(s.want)
	if s.fails != nil {
		fails := *s.fails
		fails.metadata = map[string]string{}
		for key, value := range s.fails.metadata {
			fails.metadata[key] = v.fill(value)
		}
		s.fails = &fails
	}
	return s
}

// play takes the steps in order, each as a subtest; what follows a failed one would only fail with it.
func play(t *testing.T, d door, steps []step, vars variables) {
	t.Helper()
	for _, s := range steps {
		if !t.Run(s.does, func(t *testing.T) { take(t, d, vars.apply(s), vars) }) {
			t.FailNow()
		}
	}
}

func take(t *testing.T, d door, s step, vars variables) {
	t.Helper()
	end := time.Now().Add(s.within)
	for {
		got := d.call(t, s)
		complaint := s.judge(got)
		if complaint == "" {
			for name, path := range s.keep {
				vars[name] = field(t, got.body, path)
			}
			return
		}
		if !time.Now().Before(end) {
			t.Fatal(complaint)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// judge says what is wrong with an answer, "" for nothing.
func (s step) judge(got answer) string {
	switch {
	case s.fails == nil && got.refusal != nil:
		return "refused: " + got.raw
	case s.fails != nil && got.refusal == nil:
		return fmt.Sprintf("answered %v, want %s", got.body, s.fails.reason)
	case s.fails != nil:
		return s.fails.judge(got)
	case s.want == "":
		return ""
	}
	var want any
	if err := json.Unmarshal([]byte(s.want), &want); err != nil {
		return fmt.Sprintf("the expectation %s: %v", s.want, err)
	}
	return contains("", want, got.body)
}

func (r *refusal) judge(got answer) string {
	g := got.refusal
	if g.reason != r.reason || g.code != r.code || g.status != 0 && g.status != r.status {
		return fmt.Sprintf("refused with %s, %s, %d; want %s, %s, %d: %s", g.reason, g.code, g.status, r.reason, r.code, r.status, got.raw)
	}
	for key, value := range r.metadata {
		if g.metadata[key] != value {
			return fmt.Sprintf("metadata %s is %q, want %q: %s", key, g.metadata[key], value, got.raw)
		}
	}
	return ""
}

// contains says where got is not what is wanted. Objects may have more fields, lists no more elements; "*" is anything
// but nothing.
func contains(path string, want, got any) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", path, got)
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if complaint := contains(path+"."+name, want[name], object[name]); complaint != "" {
				return complaint
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is %v, want %d elements", path, got, len(want))
		}
		for i := range want {
			if complaint := contains(fmt.Sprintf("%s[%d]", path, i), want[i], list[i]); complaint != "" {
				return complaint
			}
		}
	default:
		if want == "*" && got != nil && got != "" {
			return ""
		}
		if want != got {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
	}
	return ""
}

// field is a text in an answer.
func field(t testing.TB, body any, path string) string {
	t.Helper()
	for _, name := range strings.Split(path, ".") {
		switch value := body.(type) {
		case map[string]any:
			body = value[name]
		case []any:
			if len(value) == 0 {
				t.Fatalf("%s: nothing in the list", path)
			}
			body = value[0].(map[string]any)[name]
		}
	}
	text, ok := body.(string)
	if !ok {
		t.Fatalf("%s is %v, want a text", path, body)
	}
	return text
}
