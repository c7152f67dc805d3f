-- Makes a chapter's officers those that were told.
-- name: SetOfficers :exec
WITH gone AS (
    DELETE FROM chapter_officers c WHERE c.chapter_no = @chapter_no AND c.position > cardinality(@subject_tokens::bytea[])
)
INSERT INTO chapter_officers (chapter_no, position, subject_token, term_start, term_end)
SELECT @chapter_no, o.position, o.subject_token, o.term_start, o.term_end
FROM (
    SELECT generate_subscripts(@subject_tokens::bytea[], 1) AS position, unnest(@subject_tokens::bytea[]) AS subject_token,
           unnest(@term_starts::timestamptz[]) AS term_start, unnest(@term_ends::timestamptz[]) AS term_end
) o
ON CONFLICT (chapter_no, position) DO UPDATE
SET subject_token = excluded.subject_token, term_start = excluded.term_start, term_end = excluded.term_end;

-- name: IsOfficer :one
-- Whether one of the tokens, one a site, is that of an officer of the chapter.
SELECT EXISTS (
    SELECT FROM chapter_officers o JOIN chapters c USING (chapter_no)
    JOIN (SELECT unnest(@site_nos::smallint[]) AS site_no, unnest(@subject_tokens::bytea[]) AS subject_token) mine
        ON mine.site_no = c.site_no AND mine.subject_token = o.subject_token
    WHERE c.id = @chapter AND o.term_start <= @now::timestamptz AND @now < o.term_end
);

-- Counts the officers of a chapter whose terms run: people, each once. Whoever holds two offices signs in once, and whoever
-- does not sign in is taken for somebody else.
-- name: CountOfficers :exec
UPDATE chapters SET officers = (
    SELECT count(DISTINCT CASE WHEN o.subject_token = '' THEN o.position::text ELSE encode(o.subject_token, 'hex') END)
    FROM chapter_officers o
    WHERE o.chapter_no = @chapter_no AND o.term_start <= @now::timestamptz AND @now < o.term_end
)
WHERE chapters.chapter_no = @chapter_no;

-- The same of all chapters: terms begin and end by themselves.
-- name: RecountOfficers :exec
UPDATE chapters c SET officers = n.people
FROM (
    SELECT o.chapter_no, (count(DISTINCT CASE WHEN o.subject_token = '' THEN o.position::text ELSE encode(o.subject_token, 'hex') END)
                          FILTER (WHERE o.term_start <= @now::timestamptz AND @now < o.term_end))::integer AS people
    FROM chapter_officers o
    GROUP BY o.chapter_no
) n
WHERE c.chapter_no = n.chapter_no AND c.officers IS DISTINCT FROM n.people;

-- Notes who crossed the line. Whoever is here already has crossed it back before it was told, and there is nothing to tell.
-- The caller holds the standings.
-- name: CrossLine :exec
WITH back AS (
    DELETE FROM crossings WHERE crossings.chapter_no = ANY (@chapter_nos::bigint[]) RETURNING crossings.chapter_no
)
INSERT INTO crossings (chapter_no, eligible, cross_time, due_time)
SELECT c.chapter_no, c.eligible, @now::timestamptz, @due::timestamptz
FROM (SELECT unnest(@chapter_nos::bigint[]) AS chapter_no, unnest(@eligibles::boolean[]) AS eligible) c
WHERE NOT EXISTS (SELECT FROM back WHERE back.chapter_no = c.chapter_no)
ORDER BY c.chapter_no;

