package rpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	unauthenticated = errorv1.Reason_REASON_UNAUTHENTICATED
	denied          = errorv1.Reason_REASON_PERMISSION_DENIED
	invalidField    = errorv1.Reason_REASON_INVALID_FIELD
	tierUnavailable = errorv1.Reason_REASON_TIER_UNAVAILABLE
)

func TestUnauthenticatedComesFirst(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil))
	expired := w.token(authz.InternationalStaff, authz.Federation)
	w.clock.Advance(30 * time.Minute)
	good := w.token(authz.InternationalStaff, authz.Federation)
	w.clock.Advance(31 * time.Minute)

	client := internationalv1.NewMemberServiceClient(w.as("", ""))
	for name, pairs := range map[string][]string{
		"NoToken":    nil,
		"Empty":      {"authorization", ""},
		"NoScheme":   {"authorization", good},
		"Basic":      {"authorization", "Basic " + good},
		"Garbage":    {"authorization", "Bearer garbage"},
		"Expired":    {"authorization", "Bearer " + expired},
		"TwoTokens":  {"authorization", "Bearer " + good, "authorization", "Bearer " + good},
		"TwoInAWord": {"authorization", "Bearer " + good + " " + good},
	} {
		t.Run(name, func(t *testing.T) {
			invalid := &internationalv1.CreateMemberRequest{}
			_, err := client.CreateMember(withMetadata(t, pairs...), invalid)
			wantError(t, err, codes.Unauthenticated, unauthenticated)
		})
	}
	_, err := client.CreateMember(withMetadata(t, "authorization", "bearer "+good), ada())
	must(t, err)
}

func TestDeniedBeforeTheRequestIsJudged(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil))
	client := internationalv1.NewMemberServiceClient(w.as(authz.ChapterAdmin, "chapters/golang-paris"))
	_, err := client.CreateMember(t.Context(), &internationalv1.CreateMemberRequest{})
	wantError(t, err, codes.PermissionDenied, denied)
	if info := rpc.InfoOf(err); info.GetMetadata()["permission"] != "members.create" || info.GetMetadata()["scope"] != authz.Federation {
		t.Errorf("got %v", info)
	}
}

func TestHandlerKnowsTheCaller(t *testing.T) {
	t.Parallel()
	callers := make(chan authz.Principal, 1)
	w := setup(t, &service{createMember: func(ctx context.Context, _ *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		callers <- authz.FromContext(ctx)
		if mayVerify, err := authz.Can(ctx, "addresses.verify", ""); err != nil || !mayVerify {
			return nil, errors.New("staff may verify")
		}
		return &internationalv1.Member{}, nil
	}})
	_, err := w.staff().CreateMember(t.Context(), ada())
	must(t, err)
	if caller := received(t, callers); caller.Subject != "international_staff of federation" {
		t.Errorf("got %+v", caller)
	}
}

// site keeps one chapter, golang-paris in europe; its lookup fails with err where that is set.
type site struct{ err error }

func (s site) Ancestors(_ context.Context, scope string) ([]string, error) {
	if s.err == nil && scope == "chapters/golang-paris" {
		return []string{"regions/europe", "regions/world", "sites/west"}, nil
	}
	return nil, s.err
}

func TestScope(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{getSync: func(_ context.Context, req *localv1.GetSyncRequest) (*localv1.Sync, error) {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "no sync %s", req.GetName())
	}}, func(cfg *rpc.ServerConfig) { cfg.Hierarchy = site{} })

	const ours, others = "chapters/golang-paris/lists/members/syncs/1", "chapters/rust-tokyo/lists/members/syncs/1"
	admin, staff := w.paris(), localv1.NewSyncServiceClient(w.as(authz.InternationalStaff, authz.Federation))
	_, err := admin.GetSync(t.Context(), &localv1.GetSyncRequest{Name: ours})
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	_, err = admin.GetSync(t.Context(), &localv1.GetSyncRequest{Name: others})
	wantError(t, err, codes.PermissionDenied, denied)
	_, err = staff.GetSync(t.Context(), &localv1.GetSyncRequest{Name: ours})
	wantError(t, err, codes.PermissionDenied, denied)
}

func TestMisnamedScope(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{})
	malformed := &localv1.GetSyncRequest{Name: "chapters/Golang Paris/lists/members/syncs/1"}

	t.Run("SaysSoToWhoHoldsThePermission", func(t *testing.T) {
		t.Parallel()
		_, err := w.paris().GetSync(t.Context(), malformed)
		wantError(t, err, codes.InvalidArgument, invalidField)
	})
	t.Run("SaysNothingToOthers", func(t *testing.T) {
		t.Parallel()
		_, err := localv1.NewSyncServiceClient(w.as(authz.Auditor, authz.Federation)).GetSync(t.Context(), malformed)
		wantError(t, err, codes.PermissionDenied, denied)
	})
}

