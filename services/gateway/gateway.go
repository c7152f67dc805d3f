// Package gateway is REST in front of the three gRPC services: routes, headers, errors, uploads, exports and the
// pages that describe the API. It keeps nothing and decides nothing about the domain; the services do.
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"google.golang.org/grpc"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// Deps are what the gateway stands on: a connection to each service, without tokens of its own, since it hands on
// those of its callers.
type Deps struct {
	International grpc.ClientConnInterface
	Regional      grpc.ClientConnInterface
	Local         grpc.ClientConnInterface
	Log           *slog.Logger
	// Registerer takes the gateway's metrics; nil for none.
	Registerer prometheus.Registerer
	// Gatherer is what /metrics shows; the Registerer, where it is one, when nil.
	Gatherer prometheus.Gatherer
	Config   Config
}

type gateway struct {
	cfg     Config
	log     *slog.Logger
	clock   clock.Clock
	meter   *meter
	routes  *routes
	api     *runtime.ServeMux
	pages   map[string]http.Handler
	exports map[string]*export
	syncs   localv1.SyncServiceClient
	lists   localv1.ListServiceClient
	tiers   []tier
	metrics prometheus.Gatherer

	subscriptions localv1.SubscriptionServiceClient
	public        regionalv1.FeedServiceClient
	members       internationalv1.MemberServiceClient
	memberLinks   internationalv1.MemberLinkServiceClient
	imports       internationalv1.MemberImportServiceClient
}

// tier is a service behind the gateway.
type tier struct {
	name string
	conn grpc.ClientConnInterface
}

// New returns the gateway as a handler. The services need not be up: their paths answer 503 until they are.
func New(ctx context.Context, deps Deps) (http.Handler, error) {
	g := &gateway{
		cfg:   deps.Config.withDefaults(),
		log:   deps.Log,
		clock: clock.System{},
		syncs: localv1.NewSyncServiceClient(deps.Local),
		lists: localv1.NewListServiceClient(deps.Local),
		tiers: []tier{{"international", deps.International}, {"regional", deps.Regional}, {"local", deps.Local}},

		subscriptions: localv1.NewSubscriptionServiceClient(deps.Local),
		public:        regionalv1.NewFeedServiceClient(deps.Regional),
		members:       internationalv1.NewMemberServiceClient(deps.International),
		memberLinks:   internationalv1.NewMemberLinkServiceClient(deps.International),
		imports:       internationalv1.NewMemberImportServiceClient(deps.International),
	}
	g.exports = newExports(g.lists, g.syncs, g.members, g.imports)
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.metrics = gathererOf(deps)
	var err error
	if g.meter, err = newMeter(deps.Registerer); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if g.routes, err = newRoutes(services()); err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	if g.pages, err = g.newPages(); err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	if err := g.register(ctx); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return g.observe(g.traced(http.HandlerFunc(g.dispatch))), nil
}

func gathererOf(deps Deps) prometheus.Gatherer {
	if deps.Gatherer != nil {
		return deps.Gatherer
	}
	if gatherer, ok := deps.Registerer.(prometheus.Gatherer); ok {
		return gatherer
	}
	return prometheus.NewRegistry()
}

