package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamMaxAge  = 30 * 24 * time.Hour
	streamDedup   = 2 * time.Minute
	incarnationID = "chapterhouse-incarnation"

	// ackWait is how long JetStream waits for a consumer that died. A durable may have another one.
	ackWait = 10 * time.Second
	// maxAckPending bounds what all replicas hold at once. It is far above what a worker needs, so
	// that a slow key does not fill it and stop the others.
	maxAckPending = 5000
)

// Provision makes the streams and durables of the sites that are missing, as a user who may. The
// sites' own users may not: who can configure a stream can have it copy another one's messages, or
// publish under any subject. The embedded server provisions for its users by itself.
func Provision(ctx context.Context, nc *nats.Conn, sites []UserConfig) error {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(natsTimeout))
	if err != nil {
		return err
	}
	for _, site := range sites {
		for _, config := range []jetstream.StreamConfig{eventStream(site.Tier, site.Site), deadStream(site.Tier, site.Site)} {
			if err := makeStream(ctx, js, config); err != nil {
				return fmt.Errorf("provision stream %s: %w", config.Name, err)
			}
		}
	}
	for _, owner := range sites {
		if err := makeDurables(ctx, js, owner, sites); err != nil {
			return fmt.Errorf("provision the consumers of %s/%s: %w", owner.Tier, owner.Site, err)
		}
	}
	return nil
}

func makeStream(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) error {
	_, err := js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else was quicker
		return nil
	}
	return err
}

func makeDurables(ctx context.Context, js jetstream.JetStream, owner UserConfig, sites []UserConfig) error {
	stream, err := js.Stream(ctx, Stream(owner.Tier, owner.Site))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	list := stream.ConsumerNames(ctx)
	for name := range list.Name() {
		there[name] = true
	}
	if err := list.Err(); err != nil {
		return err
	}
	for _, reader := range sites {
		if !reads(reader, owner) || there[Durable(reader.Tier, reader.Site)] {
			continue
		}
		if _, err := stream.CreateOrUpdateConsumer(ctx, durable(reader.Tier, reader.Site)); err != nil {
			return err
		}
	}
	return nil
}

// reads: the upper tiers read each other and all local sites, which read the upper tiers.
func reads(reader, owner UserConfig) bool {
	return reader.Tier != owner.Tier
}

func eventStream(tier, site string) jetstream.StreamConfig {
	config := limitedStream(Stream(tier, site), eventPrefix(tier, site)+">", "Events of "+tier+"/"+site)
	config.AllowAtomicPublish = true
	config.Metadata = map[string]string{incarnationID: uuid.NewString()}
	return config
}

func deadStream(tier, site string) jetstream.StreamConfig {
	return limitedStream(DeadStream(tier, site), deadPrefix(tier, site)+">", "Events that "+tier+"/"+site+" could not consume")
}

func limitedStream(name, subjects, description string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        name,
		Description: description,
		Subjects:    []string{subjects},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Duplicates:  streamDedup,
		MaxAge:      streamMaxAge,
	}
}

// durable reads a whole stream. Filters on the kinds would cost the server more than the events
// that they keep away: with several filters it walks through all subjects for each message.
func durable(tier, site string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       Durable(tier, site),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	}
}
