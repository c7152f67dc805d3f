-- +goose Up

-- What a member's own terms say, and beside it what else decides whether the person counts. The state follows from these
-- columns and from nothing else, so no writer can leave it behind.
ALTER TABLE members ADD COLUMN own_state text NOT NULL DEFAULT 'LAPSED' CHECK (own_state IN ('ACTIVE', 'LAPSED', 'RESIGNED'));
UPDATE members SET own_state = state WHERE state <> 'SUSPENDED';
ALTER TABLE members ALTER COLUMN own_state DROP DEFAULT;
DROP INDEX members_running;
ALTER TABLE members
    DROP COLUMN state,
    ADD COLUMN suspend_time   timestamptz,
    ADD COLUMN suspend_reason text NOT NULL DEFAULT '',
    -- When the last of the member's seats ends; null without a seat in an organisation that is ACTIVE.
    ADD COLUMN seat_end       timestamptz,
    -- The record that this one was merged into.
    ADD COLUMN merged_into    bigint REFERENCES members,
    ADD COLUMN erase_time     timestamptz,
    ADD COLUMN state          text NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN erase_time IS NOT NULL THEN 'ERASED'
            WHEN merged_into IS NOT NULL THEN 'MERGED'
            WHEN suspend_time IS NOT NULL THEN 'SUSPENDED'
            WHEN seat_end IS NOT NULL THEN 'ACTIVE'
            ELSE own_state
        END) STORED,
    -- When the membership ends if nobody renews anything: its own term or its last seat, whichever is later.
    ADD COLUMN active_until   timestamptz GENERATED ALWAYS AS (
        CASE
            WHEN erase_time IS NOT NULL OR merged_into IS NOT NULL OR suspend_time IS NOT NULL THEN NULL
            WHEN own_state = 'ACTIVE' THEN greatest(term_end, seat_end)
            ELSE seat_end
        END) STORED;
-- What the nightly lapses look for: a term runs on beneath a suspension.
CREATE INDEX members_running ON members (term_end, member_no) WHERE own_state = 'ACTIVE';
CREATE INDEX members_named ON members USING gin (to_tsvector('simple', display_name)) WHERE display_name <> '';
CREATE INDEX members_merged ON members (merged_into) WHERE merged_into IS NOT NULL;

CREATE INDEX terms_member ON terms (member_no, term_no);

-- What became of a member, one row a change: figures and states, never a name or an address. number is the member's version.
CREATE TABLE member_history (
    member_no   bigint NOT NULL REFERENCES members,
    number      bigint NOT NULL,
    verb        text NOT NULL,
    state       text NOT NULL,
    term_end    timestamptz,
    -- How many addresses, and how many of them verified, the member has after the change.
    addresses   integer NOT NULL,
    verified    integer NOT NULL,
    -- Who did it; 'member' for the person, which is no name.
    subject     text NOT NULL,
    -- Why, as staff wrote it. Emptied with the person.
    note        text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (member_no, number)
);

-- How an address came to be verified: by the link that was mailed to it, or because staff attested it.
ALTER TABLE addresses
    ADD COLUMN verify_method text NOT NULL DEFAULT '' CHECK (verify_method IN ('', 'LINK', 'STAFF')),
    ADD COLUMN verify_subject text NOT NULL DEFAULT '';
UPDATE addresses SET verify_method = 'STAFF', verify_subject = 'system' WHERE verify_time IS NOT NULL;
CREATE INDEX addresses_unverified ON addresses (address) WHERE verify_time IS NULL;

-- Corporate memberships: an organisation holds seats until its term ends, and members are ACTIVE through them.
CREATE TABLE organizations (
    organization_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              text NOT NULL UNIQUE,
    display_name    text NOT NULL,
    seat_count      integer NOT NULL CHECK (seat_count >= 0),
    state           text NOT NULL CHECK (state IN ('ACTIVE', 'LAPSED', 'ENDED')),
    term_start      timestamptz NOT NULL,
    term_end        timestamptz NOT NULL,
    version         bigint NOT NULL,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL
);
CREATE INDEX organizations_running ON organizations (term_end) WHERE state = 'ACTIVE';

-- A seat that is taken: by a member, or by an address that was invited and has not answered.
CREATE TABLE seats (
    seat_no         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              text NOT NULL UNIQUE,
    organization_no bigint NOT NULL REFERENCES organizations,
    member_no       bigint REFERENCES members,
    address         text NOT NULL DEFAULT '',
    display_name    text NOT NULL DEFAULT '',
    create_time     timestamptz NOT NULL,
    hold_time       timestamptz,
    CHECK ((member_no IS NULL) = (address <> ''))
);
CREATE UNIQUE INDEX seats_held ON seats (organization_no, member_no) WHERE member_no IS NOT NULL;
CREATE UNIQUE INDEX seats_invited ON seats (organization_no, address) WHERE member_no IS NULL;
CREATE INDEX seats_member ON seats (member_no) WHERE member_no IS NOT NULL;

