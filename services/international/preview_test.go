package international

import (
	"fmt"
	"math/rand/v2"
	"testing"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// preview asks, as the chapters' site, what a change of a list would do.
func (w *world) preview(chapter, list string, added, removed []string) (*internationalv1.PreviewStandingResponse, error) {
	w.t.Helper()
	stream, err := internationalv1.NewStandingServiceClient(w.dial(authz.Site, "sites/main")).PreviewStanding(w.t.Context())
	w.must(err)
	change := &internationalv1.PreviewChange{}
	for _, one := range added {
		change.Added = append(change.Added, w.token(one))
	}
	for _, one := range removed {
		change.Removed = append(change.Removed, w.token(one))
	}
	for _, message := range []*internationalv1.PreviewStandingRequest{
		{Part: &internationalv1.PreviewStandingRequest_Header{Header: &internationalv1.PreviewHeader{Site: "sites/main", List: "chapters/" + chapter + "/lists/" + list}}},
		{Part: &internationalv1.PreviewStandingRequest_Change{Change: change}},
	} {
		if stream.Send(message) != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

// TestPreviewComesTrue compares what was predicted with what happens when the change comes, again and again.
func TestPreviewComesTrue(t *testing.T) {
	t.Parallel()
	const members, rounds = 12, 30
	w := setup(t)
	w.chapter("paris")
	for m := range members {
		w.member(fmt.Sprintf("m%d", m), fmt.Sprintf("m%d-0@example.org", m), fmt.Sprintf("m%d-1@example.org", m))
	}
	random := rand.New(rand.NewPCG(3, 4))
	holds := map[string]map[string]bool{"members": {}, "announce": {}, "jobs": {}}
	for range rounds {
		list := []string{"members", "announce", "jobs"}[random.IntN(3)]
		var added, removed []string
		for m := range members + 8 { // eight of them are strangers
			one := fmt.Sprintf("m%d-%d@example.org", m, random.IntN(2))
			if random.IntN(3) > 0 {
				continue
			}
			if holds[list][one] {
				removed = append(removed, one)
			} else {
				added = append(added, one)
			}
			holds[list][one] = !holds[list][one]
		}
		predicted, err := w.preview("paris", list, added, removed)
		w.must(err)
		before := w.standing("paris")
		w.must(w.list("paris", list, added, removed))
		after := w.standing("paris")
		for _, pair := range [][2]*internationalv1.Standing{{predicted.GetBefore(), before}, {predicted.GetAfter(), after}} {
			got, want := pair[0], pair[1]
			if got.GetMembership().String() != want.GetMembership().String() || got.GetMailing().String() != want.GetMailing().String() ||
				got.GetEligible() != want.GetEligible() || got.GetMargin() != want.GetMargin() {
				t.Fatalf("predicted %v, and it is %v", got, want)
			}
		}
	}
}

func TestPreviewIsForTheChaptersOwnSite(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	stream, err := internationalv1.NewStandingServiceClient(w.dial(authz.Site, "sites/other")).PreviewStanding(t.Context())
	w.must(err)
	_ = stream.Send(&internationalv1.PreviewStandingRequest{Part: &internationalv1.PreviewStandingRequest_Header{
		Header: &internationalv1.PreviewHeader{Site: "sites/main", List: "chapters/paris/lists/members"},
	}})
	_, err = stream.CloseAndRecv()
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = w.preview("nowhere", "members", nil, nil)
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestPreviewIsRateLimited(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.PreviewRate, c.PreviewBurst = 1e-9, 1 })
	w.chapter("paris")
	_, err := w.preview("paris", "members", nil, nil)
	w.must(err)
	_, err = w.preview("paris", "members", nil, nil)
	refuses(t, err, errorv1.Reason_REASON_RATE_LIMITED)
}
