-- name: AddEntry :one
-- Takes the list to its next version and adds the entry, with one statement because this is what people do one by one,
-- thousands of them. Where the entry exists, added is false and the caller rolls back.
WITH list AS (
    UPDATE lists
    SET version = version + 1, update_time = @now,
        subscribed = subscribed + (NOT double_opt_in)::integer, pending = pending + double_opt_in::integer
    WHERE chapter_id = @chapter_id AND id = @id AND NOT deleted
    RETURNING list_no, epoch, version, double_opt_in
), entry AS (
    INSERT INTO entries (list_no, token, address, display_name, state, sources, version, create_time, update_time)
    SELECT list_no, @token, @address, @display_name, 1 + double_opt_in::integer, ARRAY[@source::text], version, @now, @now FROM list
    ON CONFLICT DO NOTHING
    RETURNING token
), logged AS (
    INSERT INTO list_changes (list_no, epoch, version, part, time, tokens)
    SELECT list_no, epoch, version, 1, @now, ARRAY[@token::bytea] FROM list
)
SELECT list_no, epoch, version, double_opt_in, EXISTS (SELECT FROM entry) AS added FROM list;

-- name: Entry :one
SELECT * FROM entries WHERE list_no = @list_no AND token = @token;

-- name: EntriesAfter :many
SELECT * FROM entries
WHERE list_no = @list_no AND token > @after AND (@state::smallint = 0 OR state = @state)
  AND (@source::text = '' OR @source = ANY (sources))
ORDER BY token
LIMIT @size;

-- name: RenameEntry :one
UPDATE entries SET display_name = @display_name, version = @version, update_time = @now
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: SetEntryState :one
UPDATE entries SET state = @state, version = @version, update_time = @now
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: BuryEntries :many
-- Makes tombstones. One is compared with no source any more: what each has seen of it last is written down.
WITH old AS (
    SELECT token, state FROM entries
    WHERE entries.list_no = @list_no AND entries.token = ANY (@tokens::bytea[])
      AND entries.state <> @state::smallint AND (entries.state <= 2 OR @state = 3)
    FOR NO KEY UPDATE
)
UPDATE entries e
SET state = @state, version = @version, update_time = @now,
    seen_times = (
        SELECT array_agg(greatest(coalesce(e.claimed_times[c.place], e.create_time), e.seen_times[c.place], s.replace_time) ORDER BY c.place)
        FROM unnest(e.sources) WITH ORDINALITY AS c (source, place)
        LEFT JOIN list_sources s ON s.list_no = e.list_no AND s.source = c.source
        WHERE old.state <= 2
    )
FROM old
WHERE e.list_no = @list_no AND e.token = old.token
RETURNING e.token, old.state AS was;

-- name: ReturnEntry :one
-- The person's own word is a source of its own: no file that lacks the person takes it back.
UPDATE entries
SET state = 1, version = @version, update_time = @now,
    sources = array_append(array_remove(sources, @source::text), @source::text),
    claimed_times = array_append(CASE WHEN @source::text = ANY (sources)
        THEN with_item(claim_times(claimed_times, create_time, sources), array_position(sources, @source::text), NULL)
        ELSE claim_times(claimed_times, create_time, sources) END, @now::timestamptz),
    seen_times = NULL
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: InsertTombstone :one
-- Of a person whose entry is gone, or is forgotten: nothing but the token is known.
INSERT INTO entries (list_no, token, version, create_time, update_time, state, address, display_name, sources)
VALUES (@list_no, @token, @version, @now, @now, 3, '', '', '{}')
RETURNING *;

-- name: EraseEntry :one
UPDATE entries
SET state = 3, address = '', display_name = '', sources = '{}', claimed_times = NULL, seen_times = NULL,
    version = @version, create_time = @now, update_time = @now
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: LogChanges :exec
INSERT INTO list_changes (list_no, epoch, version, part, time, tokens) VALUES (@list_no, @epoch, @version, 1, @now, @tokens);

-- name: SourcesSeen :many
-- When each source last gave the whole list.
SELECT source, replace_time FROM list_sources WHERE list_no = @list_no;

-- name: ChangesAfter :many
-- Entries that changed after a point, as they are now; state 0 is for those that are gone.
SELECT c.version AS list_version, c.part, u.position::integer AS position, u.token::bytea AS token,
       coalesce(e.version, 0)::bigint AS version, coalesce(e.create_time, 'epoch')::timestamptz AS create_time,
       coalesce(e.update_time, 'epoch')::timestamptz AS update_time, coalesce(e.state, 0)::smallint AS state,
       coalesce(e.address, '')::text AS address, coalesce(e.display_name, '')::text AS display_name,
       e.sources, e.claimed_times, e.seen_times
FROM list_changes c
CROSS JOIN LATERAL unnest(c.tokens) WITH ORDINALITY AS u (token, position)
LEFT JOIN entries e ON e.list_no = c.list_no AND e.token = u.token
WHERE c.list_no = @list_no AND c.epoch = @epoch
  AND (c.version, c.part) >= (@version::bigint, @part::integer)
  AND ((c.version, c.part) > (@version, @part) OR u.position > @position::integer)
ORDER BY c.version, c.part, u.position
LIMIT @size;

-- name: PruneListChanges :execrows
WITH gone AS (
    DELETE FROM list_changes c WHERE c.time < @before RETURNING c.list_no, c.epoch, c.version
), floors AS (
    SELECT list_no, epoch, max(version) AS version FROM gone GROUP BY list_no, epoch
)
UPDATE lists l SET changes_floor = greatest(l.changes_floor, f.version)
FROM floors f
WHERE l.list_no = f.list_no AND l.epoch = f.epoch;

-- name: DeleteEntry :exec
DELETE FROM entries WHERE list_no = @list_no AND token = @token;

-- name: DeleteLiveEntries :exec
DELETE FROM entries WHERE list_no = @list_no AND state <= 2;

-- name: SubscribedTokens :many
SELECT token FROM entries
WHERE list_no = @list_no AND state = 1 AND token > @after
ORDER BY token
LIMIT @size;
