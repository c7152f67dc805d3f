-- +goose Up

-- What regions escalated to the international body.
CREATE TABLE escalations (
    -- concerns/<id>. Names are compared byte by byte: the owner of an aggregate lists them in that order.
    name              text COLLATE "C" PRIMARY KEY,
    -- The case that it came from.
    case_name         text NOT NULL,
    subject           text NOT NULL,
    body              text NOT NULL,
    summary           text NOT NULL,
    raiser_count      integer NOT NULL,
    raisers           text[] NOT NULL,
    state             text NOT NULL CHECK (state IN ('OPEN', 'ANSWERED', 'HANDED_TO_VENDOR', 'WITHDRAWN', 'CLOSED')),
    vendor_note       text NOT NULL DEFAULT '',
    due_time          timestamptz NOT NULL,
    overdue           boolean NOT NULL DEFAULT false,
    reminded_time     timestamptz,
    first_answer_time timestamptz,
    epoch             bigint NOT NULL,
    version           bigint NOT NULL,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL
);
CREATE INDEX escalations_listed ON escalations (create_time, name);
CREATE INDEX escalations_due ON escalations (due_time) WHERE state = 'OPEN';

CREATE TABLE escalation_answers (
    id          uuid PRIMARY KEY,
    name        text COLLATE "C" NOT NULL REFERENCES escalations,
    body        text NOT NULL,
    create_time timestamptz NOT NULL
);
CREATE INDEX escalation_answers_name ON escalation_answers (name);
