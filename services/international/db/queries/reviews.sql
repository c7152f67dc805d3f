-- What waits for staff, by when it began to. What a chapter lacks is judged as requirements.go judges it.
-- name: ReviewQueue :many
SELECT sqlc.embed(ch), c.display_name, c.region, c.officers, sqlc.embed(s), sqlc.embed(p)
FROM charters ch
JOIN chapters c USING (chapter_no)
JOIN standings s USING (chapter_no)
JOIN policies p ON p.revision = s.policy_revision
WHERE ch.waiting_time IS NOT NULL
  AND (ch.waiting_time, ch.chapter_id) > (@after_time::timestamptz, @after_chapter::text)
  AND (@state::text = '' OR ch.state = @state)
  AND (@any_region::boolean OR c.region = ANY(@regions::text[]))
  AND (@task::text = '' OR ch.waiting_for = @task)
  AND ch.waiting_time < @before::timestamptz
  AND (@reviewer::text = '' OR ch.reviewer = @reviewer)
  AND (NOT @unclaimed::boolean OR ch.reviewer = '')
  AND (NOT @overdue::boolean OR ch.review_passed OR ch.cure_passed OR ch.renewal_passed)
  -- Below the line on the basis that the gap refers to, which is one with enough people where there is one.
  AND (NOT @lacks_threshold::boolean OR (NOT s.eligible AND ((p.allow_membership AND s.membership_total >= greatest(p.minimum_membership, 1)
          OR p.allow_mailing AND s.mailing_total >= greatest(p.minimum_mailing, 1))
          OR p.allow_membership AND (s.membership_total = 0 OR 100::bigint * s.membership_international < p.threshold_percent * s.membership_total)
          OR NOT p.allow_membership AND (s.mailing_total = 0 OR 100::bigint * s.mailing_international < p.threshold_percent * s.mailing_total))))
  AND (NOT @lacks_people::boolean OR NOT s.eligible AND NOT (p.allow_membership AND s.membership_total >= greatest(p.minimum_membership, 1)
          OR p.allow_mailing AND s.mailing_total >= greatest(p.minimum_mailing, 1)))
  AND (NOT @lacks_officers::boolean OR @minimum_officers::integer > coalesce(c.officers, 0))
  AND (NOT @lacks_activity::boolean OR @activity::boolean AND coalesce((SELECT max(l.change_time) FROM lists l WHERE l.chapter_no = ch.chapter_no) < @active_since::timestamptz, true))
  AND (NOT @unblocked::boolean OR s.eligible AND @minimum_officers::integer <= coalesce(c.officers, 0)
      AND (NOT @activity::boolean OR (SELECT max(l.change_time) FROM lists l WHERE l.chapter_no = ch.chapter_no) >= @active_since::timestamptz))
ORDER BY ch.waiting_time, ch.chapter_id
LIMIT @size;

-- When something on chapters' lists last changed; chapters of which no change was seen are left out.
-- name: ActivityOf :many
SELECT chapter_no, max(change_time)::timestamptz AS change_time FROM lists
WHERE chapter_no = ANY(@chapter_nos::bigint[]) AND change_time IS NOT NULL
GROUP BY chapter_no;

-- name: LastHistory :many
SELECT * FROM charter_history WHERE chapter_no = @chapter_no ORDER BY number DESC LIMIT @size;

-- Where a standing stood at a time, and the last of each day since.
-- name: TrendOf :many
SELECT change_time, membership_total, membership_international, mailing_total, mailing_international, eligible
FROM (
    (SELECT * FROM standing_history b WHERE b.chapter_no = @chapter_no AND b.change_time < @since
     ORDER BY b.change_time DESC, b.epoch DESC, b.version DESC LIMIT 1)
    UNION ALL
    (SELECT DISTINCT ON (date_trunc('day', d.change_time, 'UTC')) * FROM standing_history d
     WHERE d.chapter_no = @chapter_no AND d.change_time >= @since
     ORDER BY date_trunc('day', d.change_time, 'UTC'), d.change_time DESC, d.epoch DESC, d.version DESC)
) AS shown
ORDER BY change_time;

-- name: AppendComment :one
INSERT INTO charter_comments (chapter_no, number, subject, visibility, body, create_time)
SELECT @chapter_no, coalesce(max(c.number), 0) + 1, @subject, @visibility, @body, @now
FROM charter_comments c WHERE c.chapter_no = @chapter_no
RETURNING *;

-- name: CommentsAfter :many
SELECT * FROM charter_comments
WHERE chapter_no = @chapter_no AND number > @after AND (@internal::boolean OR visibility = 'CHAPTER')
ORDER BY number
LIMIT @size;

-- name: LastComments :many
SELECT * FROM charter_comments WHERE chapter_no = @chapter_no AND (@internal::boolean OR visibility = 'CHAPTER')
ORDER BY number DESC LIMIT @size;

-- By the great circle; the earth's radius is 6,371 km.
-- name: NearestChapters :many
SELECT o.id, o.display_name, o.city, o.country_code, coalesce(h.state, '')::text AS charter_state,
    (12742 * asin(least(1, sqrt(power(sin(radians(o.latitude - c.latitude) / 2), 2)
        + cos(radians(c.latitude)) * cos(radians(o.latitude)) * power(sin(radians(o.longitude - c.longitude) / 2), 2)))))::double precision AS kilometres
FROM chapters c
JOIN chapters o ON o.chapter_no <> c.chapter_no AND (o.latitude, o.longitude) <> (0, 0)
LEFT JOIN charters h ON h.chapter_no = o.chapter_no
WHERE c.chapter_no = @chapter_no AND (c.latitude, c.longitude) <> (0, 0)
ORDER BY kilometres, o.id
LIMIT @size;

-- name: PutListDay :exec
INSERT INTO list_days (list_no, day, added, removed, from_new_domain)
VALUES (@list_no, @day, @added, @removed, @from_new_domain)
ON CONFLICT (list_no, day) DO UPDATE
SET added = list_days.added + excluded.added, removed = list_days.removed + excluded.removed,
    from_new_domain = list_days.from_new_domain + excluded.from_new_domain;

-- name: PruneListDays :exec
DELETE FROM list_days WHERE day < @before;

-- What was taken off and added to a chapter's lists between two days, those included.
-- name: ListDaysBetween :one
SELECT coalesce(sum(d.added), 0)::integer AS added, coalesce(sum(d.removed), 0)::integer AS removed,
    coalesce(sum(d.from_new_domain), 0)::integer AS from_new_domain
FROM list_days d JOIN lists l USING (list_no)
WHERE l.chapter_no = @chapter_no AND d.day BETWEEN @first_day::date AND @last_day::date;

-- Addresses on the members list, on the mailing lists together, and on both.
-- name: ListsTogether :one
WITH members AS MATERIALIZED (
    SELECT t.token FROM list_tokens t JOIN lists l USING (list_no) WHERE l.chapter_no = @chapter_no AND l.basis = 1
), mailing AS MATERIALIZED (
    SELECT DISTINCT t.token FROM list_tokens t JOIN lists l USING (list_no) WHERE l.chapter_no = @chapter_no AND l.basis = 2
)
SELECT (SELECT count(*) FROM members)::integer AS members, (SELECT count(*) FROM mailing)::integer AS mailing,
    (SELECT count(*) FROM members JOIN mailing USING (token))::integer AS shared;
