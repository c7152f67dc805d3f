-- +goose Up

-- Every state that a standing was in, appended by the statement that moves the standing. No foreign keys: both tables are
-- never deleted from, and checking would be a third of what a row costs. After a year the last row of each day is kept.
CREATE TABLE standing_history (
    chapter_no               bigint NOT NULL,
    -- Never goes back within a chapter, whatever the clocks of several processes say.
    change_time              timestamptz NOT NULL,
    epoch                    bigint NOT NULL,
    version                  bigint NOT NULL,
    membership_total         integer NOT NULL,
    membership_international integer NOT NULL,
    mailing_total            integer NOT NULL,
    mailing_international    integer NOT NULL,
    policy_revision          integer NOT NULL,
    -- StandingRecord.Cause: 1 RECORDS_BEGIN, 2 LIST, 3 REGISTER, 4 POLICY.
    cause                    smallint NOT NULL CHECK (cause BETWEEN 1 AND 4),
    eligible                 boolean NOT NULL,
    register_position        bigint NOT NULL,
    -- The list whose version moved the standing.
    list_no                  bigint,
    list_epoch               bigint,
    list_version             bigint,
    PRIMARY KEY (chapter_no, change_time, epoch, version)
);
-- Finds the days to compact. Rows come in the order of time, so it costs next to nothing.
CREATE INDEX standing_history_time ON standing_history USING brin (change_time) WITH (pages_per_range = 32, autosummarize = on);

INSERT INTO standing_history
SELECT chapter_no, update_time, epoch, version, membership_total, membership_international, mailing_total, mailing_international,
       policy_revision, 1, eligible, register_position
FROM standings;

-- Up to when the history holds the last row of each day only; one row.
CREATE TABLE standing_compaction (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    until timestamptz NOT NULL
);
INSERT INTO standing_compaction (until) SELECT coalesce(date_trunc('day', min(change_time), 'UTC'), 'epoch') FROM standing_history;

-- A revision that has not come into force can be withdrawn; it keeps its number.
ALTER TABLE policies
    ADD COLUMN withdraw_time    timestamptz,
    ADD COLUMN withdraw_subject text NOT NULL DEFAULT '';

-- The policy as a whole: the version of its revisions, and the last revision by which all standings are judged; one row.
CREATE TABLE policy_state (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    enforced_revision integer NOT NULL REFERENCES policies,
    epoch             bigint NOT NULL,
    version           bigint NOT NULL DEFAULT 1
);
INSERT INTO policy_state (enforced_revision, epoch) SELECT (SELECT max(revision) FROM policies), epoch FROM epochs;

-- The Charter after the transition, as protobuf, for whoever asks how it was then. Null for transitions of before.
ALTER TABLE charter_history ADD COLUMN charter bytea;
