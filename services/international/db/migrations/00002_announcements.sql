-- +goose Up

-- The copy of the chapters learns their languages: without a position the next comparison asks for every chapter again.
ALTER TABLE chapters ADD COLUMN language text NOT NULL DEFAULT '';
DELETE FROM positions WHERE kind = 'chapter';

CREATE TABLE announcements (
    id              uuid PRIMARY KEY,
    state           text NOT NULL CHECK (state IN ('DRAFT', 'SCHEDULED', 'PUBLISHED', 'RECALLED')),
    subject         text NOT NULL,
    -- Body, translations, links and audience: an Announcement with nothing but these, as protobuf.
    content         bytea NOT NULL,
    language        text NOT NULL,
    urgent          boolean NOT NULL,
    -- Seconds; 0 for the set length.
    relay_deadline  bigint NOT NULL,
    -- 0 until it is published; nobody else has been told of it before.
    edition         integer NOT NULL DEFAULT 0,
    publish_time    timestamptz,
    deadline_time   timestamptz,
    recall_time     timestamptz,
    recall_reason   text NOT NULL DEFAULT '',
    epoch           bigint NOT NULL,
    version         bigint NOT NULL DEFAULT 1,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL
);
CREATE INDEX announcements_scheduled ON announcements (publish_time) WHERE state = 'SCHEDULED';

-- Every edition as it was published; appended to and never edited.
CREATE TABLE announcement_editions (
    announcement_id uuid NOT NULL REFERENCES announcements,
    edition         integer NOT NULL,
    subject         text NOT NULL,
    content         bytea NOT NULL,
    publish_time    timestamptz NOT NULL,
    PRIMARY KEY (announcement_id, edition)
);

-- Copy of the regional tier's relays of our announcements. A relay may come before the one above it: no foreign keys.
CREATE TABLE relays (
    announcement_id     uuid NOT NULL,
    region              text NOT NULL,
    parent_region       text NOT NULL,
    state               text NOT NULL,
    edition             integer NOT NULL,
    automatic           boolean NOT NULL,
    arrive_time         timestamptz,
    deadline_time       timestamptz,
    hold_until_time     timestamptz,
    forward_time        timestamptz,
    decline_reason      text NOT NULL,
    chapters_reached    integer NOT NULL,
    chapters_sent       integer NOT NULL,
    chapters_dismissed  integer NOT NULL,
    people_queued       integer NOT NULL,
    people_mailed       integer NOT NULL,
    people_bounced      integer NOT NULL,
    people_failed       integer NOT NULL,
    people_uncertain    integer NOT NULL,
    people_unsubscribed integer NOT NULL,
    PRIMARY KEY (announcement_id, region)
);
