-- name: Announcement :one
SELECT * FROM announcements WHERE id = @id;

-- What moves relays of an announcement one by one shares it, and what moves all of them has it alone. So a correction or a
-- recall never misses a relay that is being made.
-- name: AnnouncementForShare :one
SELECT * FROM announcements WHERE id = @id FOR SHARE;

-- name: AnnouncementForUpdate :one
SELECT * FROM announcements WHERE id = @id FOR NO KEY UPDATE;

-- name: InsertAnnouncement :one
INSERT INTO announcements (id, region_id, edition, recalled, public, languages, content, epoch, version, update_time)
VALUES (@id, sqlc.narg(region_id), @edition, @recalled, @public, coalesce(@languages::text[], '{}'), @content, @epoch, @version, @now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: UpdateAnnouncement :one
UPDATE announcements
SET edition = @edition, recalled = @recalled, content = @content, version = version + 1, update_time = @now
WHERE id = @id
RETURNING *;

-- name: AnnouncementsOfRegion :many
SELECT * FROM announcements
WHERE region_id = @region_id AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before))
ORDER BY id DESC
LIMIT @size;

-- name: AnnouncementsOf :many
SELECT * FROM announcements WHERE id = ANY(@ids::uuid[]);

-- Regions directly below those given that an audience touches, and whether they lie in it or only on the way to it; and
-- those that left them while nobody had decided there, which lie in the audience where they did then.
-- name: TouchedChildren :many
SELECT DISTINCT ON (below.id) below.id::text AS id, below.parent_id::text AS parent_id,
       (cardinality(@audience::text[]) = 0 OR below.path && @audience::text[])::boolean AS inside
FROM (
    SELECT r.id, r.parent_id, r.path FROM regions r WHERE r.parent_id = ANY(@parents::text[]) AND r.close_time IS NULL
    UNION ALL
    SELECT r.id, l.region_id, r.path || g.path
    FROM relays l JOIN regions g ON g.id = l.region_id JOIN regions r ON r.id = ANY(l.left_regions) AND r.close_time IS NULL
    WHERE l.announcement_id = @announcement_id AND l.region_id = ANY(@parents::text[])
) below
WHERE cardinality(@audience::text[]) = 0 OR below.path && @audience::text[]
   OR below.id IN (SELECT unnest(a.path) FROM regions a WHERE a.id = ANY(@audience::text[]))
ORDER BY below.id, inside DESC;

-- Which of the regions lie in an audience themselves.
-- name: RegionsInside :many
SELECT r.id FROM regions r
WHERE r.id = ANY(@regions::text[]) AND (cardinality(@audience::text[]) = 0 OR r.path && @audience::text[]);

-- name: ChaptersOfRegion :many
SELECT chapter_id FROM placements WHERE region_id = @region_id AND to_time IS NULL AND chapter_id = ANY(@chapters::text[]);

-- Regions that are closed and whose relays another one decides on: those that were dissolved in it, else its last children.
-- name: TakenOver :many
WITH RECURSIVE gone AS (
    SELECT id FROM regions r WHERE r.close_time IS NOT NULL AND coalesce(r.merged_into, r.parent_id) = @region_id::text
    UNION
    SELECT r.id FROM gone g JOIN regions r ON r.close_time IS NOT NULL AND coalesce(r.merged_into, r.parent_id) = g.id
)
SELECT id FROM gone;

-- Who they wait with is text: an array of arrays has to be a rectangle.
-- name: InsertRelays :many
INSERT INTO relays (region_id, announcement_id, parent_id, state, edition, automatic, arrive_time, deadline_time,
                    remind_time, chapters_chosen, inform, due_time, reach_due_time, waiting_with, acting_region, waiting_since,
                    epoch, version, update_time)
SELECT new.region_id, @announcement_id::uuid, nullif(new.parent_id, ''), 'WAITING', 0, false, @now::timestamptz, @deadline_time::timestamptz,
       @remind_time::timestamptz, new.chapters_chosen, new.inform, @deadline_time::timestamptz, @now::timestamptz,
       string_to_array(new.waiting_with, ' '), new.acting_region, @now::timestamptz, @epoch::bigint, 1, @now::timestamptz
