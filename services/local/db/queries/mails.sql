-- name: QueueMail :execrows
-- One open mail of a kind for an entry.
WITH queued AS (
    INSERT INTO mail_queue (mail_no, kind, due_time, domain, list_no, token)
    VALUES (nextval(pg_get_serial_sequence('mails', 'mail_no')), @kind, @now, '', @list_no, @token)
    ON CONFLICT DO NOTHING
    RETURNING *
)
INSERT INTO mails (mail_no, id, list_no, token, kind, state, create_time)
SELECT mail_no, gen_random_uuid(), list_no, token, kind, 'QUEUED', due_time FROM queued;

-- name: QueueConfirmations :execrows
-- For everybody whom a sync has added as PENDING.
WITH queued AS (
    INSERT INTO mail_queue (mail_no, kind, due_time, domain, list_no, token)
    SELECT nextval(pg_get_serial_sequence('mails', 'mail_no')), 1, @now, '', @list_no, added.token
    FROM (SELECT unnest(tokens) AS token FROM sync_changes WHERE sync_no = @sync_no AND kind = 1 AND state = 2) added
    ON CONFLICT DO NOTHING
    RETURNING *
)
INSERT INTO mails (mail_no, id, list_no, token, kind, state, create_time)
SELECT mail_no, gen_random_uuid(), list_no, token, kind, 'QUEUED', due_time FROM queued;

-- name: MailedSince :one
-- Whether the entry was or will be mailed, apart from mails that could not be sent.
SELECT EXISTS (
    SELECT FROM mails
    WHERE list_no = @list_no AND token = @token AND kind = 1 AND create_time > @since AND state NOT IN ('FAILED', 'CANCELLED')
);

-- name: TakeMails :many
-- Takes mails that are due, in their order and from a point on, without those of domains that have had enough for now.
-- Whoever takes them sends them or gives them back. The point is where the last look ended: the index before it is full of
-- mails that are gone, and as long as any transaction is open that may see them as they were, none of it is skipped.
WITH due AS (
    SELECT d.mail_no FROM mail_queue d
    WHERE d.owner = 0 AND d.due_time <= @due::timestamptz
      AND (d.kind, d.due_time, d.mail_no) > (@after_kind::smallint, @after_due::timestamptz, @after_no::bigint) AND NOT d.domain = ANY (@without::text[])
    ORDER BY d.kind, d.due_time, d.mail_no
    LIMIT @size
    FOR NO KEY UPDATE SKIP LOCKED
), taken AS (
    UPDATE mail_queue q SET owner = @owner
    FROM due
    WHERE q.mail_no = due.mail_no
    RETURNING q.mail_no, q.kind, q.due_time, q.domain, q.list_no, q.token, q.mailing_no
)
SELECT t.*, m.id, m.attempts, m.create_time, m.announcement_id
FROM taken t JOIN mails m ON m.mail_no = t.mail_no;

-- name: CommitSoon :exec
-- This transaction need not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true);

-- name: PlanAnew :exec
-- The plans of this transaction are made for what the tables hold now. One that was made when they were empty reads 100,000
-- mails 250 times.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: HandMails :many
-- Notes that mails are handed over, in the moment in which they are, and what became of others, and reads whether they are
-- still wanted. Confirmations and notices belong to no mailing. An officer who has another address by now, or wants no notices
-- any more, is not there.
WITH noted AS (
    INSERT INTO mail_notes (owner, handed, sent, others) VALUES (@owner::integer, @handed::bigint[], @sent::bigint[], @others::jsonb)
)
SELECT q.mail_no, l.deleted, l.posting_address, coalesce(e.state, 0)::smallint AS entry_state, coalesce(o.mail_address, e.address, '')::text AS address,
       coalesce(o.display_name, e.display_name, '')::text AS display_name, coalesce(e.update_time, 'epoch')::timestamptz AS entry_time,
       coalesce(g.state, '')::text AS mailing_state, coalesce(a.recalled, false)::boolean AS recalled,
       n.notice_id, (o.id IS NOT NULL)::boolean AS officer
