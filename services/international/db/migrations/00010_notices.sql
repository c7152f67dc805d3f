-- +goose Up

-- Copy of the local tier's officers, of whom nothing crosses but their terms and a keyed hash of who signs in.
CREATE TABLE chapter_officers (
    chapter_no    bigint NOT NULL REFERENCES chapters,
    position      integer NOT NULL,
    -- Empty for one who does not sign in.
    subject_token bytea NOT NULL,
    term_start    timestamptz NOT NULL,
    term_end      timestamptz NOT NULL,
    PRIMARY KEY (chapter_no, position)
);

-- What officers and coordinators were told. Its key is what tells it once; rows are kept for good and are answered for as
-- long as they are live.
CREATE TABLE notices (
    -- Made of the key.
    id         uuid PRIMARY KEY,
    chapter_no bigint NOT NULL REFERENCES chapters,
    kind       text NOT NULL,
    -- What it is about within its kind: a version of the charter, a deadline and how long before it, a moment.
    occasion   text NOT NULL,
    -- chapterhouse.event.v1.NoticeIssued.
    content    bytea NOT NULL,
    live       boolean NOT NULL DEFAULT true,
    -- Of its only version.
    epoch      bigint NOT NULL,
    issue_time timestamptz NOT NULL,
    UNIQUE (chapter_no, kind, occasion)
);
CREATE INDEX notices_live ON notices (id) WHERE live;
CREATE INDEX notices_issue ON notices (issue_time) WHERE live;

-- Chapters that crossed the line, and of which that is not told yet: whoever crosses it back in the meantime is not here
-- any more.
CREATE TABLE crossings (
    chapter_no bigint PRIMARY KEY REFERENCES chapters,
    eligible   boolean NOT NULL,
    cross_time timestamptz NOT NULL,
    due_time   timestamptz NOT NULL
);
CREATE INDEX crossings_due ON crossings (due_time);

-- The copy of the chapters learns of their officers: without a position the next comparison asks for every chapter again.
DELETE FROM positions WHERE kind = 'chapter';

-- +goose Down
DROP TABLE crossings, notices, chapter_officers;
