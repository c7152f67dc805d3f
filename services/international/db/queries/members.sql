-- name: InsertMember :one
INSERT INTO members (id, display_name, own_state, version, create_time, update_time)
VALUES (@id, @display_name, 'LAPSED', 1, @now::timestamptz, @now::timestamptz)
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: ReadMember :one
SELECT * FROM members WHERE id = @id;

-- name: MemberForUpdate :one
SELECT * FROM members WHERE id = @id FOR UPDATE;

-- name: MembersAfter :many
SELECT * FROM members
WHERE member_no > @after AND (state = @state::text OR @state = '' AND state NOT IN ('ERASED', 'MERGED'))
ORDER BY member_no
LIMIT @size;

-- name: RenameMember :one
UPDATE members SET display_name = @display_name, version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;

-- name: TouchMember :one
UPDATE members SET version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;

-- name: StartTerm :one
WITH term AS (
    INSERT INTO terms (member_no, start_time, end_time, state)
    VALUES (@member_no, @now::timestamptz, @term_end, 'RUNNING')
)
UPDATE members
SET own_state = 'ACTIVE', term_start = @now::timestamptz, term_end = @term_end::timestamptz, version = version + 1, update_time = @now::timestamptz
WHERE members.member_no = @member_no
RETURNING *;

-- name: ProlongTerm :one
WITH term AS (
    UPDATE terms SET end_time = @term_end
    WHERE terms.member_no = @member_no AND terms.state = 'RUNNING'
)
UPDATE members SET term_end = @term_end::timestamptz, version = version + 1, update_time = @now::timestamptz
WHERE members.member_no = @member_no
RETURNING *;

-- name: EndTerms :many
WITH ended AS (
    UPDATE terms SET state = @state, end_time = least(end_time, @now::timestamptz)
    WHERE terms.member_no = ANY(@member_nos::bigint[]) AND terms.state = 'RUNNING'
)
UPDATE members
SET own_state = @state, term_end = least(term_end, @now::timestamptz), version = version + 1, update_time = @now::timestamptz
WHERE members.member_no = ANY(@member_nos::bigint[])
RETURNING *;

-- Those who were counted by nothing but the term do not count from then on.
-- name: LapsingMembers :many
SELECT member_no, (state = 'ACTIVE' AND seat_end IS NULL)::boolean AS counted FROM members
WHERE own_state = 'ACTIVE' AND term_end <= @now::timestamptz
ORDER BY term_end, member_no
LIMIT @size
FOR UPDATE;

-- name: InsertAddresses :many
INSERT INTO addresses (id, member_no, address, verify_time, create_time, verify_method, verify_subject)
SELECT given.id, @member_no, given.address, CASE WHEN given.verified THEN @now::timestamptz END, @now::timestamptz,
       CASE WHEN given.verified THEN @method::text ELSE '' END, CASE WHEN given.verified THEN @subject::text ELSE '' END
FROM (SELECT unnest(@ids::text[]) AS id, unnest(@addresses::text[]) AS address, unnest(@verified::boolean[]) AS verified) AS given
ON CONFLICT DO NOTHING
RETURNING *;

-- name: AddressesOfMember :many
SELECT a.* FROM addresses a JOIN members m USING (member_no) WHERE m.id = @id ORDER BY a.address_no;

-- name: AddressesOf :many
SELECT * FROM addresses WHERE member_no = ANY(@member_nos::bigint[]) ORDER BY address_no;

-- name: AddressesAfter :many
SELECT * FROM addresses WHERE member_no = @member_no AND address_no > @after ORDER BY address_no LIMIT @size;

-- name: AddressOf :one
SELECT * FROM addresses WHERE member_no = @member_no AND id = @id;

-- name: AddressByText :one
SELECT * FROM addresses WHERE member_no = @member_no AND address = @address;

-- name: VerifyAddress :one
UPDATE addresses SET verify_time = @now::timestamptz, verify_method = @method::text, verify_subject = @subject::text WHERE address_no = @address_no RETURNING *;

-- name: DeleteAddress :exec
DELETE FROM addresses WHERE address_no = @address_no;

-- name: InsertAddressTokens :exec
INSERT INTO address_tokens (token, site_no, member_no, address_no)
SELECT unnest(@tokens::bytea[]), unnest(@site_nos::smallint[]), @member_no, unnest(@address_nos::bigint[]);

-- name: TokensOfMembers :many
SELECT token FROM address_tokens WHERE member_no = ANY(@member_nos::bigint[]);

-- name: Sites :many
SELECT * FROM sites ORDER BY site_no;

-- Both rows of a merge, the lower number first, as everybody locks who takes two.
-- name: MembersForUpdate :many
SELECT * FROM members WHERE id = ANY(@ids::text[]) ORDER BY member_no FOR UPDATE;

-- name: LockMembers :many
SELECT * FROM members WHERE member_no = ANY(@member_nos::bigint[]) ORDER BY member_no FOR UPDATE;

-- name: MemberByNo :one
SELECT * FROM members WHERE member_no = @member_no;

-- name: MemberIDs :many
SELECT member_no, id FROM members WHERE member_no = ANY(@member_nos::bigint[]);

-- name: SuspendMember :one
UPDATE members SET suspend_time = @now::timestamptz, suspend_reason = @reason, version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;

-- name: ReinstateMember :one
UPDATE members SET suspend_time = NULL, suspend_reason = '', version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;

-- The row of a change, as the members stand after it.
-- name: RecordHistory :exec
INSERT INTO member_history (member_no, number, verb, state, term_end, addresses, verified, subject, note, create_time)
SELECT m.member_no, m.version, @verb::text, m.state, m.term_end, coalesce(a.addresses, 0), coalesce(a.verified, 0), @subject::text, @note::text, @now::timestamptz
FROM members m
LEFT JOIN (
    SELECT member_no, count(*)::integer AS addresses, (count(*) FILTER (WHERE verify_time IS NOT NULL))::integer AS verified
    FROM addresses
    WHERE member_no = ANY(@member_nos::bigint[])
    GROUP BY member_no
) a USING (member_no)
WHERE m.member_no = ANY(@member_nos);

-- name: MemberHistoryAfter :many
SELECT * FROM member_history WHERE member_no = @member_no AND number > @after ORDER BY number LIMIT @size;

-- name: TermsAfter :many
SELECT * FROM terms WHERE member_no = @member_no AND term_no > @after ORDER BY term_no LIMIT @size;

-- name: MembersNamed :many
SELECT * FROM members
WHERE display_name <> '' AND to_tsvector('simple', display_name) @@ to_tsquery('simple', @query) AND member_no > @after
ORDER BY member_no
LIMIT @size;

-- name: MembersAt :many
SELECT m.* FROM members m
WHERE m.member_no > @after AND m.member_no IN (
    SELECT a.member_no FROM addresses a WHERE a.address = @address AND a.verify_time IS NOT NULL
    UNION ALL
    SELECT b.member_no FROM addresses b WHERE b.address = @address AND b.verify_time IS NULL)
ORDER BY m.member_no
LIMIT @size;

-- name: AddressByID :one
SELECT a.*, m.id AS member_id FROM addresses a JOIN members m USING (member_no) WHERE a.id = @id;

-- name: VerifiedHolder :one
SELECT m.id FROM addresses a JOIN members m USING (member_no) WHERE a.address = @address AND a.verify_time IS NOT NULL;
