package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// Conns is the way to a platform.
type Conns struct {
	// Connections without tokens: each call carries one that Mint made.
	International, Regional, Local grpc.ClientConnInterface
	// Mint makes a bearer token for a person who holds one role on one scope, valid for as long as the load takes.
	// Nobody but its own admins writes a chapter's lists, so that there are as many tokens as chapters.
	Mint func(role authz.Role, scope string) (string, error)
}

// Options says when the federation is loaded, and who hears of it.
type Options struct {
	// Progress is told after each step how far it is; nil for nobody. It is not called twice at once.
	Progress func(done, total int, what string)
	// Now is the day from which terms are counted.
	Now time.Time
}

// workers are the calls that are under way at once.
const workers = 8

// Load makes the demo federation. What is there already stays, so that a load that was interrupted goes on when it is
// started again; a federation that was loaded to the end is not touched. It returns when all lists are counted.
func Load(ctx context.Context, conns Conns, options Options) (Summary, error) {
	p, err := newPlan()
	if err != nil {
		return Summary{}, err
	}
	l := newLoader(p, conns, options)
	summary := p.summary()
	complete, err := l.complete(ctx)
	if err != nil || complete {
		return summary, err
	}
	summary.New = true
	return summary, l.load(ctx)
}

type loader struct {
	plan     plan
	options  Options
	mint     func(role authz.Role, scope string) (string, error)
	members  internationalv1.MemberServiceClient
	standing internationalv1.StandingServiceClient
	charters internationalv1.CharterServiceClient
	regions  regionalv1.RegionServiceClient
	chapters localv1.ChapterServiceClient
	officers localv1.OfficerServiceClient
	lists    localv1.ListServiceClient
	syncs    localv1.SyncServiceClient

	mu     sync.Mutex
	done   int
	total  int
	tokens map[authz.Grant]string
}

func newLoader(p plan, conns Conns, options Options) *loader {
	if options.Progress == nil {
		options.Progress = func(int, int, string) {}
	}
	return &loader{
		plan: p, options: options, mint: conns.Mint,
		members:  internationalv1.NewMemberServiceClient(conns.International),
		standing: internationalv1.NewStandingServiceClient(conns.International),
		charters: internationalv1.NewCharterServiceClient(conns.International),
		regions:  regionalv1.NewRegionServiceClient(conns.Regional),
		chapters: localv1.NewChapterServiceClient(conns.Local),
		officers: localv1.NewOfficerServiceClient(conns.Local),
		lists:    localv1.NewListServiceClient(conns.Local),
		syncs:    localv1.NewSyncServiceClient(conns.Local),
		tokens:   map[authz.Grant]string{},
		total:    len(p.regions) + len(p.members) + 3*len(p.chapters) + 2,
	}
}

// load makes everything: members before lists, since a member who is on no list yet moves no standing.
func (l *loader) load(ctx context.Context) error {
	for _, r := range l.plan.regions { // one by one: a parent comes before its children
		if err := l.createRegion(ctx, r); err != nil {
			return err
		}
		l.step("regions")
	}
	if err := each(ctx, l, "chapters", l.plan.chapters, l.createChapter); err != nil {
		return err
	}
	for _, m := range l.plan.members[:newcomers] { // one by one: the register lists members in the order of their entry
		if err := l.createMember(ctx, m); err != nil {
			return err
		}
		l.step("members")
	}
	if err := each(ctx, l, "members", l.plan.members[newcomers:], l.createMember); err != nil {
		return err
	}
	if err := each(ctx, l, "lists", l.plan.chapters, l.fillLists); err != nil {
		return err
	}
	if err := each(ctx, l, "standings", l.plan.chapters, l.awaitCount); err != nil {
		return err
	}
	return l.applyAndDecide(ctx)
}

// each does something with all items, several at once, and stops at the first failure.
func each[T any](ctx context.Context, l *loader, what string, items []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, item := range items {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(ctx, item); err != nil {
				return err
			}
			l.step(what)
			return nil
		})
	}
	return group.Wait()
}

