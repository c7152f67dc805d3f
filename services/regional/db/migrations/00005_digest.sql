-- +goose Up

-- The copies of the charters and chapters learn more: without a position the next comparison asks for each of them again.
ALTER TABLE charters
    -- Since when it is in its state, as far as has been heard of here.
    ADD COLUMN state_time   timestamptz,
    ADD COLUMN cure_by_time timestamptz;
ALTER TABLE chapters
    ADD COLUMN display_name  text NOT NULL DEFAULT '',
    -- BCP 47; empty where the chapter has not said.
    ADD COLUMN language_code text NOT NULL DEFAULT '',
    -- When an event of the chapter's site told of it last, within an hour.
    ADD COLUMN heard_time    timestamptz NOT NULL DEFAULT now();
ALTER TABLE chapters ALTER COLUMN heard_time DROP DEFAULT;
DELETE FROM positions WHERE kind IN ('charter', 'chapter');

ALTER TABLE coordinators
    -- Where mail goes; empty for no mail. No event and no log line holds it.
    ADD COLUMN mail_address    text NOT NULL DEFAULT '',
    -- When the next weekly digest is due; NULL until the service next starts.
    ADD COLUMN digest_due_time timestamptz;
CREATE INDEX coordinators_digest ON coordinators (digest_due_time);

-- What coordinators have left out of their own digests. An item may be gone: nothing refers to it.
CREATE TABLE digest_snoozes (
    -- Whom the token named.
    subject    text        NOT NULL,
    region_id  text        NOT NULL,
    item       text        NOT NULL,
    until_time timestamptz NOT NULL,
    PRIMARY KEY (subject, region_id, item)
);

-- Mails to coordinators, one row a mail. The address is the coordinator's at the moment in which it is sent.
CREATE SEQUENCE mail_owners AS integer CYCLE;
CREATE TABLE mails (
    id             uuid        PRIMARY KEY,
    coordinator_id uuid        NOT NULL REFERENCES coordinators ON DELETE CASCADE,
    -- What it is about: 'digest/<day>', 'urgent/<announcement>', ... A second one is never made.
    topic          text        NOT NULL,
    -- EMPTY is a digest with nothing to say.
    state          text        NOT NULL CHECK (state IN ('QUEUED', 'SENDING', 'SENT', 'FAILED', 'UNCERTAIN', 'CANCELLED', 'EMPTY')),
    -- Emptied when it has come to its end.
    subject        text        NOT NULL,
    text           text        NOT NULL,
    html           text        NOT NULL,
    attempts       integer     NOT NULL DEFAULT 0,
    -- Whoever is SENDING it holds the advisory lock of this number.
    owner          integer,
    -- Why it was not sent: without any address.
    failure        text        NOT NULL DEFAULT '',
    due_time       timestamptz NOT NULL,
    create_time    timestamptz NOT NULL,
    end_time       timestamptz,
    UNIQUE (coordinator_id, topic)
);
CREATE INDEX mails_queued ON mails (due_time) WHERE state = 'QUEUED';
CREATE INDEX mails_sending ON mails (owner) WHERE state = 'SENDING';
CREATE INDEX mails_ended ON mails (end_time) WHERE end_time IS NOT NULL;

ALTER TABLE relays
    -- When its coordinators were last reminded of it.
    ADD COLUMN reminded_time timestamptz,
    -- Its coordinators are to be told that an urgent announcement passed.
    ADD COLUMN inform        boolean NOT NULL DEFAULT false;
CREATE INDEX relays_remind ON relays (remind_time) WHERE state = 'WAITING';
CREATE INDEX relays_inform ON relays (announcement_id) WHERE inform;

-- Everybody may read it. What regions and staff have announced so far was not meant for everybody.
ALTER TABLE announcements
    ADD COLUMN public    boolean NOT NULL DEFAULT false,
    -- The audience's, of a public one.
    ADD COLUMN languages text[]  NOT NULL DEFAULT '{}';
CREATE INDEX relays_forwarded ON relays (region_id, forward_time) WHERE state = 'FORWARDED';
