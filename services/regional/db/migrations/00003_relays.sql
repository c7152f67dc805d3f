-- +goose Up

-- Announcements of the international body and of regions, each kept once.
CREATE TABLE announcements (
    id          uuid        PRIMARY KEY,
    -- The region whose own it is; NULL for the international body's.
    region_id   text,
    edition     integer     NOT NULL,
    recalled    boolean     NOT NULL,
    -- The AnnouncementChanged that the other tiers get, as protobuf.
    content     bytea       NOT NULL,
    -- Of a region's own, as it was told the other tiers.
    epoch       bigint      NOT NULL,
    version     bigint      NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX announcements_region ON announcements (region_id, id) WHERE region_id IS NOT NULL;

-- Each region's inbox.
CREATE TABLE relays (
    region_id       text        NOT NULL,
    announcement_id uuid        NOT NULL REFERENCES announcements,
    -- The region from which it came; NULL where its way began.
    parent_id       text,
    state           text        NOT NULL CHECK (state IN ('WAITING', 'HELD', 'FORWARDED', 'DECLINED', 'RECALLED')),
    edition         integer     NOT NULL,
    automatic       boolean     NOT NULL,
    arrive_time     timestamptz NOT NULL,
    deadline_time   timestamptz NOT NULL,
    remind_time     timestamptz,
    hold_until_time timestamptz,
    hold_reason     text        NOT NULL DEFAULT '',
    forward_time    timestamptz,
    decline_reason  text        NOT NULL DEFAULT '',
    note            text        NOT NULL DEFAULT '',
    -- A RelayChanged that has nothing but the added translations, as protobuf.
    translations    bytea       NOT NULL DEFAULT '',
    chapters        text[]      NOT NULL DEFAULT '{}',
    chapters_chosen boolean     NOT NULL DEFAULT false,
    child_regions   text[]      NOT NULL DEFAULT '{}',
    -- A Reach, as protobuf.
    reach           bytea       NOT NULL DEFAULT '',
    -- When it moves by itself: a hold ends, or the deadline passes.
    due_time        timestamptz,
    -- No event before this tells of a reach that moved.
    reach_due_time  timestamptz NOT NULL,
    epoch           bigint      NOT NULL,
    version         bigint      NOT NULL,
    update_time     timestamptz NOT NULL,
    PRIMARY KEY (region_id, announcement_id)
);
CREATE INDEX relays_announcement ON relays (announcement_id, region_id);
-- In the order of their names, in which versions are compared.
CREATE INDEX relays_name ON relays (((region_id || '/relays/' || announcement_id::text) COLLATE "C"));
CREATE INDEX relays_due ON relays (due_time) WHERE due_time IS NOT NULL;

-- What became of an announcement in each chapter: the last receipt of each. A receipt may come before its relay: no
-- foreign keys.
CREATE TABLE receipts (
    announcement_id     uuid    NOT NULL,
    chapter_id          text    NOT NULL,
    region_id           text    NOT NULL,
    chapters_reached    integer NOT NULL,
    chapters_sent       integer NOT NULL,
    chapters_dismissed  integer NOT NULL,
    people_queued       integer NOT NULL,
    people_mailed       integer NOT NULL,
    people_bounced      integer NOT NULL,
    people_failed       integer NOT NULL,
    people_uncertain    integer NOT NULL,
    people_unsubscribed integer NOT NULL,
    PRIMARY KEY (announcement_id, chapter_id)
);
CREATE INDEX receipts_region ON receipts (announcement_id, region_id);

-- Relays whose receipts moved since they were last added up. Without a key: writers of receipts never wait for each other,
-- nor for whoever adds up.
CREATE TABLE reach_moved (
    announcement_id uuid NOT NULL,
    region_id       text NOT NULL
);
CREATE INDEX reach_moved_relay ON reach_moved (announcement_id, region_id);
