-- +goose Up

ALTER TABLE charters
    -- When the chapter last handed its application in.
    ADD hand_in_time         timestamptz,
    -- Where CHANGES_REQUESTED leads back to.
    ADD origin               text NOT NULL DEFAULT '',
    -- The ChangesRequest, and the CharterApproval that waits for a second, as protobuf.
    ADD changes_request      bytea,
    ADD first_approval       bytea,
    ADD claim_expire_time    timestamptz,
    ADD review_due_time      timestamptz,
    ADD changes_due_time     timestamptz,
    ADD renewal_due_time     timestamptz,
    ADD renewal_request_time timestamptz,
    ADD override_until_time  timestamptz,
    -- Until then no deadline runs: the others are put off by as much when it is set.
    ADD protect_until_time   timestamptz,
    ADD protect_reason       text NOT NULL DEFAULT '',
    -- These three stay when their time has passed; this says that it has been noted.
    ADD review_passed        boolean NOT NULL DEFAULT false,
    ADD cure_passed          boolean NOT NULL DEFAULT false,
    ADD renewal_passed       boolean NOT NULL DEFAULT false,
    -- What was left of the grace period when eligibility came back, and when all of it will be again.
    ADD grace_left_seconds   bigint,
    ADD grace_whole_time     timestamptz,
    -- Since when a suspended chapter is eligible again.
    ADD eligible_time        timestamptz,
    -- What waits for staff, and since when.
    ADD waiting_for          text NOT NULL DEFAULT '',
    ADD waiting_time         timestamptz,
    -- When the next deadline passes: the first of those that have not been noted.
    ADD next_time            timestamptz,
    -- What led here last.
    ADD verb                 text NOT NULL DEFAULT '',
    ADD reasons              text[] NOT NULL DEFAULT '{}';

UPDATE charters
SET hand_in_time = apply_time, waiting_for = 'DECISION', waiting_time = apply_time, review_due_time = apply_time + interval '30 days',
    claim_expire_time = CASE WHEN state = 'IN_REVIEW' THEN now() + interval '72 hours' END,
    next_time = CASE WHEN state = 'IN_REVIEW' THEN least(apply_time + interval '30 days', now() + interval '72 hours') ELSE apply_time + interval '30 days' END
WHERE state IN ('APPLIED', 'IN_REVIEW');
UPDATE charters SET next_time = cure_by_time WHERE state = 'AT_RISK';

-- The jobs read the first, reviewers the second; there is a row only where there is something to come.
CREATE INDEX charters_next ON charters (next_time) WHERE next_time IS NOT NULL;
CREATE INDEX charters_waiting ON charters (waiting_time, chapter_id) WHERE waiting_time IS NOT NULL;
CREATE INDEX charters_overdue ON charters (chapter_id) WHERE review_passed OR cure_passed OR renewal_passed;

ALTER TABLE charter_history
    ADD reasons    text[] NOT NULL DEFAULT '{}',
    ADD until_time timestamptz;

-- +goose StatementBegin
CREATE FUNCTION refuse_to_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never edited', TG_TABLE_NAME;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER charter_history_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON charter_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_edit();

-- Appended to and never edited.
CREATE TABLE charter_comments (
    chapter_no  bigint NOT NULL REFERENCES charters,
    number      integer NOT NULL,
    subject     text NOT NULL,
    visibility  text NOT NULL CHECK (visibility IN ('INTERNAL', 'CHAPTER')),
    body        text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (chapter_no, number)
);

-- The copy of the chapters learns where they are, and how many officers they have: without a position the next comparison
-- asks for every chapter again. A latitude and longitude of 0 is a place that is not known.
ALTER TABLE chapters
    ADD latitude  double precision NOT NULL DEFAULT 0,
    ADD longitude double precision NOT NULL DEFAULT 0,
    -- Null where the site has not told.
    ADD officers  integer;
DELETE FROM positions WHERE kind = 'chapter';

-- When something on the list last changed; null before the first change that was seen here.
ALTER TABLE lists ADD change_time timestamptz;

-- What each day did to a list, for a year: what is striking before an application.
CREATE TABLE list_days (
    list_no         bigint NOT NULL REFERENCES lists,
    day             date NOT NULL,
    added           integer NOT NULL,
    removed         integer NOT NULL,
    -- Additions from one mail domain that was new to the list, in one change.
    from_new_domain integer NOT NULL,
    PRIMARY KEY (list_no, day)
);
CREATE INDEX list_days_day ON list_days (day);
