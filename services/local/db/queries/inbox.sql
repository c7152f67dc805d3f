-- name: PutCharter :exec
INSERT INTO charters (chapter_id, state, update_time) VALUES (@chapter_id, @state, @update_time)
ON CONFLICT (chapter_id) DO UPDATE SET state = excluded.state, update_time = excluded.update_time;

-- name: LockInboxes :exec
-- Who fills inboxes, and who changes for whom that would be, is alone until the transaction ends: relays, placements and
-- charters are heard of side by side, and none of two must miss what the other has just written.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: LockAnnouncement :exec
-- Takes the lock of LockInboxes, and makes an announcement known by its id alone where it is not: its relays may come before
-- it.
WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(@key::bigint))
INSERT INTO announcements (id, name) SELECT @id::uuid, @name::text FROM alone
WHERE NOT EXISTS (SELECT FROM announcements a WHERE a.id = @id)
ON CONFLICT DO NOTHING;

-- name: AnnouncementEdition :one
SELECT edition FROM announcements WHERE id = @id;

-- name: PutAnnouncement :exec
UPDATE announcements
SET name = @name, edition = @edition, content = @content, audience_regions = @audience_regions,
    audience_charter_states = @audience_charter_states, audience_languages = @audience_languages,
    recalled = recalled OR @recalled::boolean
WHERE id = @id;

-- name: RecallAnnouncement :exec
UPDATE announcements SET recalled = true WHERE id = @id;

-- name: PutRelay :execrows
-- LockAnnouncement and a relay as it stands now, in one trip; no row when nothing is new.
WITH alone AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(@key::bigint)
), known AS (
    INSERT INTO announcements (id, name) SELECT @announcement_id::uuid, @name::text FROM alone
    WHERE NOT EXISTS (SELECT FROM announcements a WHERE a.id = @announcement_id)
    ON CONFLICT DO NOTHING
)
INSERT INTO relays (announcement_id, region, parent_region, state, content, chapters, chapters_chosen, left_chapters, forward_time)
SELECT @announcement_id::uuid, @region::text, sqlc.narg(parent_region)::text, @state::text, @content::bytea, @chapters::text[],
       @chapters_chosen::boolean, @left_chapters::text[], sqlc.narg(forward_time)::timestamptz
FROM alone
ON CONFLICT (announcement_id, region) DO UPDATE
SET parent_region = excluded.parent_region, state = excluded.state, content = excluded.content, chapters = excluded.chapters,
    chapters_chosen = excluded.chapters_chosen, left_chapters = excluded.left_chapters, forward_time = excluded.forward_time
WHERE relays.content <> excluded.content;

-- name: RelaysAbove :many
-- The relays by which an announcement came to a region, the nearest first.
WITH RECURSIVE way AS (
    SELECT r.region, r.parent_region, r.content, 1 AS hop FROM relays r
    WHERE r.announcement_id = @announcement_id AND r.region = @region
    UNION ALL
    SELECT r.region, r.parent_region, r.content, w.hop + 1 FROM way w
    JOIN relays r ON r.announcement_id = @announcement_id AND r.region = w.parent_region
    WHERE w.hop < 32
)
SELECT region, content FROM way ORDER BY hop;

-- name: FillInboxes :execrows
-- Gives an announcement to every chapter that it is for and that has not got it, of one region or chapter or of all; and
-- begins the mailings of the lists that want it by themselves. The caller has the lock of LockInboxes.
-- It is for the chapters that lay in the region when it was forwarded there, and for those that left while it waited. One
-- that moved about that time may be heard of before the relay or after it (@chapter). The regions of the audience are the
-- regional tier's business: a region that is only on the way has chapters_chosen.
-- Whether a chapter is of the audience is asked of the charter's state as it is known; a charter that changed by the time
-- of the forwarding, and was told later, asks again (@chapter).
-- The laterals keep it to the chapters of the regions in question, whatever the statistics say: looking at all of them for
-- each relay takes 20 times as long.
WITH forwarded AS (
    SELECT r.region, r.chapters, r.chapters_chosen, r.left_chapters, r.forward_time FROM relays r
    WHERE r.announcement_id = @announcement_id AND r.state = 'FORWARDED' AND r.region BETWEEN @first_region AND @last_region
), reached AS (
    SELECT r.region, r.chapters, r.chapters_chosen, c.id, c.language_code
    FROM forwarded r CROSS JOIN LATERAL (
        SELECT here.id, here.language_code FROM chapters here WHERE here.region = r.region
        UNION ALL
        SELECT gone.id, gone.language_code FROM chapters gone WHERE gone.left_region = r.region AND gone.left_time >= r.forward_time
        UNION ALL
        SELECT kept.id, kept.language_code FROM chapters kept WHERE kept.id IN (SELECT substr(l.name, 10) FROM unnest(r.left_chapters) AS l (name))
        OFFSET 0
    ) c
), filled AS (
    INSERT INTO inbox_items (announcement_id, chapter_id, region, arrived_edition, arrive_time, update_time, epoch)
    SELECT a.id, c.id, c.region, a.edition, @now::timestamptz, @now, @epoch::bigint
    FROM announcements a
    CROSS JOIN reached c
    WHERE a.id = @announcement_id AND a.edition > 0 AND NOT a.recalled
      AND (@chapter::text = '' OR c.id = @chapter)
      AND (NOT c.chapters_chosen OR 'chapters/' || c.id = ANY (c.chapters))
      AND (cardinality(a.audience_charter_states) = 0
           OR (SELECT h.state FROM charters h WHERE h.chapter_id = c.id) = ANY (a.audience_charter_states))
      AND speaks(c.language_code, a.audience_languages)
    ORDER BY c.id
    ON CONFLICT DO NOTHING
    RETURNING announcement_id, chapter_id
), automatic AS (
    INSERT INTO mailings (announcement_id, chapter_id, list_no, state, automatic, due_time, create_time)
    SELECT f.announcement_id, f.chapter_id, l.list_no, 'SCHEDULED', true, @now, @now
    FROM filled f JOIN lists l ON l.chapter_id = f.chapter_id
    WHERE l.announcement_mode = 1 AND NOT l.deleted
    ORDER BY f.chapter_id, l.list_no
)
SELECT FROM filled;