func TestRegionCoversWhatLiesBelow(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{}, func(cfg *rpc.ServerConfig) { cfg.Hierarchy = site{} })
	lists := func(region, chapter string) error {
		client := localv1.NewListServiceClient(w.as(authz.Coordinator, region))
		_, err := client.ListLists(t.Context(), &localv1.ListListsRequest{Parent: "chapters/" + chapter})
		return err
	}
	must(t, lists("regions/europe", "golang-paris"))
	must(t, lists("regions/world", "golang-paris"))
	notYours, notThere := lists("regions/asia", "golang-paris"), lists("regions/asia", "golang-nowhere")
	wantError(t, notYours, codes.PermissionDenied, denied)
	wantError(t, notThere, codes.PermissionDenied, denied)
	same := strings.ReplaceAll(notThere.Error(), "golang-nowhere", "golang-paris")
	if notYours.Error() != same {
		t.Errorf("%v\ntells apart from\n%v", notYours, notThere)
	}
}

func TestHierarchyOutOfReach(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{}, func(cfg *rpc.ServerConfig) { cfg.Hierarchy = site{err: errors.New("connection refused")} })
	client := localv1.NewListServiceClient(w.as(authz.Coordinator, "regions/europe"))
	_, err := client.ListLists(t.Context(), &localv1.ListListsRequest{Parent: "chapters/golang-paris"})
	wantError(t, err, codes.Unavailable, tierUnavailable)
}

func TestTokenCannotBeChecked(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil), func(cfg *rpc.ServerConfig) { cfg.Verifier = outOfReach{} })
	_, err := w.staff().CreateMember(t.Context(), ada())
	wantError(t, err, codes.Unavailable, tierUnavailable)
}

type outOfReach struct{}

func (outOfReach) Verify(context.Context, string) (authz.Principal, error) {
	return authz.Principal{}, errors.New("issuer does not answer")
}

func TestHealthAndReflectionArePublic(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{})
	conn := w.as("", "")
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	must(t, err)
	must(t, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	answer, err := stream.Recv()
	must(t, err)
	if len(answer.GetListServicesResponse().GetService()) < 3 {
		t.Errorf("got %v", answer)
	}
}

func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	w := setup(t, &service{})
	_, err := w.staff().CreateMember(t.Context(), ada())
	wantError(t, err, codes.Unimplemented, errorv1.Reason_REASON_UNKNOWN_ROUTE)
	err = w.as("", "").Invoke(t.Context(), "/chapterhouse.local.v1.SyncService/Unheard", &emptypb.Empty{}, &emptypb.Empty{})
	wantError(t, err, codes.Unimplemented, errorv1.Reason_REASON_UNKNOWN_ROUTE)
}

func TestServerRefusesToStart(t *testing.T) {
	t.Parallel()
	cfg := rpc.ServerConfig{Verifier: outOfReach{}}
	_, err := rpc.NewServer(cfg, func(s *grpc.Server) {
		grpc_testing.RegisterTestServiceServer(s, grpc_testing.UnimplementedTestServiceServer{})
	})
	if err == nil || !strings.Contains(err.Error(), "EmptyCall") || !strings.Contains(err.Error(), "FullDuplexCall") {
		t.Errorf("methods without a rule: %v", err)
	}
	if _, err := rpc.NewServer(rpc.ServerConfig{}, func(*grpc.Server) {}); err == nil {
		t.Error("starts without a verifier")
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(&internationalv1.Member{}, nil))
	_, err := w.staff().CreateMember(t.Context(), &internationalv1.CreateMemberRequest{
		MemberId: "Not An Id",
		Member: &internationalv1.Member{
			Addresses: []*internationalv1.Address{{Address: "ada@example.org"}, {Address: ""}},
		},
	})
	wantError(t, err, codes.InvalidArgument, invalidField)
	violations := rpc.ViolationsOf(err)
	for _, path := range []string{"memberId", "member.displayName", "member.addresses[1].address"} {
		if violations[path] == "" {
			t.Errorf("no violation at %s: %v", path, violations)
		}
	}
	if message := status.Convert(err).Message(); !strings.Contains(message, ": ") {
		t.Errorf("the message names no field: %s", message)
	}
	_, err = w.staff().CreateMember(t.Context(), &internationalv1.CreateMemberRequest{})
	wantError(t, err, codes.InvalidArgument, invalidField)
	if rpc.ViolationsOf(err)["member"] == "" {
		t.Errorf("got %v", rpc.ViolationsOf(err))
	}
}
