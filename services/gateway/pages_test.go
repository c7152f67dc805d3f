package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

func TestPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for path, want := range map[string]struct{ media, text string }{
		"/":                                 {"text/html; charset=utf-8", "<h1>Chapterhouse</h1>"},
		"/docs":                             {"text/html; charset=utf-8", `<div id="reference">`},
		"/docs/errors":                      {"text/html; charset=utf-8", `<dt id="NOT_ELIGIBLE">`},
		"/docs/assets/docs.js":              {"text/javascript; charset=utf-8", "/openapi.json"},
		"/docs/assets/page.css":             {"text/css; charset=utf-8", "body"},
		"/docs/assets/swagger-ui.css":       {"text/css; charset=utf-8", ".swagger-ui"},
		"/openapi.json":                     {"application/json", `"openapi": "3.1`},
		"/healthz":                          {"application/json", `{"status":"alive"}`},
		"/metrics":                          {"text/plain", "chapterhouse_http_in_flight 1"},
		"/docs/assets/swagger-ui-bundle.js": {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
	} {
		got := w.do(http.MethodGet, path, "")
		if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), want.media) || !strings.Contains(got.body, want.text) {
			t.Errorf("%s: %d %v %.200s", path, got.status, got.header, got.body)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %v", path, got.header)
		}
	}
	if got := w.do(http.MethodGet, "/docs/assets/swagger-ui-bundle.js", "", "Accept-Encoding: gzip"); got.header.Get("Content-Encoding") != "gzip" || got.body[:2] != "\x1f\x8b" {
		t.Errorf("%v", got.header)
	}
}

// The pages work without any network but the gateway's own, and without scripts inside of them.
func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	w := setup(t)
	elsewhere := regexp.MustCompile(`(src|href)="(https?:)?//|<script>|<style>|style="`)
	for _, path := range []string{"/", "/docs", "/docs/errors"} {
		got := w.do(http.MethodGet, path, "")
		if found := elsewhere.FindString(got.body); found != "" {
			t.Errorf("%s has %s", path, found)
		}
		for _, link := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(got.body, -1) {
			if linked := w.do(http.MethodGet, link[1], ""); linked.status != http.StatusOK && link[1] != "/readyz" {
				t.Errorf("%s leads to %s: %d", path, link[1], linked.status)
			}
		}
	}
}

// What the document promises and what the gateway does are the same paths.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(w.do(http.MethodGet, "/openapi.json", "").body), &document); err != nil {
		t.Fatal(err)
	}
	operations := map[string]bool{}
	for path, item := range document.Paths {
		for method, operation := range item {
			operations[operation.OperationID] = true
			// Any id will do to see that there is a handler: a path that has none answers 404 or 405 with UNKNOWN_ROUTE.
			concrete := regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "x1")
			got := w.do(upper(method), concrete, "")
			if got.status != http.StatusOK && strings.Contains(got.body, "UNKNOWN_ROUTE") {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	annotated(func(method protoreflect.MethodDescriptor, _ *annotations.HttpRule) {
		if !operations[string(method.Name())] {
			t.Errorf("openapi.json lacks %s", method.Name())
		}
	})
	if !operations["CreateSync"] {
		t.Error("openapi.json lacks CreateSync")
	}
}

func upper(method string) string { return strings.ToUpper(method) }

func TestReadiness(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if got := w.do(http.MethodGet, "/readyz", ""); got.status != http.StatusOK ||
		got.body != `{"ready":true,"services":{"international":"SERVING","local":"SERVING","regional":"SERVING"}}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.services["local"].health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	w.services["regional"].server.Stop()
	got := w.do(http.MethodGet, "/readyz", "")
	if got.status != http.StatusServiceUnavailable ||
		got.body != `{"ready":false,"services":{"international":"SERVING","local":"NOT_SERVING","regional":"Unavailable"}}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if alive := w.do(http.MethodGet, "/healthz", ""); alive.status != http.StatusOK {
		t.Errorf("%d", alive.status)
	}
}

// The log and the metrics say what was done, and not to whom.
func TestLogAndMetrics(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, localv1.ListService_GetEntry_FullMethodName, func(context.Context, *localv1.GetEntryRequest) (*localv1.Entry, error) {
		return &localv1.Entry{Address: "ada@example.org"}, nil
	})
	w.do(http.MethodGet, listPath+"/entries/e0secret", "", "X-Request-Id: mine")
	w.do(http.MethodGet, listPath+"/entries?filter=ada@example.org", "")
	w.do(http.MethodPost, "/v1/members", `{"addresses":"ada@example.org"}`, asJSON)
	w.do("SECRETVERB", "/v1/secretpath", "")
	within(t, "four lines", func() bool { return strings.Count(w.log.String(), `"msg":"request"`) == 4 })
	log := w.log.String()
	for _, secret := range []string{"ada@", "secret", "SECRET", "filter"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells %s: %s", secret, log)
		}
	}
	line := map[string]any{}
	if err := json.Unmarshal([]byte(strings.SplitN(log, "\n", 2)[0]), &line); err != nil {
		t.Fatal(err)
	}
	if line["route"] != "/v1/{name=chapters/*/lists/*/entries/*}" || line["method"] != "GET" || line["status"] != float64(200) ||
		line["request_id"] != "mine" || line["bytes_out"] == float64(0) || line["duration"] == nil {
		t.Errorf("the line is %v", line)
	}
	metrics := w.do(http.MethodGet, "/metrics", "").body
	if !strings.Contains(metrics, `chapterhouse_http_requests_total{method="GET",route="/v1/{name=chapters/*/lists/*/entries/*}",status="200"} 1`) {
		t.Errorf("the metrics: %s", metrics)
	}
	if strings.Contains(metrics, "secret") || strings.Contains(metrics, "SECRET") {
		t.Errorf("the metrics tell what a caller made up: %s", metrics)
	}
}
