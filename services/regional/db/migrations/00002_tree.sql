-- +goose Up

-- A region that is closed keeps its row, and with it its id: what it was and what became of it stays known. Its parent
-- and path are the last that it had.
ALTER TABLE regions
    -- Since when the region has been what it is.
    ADD COLUMN effective_time timestamptz,
    ADD COLUMN close_time     timestamptz,
    -- The region that it was dissolved in.
    ADD COLUMN merged_into    text REFERENCES regions;
UPDATE regions SET effective_time = create_time;
ALTER TABLE regions ALTER COLUMN effective_time SET NOT NULL;

-- What each region was, one row a change, numbered from 1. A row's end is written once, when the next change comes or
-- the region closes; nothing else of it ever changes. A row that ends when it begins was overtaken in the same instant
-- and never held.
CREATE TABLE region_history (
    region_id     text        NOT NULL REFERENCES regions,
    revision      bigint      NOT NULL,
    from_time     timestamptz NOT NULL,
    to_time       timestamptz,
    -- RegionPeriod.Change: what the row begins with.
    change        smallint    NOT NULL,
    display_name  text        NOT NULL,
    parent_id     text,
    country_codes text[]      NOT NULL,
    -- Whom the token of who changed it named; empty for what was before this table.
    actor         text        NOT NULL,
    record_time   timestamptz NOT NULL,
    PRIMARY KEY (region_id, revision),
    CHECK (to_time >= from_time)
);
CREATE UNIQUE INDEX region_history_open ON region_history (region_id) WHERE to_time IS NULL;
-- The root that nobody has been told of begins its history when the service first starts.
INSERT INTO region_history (region_id, revision, from_time, change, display_name, parent_id, country_codes, actor, record_time)
SELECT id, 1, create_time, 1, display_name, parent_id, country_codes, '', now() FROM regions WHERE version > 0;

-- Where each chapter lies and lay, one row a change, numbered from 1; rows change as those of region_history do. The
-- open row carries the version under which the other tiers know it, which also rises when they are told again. A
-- chapter may come before its region: no foreign key.
CREATE TABLE placements (
    chapter_id text        NOT NULL,
    revision   bigint      NOT NULL,
    region_id  text        NOT NULL,
    from_time  timestamptz NOT NULL,
    to_time    timestamptz,
    epoch      bigint      NOT NULL,
    version    bigint      NOT NULL,
    PRIMARY KEY (chapter_id, revision),
    CHECK (to_time >= from_time)
);
CREATE UNIQUE INDEX placements_open ON placements (chapter_id) WHERE to_time IS NULL;
CREATE INDEX placements_region ON placements (region_id, chapter_id);
-- Version 0 says that nobody has been told yet: the service does so when it next starts.
INSERT INTO placements (chapter_id, revision, region_id, from_time, epoch, version)
SELECT id, 1, region_id, now(), 0, 0 FROM chapters;

-- The copy of the chapters no longer says where they lie, and learns their countries: without a position the next
-- comparison asks for every chapter again.
ALTER TABLE chapters DROP COLUMN region_id;
ALTER TABLE chapters ADD COLUMN country_code text NOT NULL DEFAULT '';
DELETE FROM positions WHERE kind = 'chapter';

CREATE TABLE transfers (
    id            uuid        PRIMARY KEY,
    chapter_id    text        NOT NULL,
    from_region   text        NOT NULL,
    to_region     text        NOT NULL REFERENCES regions,
    -- Transfer.State and Transfer.Side.
    state         smallint    NOT NULL,
    proposed_by   smallint    NOT NULL,
    proposer      text        NOT NULL,
    decider       text        NOT NULL,
    note          text        NOT NULL,
    decision_note text        NOT NULL,
    create_time   timestamptz NOT NULL,
    decide_time   timestamptz
);
-- One proposal a chapter at a time.
CREATE UNIQUE INDEX transfers_proposed ON transfers (chapter_id) WHERE state = 1;
CREATE INDEX transfers_from ON transfers (from_region, id);
CREATE INDEX transfers_to ON transfers (to_region, id);

CREATE TABLE coordinators (
    id              uuid        PRIMARY KEY,
    region_id       text        NOT NULL REFERENCES regions,
    subject         text        NOT NULL,
    display_name    text        NOT NULL,
    -- Coordinator.Role.
    role            smallint    NOT NULL,
    term_start_time timestamptz NOT NULL,
    term_end_time   timestamptz,
    away_start_time timestamptz,
    away_end_time   timestamptz,
    substitute_id   uuid        REFERENCES coordinators ON DELETE SET NULL,
    version         bigint      NOT NULL,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL
);
CREATE INDEX coordinators_region ON coordinators (region_id, id);
CREATE INDEX coordinators_substitute ON coordinators (substitute_id);
