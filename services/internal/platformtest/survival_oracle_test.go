package platformtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// oracle says what is to be seen of an announcement in the end, from what was acknowledged alone.
type oracle struct {
	c *campaign
	s *spoken
	// states are those of the relays, region by region, and alone which of them nobody forwarded.
	states map[string]internationalv1.RegionReach_State
	alone  map[string]bool
	// chapters are those that have it.
	chapters []string
}

func (c *campaign) oracleOf(s *spoken, now time.Time) *oracle {
	o := &oracle{c: c, s: s, states: map[string]internationalv1.RegionReach_State{}, alone: map[string]bool{}}
	if s.unheard {
		return o
	}
	o.walk("world", internationalv1.RegionReach_FORWARDED, now)
	for chapter, region := range c.home {
		if o.states[region] == internationalv1.RegionReach_FORWARDED {
			o.chapters = append(o.chapters, chapter)
		}
	}
	if s.recalled {
		o.chapters = s.had
		for region := range o.states {
			o.states[region] = internationalv1.RegionReach_RECALLED
		}
	}
	slices.Sort(o.chapters)
	return o
}

func (o *oracle) walk(region string, state internationalv1.RegionReach_State, now time.Time) {
	o.states[region] = state
	if state != internationalv1.RegionReach_FORWARDED {
		return
	}
	for child, parent := range o.c.parents {
		if parent != region {
			continue
		}
		decided, byHand := o.s.verbs[child]
		switch {
		case byHand:
			o.walk(child, decided, now)
		case o.s.urgent, !o.s.recalled && now.After(o.s.deadline):
			o.alone[child] = true
			o.walk(child, internationalv1.RegionReach_FORWARDED, now)
		default:
			o.walk(child, internationalv1.RegionReach_WAITING, now)
		}
	}
}

// complain says what is not as it is to be, yet.
func (o *oracle) complain(t *testing.T) string {
	t.Helper()
	items, complaint := o.inboxes(t)
	if complaint != "" {
		return complaint
	}
	figures, complaint := o.mails(items)
	if complaint != "" {
		return complaint
	}
	return o.reach(t, figures)
}

// inboxes wants each chapter to have it once, or not at all, and in the right edition.
func (o *oracle) inboxes(t *testing.T) (map[string]*localv1.InboxItem, string) {
	t.Helper()
	items := map[string]*localv1.InboxItem{}
	for chapter := range o.c.home {
		item, has := o.c.inbox(t, chapter)[o.s.subject]
		want := slices.Contains(o.chapters, chapter)
		if o.s.recalled && has && !want { // it heard of it a moment before it heard of the recall, and has mailed nothing
			want = item.GetCounts().GetMailed() == 0
		}
		if has != want {
			return nil, fmt.Sprintf("%s has %q: %t, want %t", chapter, o.s.subject, has, want)
		}
		if !has {
			continue
		}
		if item.GetEdition() != o.s.edition || (item.GetState() == localv1.InboxItem_RECALLED) != o.s.recalled {
			return nil, fmt.Sprintf("%s has %v, want edition %d, recalled %t", chapter, item, o.s.edition, o.s.recalled)
		}
		items[chapter] = item
	}
	return items, ""
}

// mails wants one mail a person, and counts them by the region by whose relay the announcement came.
func (o *oracle) mails(items map[string]*localv1.InboxItem) (map[string]*internationalv1.ReachFigures, string) {
	figures, missing := map[string]*internationalv1.ReachFigures{}, map[string]string{}
	for chapter, item := range items {
		of(figures, item).ChaptersReached++
		if !slices.Contains(o.chapters, chapter) {
			continue
		}
		of(figures, item).ChaptersSent++
		for _, reader := range o.c.readers[chapter] {
			missing[reader] = chapter
		}
	}
	for reader, mails := range o.c.mailsOf(o.s) {
		if len(mails) > 1 {
			return nil, fmt.Sprintf("%s has %d mails of %q", reader, len(mails), o.s.subject)
		}
		chapter := strings.Split(mails[0].Header("List-Id"), ".")[1]
		if items[chapter] == nil {
			return nil, fmt.Sprintf("%s has a mail of %q for %s, which has not got it", reader, o.s.subject, chapter)
		}
		delete(missing, reader)
		of(figures, items[chapter]).PeopleMailed++
		if slices.Contains(o.s.leavers, reader) {
			of(figures, items[chapter]).PeopleUnsubscribed++
		}
	}
	for bounced, chapter := range o.s.bounces {
		of(figures, items[chapter]).PeopleBounced++
		delete(missing, bounced)
	}
	if len(missing) > 0 {
		return nil, fmt.Sprintf("no mail of %q for %v", o.s.subject, slices.Sorted(maps.Keys(missing)))
	}
	return figures, ""
}

