-- +goose Up

ALTER TABLE lists
    -- What people who confirm agree to; empty for a sentence of ours.
    ADD consent_text  text NOT NULL DEFAULT '',
    -- A plan is stopped that removes more than so many entries, and more than such a share of those that its source claims.
    ADD guard_percent smallint NOT NULL DEFAULT 20 CHECK (guard_percent BETWEEN 0 AND 100),
    ADD guard_entries integer NOT NULL DEFAULT 5 CHECK (guard_entries >= 0),
    -- When a sync last said who is there, which moves no version.
    ADD seen_time     timestamptz NOT NULL DEFAULT 'epoch',
    -- list_changes holds all changes of this epoch after this version.
    ADD changes_floor bigint NOT NULL DEFAULT 0;
UPDATE lists SET changes_floor = version;

-- A claim dates from its entry's creation, and was last seen by the last REPLACE of its source, unless these say more:
-- so the millions of entries that one source brings cost nothing for it.
ALTER TABLE entries
    -- When each of the sources first had the entry; null where all have had it since create_time.
    ADD claimed_times timestamptz[],
    -- When each of the sources last had the entry in a MERGE; null where none has had it again.
    ADD seen_times    timestamptz[];

-- When a source last gave the whole list.
CREATE TABLE list_sources (
    list_no      bigint NOT NULL REFERENCES lists,
    source       text COLLATE "C" NOT NULL,
    replace_time timestamptz NOT NULL,
    PRIMARY KEY (list_no, source)
);

ALTER TABLE syncs
    DROP CONSTRAINT syncs_state_check,
    ADD CONSTRAINT syncs_state_check CHECK (state IN ('PLANNING', 'PLANNED', 'BLOCKED', 'APPLIED', 'REVERTED', 'CANCELLED', 'EXPIRED', 'FAILED')),
    -- All added entries are PENDING, or none; only a revert can bring back both.
    ADD added_pending    integer NOT NULL DEFAULT 0,
    -- The version of the list that it made.
    ADD applied_version  bigint,
    -- What the source's replace_time was before.
    ADD replaced_time    timestamptz,
    ADD revert_time      timestamptz,
    -- The sync that this one undoes: it is applied like any other and shown nowhere.
    ADD reverts          bigint,
    ADD conflicts        integer NOT NULL DEFAULT 0,
    -- The charter's state by name, empty where there is none.
    ADD charter_before   text NOT NULL DEFAULT '',
    ADD charter_after    text NOT NULL DEFAULT '',
    ADD failure_reason   text NOT NULL DEFAULT '',
    ADD failure_text     text NOT NULL DEFAULT '';
UPDATE syncs SET added_pending = added WHERE added_state = 2;
CREATE INDEX syncs_planning ON syncs (create_time) WHERE state = 'PLANNING';

-- What a revert needs of an entry that was removed, or lost a claim. Further kinds: 10 for a CONFLICT of a revert, 11 for
-- an entry that a MERGE has seen again and 12 for an UPDATE that loses the claim.
ALTER TABLE sync_changes
    ADD create_times  timestamptz[],
    ADD claimed_times timestamptz[];

-- Which entries each version of a list has touched, about a thousand in a row. It holds tokens alone: who follows a list
-- is shown the entries as they are now.
CREATE TABLE list_changes (
    list_no bigint NOT NULL,
    epoch   bigint NOT NULL,
    version bigint NOT NULL,
    part    integer NOT NULL,
    time    timestamptz NOT NULL,
    tokens  bytea[] NOT NULL,
    PRIMARY KEY (list_no, epoch, version, part)
);
CREATE INDEX list_changes_time ON list_changes (time);
ALTER TABLE list_changes ALTER tokens SET STORAGE EXTERNAL;

-- What people agreed to and took back. Texts are many people's, and kept once.
CREATE TABLE consent_texts (
    text_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest  bytea NOT NULL UNIQUE,
    text    text NOT NULL
);
CREATE TABLE consents (
    consent_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    list_no    bigint NOT NULL REFERENCES lists,
    token      bytea NOT NULL,
    -- Consent.Kind: 1 REQUESTED, 2 GRANTED, 3 WITHDRAWN, 4 BOUNCED.
    kind       smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
    time       timestamptz NOT NULL,
    method     text NOT NULL,
    text_no    bigint REFERENCES consent_texts
);
CREATE INDEX consents_entry ON consents (list_no, token, consent_no);

-- Mail to people on a list. A mail names its entry and holds no address.
CREATE TABLE mails (
    mail_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL,
    list_no     bigint NOT NULL REFERENCES lists,
    token       bytea NOT NULL,
    -- 1 a link to confirm.
    kind        smallint NOT NULL,
    -- UNCERTAIN: it was on its way when the process or the connection ended, and may have arrived; it is not sent again.
    state       text NOT NULL CHECK (state IN ('QUEUED', 'SENDING', 'SENT', 'FAILED', 'UNCERTAIN', 'CANCELLED')),
    attempts    integer NOT NULL DEFAULT 0,
    due_time    timestamptz NOT NULL,
    -- When it was taken to be sent.
    take_time   timestamptz,
    -- What the receiving server said, without an address.
    failure     text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL,
    end_time    timestamptz
);
CREATE INDEX mails_due ON mails (due_time) WHERE state = 'QUEUED';
CREATE INDEX mails_taken ON mails (take_time) WHERE state = 'SENDING';
CREATE INDEX mails_ended ON mails (end_time) WHERE end_time IS NOT NULL;
CREATE UNIQUE INDEX mails_open ON mails (list_no, token, kind) WHERE state IN ('QUEUED', 'SENDING');
CREATE INDEX mails_entry ON mails (list_no, token, create_time);

