package rpc_test

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	_ "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	_ "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	_ "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
)

const (
	errorsPage  = "../../../docs/errors.md"
	reasonProto = "../../../proto/chapterhouse/error/v1/error.proto"
)

// firstOfMethods is the first reason that a method has to declare; those before it any method may give.
const firstOfMethods = errorv1.Reason_REASON_ADDRESS_TAKEN

var update = flag.Bool("update", false, "write docs/errors.md")

// TestReasonsAreDocumented holds docs/errors.md against the proto's comments and the methods' options.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	page := errorsIntroduction + reasonTable(t)
	if *update {
		if err := os.WriteFile(errorsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(errorsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != page {
		t.Error("docs/errors.md is not current: go test ./internal/rpc -run ReasonsAreDocumented -update")
	}
}

const errorsIntroduction = `# Errors

Every refusal has one form. Over gRPC it is a status with a ` + "`google.rpc.ErrorInfo`" + `; over REST one JSON body that is both an
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem and a ` + "`google.rpc.Status`" + `, as ` + "`application/problem+json`" + `:

` + "```json" + `
{
  "type": "/docs/errors#NOT_ELIGIBLE",
  "title": "Failed precondition",
  "status": 400,
  "detail": "chapters/golang-paris is below the line: 3 of its people would have to join",
  "instance": "urn:uuid:0198c1de-3c52-7d0e-a6f1-7d6c5a1b2c3d",
  "code": 9,
  "message": "chapters/golang-paris is below the line: 3 of its people would have to join",
  "details": [
    {
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      "reason": "NOT_ELIGIBLE",
      "domain": "chapterhouse.example",
      "metadata": { "basis": "MEMBERSHIP", "convert": "3", "recruit": "8" }
    }
  ]
}
` + "```" + `

Programs should look at ` + "`reason`" + ` and its ` + "`metadata`" + `, never at the sentence. A ` + "`google.rpc.BadRequest`" + ` beside it names each
field at fault. ` + "`instance`" + ` is the request's id, which is also in the ` + "`X-Request-Id`" + ` header and in the log. No error holds an
address.

An outdated ` + "`etag`" + ` or ` + "`If-Match`" + ` is 409 (` + "`ABORTED`" + `), never 412. A request id that was used with other content is 422 over REST.

| reason | says | given by |
|---|---|---|
`

func reasonTable(t *testing.T) string {
	t.Helper()
	comments := reasonComments(t)
	methods := methodsByReason()
	var table strings.Builder
	for number := range errorv1.Reason_name {
		if number != 0 && comments[errorv1.Reason(number)] == "" {
			t.Errorf("%s has no comment in the proto", errorv1.Reason(number))
		}
	}
	for _, reason := range slices.Sorted(func(yield func(errorv1.Reason) bool) {
		for number := range errorv1.Reason_name {
			if number != 0 && !yield(errorv1.Reason(number)) {
				return
			}
		}
	}) {
		by := "any method"
		if reason >= firstOfMethods {
			by = strings.Join(methods[reason], ", ")
		}
		if by == "" {
			t.Errorf("no method declares %s", reason)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", strings.TrimPrefix(reason.String(), "REASON_"), comments[reason], by)
	}
	return table.String()
}

var enumerator = regexp.MustCompile(`^\s*(REASON_\w+) = \d+;`)

// reasonComments reads the comments, which the compiled descriptors do not hold.
func reasonComments(t *testing.T) map[errorv1.Reason]string {
	t.Helper()
	file, err := os.Open(reasonProto)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	comments := map[errorv1.Reason]string{}
	var pending []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if text, isComment := strings.CutPrefix(line, "// "); isComment {
			pending = append(pending, text)
			continue
		}
		if found := enumerator.FindStringSubmatch(lines.Text()); found != nil {
			comments[errorv1.Reason(errorv1.Reason_value[found[1]])] = strings.Join(pending, " ")
		}
		pending = nil
	}
	return comments
}

// methodsByReason lists the methods that declare each reason.
func methodsByReason() map[errorv1.Reason][]string {
	methods := map[errorv1.Reason][]string{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				declared, _ := proto.GetExtension(method.Options(), errorv1.E_Errors).([]errorv1.Reason)
				for _, reason := range declared {
					methods[reason] = append(methods[reason], string(method.Name()))
				}
			}
		}
		return true
	})
	for reason := range methods {
		slices.SortFunc(methods[reason], cmp.Compare[string])
	}
	return methods
}
