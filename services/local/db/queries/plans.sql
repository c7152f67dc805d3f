-- name: CopySyncRows :copyfrom
INSERT INTO sync_rows (sync_no, page, kind, upload_time, lines, tokens, addresses, display_names, first_lines, codes, texts)
VALUES (@sync_no, @page, @kind, @upload_time, @lines, @tokens, @addresses, @display_names, @first_lines, @codes, @texts);

-- name: DeleteSyncRows :execrows
DELETE FROM sync_rows WHERE sync_no = @sync_no;

-- name: DropStaleSyncRows :execrows
DELETE FROM sync_rows WHERE upload_time < @before;

-- name: CountRepeated :one
-- How many addresses stand in a source more than once, of those that were too many to be remembered while it arrived.
SELECT count(*)::integer FROM (
    SELECT token FROM (
        SELECT unnest(tokens) AS token FROM sync_rows WHERE sync_rows.sync_no = @sync_no AND sync_rows.kind = 0
    ) r
    GROUP BY token HAVING count(*) > 1
) t;

-- name: StoreRepeated :one
-- Takes rows that repeat the address of an earlier one out of those that are compared, and counts them.
WITH rows AS MATERIALIZED (
    SELECT page, unnest(lines) AS line, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name
    FROM sync_rows
    WHERE sync_rows.sync_no = @sync_no AND sync_rows.kind = 0
), repeated AS (
    SELECT r.*, f.first_line
    FROM rows r
    JOIN (SELECT token, min(line) AS first_line FROM rows GROUP BY token HAVING count(*) > 1) f USING (token)
    WHERE r.line > f.first_line
), stored AS (
    INSERT INTO sync_changes (sync_no, kind, state, page, lines, tokens, addresses, display_names, first_lines)
    SELECT @sync_no, 6, 0, page, array_agg(line), array_agg(token), array_agg(address), array_agg(display_name), array_agg(first_line)
    FROM repeated
    GROUP BY page
), kept AS (
    UPDATE sync_rows s
    SET lines = k.lines, tokens = k.tokens, addresses = k.addresses, display_names = k.display_names
    FROM (
        SELECT page, coalesce(array_agg(line) FILTER (WHERE NOT again), '{}') AS lines, array_agg(token) FILTER (WHERE NOT again) AS tokens,
               array_agg(address) FILTER (WHERE NOT again) AS addresses, array_agg(display_name) FILTER (WHERE NOT again) AS display_names
        FROM (
            SELECT r.*, EXISTS (SELECT FROM repeated x WHERE x.line = r.line) AS again
            FROM rows r
            WHERE r.page IN (SELECT page FROM repeated)
        ) r
        GROUP BY page
    ) k
    WHERE s.sync_no = @sync_no AND s.page = k.page
)
SELECT count(*)::integer FROM repeated;

-- name: PlanReplace :many
-- Compares all rows with all entries, each read once. OFFSET 0 keeps the planner from working out a fate anew for every
-- place where it is mentioned.
INSERT INTO sync_changes (sync_no, kind, state, page, lines, tokens, addresses, display_names, previous_display_names,
                          since_times, create_times, claimed_times)
SELECT @sync_no, kind, state, page, array_agg(line) FILTER (WHERE kind <> 3), array_agg(token), array_agg(address),
       array_agg(display_name), array_agg(previous_display_name) FILTER (WHERE kind IN (2, 9)),
       array_agg(since_time) FILTER (WHERE kind = 4), array_agg(create_time) FILTER (WHERE kind = 3),
       array_agg(coalesce(claimed_times[array_position(sources, @source::text)], create_time)) FILTER (WHERE kind IN (3, 8))
FROM (
    SELECT sync_kind(@source::text, r.token IS NOT NULL, r.display_name, e.state, e.display_name, e.sources) AS kind,
           coalesce(e.state, @added_state::smallint) AS state,
           sync_page(coalesce(r.token, e.token), @pages::integer) AS page,
           r.line,
           coalesce(r.token, e.token) AS token,
           coalesce(r.address, e.address) AS address,
           coalesce(r.display_name, e.display_name) AS display_name,
           e.display_name AS previous_display_name,
           e.update_time AS since_time,
           e.create_time, e.claimed_times, e.sources
    FROM (SELECT * FROM entries WHERE list_no = @list_no) e
    FULL JOIN (
        SELECT unnest(lines) AS line, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name
        FROM sync_rows
        WHERE sync_rows.sync_no = @sync_no AND sync_rows.kind = 0
    ) r ON r.token = e.token
    OFFSET 0
) c
WHERE kind <> 0
GROUP BY kind, state, page
RETURNING kind, state, cardinality(tokens)::integer AS size;