FROM (SELECT unnest(@regions::text[]) AS region_id, unnest(@parents::text[]) AS parent_id,
             unnest(@chosen::boolean[]) AS chapters_chosen, unnest(@inform::boolean[]) AS inform,
             unnest(@waiting_with::text[]) AS waiting_with, unnest(@acting_regions::text[]) AS acting_region) AS new
ORDER BY new.region_id
ON CONFLICT DO NOTHING
RETURNING *;

-- Regions where somebody is waited for.
-- name: WaitingRegions :many
SELECT g.id, g.path, (g.close_time IS NOT NULL)::boolean AS closed FROM regions g
WHERE g.id IN (SELECT r.region_id FROM relays r WHERE r.state IN ('WAITING', 'HELD'))
ORDER BY g.id;

-- Writes with whom relays wait that wait with others now. Those that somebody is deciding on have their turn later.
-- name: SetWaitingWith :many
WITH new AS (
    SELECT unnest(@regions::text[]) AS region_id, unnest(@waiting_with::text[]) AS waiting_with,
           unnest(@acting_regions::text[]) AS acting_region
), changed AS (
    SELECT r.announcement_id, r.region_id, n.waiting_with, n.acting_region
    FROM new n JOIN relays r ON r.region_id = n.region_id
    WHERE r.state IN ('WAITING', 'HELD')
      AND (r.acting_region <> n.acting_region OR r.waiting_with <> string_to_array(n.waiting_with, ' '))
    ORDER BY r.announcement_id, r.region_id
    LIMIT @size
    FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE relays r
SET waiting_with = string_to_array(c.waiting_with, ' '), acting_region = c.acting_region, waiting_since = @now::timestamptz,
    version = version + 1, update_time = @now
FROM changed c
WHERE r.announcement_id = c.announcement_id AND r.region_id = c.region_id
RETURNING r.*;

-- What waits where chapters leave stays for them: whoever decides there decides for them too.
-- name: KeepForChapters :exec
WITH gone AS (
    SELECT p.region_id, array_agg('chapters/' || p.chapter_id) AS chapters FROM placements p
    WHERE p.to_time IS NULL AND p.chapter_id = ANY(@chapter_ids::text[]) AND p.region_id <> @region_id
    GROUP BY p.region_id
), open AS (
    SELECT o.announcement_id, o.region_id, g.chapters FROM relays o JOIN gone g ON g.region_id = o.region_id
    WHERE o.state IN ('WAITING', 'HELD') AND NOT o.chapters_chosen
    ORDER BY o.announcement_id, o.region_id
    FOR NO KEY UPDATE OF o
)
UPDATE relays r
SET left_chapters = ARRAY(SELECT DISTINCT unnest(r.left_chapters || o.chapters) ORDER BY 1)
FROM open o
WHERE r.announcement_id = o.announcement_id AND r.region_id = o.region_id;

-- And for a region that leaves.
-- name: KeepForRegion :exec
WITH open AS (
    SELECT o.announcement_id, o.region_id FROM relays o
    WHERE o.region_id = @parent_id AND o.state IN ('WAITING', 'HELD') AND NOT @region_id::text = ANY(o.left_regions)
    ORDER BY o.announcement_id
    FOR NO KEY UPDATE
)
UPDATE relays r SET left_regions = r.left_regions || @region_id::text
FROM open o
WHERE r.announcement_id = o.announcement_id AND r.region_id = o.region_id;

-- name: Relay :one
SELECT * FROM relays WHERE region_id = @region_id AND announcement_id = @announcement_id;

-- name: RelaysOf :many
SELECT sqlc.embed(r), coalesce(g.display_name, '')::text AS display_name
FROM relays r LEFT JOIN regions g ON g.id = r.region_id
WHERE r.announcement_id = @announcement_id
ORDER BY r.region_id;

-- name: RelayForUpdate :one
SELECT * FROM relays WHERE region_id = @region_id AND announcement_id = @announcement_id FOR NO KEY UPDATE;

-- name: RelaysForUpdate :many
SELECT * FROM relays
WHERE announcement_id = @announcement_id AND state = ANY(@states::text[])
ORDER BY region_id
FOR NO KEY UPDATE;

-- name: DueAnnouncements :many
SELECT DISTINCT announcement_id FROM relays
WHERE due_time <= @now::timestamptz
ORDER BY announcement_id
LIMIT @size;

-- name: DueRelaysForUpdate :many
SELECT * FROM relays
WHERE announcement_id = @announcement_id AND due_time <= @now::timestamptz
ORDER BY region_id
FOR NO KEY UPDATE;

-- name: RelaysBefore :many
SELECT * FROM relays
WHERE (region_id = @region_id OR region_id = ANY(@taken_over::text[]) AND state IN ('WAITING', 'HELD'))
  AND (sqlc.narg(before)::uuid IS NULL OR (announcement_id, region_id) < (sqlc.narg(before)::uuid, @before_region::text))
  AND (@state::text = '' OR state = @state)
ORDER BY announcement_id DESC, region_id DESC
LIMIT @size;

-- name: RelaysToForward :many
SELECT r.region_id, r.announcement_id FROM relays r JOIN announcements a ON a.id = r.announcement_id
WHERE r.region_id = ANY(@regions::text[]) AND r.state = @state
  AND (sqlc.narg(arrived_before)::timestamptz IS NULL OR r.arrive_time < sqlc.narg(arrived_before))
  AND (@origin::text = '' OR (a.region_id IS NULL) = (@origin = 'INTERNATIONAL'))
ORDER BY r.announcement_id, r.region_id
LIMIT @size;

-- Relays that move together keep what they have of their own: the chapters that were chosen before.
-- name: ForwardRelays :many
UPDATE relays r
SET state = 'FORWARDED', edition = @edition, automatic = @automatic, forward_time = @now::timestamptz,
    child_regions = coalesce((SELECT array_agg(child.region ORDER BY child.region)
                              FROM (SELECT unnest(@children::text[]) AS region, unnest(@children_parents::text[]) AS parent) AS child
                              WHERE child.parent = r.region_id), '{}'),
    due_time = NULL, remind_time = NULL, hold_until_time = NULL, version = version + 1, update_time = @now
WHERE r.announcement_id = @announcement_id AND r.region_id = ANY(@regions::text[])
RETURNING *;

-- name: AddToRelay :exec
UPDATE relays
SET note = @note, translations = @translations, chapters = @chapters, chapters_chosen = chapters_chosen OR @chapters_chosen
WHERE announcement_id = @announcement_id AND region_id = @region_id;

-- name: TranslateRelay :one
UPDATE relays SET translations = @translations, version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND region_id = @region_id
RETURNING *;

-- name: HoldRelay :one
UPDATE relays
SET state = 'HELD', hold_until_time = @until_time, hold_reason = @reason, due_time = @until_time, remind_time = NULL,
    version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND region_id = @region_id
RETURNING *;

-- name: DeclineRelay :one
UPDATE relays
SET state = 'DECLINED', decline_reason = @reason, due_time = NULL, remind_time = NULL, hold_until_time = NULL,
    version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND region_id = @region_id
RETURNING *;

-- name: EndHolds :many
UPDATE relays
SET state = 'WAITING', remind_time = @now::timestamptz, due_time = deadline_time, version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND region_id = ANY(@regions::text[])
RETURNING *;

-- Added translations are of the earlier text, and say so.
-- name: CorrectRelays :many
UPDATE relays
SET edition = @edition, version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND state = 'FORWARDED'
RETURNING *;

-- name: RecallRelays :many
UPDATE relays
SET state = 'RECALLED', due_time = NULL, remind_time = NULL, hold_until_time = NULL, version = version + 1, update_time = @now
WHERE announcement_id = @announcement_id AND state <> 'RECALLED'
RETURNING *;

-- Keeps a receipt and notes whose sums it moves, in one trip: that of the region by whose relay the announcement came, and,
-- where the chapter had it by another one before, that one's too.
-- name: PutReceipt :exec
WITH before AS (
    SELECT b.region_id FROM receipts b WHERE b.announcement_id = @announcement_id AND b.chapter_id = @chapter_id
), put AS (
    INSERT INTO receipts (announcement_id, chapter_id, region_id, chapters_reached, chapters_sent, chapters_dismissed,
                          people_queued, people_mailed, people_bounced, people_failed, people_uncertain, people_unsubscribed)
    VALUES (@announcement_id, @chapter_id, @region_id, @chapters_reached, @chapters_sent, @chapters_dismissed,
            @people_queued, @people_mailed, @people_bounced, @people_failed, @people_uncertain, @people_unsubscribed)
    ON CONFLICT (announcement_id, chapter_id) DO UPDATE
    SET region_id = excluded.region_id, chapters_reached = excluded.chapters_reached, chapters_sent = excluded.chapters_sent,
        chapters_dismissed = excluded.chapters_dismissed, people_queued = excluded.people_queued,
        people_mailed = excluded.people_mailed, people_bounced = excluded.people_bounced, people_failed = excluded.people_failed,
        people_uncertain = excluded.people_uncertain, people_unsubscribed = excluded.people_unsubscribed
)
INSERT INTO reach_moved (announcement_id, region_id)
SELECT @announcement_id, moved.region_id FROM (SELECT @region_id::text AS region_id UNION SELECT region_id FROM before) moved;

-- name: DeleteReceipt :many
DELETE FROM receipts WHERE announcement_id = @announcement_id AND chapter_id = @chapter_id RETURNING region_id;

-- name: MoveReach :exec
INSERT INTO reach_moved (announcement_id, region_id) SELECT @announcement_id, unnest(@regions::text[]);

-- Relays whose receipts moved and whose turn it is.
-- name: MovedRelaysForUpdate :many
SELECT r.region_id, r.announcement_id FROM relays r
WHERE r.reach_due_time <= @now::timestamptz
  AND EXISTS (SELECT FROM reach_moved m WHERE m.announcement_id = r.announcement_id AND m.region_id = r.region_id)
ORDER BY r.announcement_id, r.region_id
LIMIT @size
FOR NO KEY UPDATE SKIP LOCKED;

-- name: ForgetMoved :exec
DELETE FROM reach_moved m
USING (SELECT unnest(@announcements::uuid[]) AS announcement_id, unnest(@regions::text[]) AS region_id) AS taken
WHERE m.announcement_id = taken.announcement_id AND m.region_id = taken.region_id;

-- name: SumReceipts :many
SELECT taken.announcement_id::uuid AS announcement_id, taken.region_id::text AS region_id,
       coalesce(sum(c.chapters_reached), 0)::integer AS chapters_reached,
       coalesce(sum(c.chapters_sent), 0)::integer AS chapters_sent,
       coalesce(sum(c.chapters_dismissed), 0)::integer AS chapters_dismissed,
       coalesce(sum(c.people_queued), 0)::integer AS people_queued,
       coalesce(sum(c.people_mailed), 0)::integer AS people_mailed,
       coalesce(sum(c.people_bounced), 0)::integer AS people_bounced,
       coalesce(sum(c.people_failed), 0)::integer AS people_failed,
       coalesce(sum(c.people_uncertain), 0)::integer AS people_uncertain,
       coalesce(sum(c.people_unsubscribed), 0)::integer AS people_unsubscribed
FROM (SELECT unnest(@announcements::uuid[]) AS announcement_id, unnest(@regions::text[]) AS region_id) AS taken
LEFT JOIN receipts c ON c.announcement_id = taken.announcement_id AND c.region_id = taken.region_id
GROUP BY taken.announcement_id, taken.region_id;

-- name: SetReach :many
UPDATE relays r
SET reach = new.reach, reach_due_time = @next::timestamptz, version = version + 1, update_time = @now::timestamptz
FROM (SELECT unnest(@announcements::uuid[]) AS announcement_id, unnest(@regions::text[]) AS region_id,
             unnest(@reaches::bytea[]) AS reach) AS new
WHERE r.announcement_id = new.announcement_id AND r.region_id = new.region_id AND r.reach <> new.reach
RETURNING r.*;

-- name: OwnAnnouncementVersions :many
SELECT region_id::text AS region_id, id, epoch, version FROM announcements
WHERE region_id IS NOT NULL AND (region_id || '/announcements/' || id::text) COLLATE "C" > @after::text
ORDER BY (region_id || '/announcements/' || id::text) COLLATE "C"
LIMIT @size;

-- name: RelayVersions :many
SELECT region_id, announcement_id, epoch, version FROM relays
WHERE (region_id || '/relays/' || announcement_id::text) COLLATE "C" > @after::text
ORDER BY (region_id || '/relays/' || announcement_id::text) COLLATE "C"
LIMIT @size;

-- name: BeginRelayEpoch :many
UPDATE relays SET epoch = @epoch, version = 1 RETURNING *;

-- name: BeginAnnouncementEpoch :many
UPDATE announcements SET epoch = @epoch, version = 1 WHERE region_id IS NOT NULL RETURNING *;
