-- name: InsertNotice :execrows
-- Once, whatever is told again; and only of chapters of this site.
INSERT INTO notices (id, chapter_id, content, arrive_time, update_time)
SELECT @id, c.id, @content, @now, @now FROM chapters c WHERE c.id = @chapter_id
ON CONFLICT DO NOTHING;

-- name: QueueNotice :execrows
-- A mail to each address of the officers who want it. What was issued before the chapter's epoch began was told before this
-- database was restored from a backup: it was mailed then.
WITH added AS (
    INSERT INTO mails (id, list_no, token, kind, state, create_time, notice_id, officer_id)
    SELECT encode(substr(sha256(uuid_send(@notice_id::uuid) || o.mail_token), 1, 16), 'hex')::uuid, l.list_no, o.mail_token, 0, 'QUEUED', @now::timestamptz, @notice_id, o.id
    FROM officers o
    JOIN chapters c ON c.id = o.chapter_id
    JOIN lists l ON l.chapter_id = c.id AND l.id = 'members'
    WHERE o.chapter_id = @chapter_id AND o.mail_address <> '' AND NOT o.notices_muted AND o.bounce_time IS NULL
      AND o.term_start <= @now AND @now < o.term_end
      AND c.epoch <= greatest(@issued::bigint, (extract(epoch FROM c.create_time) * 1000000)::bigint)
    ORDER BY o.id
    ON CONFLICT DO NOTHING
    RETURNING *
)
INSERT INTO mail_queue (mail_no, kind, due_time, domain, list_no, token)
SELECT mail_no, kind, create_time, '', list_no, token FROM added;

-- name: Notice :one
SELECT * FROM notices WHERE chapter_id = @chapter_id AND id = @id;

-- name: NoticeForUpdate :one
SELECT * FROM notices WHERE chapter_id = @chapter_id AND id = @id FOR NO KEY UPDATE;

-- name: NoticesBefore :many
-- Newest first.
SELECT * FROM notices
WHERE chapter_id = @chapter_id
  AND (@first::boolean OR (arrive_time, id) < (@before_time::timestamptz, @before_id::uuid))
  AND (@state::integer = 0 OR @state = state)
ORDER BY arrive_time DESC, id DESC
LIMIT @size;

-- name: DismissNotice :exec
UPDATE notices SET state = 3, dismiss_reason = @reason, update_time = @now WHERE id = @id;

-- name: NoticeMails :many
-- What became of the mails of notices.
SELECT notice_id, count(*) FILTER (WHERE state = 'QUEUED')::integer AS queued,
       count(*) FILTER (WHERE state = 'SENT')::integer AS sent,
       count(*) FILTER (WHERE state = 'FAILED' AND bounced)::integer AS bounced,
       count(*) FILTER (WHERE state = 'FAILED' AND NOT bounced)::integer AS failed,
       count(*) FILTER (WHERE state = 'UNCERTAIN')::integer AS uncertain
FROM mails
WHERE notice_id = ANY (@ids::uuid[])
GROUP BY notice_id;

-- name: NoticeOfMail :one
SELECT n.*, c.display_name AS chapter_name FROM notices n JOIN chapters c ON c.id = n.chapter_id WHERE n.id = @id;
