-- name: DigestItems :many
-- All that waits in a region, the first so many of each kind, with the counts of each kind on every row. What the subject has
-- snoozed comes last. With a wanted item that one alone. The epoch is no time.
WITH below AS (
    SELECT r.id FROM regions r WHERE r.path @> ARRAY[@region_id::text] AND r.close_time IS NULL
), lying AS (
    SELECT p.chapter_id, p.region_id, coalesce(c.display_name, '') AS display_name, c.heard_time
    FROM placements p
    JOIN below ON below.id = p.region_id
    LEFT JOIN chapters c ON c.id = p.chapter_id
    WHERE p.to_time IS NULL
), items AS (
    SELECT (CASE r.state WHEN 'HELD' THEN 2 ELSE 1 END)::smallint AS kind, 'relay-' || r.announcement_id AS item, r.region_id,
           r.announcement_id::text AS id, ''::text AS title, a.content, r.arrive_time AS since_time, r.deadline_time,
           r.hold_until_time, (r.remind_time <= @now::timestamptz) AS pressing
    FROM relays r JOIN announcements a ON a.id = r.announcement_id
    WHERE r.region_id = @region_id AND r.state IN ('WAITING', 'HELD')
    UNION ALL
    SELECT 3, 'concern-' || split_part(c.name, '/', 4), c.region_id, split_part(c.name, '/', 4), c.subject, NULL, c.create_time,
           c.due_time, NULL, c.due_time <= @now::timestamptz
    FROM cases c
    WHERE c.region_id = @region_id AND c.state = 'OPEN'
    UNION ALL
    SELECT CASE h.state WHEN 'AT_RISK' THEN 4 ELSE 5 END,
           CASE h.state WHEN 'AT_RISK' THEN 'at-risk-' ELSE 'suspended-' END || h.chapter_id, l.region_id, h.chapter_id,
           l.display_name, NULL, h.state_time, h.cure_by_time, NULL, false
    FROM charters h JOIN lying l ON l.chapter_id = h.chapter_id
    WHERE h.state IN ('AT_RISK', 'SUSPENDED')
    UNION ALL
    SELECT 6, 'silent-' || l.chapter_id, l.region_id, l.chapter_id, l.display_name, NULL, l.heard_time, NULL, NULL, false
    FROM lying l
    WHERE l.heard_time < @silent_before::timestamptz
), sorted AS (
    SELECT i.*, s.until_time, (count(*) OVER (PARTITION BY i.kind))::integer AS kind_count,
           (count(s.until_time) OVER (PARTITION BY i.kind))::integer AS snoozed_count,
           row_number() OVER (PARTITION BY i.kind ORDER BY s.until_time IS NOT NULL, i.deadline_time, i.since_time, i.item) AS place
    FROM items i
    LEFT JOIN digest_snoozes s ON s.subject = @subject AND s.region_id = @region_id AND s.item = i.item AND s.until_time > @now::timestamptz
)
SELECT kind, item::text AS item, region_id, id::text AS id, title::text AS title, content, coalesce(since_time, 'epoch')::timestamptz AS since_time,
       coalesce(deadline_time, 'epoch')::timestamptz AS deadline_time, coalesce(hold_until_time, 'epoch')::timestamptz AS hold_until_time,
       coalesce(pressing, false)::boolean AS pressing, until_time, kind_count, snoozed_count
FROM sorted
WHERE CASE WHEN @wanted::text = '' THEN place <= @size::integer ELSE item = @wanted::text END
ORDER BY kind, place;

-- name: PutSnooze :exec
INSERT INTO digest_snoozes (subject, region_id, item, until_time)
VALUES (@subject, @region_id, @item, @until_time)
ON CONFLICT (subject, region_id, item) DO UPDATE SET until_time = excluded.until_time;

-- name: DeleteSnooze :exec
DELETE FROM digest_snoozes WHERE subject = @subject AND region_id = @region_id AND item = @item;

-- name: ForgetSnoozes :exec
-- Those whose time is over.
DELETE FROM digest_snoozes WHERE subject = @subject AND until_time <= @now;

-- name: RemindableRelays :many
-- Relays whose deadline is near and of which nobody was reminded since it is.
SELECT sqlc.embed(r), sqlc.embed(a) FROM relays r JOIN announcements a ON a.id = r.announcement_id
WHERE r.state = 'WAITING' AND r.remind_time <= @now AND r.deadline_time > @now
  AND (r.reminded_time IS NULL OR r.reminded_time < r.remind_time)
ORDER BY r.deadline_time, r.region_id, r.announcement_id
LIMIT @size
FOR NO KEY UPDATE OF r SKIP LOCKED;

-- name: MarkReminded :exec
UPDATE relays r SET reminded_time = @now
FROM (SELECT unnest(@announcements::uuid[]) AS announcement_id, unnest(@regions::text[]) AS region_id) AS told
WHERE r.announcement_id = told.announcement_id AND r.region_id = told.region_id;

-- name: AnnouncementToTell :one
-- An urgent announcement that passed, and of which coordinators are to be told.
SELECT announcement_id FROM relays WHERE inform ORDER BY announcement_id LIMIT 1;

-- name: TakeToTell :many
UPDATE relays SET inform = false WHERE announcement_id = @announcement_id AND inform RETURNING region_id;

-- name: ForgetReminders :exec
-- Takes it that all has been told that was due.
UPDATE relays SET inform = false, reminded_time = CASE WHEN remind_time <= @now THEN @now ELSE reminded_time END
WHERE inform OR remind_time <= @now;