// register makes the mux and gives it the generated handlers and ours.
func (g *gateway) register(ctx context.Context) error {
	g.api = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonMarshaler()),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(outgoingHeader),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(metadataOf),
		runtime.WithForwardResponseOption(setETag),
		runtime.WithForwardResponseOption(setFile),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			g.fail(w, r, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
			g.fail(w, r, g.unroutable(r, status))
		}),
		runtime.WithMiddlewares(g.admit),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithWriteContentLength(),
	)
	international, regional, local := g.tiers[0].conn, g.tiers[1].conn, g.tiers[2].conn
	for _, register := range []func(context.Context, *runtime.ServeMux) error{
		with(internationalv1.RegisterMemberServiceHandlerClient, g.members),
		with(internationalv1.RegisterOrganizationServiceHandlerClient, internationalv1.NewOrganizationServiceClient(international)),
		with(internationalv1.RegisterErasureServiceHandlerClient, internationalv1.NewErasureServiceClient(international)),
		with(internationalv1.RegisterMemberLinkServiceHandlerClient, g.memberLinks),
		with(internationalv1.RegisterMemberImportServiceHandlerClient, g.imports),
		with(internationalv1.RegisterStandingServiceHandlerClient, internationalv1.NewStandingServiceClient(international)),
		with(internationalv1.RegisterCharterServiceHandlerClient, internationalv1.CharterServiceClient(roomyCharters{internationalv1.NewCharterServiceClient(international)})),
		with(internationalv1.RegisterAnnouncementServiceHandlerClient, internationalv1.NewAnnouncementServiceClient(international)),
		with(internationalv1.RegisterEscalationServiceHandlerClient, internationalv1.NewEscalationServiceClient(international)),
		with(regionalv1.RegisterRegionServiceHandlerClient, regionalv1.NewRegionServiceClient(regional)),
		with(regionalv1.RegisterCoordinatorServiceHandlerClient, regionalv1.NewCoordinatorServiceClient(regional)),
		with(regionalv1.RegisterTransferServiceHandlerClient, regionalv1.NewTransferServiceClient(regional)),
		with(regionalv1.RegisterCaseServiceHandlerClient, regionalv1.NewCaseServiceClient(regional)),
		with(regionalv1.RegisterDigestServiceHandlerClient, regionalv1.NewDigestServiceClient(regional)),
		with(regionalv1.RegisterFeedServiceHandlerClient, g.public),
		with(regionalv1.RegisterRelayServiceHandlerClient, regionalv1.NewRelayServiceClient(regional)),
		with(regionalv1.RegisterRegionalAnnouncementServiceHandlerClient, regionalv1.NewRegionalAnnouncementServiceClient(regional)),
		with(localv1.RegisterChapterServiceHandlerClient, localv1.NewChapterServiceClient(local)),
		with(localv1.RegisterListServiceHandlerClient, g.lists),
		with(localv1.RegisterSyncServiceHandlerClient, g.syncs),
		with(localv1.RegisterSubscriptionServiceHandlerClient, g.subscriptions),
		with(localv1.RegisterConnectorServiceHandlerClient, localv1.NewConnectorServiceClient(local)),
		with(localv1.RegisterInboxServiceHandlerClient, localv1.NewInboxServiceClient(local)),
		with(localv1.RegisterOfficerServiceHandlerClient, localv1.NewOfficerServiceClient(local)),
		with(localv1.RegisterConcernServiceHandlerClient, localv1.NewConcernServiceClient(local)),
	} {
		if err := register(ctx, g.api); err != nil {
			return err
		}
	}
	if err := g.api.HandlePath(http.MethodPost, importPath, g.importMembers); err != nil {
		return err
	}
	return g.api.HandlePath(http.MethodPost, syncsPath, g.createSync)
}

// with binds a generated Register function to its client.
func with[C any](register func(context.Context, *runtime.ServeMux, C) error, client C) func(context.Context, *runtime.ServeMux) error {
	return func(ctx context.Context, mux *runtime.ServeMux) error { return register(ctx, mux, client) }
}

func (g *gateway) traced(next http.Handler) http.Handler {
	if !g.cfg.Tracing {
		return next
	}
	return otelhttp.NewHandler(next, "gateway", otelhttp.WithFilter(traceable))
}

// traceable keeps the links of mails out of traces, whose spans hold paths.
func traceable(r *http.Request) bool {
	for _, links := range []string{linksPath, memberLinksPath, "/v1/subscriptions/", "/v1/memberLinks/"} {
		if strings.HasPrefix(r.URL.Path, links) {
			return false
		}
	}
	return true
}

// dispatch sends a request to the API or to a page. net/http's own mux would redirect unclean paths and answer
// errors in plain text.
func (g *gateway) dispatch(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		g.serveAPI(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, linksPath) {
		g.serveLink(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, feedsPath) {
		g.serveFeed(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, memberLinksPath) {
		g.serveMemberLink(w, r)
		return
	}
	page, ok := g.pages[r.URL.Path]
	if !ok {
		g.fail(w, r, noSuchPath())
		return
	}
	exchangeOf(r.Context()).route = r.URL.Path
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.fail(w, r, methodNotAllowed(http.MethodGet, http.MethodHead))
		return
	}
	page.ServeHTTP(w, r)
}

func (g *gateway) serveAPI(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.RawPath, "%2F") || strings.Contains(r.URL.RawPath, "%2f") {
		// An encoded slash would be a slash to the mux and a part of an id to whatever checks paths in front of us.
		g.fail(w, r, noSuchPath())
		return
	}
	if r.Method == http.MethodHead {
		exchangeOf(r.Context()).headOnly = true
		r = r.Clone(r.Context())
		r.Method = http.MethodGet
	}
	g.api.ServeHTTP(w, r)
}
