-- name: DeleteRemoved :execrows
DELETE FROM entries e
USING (SELECT unnest(tokens) AS token FROM sync_changes WHERE sync_no = @sync_no AND kind = 3) c
WHERE e.list_no = @list_no AND e.token = c.token;

-- name: UpdateChanged :execrows
-- Names (2, 9, 12) and claims (gained by 7 and 9, lost by 8 and 12).
UPDATE entries e
SET display_name = CASE WHEN c.kind IN (2, 9, 12) THEN c.display_name ELSE e.display_name END,
    sources = CASE WHEN c.kind IN (7, 9) THEN e.sources || @source::text
                   WHEN c.kind IN (8, 12) THEN array_remove(e.sources, @source::text)
                   ELSE e.sources END,
    claimed_times = CASE WHEN c.kind IN (7, 9) THEN claim_times(e.claimed_times, e.create_time, e.sources) || coalesce(c.claimed_time, @now)
                         WHEN c.kind IN (8, 12) THEN with_item(claim_times(e.claimed_times, e.create_time, e.sources), array_position(e.sources, @source::text), NULL)
                         ELSE e.claimed_times END,
    seen_times = CASE WHEN e.seen_times IS NULL THEN NULL
                      WHEN c.kind IN (7, 9) THEN e.seen_times || coalesce(c.claimed_time, @now)
                      WHEN c.kind IN (8, 12) THEN with_item(e.seen_times, array_position(e.sources, @source::text), NULL)
                      ELSE e.seen_times END,
    version = @version, update_time = @now
FROM (
    SELECT kind, unnest(tokens) AS token, unnest(display_names) AS display_name, unnest(claimed_times) AS claimed_time
    FROM sync_changes
    WHERE sync_no = @sync_no AND kind IN (2, 7, 8, 9, 12)
) c
WHERE e.list_no = @list_no AND e.token = c.token;

-- name: SeeEntries :execrows
-- What a MERGE has seen again. It is no change of the entry, so its version stays.
UPDATE entries e
SET seen_times = with_item(coalesce(e.seen_times, claim_times(e.claimed_times, e.create_time, e.sources)),
                           array_position(e.sources, @source::text), @now)
FROM (SELECT unnest(tokens) AS token FROM sync_changes WHERE sync_no = @sync_no AND kind IN (2, 11)) c
WHERE e.list_no = @list_no AND e.token = c.token;

-- name: InsertAdded :execrows
-- What a revert brings back is as old as it was.
INSERT INTO entries (list_no, token, version, create_time, update_time, state, address, display_name, sources, claimed_times)
SELECT @list_no, c.token, @version, coalesce(c.create_time, @now), @now, c.state, c.address, c.display_name, ARRAY[@source::text],
       CASE WHEN c.claimed_time <> c.create_time THEN ARRAY[c.claimed_time] END
FROM (
    SELECT state, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name,
           unnest(create_times) AS create_time, unnest(claimed_times) AS claimed_time
    FROM sync_changes
    WHERE sync_no = @sync_no AND kind = 1
    ORDER BY state, page
) c;

-- name: LogSync :exec
-- Tells those who follow the list which entries its new version has touched.
INSERT INTO list_changes (list_no, epoch, version, part, time, tokens)
SELECT @list_no, @epoch, @version, row_number() OVER (ORDER BY kind, state, page), @now, tokens
FROM sync_changes
WHERE sync_no = @sync_no AND kind IN (1, 2, 3, 7, 8, 9, 12);

-- name: SourceSeenTime :one
SELECT replace_time FROM list_sources WHERE list_no = @list_no AND source = @source;

-- name: SeeSource :exec
-- Notes that a source gave the whole list.
INSERT INTO list_sources (list_no, source, replace_time) VALUES (@list_no, @source, @now)
ON CONFLICT (list_no, source) DO UPDATE SET replace_time = excluded.replace_time;

-- name: UnseeSource :exec
-- Takes that back, unless the source has given the list again since.
UPDATE list_sources SET replace_time = coalesce(sqlc.narg(before)::timestamptz, 'epoch')
WHERE list_no = @list_no AND source = @source AND replace_time = @seen;

-- name: ScanEntries :exec
-- The planner takes a page for ten tokens. Where most of a list changes, a join that reads the list once is faster
-- than a look-up for each of them.
SELECT set_config('enable_nestloop', 'off', true);

-- name: PrepareToPlan :exec
-- A plan is worth nothing before the transaction that stores its answer, and that one waits for the disk for both.
-- Changes are gathered into pages by hashing: sorting them first, as the planner would, takes longer than all the rest.
SELECT set_config('synchronous_commit', 'off', true), set_config('work_mem', '64MB', true), set_config('enable_sort', 'off', true);

-- name: PrepareToRevert :exec
-- As for a plan, but for one that is applied at once.
SELECT set_config('work_mem', '64MB', true), set_config('enable_sort', 'off', true);

-- name: PlanRevert :many
-- The opposite of each change of an applied sync, where the entry is as the sync left it; anything else is a CONFLICT (10),
-- which belongs to the sync itself. An entry that was added and is gone needs nothing.
INSERT INTO sync_changes (sync_no, kind, state, page, tokens, addresses, display_names, create_times, claimed_times, codes, texts)
SELECT CASE WHEN kind = 10 THEN @sync_no::bigint ELSE @revert_no::bigint END, kind, state, page,
       array_agg(token), array_agg(address), array_agg(display_name),
       array_agg(create_time) FILTER (WHERE kind = 1), array_agg(claimed_time) FILTER (WHERE kind IN (1, 7)),
       array_agg(CASE state WHEN 0 THEN 'REMOVED_SINCE' WHEN 3 THEN 'UNSUBSCRIBED' WHEN 4 THEN 'BOUNCED' ELSE 'CHANGED_SINCE' END) FILTER (WHERE kind = 10),
       array_agg(CASE state WHEN 0 THEN 'the entry has been removed since' WHEN 3 THEN 'the person has left this list since'
                            WHEN 4 THEN 'the address does not take mail' ELSE 'the entry has changed since' END) FILTER (WHERE kind = 10)
FROM (
    SELECT CASE
               WHEN c.kind = 1 AND e.token IS NULL THEN 0
               WHEN c.kind = 3 AND e.token IS NULL THEN 1
               WHEN c.kind = 3 OR e.token IS NULL OR e.version <> @applied_version::bigint THEN 10
               WHEN c.kind = 1 THEN 3
               WHEN c.kind = 7 THEN 8
               WHEN c.kind = 8 THEN 7
               WHEN c.kind = 9 THEN 12
               ELSE c.kind
           END::smallint AS kind,
           CASE WHEN e.token IS NOT NULL THEN e.state WHEN c.kind = 3 THEN c.state ELSE 0 END::smallint AS state,
           c.page, c.token,
           coalesce(e.address, c.address) AS address,
           CASE WHEN c.kind IN (2, 9) THEN c.previous_display_name ELSE coalesce(e.display_name, c.display_name) END AS display_name,
           c.create_time, c.claimed_time
    FROM (
        SELECT kind, state, page, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name,
               unnest(previous_display_names) AS previous_display_name,
               unnest(create_times) AS create_time, unnest(claimed_times) AS claimed_time
        FROM sync_changes
        WHERE sync_changes.sync_no = @sync_no AND sync_changes.kind IN (1, 2, 3, 7, 8, 9)
    ) c
    LEFT JOIN entries e ON e.list_no = @list_no AND e.token = c.token
    OFFSET 0
) r
WHERE kind <> 0
GROUP BY kind, state, page
RETURNING kind, state, cardinality(tokens)::integer AS size;
