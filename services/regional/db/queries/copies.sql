-- name: PutChapter :exec
-- A chapter that is new here is heard of now.
INSERT INTO chapters (id, site, country_code, display_name, language_code, heard_time)
VALUES (@id, @site, @country_code, @display_name, @language_code, @now)
ON CONFLICT (id) DO UPDATE
SET site = excluded.site, country_code = excluded.country_code, display_name = excluded.display_name,
    language_code = excluded.language_code;

-- name: HearOfChapter :exec
-- Nothing is written when the chapter was heard of within the hour.
UPDATE chapters SET heard_time = @now
WHERE id = @id AND site = @site AND heard_time < @not_since;

-- name: DeleteChapter :execrows
DELETE FROM chapters WHERE id = @id AND site = @site;

-- name: PutStanding :exec
INSERT INTO standings (chapter_id, eligible)
VALUES (@chapter_id, @eligible)
ON CONFLICT (chapter_id) DO UPDATE SET eligible = excluded.eligible;

-- name: DeleteStanding :exec
DELETE FROM standings WHERE chapter_id = @chapter_id;

-- name: PutCharter :exec
INSERT INTO charters (chapter_id, state, state_time, cure_by_time)
VALUES (@chapter_id, @state, @state_time, @cure_by_time)
ON CONFLICT (chapter_id) DO UPDATE
SET state = excluded.state, cure_by_time = excluded.cure_by_time,
    state_time = CASE WHEN charters.state = excluded.state THEN coalesce(charters.state_time, excluded.state_time) ELSE excluded.state_time END;

-- name: DeleteCharter :exec
DELETE FROM charters WHERE chapter_id = @chapter_id;
