-- name: StandingAsOf :one
SELECT sqlc.embed(h), sqlc.embed(p)
FROM standing_history h
JOIN policies p ON p.revision = h.policy_revision
WHERE h.chapter_no = @chapter_no AND h.change_time <= @at::timestamptz
ORDER BY h.change_time DESC, h.epoch DESC, h.version DESC
LIMIT 1;

-- name: StandingRecordsBegin :one
SELECT change_time FROM standing_history WHERE chapter_no = @chapter_no ORDER BY change_time, epoch, version LIMIT 1;

-- name: StandingHistoryAfter :many
SELECT sqlc.embed(h), coalesce(l.id, '')::text AS list_id
FROM standing_history h
LEFT JOIN lists l USING (list_no)
WHERE h.chapter_no = @chapter_no
  AND (h.change_time, h.epoch, h.version) > (@after_time::timestamptz, @after_epoch::bigint, @after_version::bigint)
  AND h.change_time >= @start_time::timestamptz AND h.change_time < @end_time::timestamptz
ORDER BY h.change_time, h.epoch, h.version
LIMIT @size;

-- The last of each day. The cursor is the last row of a day, so whole days lie behind it.
-- name: StandingDaysAfter :many
SELECT sqlc.embed(h), coalesce(l.id, '')::text AS list_id
FROM (
    SELECT DISTINCT ON (date_trunc('day', d.change_time, 'UTC')) d.change_time, d.epoch, d.version
    FROM standing_history d
    WHERE d.chapter_no = @chapter_no
      AND (d.change_time, d.epoch, d.version) > (@after_time::timestamptz, @after_epoch::bigint, @after_version::bigint)
      AND d.change_time >= @start_time::timestamptz AND d.change_time < @end_time::timestamptz
    ORDER BY date_trunc('day', d.change_time, 'UTC'), d.change_time DESC, d.epoch DESC, d.version DESC
) AS last
JOIN standing_history h ON h.chapter_no = @chapter_no AND (h.change_time, h.epoch, h.version) = (last.change_time, last.epoch, last.version)
LEFT JOIN lists l USING (list_no)
ORDER BY h.change_time, h.epoch, h.version
LIMIT @size;

-- The figures at the end of each of the days before a time, oldest first: what stood then, however long ago it changed.
-- name: StandingTrend :many
SELECT day.ends::timestamptz AS ends, sqlc.embed(h)
FROM generate_series(@first_end::timestamptz, @last_end::timestamptz, interval '1 day') AS day (ends)
CROSS JOIN LATERAL (
    SELECT s.change_time, s.epoch, s.version
    FROM standing_history s
    WHERE s.chapter_no = @chapter_no AND s.change_time < day.ends
    ORDER BY s.change_time DESC, s.epoch DESC, s.version DESC
    LIMIT 1
) AS last
JOIN standing_history h ON h.chapter_no = @chapter_no AND (h.change_time, h.epoch, h.version) = (last.change_time, last.epoch, last.version)
ORDER BY day.ends;

-- name: CompactedUntil :one
SELECT until FROM standing_compaction FOR UPDATE;

-- name: FirstToCompact :one
SELECT change_time FROM standing_history
WHERE change_time >= @since::timestamptz AND change_time < @before::timestamptz
ORDER BY change_time
LIMIT 1;

-- Leaves the last row of a day of every chapter.
-- name: CompactDay :execrows
DELETE FROM standing_history h
USING (
    SELECT DISTINCT ON (d.chapter_no) d.chapter_no, d.change_time, d.epoch, d.version
    FROM standing_history d
    WHERE d.change_time >= @begins::timestamptz AND d.change_time < @ends::timestamptz
    ORDER BY d.chapter_no, d.change_time DESC, d.epoch DESC, d.version DESC
) AS last
WHERE h.chapter_no = last.chapter_no AND h.change_time >= @begins::timestamptz
  AND (h.change_time, h.epoch, h.version) < (last.change_time, last.epoch, last.version);

-- name: SetCompactedUntil :exec
UPDATE standing_compaction SET until = @until;

-- The last transition by then; null where the charter was not kept with it.
-- name: CharterAsOf :one
SELECT h.* FROM charter_history h JOIN charters c USING (chapter_no)
WHERE c.chapter_id = @chapter AND h.create_time <= @at::timestamptz
ORDER BY h.number DESC
LIMIT 1;

-- name: CharterTransitions :many
SELECT h.* FROM charter_history h WHERE h.chapter_no = @chapter_no ORDER BY h.number;
