-- name: LockTokensShared :exec
SELECT pg_advisory_xact_lock_shared(@class::integer, bucket) FROM unnest(@buckets::integer[]) AS bucket;

-- name: LockTokens :exec
SELECT pg_advisory_xact_lock(@class::integer, bucket) FROM unnest(@buckets::integer[]) AS bucket;

-- The buckets of all that the members are known by, lowest first; 1024 buckets by the first bytes of the hash.
-- name: LockTokensOfMembers :exec
SELECT pg_advisory_xact_lock(@class::integer, held.bucket)
FROM (
    SELECT DISTINCT (get_byte(token, 2) * 256 + get_byte(token, 3)) % 1024 AS bucket
    FROM address_tokens
    WHERE member_no = ANY(@member_nos::bigint[])
    ORDER BY 1
) AS held;

-- name: ReadStanding :one
SELECT sqlc.embed(s), c.id AS chapter_id, c.site_no, sqlc.embed(p)
FROM standings s
JOIN chapters c USING (chapter_no)
JOIN policies p ON p.revision = s.policy_revision
WHERE c.id = @chapter;

-- name: LockStanding :one
SELECT s.* FROM standings s JOIN chapters c USING (chapter_no) WHERE c.id = @chapter FOR UPDATE OF s;

-- at_least is a revision that is known to be in force, whatever this process's clock says.
-- name: StandingsForUpdate :many
SELECT sqlc.embed(s), c.id AS chapter_id, c.site_no, sqlc.embed(p)
FROM standings s
JOIN chapters c USING (chapter_no)
JOIN policies p ON p.revision = (
    SELECT max(revision) FROM policies WHERE withdraw_time IS NULL AND (effective_time <= @now::timestamptz OR revision <= @at_least::integer)
)
WHERE s.chapter_no = ANY(@chapter_nos::bigint[])
ORDER BY s.chapter_no
FOR UPDATE OF s;

-- The bases on which members stand, one row a chapter and basis.
-- name: PresenceOfMembers :many
SELECT here.chapter_no, here.basis, count(*)::integer AS members
FROM (
    SELECT DISTINCT l.chapter_no, l.basis, t.member_no
    FROM address_tokens t
    JOIN list_tokens lt USING (token)
    JOIN lists l USING (list_no)
    WHERE t.member_no = ANY(@member_nos::bigint[])
) AS here
GROUP BY here.chapter_no, here.basis
ORDER BY here.chapter_no;

-- The people that a closed set of tokens stands for: whoever has one token in the set has all of them in it.
-- The difference of two calls around a change is what the change does to the counters.
-- name: PeopleByTokens :many
SELECT l.chapter_no, l.basis,
       (count(DISTINCT t.member_no) + count(DISTINCT lt.token) FILTER (WHERE t.member_no IS NULL))::integer AS total,
       (count(DISTINCT t.member_no) FILTER (WHERE m.state = 'ACTIVE'))::integer AS international
FROM list_tokens lt
JOIN lists l USING (list_no)
LEFT JOIN address_tokens t USING (token)
LEFT JOIN members m USING (member_no)
WHERE lt.token = ANY(@tokens::bytea[])
GROUP BY l.chapter_no, l.basis
ORDER BY l.chapter_no;

-- The same for one chapter and basis.
-- name: PeopleOnBasis :one
SELECT (count(DISTINCT t.member_no) + count(DISTINCT lt.token) FILTER (WHERE t.member_no IS NULL))::integer AS total,
       (count(DISTINCT t.member_no) FILTER (WHERE m.state = 'ACTIVE'))::integer AS international
FROM list_tokens lt
LEFT JOIN address_tokens t USING (token)
LEFT JOIN members m USING (member_no)
WHERE lt.list_no = ANY(@list_nos::bigint[]) AND lt.token = ANY(@tokens::bytea[]);

-- Those of the tokens that a member has, and all others of the same members.
-- name: CloseTokens :many
SELECT sibling.token
FROM unnest(@tokens::bytea[]) AS given (token)
JOIN address_tokens t USING (token)
JOIN address_tokens sibling USING (member_no);

-- Moves standings and keeps what they are now, with one statement.
-- name: MoveStandings :exec
WITH moved AS (
    UPDATE standings s
    SET membership_total = n.membership_total, membership_international = n.membership_international,
        mailing_total = n.mailing_total, mailing_international = n.mailing_international,
        eligible = n.eligible, policy_revision = @policy_revision,
        register_position = coalesce((SELECT nextval('register_position') WHERE @cause::smallint = 3), s.register_position),
        version = s.version + 1, update_time = greatest(s.update_time, @now::timestamptz)
    FROM (
        SELECT unnest(@chapter_nos::bigint[]) AS chapter_no,
               unnest(@membership_totals::integer[]) AS membership_total,
               unnest(@membership_internationals::integer[]) AS membership_international,
               unnest(@mailing_totals::integer[]) AS mailing_total,
               unnest(@mailing_internationals::integer[]) AS mailing_international,
               unnest(@eligibles::boolean[]) AS eligible
    ) AS n
    WHERE s.chapter_no = n.chapter_no
    RETURNING s.*
)
INSERT INTO standing_history (chapter_no, change_time, epoch, version, membership_total, membership_international, mailing_total,
    mailing_international, policy_revision, cause, eligible, register_position, list_no, list_epoch, list_version)
