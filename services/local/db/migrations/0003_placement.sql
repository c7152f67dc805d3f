-- +goose Up

-- The version of the regional tier's placement that region was last set by; 0 until the first one arrives.
ALTER TABLE chapters
    ADD COLUMN placement_epoch  bigint NOT NULL DEFAULT 0,
    ADD COLUMN placement_number bigint NOT NULL DEFAULT 0;

-- A region that is closed stays in the copy, since chapters may be on their way out of it; no chapter is founded there.
ALTER TABLE regions ADD COLUMN closed boolean NOT NULL DEFAULT false;
