package platformtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// TestCascadesSurvive takes announcements through outages, with each tier a process of its own and people's mail in a real
// sink. In the end each chapter has each announcement once and as it is now, each person one mail, and the reach is what
// an oracle says that knows acknowledged calls and the sink alone.
func TestCascadesSurvive(t *testing.T) {
	t.Parallel()
	t.Run("ARegionalTierKilledInTheMiddle", func(t *testing.T) {
		t.Parallel()
		c := surviving(t, &deployment{})
		k := c.beforehand(t)
		c.forward(t, k.corrected, "europe", "asia", "japan", "dach")
		c.processes[bus.Regional].kill() // what it has just written, it may not have told
		c.correct(t, k.corrected)
		c.recall(t, k.recalled)
		alone, urgent, unheard := c.meanwhile(t)
		c.recall(t, unheard)
		unheard.unheard = true
		c.arrivesNowhere(t, alone, urgent)
		pass(alone.deadline)
		c.processes[bus.Regional].start()
		c.serving(bus.Regional)
		c.wander(t)
		c.awaitWanderer(t)
		c.forward(t, k.corrected, "germany", "france", "austria") // it is for the chapter that has left
		c.settle(t)
		c.wantKeptOnce(t, urgent)
	})
	t.Run("ASiteThatIsCutOff", func(t *testing.T) {
		t.Parallel()
		d := &deployment{cable: &cable{}}
		c := surviving(t, d)
		k := c.beforehand(t)
		c.forward(t, k.corrected, "europe", "asia", "japan")
		d.cable.sever()
		c.forward(t, k.corrected, "dach")
		c.correct(t, k.corrected)
		c.recall(t, k.recalled)
		alone, urgent, recalled := c.meanwhile(t)
		c.forward(t, recalled, "europe")
		c.recall(t, recalled)
		c.wander(t)
		c.forward(t, k.corrected, "germany")
		c.correct(t, urgent)
		pass(alone.deadline)
		c.forward(t, k.corrected, "france", "austria")
		c.arrivesNowhere(t, alone, urgent, recalled)
		d.cable.mend()
		c.settle(t)
	})
	t.Run("MessagesLostDoubledAndReordered", func(t *testing.T) {
		t.Parallel()
		d := &deployment{tampered: testkit.NATS(t)}
		c := surviving(t, d)
		calm := c.scramble(t)
		k := c.beforehand(t)
		c.forward(t, k.corrected, "europe", "asia", "dach", "japan")
		c.correct(t, k.corrected)
		c.recall(t, k.recalled)
		alone, urgent, _ := c.meanwhile(t)
		c.wander(t)
		c.forward(t, k.corrected, "germany", "france", "austria")
		c.correct(t, urgent)
		pass(alone.deadline)
		t.Logf("messages were scrambled %d times", calm())
		c.settle(t)
	})
}

// surviving opens a deployment that heals soon, and begins a campaign in it.
func surviving(t *testing.T, d *deployment) *campaign {
	t.Helper()
	d.sink = get(mailsink.Start(t.Context(), mailsink.Config{}))(t)
	t.Cleanup(func() { _ = d.sink.Close() })
	return d.open(t, "--gap-wait", "300ms", "--compare-every", "2s").campaign(t)
}

// known are announcements that are on their way when it begins.
type known struct{ corrected, recalled *spoken }

// beforehand publishes what is on its way when it begins: what a coordinator has on the desk, in each state; what nobody
// forwards; what will be corrected; and what will be recalled when one chapter has it.
func (c *campaign) beforehand(t *testing.T) known {
	t.Helper()
	c.publish(t, "forwards itself", false, shortly)
	k := known{corrected: c.publish(t, "to be corrected", false, patiently), recalled: c.publish(t, "to be recalled", false, patiently)}
	decided := c.publish(t, "decided upon", false, patiently)
	c.forward(t, decided, "europe")
	c.decide(t, decided, internationalv1.RegionReach_DECLINED, "dach")
	c.decide(t, decided, internationalv1.RegionReach_HELD, "france")
	c.forward(t, k.recalled, "europe")
	c.arrives(t, k.recalled, "golang-europe")
	return k
}

// meanwhile publishes three more: one that nobody forwards, one that is urgent, and one to be recalled.
func (c *campaign) meanwhile(t *testing.T) (alone, urgent, recalled *spoken) {
	t.Helper()
	return c.publish(t, "forwards itself later", false, shortly), c.publish(t, "urgent", true, 0), c.publish(t, "a mistake", false, patiently)
}

// arrivesNowhere wants nobody to have what cannot have come.
func (c *campaign) arrivesNowhere(t *testing.T, all ...*spoken) {
	t.Helper()
	for chapter := range c.home {
		items := c.inbox(t, chapter)
		for _, s := range all {
			if items[s.subject] != nil || len(c.mailsOf(s)) > 0 {
				t.Errorf("%s has %q: the outage is none", chapter, s.subject)
			}
		}
	}
}

// wantKeptOnce wants the body of an announcement in one row a tier, however many regions and chapters have it. The
// international body keeps each edition beside that, and what it has published for a week.
func (c *campaign) wantKeptOnce(t *testing.T, s *spoken) {
	t.Helper()
	pattern := fmt.Sprintf("%%%x%%", body(s.subject, s.edition))
	for tier, want := range map[string]map[string]int{
		bus.International: {"announcements": 1, "announcement_editions": 1, "outbox": 1},
		bus.Regional:      {"announcements": 1}, bus.Local: {"announcements": 1},
	} {
		if got := c.search(t, tier, pattern); !maps.Equal(got, want) {
			t.Errorf("the %s tier keeps the body in %v, want %v", tier, got, want)
		}
	}
}

// pass lets a time pass. What is due then cannot be hurried: processes have the machine's clock.
func pass(deadline time.Time) { <-time.After(time.Until(deadline)) }

// scramble has messages between all tiers lost, doubled and reordered, until calm is called, which says how often.
func (c *campaign) scramble(t *testing.T) (calm func() int) {
	t.Helper()
	js := get(jetstream.New(c.tampered.Admin(t)))(t)
	var ways []*meddler
	for _, way := range [][2]string{
		{bus.Regional, bus.International},
		{bus.Local, bus.International},
		{bus.Local, bus.Regional},
		{bus.International, bus.Regional},
		{bus.Regional, bus.Local},
	} {
		ways = append(ways, meddleWith(t, js, way[0], way[1]))
	}
	rng := rand.New(rand.NewPCG(seeds(t)[0], 4))
	stop, ended, times := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(ended)
		for {
			for _, way := range ways {
				select {
				case <-stop:
					return
				default:
					way.scramble(rng, 50*time.Millisecond)
					times++
				}
			}
		}
	}()
	once := sync.OnceValue(func() int {
		close(stop)
		<-ended
		return times
	})
	t.Cleanup(func() { once() })
	return once
}
