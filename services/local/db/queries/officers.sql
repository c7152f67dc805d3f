-- name: InsertOfficer :one
INSERT INTO officers (id, chapter_id, display_name, role, subject, mail_address, mail_token, notices_muted, term_start, term_end, create_time, update_time)
VALUES (@id, @chapter_id, @display_name, @role, @subject, @mail_address, @mail_token, @notices_muted, @term_start, @term_end, @now, @now)
RETURNING *;

-- name: Officer :one
SELECT * FROM officers WHERE chapter_id = @chapter_id AND id = @id;

-- name: OfficersAfter :many
SELECT * FROM officers WHERE chapter_id = @chapter_id AND id > @after ORDER BY id LIMIT @size;

-- name: OfficersOf :many
-- A chapter has a hundred at most.
SELECT * FROM officers WHERE chapter_id = ANY (@chapter_ids::text[]) ORDER BY chapter_id, id;

-- name: CountOfficers :one
SELECT count(*) FROM officers WHERE chapter_id = @chapter_id;

-- name: UpdateOfficer :one
-- Another address has not bounced yet.
UPDATE officers
SET display_name = @display_name, role = @role, subject = @subject, mail_token = @mail_token,
    mail_address = @mail_address::text, notices_muted = @notices_muted, term_start = @term_start, term_end = @term_end,
    bounce_time = CASE WHEN officers.mail_address = @mail_address::text THEN bounce_time END,
    bounce_failure = CASE WHEN officers.mail_address = @mail_address::text THEN bounce_failure ELSE '' END,
    version = version + 1, update_time = @now
WHERE id = @id
RETURNING *;

-- name: DeleteOfficers :exec
-- With the mails that they were to get and got: whose they were is nobody's business any more.
WITH waiting AS (
    DELETE FROM mail_queue q USING mails w
    WHERE w.officer_id = ANY (@ids::uuid[]) AND q.mail_no = w.mail_no AND q.owner = 0
    RETURNING q.mail_no
), mailed AS (
    DELETE FROM mails m
    WHERE m.officer_id = ANY (@ids::uuid[]) AND (m.state <> 'QUEUED' OR m.mail_no IN (SELECT mail_no FROM waiting))
)
DELETE FROM officers WHERE id = ANY (@ids::uuid[]);

-- name: OfficersAt :many
SELECT * FROM officers WHERE chapter_id = @chapter_id AND mail_token = @mail_token ORDER BY id;

-- name: TouchChapter :one
-- Something beside the chapter's own fields is to be told of it.
UPDATE chapters SET version = version + 1 WHERE id = @id RETURNING *;

-- name: BounceOfficers :exec
-- Nobody is reached at the address, for whichever chapters of the site its people are officers.
UPDATE officers SET bounce_time = @now::timestamptz, bounce_failure = @failure, version = version + 1, update_time = @now
WHERE mail_token = @mail_token AND mail_token <> '' AND bounce_time IS NULL;
