-- name: PutRegion :exec
INSERT INTO regions (id, parent, closed) VALUES (@id, @parent, @closed)
ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, closed = excluded.closed;

-- name: PutRegionIfNew :exec
-- What was asked for is never newer than what came as an event.
INSERT INTO regions (id, parent) VALUES (@id, @parent)
ON CONFLICT DO NOTHING;

-- name: DeleteRegion :exec
DELETE FROM regions WHERE id = @id;

-- name: RegionExists :one
SELECT EXISTS (SELECT FROM regions WHERE id = @id AND NOT closed);

-- name: RegionPath :many
-- A region and what lies above it. UNION ends a circle, which half-received moves could make.
WITH RECURSIVE path AS (
    SELECT id, parent FROM regions r WHERE r.id = @id
    UNION
    SELECT r.id, r.parent FROM regions r JOIN path p ON r.id = p.parent
)
SELECT id FROM path;
