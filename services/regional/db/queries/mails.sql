-- name: InsertMail :execrows
-- One mail about a topic to a coordinator.
INSERT INTO mails (id, coordinator_id, topic, state, subject, text, html, due_time, create_time, end_time)
VALUES (@id, @coordinator_id, @topic, @state::text, @subject, @text, @html, @now::timestamptz, @now::timestamptz,
        CASE WHEN @state::text = 'QUEUED' THEN NULL ELSE @now::timestamptz END)
ON CONFLICT (coordinator_id, topic) DO NOTHING;

-- name: NewMailOwner :one
SELECT nextval('mail_owners')::integer;

-- name: LockMailOwner :exec
-- Held as long as the connection lives.
SELECT pg_advisory_lock(@class::integer, @owner::integer);

-- name: TakeMail :many
-- The next mail that is due, with where it goes.
WITH due AS (
    SELECT d.id FROM mails d
    WHERE d.state = 'QUEUED' AND d.due_time <= @now::timestamptz
    ORDER BY d.due_time, d.id
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE mails m SET state = 'SENDING', owner = @owner, attempts = m.attempts + 1
FROM due, coordinators c
WHERE m.id = due.id AND c.id = m.coordinator_id
RETURNING sqlc.embed(m), c.mail_address, c.display_name;

-- name: EndMail :exec
-- What somebody else has given up as UNCERTAIN meanwhile stays so.
UPDATE mails
SET state = @state::text, failure = @failure, due_time = @due_time, owner = NULL,
    subject = CASE WHEN @state::text = 'QUEUED' THEN subject ELSE '' END, text = CASE WHEN @state::text = 'QUEUED' THEN text ELSE '' END,
    html = CASE WHEN @state::text = 'QUEUED' THEN html ELSE '' END,
    end_time = CASE WHEN @state::text = 'QUEUED' THEN NULL ELSE @now::timestamptz END
WHERE id = @id AND state = 'SENDING' AND owner = @owner;

-- name: MailOwners :many
SELECT DISTINCT owner::integer FROM mails WHERE state = 'SENDING' AND owner <> @owner;

-- name: MailOwnerGone :one
-- Whether nobody lives who took mails under this number. The lock is let go with the transaction.
SELECT pg_try_advisory_xact_lock(@class::integer, @owner::integer);

-- name: ForsakeMails :execrows
-- Nobody knows what became of the mails of somebody who is gone.
UPDATE mails
SET state = 'UNCERTAIN', failure = 'the process ended while the mail was on its way', subject = '', text = '', html = '',
    end_time = @now::timestamptz
WHERE state = 'SENDING' AND owner = @owner;

-- name: GiveUpMails :execrows
-- Mails that nobody could send in time.
UPDATE mails SET state = 'FAILED', failure = 'it could not be sent in time', subject = '', text = '', html = '', end_time = @now::timestamptz
WHERE state = 'QUEUED' AND create_time < @before;

-- name: ForgetMails :exec
DELETE FROM mails WHERE end_time < @before;

-- name: DoubtMails :exec
-- A database that was set back does not know what it has sent since then.
UPDATE mails SET state = 'UNCERTAIN', failure = 'the database was restored', subject = '', text = '', html = '', end_time = @now::timestamptz
WHERE state IN ('QUEUED', 'SENDING');
