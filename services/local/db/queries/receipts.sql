-- name: MarkMoved :exec
-- Items whose mailings' counts have moved have something to tell.
WITH moved AS (
    UPDATE mailings SET moved = false
    WHERE mailing_no IN (SELECT m.mailing_no FROM mailings m WHERE m.moved LIMIT @size FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING announcement_id, chapter_id
)
UPDATE inbox_items i SET untold = true, update_time = @now::timestamptz
FROM moved m
WHERE i.announcement_id = m.announcement_id AND i.chapter_id = m.chapter_id;

-- name: TakeReceipts :many
-- The next versions of receipts that have something to tell.
WITH due AS (
    SELECT announcement_id, chapter_id FROM inbox_items WHERE untold LIMIT @size FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE inbox_items i SET untold = false, version = i.version + 1
FROM due d
WHERE i.announcement_id = d.announcement_id AND i.chapter_id = d.chapter_id
RETURNING i.announcement_id, i.chapter_id;

-- name: Receipts :many
-- Receipts as they are, with the people of all their mailings. A mail to a posting address is nobody's.
WITH wanted AS (
    SELECT unnest(@announcement_ids::uuid[]) AS announcement_id, unnest(@chapter_ids::text[]) AS chapter_id
)
SELECT sqlc.embed(i), a.name AS announcement, a.edition, a.recalled,
       count(m.mailing_no) FILTER (WHERE m.start_time IS NOT NULL)::integer AS mailings,
       coalesce(sum(m.queued) FILTER (WHERE NOT m.posting), 0)::integer AS queued,
       coalesce(sum(m.sent) FILTER (WHERE NOT m.posting), 0)::integer AS sent,
       coalesce(sum(m.bounced) FILTER (WHERE NOT m.posting), 0)::integer AS bounced,
       coalesce(sum(m.failed) FILTER (WHERE NOT m.posting), 0)::integer AS failed,
       coalesce(sum(m.uncertain) FILTER (WHERE NOT m.posting), 0)::integer AS uncertain,
       coalesce(sum(m.unsubscribed) FILTER (WHERE NOT m.posting), 0)::integer AS unsubscribed
FROM wanted w
JOIN inbox_items i ON i.announcement_id = w.announcement_id AND i.chapter_id = w.chapter_id
JOIN announcements a ON a.id = i.announcement_id
LEFT JOIN mailings m ON m.announcement_id = i.announcement_id AND m.chapter_id = i.chapter_id
WHERE i.version > 0
GROUP BY i.announcement_id, i.chapter_id, a.id;

-- name: ReceiptVersions :many
SELECT chapter_id, announcement_id, epoch, version FROM inbox_items
WHERE (chapter_id || '/', announcement_id) > (@chapter::text, @announcement_id::uuid) AND version > 0
ORDER BY chapter_id || '/', announcement_id
LIMIT @size;

-- name: BeginReceiptEpoch :exec
UPDATE inbox_items SET epoch = @epoch, version = 1, untold = true;
