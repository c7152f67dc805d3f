-- name: InsertCoordinator :one
INSERT INTO coordinators (id, region_id, subject, display_name, role, term_start_time, term_end_time, away_start_time,
                          away_end_time, substitute_id, mail_address, digest_due_time, version, create_time, update_time)
VALUES (@id, @region_id, @subject, @display_name, @role, @term_start_time, @term_end_time, @away_start_time,
        @away_end_time, @substitute_id, @mail_address, @digest_due_time, 1, @now, @now)
RETURNING *;

-- name: Coordinator :one
SELECT sqlc.embed(c), s.region_id AS substitute_region
FROM coordinators c
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE c.id = @id AND c.region_id = @region_id;

-- name: CoordinatorForUpdate :one
SELECT sqlc.embed(c), s.region_id AS substitute_region
FROM coordinators c
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE c.id = @id AND c.region_id = @region_id
FOR UPDATE OF c;

-- name: CoordinatorForShare :one
SELECT id FROM coordinators WHERE id = @id AND region_id = @region_id FOR KEY SHARE;

-- name: CoordinatorsAfter :many
SELECT sqlc.embed(c), s.region_id AS substitute_region
FROM coordinators c
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE c.region_id = @region_id AND c.id > @after
ORDER BY c.id
LIMIT @size;

-- name: UpdateCoordinator :exec
UPDATE coordinators
SET subject = @subject, display_name = @display_name, role = @role, term_start_time = @term_start_time,
    term_end_time = @term_end_time, away_start_time = @away_start_time, away_end_time = @away_end_time,
    substitute_id = @substitute_id, mail_address = @mail_address, version = version + 1, update_time = @now
WHERE id = @id;

-- name: DeleteCoordinator :exec
DELETE FROM coordinators WHERE id = @id;

-- name: ForgetCoordinators :exec
DELETE FROM coordinators WHERE region_id = @region;

-- name: PassOnCoordinators :exec
-- Gives the people of a region that is dissolved to the one that it is dissolved in.
UPDATE coordinators SET region_id = @into_region, version = version + 1, update_time = @now
WHERE region_id = @region;

-- name: PeopleAbove :many
-- Those in their term, of a region and of all above it, nearest first.
SELECT sqlc.embed(c), s.region_id AS substitute_region, cardinality(r.path)::int AS level
FROM regions asked
JOIN regions r ON r.id = ANY(asked.path)
JOIN coordinators c ON c.region_id = r.id
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE asked.id = @region AND asked.close_time IS NULL
  AND c.term_start_time <= @now AND (c.term_end_time IS NULL OR c.term_end_time > @now)
ORDER BY level DESC, c.id;

-- name: CoordinatorsOf :many
SELECT sqlc.embed(c), s.region_id AS substitute_region
FROM coordinators c
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE c.id = ANY(@ids::uuid[])
  AND c.term_start_time <= @now AND (c.term_end_time IS NULL OR c.term_end_time > @now)
ORDER BY c.id;

-- name: PeopleInTerm :many
-- All who are in their term, by region.
SELECT sqlc.embed(c), s.region_id AS substitute_region
FROM coordinators c
LEFT JOIN coordinators s ON s.id = c.substitute_id
WHERE c.term_start_time <= @now AND (c.term_end_time IS NULL OR c.term_end_time > @now)
ORDER BY c.region_id, c.id;

-- name: OpenRegions :many
-- Those above come before those below.
SELECT id, display_name, path FROM regions WHERE close_time IS NULL ORDER BY cardinality(path), id;

-- name: BeginDigests :exec
-- Those who were appointed before there were digests get their first one when the next is due.
UPDATE coordinators SET digest_due_time = @due_time WHERE digest_due_time IS NULL;

-- name: PutOffDigests :exec
UPDATE coordinators SET digest_due_time = @due_time;

-- name: DueDigestsForUpdate :many
SELECT * FROM coordinators
WHERE digest_due_time <= @now
ORDER BY digest_due_time, id
LIMIT @size
FOR NO KEY UPDATE SKIP LOCKED;

-- name: SetDigestDue :exec
UPDATE coordinators SET digest_due_time = @due_time WHERE id = ANY(@ids::uuid[]);
