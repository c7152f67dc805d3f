-- name: RegionAt :one
SELECT sqlc.embed(h), r.create_time
FROM region_history h
JOIN regions r ON r.id = h.region_id
WHERE h.region_id = @id AND h.from_time <= @at AND (h.to_time IS NULL OR h.to_time > @at);

-- name: TreeAt :many
-- A region and all that was below it, deepest first, with the chapters that lay directly in each.
WITH RECURSIVE below AS (
    SELECT h.region_id, h.revision, 1 AS depth
    FROM region_history h
    WHERE h.region_id = @root AND h.from_time <= @at AND (h.to_time IS NULL OR h.to_time > @at)
    UNION ALL
    SELECT h.region_id, h.revision, b.depth + 1
    FROM below b
    JOIN region_history h ON h.parent_id = b.region_id AND h.from_time <= @at AND (h.to_time IS NULL OR h.to_time > @at)
    WHERE b.depth <= 2 * 32 -- deeper than any tree: a circle, if there ever were one, does not hold the server
)
SELECT sqlc.embed(h), r.create_time,
       (SELECT count(*) FROM placements p
        WHERE p.region_id = h.region_id AND p.from_time <= @at AND (p.to_time IS NULL OR p.to_time > @at))::int AS chapters
FROM below b
JOIN region_history h USING (region_id, revision)
JOIN regions r ON r.id = h.region_id
ORDER BY b.depth DESC, h.region_id;

-- name: RegionHistory :many
-- Latest first, without what never held. before is the revision at which the page begins, exclusive; 0 for none.
SELECT sqlc.embed(h), coalesce(h.to_time = r.close_time, false)::boolean AS closed, r.merged_into
FROM region_history h
JOIN regions r ON r.id = h.region_id
WHERE h.region_id = @id
  AND (@before::bigint = 0 OR h.revision < @before)
  AND (h.to_time IS NULL OR h.to_time > h.from_time)
ORDER BY h.revision DESC
LIMIT @size;

-- name: ChaptersIn :many
SELECT p.* FROM placements p
JOIN regions r ON r.id = p.region_id
WHERE p.to_time IS NULL AND p.chapter_id > @after AND r.path @> ARRAY[@region::text] AND r.close_time IS NULL
ORDER BY p.chapter_id
LIMIT @size;

-- name: ChaptersAt :many
WITH RECURSIVE below AS (
    SELECT h.region_id FROM region_history h
    WHERE h.region_id = @region AND h.from_time <= @at AND (h.to_time IS NULL OR h.to_time > @at)
    UNION
    SELECT h.region_id FROM below b
    JOIN region_history h ON h.parent_id = b.region_id AND h.from_time <= @at AND (h.to_time IS NULL OR h.to_time > @at)
)
SELECT p.* FROM placements p
JOIN below b ON b.region_id = p.region_id
WHERE p.chapter_id > @after AND p.from_time <= @at AND (p.to_time IS NULL OR p.to_time > @at)
ORDER BY p.chapter_id
LIMIT @size;
