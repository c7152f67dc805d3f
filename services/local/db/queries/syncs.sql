-- name: NextSyncNo :one
SELECT nextval(pg_get_serial_sequence('syncs', 'sync_no'))::bigint;

-- name: InsertSync :one
INSERT INTO syncs (sync_no, id, list_no, list_epoch, list_version, state, mode, source, format, added_state,
    added, added_pending, updated, unchanged, removed, removed_pending, suppressed, rejected, duplicate, kept, claimed,
    reverts, create_time, expire_time)
VALUES (@sync_no, @id, @list_no, @list_epoch, @list_version, @state, @mode, @source, @format, @added_state,
    @added, @added_pending, @updated, @unchanged, @removed, @removed_pending, @suppressed, @rejected, @duplicate, @kept, @claimed,
    @reverts, @create_time, @expire_time)
ON CONFLICT (sync_no) DO UPDATE
-- One that was answered while it was being planned.
SET list_epoch = excluded.list_epoch, list_version = excluded.list_version, state = excluded.state, added_state = excluded.added_state,
    added = excluded.added, added_pending = excluded.added_pending, updated = excluded.updated, unchanged = excluded.unchanged,
    removed = excluded.removed, removed_pending = excluded.removed_pending, suppressed = excluded.suppressed,
    rejected = excluded.rejected, duplicate = excluded.duplicate, kept = excluded.kept, claimed = excluded.claimed,
    expire_time = excluded.expire_time, version = syncs.version + 1
WHERE syncs.state = 'PLANNING'
RETURNING *;

-- name: Sync :one
SELECT s.* FROM syncs s
JOIN lists l USING (list_no)
WHERE l.chapter_id = @chapter_id AND l.id = @list_id AND s.id = @id;

-- name: SyncForUpdate :one
SELECT s.* FROM syncs s
JOIN lists l USING (list_no)
WHERE l.chapter_id = @chapter_id AND l.id = @list_id AND s.id = @id
FOR NO KEY UPDATE OF s;

-- name: SyncsBefore :many
SELECT * FROM syncs
WHERE list_no = @list_no AND sync_no < @before AND reverts IS NULL
ORDER BY sync_no DESC
LIMIT @size;

-- name: SetStanding :one
-- With it a plan is complete, unless it was cancelled or given up meanwhile.
UPDATE syncs
SET state = @state, standing_before = @standing_before, standing_after = @standing_after, standing_unavailable = @standing_unavailable,
    charter_before = @charter_before, charter_after = @charter_after
WHERE sync_no = @sync_no AND state IN ('PLANNING', 'PLANNED', 'BLOCKED')
RETURNING *;

-- name: SetSyncApplied :one
UPDATE syncs
SET state = 'APPLIED', apply_time = @now::timestamptz, applied_version = @applied_version::bigint, replaced_time = @replaced_time,
    version = version + 1
WHERE sync_no = @sync_no
RETURNING *;

-- name: SetSyncCancelled :one
UPDATE syncs SET state = 'CANCELLED', version = version + 1
WHERE sync_no = @sync_no
RETURNING *;

-- name: SetSyncReverted :one
UPDATE syncs SET state = 'REVERTED', revert_time = @now::timestamptz, conflicts = @conflicts, version = version + 1
WHERE sync_no = @sync_no
RETURNING *;

-- name: SetSyncFailed :execrows
UPDATE syncs SET state = 'FAILED', failure_reason = @reason, failure_text = @text, version = version + 1
WHERE sync_no = @sync_no AND state IN ('PLANNING', 'PLANNED');

-- name: FailLostSyncs :execrows
-- Those that nobody plans any more.
UPDATE syncs
SET state = 'FAILED', failure_reason = 'UPLOAD_INTERRUPTED', failure_text = 'the upload was lost; send it again', version = version + 1
WHERE state = 'PLANNING' AND create_time < @before;

-- name: CancelPlansWith :execrows
-- Closes the open plans of a chapter that hold a person.
UPDATE syncs s SET state = 'CANCELLED', version = s.version + 1
FROM lists l
WHERE l.list_no = s.list_no AND l.chapter_id = @chapter_id AND s.state IN ('PLANNED', 'BLOCKED')
  AND EXISTS (SELECT FROM sync_changes c WHERE c.sync_no = s.sync_no AND c.tokens @> ARRAY[@token::bytea]);

-- name: DeleteSync :exec
DELETE FROM syncs WHERE sync_no = @sync_no;

-- name: ExpireSyncs :execrows
UPDATE syncs SET state = 'EXPIRED', version = version + 1
WHERE state IN ('PLANNED', 'BLOCKED') AND expire_time <= @now;

-- name: PruneSyncChanges :execrows
WITH old AS (
    UPDATE syncs SET changes_pruned = true
    WHERE NOT changes_pruned AND state NOT IN ('PLANNED', 'BLOCKED', 'PLANNING')
      AND create_time < @before AND coalesce(apply_time, create_time) < @before
    RETURNING sync_no
)
DELETE FROM sync_changes WHERE sync_no IN (SELECT sync_no FROM old);
