-- The public announcements that a region has forwarded, the latest first. Of a recalled one nothing is left.
-- name: PublicOfRegion :many
SELECT sqlc.embed(a), r.forward_time::timestamptz AS forward_time, coalesce(g.display_name, '')::text AS from_display_name
FROM relays r
JOIN announcements a ON a.id = r.announcement_id
LEFT JOIN regions g ON g.id = a.region_id
WHERE r.region_id = @region_id AND r.state = 'FORWARDED' AND a.public AND NOT a.recalled
  AND (r.forward_time, r.announcement_id) < (@before_time::timestamptz, @before_id::uuid)
ORDER BY r.forward_time DESC, r.announcement_id DESC
LIMIT @size;

-- Those that the region in which a chapter lay then has forwarded to it. A tag stands for its variants too, and a chapter that
-- has not said its language is in no audience of languages: as the local tier has it.
-- name: PublicOfChapter :many
SELECT sqlc.embed(a), r.forward_time::timestamptz AS forward_time, coalesce(g.display_name, '')::text AS from_display_name
FROM chapters c
JOIN placements p ON p.chapter_id = c.id
JOIN relays r ON r.region_id = p.region_id AND r.forward_time >= p.from_time AND (p.to_time IS NULL OR r.forward_time < p.to_time)
JOIN announcements a ON a.id = r.announcement_id
LEFT JOIN regions g ON g.id = a.region_id
WHERE c.id = @chapter_id AND r.state = 'FORWARDED' AND a.public AND NOT a.recalled
  AND (NOT r.chapters_chosen OR 'chapters/' || c.id = ANY(r.chapters))
  AND (cardinality(a.languages) = 0
       OR EXISTS (SELECT FROM unnest(a.languages) AS l
                  WHERE lower(c.language_code) = lower(l) OR starts_with(lower(c.language_code), lower(l) || '-')))
  AND (r.forward_time, r.announcement_id) < (@before_time::timestamptz, @before_id::uuid)
ORDER BY r.forward_time DESC, r.announcement_id DESC
LIMIT @size;

-- When the public announcements of a region changed last, recalls among them; no sooner than a time.
-- name: PublicChangeTime :one
SELECT greatest(max(r.forward_time), max(a.update_time), @since::timestamptz)::timestamptz AS change_time
FROM relays r JOIN announcements a ON a.id = r.announcement_id
WHERE r.region_id = @region_id AND a.public AND r.forward_time IS NOT NULL;

-- name: ChapterOfFeed :one
SELECT c.display_name, p.region_id, p.from_time
FROM chapters c JOIN placements p ON p.chapter_id = c.id AND p.to_time IS NULL
WHERE c.id = @id;