SELECT chapter_no, update_time, epoch, version, membership_total, membership_international, mailing_total,
    mailing_international, policy_revision, @cause::smallint, eligible, register_position,
    sqlc.narg(list_no)::bigint, sqlc.narg(list_epoch)::bigint, sqlc.narg(list_version)::bigint
FROM moved;

-- Every standing, and beside it what its lists hold now.
-- name: RecountStandings :many
WITH people AS (
    SELECT l.chapter_no, l.basis,
           (count(DISTINCT t.member_no) + count(DISTINCT lt.token) FILTER (WHERE t.member_no IS NULL))::integer AS total,
           (count(DISTINCT t.member_no) FILTER (WHERE m.state = 'ACTIVE'))::integer AS international
    FROM list_tokens lt
    JOIN lists l USING (list_no)
    LEFT JOIN address_tokens t USING (token)
    LEFT JOIN members m USING (member_no)
    WHERE @chapter::text = '' OR l.chapter_no = (SELECT chapter_no FROM chapters WHERE id = @chapter)
    GROUP BY l.chapter_no, l.basis
)
SELECT c.id, sqlc.embed(s),
       coalesce(a.total, 0)::integer AS counted_membership_total,
       coalesce(a.international, 0)::integer AS counted_membership_international,
       coalesce(b.total, 0)::integer AS counted_mailing_total,
       coalesce(b.international, 0)::integer AS counted_mailing_international
FROM standings s
JOIN chapters c USING (chapter_no)
LEFT JOIN people a ON a.chapter_no = s.chapter_no AND a.basis = 1
LEFT JOIN people b ON b.chapter_no = s.chapter_no AND b.basis = 2
WHERE @chapter::text = '' OR c.id = @chapter
ORDER BY c.id;

-- name: ListVersions :many
SELECT id, epoch, version FROM lists WHERE chapter_no = @chapter_no ORDER BY id;

-- name: InsertPreviewAudit :exec
INSERT INTO preview_audit (subject, list, tokens, create_time) VALUES (@subject, @list, @tokens, @now);

-- name: PrunePreviewAudit :exec
DELETE FROM preview_audit WHERE create_time < @before;

-- What a plan for a list would do to the people on its basis. Tokens that no member has are counted straight from the
-- plan, which adds only what the list lacks and removes only what it has; members are counted with all their tokens, as
-- they stand and as they would stand.
-- name: PredictPeople :one
WITH plan AS MATERIALIZED (
    SELECT unnest(@added::bytea[]) AS token, true AS wanted
    UNION ALL
    SELECT unnest(@removed::bytea[]), false
), strangers AS (
    SELECT count(*) FILTER (WHERE plan.wanted) - count(*) FILTER (WHERE NOT plan.wanted) AS moved
    FROM plan
    LEFT JOIN address_tokens t USING (token)
    WHERE t.token IS NULL
      AND NOT EXISTS (SELECT FROM list_tokens lt WHERE lt.list_no = ANY(@other_lists::bigint[]) AND lt.token = plan.token)
), touched AS (
    SELECT DISTINCT t.member_no FROM plan JOIN address_tokens t USING (token)
), presence AS MATERIALIZED (
    SELECT t.member_no,
           EXISTS (SELECT FROM list_tokens lt WHERE lt.list_no = ANY(@other_lists::bigint[]) AND lt.token = t.token) AS elsewhere,
           EXISTS (SELECT FROM list_tokens lt WHERE lt.list_no = @list_no AND lt.token = t.token) AS here,
           plan.wanted
    FROM touched JOIN address_tokens t USING (member_no) LEFT JOIN plan USING (token)
), people AS (
    SELECT m.state = 'ACTIVE' AS active,
           bool_or(elsewhere OR here)::integer AS now,
           bool_or(elsewhere OR coalesce(wanted, here))::integer AS soon
    FROM presence JOIN members m USING (member_no)
    GROUP BY m.member_no
)
SELECT ((SELECT moved FROM strangers) + coalesce(sum(soon - now), 0))::integer AS total,
       coalesce(sum(soon - now) FILTER (WHERE active), 0)::integer AS international
FROM people;