FROM mail_queue q
JOIN lists l ON l.list_no = q.list_no
LEFT JOIN entries e ON e.list_no = q.list_no AND e.token = q.token
LEFT JOIN mailings g ON g.mailing_no = q.mailing_no
LEFT JOIN announcements a ON a.id = g.announcement_id
LEFT JOIN mails n ON q.kind = 0 AND n.mail_no = q.mail_no
LEFT JOIN officers o ON o.id = n.officer_id AND o.mail_token = q.token AND NOT o.notices_muted AND o.bounce_time IS NULL
WHERE q.mail_no = ANY (@handed::bigint[]) AND q.owner = @owner::integer;

-- name: NoteMails :exec
-- Notes which mails are under way when what became of all others is written.
WITH before AS (
    DELETE FROM mail_notes n WHERE n.owner = @owner
)
INSERT INTO mail_notes (owner, handed, sent, others) VALUES (@owner, @handed::bigint[], '{}', '[]');

-- name: EndMails :exec
-- Writes what became of mails, and moves the counts of their mailings. One that has come back already is bounced, whatever
-- the server had said. A QUEUED one is tried again at its due time, or was given back without a try. Mails that somebody else has given up as UNCERTAIN meanwhile stay so.
WITH result AS (
    SELECT unnest(@mail_nos::bigint[]) AS mail_no, unnest(@owners::integer[]) AS owner, unnest(@states::text[]) AS state,
           unnest(@bounces::boolean[]) AS bounced, unnest(@failures::text[]) AS failure, unnest(@due_times::timestamptz[]) AS due_time,
           unnest(@tries::integer[]) AS tries
), gone AS (
    DELETE FROM mail_queue q
    WHERE (q.mail_no, q.owner) IN (SELECT r.mail_no, r.owner FROM result r WHERE r.state <> 'QUEUED')
    RETURNING q.mail_no
), back AS (
    UPDATE mail_queue q SET owner = 0, due_time = r.due_time
    FROM result r
    WHERE q.mail_no = r.mail_no AND q.owner = r.owner AND r.state = 'QUEUED'
    RETURNING q.mail_no
), ended AS (
    UPDATE mails m
    SET state = CASE WHEN m.bounced AND r.state IN ('SENT', 'UNCERTAIN') THEN 'FAILED' ELSE r.state END, bounced = m.bounced OR r.bounced,
        failure = CASE WHEN m.bounced AND r.state IN ('SENT', 'UNCERTAIN') THEN m.failure ELSE r.failure END, attempts = m.attempts + r.tries,
        end_time = CASE WHEN r.state = 'QUEUED' THEN NULL ELSE @now::timestamptz END
    FROM result r
    WHERE m.mail_no = r.mail_no AND r.mail_no IN (SELECT mail_no FROM gone UNION ALL SELECT mail_no FROM back) AND (r.tries > 0 OR r.state <> 'QUEUED')
    RETURNING m.mailing_no, m.state, m.bounced
), counted AS (
    SELECT mailing_no, count(*) AS gone, count(*) FILTER (WHERE state = 'SENT') AS sent,
           count(*) FILTER (WHERE state = 'FAILED' AND bounced) AS bounced,
           count(*) FILTER (WHERE state = 'FAILED' AND NOT bounced) AS failed,
           count(*) FILTER (WHERE state = 'UNCERTAIN') AS uncertain
    FROM ended
    WHERE mailing_no IS NOT NULL AND state <> 'QUEUED'
    GROUP BY mailing_no
)
UPDATE mailings g
SET queued = g.queued - c.gone, sent = g.sent + c.sent, bounced = g.bounced + c.bounced, failed = g.failed + c.failed,
    uncertain = g.uncertain + c.uncertain, moved = true,
    state = CASE WHEN g.state = 'RUNNING' AND g.queued = c.gone THEN 'DONE' ELSE g.state END,
    end_time = CASE WHEN g.state = 'RUNNING' AND g.queued = c.gone THEN @now ELSE g.end_time END
