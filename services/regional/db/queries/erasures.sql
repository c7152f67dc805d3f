-- name: ConfirmErasure :one
-- The epoch is of the database's clock, which goes on whatever the database was set back to: what a restored one confirms is
-- newer than what it confirmed before.
INSERT INTO erasures (id, member, erased, epoch, version, confirm_time)
VALUES (@id, @member, @erased, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 1, @now)
ON CONFLICT (id) DO UPDATE SET erased = greatest(erasures.erased, excluded.erased), version = erasures.version + 1, confirm_time = excluded.confirm_time
RETURNING *;

-- name: ReadErasure :one
SELECT * FROM erasures WHERE id = @id;

-- name: ErasureVersions :many
SELECT id, epoch, version FROM erasures WHERE id > @after ORDER BY id LIMIT @size;

-- name: BeginErasureEpoch :many
UPDATE erasures SET epoch = @epoch, version = 1 RETURNING *;

-- name: Subjects :many
-- Everybody who is known by the name for signing in.
SELECT subject FROM coordinators
UNION SELECT actor FROM region_history
UNION SELECT proposer FROM transfers
UNION SELECT decider FROM transfers
UNION SELECT subject FROM digest_snoozes;

-- name: EraseCoordinator :execrows
DELETE FROM coordinators WHERE subject = @subject;

-- name: EraseSnoozes :execrows
DELETE FROM digest_snoozes WHERE subject = @subject;

-- name: EraseActor :execrows
UPDATE region_history SET actor = @nobody WHERE actor = @subject;

-- name: EraseProposer :execrows
UPDATE transfers SET proposer = @nobody WHERE proposer = @subject;

-- name: EraseDecider :execrows
UPDATE transfers SET decider = @nobody WHERE decider = @subject;
