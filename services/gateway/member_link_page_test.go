package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const memberLinkPath = "/m/" + link

// knowsLink lets the international service know a link, and returns what was done by it.
func (w *world) knowsLink(about *internationalv1.MemberLink) *[]string {
	var deeds []string
	about.ExpireTime = timestamppb.New(time.Date(2026, 12, 2, 9, 5, 0, 0, time.UTC))
	on(w, internationalv1.MemberLinkService_GetMemberLink_FullMethodName, func(context.Context, *internationalv1.GetMemberLinkRequest) (*internationalv1.MemberLink, error) {
		return about, nil
	})
	on(w, internationalv1.MemberLinkService_ConfirmMemberLink_FullMethodName, func(_ context.Context, r *internationalv1.ConfirmMemberLinkRequest) (*internationalv1.MemberLink, error) {
		deeds = append(deeds, r.GetName())
		about.Confirmed = true
		return about, nil
	})
	return &deeds
}

func TestMemberLinkPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		link               *internationalv1.MemberLink
		asks, done, detail string
	}{
		"Address": {
			&internationalv1.MemberLink{Purpose: internationalv1.MemberLink_VERIFY_ADDRESS, MaskedAddress: "a…@example.org"},
			"Is this address yours?", "Your address is confirmed", "a…@example.org",
		},
		"Seat": {
			&internationalv1.MemberLink{Purpose: internationalv1.MemberLink_TAKE_SEAT, OrganizationDisplayName: "A & <dates>"},
			"Take this seat?", "You have the seat", "A &amp; &lt;dates&gt;",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			deeds := w.knowsLink(c.link)
			seen := w.do(http.MethodGet, memberLinkPath, "", "Authorization: Bearer abc")
			seen.wantPage(t, http.StatusOK, c.asks, "confirm")
			if !strings.Contains(seen.body, c.detail) || !strings.Contains(seen.body, "2 December 2026") {
				t.Errorf("the page: %s", seen.body)
			}
			if md := w.lastCall().metadata; len(md.Get("authorization")) > 0 {
				t.Errorf("metadata: %v", md)
			}
			if len(*deeds) > 0 {
				t.Errorf("GET does %q", *deeds)
			}
			w.do(http.MethodPost, memberLinkPath, "action=confirm", asForm).wantPage(t, http.StatusOK, c.done)
			if len(*deeds) != 1 || (*deeds)[0] != "memberLinks/"+link {
				t.Errorf("done: %q", *deeds)
			}
			w.do(http.MethodPost, memberLinkPath, "action=leave", asForm).wantPage(t, http.StatusBadRequest, "That was not understood")
			w.do(http.MethodDelete, memberLinkPath, "").wantPage(t, http.StatusMethodNotAllowed, "That was not understood")
			w.do(http.MethodGet, "/m/short", "").wantPage(t, http.StatusNotFound, "This link does not work")
			if strings.Contains(w.log.String(), link) {
				t.Errorf("the link is logged: %s", w.log)
			}
		})
	}
}

func TestMemberLinkPagesOfErrors(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for reason, title := range map[errorv1.Reason]string{
		errorv1.Reason_REASON_MEMBER_LINK_INVALID: "This link does not work",
		errorv1.Reason_REASON_ADDRESS_TAKEN:       "This address is somebody's already",
	} {
		on(w, internationalv1.MemberLinkService_GetMemberLink_FullMethodName, func(context.Context, *internationalv1.GetMemberLinkRequest) (*internationalv1.MemberLink, error) {
			return nil, rpc.Precondition(reason, "no")
		})
		got := w.do(http.MethodGet, memberLinkPath, "")
		if got.status != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(got.body, "&#39;", "'"), "<h1>"+title+"</h1>") {
			t.Errorf("%s: %d %s", reason, got.status, got.body)
		}
	}
}