FROM counted c
WHERE g.mailing_no = c.mailing_no;

-- name: TakenOwners :many
-- Who else has left notes, or everywhere: has taken mails.
SELECT n.owner FROM mail_notes n WHERE n.owner <> @owner
UNION
SELECT q.owner FROM mail_queue q WHERE @everywhere::boolean AND q.owner <> 0 AND q.owner <> @owner;

-- name: OwnerGone :one
-- Whether nobody lives who took mails under this number. The lock is let go with the transaction.
SELECT pg_try_advisory_xact_lock(@class::integer, @owner::integer);

-- name: TakenMails :many
SELECT mail_no, due_time FROM mail_queue WHERE owner = @owner;

-- name: MailNotes :many
SELECT handed, sent, others FROM mail_notes WHERE owner = @owner;

-- name: ForgetOwner :exec
DELETE FROM mail_notes WHERE owner = @owner;

-- name: NewOwner :one
SELECT nextval('mail_owners')::integer;

-- name: BecomeOwner :exec
-- Held as long as the connection lives.
SELECT pg_advisory_lock(@class::integer, @owner::integer);

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

-- name: DueMailing :one
-- A mailing that is to start; whoever has it starts it.
SELECT sqlc.embed(g), sqlc.embed(l), a.recalled
FROM mailings g JOIN lists l ON l.list_no = g.list_no JOIN announcements a ON a.id = g.announcement_id
WHERE g.state = 'SCHEDULED' AND g.due_time <= @now
ORDER BY g.due_time, g.mailing_no
LIMIT 1
FOR NO KEY UPDATE OF g SKIP LOCKED;

-- name: QueueMailing :execrows
-- A mail for each person on the list who has none of the announcement yet, or has one that was cancelled: who left one
-- list before its turn may still be on this one. The ID is made from what the mail is about.
WITH added AS (
    INSERT INTO mails (id, list_no, token, kind, state, create_time, mailing_no, announcement_id, domain)
    SELECT encode(substr(sha256(uuid_send(@announcement_id::uuid) || e.token), 1, 16), 'hex')::uuid, e.list_no, e.token, 2, 'QUEUED', @now::timestamptz,
           @mailing_no, @announcement_id, substring(e.address FROM '[^@]*$')
    FROM entries e
    WHERE e.list_no = @list_no AND e.state = 1
    ORDER BY e.token
    ON CONFLICT (announcement_id, token) WHERE announcement_id IS NOT NULL DO UPDATE
    SET state = 'QUEUED', list_no = excluded.list_no, mailing_no = excluded.mailing_no, domain = excluded.domain, attempts = 0, end_time = NULL,
        bounced = false
    WHERE mails.state = 'CANCELLED'
    RETURNING *
)
INSERT INTO mail_queue (mail_no, kind, due_time, domain, list_no, token, mailing_no)
SELECT mail_no, kind, @now, domain, list_no, token, mailing_no FROM added;

-- name: QueuePosting :execrows
-- One mail to the list's posting address, unless another list of the same address had it.
WITH added AS (
    INSERT INTO mails (id, list_no, token, kind, state, create_time, mailing_no, announcement_id, domain)
    VALUES (encode(substr(sha256(uuid_send(@announcement_id::uuid) || @token::bytea), 1, 16), 'hex')::uuid, @list_no, @token, 3, 'QUEUED', @now,
            @mailing_no, @announcement_id, @domain)
    ON CONFLICT DO NOTHING
    RETURNING *
)
INSERT INTO mail_queue (mail_no, kind, due_time, domain, list_no, token, mailing_no)
SELECT mail_no, kind, create_time, domain, list_no, token, mailing_no FROM added;

