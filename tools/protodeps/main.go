// Command protodeps writes the third-party protos that the project imports into a directory.
// It prints the descriptors that are linked into it, so their versions are those of go.mod and
// nothing but the Go module proxy is needed: buf's registry is out of reach on closed networks.
package main

import (
	"fmt"
	"os"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	_ "google.golang.org/genproto/googleapis/rpc/code"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// wanted are the files that protos of the project may import; what these import comes along.
var wanted = []string{
	"buf/validate/validate.proto",
	"google/api/annotations.proto",
	"google/api/client.proto",
	"google/api/field_behavior.proto",
	"google/api/http.proto",
	"google/api/httpbody.proto",
	"google/api/resource.proto",
	"google/rpc/code.proto",
	"google/rpc/error_details.proto",
	"google/rpc/status.proto",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protodeps DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "protodeps:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	files, err := closure(wanted)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	printer := &protoprint.Printer{SortElements: true}
	return printer.PrintProtosToFileSystem(files, dir)
}

// closure resolves the paths and everything they import, but not google/protobuf, which buf carries.
func closure(paths []string) ([]protoreflect.FileDescriptor, error) {
	seen := map[string]bool{}
	var files []protoreflect.FileDescriptor
	var add func(path string) error
	add = func(path string) error {
		if seen[path] {
			return nil
		}
		seen[path] = true
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return fmt.Errorf("%s is not linked into protodeps: %w", path, err)
		}
		if file.Package() == "google.protobuf" {
			return nil
		}
		files = append(files, file)
		for i := range file.Imports().Len() {
			if err := add(file.Imports().Get(i).Path()); err != nil {
				return err
			}
		}
		return nil
	}
	for _, path := range paths {
		if err := add(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}
