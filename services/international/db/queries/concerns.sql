-- name: InsertEscalation :one
INSERT INTO escalations (name, case_name, subject, body, summary, raiser_count, raisers, state, due_time, epoch, version, create_time, update_time)
VALUES (@name, @case_name, @subject, @body, @summary, @raiser_count, @raisers, @state, @due_time, @epoch, 1, @now, @now)
RETURNING *;

-- name: ReadEscalation :one
SELECT * FROM escalations WHERE name = @name;

-- name: EscalationForUpdate :one
SELECT * FROM escalations WHERE name = @name FOR NO KEY UPDATE;

-- name: UpdateEscalation :one
UPDATE escalations
SET raiser_count = @raiser_count, raisers = @raisers, state = @state, vendor_note = @vendor_note, overdue = @overdue,
    reminded_time = @reminded_time, first_answer_time = @first_answer_time, version = version + 1, update_time = @now
WHERE name = @name
RETURNING *;

-- name: InsertEscalationAnswer :exec
INSERT INTO escalation_answers (id, name, body, create_time)
VALUES (@id, @name, @body, @create_time);

-- name: EscalationAnswers :many
SELECT * FROM escalation_answers WHERE name = ANY (@names::text[]) ORDER BY create_time, id;

-- name: ListEscalations :many
SELECT * FROM escalations
WHERE (@state::text = '' OR state = @state)
  AND (NOT @overdue::boolean OR escalations.overdue)
  AND (create_time, name) > (@after_time::timestamptz, @after_name::text)
ORDER BY create_time, name
LIMIT @size;

-- name: DueEscalations :many
SELECT name FROM escalations
WHERE state = 'OPEN' AND due_time <= @now AND (reminded_time IS NULL OR reminded_time <= @reminded_before)
ORDER BY due_time
LIMIT @size;

-- name: EscalationVersions :many
SELECT name, epoch, version FROM escalations
WHERE name > @after
ORDER BY name
LIMIT @size;

-- name: MoveEscalationsToEpoch :many
UPDATE escalations SET epoch = @epoch, version = version + 1
RETURNING *;