-- name: StartMailing :exec
UPDATE mailings
SET state = CASE WHEN @queued::integer = 0 THEN 'DONE' ELSE 'RUNNING' END, posting = @posting, queued = @queued::integer,
    start_time = @now::timestamptz, end_time = CASE WHEN @queued::integer = 0 THEN @now::timestamptz END, moved = true
WHERE mailing_no = @mailing_no;

-- name: SentInboxItem :exec
UPDATE inbox_items SET state = 2, update_time = @now, untold = true
WHERE announcement_id = @announcement_id AND chapter_id = @chapter_id;

-- name: CancelQueued :exec
-- Mails of mailings that were cancelled. Those that somebody has taken are cancelled by them.
WITH gone AS (
    DELETE FROM mail_queue q USING mails w
    WHERE w.announcement_id = @announcement_id AND w.state = 'QUEUED' AND q.mail_no = w.mail_no AND q.owner = 0
    RETURNING q.mail_no
), ended AS (
    UPDATE mails m SET state = 'CANCELLED', end_time = @now::timestamptz
    FROM gone
    WHERE m.mail_no = gone.mail_no
    RETURNING m.mailing_no
), counted AS (
    SELECT mailing_no, count(*) AS gone FROM ended GROUP BY mailing_no
)
UPDATE mailings g SET queued = g.queued - c.gone, moved = true
FROM counted c
WHERE g.mailing_no = c.mailing_no;

-- name: MailingContext :one
-- What the mails of a mailing have in common.
SELECT sqlc.embed(g), sqlc.embed(l), sqlc.embed(a), c.display_name AS chapter_name, c.language_code, i.region
FROM mailings g
JOIN lists l ON l.list_no = g.list_no
JOIN chapters c ON c.id = g.chapter_id
JOIN announcements a ON a.id = g.announcement_id
JOIN inbox_items i ON i.announcement_id = g.announcement_id AND i.chapter_id = g.chapter_id
WHERE g.mailing_no = @mailing_no;

-- name: OtherListOf :one
-- Another mailing of the announcement whose list the person is on.
SELECT g.mailing_no, g.list_no
FROM mailings g JOIN entries e ON e.list_no = g.list_no AND e.token = @token AND e.state = 1
WHERE g.announcement_id = @announcement_id AND g.list_no <> @list_no AND g.state IN ('RUNNING', 'DONE') AND NOT g.posting
ORDER BY g.mailing_no
LIMIT 1;

-- name: MoveMail :exec
-- Gives a mail to another mailing, because the person has left the list of the one that it was for.
WITH back AS (
    UPDATE mail_queue q SET owner = 0, list_no = @list_no, mailing_no = @to_mailing
    WHERE q.mail_no = @mail_no AND q.owner = @owner
    RETURNING q.mail_no
), moved AS (
    UPDATE mails m SET list_no = @list_no, mailing_no = @to_mailing
    FROM back
    WHERE m.mail_no = back.mail_no
    RETURNING m.mail_no
)
UPDATE mailings g
SET queued = g.queued + CASE WHEN g.mailing_no = @to_mailing THEN 1 ELSE -1 END, moved = true,
    state = CASE WHEN g.mailing_no = @to_mailing THEN 'RUNNING' WHEN g.state = 'RUNNING' AND g.queued = 1 THEN 'DONE' ELSE g.state END,
    end_time = CASE WHEN g.mailing_no = @to_mailing THEN NULL WHEN g.state = 'RUNNING' AND g.queued = 1 THEN @now::timestamptz ELSE g.end_time END
FROM moved
WHERE g.mailing_no IN (@from_mailing, @to_mailing);

-- name: ListsOfMail :many
-- The lists that a mail stood for, and that hold the person: its own, and all to which the announcement is mailed.
SELECT l.* FROM lists l
WHERE EXISTS (SELECT FROM entries e WHERE e.list_no = l.list_no AND e.token = @token AND e.state <= 2)
  AND (l.list_no = @list_no OR l.list_no IN (SELECT g.list_no FROM mailings g WHERE g.announcement_id = sqlc.narg(announcement_id)::uuid))
