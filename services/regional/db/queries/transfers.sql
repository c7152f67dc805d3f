-- name: InsertTransfer :one
INSERT INTO transfers (id, chapter_id, from_region, to_region, state, proposed_by, proposer, decider, note, decision_note, create_time, decide_time)
VALUES (@id, @chapter_id, @from_region, @to_region, @state, @proposed_by, @proposer, @decider, @note, '', @create_time, @decide_time)
RETURNING *;

-- name: Transfer :one
SELECT * FROM transfers WHERE id = @id AND (from_region = @region OR to_region = @region);

-- name: ProposedTransfer :one
SELECT * FROM transfers WHERE chapter_id = @chapter_id AND state = 1 FOR NO KEY UPDATE;

-- name: DecideTransfer :one
UPDATE transfers
SET state = @state, decider = @decider, decision_note = @decision_note, decide_time = @now::timestamptz
WHERE id = @id AND state = 1
RETURNING *;

-- name: SupersedeByChapters :exec
-- Proposals for chapters that have been moved otherwise.
UPDATE transfers SET state = 5, decide_time = @now::timestamptz
WHERE state = 1 AND chapter_id = ANY(@chapter_ids::text[]);

-- name: SupersedeByRegion :exec
-- Proposals that a region which closes cannot carry out.
UPDATE transfers SET state = 5, decide_time = @now::timestamptz
WHERE state = 1 AND to_region = @region;

-- name: TransfersOf :many
-- Latest first: the ids are UUIDs of version 7.
SELECT * FROM transfers
WHERE (from_region = @region OR to_region = @region) AND (@state::smallint = 0 OR state = @state)
  AND (sqlc.narg('before')::uuid IS NULL OR id < sqlc.narg('before'))
ORDER BY id DESC
LIMIT @size;