CREATE TABLE connectors (
    connector_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    list_no          bigint NOT NULL REFERENCES lists,
    id               text COLLATE "C" NOT NULL,
    display_name     text NOT NULL,
    -- chapterhouse.local.v1.Connector with nothing but the remote.
    remote           bytea NOT NULL,
    -- Encrypted with a key that is not in the database.
    secret           bytea NOT NULL,
    direction        text NOT NULL CHECK (direction IN ('PULL', 'PUSH')),
    mode             text NOT NULL CHECK (mode IN ('REPLACE', 'MERGE')),
    every_seconds integer NOT NULL CHECK (every_seconds >= 0),
    paused           boolean NOT NULL,
    -- When it runs next by itself; null for never.
    next_run_time    timestamptz,
    -- Runs that were held since the last one that was not.
    held             integer NOT NULL DEFAULT 0,
    version          bigint NOT NULL,
    create_time      timestamptz NOT NULL,
    update_time      timestamptz NOT NULL,
    UNIQUE (list_no, id)
);
CREATE INDEX connectors_due ON connectors (next_run_time) WHERE next_run_time IS NOT NULL;

CREATE TABLE connector_runs (
    run_no       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid NOT NULL UNIQUE,
    connector_no bigint NOT NULL REFERENCES connectors ON DELETE CASCADE,
    state        text NOT NULL CHECK (state IN ('QUEUED', 'RUNNING', 'DONE', 'HELD', 'FAILED')),
    create_time  timestamptz NOT NULL,
    start_time   timestamptz,
    end_time     timestamptz,
    sync_id      uuid,
    -- chapterhouse.local.v1.SyncCounts.
    counts       bytea NOT NULL DEFAULT '',
    left_count   integer NOT NULL DEFAULT 0,
    reason       text NOT NULL DEFAULT '',
    text         text NOT NULL DEFAULT ''
);
CREATE INDEX connector_runs_of ON connector_runs (connector_no, run_no);
CREATE UNIQUE INDEX connector_runs_open ON connector_runs (connector_no) WHERE state IN ('QUEUED', 'RUNNING');
CREATE INDEX connector_runs_ended ON connector_runs (end_time);

-- What a push has told the other tool of each person.
CREATE TABLE connector_people (
    connector_no bigint NOT NULL REFERENCES connectors ON DELETE CASCADE,
    token        bytea NOT NULL,
    -- 1 on the tool's list, 2 off it for good, 3 not taken because they have left there, 4 not taken because the tool
    -- cannot hold the address.
    state        smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    -- Empty once the person is off the list.
    address      text NOT NULL,
    display_name text NOT NULL,
    PRIMARY KEY (connector_no, token)
);

-- The times of an entry's claims, one for each source.
-- +goose StatementBegin
CREATE FUNCTION claim_times(times timestamptz[], otherwise timestamptz, sources text[]) RETURNS timestamptz[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(times, array_fill(otherwise, ARRAY[cardinality(sources)]))
$$;
-- +goose StatementEnd

-- The array with another item, or none, in the place.
-- +goose StatementBegin
CREATE FUNCTION with_item(items timestamptz[], place integer, item timestamptz) RETURNS timestamptz[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT items[:place - 1] || CASE WHEN item IS NULL THEN '{}' ELSE ARRAY[item] END || items[place + 1:]
$$;
-- +goose StatementEnd

-- The items with an empty one in the places of a token.
-- +goose StatementBegin
CREATE FUNCTION blank_items(items text[], tokens bytea[], token bytea) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN items IS NOT NULL THEN
        (SELECT array_agg(CASE WHEN u.t = token THEN '' ELSE u.item END ORDER BY u.n) FROM unnest(tokens, items) WITH ORDINALITY AS u (t, item, n))
    END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION blank_items, with_item, claim_times;
DROP TABLE connector_people, connector_runs, connectors, mails, consents, consent_texts, list_changes, list_sources;
ALTER TABLE sync_changes DROP create_times, DROP claimed_times;
DELETE FROM syncs WHERE state = 'PLANNING' OR reverts IS NOT NULL;
ALTER TABLE syncs
    DROP CONSTRAINT syncs_state_check,
    ADD CONSTRAINT syncs_state_check CHECK (state IN ('PLANNED', 'BLOCKED', 'APPLIED', 'REVERTED', 'CANCELLED', 'EXPIRED', 'FAILED')),
    DROP added_pending, DROP applied_version, DROP replaced_time, DROP revert_time, DROP reverts, DROP conflicts,
    DROP charter_before, DROP charter_after, DROP failure_reason, DROP failure_text;
ALTER TABLE entries DROP claimed_times, DROP seen_times;
ALTER TABLE lists DROP consent_text, DROP guard_percent, DROP guard_entries, DROP seen_time, DROP changes_floor;
