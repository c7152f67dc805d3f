-- +goose Up

-- What lies in a region of what chapters raised. A case leads to at most one other, which it was merged into (in the same
-- region) or escalated to (in another one, or with the international body): the cases form trees. Whoever changes one
-- holds the lock of all, see caseLock. A region or chapter need not exist any more: no foreign keys.
CREATE TABLE cases (
    -- regions/<region>/concerns/<id>. Names are compared byte by byte: the owner of an aggregate lists them in that order.
    name              text COLLATE "C" PRIMARY KEY,
    region_id         text COLLATE "C" NOT NULL,
    -- The chapter's concern; empty for what was escalated from a region below.
    concern           text NOT NULL,
    -- The chapter took it back.
    withdrawn         boolean NOT NULL DEFAULT false,
    -- The region that it was escalated from; empty for a chapter's.
    from_region       text NOT NULL,
    subject           text NOT NULL,
    body              text NOT NULL,
    shared            boolean NOT NULL,
    -- What the region below said when it escalated it to here, and this one when it escalated it further.
    summary           text NOT NULL,
    escalation_summary text NOT NULL DEFAULT '',
    state             text NOT NULL CHECK (state IN ('OPEN', 'ANSWERED', 'MERGED', 'ESCALATED', 'WITHDRAWN', 'CLOSED')),
    -- The name of another case, or concerns/<id> with the international body.
    leads_to          text COLLATE "C",
    due_time          timestamptz NOT NULL,
    overdue           boolean NOT NULL DEFAULT false,
    reminded_time     timestamptz,
    -- The first answer that reached it, from wherever it leads to.
    first_answer_time timestamptz,
    -- When the chapter raised it.
    raise_time        timestamptz NOT NULL,
    epoch             bigint NOT NULL,
    version           bigint NOT NULL,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL
);
CREATE INDEX cases_region ON cases (region_id, create_time, name);
CREATE INDEX cases_leads_to ON cases (leads_to) WHERE leads_to IS NOT NULL;
CREATE INDEX cases_due ON cases (due_time) WHERE state = 'OPEN';

-- What a case's text is found by: its words, without any language's rules, since chapters write in many.
CREATE TABLE case_words (
    name  text COLLATE "C" PRIMARY KEY REFERENCES cases,
    words tsvector NOT NULL
);

-- Answers, at the case or at the concern of the international body where they were given. They are never changed.
CREATE TABLE case_answers (
    id          uuid PRIMARY KEY,
    given_at    text COLLATE "C" NOT NULL,
    given_by    text NOT NULL,
    body        text NOT NULL,
    create_time timestamptz NOT NULL
);
CREATE INDEX case_answers_given_at ON case_answers (given_at);

-- Copy of the international tier's concerns.
CREATE TABLE escalations (
    name        text COLLATE "C" PRIMARY KEY,
    state       text NOT NULL,
    due_time    timestamptz,
    overdue     boolean NOT NULL,
    vendor_note text NOT NULL
);
