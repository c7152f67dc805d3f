-- name: NextImportNo :one
SELECT nextval(pg_get_serial_sequence('imports', 'import_no'))::bigint;

-- name: CopyImportRows :copyfrom
INSERT INTO import_rows (import_no, line, kind, address, display_name, member_id, term_end, code, message, upload_time)
VALUES (@import_no, @line, @kind, @address, @display_name, @member_id, @term_end, @code, @message, @upload_time);

-- name: DeleteImportRows :execrows
DELETE FROM import_rows WHERE import_no = @import_no;

-- name: DropStaleImportRows :execrows
DELETE FROM import_rows WHERE kind = 0 AND upload_time < @before::timestamptz;

-- Large joins and sorts happen in memory, and are worth nothing before the transaction that stores the answer.
-- name: PrepareToImport :exec
SELECT set_config('work_mem', '64MB', true);

-- The planner takes a file that was just staged for a handful of rows, and would look at each of them once for every other.
-- name: ScanImport :exec
SELECT set_config('enable_nestloop', 'off', true);

-- Whom each row is about, and what becomes of it. A row is about the member with its id, else the one for whom its address
-- is verified, else a new one; of several about the same the first one that can
-- be used counts.
-- name: PlanImport :exec
UPDATE import_rows r
SET kind = CASE
        WHEN j.code <> '' THEN 5
        WHEN j.again THEN 6
        WHEN j.member_no IS NULL THEN 1
        WHEN j.starts_term OR j.prolongs_term THEN 2
        WHEN j.renames OR j.adds_address THEN 3
        ELSE 4
    END,
    code = CASE WHEN j.code = '' AND j.again THEN 'DUPLICATE' ELSE j.code END,
    message = CASE j.code
        WHEN 'ADDRESS_TAKEN' THEN 'the address is verified for another member'
        WHEN 'MEMBER_STATE' THEN 'the member is ' || j.state || ' and cannot be changed by an import'
        WHEN 'TERM_END_INVALID' THEN 'the running term ends later; an import shortens none'
        WHEN 'NAME_MISSING' THEN 'a new member needs a displayName'
        ELSE CASE WHEN j.again THEN 'an earlier row is about the same member' ELSE '' END
    END,
    member_id = CASE WHEN j.code <> '' OR j.again THEN r.member_id
                     WHEN j.member_no IS NOT NULL THEN j.id
                     WHEN r.member_id = '' THEN gen_random_uuid()::text
                     ELSE r.member_id END,
    member_no = j.member_no, member_version = j.version,
    renames = coalesce(j.renames, false), adds_address = coalesce(j.adds_address, false),
    starts_term = coalesce(j.starts_term, false), prolongs_term = coalesce(j.prolongs_term, false)
FROM (
    SELECT m.*,
           (row_number() OVER (PARTITION BY m.code <> '', m.address ORDER BY m.line) > 1
               OR m.row_id <> '' AND row_number() OVER (PARTITION BY m.code <> '', m.row_id ORDER BY m.line) > 1
               OR m.member_no IS NOT NULL AND row_number() OVER (PARTITION BY m.code <> '', m.member_no ORDER BY m.line) > 1) AS again,
           m.display_name <> '' AND m.display_name <> m.present_name AS renames,
           m.member_no IS NOT NULL AND m.holder_no IS NULL AS adds_address,
           m.member_no IS NOT NULL AND m.row_term_end IS NOT NULL AND m.own_state <> 'ACTIVE' AS starts_term,
           m.own_state = 'ACTIVE' AND m.row_term_end > m.term_end AS prolongs_term
    FROM (
        SELECT g.line, g.address, g.display_name, g.member_id AS row_id, g.term_end AS row_term_end, a.member_no AS holder_no,
               p.member_no, p.id, p.version, p.state, p.own_state, p.term_end, p.display_name AS present_name,
               CASE
                   WHEN a.member_no IS NOT NULL AND a.member_no IS DISTINCT FROM p.member_no THEN 'ADDRESS_TAKEN'
                   WHEN p.state IN ('SUSPENDED', 'ERASED', 'MERGED') THEN 'MEMBER_STATE'
                   WHEN p.member_no IS NULL AND g.display_name = '' THEN 'NAME_MISSING'
                   WHEN p.own_state = 'ACTIVE' AND g.term_end < p.term_end THEN 'TERM_END_INVALID'
                   ELSE ''
               END AS code
        FROM import_rows g
        LEFT JOIN addresses a ON a.address = g.address AND a.verify_time IS NOT NULL
        LEFT JOIN members named ON g.member_id <> '' AND named.id = g.member_id
        LEFT JOIN members p ON p.member_no = CASE WHEN g.member_id = '' THEN a.member_no ELSE named.member_no END
        WHERE g.import_no = @import_no AND g.kind = 0
    ) m
) j
WHERE r.import_no = @import_no AND r.kind = 0 AND r.line = j.line;

-- name: CountImport :many
SELECT kind, count(*)::integer AS rows FROM import_rows WHERE import_no = @import_no GROUP BY kind;

-- name: InsertImport :one
INSERT INTO imports (import_no, id, state, subject, added, renewed, updated, unchanged, rejected, duplicate, create_time, expire_time)
VALUES (@import_no, @id, 'PLANNED', @subject, @added, @renewed, @updated, @unchanged, @rejected, @duplicate, @now::timestamptz, @expire_time)
RETURNING *;

-- name: ReadImport :one
SELECT * FROM imports WHERE id = @id;

-- name: ImportForUpdate :one
SELECT * FROM imports WHERE id = @id FOR NO KEY UPDATE;

