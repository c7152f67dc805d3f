-- name: LockCases :exec
-- 1667331443 is "cases" to nobody else: the trees of cases are changed by one transaction at a time.
SELECT pg_advisory_xact_lock(1667331443);

-- name: ReadCase :one
SELECT * FROM cases WHERE name = @name;

-- name: CasesAbove :many
-- Cases and all that they lead to. UNION ends a circle.
WITH RECURSIVE above AS (
    SELECT c.name, c.leads_to FROM cases c WHERE c.name = ANY (@names::text[])
    UNION
    SELECT c.name, c.leads_to FROM cases c JOIN above a ON c.name = a.leads_to
)
SELECT cases.* FROM cases JOIN above USING (name);

-- name: CasesBelow :many
-- A case and all that leads to it.
WITH RECURSIVE below AS (
    SELECT c.name FROM cases c WHERE c.name = @name
    UNION
    SELECT c.name FROM cases c JOIN below b ON c.leads_to = b.name
)
SELECT cases.* FROM cases JOIN below USING (name);

-- name: RaiserCounts :many
WITH RECURSIVE below AS (
    SELECT c.name AS root, c.name FROM cases c WHERE c.name = ANY (@names::text[])
    UNION
    SELECT b.root, c.name FROM cases c JOIN below b ON c.leads_to = b.name
)
SELECT b.root, (count(*) FILTER (WHERE c.concern <> '' AND NOT c.withdrawn))::int AS raisers
FROM below b JOIN cases c ON c.name = b.name
GROUP BY b.root;

-- name: InsertCase :one
INSERT INTO cases (name, region_id, concern, withdrawn, from_region, subject, body, shared, summary, state, leads_to, due_time,
                   raise_time, epoch, version, create_time, update_time)
VALUES (@name, @region_id, @concern, @withdrawn, @from_region, @subject, @body, @shared, @summary, @state, @leads_to, @due_time,
        @raise_time, @epoch, 0, @now, @now)
RETURNING *;

-- name: PutCaseWords :exec
INSERT INTO case_words (name, words)
VALUES (@name, to_tsvector('simple'::regconfig, @subject::text || ' ' || @body::text));

-- name: UpdateCases :exec
UPDATE cases c
SET withdrawn = n.withdrawn, state = n.state, leads_to = n.leads_to, escalation_summary = n.escalation_summary, overdue = n.overdue, reminded_time = n.reminded_time,
    first_answer_time = n.first_answer_time, version = n.version, update_time = n.update_time
FROM json_populate_recordset(NULL::cases, @rows::json) n
WHERE c.name = n.name;

-- name: InsertAnswer :exec
INSERT INTO case_answers (id, given_at, given_by, body, create_time)
VALUES (@id, @given_at, @given_by, @body, @create_time)
ON CONFLICT DO NOTHING;

-- name: AnswersAt :many
SELECT * FROM case_answers WHERE given_at = ANY (@places::text[]) ORDER BY create_time, id;

-- name: Escalations :many
SELECT * FROM escalations WHERE name = ANY (@names::text[]);

-- name: PutEscalation :exec
INSERT INTO escalations (name, state, due_time, overdue, vendor_note)
VALUES (@name, @state, @due_time, @overdue, @vendor_note)
ON CONFLICT (name) DO UPDATE
SET state = excluded.state, due_time = excluded.due_time, overdue = excluded.overdue, vendor_note = excluded.vendor_note;

-- name: ListCases :many
SELECT c.* FROM cases c
WHERE (c.region_id = @region_id
       OR @below::boolean AND c.region_id IN (SELECT r.id FROM regions r WHERE r.path @> ARRAY[@region_id::text]))
  AND (@state::text = '' OR c.state = @state)
  AND (NOT @overdue::boolean OR c.overdue)
  AND (c.create_time, c.name) > (@after_time::timestamptz, @after_name::text)
ORDER BY c.create_time, c.name
LIMIT @size;

-- name: DueCases :many
SELECT name FROM cases
WHERE state = 'OPEN' AND due_time <= @now AND (reminded_time IS NULL OR reminded_time <= @reminded_before)
ORDER BY due_time
LIMIT @size;

