-- +goose Up

-- BCP 47; empty for a chapter that takes the original.
ALTER TABLE chapters ADD language_code text NOT NULL DEFAULT '';

ALTER TABLE lists
    -- List.AnnouncementMode: 1 AUTO, 2 ASK, 3 NEVER.
    ADD announcement_mode smallint NOT NULL DEFAULT 2 CHECK (announcement_mode BETWEEN 1 AND 3),
    ADD from_name         text NOT NULL DEFAULT '',
    ADD reply_to          text NOT NULL DEFAULT '',
    -- Of a list that lives elsewhere; empty for all others.
    ADD posting_address   text NOT NULL DEFAULT '';

-- Copy of the international tier's charters, of all sites' chapters.
CREATE TABLE charters (
    chapter_id  text COLLATE "C" PRIMARY KEY,
    state       text NOT NULL,
    update_time timestamptz NOT NULL
);

-- Copy of the announcements of the two tiers above, each once however many chapters have it. Whoever changes anything
-- about one locks its row first, be it that nothing but its id is known yet.
CREATE TABLE announcements (
    id                      uuid PRIMARY KEY,
    name                    text NOT NULL,
    -- 0 until the announcement itself has come.
    edition                 integer NOT NULL DEFAULT 0,
    -- chapterhouse.event.v1.AnnouncementChanged.
    content                 bytea NOT NULL DEFAULT '',
    audience_regions        text[] NOT NULL DEFAULT '{}',
    audience_charter_states text[] NOT NULL DEFAULT '{}',
    audience_languages      text[] NOT NULL DEFAULT '{}',
    recalled                boolean NOT NULL DEFAULT false
);

-- Copy of the regional tier's relays.
CREATE TABLE relays (
    announcement_id uuid NOT NULL REFERENCES announcements,
    region          text COLLATE "C" NOT NULL,
    parent_region   text COLLATE "C",
    state           text NOT NULL,
    -- chapterhouse.event.v1.RelayChanged without its reach.
    content         bytea NOT NULL,
    chapters        text[] NOT NULL,
    chapters_chosen boolean NOT NULL,
    forward_time    timestamptz,
    PRIMARY KEY (announcement_id, region)
);
CREATE INDEX relays_region ON relays (region, forward_time) WHERE state = 'FORWARDED';

-- What lies in the chapters' inboxes. Its key is what makes it come once; it holds no text. No foreign keys: items are made
-- from rows of both tables, of which none is ever deleted, and checking them would double what filling the inboxes costs.
CREATE TABLE inbox_items (
    announcement_id uuid NOT NULL,
    chapter_id      text COLLATE "C" NOT NULL,
    -- By whose relay it came.
    region          text COLLATE "C" NOT NULL,
    -- InboxItem.State: 1 ARRIVED, 2 SENT, 3 DISMISSED. Recalled is the announcement.
    state           smallint NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 3),
    arrived_edition integer NOT NULL,
    dismiss_reason  text NOT NULL DEFAULT '',
    arrive_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    -- Of the receipt, which was not told yet at version 0; untold says that there is something new to tell.
    epoch           bigint NOT NULL,
    version         bigint NOT NULL DEFAULT 0,
    untold          boolean NOT NULL DEFAULT true,
    PRIMARY KEY (announcement_id, chapter_id)
);
-- A chapter's items, and all items in the order of their receipts' names: "a/" comes after "a-b/".
CREATE INDEX inbox_items_receipt ON inbox_items ((chapter_id || '/'), announcement_id);
CREATE INDEX inbox_items_untold ON inbox_items (chapter_id) WHERE untold;