-- Mails with a link: to an address that is to be verified, or that is offered a seat. Gone with what they are about.
CREATE TABLE register_mails (
    mail_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address_no  bigint REFERENCES addresses ON DELETE CASCADE,
    seat_no     bigint REFERENCES seats ON DELETE CASCADE,
    -- SENDING before it is handed over: what was in flight when a process died is UNCERTAIN, and not sent again by itself.
    state       text NOT NULL CHECK (state IN ('QUEUED', 'SENDING', 'SENT', 'FAILED', 'UNCERTAIN')),
    attempts    integer NOT NULL DEFAULT 0,
    failure     text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL,
    due_time    timestamptz NOT NULL,
    take_time   timestamptz,
    end_time    timestamptz,
    CHECK ((address_no IS NULL) <> (seat_no IS NULL))
);
CREATE INDEX register_mails_due ON register_mails (due_time) WHERE state IN ('QUEUED', 'SENDING');
CREATE INDEX register_mails_address ON register_mails (address_no, create_time);
CREATE INDEX register_mails_seat ON register_mails (seat_no, create_time);

-- The ledger of erasures. A name here is a member's, of whom nothing but figures is left.
CREATE TABLE erasures (
    erasure_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Names are compared byte by byte: the owner of an aggregate lists them in that order.
    id             text COLLATE "C" NOT NULL UNIQUE,
    member_no      bigint NOT NULL UNIQUE REFERENCES members,
    subject        text NOT NULL,
    -- How the person signs in, hashed with a salt; empty where nobody said.
    sign_in_salt   bytea NOT NULL,
    sign_in_digest bytea NOT NULL,
    epoch          bigint NOT NULL,
    version        bigint NOT NULL DEFAULT 1,
    create_time    timestamptz NOT NULL
);

-- What each other tier and site has to forget, and when it said that it had.
CREATE TABLE erasure_parts (
    erasure_no   bigint NOT NULL REFERENCES erasures,
    -- "regional/main" or "local/<site>".
    part         text COLLATE "C" NOT NULL,
    -- The person's tokens at a site. Kept as long as backups of the site may bring the person back.
    tokens       bytea[] NOT NULL,
    confirm_time timestamptz,
    -- How much was erased the first time.
    erased       integer NOT NULL DEFAULT 0,
    -- How often it was confirmed: more than once after a restore.
    confirmed    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (erasure_no, part)
);
CREATE INDEX erasure_parts_open ON erasure_parts (erasure_no) WHERE confirm_time IS NULL;

-- Files that were compared with the register: plans, and what became of them.
CREATE TABLE imports (
    import_no   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    state       text NOT NULL CHECK (state IN ('PLANNED', 'APPLIED', 'CANCELLED', 'EXPIRED')),
    subject     text NOT NULL,
    added       integer NOT NULL,
    renewed     integer NOT NULL,
    updated     integer NOT NULL,
    unchanged   integer NOT NULL,
    rejected    integer NOT NULL,
    duplicate   integer NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    -- The rows are kept for a while only; the counts stay.
    pruned      boolean NOT NULL DEFAULT false,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    apply_time  timestamptz
);
CREATE INDEX imports_open ON imports (expire_time) WHERE state = 'PLANNED';
CREATE INDEX imports_unpruned ON imports (create_time) WHERE NOT pruned;

-- Every row of a file and its fate. Rows that are not planned yet are worthless after a crash, but what is planned must
-- outlive it.
CREATE TABLE import_rows (
    import_no      bigint NOT NULL,
    line           integer NOT NULL,
    -- 0 until it is planned, then MemberImportChange.Kind.
    kind           smallint NOT NULL DEFAULT 0,
    address        text NOT NULL,
    display_name   text NOT NULL,
    member_id      text NOT NULL,
    term_end       timestamptz,
    code           text NOT NULL DEFAULT '',
    message        text NOT NULL DEFAULT '',
    -- The member that the row met, and the version that it met.
    member_no      bigint,
    member_version bigint,
    -- What an applied row does.
    renames        boolean NOT NULL DEFAULT false,
    adds_address   boolean NOT NULL DEFAULT false,
    starts_term    boolean NOT NULL DEFAULT false,
    prolongs_term  boolean NOT NULL DEFAULT false,
    upload_time    timestamptz NOT NULL,
    PRIMARY KEY (import_no, line)
);
CREATE INDEX import_rows_upload ON import_rows (upload_time) WHERE kind = 0;