-- name: AnnouncementsForPlacement :many
-- Announcements that were forwarded in a chapter's region when it was there already, and were heard of here before that.
SELECT r.announcement_id
FROM chapters c
JOIN relays r ON r.region = c.region AND r.state = 'FORWARDED' AND r.forward_time >= @since::timestamptz
WHERE c.id = @chapter_id
ORDER BY r.announcement_id;

-- name: AnnouncementsForCharter :many
-- Announcements that a chapter may have missed because its charter's state was told late.
SELECT r.announcement_id
FROM chapters c
JOIN relays r ON r.region = c.region AND r.state = 'FORWARDED' AND r.forward_time >= @since::timestamptz
JOIN announcements a ON a.id = r.announcement_id
WHERE c.id = @chapter_id AND cardinality(a.audience_charter_states) > 0
ORDER BY r.announcement_id;

-- name: TouchInboxItems :exec
-- Something about the announcement is new to all who have it.
UPDATE inbox_items SET untold = true, update_time = @now WHERE announcement_id = @announcement_id;

-- name: CancelMailings :exec
-- Stops all mailings of an announcement. What is under way ends as it will.
UPDATE mailings SET state = 'CANCELLED', end_time = @now::timestamptz, moved = true
WHERE announcement_id = @announcement_id AND state IN ('SCHEDULED', 'RUNNING');

-- name: InboxItem :one
SELECT sqlc.embed(i), sqlc.embed(a), c.language_code
FROM inbox_items i
JOIN announcements a ON a.id = i.announcement_id
JOIN chapters c ON c.id = i.chapter_id
WHERE i.announcement_id = @announcement_id AND i.chapter_id = @chapter_id;

-- name: InboxItemForUpdate :one
SELECT sqlc.embed(i), sqlc.embed(a), c.language_code
FROM inbox_items i
JOIN announcements a ON a.id = i.announcement_id
JOIN chapters c ON c.id = i.chapter_id
WHERE i.announcement_id = @announcement_id AND i.chapter_id = @chapter_id
FOR NO KEY UPDATE OF i;

-- name: InboxItemsBefore :many
-- Newest first. A chapter gets a few hundred in a year.
SELECT sqlc.embed(i), sqlc.embed(a), c.language_code
FROM inbox_items i
JOIN announcements a ON a.id = i.announcement_id
JOIN chapters c ON c.id = i.chapter_id
WHERE i.chapter_id || '/' = @chapter_id::text || '/'
  AND (@first::boolean OR (i.arrive_time, i.announcement_id) < (@before_time::timestamptz, @before_id::uuid))
  AND (@state::integer = 0 OR @state = CASE WHEN a.recalled THEN 4 ELSE i.state END)
ORDER BY i.arrive_time DESC, i.announcement_id DESC
LIMIT @size;

-- name: MailingsOf :many
SELECT m.*, l.id AS list_id
FROM mailings m JOIN lists l ON l.list_no = m.list_no
WHERE m.chapter_id = @chapter_id AND m.announcement_id = ANY (@announcement_ids::uuid[])
ORDER BY m.mailing_no;

-- name: PutMailing :exec
-- One that has begun stays as it is; one that was dismissed is taken up again.
INSERT INTO mailings (announcement_id, chapter_id, list_no, state, automatic, note, due_time, create_time)
VALUES (@announcement_id, @chapter_id, @list_no, 'SCHEDULED', false, @note, @due_time, @now)
ON CONFLICT (announcement_id, chapter_id, list_no) DO UPDATE
SET state = 'SCHEDULED', automatic = false, note = excluded.note, due_time = excluded.due_time, end_time = NULL
WHERE mailings.start_time IS NULL;

-- name: SetInboxItem :exec
UPDATE inbox_items SET state = @state, dismiss_reason = @dismiss_reason, update_time = @now, untold = true
WHERE announcement_id = @announcement_id AND chapter_id = @chapter_id;

-- name: CancelScheduled :exec
UPDATE mailings SET state = 'CANCELLED', end_time = @now::timestamptz
WHERE announcement_id = @announcement_id AND chapter_id = @chapter_id AND state = 'SCHEDULED';
