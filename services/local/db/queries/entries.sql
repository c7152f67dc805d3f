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
)
SELECT list_no, epoch, version, double_opt_in, EXISTS (SELECT FROM entry) AS added FROM list;

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
