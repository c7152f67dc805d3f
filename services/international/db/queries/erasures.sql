-- name: EraseMember :one
UPDATE members
SET display_name = '', suspend_time = NULL, suspend_reason = '', seat_end = NULL, erase_time = @now::timestamptz,
    own_state = coalesce(nullif(own_state, 'ACTIVE'), 'RESIGNED'),
    term_end = least(term_end, @now::timestamptz), version = version + 1, update_time = @now::timestamptz
WHERE member_no = @member_no
RETURNING *;

-- name: EraseTerms :exec
UPDATE terms SET state = 'RESIGNED', end_time = least(end_time, @now::timestamptz) WHERE member_no = @member_no AND state = 'RUNNING';

-- name: EraseNotes :exec
UPDATE member_history SET note = '' WHERE member_no = ANY(@member_nos::bigint[]) AND note <> '';

-- name: DeleteAddresses :exec
DELETE FROM addresses WHERE member_no = @member_no;

-- name: DeleteSeatsOf :exec
DELETE FROM seats WHERE member_no = @member_no::bigint OR member_no IS NULL AND address = ANY(@addresses::text[]);

-- What else names the person: rows of imports by address or by number.
-- name: EraseImportRows :exec
UPDATE import_rows SET address = '', display_name = '', kind = coalesce(nullif(kind, 0), 5), code = 'ERASED', message = 'the person was erased'
WHERE address = ANY(@addresses::text[]) OR member_no = @member_no::bigint;

-- Open plans that hold the person cannot be applied any more.
-- name: CancelImportsWith :exec
UPDATE imports i SET state = 'CANCELLED', version = i.version + 1
WHERE i.state = 'PLANNED' AND EXISTS (
    SELECT FROM import_rows r WHERE r.import_no = i.import_no AND (r.address = ANY(@addresses::text[]) OR r.member_no = @member_no::bigint));

-- name: MergedMembers :many
SELECT member_no FROM members WHERE merged_into = @member_no::bigint;

-- name: InsertErasure :one
INSERT INTO erasures (id, member_no, subject, sign_in_salt, sign_in_digest, epoch, create_time)
SELECT @id, @member_no, @subject, @sign_in_salt, @sign_in_digest, epochs.epoch, @now::timestamptz FROM epochs
RETURNING *;

-- name: InsertErasurePart :exec
INSERT INTO erasure_parts (erasure_no, part, tokens) VALUES (@erasure_no, @part, @tokens);

-- name: ReadErasure :one
SELECT sqlc.embed(e), m.id AS member_id FROM erasures e JOIN members m USING (member_no) WHERE e.id = @id;

-- name: ErasureOfMember :one
SELECT sqlc.embed(e), m.id AS member_id FROM erasures e JOIN members m USING (member_no) WHERE e.member_no = @member_no;

-- name: ErasuresBefore :many
SELECT sqlc.embed(e), m.id AS member_id FROM erasures e JOIN members m USING (member_no)
WHERE e.erasure_no < @before
  AND (NOT @outstanding::boolean OR EXISTS (SELECT FROM erasure_parts p WHERE p.erasure_no = e.erasure_no AND p.confirm_time IS NULL))
ORDER BY e.erasure_no DESC
LIMIT @size;

-- name: ErasureParts :many
SELECT * FROM erasure_parts WHERE erasure_no = ANY(@erasure_nos::bigint[]) ORDER BY erasure_no, part DESC;

-- name: ConfirmErasure :execrows
UPDATE erasure_parts p
SET confirm_time = coalesce(p.confirm_time, @now::timestamptz), erased = greatest(p.erased, @erased::integer), confirmed = p.confirmed + 1
FROM erasures e
WHERE e.erasure_no = p.erasure_no AND e.id = @id AND p.part = @part;

-- name: ErasureVersionsAfter :many
SELECT id, epoch, version FROM erasures WHERE id > @after ORDER BY id LIMIT @size;

-- name: MoveErasuresToEpoch :many
UPDATE erasures e SET epoch = @epoch, version = 1 FROM members m WHERE m.member_no = e.member_no
RETURNING sqlc.embed(e), m.id AS member_id;
