-- name: InsertConcern :one
INSERT INTO concerns (name, chapter_id, subject, body, shared, region, case_name, joins, raiser, epoch, version, create_time, update_time)
VALUES (@name, @chapter_id, @subject, @body, @shared, @region, @case_name, @joins, @raiser, @epoch, 1, @now, @now)
ON CONFLICT (chapter_id, joins) WHERE joins <> '' AND NOT withdrawn DO NOTHING
RETURNING *;

-- name: Concern :one
SELECT * FROM concerns WHERE name = @name;

-- name: ConcernForUpdate :one
SELECT * FROM concerns WHERE name = @name FOR NO KEY UPDATE;

-- name: WithdrawConcern :one
UPDATE concerns SET withdrawn = true, version = version + 1, update_time = @now
WHERE name = @name
RETURNING *;

-- name: ConcernsBefore :many
-- Newest first. An empty raiser is anybody.
SELECT * FROM concerns
WHERE chapter_id = @chapter_id AND (@raiser::text = '' OR raiser = @raiser)
  AND (create_time, name) < (@before_time::timestamptz, @before_name::text)
ORDER BY create_time DESC, name DESC
LIMIT @size;

-- name: Cases :many
SELECT * FROM cases WHERE name = ANY (@names::text[]);

-- name: CaseAnswers :many
SELECT * FROM case_answers WHERE case_name = @case_name ORDER BY create_time, id;

-- name: JoinableCases :many
-- Newest first: what a chapter of the region can join and did not raise itself.
SELECT * FROM cases c
WHERE c.shared AND c.region = @region AND c.state IN ('OPEN', 'ANSWERED', 'ESCALATED') AND c.lies_state NOT IN ('WITHDRAWN', 'CLOSED')
  AND NOT EXISTS (SELECT FROM concerns o WHERE o.chapter_id = @chapter_id AND NOT o.withdrawn AND (o.case_name = c.name OR o.joins = c.name))
  AND (c.create_time, c.name) < (@before_time::timestamptz, @before_name::text)
ORDER BY c.create_time DESC, c.name DESC
LIMIT @size;

-- name: JoinableCase :one
SELECT * FROM cases
WHERE name = @name AND shared AND region = @region AND state IN ('OPEN', 'ANSWERED', 'ESCALATED') AND lies_state NOT IN ('WITHDRAWN', 'CLOSED')
FOR KEY SHARE;

-- name: PutCase :execrows
-- What neither was raised here nor can be joined is passed over.
INSERT INTO cases (name, region, subject, body, shared, state, merged_into, lies_with, lies_state, due_time, overdue, first_answer_time,
                   vendor_note, raiser_count, epoch, version, create_time, update_time)
SELECT @name, @region, @subject, @body, @shared, @state, @merged_into, @lies_with, @lies_state, @due_time, @overdue, @first_answer_time,
       @vendor_note, @raiser_count, @epoch, @version, @create_time, @update_time
WHERE @shared OR EXISTS (SELECT FROM concerns o WHERE o.case_name = @name)
ON CONFLICT (name) DO UPDATE
SET state = excluded.state, merged_into = excluded.merged_into, lies_with = excluded.lies_with, lies_state = excluded.lies_state,
    due_time = excluded.due_time, overdue = excluded.overdue, first_answer_time = excluded.first_answer_time,
    vendor_note = excluded.vendor_note, raiser_count = excluded.raiser_count, epoch = excluded.epoch, version = excluded.version,
    update_time = excluded.update_time;

-- name: PutCaseAnswer :exec
INSERT INTO case_answers (case_name, id, given_by, body, create_time)
VALUES (@case_name, @id, @given_by, @body, @create_time)
ON CONFLICT DO NOTHING;

-- name: DeleteCase :exec
DELETE FROM cases WHERE name = @name;

-- name: ConcernVersions :many
SELECT name, epoch, version FROM concerns
WHERE name > @after
ORDER BY name
LIMIT @size;

-- name: BeginConcernEpoch :many
UPDATE concerns SET epoch = @epoch, version = version + 1
RETURNING *;
