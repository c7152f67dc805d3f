-- Whatever moves seats comes one after the other: it is rare, and touches organisations and members in changing order.
-- name: LockSeats :exec
LOCK TABLE seats IN SHARE ROW EXCLUSIVE MODE;

-- name: InsertOrganization :one
INSERT INTO organizations (id, display_name, seat_count, state, term_start, term_end, version, create_time, update_time)
VALUES (@id, @display_name, @seat_count, 'ACTIVE', @now::timestamptz, @term_end, 1, @now::timestamptz, @now::timestamptz)
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: ReadOrganization :one
SELECT * FROM organizations WHERE id = @id;

-- name: OrganizationForUpdate :one
SELECT * FROM organizations WHERE id = @id FOR UPDATE;

-- name: OrganizationsAfter :many
SELECT * FROM organizations WHERE organization_no > @after ORDER BY organization_no LIMIT @size;

-- name: UpdateOrganization :one
UPDATE organizations SET display_name = @display_name, seat_count = @seat_count, version = version + 1, update_time = @now::timestamptz
WHERE organization_no = @organization_no
RETURNING *;

-- name: SetOrganizationTerm :one
UPDATE organizations SET state = @state, term_start = @term_start, term_end = @term_end, version = version + 1, update_time = @now::timestamptz
WHERE organization_no = @organization_no
RETURNING *;

-- name: TouchOrganization :one
UPDATE organizations SET version = version + 1, update_time = @now::timestamptz WHERE organization_no = @organization_no RETURNING *;

-- name: SeatsTaken :many
SELECT organization_no, count(*)::integer AS taken FROM seats
WHERE organization_no = ANY(@organization_nos::bigint[])
GROUP BY organization_no;

-- name: LapsingOrganizations :many
SELECT * FROM organizations
WHERE state = 'ACTIVE' AND term_end <= @now::timestamptz
ORDER BY organization_no
LIMIT @size
FOR UPDATE;

-- name: LapseOrganizations :exec
UPDATE organizations SET state = 'LAPSED', version = version + 1, update_time = @now::timestamptz
WHERE organization_no = ANY(@organization_nos::bigint[]);

-- name: InsertSeat :one
INSERT INTO seats (id, organization_no, member_no, address, display_name, create_time, hold_time)
VALUES (@id, @organization_no, sqlc.narg(member_no), @address, @display_name, @now::timestamptz, sqlc.narg(hold_time))
ON CONFLICT DO NOTHING
RETURNING *;

-- name: TakeSeat :exec
UPDATE seats SET member_no = @member_no::bigint, address = '', display_name = '', hold_time = @now::timestamptz WHERE seat_no = @seat_no;

-- name: DeleteSeat :exec
DELETE FROM seats WHERE seat_no = @seat_no;

-- name: ReadSeat :one
SELECT sqlc.embed(s), o.id AS organization_id, coalesce(m.id, '')::text AS member_id, coalesce(m.display_name, s.display_name)::text AS name
FROM seats s
JOIN organizations o USING (organization_no)
LEFT JOIN members m USING (member_no)
WHERE s.id = @id;

-- name: SeatsAfter :many
SELECT sqlc.embed(s), o.id AS organization_id, coalesce(m.id, '')::text AS member_id, coalesce(m.display_name, s.display_name)::text AS name
FROM seats s
JOIN organizations o USING (organization_no)
LEFT JOIN members m USING (member_no)
WHERE s.organization_no = @organization_no AND s.seat_no > @after
ORDER BY s.seat_no
LIMIT @size;

-- name: SeatHolders :many
SELECT DISTINCT member_no::bigint FROM seats WHERE organization_no = ANY(@organization_nos::bigint[]) AND member_no IS NOT NULL ORDER BY 1;

-- When the members' seats end now, for those for whom that is something else than it was.
-- name: SeatEnds :many
SELECT m.member_no, m.state, m.own_state, (s.seat_end IS NOT NULL)::boolean AS seated
FROM members m
LEFT JOIN LATERAL (
    SELECT max(o.term_end) AS seat_end
    FROM seats JOIN organizations o USING (organization_no)
    WHERE seats.member_no = m.member_no AND o.state = 'ACTIVE'
) s ON true
WHERE m.member_no = ANY(@member_nos::bigint[]) AND s.seat_end IS DISTINCT FROM m.seat_end
ORDER BY m.member_no;

-- name: SetSeatEnds :exec
UPDATE members m SET seat_end = (
        SELECT max(o.term_end) FROM seats JOIN organizations o USING (organization_no)
        WHERE seats.member_no = m.member_no AND o.state = 'ACTIVE'),
    version = version + 1, update_time = @now::timestamptz
WHERE m.member_no = ANY(@member_nos::bigint[]);

-- name: HasSeat :one
SELECT EXISTS (SELECT FROM seats WHERE organization_no = @organization_no AND member_no = @member_no::bigint)::boolean;
