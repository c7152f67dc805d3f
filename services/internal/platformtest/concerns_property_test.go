package platformtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// correspondence is a history of concerns, and what those who wrote it were told of.
type correspondence struct {
	t           *testing.T
	rng         *rand.Rand
	concerns    localv1.ConcernServiceClient
	cases       regionalv1.CaseServiceClient
	escalations internationalv1.EscalationServiceClient
	admins      map[string]context.Context
	coordinates context.Context //nolint:containedctx // the caller of each role, made once
	staffed     context.Context //nolint:containedctx // likewise

	// raised are the names of cases by the concerns that led to them, in order.
	raised    []*localv1.Concern
	withdrawn map[string]bool
	places    []string // all names of cases, and of what lies with the international body
	leads     map[string]string
	answers   map[string][]string // by where they were given
	written   int
	done      atomic.Int64
}

// TestEveryAnswerArrivesOnce writes a random history while messages between all tiers are lost, doubled and reordered,
// and compares what each chapter hears with what was acknowledged.
func TestEveryAnswerArrivesOnce(t *testing.T) {
	t.Parallel()
	h := build(t)
	c := h.correspond(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	c.rng = rand.New(rand.NewPCG(seed, 1))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				c.write()
			}
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 2))
	ways := []*meddler{
		h.meddleWith(bus.Regional, bus.Local), h.meddleWith(bus.Local, bus.Regional),
		h.meddleWith(bus.International, bus.Regional), h.meddleWith(bus.Regional, bus.International),
	}
	for range 3 {
		for _, way := range ways {
			way.scramble(rng, 200*time.Millisecond)
		}
	}
	close(stop)
	<-stopped
	if c.done.Load() < 100 {
		t.Errorf("only %d calls were answered: the test shows little", c.done.Load())
	}
	c.settled()
}

func (h *house) correspond(t *testing.T) *correspondence {
	t.Helper()
	ctx := bounded(t, 5*time.Minute)
	c := &correspondence{
		t: t, concerns: localv1.NewConcernServiceClient(h.conns[bus.Local]), cases: regionalv1.NewCaseServiceClient(h.conns[bus.Regional]),
		escalations: internationalv1.NewEscalationServiceClient(h.conns[bus.International]), admins: map[string]context.Context{},
		coordinates: h.as(ctx, t, authz.Coordinator, authz.World), staffed: h.staff(ctx, t),
		withdrawn: map[string]bool{}, leads: map[string]string{}, answers: map[string][]string{},
	}
	for id, parent := range map[string]string{"europe": authz.World, "asia": authz.World} {
		get(h.regions.CreateRegion(c.staffed, &regionalv1.CreateRegionRequest{RegionId: id, Region: &regionalv1.Region{DisplayName: id, ParentRegion: parent}}))(t)
	}
	get(h.regions.CreateRegion(c.staffed, &regionalv1.CreateRegionRequest{RegionId: "france", Region: &regionalv1.Region{DisplayName: "France", ParentRegion: "regions/europe"}}))(t)
	for chapter, region := range map[string]string{"paris": "france", "lyon": "france", "berlin": "europe", "tokyo": "asia"} {
		get(h.chapters.CreateChapter(c.staffed, &localv1.CreateChapterRequest{
			ChapterId: chapter, Chapter: &localv1.Chapter{DisplayName: chapter, Region: "regions/" + region},
		}))(t)
		c.admins["chapters/"+chapter] = h.admin(ctx, t, chapter)
	}
	return c
}

// write makes one call. What is refused, because it is too early or too late, is refused.
func (c *correspondence) write() {
	switch n := c.rng.IntN(100); {
	case n < 30 || len(c.raised) == 0:
		c.raise()
	case n < 55:
		c.answer(c.places[c.rng.IntN(len(c.places))])
	case n < 70:
		c.merge(c.places[c.rng.IntN(len(c.places))], c.places[c.rng.IntN(len(c.places))])
	case n < 85:
		c.escalate(c.places[c.rng.IntN(len(c.places))])
	case n < 95:
		c.join()
	default:
		c.withdraw()
	}
}

// answered counts a call, and reports what is no refusal.
func (c *correspondence) answered(err error) bool {
	switch status.Code(err) {
	case codes.OK:
		c.done.Add(1)
		return true
	case codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument, codes.AlreadyExists:
		return false
	default:
		c.t.Error(err)
		return false
	}
}

func (c *correspondence) chapter() string {
	return slices.Sorted(maps.Keys(c.admins))[c.rng.IntN(len(c.admins))]
}

func (c *correspondence) raise() {
	chapter := c.chapter()
	got, err := c.concerns.CreateConcern(c.admins[chapter], &localv1.CreateConcernRequest{
		Parent: chapter, Concern: &localv1.Concern{Subject: "A concern", Shared: c.rng.IntN(2) == 0},
	})
	c.keep(got, err)
}

