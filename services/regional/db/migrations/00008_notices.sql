-- +goose Up

-- Notices of the international body about chapters, until those who act for the chapter's region are told.
CREATE TABLE notices (
    id         uuid PRIMARY KEY,
    chapter_id text        NOT NULL,
    -- chapterhouse.event.v1.NoticeIssued; emptied when it is told.
    content    bytea       NOT NULL,
    issue_time timestamptz NOT NULL,
    told       boolean     NOT NULL DEFAULT false
);
CREATE INDEX notices_untold ON notices (issue_time) WHERE NOT told;

-- +goose Down
DROP TABLE notices;
