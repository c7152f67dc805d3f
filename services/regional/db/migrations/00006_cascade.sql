-- +goose Up

ALTER TABLE relays
    -- While it waits or is held: who acts for the region, by their names as resources; whose people they are; since when.
    ADD waiting_with  text[]      NOT NULL DEFAULT '{}',
    ADD acting_region text        NOT NULL DEFAULT '',
    ADD waiting_since timestamptz,
    -- Chapters and regions that lay in the region when the announcement arrived, and left it undecided: it is for them too.
    ADD left_chapters text[]      NOT NULL DEFAULT '{}',
    ADD left_regions  text[]      NOT NULL DEFAULT '{}';
CREATE INDEX relays_open ON relays (region_id, announcement_id) WHERE state IN ('WAITING', 'HELD');
