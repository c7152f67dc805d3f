-- +goose Up

-- What else a policy says. Revision 1 is the case study's rule: nothing of it asks for more than the figures.
ALTER TABLE policies
    -- Days from an application until its review is due, and from a request for changes until the chapter's answer is.
    ADD COLUMN review_due_days  integer NOT NULL DEFAULT 30 CHECK (review_due_days > 0),
    ADD COLUMN changes_due_days integer NOT NULL DEFAULT 60 CHECK (changes_due_days > 0),
    -- Hours after which a reviewer's claim ends by itself.
    ADD COLUMN claim_hours      integer NOT NULL DEFAULT 72 CHECK (claim_hours > 0),
    -- Days that a chapter must be eligible again before the days it was below the line are forgotten.
    ADD COLUMN recovery_days    integer NOT NULL DEFAULT 30 CHECK (recovery_days >= 0),
    -- What happens by itself when the grace period ends: a task for staff, or the charter is suspended.
    ADD COLUMN grace_end        text NOT NULL DEFAULT 'REVIEW' CHECK (grace_end IN ('REVIEW', 'SUSPEND')),
    -- Days for which a charter is good until it is renewed; 0 for good.
    ADD COLUMN renewal_days     integer NOT NULL DEFAULT 0 CHECK (renewal_days >= 0),
    -- Days within which something on the chapter's lists must have changed; 0 for no such rule.
    ADD COLUMN activity_days    integer NOT NULL DEFAULT 0 CHECK (activity_days >= 0),
    ADD COLUMN minimum_officers integer NOT NULL DEFAULT 0 CHECK (minimum_officers >= 0),
    -- Whether a second person must agree to an approval.
    ADD COLUMN second_approval  boolean NOT NULL DEFAULT false,
    -- Who made the revision, and why.
    ADD COLUMN subject          text NOT NULL DEFAULT 'system',
    ADD COLUMN note             text NOT NULL DEFAULT '',
    ADD COLUMN create_time      timestamptz NOT NULL DEFAULT now();
