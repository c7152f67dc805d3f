-- name: PutConsentText :one
-- A statement that updates nothing would answer nothing.
INSERT INTO consent_texts (digest, text) VALUES (@digest, @text)
ON CONFLICT (digest) DO UPDATE SET text = excluded.text
RETURNING text_no;

-- name: InsertConsents :exec
-- The same of each person.
INSERT INTO consents (list_no, token, kind, time, method, text_no)
SELECT @list_no, unnest(@tokens::bytea[]), @kind, @time, @method, sqlc.narg(text_no);

-- name: ConsentsBefore :many
SELECT c.consent_no, c.kind, c.time, c.method, coalesce(t.text, '')::text AS text
FROM consents c LEFT JOIN consent_texts t USING (text_no)
WHERE c.list_no = @list_no AND c.token = @token AND c.consent_no < @before
ORDER BY c.consent_no DESC
LIMIT @size;

-- name: EraseConsents :exec
DELETE FROM consents WHERE list_no = @list_no AND token = @token;
