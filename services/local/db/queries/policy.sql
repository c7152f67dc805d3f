-- name: PutPolicy :exec
INSERT INTO charter_policy (revision, content) VALUES (@revision, @content)
ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, content = excluded.content;
