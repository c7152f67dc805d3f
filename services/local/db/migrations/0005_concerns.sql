-- +goose Up

-- What chapters raised.
CREATE TABLE concerns (
    -- chapters/<chapter>/concerns/<id>. Names are compared byte by byte: the owner of an aggregate lists them in that order.
    name        text COLLATE "C" PRIMARY KEY,
    chapter_id  text COLLATE "C" NOT NULL REFERENCES chapters,
    subject     text NOT NULL,
    body        text NOT NULL,
    shared      boolean NOT NULL,
    -- The region that it went to.
    region      text COLLATE "C" NOT NULL,
    -- What it is there: regions/<region>/concerns/<id>.
    case_name   text COLLATE "C" NOT NULL UNIQUE,
    -- The case that it joined; empty for one of its own.
    joins       text COLLATE "C" NOT NULL,
    -- Who raised it, as the token names them. It leaves the site in no event and no answer.
    raiser      text NOT NULL,
    withdrawn   boolean NOT NULL DEFAULT false,
    epoch       bigint NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX concerns_chapter ON concerns (chapter_id, create_time DESC, name DESC);
CREATE UNIQUE INDEX concerns_joins ON concerns (chapter_id, joins) WHERE joins <> '' AND NOT withdrawn;

-- Copies of the regional tier's cases: those of this site's concerns, and those that can be joined.
CREATE TABLE cases (
    name              text COLLATE "C" PRIMARY KEY,
    region            text COLLATE "C" NOT NULL,
    subject           text NOT NULL,
    body              text NOT NULL,
    shared            boolean NOT NULL,
    state             text NOT NULL,
    merged_into       text NOT NULL,
    lies_with         text NOT NULL,
    lies_state        text NOT NULL,
    due_time          timestamptz,
    overdue           boolean NOT NULL,
    first_answer_time timestamptz,
    vendor_note       text NOT NULL,
    raiser_count      integer NOT NULL,
    epoch             bigint NOT NULL,
    version           bigint NOT NULL,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL
);
CREATE INDEX cases_shared ON cases (region, create_time DESC, name DESC) WHERE shared;

-- An answer is kept once for each of the cases that it reached, however often it arrives.
CREATE TABLE case_answers (
    case_name   text COLLATE "C" NOT NULL REFERENCES cases ON DELETE CASCADE,
    id          uuid NOT NULL,
    given_by    text NOT NULL,
    body        text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (case_name, id)
);
