-- A merge moves what is the member's; an address that both have stays once, verified if one of them is.
-- name: DropSharedAddresses :exec
DELETE FROM addresses gone
USING addresses other
WHERE gone.address = other.address
  AND ((gone.member_no = @from_no AND other.member_no = @into_no AND gone.verify_time IS NULL)
    OR (gone.member_no = @into_no AND other.member_no = @from_no AND gone.verify_time IS NULL AND other.verify_time IS NOT NULL));

-- name: MoveAddresses :exec
UPDATE addresses SET member_no = @into_no WHERE member_no = @from_no;

-- name: MoveTokens :exec
UPDATE address_tokens SET member_no = @into_no WHERE member_no = @from_no;

-- One term runs at a time: of two the one that ends later goes on, from the earlier beginning.
-- name: MoveTerms :exec
UPDATE terms SET member_no = @into_no WHERE member_no = @from_no;

-- name: EndTerm :exec
UPDATE terms SET state = 'LAPSED', end_time = least(end_time, @now::timestamptz) WHERE member_no = @member_no AND state = 'RUNNING';

-- name: DropSharedSeats :exec
DELETE FROM seats gone
USING seats other
WHERE gone.member_no = @from_no AND other.member_no = @into_no AND gone.organization_no = other.organization_no;

-- name: MoveSeats :exec
UPDATE seats SET member_no = @into_no WHERE member_no = @from_no;

-- name: MoveMerged :exec
UPDATE members SET merged_into = @into_no::bigint WHERE merged_into = @from_no::bigint;

-- name: MergeAway :exec
UPDATE members
SET merged_into = @into_no::bigint, display_name = '', own_state = coalesce(nullif(own_state, 'ACTIVE'), 'LAPSED'),
    seat_end = NULL, suspend_time = NULL, suspend_reason = '', version = version + 1, update_time = @now::timestamptz
WHERE member_no = @from_no;

-- name: MergeInto :one
UPDATE members
SET own_state = @own_state, term_start = sqlc.narg(term_start)::timestamptz, term_end = sqlc.narg(term_end)::timestamptz, suspend_time = sqlc.narg(suspend_time)::timestamptz,
    suspend_reason = @suspend_reason, version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;
