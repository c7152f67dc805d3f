package platformtest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

// federation is a running platform as the people in front of it see it: where it answers, and their tokens.
type federation struct {
	rest  string // the gateway's base URL
	conns map[string]*grpc.ClientConn
	keys  platform.Keys
	clock clock.Clock

	members   internationalv1.MemberServiceClient
	bodies    internationalv1.OrganizationServiceClient
	imports   internationalv1.MemberImportServiceClient
	standings internationalv1.StandingServiceClient
	charters  internationalv1.CharterServiceClient
	regions   regionalv1.RegionServiceClient
	chapters  localv1.ChapterServiceClient
	lists     localv1.ListServiceClient
	syncs     localv1.SyncServiceClient
}

func newFederation(t testing.TB, keys platform.Keys, c clock.Clock, rest string, addresses map[string]string) *federation {
	t.Helper()
	f := &federation{rest: rest, keys: keys, clock: c, conns: map[string]*grpc.ClientConn{}}
	for tier, address := range addresses {
		conn := get(platform.Transport{}.Dial(address, nil, false))(t)
		t.Cleanup(func() { _ = conn.Close() })
		f.conns[tier] = conn
	}
	f.members = internationalv1.NewMemberServiceClient(f.conns[bus.International])
	f.bodies = internationalv1.NewOrganizationServiceClient(f.conns[bus.International])
	f.imports = internationalv1.NewMemberImportServiceClient(f.conns[bus.International])
	f.standings = internationalv1.NewStandingServiceClient(f.conns[bus.International])
	f.charters = internationalv1.NewCharterServiceClient(f.conns[bus.International])
	f.regions = regionalv1.NewRegionServiceClient(f.conns[bus.Regional])
	f.chapters = localv1.NewChapterServiceClient(f.conns[bus.Local])
	f.lists = localv1.NewListServiceClient(f.conns[bus.Local])
	f.syncs = localv1.NewSyncServiceClient(f.conns[bus.Local])
	return f
}

// tokenTTL outlasts every clock that a test moves.
const tokenTTL = 10 * 365 * 24 * time.Hour

// token is that of somebody who holds one role; each role and scope is a person of its own.
func (f *federation) token(t testing.TB, role authz.Role, scope string) string {
	t.Helper()
	return get(f.keys.Mint(platform.Person(role, scope, ""), tokenTTL, f.clock.Now()))(t)
}

// as returns ctx with the token of somebody who holds one role.
func (f *federation) as(ctx context.Context, t testing.TB, role authz.Role, scope string) context.Context {
	t.Helper()
	return withToken(ctx, f.token(t, role, scope))
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// staff returns ctx with a token of international staff.
func (f *federation) staff(ctx context.Context, t testing.TB) context.Context {
	t.Helper()
	return f.as(ctx, t, authz.InternationalStaff, "")
}

// admin returns ctx with a token of a chapter's admin.
func (f *federation) admin(ctx context.Context, t testing.TB, chapter string) context.Context {
	t.Helper()
	return f.as(ctx, t, authz.ChapterAdmin, "chapters/"+chapter)
}

// siteKey is the key from which entries have their ids.
func (f *federation) siteKey(t testing.TB) address.SiteKey {
	t.Helper()
	return get(platform.ReadSiteKey(filepath.Join(f.keys.Dir, "site-main.key")))(t)
}

// health says why a tier does not serve, "" when it does.
func (f *federation) health(tier string) string {
	ctx, cancel := context.WithTimeout(context.Background(), attemptLimit)
	defer cancel()
	answer, err := healthv1.NewHealthClient(f.conns[tier]).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return err.Error()
	}
	if state := answer.GetStatus(); state != healthv1.HealthCheckResponse_SERVING {
		return tier + " is " + state.String()
	}
	return ""
}

// found makes chapters in regions/world, each with its members list and a mailing list "announce".
func (f *federation) found(t testing.TB, ids ...string) {
	t.Helper()
	ctx := bounded(t, patience)
	for _, id := range ids {
		_, err := f.chapters.CreateChapter(f.staff(ctx, t), &localv1.CreateChapterRequest{
			ChapterId: id, Chapter: &localv1.Chapter{DisplayName: id, Region: authz.World},
		})
		must(t, err)
		_, err = f.lists.CreateList(f.admin(ctx, t, id), &localv1.CreateListRequest{
			Parent: "chapters/" + id, ListId: "announce", List: &localv1.List{DisplayName: "Announcements"},
		})
		must(t, err)
	}
}
