-- name: KeepNotice :exec
-- Once, whatever is told again. What was issued before the root's epoch began was told before this database was restored from
-- a backup, or before there was one, and is not told again.
INSERT INTO notices (id, chapter_id, content, issue_time, told)
SELECT @id, @chapter_id, @content, @issue_time::timestamptz, @issued::bigint < r.epoch FROM regions r WHERE r.id = 'world'
ON CONFLICT DO NOTHING;

-- name: NoticesToTell :many
-- Those of chapters of which it is known where they lie, the oldest first. Whoever has them tells them.
SELECT n.id, n.content, p.region_id
FROM notices n JOIN placements p ON p.chapter_id = n.chapter_id AND p.to_time IS NULL
WHERE NOT n.told
ORDER BY n.issue_time, n.id
LIMIT @size
FOR NO KEY UPDATE OF n SKIP LOCKED;

-- name: NoticesTold :exec
UPDATE notices SET told = true, content = '' WHERE id = ANY (@ids::uuid[]);