-- name: SimilarCases :many
-- How much of a case's telling words others have: each word weighs the logarithm of how few of the region's cases have
-- it, so that no language needs a list of words that say nothing.
WITH others AS (
    SELECT c.name, w.words FROM cases it
    JOIN cases c ON c.region_id = it.region_id AND c.name <> it.name AND c.state IN ('OPEN', 'ANSWERED', 'ESCALATED')
    JOIN case_words w ON w.name = c.name
    WHERE it.name = @name
    ORDER BY c.create_time DESC
    LIMIT 2000
), theirs AS (
    SELECT o.name, unnest(tsvector_to_array(o.words)) AS word FROM others o
), mine AS (
    SELECT unnest(tsvector_to_array(w.words)) AS word FROM case_words w WHERE w.name = @name
), weights AS (
    SELECT m.word, ln(1 + (SELECT count(*) FROM others)::float8 / (1 + count(t.name))) AS weight
    FROM mine m LEFT JOIN theirs t ON t.word = m.word
    GROUP BY m.word
)
SELECT t.name, (sum(w.weight) / (SELECT sum(weight) FROM weights))::float8 AS similarity
FROM theirs t JOIN weights w ON w.word = t.word
GROUP BY t.name
HAVING sum(w.weight) > 0.1 * (SELECT sum(weight) FROM weights)
ORDER BY similarity DESC, t.name
LIMIT 20;

-- name: ConcernFigures :many
-- One row a child region, one for the region's own (child is empty), and one for all together (whole).
WITH subtree AS (
    SELECT r.id, coalesce(r.path[cardinality(root.path) + 1], '') AS child
    FROM regions r, regions root
    WHERE root.id = @region_id AND r.path @> ARRAY[root.id]
), figures AS (
    SELECT s.child, c.concern <> '' AND NOT c.withdrawn AS raised, c.first_answer_time IS NULL AS open,
           c.overdue AND c.state = 'OPEN' AS overdue,
           greatest(0, extract(epoch FROM c.first_answer_time - c.raise_time))::float8 AS seconds
    FROM subtree s JOIN cases c ON c.region_id = s.id
)
SELECT coalesce(child, '')::text AS child, (grouping(child) = 1)::boolean AS whole,
       (count(*) FILTER (WHERE raised))::int AS concerns,
       (count(*) FILTER (WHERE raised AND open))::int AS open,
       (count(*) FILTER (WHERE overdue))::int AS overdue,
       coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE raised AND NOT open), -1)::float8 AS median,
       coalesce(percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE raised AND NOT open), -1)::float8 AS p90
FROM figures
GROUP BY GROUPING SETS ((child), ());

-- name: ConcernDigest :one
SELECT (count(*) FILTER (WHERE c.region_id = root.id AND c.state = 'OPEN'))::int AS unanswered,
       (count(*) FILTER (WHERE c.region_id = root.id AND c.overdue))::int AS overdue,
       (count(*) FILTER (WHERE c.region_id <> root.id AND c.overdue))::int AS overdue_below
FROM regions root
LEFT JOIN regions r ON r.path @> ARRAY[root.id]
LEFT JOIN cases c ON c.region_id = r.id
WHERE root.id = @region_id
GROUP BY root.id;

-- name: FirstDueCases :many
SELECT c.* FROM cases c
WHERE c.region_id = @region_id AND c.state = 'OPEN'
  AND (@snoozed::boolean OR NOT EXISTS (
      SELECT FROM digest_snoozes s
      WHERE s.subject = @subject AND s.region_id = @region_id AND s.item = 'concern-' || split_part(c.name, '/', 4) AND s.until_time > @now))
ORDER BY c.due_time, c.name
LIMIT @size;

-- name: CaseVersions :many
SELECT name, epoch, version FROM cases
WHERE name > @after
ORDER BY name
LIMIT @size;

-- name: BeginCaseEpoch :many
UPDATE cases SET epoch = @epoch, version = 1 RETURNING name;

-- name: CasesNamed :many
SELECT * FROM cases WHERE name = ANY (@names::text[]);

-- name: ChildRegions :many
SELECT id FROM regions WHERE parent_id = @region_id::text AND close_time IS NULL ORDER BY id;
