-- +goose Up

-- Who acts for a chapter. Whoever changes one holds the chapter's row: the chapter's event tells of them all.
CREATE TABLE officers (
    id             uuid PRIMARY KEY,
    chapter_id     text COLLATE "C" NOT NULL REFERENCES chapters,
    display_name   text NOT NULL,
    -- Officer.Role.
    role           smallint NOT NULL,
    subject        text NOT NULL,
    -- Canonical, and its token; both empty for somebody who gets no mail.
    mail_address   text NOT NULL,
    mail_token     bytea NOT NULL,
    notices_muted  boolean NOT NULL,
    term_start     timestamptz NOT NULL,
    term_end       timestamptz NOT NULL,
    -- Nobody is reached at the address.
    bounce_time    timestamptz,
    bounce_failure text NOT NULL DEFAULT '',
    version        bigint NOT NULL DEFAULT 1,
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    CHECK (term_start < term_end)
);
CREATE INDEX officers_chapter ON officers (chapter_id, id);
CREATE INDEX officers_mail ON officers (mail_token) WHERE mail_token <> '';

-- Notices of the international body in the chapters' inboxes.
CREATE TABLE notices (
    id             uuid PRIMARY KEY,
    chapter_id     text COLLATE "C" NOT NULL REFERENCES chapters,
    -- InboxItem.State: 1 ARRIVED, 3 DISMISSED.
    state          smallint NOT NULL DEFAULT 1 CHECK (state IN (1, 3)),
    dismiss_reason text NOT NULL DEFAULT '',
    -- chapterhouse.event.v1.NoticeIssued.
    content        bytea NOT NULL,
    arrive_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL
);
CREATE INDEX notices_chapter ON notices (chapter_id, arrive_time DESC, id DESC);

-- A further kind of mails: 0 a notice to an officer. It stands before all others: a deadline may be a day away. Its list is
-- the members list of the chapter, which is there always.
ALTER TABLE mails
    ADD notice_id  uuid REFERENCES notices,
    ADD officer_id uuid;
-- One an address, whoever of the officers reads there.
CREATE UNIQUE INDEX mails_notice ON mails (notice_id, token) WHERE notice_id IS NOT NULL;

-- +goose Down
DELETE FROM mails WHERE kind = 0;
ALTER TABLE mails DROP notice_id, DROP officer_id;
DROP TABLE notices, officers;
