package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// annotated calls fn for each RPC of the platform that has a path.
func annotated(fn func(protoreflect.MethodDescriptor, *annotations.HttpRule)) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				rule, _ := proto.GetExtension(methods.Get(j).Options(), annotations.E_Http).(*annotations.HttpRule)
				if rule != nil && strings.HasPrefix(string(file.Package()), "chapterhouse.") {
					fn(methods.Get(j), rule)
				}
			}
		}
		return true
	})
}

func methodAndPath(rule *annotations.HttpRule) (string, string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	}
	return "", ""
}

// anyPath fills a template: /v1/{name=chapters/*} is /v1/chapters/x1.
func anyPath(template string) string {
	_, rest, found := strings.Cut(template, "{")
	if !found {
		return template
	}
	variable, after, _ := strings.Cut(rest, "}")
	_, pattern, _ := strings.Cut(variable, "=")
	return strings.Split(template, "{")[0] + strings.ReplaceAll(pattern, "*", "x1") + after
}

// Every annotated RPC is reached by its path, refuses parameters that it does not have, and says which methods its
// path takes: a service that was forgotten in the gateway fails here.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	w := setup(t)
	seen := 0
	annotated(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		seen++
		httpMethod, template := methodAndPath(rule)
		path := anyPath(template)
		full := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
		w.stream(full, func(stream grpc.ServerStream) error {
			output, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
			if err != nil {
				return err
			}
			input, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
			if err != nil {
				return err
			}
			if err := stream.RecvMsg(input.New().Interface()); err != nil {
				return err
			}
			return stream.SendMsg(output.New().Interface())
		})
		if got := w.do(httpMethod, path, ""); got.status != http.StatusOK {
			t.Errorf("%s %s: %d %s", httpMethod, path, got.status, got.body)
		} else if reached := w.lastCall().method; reached != full {
			t.Errorf("%s %s reaches %s, want %s", httpMethod, path, reached, full)
		}
		refused := w.do(httpMethod, path+"?noSuchThing=1", "")
		refused.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		refused.wantField(t, "noSuchThing")
		wrong := w.do(http.MethodPut, path, "")
		wrong.wantError(t, http.StatusMethodNotAllowed, "UNKNOWN_ROUTE")
		if !strings.Contains(wrong.header.Get("Allow"), httpMethod) {
			t.Errorf("PUT %s: Allow is %q", path, wrong.header.Get("Allow"))
		}
	})
	if seen < 30 {
		t.Errorf("only %d routes", seen)
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, path := range []string{
		"/v1", "/v1/", "/v2/chapters", "/v1/nothing", "/v1/chapters/", "/v1//chapters", "/v1/chapters/../chapters", "/nothing", "/docs/assets/nothing.js",
		"/v1/chapters/a%2Flists%2Fb", "/v1/chapters/a:b/lists", "/v1/charters/a:nothing",
	} {
		w.do(http.MethodGet, path, "").wantError(t, http.StatusNotFound, "UNKNOWN_ROUTE")
	}
	if w.called() != 0 {
		t.Errorf("%d calls reached a service", w.called())
	}
}

func TestWrongMethod(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, c := range []struct{ method, path, allow string }{
		{http.MethodGet, "/v1/charters/golang-paris:approve", "POST"},
		{http.MethodPut, listPath, "DELETE, GET, PATCH"},
		{http.MethodOptions, listPath + "/syncs", "GET, POST"},
		{"BREW", "/v1/members", "GET, POST"},
		{http.MethodPost, "/docs", "GET, HEAD"},
	} {
		got := w.do(c.method, c.path, "")
		got.wantError(t, http.StatusMethodNotAllowed, "UNKNOWN_ROUTE")
		if allow := got.header.Get("Allow"); allow != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, allow, c.allow)
		}
	}
}

func TestMethodIsNotOverridden(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.do(http.MethodPost, listPath, "", "X-HTTP-Method-Override: DELETE").wantError(t, http.StatusMethodNotAllowed, "UNKNOWN_ROUTE")
	w.do(http.MethodPost, listPath, "pageSize=3", "Content-Type: application/x-www-form-urlencoded", "X-HTTP-Method-Override: GET").
		wantError(t, http.StatusMethodNotAllowed, "UNKNOWN_ROUTE")
	if w.called() != 0 {
		t.Errorf("%d calls reached a service", w.called())
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_GetList_FullMethodName, func(context.Context, *localv1.GetListRequest) (*localv1.List, error) {
		return &localv1.List{Etag: "1-1"}, nil
	})
	got := w.do(http.MethodHead, listPath, "")
	if got.status != http.StatusOK || got.body != "" || got.header.Get("ETag") != `"1-1"` {
		t.Errorf("%d %q %v", got.status, got.body, got.header)
	}
}

func TestEncodedColonIsAVerb(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, internationalv1.CharterService_ClaimCharter_FullMethodName, func(_ context.Context, r *internationalv1.ClaimCharterRequest) (*internationalv1.Charter, error) {
		return &internationalv1.Charter{Name: r.GetName()}, nil
	})
	got := w.do(http.MethodPost, "/v1/charters/golang-paris%3Aclaim", "")
	if got.status != http.StatusOK || got.json(t)["name"] != "charters/golang-paris" {
		t.Errorf("%d %s", got.status, got.body)
	}
}
