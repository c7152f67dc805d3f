-- name: NextSyncNo :one
SELECT nextval(pg_get_serial_sequence('syncs', 'sync_no'))::bigint;

-- name: InsertSync :one
INSERT INTO syncs (sync_no, id, list_no, list_epoch, list_version, state, mode, source, format, added_state,
    added, updated, unchanged, removed, removed_pending, suppressed, rejected, duplicate, kept, claimed,
    create_time, expire_time)
VALUES (@sync_no, @id, @list_no, @list_epoch, @list_version, @state, @mode, @source, @format, @added_state,
    @added, @updated, @unchanged, @removed, @removed_pending, @suppressed, @rejected, @duplicate, @kept, @claimed,
    @create_time, @expire_time)
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
WHERE list_no = @list_no AND sync_no < @before
ORDER BY sync_no DESC
LIMIT @size;

-- name: SetStanding :one
UPDATE syncs
SET standing_before = @standing_before, standing_after = @standing_after, standing_unavailable = @standing_unavailable
WHERE sync_no = @sync_no
RETURNING *;

-- name: SetSyncApplied :one
UPDATE syncs SET state = 'APPLIED', apply_time = @now::timestamptz, version = version + 1
WHERE sync_no = @sync_no
RETURNING *;

-- name: SetSyncCancelled :one
UPDATE syncs SET state = 'CANCELLED', version = version + 1
WHERE sync_no = @sync_no
RETURNING *;

-- name: DeleteSync :exec
DELETE FROM syncs WHERE sync_no = @sync_no;

-- name: ExpireSyncs :execrows
UPDATE syncs SET state = 'EXPIRED', version = version + 1
WHERE state IN ('PLANNED', 'BLOCKED') AND expire_time <= @now;

-- name: PruneSyncChanges :execrows
WITH old AS (
    UPDATE syncs SET changes_pruned = true
    WHERE NOT changes_pruned AND state NOT IN ('PLANNED', 'BLOCKED')
      AND create_time < @before AND coalesce(apply_time, create_time) < @before
    RETURNING sync_no
)
DELETE FROM sync_changes WHERE sync_no IN (SELECT sync_no FROM old);
