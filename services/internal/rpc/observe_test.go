package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil))
	staff, nobody := w.staff(), w.as("", "")
	for range 2 {
		_, err := staff.CreateMember(t.Context(), ada())
		must(t, err)
	}
	_, err := internationalv1.NewMemberServiceClient(nobody).CreateMember(t.Context(), ada())
	wantError(t, err, codes.Unauthenticated, unauthenticated)
	for _, invented := range []string{"/x/One", "/x/Two"} {
		_ = nobody.Invoke(t.Context(), invented, &emptypb.Empty{}, &emptypb.Empty{})
	}
	want := `
# HELP chapterhouse_rpc_requests_total Calls answered, by method and gRPC code.
# TYPE chapterhouse_rpc_requests_total counter
chapterhouse_rpc_requests_total{code="OK",method="chapterhouse.international.v1.MemberService/CreateMember"} 2
chapterhouse_rpc_requests_total{code="Unauthenticated",method="chapterhouse.international.v1.MemberService/CreateMember"} 1
chapterhouse_rpc_requests_total{code="Unimplemented",method="unknown"} 2
`
	// A call is counted after its answer has left.
	testkit.Eventually(t, limit, func() (bool, string) {
		err := testutil.GatherAndCompare(w.registry, strings.NewReader(want), "chapterhouse_rpc_requests_total")
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	if n, err := testutil.GatherAndCount(w.registry, "chapterhouse_rpc_duration_seconds"); err != nil || n != 2 {
		t.Errorf("durations of %d methods, %v", n, err)
	}
}

func TestServersShareARegistry(t *testing.T) {
	t.Parallel()
	first := setup(t, answering(&internationalv1.Member{}, nil))
	second := setup(t, answering(&internationalv1.Member{}, nil), func(cfg *rpc.ServerConfig) { cfg.Registerer = first.registry })
	for _, w := range []*world{first, second} {
		_, err := w.staff().CreateMember(t.Context(), ada())
		must(t, err)
	}
	testkit.Eventually(t, limit, func() (bool, string) {
		families, err := first.registry.Gather()
		if err != nil {
			return false, err.Error()
		}
		for _, family := range families {
			if family.GetName() == "chapterhouse_rpc_requests_total" {
				return family.GetMetric()[0].GetCounter().GetValue() == 2, family.String()
			}
		}
		return false, "no such metric"
	})
}

// accessLine waits for the log line of the one call that was made.
func accessLine(t *testing.T, w *world) map[string]any {
	t.Helper()
	var line map[string]any
	testkit.Eventually(t, limit, func() (bool, string) {
		text, _, complete := strings.Cut(w.log.String(), "\n")
		return complete && json.Unmarshal([]byte(text), &line) == nil, text
	})
	return line
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "ada@example.org is taken")))
	_, err := w.staff().CreateMember(withMetadata(t, rpc.RequestIDHeader, "r-18"), ada())
	wantError(t, err, codes.AlreadyExists, errorv1.Reason_REASON_ALREADY_EXISTS)
	line := accessLine(t, w)
	for key, want := range map[string]any{
		"level":      "INFO",
		"method":     "chapterhouse.international.v1.MemberService/CreateMember",
		"code":       "AlreadyExists",
		"reason":     "ALREADY_EXISTS",
		"subject":    "international_staff of federation",
		"request_id": "r-18",
	} {
		if line[key] != want {
			t.Errorf("%s: got %v, want %v", key, line[key], want)
		}
	}
	if _, ok := line["duration"]; !ok {
		t.Error("no duration")
	}
}

// TestLogHoldsNoAddressAndNoToken lets them appear wherever they can: payload, token subject, refusal, cause, panic.
func TestLogHoldsNoAddressAndNoToken(t *testing.T) {
	t.Parallel()
	const secret = "ada.rao@example.org"
	causes := []func(token string) error{
		func(string) error {
			return rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s is taken", secret)
		},
		func(token string) error { return errors.New("bad value <" + secret + "> with " + token) },
		func(token string) error { panic(secret + " " + token) },
	}
	var presented string
	w := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return nil, causes[len(req.GetMember().GetAddresses())-1](strings.TrimPrefix(md.Get("authorization")[0], "Bearer "))
	}})
	presented, err := authz.Mint(w.signer, authz.Principal{Subject: secret, Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: "*"}}}, 3600e9, noon)
	must(t, err)
	client := internationalv1.NewMemberServiceClient(w.dial(rpc.StaticToken(presented)))
	for n := range causes {
		request := ada()
		for range n + 1 {
			request.Member.Addresses = append(request.Member.Addresses, &internationalv1.Address{Address: secret})
		}
		if _, err := client.CreateMember(t.Context(), request); err == nil {
			t.Fatal("no error")
		}
	}
	testkit.Eventually(t, limit, func() (bool, string) {
		return strings.Count(w.log.String(), "\n") == len(causes), w.log.String()
	})
	log := w.log.String()
	for _, part := range append(strings.Split(presented, "."), secret, "ada.rao") {
		if strings.Contains(log, part) {
			t.Errorf("the log holds %q: %s", part, log)
		}
	}
	if !strings.Contains(log, "observe_test.go") {
		t.Errorf("the panic's stack is gone: %s", log)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	var inner *world
	outer := setup(t, &service{createMember: func(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		return inner.staff().CreateMember(ctx, req)
	}})
	inner = setup(t, answering(&internationalv1.Member{}, nil))
	for name, c := range map[string]struct{ given, want string }{
		"Kept":           {"job-7:2026.05", "job-7:2026.05"},
		"MadeWhenAbsent": {"", ""},
		"MadeWhenUnfit":  {"two words", ""},
		"MadeWhenLong":   {strings.Repeat("x", 129), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if c.given != "" {
				ctx = withMetadata(t, rpc.RequestIDHeader, c.given)
			}
			var header metadata.MD
			_, err := outer.staff().CreateMember(ctx, ada(), grpc.Header(&header))
			must(t, err)
			ids := header.Get(rpc.RequestIDHeader)
			if len(ids) != 1 || ids[0] == "" || c.want != "" && ids[0] != c.want || c.want == "" && ids[0] == c.given {
				t.Fatalf("got %q", ids)
			}
			testkit.Eventually(t, limit, func() (bool, string) {
				return strings.Contains(inner.log.String(), ids[0]), "the other tier does not log " + ids[0]
			})
		})
	}
}
