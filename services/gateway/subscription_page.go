package gateway

import (
	"bytes"
	"context"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// The links in mails of a list lead to these pages. The link is the permission, so it stands in no log, metric or trace,
// and no cache or other site gets to know it. GET changes nothing, because programs that look into mail follow links; POST
// does, from the page's button or from a mail program (RFC 8058).

const (
	linksPath = "/s/"
	linkRoute = "/s/{link}"
	// maxFormBytes is many times what the page's form and a mail program send.
	maxFormBytes = 8 << 10
	linkPolicy   = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

	actionLeave   = "leave"
	actionReturn  = "return"
	actionConfirm = "confirm"
)

var (
	linkPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{20,400}$`)
	linkTemplate = template.Must(template.ParseFS(pageFiles, "pages/subscription.html"))
)

// view is what a page shows.
type view struct {
	Show         string // which of the template's parts
	Title        string
	Subscription *localv1.Subscription // nil on a page that says what went wrong, and on one of the register
	Link         *internationalv1.MemberLink
	Until        string // how long the link works

	Text, Remedy, RequestID string
	Again                   bool // the page itself may show more
}

// serveLink answers everything below /s/.
func (g *gateway) serveLink(w http.ResponseWriter, r *http.Request) {
	nameSpan(r, linkRoute)
	subscription, action, err := g.followLink(w, r)
	if err != nil {
		g.failLink(w, r, err)
		return
	}
	g.showLink(w, r, http.StatusOK, viewOf(subscription, action))
}

// followLink does what the request asks for, and says what that was: nothing for GET.
func (g *gateway) followLink(w http.ResponseWriter, r *http.Request) (subscription *localv1.Subscription, action string, err error) {
	link := strings.TrimPrefix(r.URL.Path, linksPath)
	if !linkPattern.MatchString(link) {
		return nil, "", rpc.NotFound(errorv1.Reason_REASON_LINK_INVALID, "the link is not one of ours")
	}
	ctx, cancel := g.linkContext(r)
	defer cancel()
	name := "subscriptions/" + link
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		subscription, err = g.subscriptions.GetSubscription(ctx, &localv1.GetSubscriptionRequest{Name: name})
		return subscription, "", err
	case http.MethodPost:
		sent, err := readForm(w, r)
		if err != nil {
			return nil, "", err
		}
		return g.act(ctx, name, sent)
	}
	return nil, "", methodNotAllowed(http.MethodGet, http.MethodHead, http.MethodPost)
}

// linkContext hands on nothing of the request but its id: whoever has the link needs no token, and a token adds nothing
// to it.
func (g *gateway) linkContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx := metadata.NewOutgoingContext(r.Context(), metadata.Pairs(rpc.RequestIDHeader, rpc.RequestID(r.Context())))
	return context.WithTimeout(ctx, g.cfg.RequestTimeout)
}

func (g *gateway) act(ctx context.Context, name string, sent url.Values) (subscription *localv1.Subscription, action string, err error) {
	oneClick := sent.Get("List-Unsubscribe") == "One-Click"
	if action = sent.Get("action"); oneClick {
		action = actionLeave
	}
	switch action {
	case actionLeave:
		subscription, err = g.subscriptions.LeaveSubscription(ctx, &localv1.LeaveSubscriptionRequest{Name: name, OneClick: oneClick})
	case actionReturn:
		subscription, err = g.subscriptions.RequestSubscription(ctx, &localv1.RequestSubscriptionRequest{Name: name})
	case actionConfirm:
		subscription, err = g.subscriptions.ConfirmSubscription(ctx, &localv1.ConfirmSubscriptionRequest{Name: name})
	default:
		err = rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "action", "must be leave, return or confirm")
	}
	return subscription, action, err
}

// readForm reads a short form. Mail programs may send either kind (RFC 8058, 3.2).
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (media != mediaForm && media != "application/x-www-form-urlencoded") {
		return nil, unsupportedMedia("send a form: application/x-www-form-urlencoded or multipart/form-data")
	}
	if r.ContentLength > maxFormBytes {
		return nil, tooLarge(maxFormBytes)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxFormBytes+1))
	if err != nil {
		return nil, interrupted(err)
	}
	if len(body) > maxFormBytes {
		return nil, tooLarge(maxFormBytes)
	}
	unhurried(w)
	if media == mediaForm {
		return readParts(body, params["boundary"])
	}
	sent, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, brokenForm(err)
	}
	return sent, nil
}

func readParts(body []byte, boundary string) (url.Values, error) {
	sent, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(maxFormBytes)
	if err != nil {
		return nil, brokenForm(err)
	}
	defer func() { _ = sent.RemoveAll() }() // so short a form has no files
	return sent.Value, nil
}

// viewOf chooses the page by what the link is for, how things stand, and what was done just now.
func viewOf(subscription *localv1.Subscription, action string) view {
	page := view{Subscription: subscription}
	page.Until = until(subscription.GetExpireTime())
	confirms := subscription.GetPurpose() == localv1.Subscription_CONFIRM
	switch state := subscription.GetState(); {
	case action == actionReturn:
		page.Show, page.Title = "asked", "Look into your mail"
	case confirms && state == localv1.Entry_SUBSCRIBED:
		page.Show, page.Title = "member", "You are on this list"
	case confirms && action != actionLeave:
		page.Show, page.Title = "confirm", "Join this list?"
	case state == localv1.Entry_UNSUBSCRIBED:
		page.Show, page.Title = "left", "You have left this list"
	case state == localv1.Entry_BOUNCED:
		page.Show, page.Title = "bounced", "You get no mail of this list"
	case state == localv1.Entry_STATE_UNSPECIFIED:
		page.Show, page.Title = "gone", "You are not on this list"
	default:
		page.Show, page.Title = "leave", "Leave this list?"
	}
	return page
}

// until is a time as people read it, empty for none.
func until(expire *timestamppb.Timestamp) string {
	if expire == nil {
		return ""
	}
	return expire.AsTime().Format("2 January 2006, 15:04 UTC")
}

// failLink says to a person what went wrong and what to do.
func (g *gateway) failLink(w http.ResponseWriter, r *http.Request, err error) {
	problem := g.problemOf(r, err)
	exchangeOf(r.Context()).reason = problem.reason
	for name, values := range problem.header {
		w.Header()[name] = values
	}
	page := apology(problem)
	if problem.Status >= http.StatusInternalServerError {
		page.RequestID = rpc.RequestID(r.Context())
	}
	g.showLink(w, r, problem.Status, page)
}

func apology(problem *problem) view {
	switch problem.reason {
	case nameOf(errorv1.Reason_REASON_LINK_INVALID):
		return view{
			Title: "This link does not work", Text: "It is not complete, or its time is over: a link to confirm works for a week.",
			Remedy: "Copy the whole link out of the mail, also where it goes on in the next line, or use the link in a newer mail of the list. " +
				"If that does not help, write to the people who run your chapter.",
		}
	case nameOf(errorv1.Reason_REASON_MEMBER_LINK_INVALID):
		return view{
			Title: "This link does not work", Text: "It is not complete, its time is over, or what it was about is gone: a link works for a week.",
			Remedy: "Copy the whole link out of the mail, also where it goes on in the next line, or ask for a new one where you keep your membership.",
		}
	case nameOf(errorv1.Reason_REASON_ADDRESS_TAKEN):
		return view{
			Title: "This address is somebody's already", Text: "Another member has confirmed it before.",
			Remedy: "If both memberships are yours, ask the international body to make them one.",
		}
	case nameOf(errorv1.Reason_REASON_ENTRY_STATE):
		return view{
			Title: "That is not possible now", Text: "Something has changed since the page was opened, or the link is older than your last decision.",
			Remedy: "Nothing was changed. Open the page again to see how things stand, or use the link in the newest mail.", Again: true,
		}
	case nameOf(errorv1.Reason_REASON_RATE_LIMITED):
		return view{
			Title: "That was asked for a moment ago", Text: "A mail was sent already; another one is sent after an hour at the earliest.",
			Remedy: "Look into your mail, also into the folder for spam.",
		}
	}
	if problem.Status >= http.StatusInternalServerError {
		return view{
			Title: "That does not work at the moment", Text: "It is our fault, and not yours.",
			Remedy: "Try again in a few minutes; the link stays as it is.", Again: true,
		}
	}
	return view{
		Title: "That was not understood", Text: "What arrived here is not what the buttons of this page send.",
		Remedy: "Nothing was changed. Open the page again, and use its buttons.", Again: true,
	}
}

func (g *gateway) showLink(w http.ResponseWriter, r *http.Request, status int, page view) {
	var body bytes.Buffer
	if err := linkTemplate.Execute(&body, page); err != nil {
		g.log.ErrorContext(r.Context(), "page", "request_id", rpc.RequestID(r.Context()), "cause", err.Error())
		g.fail(w, r, internal(r))
		return
	}
	w.Header().Set("Content-Security-Policy", linkPolicy)
	w.Header().Set("X-Robots-Tag", "noindex, nofollow")
	writeStatus(w, status, mediaHTML, body.Bytes())
}
