-- name: InsertList :one
INSERT INTO lists (chapter_id, id, display_name, double_opt_in, consent_text, guard_percent, guard_entries,
                   announcement_mode, from_name, reply_to, posting_address, epoch, version, create_time, update_time)
VALUES (@chapter_id, @id, @display_name, @double_opt_in, @consent_text, @guard_percent, @guard_entries,
        @announcement_mode, @from_name, @reply_to, @posting_address, @epoch, 1, @now, @now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: ReviveList :one
-- A deleted list is made anew over its tombstones, in an epoch that is later than any before.
UPDATE lists
SET display_name = @display_name, double_opt_in = @double_opt_in, consent_text = @consent_text,
    guard_percent = @guard_percent, guard_entries = @guard_entries, announcement_mode = @announcement_mode,
    from_name = @from_name, reply_to = @reply_to, posting_address = @posting_address, deleted = false,
    epoch = greatest(@epoch::bigint, epoch + 1), version = 1, changes_floor = 0, create_time = @now, update_time = @now
WHERE chapter_id = @chapter_id AND id = @id AND deleted
RETURNING *;

-- name: List :one
SELECT * FROM lists WHERE chapter_id = @chapter_id AND id = @id AND NOT deleted;

-- name: ListForUpdate :one
SELECT * FROM lists WHERE chapter_id = @chapter_id AND id = @id AND NOT deleted FOR NO KEY UPDATE;

-- name: ListByNoForUpdate :one
SELECT * FROM lists WHERE list_no = @list_no FOR NO KEY UPDATE;

-- name: ListsAfter :many
SELECT * FROM lists
WHERE chapter_id = @chapter_id AND id > @after AND NOT deleted
ORDER BY id
LIMIT @size;

-- name: UpdateList :one
UPDATE lists
SET display_name = @display_name, double_opt_in = @double_opt_in, consent_text = @consent_text,
    guard_percent = @guard_percent, guard_entries = @guard_entries, announcement_mode = @announcement_mode,
    from_name = @from_name, reply_to = @reply_to, posting_address = @posting_address, version = version + 1, update_time = @now
WHERE list_no = @list_no
RETURNING *;

-- name: MoveList :one
-- The next version, with the counters moved.
UPDATE lists
SET version = version + 1, update_time = @now,
    subscribed = subscribed + @subscribed, pending = pending + @pending,
    unsubscribed = unsubscribed + @unsubscribed, bounced = bounced + @bounced
WHERE list_no = @list_no
RETURNING *;

-- name: SeenList :exec
UPDATE lists SET seen_time = @now WHERE list_no = @list_no;

-- name: ListsOfEntry :many
-- A chapter's lists that hold the person, deleted ones with their tombstones too, in the order in which they are locked.
SELECT l.* FROM lists l
WHERE l.chapter_id = @chapter_id AND EXISTS (SELECT FROM entries e WHERE e.list_no = l.list_no AND e.token = @token)
ORDER BY l.list_no
FOR NO KEY UPDATE;

-- name: DeleteList :one
UPDATE lists
SET deleted = true, subscribed = 0, pending = 0, version = version + 1, update_time = @now
WHERE list_no = @list_no
RETURNING *;

-- name: ListAggregate :one
-- Deleted lists too: who keeps a copy has to learn of their end.
SELECT * FROM lists WHERE chapter_id = @chapter_id AND id = @id;

-- name: ListVersions :many
-- In the order of the aggregates' names, which is not that of the pairs: "a-b" comes after "a" but before "a/".
SELECT name::text, epoch, version
FROM (SELECT 'chapters/' || chapter_id || '/lists/' || id AS name, epoch, version FROM lists) l
WHERE name COLLATE "C" > @after::text
ORDER BY name COLLATE "C"
LIMIT @size;

-- name: BeginListEpoch :many
UPDATE lists SET epoch = @epoch, version = version + 1, changes_floor = version + 1
RETURNING *;

-- name: ListsOfChapter :many
SELECT * FROM lists WHERE chapter_id = @chapter_id AND NOT deleted ORDER BY id;

-- name: SourcesOfLists :many
-- How many SUBSCRIBED entries each source claims, and of how many it is the only one that does.
SELECT e.list_no, claim.source::text AS source, count(*)::integer AS entries,
       (count(*) FILTER (WHERE cardinality(e.sources) = 1))::integer AS alone
FROM entries e
CROSS JOIN LATERAL unnest(e.sources) AS claim (source)
WHERE e.list_no = ANY (@list_nos::bigint[]) AND e.state = 1
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: SeverallyClaimed :many
SELECT e.list_no, count(*)::integer AS entries
FROM entries e
WHERE e.list_no = ANY (@list_nos::bigint[]) AND e.state = 1 AND cardinality(e.sources) > 1
GROUP BY 1;
