// Package bus carries events between the tiers: nothing is lost, nothing is applied twice,
// and copies agree with their owners again after any outage.
//
// The way of an event: [Append] writes it to the outbox in the transaction that makes the
// change; the [Publisher] brings the outbox to JetStream; the [Consumer] applies it in one
// transaction with the inbox row that makes a second delivery harmless and the position that
// keeps the aggregate's versions in order. What NATS loses or reorders is healed by asking the
// owner: its [Responder] answers with a snapshot of an aggregate, and with the versions of all
// of them, which every consumer compares with its own positions from time to time.
//
// Postgres is the record; JetStream may be deleted at any moment.
package bus