-- name: DeleteImport :exec
DELETE FROM imports WHERE import_no = @import_no;

-- name: ImportsBefore :many
SELECT * FROM imports WHERE import_no < @before ORDER BY import_no DESC LIMIT @size;

-- name: SetImportState :one
UPDATE imports SET state = @state, apply_time = sqlc.narg(apply_time), version = version + 1 WHERE import_no = @import_no RETURNING *;

-- name: ExpireImports :execrows
UPDATE imports SET state = 'EXPIRED', version = version + 1 WHERE state = 'PLANNED' AND expire_time <= @now::timestamptz;

-- name: PruneImportRows :execrows
WITH old AS (
    UPDATE imports SET pruned = true
    WHERE NOT pruned AND state <> 'PLANNED' AND create_time < @before::timestamptz
    RETURNING import_no
)
DELETE FROM import_rows WHERE import_no IN (SELECT import_no FROM old);

-- name: ImportRowsAfter :many
SELECT * FROM import_rows
WHERE import_no = @import_no AND line > @after AND (@kind::smallint = 0 OR kind = @kind)
ORDER BY line
LIMIT @size;

-- What the plan said of members holds while their versions do.
-- name: LockImportMembers :many
SELECT m.member_no FROM members m
JOIN import_rows r ON r.member_no = m.member_no AND r.member_version = m.version
WHERE r.import_no = @import_no AND r.kind IN (2, 3)
ORDER BY m.member_no
FOR UPDATE OF m;

-- name: ImportRunOut :one
SELECT EXISTS (SELECT FROM import_rows WHERE import_no = @import_no AND kind IN (1, 2) AND term_end <= @now::timestamptz)::boolean;

-- name: ImportNewMembers :execrows
INSERT INTO members (id, display_name, own_state, term_start, term_end, version, create_time, update_time)
SELECT member_id, display_name, CASE WHEN term_end IS NULL THEN 'LAPSED' ELSE 'ACTIVE' END,
       CASE WHEN term_end IS NOT NULL THEN @now::timestamptz END, term_end, 1, @now::timestamptz, @now::timestamptz
FROM import_rows
WHERE import_no = @import_no AND kind = 1
ORDER BY line
ON CONFLICT DO NOTHING;

-- name: NoteNewMembers :many
UPDATE import_rows r SET member_no = m.member_no, member_version = 1
FROM members m
WHERE r.import_no = @import_no AND r.kind = 1 AND m.id = r.member_id
RETURNING m.member_no;

-- name: ImportTerms :exec
INSERT INTO terms (member_no, start_time, end_time, state)
SELECT member_no, @now::timestamptz, term_end, 'RUNNING'
FROM import_rows
WHERE import_no = @import_no AND (kind = 1 OR starts_term AND kind = 2) AND term_end IS NOT NULL
ORDER BY line;

-- name: ProlongImportedTerms :exec
UPDATE terms t SET end_time = r.term_end
FROM import_rows r
WHERE r.import_no = @import_no AND r.kind = 2 AND r.prolongs_term AND t.member_no = r.member_no AND t.state = 'RUNNING';

-- An address that the member had without proof is attested by the import.
-- name: AttestImportedAddresses :execrows
UPDATE addresses a SET verify_time = @now::timestamptz, verify_method = 'STAFF', verify_subject = @subject
FROM import_rows r
WHERE r.import_no = @import_no AND r.kind IN (2, 3) AND r.adds_address AND a.member_no = r.member_no AND a.address = r.address;

-- name: ImportAddresses :execrows
INSERT INTO addresses (id, member_no, address, verify_time, create_time, verify_method, verify_subject)
SELECT gen_random_uuid()::text, r.member_no, r.address, @now::timestamptz, @now::timestamptz, 'STAFF', @subject
FROM import_rows r
WHERE r.import_no = @import_no AND (r.kind = 1 OR r.kind IN (2, 3) AND r.adds_address)
  AND NOT EXISTS (SELECT FROM addresses a WHERE a.member_no = r.member_no AND a.address = r.address)
ORDER BY r.line
ON CONFLICT DO NOTHING;

-- name: ImportedAddressesAfter :many
SELECT r.line, a.* FROM import_rows r
JOIN addresses a ON a.member_no = r.member_no AND a.address = r.address
WHERE r.import_no = @import_no AND (r.kind = 1 OR r.kind IN (2, 3) AND r.adds_address) AND r.line > @after
ORDER BY r.line
LIMIT @size;

-- name: CountImportedAddresses :one
SELECT count(*)::integer FROM import_rows WHERE import_no = @import_no AND (kind = 1 OR kind IN (2, 3) AND adds_address);

-- The members whose tokens or state the import moves.
-- name: ImportMovers :many
SELECT member_no::bigint FROM import_rows
WHERE import_no = @import_no AND kind IN (2, 3) AND (starts_term OR adds_address);

-- name: ImportMembers :exec
UPDATE members m
SET display_name = CASE WHEN r.renames THEN r.display_name ELSE m.display_name END,
    own_state = CASE WHEN r.starts_term THEN 'ACTIVE' ELSE m.own_state END,
    term_start = CASE WHEN r.starts_term THEN @now::timestamptz ELSE m.term_start END,
    term_end = CASE WHEN r.starts_term OR r.prolongs_term THEN r.term_end ELSE m.term_end END,
    version = m.version + 1, update_time = @now::timestamptz
FROM import_rows r
WHERE r.import_no = @import_no AND r.kind IN (2, 3) AND r.member_no = m.member_no;
