-- name: ReadCharter :one
SELECT * FROM charters WHERE chapter_id = @chapter;

-- name: CharterForUpdate :one
SELECT * FROM charters WHERE chapter_id = @chapter FOR UPDATE;

-- Charters that the loss or return of eligibility moves.
-- name: ChartersForUpdate :many
SELECT * FROM charters
WHERE chapter_no = ANY(@chapter_nos::bigint[]) AND state IN ('CHARTERED', 'AT_RISK')
ORDER BY chapter_no
FOR UPDATE;

-- name: PutCharter :one
INSERT INTO charters (chapter_no, chapter_id, state, reviewer, note, apply_time, decide_time, cure_by_time, reapply_time, decision, epoch, version, create_time, update_time)
SELECT @chapter_no, @chapter_id, @state, @reviewer, @note, @apply_time, sqlc.narg(decide_time), sqlc.narg(cure_by_time), sqlc.narg(reapply_time), @decision, epoch, 1, @now, @now
FROM epochs
ON CONFLICT (chapter_no) DO UPDATE
SET state = excluded.state, reviewer = excluded.reviewer, note = excluded.note, apply_time = excluded.apply_time,
    decide_time = excluded.decide_time, cure_by_time = excluded.cure_by_time, reapply_time = excluded.reapply_time,
    decision = excluded.decision, version = charters.version + 1, update_time = excluded.update_time
RETURNING *;

-- name: AppendHistory :exec
INSERT INTO charter_history (chapter_no, number, verb, from_state, to_state, subject, note, standing, policy_revision, create_time, charter)
SELECT @chapter_no, coalesce(max(h.number), 0) + 1, @verb, @from_state, @to_state, @subject, @note, @standing, @policy_revision, @now, @charter
FROM charter_history h WHERE h.chapter_no = @chapter_no;

-- name: HistoryAfter :many
SELECT h.* FROM charter_history h JOIN charters c USING (chapter_no)
WHERE c.chapter_id = @chapter AND h.number > @after
ORDER BY h.number
LIMIT @size;

-- name: ChartersAfter :many
SELECT ch.* FROM charters ch JOIN chapters c USING (chapter_no)
WHERE ch.chapter_id > @after
  AND (@state::text = '' OR ch.state = @state)
  AND (@any_region::boolean OR c.region = ANY(@regions::text[]))
ORDER BY ch.chapter_id
LIMIT @size;
