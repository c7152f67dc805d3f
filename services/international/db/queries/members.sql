-- name: InsertMember :one
INSERT INTO members (id, display_name, state, term_start, term_end, version, create_time, update_time)
VALUES (@id, @display_name, @state, sqlc.narg(term_start), sqlc.narg(term_end), 1, @now, @now)
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: ReadMember :one
SELECT * FROM members WHERE id = @id;

-- name: MemberForUpdate :one
SELECT * FROM members WHERE id = @id FOR UPDATE;

-- name: MembersAfter :many
SELECT * FROM members
WHERE member_no > @after AND (@state::text = '' OR state = @state)
ORDER BY member_no
LIMIT @size;

-- name: RenameMember :one
UPDATE members SET display_name = @display_name, version = version + 1, update_time = @now
WHERE member_no = @member_no
RETURNING *;

-- name: TouchMember :one
UPDATE members SET version = version + 1, update_time = @now
WHERE member_no = @member_no
RETURNING *;

-- name: StartTerm :one
WITH term AS (
    INSERT INTO terms (member_no, start_time, end_time, state)
    VALUES (@member_no, @now, @term_end, 'RUNNING')
)
UPDATE members
SET state = 'ACTIVE', term_start = @now::timestamptz, term_end = @term_end::timestamptz, version = version + 1, update_time = @now::timestamptz
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
SET state = @state, term_end = least(term_end, @now::timestamptz), version = version + 1, update_time = @now::timestamptz
WHERE members.member_no = ANY(@member_nos::bigint[])
RETURNING *;

-- name: LapsingMembers :many
SELECT member_no FROM members
WHERE state = 'ACTIVE' AND term_end <= @now::timestamptz
ORDER BY member_no
LIMIT @size
FOR UPDATE;

-- name: InsertAddresses :many
INSERT INTO addresses (id, member_no, address, verify_time, create_time)
SELECT given.id, @member_no, given.address, CASE WHEN given.verified THEN @now::timestamptz END, @now::timestamptz
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
UPDATE addresses SET verify_time = @now::timestamptz WHERE address_no = @address_no RETURNING *;

-- name: DeleteAddress :exec
DELETE FROM addresses WHERE address_no = @address_no;

-- name: InsertAddressTokens :exec
INSERT INTO address_tokens (token, site_no, member_no, address_no)
SELECT unnest(@tokens::bytea[]), unnest(@site_nos::smallint[]), @member_no, unnest(@address_nos::bigint[]);

-- name: TokensOfMembers :many
SELECT token FROM address_tokens WHERE member_no = ANY(@member_nos::bigint[]);

-- name: Sites :many
SELECT * FROM sites ORDER BY site_no;
