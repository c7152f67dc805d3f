-- name: UpsertRegion :exec
INSERT INTO regions (id, parent, display_name) VALUES (@id, sqlc.narg(parent), @display_name)
ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, display_name = excluded.display_name;

-- name: DeleteRegion :exec
DELETE FROM regions WHERE id = @id;

-- A circle cannot be made, but a copy may be half-way through a move: the depth ends the walk.
-- name: RegionAncestors :many
WITH RECURSIVE up AS (
    SELECT r.id, r.parent, 1 AS depth FROM regions r WHERE r.id = @region
    UNION ALL
    SELECT r.id, r.parent, up.depth + 1 FROM regions r JOIN up ON r.id = up.parent WHERE up.depth < 32
)
SELECT id FROM up ORDER BY depth;

-- name: RegionsBelow :many
WITH RECURSIVE below AS (
    SELECT r.id, 1 AS depth FROM regions r WHERE r.id = @region
    UNION ALL
    SELECT r.id, below.depth + 1 FROM regions r JOIN below ON r.parent = below.id WHERE below.depth < 32
)
SELECT id FROM below;

-- name: InsertSite :one
INSERT INTO sites (name) VALUES (@name) RETURNING site_no;

-- name: LockSites :exec
LOCK TABLE sites IN SHARE ROW EXCLUSIVE MODE;

-- name: VerifiedAddressesAfter :many
SELECT * FROM addresses WHERE verify_time IS NOT NULL AND address_no > @after ORDER BY address_no LIMIT @size;

-- name: InsertSiteTokens :exec
INSERT INTO address_tokens (token, site_no, member_no, address_no)
SELECT unnest(@tokens::bytea[]), @site_no::smallint, unnest(@member_nos::bigint[]), unnest(@address_nos::bigint[]);

-- name: UpsertChapter :one
INSERT INTO chapters (id, site_no, region, display_name, country_code, city, language, latitude, longitude)
VALUES (@id, @site_no, @region, @display_name, @country_code, @city, @language, @latitude, @longitude)
ON CONFLICT (id) DO UPDATE
SET region = excluded.region, display_name = excluded.display_name, country_code = excluded.country_code, city = excluded.city,
    language = excluded.language, latitude = excluded.latitude, longitude = excluded.longitude
RETURNING chapter_no;

-- name: EnsureChapter :exec
INSERT INTO chapters (id, site_no, region, display_name, country_code, city)
VALUES (@id, @site_no, '', '', '', '')
ON CONFLICT (id) DO NOTHING;

-- name: ReadChapter :one
SELECT * FROM chapters WHERE id = @id;

-- name: InsertStanding :execrows
WITH made AS (
    INSERT INTO standings (chapter_no, policy_revision, epoch, update_time)
    SELECT @chapter_no::bigint,
           (SELECT max(revision) FROM policies WHERE withdraw_time IS NULL AND (effective_time <= @now::timestamptz OR revision = 1)),
           epoch, @now::timestamptz
    FROM epochs
    ON CONFLICT (chapter_no) DO NOTHING
    RETURNING *
)
INSERT INTO standing_history (chapter_no, change_time, epoch, version, membership_total, membership_international, mailing_total,
    mailing_international, policy_revision, cause, eligible, register_position)
SELECT chapter_no, update_time, epoch, version, membership_total, membership_international, mailing_total,
    mailing_international, policy_revision, 1, eligible, register_position
FROM made;

-- name: EnsureList :one
INSERT INTO lists (chapter_no, id, basis, epoch, version)
SELECT chapter_no, @id, @basis, 0, 0 FROM chapters WHERE chapters.id = @chapter
ON CONFLICT (chapter_no, id) DO UPDATE SET basis = excluded.basis
RETURNING lists.*;

-- name: ListsOfChapter :many
SELECT l.* FROM lists l JOIN chapters c USING (chapter_no) WHERE c.id = @chapter;

-- name: ListsOnBasis :many
SELECT l.list_no, l.id FROM lists l JOIN chapters c USING (chapter_no) WHERE c.id = @chapter AND l.basis = @basis;

-- name: ListOf :one
SELECT l.* FROM lists l JOIN chapters c USING (chapter_no) WHERE c.id = @chapter AND l.id = @id;

-- name: SetListVersion :exec
UPDATE lists SET epoch = @epoch, version = @version, change_time = coalesce(sqlc.narg(change_time), change_time)
WHERE list_no = @list_no;

-- Returns how many of the tokens are new to the basis: on this list, and on none of the others before. In key order, which
-- is half the price of random order.
-- name: InsertListTokens :one
WITH inserted AS (
    INSERT INTO list_tokens (list_no, token)
    SELECT @list_no, token FROM unnest(@tokens::bytea[]) AS given (token) ORDER BY token
    ON CONFLICT DO NOTHING
    RETURNING list_tokens.token
)
SELECT count(*)::integer FROM inserted
WHERE NOT EXISTS (SELECT FROM list_tokens lt WHERE lt.list_no = ANY(@other_lists::bigint[]) AND lt.token = inserted.token);

-- Returns how many of the tokens are gone from the basis: they were on this list, and are on none of the others.
-- name: DeleteListTokens :one
WITH deleted AS (
    DELETE FROM list_tokens WHERE list_tokens.list_no = @list_no AND list_tokens.token = ANY(@tokens::bytea[])
    RETURNING list_tokens.token
)
SELECT count(*)::integer FROM deleted
WHERE NOT EXISTS (SELECT FROM list_tokens lt WHERE lt.list_no = ANY(@other_lists::bigint[]) AND lt.token = deleted.token);

-- name: TokensAfter :many
SELECT token FROM list_tokens WHERE list_no = @list_no AND token > @after ORDER BY token LIMIT @size;
