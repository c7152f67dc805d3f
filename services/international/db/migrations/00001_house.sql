-- +goose Up

-- The register: who holds international membership, and under which addresses.
CREATE TABLE members (
    member_no    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           text NOT NULL UNIQUE,
    display_name text NOT NULL,
    state        text NOT NULL CHECK (state IN ('ACTIVE', 'LAPSED', 'RESIGNED', 'SUSPENDED')),
    term_start   timestamptz,
    term_end     timestamptz,
    version      bigint NOT NULL,
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL
);
-- What the nightly lapses look for.
CREATE INDEX members_running ON members (term_end) WHERE state = 'ACTIVE';

-- Every term a member ever had; the last one is repeated on the member's own row.
CREATE TABLE terms (
    term_no    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_no  bigint NOT NULL REFERENCES members,
    start_time timestamptz NOT NULL,
    end_time   timestamptz NOT NULL,
    -- RUNNING until it lapsed or was ended; a recount asks this, never the clock.
    state      text NOT NULL CHECK (state IN ('RUNNING', 'LAPSED', 'RESIGNED', 'SUSPENDED'))
);
CREATE UNIQUE INDEX terms_running ON terms (member_no) WHERE state = 'RUNNING';

CREATE TABLE addresses (
    address_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text NOT NULL UNIQUE,
    member_no   bigint NOT NULL REFERENCES members,
    address     text NOT NULL,
    verify_time timestamptz,
    create_time timestamptz NOT NULL,
    UNIQUE (member_no, address)
);
-- A verified address belongs to one member.
CREATE UNIQUE INDEX addresses_verified ON addresses (address) WHERE verify_time IS NOT NULL;

-- One deployment of the local service each; tokens differ from site to site.
CREATE TABLE sites (
    site_no smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text NOT NULL UNIQUE
);

-- The tokens of verified addresses, one a site.
CREATE TABLE address_tokens (
    token      bytea PRIMARY KEY,
    site_no    smallint NOT NULL REFERENCES sites,
    member_no  bigint NOT NULL REFERENCES members,
    address_no bigint NOT NULL REFERENCES addresses ON DELETE CASCADE
);
CREATE INDEX address_tokens_member ON address_tokens (member_no);
CREATE INDEX address_tokens_address ON address_tokens (address_no);

-- Copies of the regional tier's tree and the local tier's chapters.
CREATE TABLE regions (
    id           text PRIMARY KEY,
    parent       text,
    display_name text NOT NULL
);

CREATE TABLE chapters (
    chapter_no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           text NOT NULL UNIQUE,
    site_no      smallint NOT NULL REFERENCES sites,
    -- Empty while only a list of the chapter has been heard of.
    region       text NOT NULL,
    display_name text NOT NULL,
    country_code text NOT NULL,
    city         text NOT NULL
);
CREATE INDEX chapters_region ON chapters (region);

CREATE TABLE lists (
    list_no    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chapter_no bigint NOT NULL REFERENCES chapters,
    id         text NOT NULL,
    -- 1 MEMBERSHIP, 2 MAILING, as in the API's Basis.
    basis      smallint NOT NULL CHECK (basis IN (1, 2)),
    epoch      bigint NOT NULL,
    version    bigint NOT NULL,
    UNIQUE (chapter_no, id)
);

-- Which tokens are on which list: all that crosses of a chapter's list.
CREATE TABLE list_tokens (
    list_no bigint NOT NULL,
    token   bytea NOT NULL,
    PRIMARY KEY (list_no, token)
);
CREATE INDEX list_tokens_token ON list_tokens (token);

CREATE TABLE policies (
    revision           integer PRIMARY KEY,
    threshold_percent  integer NOT NULL CHECK (threshold_percent BETWEEN 1 AND 100),
    minimum_membership integer NOT NULL CHECK (minimum_membership >= 0),
    minimum_mailing    integer NOT NULL CHECK (minimum_mailing >= 0),
    allow_membership   boolean NOT NULL,
    allow_mailing      boolean NOT NULL,
    grace_days         integer NOT NULL CHECK (grace_days >= 0),
    reapply_days       integer NOT NULL CHECK (reapply_days >= 0),
    effective_time     timestamptz NOT NULL
);
INSERT INTO policies VALUES (1, 60, 1, 1, true, true, 90, 30, now());

-- Counts the register's changes; a standing names the last one that moved it.
CREATE SEQUENCE register_position;

-- Epoch of the versions below: unix microseconds at which this database, or the backup it came from, was taken into use.
CREATE TABLE epochs (
    epoch bigint PRIMARY KEY
);
INSERT INTO epochs VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint);

CREATE TABLE standings (
    chapter_no               bigint PRIMARY KEY REFERENCES chapters,
    membership_total         integer NOT NULL DEFAULT 0,
    membership_international integer NOT NULL DEFAULT 0,
    mailing_total            integer NOT NULL DEFAULT 0,
    mailing_international    integer NOT NULL DEFAULT 0,
    eligible                 boolean NOT NULL DEFAULT false,
    policy_revision          integer NOT NULL REFERENCES policies,
    register_position        bigint NOT NULL DEFAULT 0,
    epoch                    bigint NOT NULL,
    version                  bigint NOT NULL DEFAULT 1,
    update_time              timestamptz NOT NULL,
    CHECK (membership_international BETWEEN 0 AND membership_total),
    CHECK (mailing_international BETWEEN 0 AND mailing_total)
) WITH (fillfactor = 70);

CREATE TABLE charters (
    chapter_no   bigint PRIMARY KEY REFERENCES chapters,
    chapter_id   text NOT NULL UNIQUE,
    state        text NOT NULL,
    reviewer     text NOT NULL DEFAULT '',
    note         text NOT NULL DEFAULT '',
    apply_time   timestamptz NOT NULL,
    decide_time  timestamptz,
    cure_by_time timestamptz,
    reapply_time timestamptz,
    -- The CharterDecision that the state rests on, as protobuf.
    decision     bytea,
    epoch        bigint NOT NULL,
    version      bigint NOT NULL,
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL
);
CREATE INDEX charters_state ON charters (state, chapter_id);

-- Appended to and never edited.
CREATE TABLE charter_history (
    chapter_no      bigint NOT NULL REFERENCES charters,
    number          integer NOT NULL,
    verb            text NOT NULL,
    from_state      text NOT NULL,
    to_state        text NOT NULL,
    subject         text NOT NULL,
    note            text NOT NULL,
    -- The Standing at that moment, as protobuf.
    standing        bytea NOT NULL,
    policy_revision integer NOT NULL,
    create_time     timestamptz NOT NULL,
    PRIMARY KEY (chapter_no, number)
);

-- Who asked, through a preview, what a change would do: it answers whether people are members.
CREATE TABLE preview_audit (
    preview_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject     text NOT NULL,
    list        text NOT NULL,
    tokens      integer NOT NULL,
    create_time timestamptz NOT NULL
);
