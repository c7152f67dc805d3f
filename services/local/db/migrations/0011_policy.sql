-- +goose Up

-- Copy of the charter policy, with the revisions that are scheduled; one row once it was heard of.
CREATE TABLE charter_policy (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision text NOT NULL,
    -- chapterhouse.event.v1.PolicyChanged.
    content  bytea NOT NULL
);

-- +goose Down
DROP TABLE charter_policy;
