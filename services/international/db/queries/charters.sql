-- name: ReadCharter :one
SELECT * FROM charters WHERE chapter_id = @chapter;

-- name: CharterForUpdate :one
SELECT * FROM charters WHERE chapter_id = @chapter FOR UPDATE;

-- Charters that the loss or return of eligibility moves, or may.
-- name: ChartersForUpdate :many
SELECT * FROM charters
WHERE chapter_no = ANY(@chapter_nos::bigint[]) AND state IN ('CHARTERED', 'AT_RISK', 'SUSPENDED')
ORDER BY chapter_no
FOR UPDATE;

-- Chapters whose charters have a deadline that has passed, those first that have waited longest.
-- name: ChaptersPastDeadline :many
SELECT chapter_no FROM charters WHERE next_time <= @now::timestamptz ORDER BY next_time LIMIT @size;

-- The standings of chapters, locked before their charters are.
-- name: StandingsOfChapters :many
SELECT sqlc.embed(s), c.id AS chapter_id, sqlc.embed(p)
FROM standings s
JOIN chapters c USING (chapter_no)
JOIN policies p ON p.revision = s.policy_revision
WHERE s.chapter_no = ANY(@chapter_nos::bigint[])
ORDER BY s.chapter_no
FOR UPDATE OF s;

-- Those of the charters whose deadline no other replica has seen to meanwhile.
-- name: ChartersPastDeadline :many
SELECT * FROM charters
WHERE chapter_no = ANY(@chapter_nos::bigint[]) AND next_time <= @now::timestamptz
ORDER BY chapter_no
FOR UPDATE;

-- name: PutCharters :batchone
INSERT INTO charters (chapter_no, chapter_id, state, reviewer, note, apply_time, decide_time, cure_by_time, reapply_time, decision,
    hand_in_time, origin, changes_request, first_approval, claim_expire_time, review_due_time, changes_due_time, renewal_due_time,
    renewal_request_time, override_until_time, protect_until_time, protect_reason, review_passed, cure_passed, renewal_passed,
    grace_left_seconds, grace_whole_time, eligible_time, waiting_for, waiting_time, next_time, verb, reasons,
    epoch, version, create_time, update_time)
SELECT @chapter_no, @chapter_id, @state, @reviewer, @note, @apply_time, sqlc.narg(decide_time), sqlc.narg(cure_by_time),
    sqlc.narg(reapply_time), @decision, sqlc.narg(hand_in_time), @origin, @changes_request, @first_approval,
    sqlc.narg(claim_expire_time), sqlc.narg(review_due_time), sqlc.narg(changes_due_time), sqlc.narg(renewal_due_time),
    sqlc.narg(renewal_request_time), sqlc.narg(override_until_time), sqlc.narg(protect_until_time), @protect_reason,
    @review_passed, @cure_passed, @renewal_passed, sqlc.narg(grace_left_seconds), sqlc.narg(grace_whole_time),
    sqlc.narg(eligible_time), @waiting_for, sqlc.narg(waiting_time), sqlc.narg(next_time), @verb, @reasons,
    epoch, 1, @now, @now
FROM epochs
ON CONFLICT (chapter_no) DO UPDATE
SET state = excluded.state, reviewer = excluded.reviewer, note = excluded.note, apply_time = excluded.apply_time,
    decide_time = excluded.decide_time, cure_by_time = excluded.cure_by_time, reapply_time = excluded.reapply_time,
    decision = excluded.decision, hand_in_time = excluded.hand_in_time, origin = excluded.origin,
    changes_request = excluded.changes_request, first_approval = excluded.first_approval,
    claim_expire_time = excluded.claim_expire_time, review_due_time = excluded.review_due_time,
    changes_due_time = excluded.changes_due_time, renewal_due_time = excluded.renewal_due_time,
    renewal_request_time = excluded.renewal_request_time, override_until_time = excluded.override_until_time,
    protect_until_time = excluded.protect_until_time, protect_reason = excluded.protect_reason,
    review_passed = excluded.review_passed, cure_passed = excluded.cure_passed, renewal_passed = excluded.renewal_passed,
    grace_left_seconds = excluded.grace_left_seconds, grace_whole_time = excluded.grace_whole_time,
    eligible_time = excluded.eligible_time, waiting_for = excluded.waiting_for, waiting_time = excluded.waiting_time,
    next_time = excluded.next_time, verb = excluded.verb, reasons = excluded.reasons,
    version = charters.version + 1, update_time = excluded.update_time
RETURNING *;

-- name: AppendHistory :batchexec
INSERT INTO charter_history (chapter_no, number, verb, from_state, to_state, subject, note, standing, policy_revision, reasons, until_time, create_time, charter)
SELECT @chapter_no, coalesce(max(h.number), 0) + 1, @verb, @from_state, @to_state, @subject, @note, @standing, @policy_revision,
    @reasons, sqlc.narg(until_time), @now, @charter
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
  AND (NOT @overdue::boolean OR ch.review_passed OR ch.cure_passed OR ch.renewal_passed)
ORDER BY ch.chapter_id
LIMIT @size;
