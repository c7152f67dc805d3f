-- name: InsertRegion :one
INSERT INTO regions (id, display_name, parent_id, path, country_codes, epoch, version, create_time, update_time)
VALUES (@id, @display_name, @parent_id, @path, @country_codes, @epoch, @version, @create_time, @update_time)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: Region :one
SELECT * FROM regions WHERE id = @id;

-- name: RegionForUpdate :one
SELECT * FROM regions WHERE id = @id FOR NO KEY UPDATE;

-- name: RegionForShare :one
SELECT * FROM regions WHERE id = @id FOR SHARE;

-- name: UpdateRegion :one
UPDATE regions
SET display_name = @display_name, country_codes = @country_codes, version = version + 1, update_time = @now
WHERE id = @id
RETURNING *;

-- name: ListRegions :many
SELECT * FROM regions
WHERE id > @after AND (@parent_id::text = '' OR parent_id = @parent_id)
ORDER BY id
LIMIT @size;

-- name: BeginRoot :one
UPDATE regions
SET epoch = @epoch, version = 1, create_time = @now, update_time = @now
WHERE id = 'world' AND version = 0
RETURNING *;

-- name: BeginEpoch :many
UPDATE regions
SET epoch = @epoch, version = 1
RETURNING *;

-- name: RegionVersions :many
SELECT id, epoch, version FROM regions
WHERE id > @after AND version > 0
ORDER BY id
LIMIT @size;

-- name: RegionTree :many
SELECT sqlc.embed(r),
       count(c.id)::int AS chapters,
       (count(c.id) FILTER (WHERE s.eligible))::int AS eligible,
       (count(c.id) FILTER (WHERE t.state IN ('CHARTERED', 'AT_RISK')))::int AS chartered
FROM regions r
LEFT JOIN chapters c ON c.region_id = r.id
LEFT JOIN standings s ON s.chapter_id = c.id
LEFT JOIN charters t ON t.chapter_id = c.id
WHERE r.path @> ARRAY[@root::text]
GROUP BY r.id
ORDER BY cardinality(r.path) DESC, r.id;

-- name: RegionPath :one
SELECT path FROM regions WHERE id = @id;

-- name: ChapterPlace :one
SELECT c.site, c.region_id, coalesce(r.path, '{}')::text[] AS path
FROM chapters c
LEFT JOIN regions r ON r.id = c.region_id
WHERE c.id = @id;
