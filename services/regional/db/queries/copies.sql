-- name: PutChapter :exec
INSERT INTO chapters (id, site, country_code)
VALUES (@id, @site, @country_code)
ON CONFLICT (id) DO UPDATE SET site = excluded.site, country_code = excluded.country_code;

-- name: DeleteChapter :execrows
DELETE FROM chapters WHERE id = @id AND site = @site;

-- name: PutStanding :exec
INSERT INTO standings (chapter_id, eligible)
VALUES (@chapter_id, @eligible)
ON CONFLICT (chapter_id) DO UPDATE SET eligible = excluded.eligible;

-- name: DeleteStanding :exec
DELETE FROM standings WHERE chapter_id = @chapter_id;

-- name: PutCharter :exec
INSERT INTO charters (chapter_id, state)
VALUES (@chapter_id, @state)
ON CONFLICT (chapter_id) DO UPDATE SET state = excluded.state;

-- name: DeleteCharter :exec
DELETE FROM charters WHERE chapter_id = @chapter_id;
