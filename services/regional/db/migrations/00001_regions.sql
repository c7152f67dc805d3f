-- +goose Up

-- The tree of regions. path holds the ids from the root down to the region itself: what lies below a region is
-- `path @> ARRAY[id]`, and its ancestors are read without recursion.
CREATE TABLE regions (
    id            text        PRIMARY KEY,
    display_name  text        NOT NULL,
    parent_id     text        REFERENCES regions,
    path          text[]      NOT NULL,
    country_codes text[]      NOT NULL DEFAULT '{}',
    epoch         bigint      NOT NULL,
    version       bigint      NOT NULL,
    create_time   timestamptz NOT NULL,
    update_time   timestamptz NOT NULL,
    CHECK (path[cardinality(path)] = id),
    CHECK ((parent_id IS NULL) = (id = 'world')),
    CHECK (parent_id IS NULL OR path[cardinality(path) - 1] = parent_id)
);
CREATE INDEX regions_parent ON regions (parent_id, id);
CREATE INDEX regions_path ON regions USING gin (path);

-- The root. Version 0 says that nobody has been told of it yet: the service does so when it first starts.
INSERT INTO regions (id, display_name, path, epoch, version, create_time, update_time)
VALUES ('world', 'World', '{world}', 0, 0, now(), now());

-- Copies, kept from events. A chapter may arrive before its region, a standing or a charter before its chapter:
-- no foreign keys.

-- Of the local services' chapters.
CREATE TABLE chapters (
    id        text PRIMARY KEY,
    site      text NOT NULL,
    region_id text NOT NULL
);
CREATE INDEX chapters_region ON chapters (region_id);

-- Of international's standings.
CREATE TABLE standings (
    chapter_id text    PRIMARY KEY,
    eligible   boolean NOT NULL
);

-- Of international's charters.
CREATE TABLE charters (
    chapter_id text PRIMARY KEY,
    state      text NOT NULL
);
