-- +goose Up

-- What this service says to the others. published_at is empty until JetStream has it on disk.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL UNIQUE,
    subject      text NOT NULL,
    aggregate    text NOT NULL,
    epoch        bigint NOT NULL,
    number       bigint NOT NULL,
    part         integer NOT NULL,
    parts        integer NOT NULL,
    type         text NOT NULL,
    data         bytea NOT NULL,
    traceparent  text NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT clock_timestamp(),
    publish_time timestamptz
);
-- The publisher reads what is unpublished, never "what follows the last id": ids become visible
-- in the order of commits, not in their own.
CREATE INDEX outbox_unpublished ON outbox (id) WHERE publish_time IS NULL;
CREATE INDEX outbox_published ON outbox (publish_time) WHERE publish_time IS NOT NULL;

-- What the publisher knows of its stream.
CREATE TABLE stream_state (
    stream      text PRIMARY KEY,
    incarnation text NOT NULL,
    -- The last message that was recorded as published, and whose it is.
    last_seq      bigint NOT NULL,
    last_event_id text NOT NULL,
    -- The epoch given out after the last restore of this database, and the event that gave it away.
    epoch             bigint NOT NULL DEFAULT 0,
    restored_event_id text NOT NULL DEFAULT ''
);

-- The ids of consumed events.
CREATE TABLE inbox (
    event_id     uuid PRIMARY KEY,
    receive_time timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_receive_time ON inbox (receive_time);

-- At which version this service holds each aggregate of others; 0.0 is not at all.
CREATE TABLE positions (
    tier        text NOT NULL,
    site        text NOT NULL,
    aggregate   text NOT NULL,
    kind        text NOT NULL,
    epoch       bigint NOT NULL DEFAULT 0,
    number      bigint NOT NULL DEFAULT 0,
    -- Whether there are rows in parked.
    parked      boolean NOT NULL DEFAULT false,
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tier, site, aggregate)
) WITH (fillfactor = 80);

-- Events that wait for the ones before them, or for the other parts of their version.
CREATE TABLE parked (
    tier      text NOT NULL,
    site      text NOT NULL,
    aggregate text NOT NULL,
    epoch     bigint NOT NULL,
    number    bigint NOT NULL,
    part      integer NOT NULL,
    parts     integer NOT NULL,
    subject   text NOT NULL,
    headers   jsonb NOT NULL,
    data      bytea NOT NULL,
    park_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tier, site, aggregate, epoch, number, part)
);

-- Aggregates to be fetched from their owner, unless they reach the version by themselves.
CREATE TABLE wanted (
    tier      text NOT NULL,
    site      text NOT NULL,
    aggregate text NOT NULL,
    kind      text NOT NULL,
    epoch     bigint NOT NULL,
    number    bigint NOT NULL,
    due_time  timestamptz NOT NULL,
    attempts  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tier, site, aggregate)
);
CREATE INDEX wanted_due ON wanted (tier, site, due_time);

-- Parts of snapshots that are being received. Worthless after a crash, hence unlogged.
CREATE UNLOGGED TABLE snapshot_parts (
    snapshot_id  uuid NOT NULL,
    part         integer NOT NULL,
    type         text NOT NULL,
    data         bytea NOT NULL,
    receive_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (snapshot_id, part)
);

-- Tokens do not compress.
ALTER TABLE outbox ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE parked ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE snapshot_parts ALTER COLUMN data SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE snapshot_parts, wanted, parked, positions, inbox, stream_state, outbox;
