-- name: InsertEntry :one
INSERT INTO entries (list_no, token, address, display_name, state, sources, version, create_time, update_time)
VALUES (@list_no, @token, @address, @display_name, @state, @sources, @version, @now, @now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: Entry :one
SELECT * FROM entries WHERE list_no = @list_no AND token = @token;

-- name: EntriesAfter :many
SELECT * FROM entries
WHERE list_no = @list_no AND token > @after AND (@state::smallint = 0 OR state = @state)
ORDER BY token
LIMIT @size;

-- name: RenameEntry :one
UPDATE entries SET display_name = @display_name, version = @version, update_time = @now
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: UnsubscribeEntry :one
UPDATE entries SET state = 3, version = @version, update_time = @now
WHERE list_no = @list_no AND token = @token
RETURNING *;

-- name: DeleteEntry :exec
DELETE FROM entries WHERE list_no = @list_no AND token = @token;

-- name: DeleteLiveEntries :exec
DELETE FROM entries WHERE list_no = @list_no AND state <= 2;

-- name: SubscribedTokens :many
SELECT token FROM entries
WHERE list_no = @list_no AND state = 1 AND token > @after
ORDER BY token
LIMIT @size;
