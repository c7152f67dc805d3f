-- name: InsertChapter :one
INSERT INTO chapters (id, display_name, region, city, country_code, latitude, longitude, url, language_code, epoch, version, create_time, update_time)
VALUES (@id, @display_name, @region, @city, @country_code, @latitude, @longitude, @url, @language_code, @epoch, 1, @now, @now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: Chapter :one
SELECT * FROM chapters WHERE id = @id;

-- name: ChapterForUpdate :one
SELECT * FROM chapters WHERE id = @id FOR NO KEY UPDATE;

-- name: ChaptersAfter :many
SELECT * FROM chapters
WHERE id > @after AND (@region::text = '' OR region = @region)
ORDER BY id
LIMIT @size;

-- name: UpdateChapter :one
UPDATE chapters
SET display_name = @display_name, city = @city, country_code = @country_code, latitude = @latitude,
    longitude = @longitude, url = @url, language_code = @language_code, version = version + 1, update_time = @now
WHERE id = @id
RETURNING *;

-- name: ChapterVersions :many
SELECT id, epoch, version FROM chapters
WHERE id > @after
ORDER BY id
LIMIT @size;

-- name: BeginChapterEpoch :many
UPDATE chapters SET epoch = @epoch, version = version + 1
RETURNING *;

-- name: PlaceChapter :one
-- The chapter's version moves with its region alone: who reads it sees nothing of the placement's.
UPDATE chapters
SET region = @region, placement_epoch = @epoch, placement_number = @number,
    left_region = CASE WHEN region <> @region THEN region ELSE left_region END,
    left_time = CASE WHEN region <> @region THEN @since::timestamptz ELSE left_time END,
    version = version + (region <> @region)::int,
    update_time = CASE WHEN region <> @region THEN @now::timestamptz ELSE update_time END
WHERE id = @id
RETURNING *;
