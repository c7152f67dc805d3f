-- name: LockTree :exec
-- Who changes the tree, or where more than one chapter lies, is alone with it until the transaction ends.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: LockTreeShared :exec
-- Who places one chapter wants the tree to stay as it is meanwhile.
SELECT pg_advisory_xact_lock_shared(@key::bigint);

-- name: InsertRegion :one
INSERT INTO regions (id, display_name, parent_id, path, country_codes, epoch, version, create_time, update_time, effective_time)
VALUES (@id, @display_name, @parent_id, @path, @country_codes, @epoch, 1, @now, @now, @effective_time)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: AnyRegion :one
-- One that is closed too.
SELECT * FROM regions WHERE id = @id;

-- name: Region :one
SELECT * FROM regions WHERE id = @id AND close_time IS NULL;

-- name: RegionsOf :many
SELECT * FROM regions WHERE id = ANY(@ids::text[]) AND close_time IS NULL
ORDER BY cardinality(path);

-- name: Children :many
SELECT * FROM regions WHERE parent_id = @parent_id AND close_time IS NULL
ORDER BY id;

-- name: SharedCountry :one
-- A country that two regions below one parent cover, where one of them is among those that changed.
SELECT covered.country::text AS country, array_agg(covered.id ORDER BY covered.id)::text[] AS regions
FROM (
    SELECT id, parent_id, unnest(country_codes) AS country FROM regions
    WHERE close_time IS NULL AND parent_id IN (SELECT c.parent_id FROM regions c WHERE c.id = ANY(@changed::text[]))
) covered
GROUP BY covered.parent_id, covered.country
HAVING count(*) > 1 AND bool_or(covered.id = ANY(@changed::text[]))
ORDER BY covered.country
LIMIT 1;

-- name: Height :one
-- How many levels a region has, itself among them.
SELECT coalesce(max(cardinality(below.path)) - max(cardinality(top.path)) + 1, 0)::int
FROM regions top
JOIN regions below ON below.path @> ARRAY[top.id] AND below.close_time IS NULL
WHERE top.id = @id;

-- name: Rehang :exec
-- Moves a region and all below it under another parent.
UPDATE regions r
SET path = @parent_path::text[] || r.path[cardinality(top.path):],
    parent_id = CASE WHEN r.id = top.id THEN @parent_id ELSE r.parent_id END
FROM regions top
WHERE top.id = @id AND r.path @> ARRAY[top.id] AND r.close_time IS NULL;

-- name: ChangeRegion :one
-- The next version of a region, and the next row of its history.
WITH changed AS (
    UPDATE regions
    SET display_name = @display_name, country_codes = @country_codes, version = version + 1, update_time = @now,
        effective_time = greatest(effective_time, @effective_time::timestamptz)
    WHERE regions.id = @id
    RETURNING *
), ended AS (
    UPDATE region_history h SET to_time = c.effective_time
    FROM changed c WHERE h.region_id = c.id AND h.to_time IS NULL
    RETURNING h.revision
), begun AS (
    INSERT INTO region_history (region_id, revision, from_time, change, display_name, parent_id, country_codes, actor, record_time)
    SELECT c.id, e.revision + 1, c.effective_time, @change, c.display_name, c.parent_id, c.country_codes, @actor, @now
    FROM changed c, ended e
)
SELECT * FROM changed;

-- name: CloseRegion :one
WITH closed AS (
    UPDATE regions
    SET close_time = greatest(effective_time, @now::timestamptz), merged_into = sqlc.narg('merged_into'), version = version + 1,
        update_time = @now
    WHERE regions.id = @id
    RETURNING *
), ended AS (
    UPDATE region_history h SET to_time = c.close_time
    FROM closed c WHERE h.region_id = c.id AND h.to_time IS NULL
)
SELECT * FROM closed;

-- name: BeginHistory :exec
INSERT INTO region_history (region_id, revision, from_time, change, display_name, parent_id, country_codes, actor, record_time)
SELECT r.id, 1, r.effective_time, @change, r.display_name, r.parent_id, r.country_codes, @actor, r.create_time
FROM regions r WHERE r.id = @id;

-- name: ListRegions :many
SELECT * FROM regions
WHERE id > @after AND (@parent_id::text = '' OR parent_id = @parent_id) AND close_time IS NULL
ORDER BY id
LIMIT @size;

-- name: BeginRoot :one
UPDATE regions
SET epoch = @epoch, version = 1, create_time = @now, update_time = @now, effective_time = @now
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
       count(p.chapter_id)::int AS chapters,
       (count(p.chapter_id) FILTER (WHERE s.eligible))::int AS eligible,
       (count(p.chapter_id) FILTER (WHERE t.state IN ('CHARTERED', 'AT_RISK')))::int AS chartered
FROM regions r
LEFT JOIN placements p ON p.region_id = r.id AND p.to_time IS NULL
LEFT JOIN standings s ON s.chapter_id = p.chapter_id
LEFT JOIN charters t ON t.chapter_id = p.chapter_id
WHERE r.path @> ARRAY[@root::text] AND r.close_time IS NULL
GROUP BY r.id
ORDER BY cardinality(r.path) DESC, r.id;

-- name: RegionPath :one
SELECT path FROM regions WHERE id = @id;

-- name: ChapterPlace :one
SELECT c.site, coalesce(r.path, '{}')::text[] AS path
FROM chapters c
LEFT JOIN placements p ON p.chapter_id = c.id AND p.to_time IS NULL
LEFT JOIN regions r ON r.id = p.region_id
WHERE c.id = @id;