ORDER BY l.list_no
FOR NO KEY UPDATE;

-- name: MailLeft :exec
-- Who left a list by the link in a mail counts once.
WITH gone AS (
    UPDATE mails SET left_by_it = true
    WHERE mails.announcement_id = @announcement_id AND mails.token = @token AND NOT left_by_it
    RETURNING mailing_no
)
UPDATE mailings g SET unsubscribed = g.unsubscribed + 1, moved = true
FROM gone
WHERE g.mailing_no = gone.mailing_no;

-- name: MailByID :one
-- Locked: what became of it may be about to be written.
SELECT m.*, l.chapter_id FROM mails m JOIN lists l ON l.list_no = m.list_no WHERE m.id = @id ORDER BY m.mail_no DESC LIMIT 1
FOR NO KEY UPDATE OF m;

-- name: BounceMail :exec
-- A mail that was taken, or may have been, came back: of one that was answered a moment ago EndMails has not written yet
-- what became of it, and will.
WITH sending AS (
    UPDATE mails s SET bounced = true, failure = @failure
    FROM mail_queue q
    WHERE s.mail_no = @mail_no AND q.mail_no = s.mail_no AND q.owner <> 0
), old AS (
    SELECT o.mail_no, o.state, o.mailing_no FROM mails o WHERE o.mail_no = @mail_no AND o.state IN ('SENT', 'UNCERTAIN') FOR NO KEY UPDATE
), ended AS (
    UPDATE mails m SET state = 'FAILED', bounced = true, failure = @failure
    FROM old
    WHERE m.mail_no = old.mail_no
    RETURNING old.state, old.mailing_no
)
UPDATE mailings g
SET sent = g.sent - (e.state = 'SENT')::integer, uncertain = g.uncertain - (e.state = 'UNCERTAIN')::integer, bounced = g.bounced + 1, moved = true
FROM ended e
WHERE g.mailing_no = e.mailing_no;

-- name: EraseMails :exec
-- Of announcements it stays known by token alone who had them, so that nobody who is on another list gets a second copy.
WITH gone AS (
    DELETE FROM mail_queue q WHERE q.list_no = @list_no AND q.token = @token AND q.kind = 1
)
DELETE FROM mails m WHERE m.list_no = @list_no AND m.token = @token AND m.kind = 1;

-- name: PruneMails :execrows
DELETE FROM mails m WHERE m.create_time < @before::timestamptz AND NOT EXISTS (SELECT FROM mail_queue q WHERE q.mail_no = m.mail_no);

-- name: CancelMailing :exec
UPDATE mailings SET state = 'CANCELLED', end_time = @now::timestamptz WHERE mailing_no = @mailing_no;

-- name: DoubtMails :exec
-- What was to be sent when a backup was made, from which this database was restored, may have been sent since.
WITH cancelled AS (
    UPDATE mailings SET state = 'CANCELLED', end_time = @now::timestamptz, moved = true
    WHERE state = 'SCHEDULED' AND due_time <= @now
), gone AS (
    DELETE FROM mail_queue WHERE kind <> 1 RETURNING mail_no
), ended AS (
    UPDATE mails m SET state = 'UNCERTAIN', failure = 'the database was restored from a backup', end_time = @now
    FROM gone
    WHERE m.mail_no = gone.mail_no
    RETURNING m.mailing_no
), counted AS (
    SELECT mailing_no, count(*) AS gone FROM ended GROUP BY mailing_no
)
UPDATE mailings g
SET queued = g.queued - c.gone, uncertain = g.uncertain + c.gone, moved = true,
    state = CASE WHEN g.state = 'RUNNING' THEN 'DONE' ELSE g.state END,
    end_time = CASE WHEN g.state = 'RUNNING' THEN @now ELSE g.end_time END
FROM counted c
WHERE g.mailing_no = c.mailing_no;
