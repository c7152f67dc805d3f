-- +goose Up

-- The region that a chapter was in before, until when: what was forwarded there by then is for the chapter, in whatever
-- order the two are heard of here.
ALTER TABLE chapters
    ADD left_region text COLLATE "C" NOT NULL DEFAULT '',
    ADD left_time   timestamptz;
CREATE INDEX chapters_left_region ON chapters (left_region) WHERE left_time IS NOT NULL;

-- Chapters that left the relay's region while it waited there.
ALTER TABLE relays ADD left_chapters text[] NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE relays DROP left_chapters;
DROP INDEX chapters_left_region;
ALTER TABLE chapters DROP left_region, DROP left_time;
