package platformtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// meddler does to real messages of a stream what networks, crashes and operators do to them.
type meddler struct {
	t      testing.TB
	js     jetstream.JetStream
	stream jetstream.Stream
	// durable is the consumer that is held up meanwhile.
	durable string
}

// meddle is with what the international tier consumes of the local tier.
func (h *house) meddle() *meddler { return h.meddleWith(bus.International, bus.Local) }

// meddleWith is with what one tier consumes of another.
func (h *house) meddleWith(reader, owner string) *meddler {
	h.t.Helper()
	return meddleWith(h.t, h.jetStream(), reader, owner)
}

// meddleWith is with what one tier consumes of another, by somebody who may do everything.
func meddleWith(t testing.TB, js jetstream.JetStream, reader, owner string) *meddler {
	t.Helper()
	ctx := bounded(t, patience)
	stream, durable := bus.Stream(owner, bus.MainSite), bus.Durable(reader, bus.MainSite)
	eventually(t, patience, func() string {
		if _, err := js.Consumer(ctx, stream, durable); err != nil {
			return err.Error()
		}
		return ""
	})
	return &meddler{t: t, js: js, durable: durable, stream: get(js.Stream(ctx, stream))(t)}
}

// longPause is until the test says otherwise.
const longPause = time.Hour

// pause holds the consumer up: what is published waits in the stream.
func (m *meddler) pause() {
	m.t.Helper()
	_, err := m.js.PauseConsumer(context.Background(), m.name(), m.durable, time.Now().Add(longPause))
	must(m.t, err)
}

func (m *meddler) resume() {
	m.t.Helper()
	_, err := m.js.ResumeConsumer(context.Background(), m.name(), m.durable)
	must(m.t, err)
}

func (m *meddler) name() string { return m.stream.CachedInfo().Config.Name }

// last is the number of the stream's last message.
func (m *meddler) last() uint64 {
	m.t.Helper()
	return get(m.stream.Info(context.Background()))(m.t).State.LastSeq
}

// since are the messages after a number whose subject ends with one of the endings.
func (m *meddler) since(number uint64, endings ...string) []*jetstream.RawStreamMsg {
	m.t.Helper()
	var found []*jetstream.RawStreamMsg
	for seq := number + 1; seq <= m.last(); seq++ {
		message, err := m.stream.GetMsg(context.Background(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		must(m.t, err)
		for _, ending := range endings {
			if strings.HasSuffix(message.Subject, ending) {
				found = append(found, message)
			}
		}
	}
	return found
}

// await waits until there are so many messages after a number.
func (m *meddler) await(number uint64, count int, ending string) []*jetstream.RawStreamMsg {
	m.t.Helper()
	var found []*jetstream.RawStreamMsg
	eventually(m.t, patience, func() string {
		if found = m.since(number, ending); len(found) < count {
			return "the messages are not all published yet"
		}
		return ""
	})
	return found
}

func (m *meddler) remove(message *jetstream.RawStreamMsg) {
	m.t.Helper()
	must(m.t, m.stream.DeleteMsg(context.Background(), message.Sequence))
}

// republish publishes a message once more, as it was, or with other data.
func (m *meddler) republish(message *jetstream.RawStreamMsg, data []byte) {
	m.t.Helper()
	again := nats.NewMsg(message.Subject)
	again.Data = data
	for name, values := range message.Header {
		if !strings.HasPrefix(name, "Nats-") { // or JetStream would know it
			again.Header[name] = values
		}
	}
	_, err := m.js.PublishMsg(context.Background(), again)
	must(m.t, err)
}

// scramble holds the consumer up for a while, and then has what was published meanwhile delivered in any order, some of
// it twice, some of it never, and some old messages with it.
func (m *meddler) scramble(rng *rand.Rand, while time.Duration) {
	m.t.Helper()
	m.pause()
	defer m.resume()
	before := m.last()
	<-time.After(while)
	fresh := m.since(before, ".changed")
	rng.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	for i, message := range fresh {
		switch rng.IntN(10) {
		case 0:
			m.remove(message)
		case 1:
			m.republish(message, message.Data)
		case 2, 3, 4, 5, 6:
			m.remove(message)
			m.republish(message, message.Data)
		}
		if old, err := m.stream.GetMsg(context.Background(), 1+rng.Uint64N(before+uint64(i)+1)); err == nil {
			m.republish(old, old.Data)
		}
	}
}