CREATE TABLE mailings (
    mailing_no      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    announcement_id uuid NOT NULL,
    chapter_id      text COLLATE "C" NOT NULL,
    list_no         bigint NOT NULL REFERENCES lists,
    state           text NOT NULL CHECK (state IN ('SCHEDULED', 'RUNNING', 'DONE', 'CANCELLED')),
    automatic       boolean NOT NULL,
    -- One mail to the list's posting address; set when it starts.
    posting         boolean NOT NULL DEFAULT false,
    note            text NOT NULL DEFAULT '',
    due_time        timestamptz NOT NULL,
    create_time     timestamptz NOT NULL,
    start_time      timestamptz,
    end_time        timestamptz,
    -- Its mails by what became of them, moved in the statement that ends them. Queued are those under way too.
    queued          integer NOT NULL DEFAULT 0 CHECK (queued >= 0),
    sent            integer NOT NULL DEFAULT 0 CHECK (sent >= 0),
    bounced         integer NOT NULL DEFAULT 0 CHECK (bounced >= 0),
    failed          integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    uncertain       integer NOT NULL DEFAULT 0 CHECK (uncertain >= 0),
    unsubscribed    integer NOT NULL DEFAULT 0 CHECK (unsubscribed >= 0),
    -- The counts moved since the last receipt.
    moved           boolean NOT NULL DEFAULT false,
    FOREIGN KEY (announcement_id, chapter_id) REFERENCES inbox_items,
    UNIQUE (announcement_id, chapter_id, list_no)
) WITH (fillfactor = 50);
CREATE INDEX mailings_due ON mailings (due_time) WHERE state = 'SCHEDULED';
CREATE INDEX mailings_moved ON mailings (mailing_no) WHERE moved;

-- Further kinds of mails: 2 an announcement to a person, 3 one to the posting address of a list.
ALTER TABLE mails
    ADD mailing_no      bigint REFERENCES mailings,
    ADD announcement_id uuid,
    -- Of the address, for the limits of rates.
    ADD domain          text NOT NULL DEFAULT '',
    -- Who took it, which is dead when nobody holds the advisory lock of this number.
    ADD owner           integer NOT NULL DEFAULT 0,
    -- It FAILED because nobody is reached at the address.
    ADD bounced         boolean NOT NULL DEFAULT false,
    -- Its reader left the list by the link in it.
    ADD left_by_it      boolean NOT NULL DEFAULT false;
-- One a person, on however many lists.
CREATE UNIQUE INDEX mails_announcement ON mails (announcement_id, token) WHERE announcement_id IS NOT NULL;
CREATE INDEX mails_id ON mails (id);
DROP INDEX mails_open, mails_due, mails_taken;
CREATE UNIQUE INDEX mails_open ON mails (list_no, token) WHERE state IN ('QUEUED', 'SENDING') AND kind = 1;
-- Confirmations first: somebody waits for them.
CREATE INDEX mails_due ON mails (kind, due_time, mail_no) WHERE state = 'QUEUED';
CREATE INDEX mails_taken ON mails (owner) WHERE state = 'SENDING';
CREATE SEQUENCE mail_owners AS integer CYCLE;

-- Mails in the air: which of those that are SENDING were handed to the mail server, and what became of them as long as it is
-- not written into the mail. Writing it costs no wait for the disk; it outlives the process that wrote it, and is empty
-- after a crash of the database. Each process has a row with its own number, negative, that says that there was no crash.
CREATE UNLOGGED TABLE mail_flights (
    mail_no  bigint PRIMARY KEY,
    owner    integer NOT NULL,
    -- What became of it; null while it is under way.
    state    text,
    bounced  boolean NOT NULL DEFAULT false,
    failure  text NOT NULL DEFAULT '',
    due_time timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.5);

-- Whether a chapter is of an audience by its language: the tag itself or a variant of it. An empty audience is everybody.
-- +goose StatementBegin
CREATE FUNCTION speaks(language text, audience text[]) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT cardinality(audience) = 0 OR EXISTS (
        SELECT FROM unnest(audience) AS wanted
        WHERE lower(language) = lower(wanted) OR starts_with(lower(language), lower(wanted) || '-')
    )
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION speaks;
DELETE FROM mails WHERE kind <> 1;
DROP INDEX mails_open, mails_due, mails_taken, mails_id, mails_announcement;
ALTER TABLE mails DROP mailing_no, DROP announcement_id, DROP domain, DROP owner, DROP bounced, DROP left_by_it;
CREATE INDEX mails_due ON mails (due_time) WHERE state = 'QUEUED';
CREATE INDEX mails_taken ON mails (take_time) WHERE state = 'SENDING';
CREATE UNIQUE INDEX mails_open ON mails (list_no, token, kind) WHERE state IN ('QUEUED', 'SENDING');
DROP TABLE mail_flights;
DROP SEQUENCE mail_owners;
DROP TABLE mailings, inbox_items, relays, announcements, charters;
ALTER TABLE lists DROP announcement_mode, DROP from_name, DROP reply_to, DROP posting_address;
ALTER TABLE chapters DROP language_code;
