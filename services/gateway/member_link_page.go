package gateway

import (
	"net/http"
	"strings"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// The links in mails of the register lead to these pages, as those of lists lead to the pages of subscription_page.go.

const (
	memberLinksPath = "/m/"
	memberLinkRoute = "/m/{link}"
)

// serveMemberLink answers everything below /m/.
func (g *gateway) serveMemberLink(w http.ResponseWriter, r *http.Request) {
	nameSpan(r, memberLinkRoute)
	link, err := g.followMemberLink(w, r)
	if err != nil {
		g.failLink(w, r, err)
		return
	}
	g.showLink(w, r, http.StatusOK, memberView(link))
}

// followMemberLink looks for GET, and confirms for POST.
func (g *gateway) followMemberLink(w http.ResponseWriter, r *http.Request) (*internationalv1.MemberLink, error) {
	link := strings.TrimPrefix(r.URL.Path, memberLinksPath)
	if !linkPattern.MatchString(link) {
		return nil, rpc.NotFound(errorv1.Reason_REASON_MEMBER_LINK_INVALID, "the link is not one of ours")
	}
	ctx, cancel := g.linkContext(r)
	defer cancel()
	name := "memberLinks/" + link
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return g.memberLinks.GetMemberLink(ctx, &internationalv1.GetMemberLinkRequest{Name: name})
	case http.MethodPost:
		sent, err := readForm(w, r)
		if err != nil {
			return nil, err
		}
		if sent.Get("action") != actionConfirm {
			return nil, rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "action", "must be confirm")
		}
		return g.memberLinks.ConfirmMemberLink(ctx, &internationalv1.ConfirmMemberLinkRequest{Name: name})
	}
	return nil, methodNotAllowed(http.MethodGet, http.MethodHead, http.MethodPost)
}

// memberView chooses the page by what the link is for and how things stand.
func memberView(link *internationalv1.MemberLink) view {
	page := view{Link: link, Until: until(link.GetExpireTime())}
	switch seat := link.GetPurpose() == internationalv1.MemberLink_TAKE_SEAT; {
	case seat && link.GetConfirmed():
		page.Show, page.Title = "seated", "You have the seat"
	case seat:
		page.Show, page.Title = "seat", "Take this seat?"
	case link.GetConfirmed():
		page.Show, page.Title = "verified", "Your address is confirmed"
	default:
		page.Show, page.Title = "verify", "Is this address yours?"
	}
	return page
}