-- name: TakeCrossings :many
-- Crossings that have lasted; whoever takes them tells them.
DELETE FROM crossings
WHERE chapter_no IN (
    SELECT c.chapter_no FROM crossings c WHERE c.due_time <= @now::timestamptz ORDER BY c.due_time, c.chapter_no LIMIT @size FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- Deadlines of charters of which one of the marks is passed, and that was not told: the last one that was, of each. A mark
-- that had passed already when the deadline was set, by the last of its verbs, is not told: whoever set it told the deadline.
-- name: DueReminders :many
WITH deadlines AS (
    SELECT c.chapter_no, d.kind, d.due_time,
           (SELECT max(h.create_time) FROM charter_history h WHERE h.chapter_no = c.chapter_no AND (h.verb IN ('protect', 'unprotect') OR h.verb = ANY (
               CASE d.kind
                   WHEN 'CURE_BY' THEN ARRAY['eligibilityLost', 'overrideEnded', 'reinstate']
                   WHEN 'REVIEW_DUE' THEN ARRAY['apply', 'resubmit', 'changesOverdue']
                   WHEN 'CHANGES_DUE' THEN ARRAY['requestChanges']
                   WHEN 'RENEWAL_DUE' THEN ARRAY['approve', 'renew']
                   ELSE ARRAY['protect']
               END))) AS since
    FROM charters c
    CROSS JOIN LATERAL (
        SELECT unnest(ARRAY['CURE_BY', 'REVIEW_DUE', 'CHANGES_DUE', 'RENEWAL_DUE', 'PROTECTION_END']) AS kind,
               unnest(ARRAY[c.cure_by_time, c.review_due_time, c.changes_due_time, c.renewal_due_time, c.protect_until_time]) AS due_time,
               unnest(ARRAY[c.state = 'AT_RISK', c.state IN ('APPLIED', 'IN_REVIEW'), c.state = 'CHANGES_REQUESTED',
                            c.state IN ('CHARTERED', 'AT_RISK', 'SUSPENDED'), true]) AS runs
    ) d
    WHERE d.runs AND d.due_time > @now::timestamptz AND d.due_time <= @horizon::timestamptz
), reached AS (
    SELECT DISTINCT ON (d.chapter_no, d.kind) d.chapter_no, d.kind, d.due_time, d.since, d.due_time - make_interval(secs => m.before) AS mark_time,
           (extract(epoch FROM d.due_time) * 1000000)::bigint || '/' || m.before AS occasion
    FROM deadlines d
    JOIN (SELECT unnest(@kinds::text[]) AS kind, unnest(@befores::integer[]) AS before) m USING (kind)
    WHERE d.due_time - make_interval(secs => m.before) <= @now
    ORDER BY d.chapter_no, d.kind, m.before
)
SELECT r.chapter_no::bigint AS chapter_no, r.kind::text AS kind, r.due_time::timestamptz AS due_time, r.occasion::text AS occasion
FROM reached r
WHERE r.since <= r.mark_time
  AND NOT EXISTS (SELECT FROM notices n WHERE n.chapter_no = r.chapter_no AND n.kind = r.kind AND n.occasion = r.occasion)
ORDER BY r.due_time, r.chapter_no, r.kind
LIMIT @size;

-- What notices say of chapters, by their numbers.
-- name: NoticeFacts :many
SELECT sqlc.embed(s), sqlc.embed(p), c.id AS chapter_id, c.display_name, coalesce(h.state, '')::text AS charter_state, h.cure_by_time, h.reapply_time,
       h.review_due_time, h.changes_due_time, h.renewal_due_time, h.protect_until_time
FROM standings s
JOIN chapters c USING (chapter_no)
JOIN policies p ON p.revision = s.policy_revision
LEFT JOIN charters h USING (chapter_no)
WHERE s.chapter_no = ANY (@chapter_nos::bigint[]);

-- Answers which are new.
-- name: InsertNotices :many
INSERT INTO notices (id, chapter_no, kind, occasion, content, epoch, issue_time)
SELECT unnest(@ids::uuid[]), unnest(@chapter_nos::bigint[]), unnest(@kinds::text[]), unnest(@occasions::text[]), unnest(@contents::bytea[]),
       epochs.epoch, @now
FROM epochs
ON CONFLICT DO NOTHING
RETURNING id, epoch;

-- name: NoticeVersionsAfter :many
SELECT id, epoch FROM notices WHERE live AND id > @after ORDER BY id LIMIT @size;

-- name: LiveNotice :one
SELECT * FROM notices WHERE live AND id = @id;

-- name: RetireNotices :exec
UPDATE notices SET live = false WHERE live AND issue_time < @before;
