-- name: QueueMail :execrows
-- One open mail of a kind for an entry.
INSERT INTO mails (id, list_no, token, kind, state, due_time, create_time)
VALUES (gen_random_uuid(), @list_no, @token, @kind, 'QUEUED', @now, @now)
ON CONFLICT DO NOTHING;

-- name: QueueConfirmations :execrows
-- For everybody whom a sync has added as PENDING.
INSERT INTO mails (id, list_no, token, kind, state, due_time, create_time)
SELECT gen_random_uuid(), @list_no, unnest(tokens), 1, 'QUEUED', @now, @now
FROM sync_changes
WHERE sync_no = @sync_no AND kind = 1 AND state = 2
ON CONFLICT DO NOTHING;

-- name: MailedSince :one
-- Whether the entry was or will be mailed, apart from mails that could not be sent.
SELECT EXISTS (
    SELECT FROM mails
    WHERE list_no = @list_no AND token = @token AND kind = @kind AND create_time > @since AND state NOT IN ('FAILED', 'CANCELLED')
);

-- name: TakeMails :many
-- Takes mails that are due. Whoever takes them sends them, or nobody does.
UPDATE mails SET state = 'SENDING', take_time = @now::timestamptz, attempts = attempts + 1
WHERE mail_no IN (
    SELECT mail_no FROM mails
    WHERE state = 'QUEUED' AND due_time <= @now
    ORDER BY due_time
    LIMIT @size
    FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: MailContext :one
-- What a mail is about. The entry may be gone.
SELECT l.list_no, l.id AS list_id, l.display_name AS list_name, l.consent_text, l.deleted,
       c.id AS chapter_id, c.display_name AS chapter_name,
       coalesce(e.state, 0)::smallint AS state, coalesce(e.address, '')::text AS address, coalesce(e.display_name, '')::text AS display_name,
       coalesce(e.update_time, 'epoch')::timestamptz AS update_time
FROM lists l
JOIN chapters c ON c.id = l.chapter_id
LEFT JOIN entries e ON e.list_no = l.list_no AND e.token = @token
WHERE l.list_no = @list_no;

-- name: EndMail :exec
UPDATE mails SET state = @state, failure = @failure, end_time = @now::timestamptz WHERE mail_no = @mail_no AND state = 'SENDING';

-- name: PutOffMail :exec
UPDATE mails SET state = 'QUEUED', failure = @failure, due_time = @due_time, attempts = @attempts
WHERE mail_no = @mail_no AND state = 'SENDING';

-- name: ForsakeMails :execrows
-- Mails that were taken so long ago that whoever took them is gone.
UPDATE mails SET state = 'UNCERTAIN', failure = 'the process ended while the mail was on its way', end_time = @now::timestamptz
WHERE state = 'SENDING' AND take_time < @before::timestamptz;

-- name: EraseMails :exec
DELETE FROM mails WHERE list_no = @list_no AND token = @token;

-- name: PruneMails :execrows
DELETE FROM mails WHERE end_time < @before::timestamptz;
