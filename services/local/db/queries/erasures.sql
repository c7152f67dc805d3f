-- name: ConfirmErasure :one
-- The epoch is of the database's clock, which goes on whatever the database was set back to: what a restored one confirms is
-- newer than what it confirmed before.
INSERT INTO erasures (id, member, erased, epoch, version, confirm_time)
VALUES (@id, @member, @erased, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 1, @now)
ON CONFLICT (id) DO UPDATE SET erased = greatest(erasures.erased, excluded.erased), version = erasures.version + 1, confirm_time = excluded.confirm_time
RETURNING *;

-- name: ReadErasure :one
SELECT * FROM erasures WHERE id = @id;

-- name: ErasureVersions :many
SELECT id, epoch, version FROM erasures WHERE id > @after ORDER BY id LIMIT @size;

-- name: BeginErasureEpoch :many
UPDATE erasures SET epoch = @epoch, version = 1 RETURNING *;

-- name: EntriesOf :many
-- The entries that hold a person anywhere at the site, in the order in which their lists are locked.
SELECT l.list_no, e.token, e.address
FROM lists l
CROSS JOIN unnest(@tokens::bytea[]) AS given (token)
JOIN entries e ON e.list_no = l.list_no AND e.token = given.token
ORDER BY l.list_no, e.token;

-- name: ChaptersOfPlansWith :many
-- Where plans and old syncs hold a person, and the addresses that they have.
SELECT DISTINCT l.chapter_id, u.token::bytea AS token, coalesce(u.address, '')::text AS address
FROM sync_changes c
CROSS JOIN LATERAL (SELECT unnest(c.tokens) AS token, unnest(c.addresses) AS address) u
JOIN syncs s USING (sync_no)
JOIN lists l USING (list_no)
WHERE c.tokens && @tokens::bytea[] AND u.token = ANY(@tokens);

-- name: EraseConsentsOf :execrows
DELETE FROM consents c USING lists l WHERE c.list_no = l.list_no AND c.token = ANY(@tokens::bytea[]);

-- name: EraseMailsOf :execrows
WITH waiting AS (
    DELETE FROM mail_queue q WHERE q.token = ANY(@tokens::bytea[]) AND q.kind = 1
)
DELETE FROM mails m USING lists l WHERE m.list_no = l.list_no AND m.token = ANY(@tokens::bytea[]) AND m.kind = 1;

-- name: Subjects :many
-- Everybody who is known by the name for signing in.
SELECT raiser FROM concerns
UNION SELECT subject FROM officers WHERE subject <> '';

-- name: OfficersOfPerson :many
-- The offices of a person, by the addresses or by the name for signing in, in the order in which chapters are locked.
SELECT * FROM officers
WHERE mail_token <> '' AND mail_token = ANY(@tokens::bytea[]) OR @subject::text <> '' AND subject = @subject
ORDER BY chapter_id, id;

-- name: EraseRaiser :execrows
UPDATE concerns SET raiser = @nobody WHERE raiser = @raiser;
