-- name: Placement :one
SELECT * FROM placements WHERE chapter_id = @chapter_id AND to_time IS NULL;

-- name: PlacementForUpdate :one
SELECT * FROM placements WHERE chapter_id = @chapter_id AND to_time IS NULL FOR NO KEY UPDATE;

-- name: BeginPlacement :many
-- The first placement of a chapter, or of one that is made anew; nothing when it has one.
INSERT INTO placements (chapter_id, revision, region_id, from_time, epoch, version)
SELECT @chapter_id, coalesce(max(old.revision), 0) + 1, @region_id,
       greatest(@from_time::timestamptz, max(old.to_time)), @epoch, 1
FROM placements old
WHERE old.chapter_id = @chapter_id
HAVING count(*) FILTER (WHERE old.to_time IS NULL) = 0
ON CONFLICT DO NOTHING
RETURNING *;

-- name: Place :many
-- Moves chapters to a region: ends the placements that they have and begins the next ones.
WITH ended AS (
    UPDATE placements SET to_time = greatest(from_time, @now::timestamptz)
    WHERE to_time IS NULL AND chapter_id = ANY(@chapter_ids::text[])
    RETURNING *
)
INSERT INTO placements (chapter_id, revision, region_id, from_time, epoch, version)
SELECT chapter_id, revision + 1, @region_id, to_time, epoch, version + 1 FROM ended
RETURNING *;

-- name: RepeatPlacement :one
-- The next version of what has not changed, for whoever has not followed yet.
UPDATE placements SET version = version + 1
WHERE chapter_id = @chapter_id AND to_time IS NULL
RETURNING *;

-- name: EndPlacement :exec
UPDATE placements SET to_time = greatest(from_time, @now::timestamptz)
WHERE chapter_id = @chapter_id AND to_time IS NULL;

-- name: DirectChapters :many
-- The chapters that lie directly in a region, and their countries.
SELECT p.chapter_id, coalesce(c.country_code, '')::text AS country_code
FROM placements p
LEFT JOIN chapters c ON c.id = p.chapter_id
WHERE p.region_id = @region_id AND p.to_time IS NULL
ORDER BY p.chapter_id;

-- name: FirstPlacements :many
-- Those that nobody has been told of.
UPDATE placements SET epoch = @epoch, version = 1
WHERE to_time IS NULL AND version = 0
RETURNING *;

-- name: BeginPlacementEpoch :many
UPDATE placements SET epoch = @epoch, version = 1
WHERE to_time IS NULL
RETURNING *;

-- name: PlacementVersions :many
SELECT chapter_id, epoch, version FROM placements
WHERE chapter_id > @after AND to_time IS NULL AND version > 0
ORDER BY chapter_id
LIMIT @size;
