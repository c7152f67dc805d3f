-- name: BeginEpoch :exec
UPDATE epochs SET epoch = @epoch;

-- name: MoveStandingsToEpoch :exec
UPDATE standings SET epoch = @epoch, version = 1;

-- name: MoveChartersToEpoch :exec
UPDATE charters SET epoch = @epoch, version = 1;

-- name: StandingVersionsAfter :many
SELECT c.id, s.epoch, s.version FROM standings s JOIN chapters c USING (chapter_no)
WHERE c.id > @after ORDER BY c.id LIMIT @size;

-- name: CharterVersionsAfter :many
SELECT chapter_id, epoch, version FROM charters WHERE chapter_id > @after ORDER BY chapter_id LIMIT @size;

-- name: AllStandings :many
SELECT sqlc.embed(s), c.id AS chapter_id, sqlc.embed(p)
FROM standings s
JOIN chapters c USING (chapter_no)
JOIN policies p ON p.revision = s.policy_revision
ORDER BY s.chapter_no;

-- name: AllCharters :many
SELECT * FROM charters ORDER BY chapter_no;
