-- name: DeleteRemoved :execrows
DELETE FROM entries e
USING (SELECT unnest(tokens) AS token FROM sync_changes WHERE sync_no = @sync_no AND kind = 3) c
WHERE e.list_no = @list_no AND e.token = c.token;

-- name: UpdateChanged :execrows
-- Names (2, 9) and claims (gained by 7 and 9, lost by 8).
UPDATE entries e
SET display_name = CASE WHEN c.kind IN (2, 9) THEN c.display_name ELSE e.display_name END,
    sources = CASE WHEN c.kind IN (7, 9) THEN e.sources || @source::text
                   WHEN c.kind = 8 THEN array_remove(e.sources, @source::text)
                   ELSE e.sources END,
    version = @version, update_time = @now
FROM (
    SELECT kind, unnest(tokens) AS token, unnest(display_names) AS display_name
    FROM sync_changes
    WHERE sync_no = @sync_no AND kind IN (2, 7, 8, 9)
) c
WHERE e.list_no = @list_no AND e.token = c.token;

-- name: InsertAdded :execrows
INSERT INTO entries (list_no, token, version, create_time, update_time, state, address, display_name, sources)
SELECT @list_no, c.token, @version, @now, @now, c.state, c.address, c.display_name, ARRAY[@source::text]
FROM (
    SELECT state, unnest(tokens) AS token, unnest(addresses) AS address, unnest(display_names) AS display_name
    FROM sync_changes
    WHERE sync_no = @sync_no AND kind = 1
    ORDER BY state, page
) c;

-- name: ScanEntries :exec
-- The planner takes a page for ten tokens. Where most of a list changes, a join that reads the list once is faster
-- than a look-up for each of them.
SELECT set_config('enable_nestloop', 'off', true);

-- name: PrepareToPlan :exec
-- A plan is worth nothing before the transaction that stores its answer, and that one waits for the disk for both.
-- Changes are gathered into pages by hashing: sorting them first, as the planner would, takes longer than all the rest.
SELECT set_config('synchronous_commit', 'off', true), set_config('work_mem', '64MB', true), set_config('enable_sort', 'off', true);
