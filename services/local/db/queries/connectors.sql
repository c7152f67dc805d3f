-- name: InsertConnector :one
INSERT INTO connectors (list_no, id, display_name, remote, secret, direction, mode, every_seconds, paused, next_run_time, version, create_time, update_time)
VALUES (@list_no, @id, @display_name, @remote, @secret, @direction, @mode, @every_seconds, @paused, @next_run_time, 1, @now, @now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: Connector :one
SELECT * FROM connectors WHERE list_no = @list_no AND id = @id;

-- name: ConnectorForUpdate :one
SELECT * FROM connectors WHERE list_no = @list_no AND id = @id FOR NO KEY UPDATE;

-- name: ConnectorsAfter :many
SELECT * FROM connectors WHERE list_no = @list_no AND id > @after ORDER BY id LIMIT @size;

-- name: UpdateConnector :one
UPDATE connectors
SET display_name = @display_name, remote = @remote, secret = @secret, direction = @direction, mode = @mode,
    every_seconds = @every_seconds, paused = @paused, next_run_time = @next_run_time, held = 0,
    version = version + 1, update_time = @now
WHERE connector_no = @connector_no
RETURNING *;

-- name: DeleteConnector :exec
DELETE FROM connectors WHERE connector_no = @connector_no;

-- name: DeleteConnectorsOf :exec
DELETE FROM connectors WHERE list_no = @list_no;

-- name: DueConnectors :many
-- Those that are to run by themselves now; the caller moves their next time on.
SELECT connector_no, every_seconds FROM connectors
WHERE next_run_time <= @now::timestamptz AND NOT paused
ORDER BY next_run_time
LIMIT @size
FOR UPDATE SKIP LOCKED;

-- name: MoveConnectors :exec
UPDATE connectors c SET next_run_time = n.next_run_time
FROM (SELECT unnest(@connector_nos::bigint[]) AS connector_no, unnest(@next_run_times::timestamptz[]) AS next_run_time) n
WHERE c.connector_no = n.connector_no;

-- name: QueueRun :one
-- At most one run of a connector at a time.
INSERT INTO connector_runs (id, connector_no, state, create_time)
VALUES (@id, @connector_no, 'QUEUED', @now)
ON CONFLICT (connector_no) WHERE state IN ('QUEUED', 'RUNNING') DO NOTHING
RETURNING *;

-- name: BeginRun :one
-- A run whose process ended is begun again.
UPDATE connector_runs SET state = 'RUNNING', start_time = @now::timestamptz
WHERE run_no = @run_no AND state IN ('QUEUED', 'RUNNING')
RETURNING *;

-- name: RunContext :one
SELECT sqlc.embed(c), l.chapter_id, l.id AS list_id, l.deleted
FROM connectors c JOIN lists l USING (list_no)
WHERE c.connector_no = @connector_no;

-- name: EndRun :exec
UPDATE connector_runs
SET state = @state, end_time = @now::timestamptz, sync_id = @sync_id, counts = @counts, left_count = @left_count, reason = @reason, text = @text
WHERE run_no = @run_no;

-- name: RunEnded :exec
-- A run that was held is tried again before its time.
UPDATE connectors
SET held = @held, next_run_time = CASE WHEN every_seconds > 0 THEN least(next_run_time, sqlc.narg(retry_time)::timestamptz) END
WHERE connector_no = @connector_no;

-- name: LastRuns :many
-- The last run of each connector.
SELECT DISTINCT ON (connector_no) * FROM connector_runs
WHERE connector_no = ANY (@connector_nos::bigint[])
ORDER BY connector_no, run_no DESC;

-- name: RunsBefore :many
SELECT * FROM connector_runs
WHERE connector_no = @connector_no AND run_no < @before
ORDER BY run_no DESC
LIMIT @size;

-- name: PruneRuns :execrows
DELETE FROM connector_runs WHERE end_time < @before::timestamptz;

-- name: PushChanges :many
-- What the other tool has yet to be told, from a token on: 1 to add, 2 to rename, 3 to remove, 4 to unsubscribe.
SELECT action::smallint AS action, token, address, display_name
FROM (
    SELECT coalesce(e.token, p.token)::bytea AS token,
           (CASE WHEN e.state = 1 OR p.address IS NULL OR p.address = '' THEN coalesce(e.address, '') ELSE p.address END)::text AS address,
           coalesce(e.display_name, '')::text AS display_name,
           CASE
               WHEN e.state = 1 AND (p.token IS NULL OR p.state = 2) THEN 1
               WHEN e.state = 1 AND p.state = 1 AND e.display_name <> '' AND e.display_name <> p.display_name THEN 2
               WHEN (e.token IS NULL OR e.state = 2) AND p.state = 1 THEN 3
               WHEN e.state > 2 AND (p.token IS NULL AND e.address <> '' OR p.state IN (1, 3)) THEN 4
               ELSE 0
           END AS action
    FROM (SELECT * FROM entries WHERE entries.list_no = @list_no) e
    FULL JOIN (SELECT * FROM connector_people WHERE connector_people.connector_no = @connector_no) p ON p.token = e.token
) c
WHERE action <> 0 AND token > @after::bytea
ORDER BY token
LIMIT @size;

-- name: PutPeople :exec
INSERT INTO connector_people (connector_no, token, state, address, display_name)
SELECT @connector_no, unnest(@tokens::bytea[]), unnest(@states::smallint[]), unnest(@addresses::text[]), unnest(@display_names::text[])
ON CONFLICT (connector_no, token) DO UPDATE
SET state = excluded.state, address = excluded.address, display_name = excluded.display_name;

-- name: DropPeople :exec
-- People who are off both lists.
DELETE FROM connector_people WHERE connector_no = @connector_no AND token = ANY (@tokens::bytea[]);

-- name: ConnectorsHolding :many
-- The connectors of a list that have yet to take a person off their tool; they are to do so at once.
UPDATE connectors c SET next_run_time = CASE WHEN c.paused THEN c.next_run_time ELSE @now::timestamptz END
FROM connector_people p
WHERE c.list_no = @list_no AND c.direction = 'PUSH' AND p.connector_no = c.connector_no AND p.token = @token AND p.address <> ''
RETURNING c.id;
