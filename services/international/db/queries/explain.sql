-- The people on lists, counted by the lists that they are on and by what the register says of them.
-- name: PeopleByLists :many
SELECT person.lists::bigint[] AS lists, coalesce(m.state, '')::text AS state,
       coalesce(m.state = 'LAPSED' AND m.term_end >= @recent::timestamptz, false)::boolean AS recent,
       count(*)::integer AS people
FROM (
    SELECT t.member_no, array_agg(DISTINCT lt.list_no ORDER BY lt.list_no) AS lists
    FROM list_tokens lt
    LEFT JOIN address_tokens t USING (token)
    WHERE lt.list_no = ANY(@list_nos::bigint[])
    GROUP BY t.member_no, CASE WHEN t.member_no IS NULL THEN lt.token END
) AS person
LEFT JOIN members m USING (member_no)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- name: AddressesByList :many
SELECT l.list_no, l.id, l.basis, l.epoch, l.version, (SELECT count(*) FROM list_tokens lt WHERE lt.list_no = l.list_no)::integer AS addresses
FROM lists l
WHERE l.chapter_no = @chapter_no
ORDER BY l.id;

-- When the memberships of the people on each basis end if nobody renews.
-- name: EndsAhead :many
SELECT m.active_until::timestamptz AS at, here.basis, count(*)::integer AS ending
FROM (
    SELECT DISTINCT l.basis, t.member_no
    FROM list_tokens lt
    JOIN address_tokens t USING (token)
    JOIN lists l USING (list_no)
    WHERE lt.list_no = ANY(@list_nos::bigint[])
) AS here
JOIN members m USING (member_no)
WHERE m.state = 'ACTIVE'
GROUP BY 1, 2
ORDER BY 1, 2;