func of(figures map[string]*internationalv1.ReachFigures, item *localv1.InboxItem) *internationalv1.ReachFigures {
	region := strings.TrimPrefix(item.GetRegion(), "regions/")
	if figures[region] == nil {
		figures[region] = &internationalv1.ReachFigures{}
	}
	return figures[region]
}

// reach wants what the international body shows to be that.
func (o *oracle) reach(t *testing.T, figures map[string]*internationalv1.ReachFigures) string {
	t.Helper()
	ctx := o.c.as(bounded(t, patience), t, authz.Auditor, "")
	got, err := o.c.announcements.GetAnnouncementReach(ctx, &internationalv1.GetAnnouncementReachRequest{Name: o.s.name + "/reach"})
	if err != nil {
		return err.Error()
	}
	total, counts := &internationalv1.ReachFigures{}, map[internationalv1.RegionReach_State]int32{}
	for _, one := range figures {
		addFigures(total, one)
	}
	for _, state := range o.states {
		counts[state]++
	}
	relays := &internationalv1.RelayCounts{
		Waiting: counts[internationalv1.RegionReach_WAITING], Held: counts[internationalv1.RegionReach_HELD],
		Forwarded: counts[internationalv1.RegionReach_FORWARDED], Declined: counts[internationalv1.RegionReach_DECLINED],
		Recalled: counts[internationalv1.RegionReach_RECALLED],
	}
	if o.s.unheard { // it was recalled where it came, or before
		relays.Recalled = got.GetRelays().GetRecalled()
	}
	switch {
	case got.GetEdition() != o.s.edition || !proto.Equal(got.GetTotal(), total):
		return fmt.Sprintf("the reach of %q is of edition %d and in all %v, want %d and %v", o.s.subject, got.GetEdition(), got.GetTotal(), o.s.edition, total)
	case !proto.Equal(got.GetRelays(), relays):
		return fmt.Sprintf("the relays of %q are %v, want %v", o.s.subject, got.GetRelays(), relays)
	}
	for _, top := range got.GetRegions() {
		if complaint := o.region(top, figures); complaint != "" && !o.s.unheard {
			return complaint
		}
	}
	return ""
}

func (o *oracle) region(node *internationalv1.RegionReach, figures map[string]*internationalv1.ReachFigures) string {
	id := strings.TrimPrefix(node.GetRegion(), "regions/")
	want := figures[id]
	if want == nil {
		want = &internationalv1.ReachFigures{}
	}
	switch {
	case node.GetState() != o.states[id] || !o.s.recalled && node.GetAutomatic() != o.alone[id]:
		return fmt.Sprintf("%s of %q is %s, by itself %t; want %s, %t", id, o.s.subject, node.GetState(), node.GetAutomatic(), o.states[id], o.alone[id])
	case node.GetState() == internationalv1.RegionReach_FORWARDED && node.GetEdition() != o.s.edition:
		return fmt.Sprintf("%s has edition %d of %q, want %d", id, node.GetEdition(), o.s.subject, o.s.edition)
	case !proto.Equal(node.GetReach(), want):
		return fmt.Sprintf("%s of %q says %v, want %v", id, o.s.subject, node.GetReach(), want)
	}
	for _, child := range node.GetChildren() {
		if complaint := o.region(child, figures); complaint != "" {
			return complaint
		}
	}
	return ""
}

func addFigures(sum, more *internationalv1.ReachFigures) {
	sum.ChaptersReached += more.GetChaptersReached()
	sum.ChaptersSent += more.GetChaptersSent()
	sum.PeopleMailed += more.GetPeopleMailed()
	sum.PeopleBounced += more.GetPeopleBounced()
	sum.PeopleUnsubscribed += more.GetPeopleUnsubscribed()
}

// settle waits until everything is as it is to be.
func (c *campaign) settle(t *testing.T) {
	t.Helper()
	for _, s := range c.spoken {
		eventually(t, 2*patience, func() string { return c.oracleOf(s, time.Now()).complain(t) })
	}
}