-- name: PlanMerge :many
-- Like PlanReplace, but looks only at the entries that the rows name, and notes those that it has only seen again.
INSERT INTO sync_changes (sync_no, kind, state, page, lines, tokens, addresses, display_names, previous_display_names, since_times)
SELECT @sync_no, kind, state, page, array_agg(line), array_agg(token), array_agg(address) FILTER (WHERE kind <> 11),
       array_agg(display_name) FILTER (WHERE kind <> 11), array_agg(previous_display_name) FILTER (WHERE kind IN (2, 9)),
       array_agg(since_time) FILTER (WHERE kind = 4)
FROM (
    SELECT coalesce(nullif(sync_kind(@source::text, true, r.display_name, e.state, e.display_name, e.sources), 0), 11)::smallint AS kind,
           coalesce(e.state, @added_state::smallint) AS state,
           sync_page(r.token, @pages::integer) AS page,
           r.line, r.token, r.address, r.display_name,
           e.display_name AS previous_display_name,
           e.update_time AS since_time
    FROM (
        SELECT unnest(lines) AS line, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name
        FROM sync_rows
        WHERE sync_rows.sync_no = @sync_no AND sync_rows.kind = 0
    ) r
    LEFT JOIN entries e ON e.list_no = @list_no AND e.token = r.token
    OFFSET 0
) c
GROUP BY kind, state, page
RETURNING kind, state, cardinality(tokens)::integer AS size;

-- name: PlanJudged :exec
-- Takes over the rows whose fate was known while they arrived.
INSERT INTO sync_changes (sync_no, kind, state, page, lines, tokens, addresses, display_names, first_lines, codes, texts)
SELECT sync_no, kind, 0, page, lines, tokens, addresses, display_names, first_lines, codes, texts
FROM sync_rows
WHERE sync_rows.sync_no = @sync_no AND sync_rows.kind <> 0;

-- name: SyncChangesFrom :many
-- A page of changes: from the given position on, without it.
SELECT c.kind, c.state, c.page, u.position::integer AS position,
       coalesce(u.line, 0)::integer AS line, u.token::bytea AS token, coalesce(u.address, '')::text AS address,
       coalesce(u.display_name, '')::text AS display_name, coalesce(u.previous_display_name, '')::text AS previous_display_name,
       coalesce(u.first_line, 0)::integer AS first_line, coalesce(u.code, '')::text AS code, coalesce(u.text, '')::text AS text,
       coalesce(u.since_time, 'epoch')::timestamptz AS since_time
FROM sync_changes c
CROSS JOIN LATERAL (
    SELECT generate_series(1, coalesce(cardinality(c.lines), cardinality(c.tokens))) AS position, unnest(c.lines) AS line, unnest(c.tokens) AS token,
           unnest(c.addresses) AS address, unnest(c.display_names) AS display_name,
           unnest(c.previous_display_names) AS previous_display_name, unnest(c.first_lines) AS first_line,
           unnest(c.codes) AS code, unnest(c.texts) AS text, unnest(c.since_times) AS since_time
) u
WHERE c.sync_no = @sync_no AND c.kind = ANY (@kinds::smallint[])
  AND (c.kind, c.state, c.page) >= (@kind::smallint, @state::smallint, @page::integer)
  AND ((c.kind, c.state, c.page) > (@kind, @state, @page) OR u.position > @position::integer)
ORDER BY c.kind, c.state, c.page, u.position
LIMIT @size;

-- name: EraseFromPlans :exec
-- Takes a person's address and name out of what is kept of a chapter's syncs; the token stays.
UPDATE sync_changes c
SET addresses = blank_items(addresses, tokens, @token::bytea),
    display_names = blank_items(display_names, tokens, @token),
    previous_display_names = blank_items(previous_display_names, tokens, @token)
FROM syncs s JOIN lists l USING (list_no)
WHERE c.sync_no = s.sync_no AND l.chapter_id = @chapter_id AND c.tokens @> ARRAY[@token::bytea];

-- name: SyncTokens :many
-- The tokens that the list gains (kind 1) and loses (3) in the eyes of others: those that are SUBSCRIBED.
SELECT kind, page, tokens FROM sync_changes
WHERE sync_no = @sync_no AND kind IN (1, 3) AND state = 1 AND (kind, page) > (@kind::smallint, @page::integer)
ORDER BY kind, page
LIMIT @size;

-- name: AddedFromNewDomain :one
-- How many additions of a plan that begin to count come from the one mail domain that brings the most of them and that has
-- nobody on the list, whatever the state; 0 for fewer than @least. To be asked before the plan is applied.
WITH domains AS (
    SELECT split_part(a, '@', -1) AS domain, count(*) AS additions
    FROM sync_changes c, unnest(c.addresses) AS a
    WHERE c.sync_no = @sync_no AND c.kind = 1 AND c.state = 1
    GROUP BY 1
    HAVING count(*) >= @least::integer
)
SELECT coalesce(max(d.additions), 0)::integer AS additions FROM domains d
WHERE NOT EXISTS (SELECT FROM entries e WHERE e.list_no = @list_no AND split_part(e.address, '@', -1) = d.domain);