func (c *correspondence) join() {
	chapter := c.chapter()
	got, err := c.concerns.JoinConcern(c.admins[chapter], &localv1.JoinConcernRequest{
		Parent: chapter, Concern: c.raised[c.rng.IntN(len(c.raised))].GetCase(),
	})
	c.keep(got, err)
}

func (c *correspondence) keep(concern *localv1.Concern, err error) {
	if c.answered(err) {
		c.raised = append(c.raised, concern)
		c.places = append(c.places, concern.GetCase())
	}
}

func (c *correspondence) answer(place string) {
	c.written++
	body := fmt.Sprintf("answer %d", c.written)
	var err error
	if strings.HasPrefix(place, "concerns/") {
		_, err = c.escalations.AnswerEscalation(c.staffed, &internationalv1.AnswerEscalationRequest{Name: place, Body: body})
	} else {
		_, err = c.cases.AnswerCase(c.coordinates, &regionalv1.AnswerCaseRequest{Name: place, Body: body})
	}
	if c.answered(err) {
		c.answers[place] = append(c.answers[place], body)
	}
}

func (c *correspondence) merge(name, into string) {
	if strings.HasPrefix(name, "concerns/") || strings.HasPrefix(into, "concerns/") {
		return
	}
	got, err := c.cases.MergeCase(c.coordinates, &regionalv1.MergeCaseRequest{Name: name, Into: into})
	if c.answered(err) {
		c.leads[name] = got.GetMergedInto()
	}
}

func (c *correspondence) escalate(name string) {
	if strings.HasPrefix(name, "concerns/") {
		return
	}
	got, err := c.cases.EscalateCase(c.coordinates, &regionalv1.EscalateCaseRequest{Name: name, Summary: "Higher."})
	if c.answered(err) {
		c.leads[name] = got.GetEscalatedTo()
		c.places = append(c.places, got.GetEscalatedTo())
	}
}

func (c *correspondence) withdraw() {
	concern := c.raised[c.rng.IntN(len(c.raised))]
	chapter := concern.GetName()[:strings.Index(concern.GetName(), "/concerns/")]
	if _, err := c.concerns.WithdrawConcern(c.admins[chapter], &localv1.WithdrawConcernRequest{Name: concern.GetName()}); c.answered(err) {
		c.withdrawn[concern.GetName()] = true
	}
}

// settled waits until every chapter has heard all that was answered on the way of its concern, each once.
func (c *correspondence) settled() {
	c.t.Helper()
	heard, ends := 0, map[string]int{}
	for _, concern := range c.raised {
		chapter := concern.GetName()[:strings.Index(concern.GetName(), "/concerns/")]
		eventually(c.t, patience, func() string {
			got, err := c.concerns.GetConcern(c.admins[chapter], &localv1.GetConcernRequest{Name: concern.GetName()})
			if err != nil {
				return err.Error()
			}
			var answers []string
			for _, answer := range got.GetAnswers() {
				answers = append(answers, answer.GetBody())
			}
			want, end := c.wanted(concern)
			slices.Sort(answers)
			if !slices.Equal(answers, want) || (got.GetState() == localv1.Concern_WITHDRAWN) != c.withdrawn[concern.GetName()] || got.GetLiesWith() != end {
				return fmt.Sprintf("%s is %s with %s and hears %q; it should lie with %s and hear %q", concern.GetName(), got.GetState(), got.GetLiesWith(), answers, end, want)
			}
			heard += len(want)
			ends[end]++
			return ""
		})
	}
	c.t.Logf("%d calls; %d concerns lie with %v and heard %d answers", c.done.Load(), len(c.raised), ends, heard)
	if heard == 0 || len(ends) < 3 {
		c.t.Error("the test shows little")
	}
}

// wanted is what was answered on a concern's way, sorted, and with whom it ends.
func (c *correspondence) wanted(concern *localv1.Concern) (answers []string, end string) {
	place := concern.GetCase()
	if concern.GetJoins() != "" && c.leads[place] == "" {
		// Whether it was in time to join, the region decides; it is always there.
		if got, err := c.cases.GetCase(c.coordinates, &regionalv1.GetCaseRequest{Name: place}); err == nil && got.GetMergedInto() != "" {
			c.leads[place] = got.GetMergedInto()
		}
	}
	answers = []string{}
	for ; place != ""; place = c.leads[place] {
		answers = append(answers, c.answers[place]...)
		end = "international"
		if region, _, ok := strings.Cut(place, "/concerns/"); ok {
			end = region
		}
	}
	slices.Sort(answers)
	return answers, end
}