func (l *loader) step(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	l.options.Progress(l.done, l.total, what)
}

// as returns a context whose calls are made by somebody who holds the role on the scope.
func (l *loader) as(ctx context.Context, role authz.Role, scope string) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	grant := authz.Grant{Role: role, Scope: scope}
	if l.tokens[grant] == "" {
		token, err := l.mint(role, scope)
		if err != nil {
			return nil, fmt.Errorf("token for %s of %s: %w", role, scope, err)
		}
		l.tokens[grant] = token
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+l.tokens[grant]), nil
}

func (l *loader) asStaff(ctx context.Context) (context.Context, error) {
	return l.as(ctx, authz.InternationalStaff, authz.Federation)
}

func (l *loader) asAdmin(ctx context.Context, slug string) (context.Context, error) {
	return l.as(ctx, authz.ChapterAdmin, chapterName(slug))
}

// made is the error of a create, nil where the thing is there already.
func made(err error, what string) error {
	if err == nil || rpc.Is(err, errorv1.Reason_REASON_ALREADY_EXISTS) {
		return nil
	}
	return fmt.Errorf("create %s: %w", what, err)
}

func (l *loader) createRegion(ctx context.Context, r region) error {
	ctx, err := l.asStaff(ctx)
	if err != nil {
		return err
	}
	_, err = l.regions.CreateRegion(ctx, &regionalv1.CreateRegionRequest{
		RegionId: r.id,
		Region:   &regionalv1.Region{DisplayName: r.name, ParentRegion: "regions/" + r.parent, CountryCodes: r.countryCodes},
	})
	return made(err, "regions/"+r.id)
}

func (l *loader) createChapter(ctx context.Context, c chapter) error {
	staff, err := l.asStaff(ctx)
	if err != nil {
		return err
	}
	_, err = l.chapters.CreateChapter(staff, &localv1.CreateChapterRequest{
		ChapterId: c.slug,
		Chapter: &localv1.Chapter{
			DisplayName: c.name, Region: "regions/" + c.region, City: c.city, CountryCode: c.countryCode,
			Latitude: c.latitude, Longitude: c.longitude, Url: c.url,
		},
	})
	if err := made(err, chapterName(c.slug)); err != nil {
		return err
	}
	return l.createLists(ctx, c) // so early that its first version is counted long before the sync, which waits for that
}

func (l *loader) createMember(ctx context.Context, m member) error {
	ctx, err := l.asStaff(ctx)
	if err != nil {
		return err
	}
	given := &internationalv1.Member{DisplayName: m.displayName}
	for _, a := range m.addresses {
		given.Addresses = append(given.Addresses, &internationalv1.Address{Address: a.address, Verified: a.verified})
	}
	if m.termDays > 0 {
		given.TermEndTime = timestamppb.New(l.options.Now.UTC().Truncate(24*time.Hour).AddDate(0, 0, m.termDays))
	}
	_, err = l.members.CreateMember(ctx, &internationalv1.CreateMemberRequest{MemberId: m.id, Member: given})
	if err = made(err, "members/"+m.id); err != nil || !m.resigned {
		return err
	}
	_, err = l.members.ResignMember(ctx, &internationalv1.ResignMemberRequest{Name: "members/" + m.id})
	if err != nil && !rpc.Is(err, errorv1.Reason_REASON_MEMBER_STATE) { // resigned already
		return fmt.Errorf("resign members/%s: %w", m.id, err)
	}
	return nil
}

// complete says whether the last step of a load was done once.
func (l *loader) complete(ctx context.Context) (bool, error) {
	ctx, err := l.asStaff(ctx)
	if err != nil {
		return false, err
	}
	charter, err := l.charters.GetCharter(ctx, &internationalv1.GetCharterRequest{Name: "charters/" + chartered})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the demo is there: %w", err)
	}
	return charter.GetState() != internationalv1.Charter_APPLIED, nil
}
