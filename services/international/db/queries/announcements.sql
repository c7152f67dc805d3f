-- name: InsertAnnouncement :one
INSERT INTO announcements (id, state, subject, content, language, urgent, relay_deadline, epoch, create_time, update_time)
SELECT @id, 'DRAFT', @subject, @content, @language, @urgent, @relay_deadline, epoch, @now, @now
FROM epochs
ON CONFLICT DO NOTHING
RETURNING *;

-- name: ReadAnnouncement :one
SELECT * FROM announcements WHERE id = @id;

-- name: AnnouncementForUpdate :one
SELECT * FROM announcements WHERE id = @id FOR UPDATE;

-- name: PutAnnouncement :one
UPDATE announcements
SET state = @state, subject = @subject, content = @content, language = @language, urgent = @urgent,
    relay_deadline = @relay_deadline, edition = @edition, publish_time = sqlc.narg(publish_time),
    deadline_time = sqlc.narg(deadline_time), recall_time = sqlc.narg(recall_time), recall_reason = @recall_reason,
    version = version + 1, update_time = @now
WHERE id = @id
RETURNING *;

-- name: DeleteAnnouncement :exec
DELETE FROM announcements WHERE id = @id;

-- name: InsertEdition :exec
INSERT INTO announcement_editions (announcement_id, edition, subject, content, publish_time)
VALUES (@announcement_id, @edition, @subject, @content, @now);

-- The content stays where it is: lists do not show it.
-- name: AnnouncementsBefore :many
SELECT id, state, subject, ''::bytea AS content, language, urgent, relay_deadline, edition, publish_time, deadline_time,
       recall_time, recall_reason, epoch, version, create_time, update_time
FROM announcements
WHERE (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before))
  AND state = ANY(@states::text[])
ORDER BY id DESC
LIMIT @size;

-- name: DueAnnouncements :many
SELECT * FROM announcements
WHERE state = 'SCHEDULED' AND publish_time <= @now::timestamptz
ORDER BY id
LIMIT @size
FOR UPDATE SKIP LOCKED;

-- name: AnnouncementVersionsAfter :many
SELECT id, epoch, version FROM announcements
WHERE edition > 0 AND (sqlc.narg(after)::uuid IS NULL OR id > sqlc.narg(after))
ORDER BY id
LIMIT @size;

-- name: MoveAnnouncementsToEpoch :exec
UPDATE announcements SET epoch = @epoch, version = 1;

-- name: PublishedAnnouncements :many
SELECT * FROM announcements WHERE edition > 0 ORDER BY id;

-- name: AllRegions :many
SELECT * FROM regions ORDER BY id;

-- Chapters and people of an audience, by the region that they are in. A tag stands for its variants too, and a chapter that
-- has not said its language is in no audience of languages: as the local tier has it.
-- name: AudienceByRegion :many
SELECT c.region, count(*)::integer AS chapters,
       coalesce(sum(greatest(s.membership_total, s.mailing_total)), 0)::integer AS people
FROM chapters c
LEFT JOIN standings s USING (chapter_no)
LEFT JOIN charters ch USING (chapter_no)
WHERE c.region = ANY(@regions::text[])
  AND (cardinality(@charter_states::text[]) = 0 OR ch.state = ANY(@charter_states::text[]))
  AND (cardinality(@languages::text[]) = 0
       OR EXISTS (SELECT FROM unnest(@languages::text[]) AS l
                  WHERE lower(c.language) = lower(l) OR starts_with(lower(c.language), lower(l) || '-')))
GROUP BY c.region
ORDER BY c.region;

-- name: PutRelay :exec
INSERT INTO relays (announcement_id, region, parent_region, state, edition, automatic, arrive_time, deadline_time,
                    hold_until_time, forward_time, decline_reason, chapters_reached, chapters_sent, chapters_dismissed,
                    people_queued, people_mailed, people_bounced, people_failed, people_uncertain, people_unsubscribed,
                    waiting_with, acting_region, waiting_since)
VALUES (@announcement_id, @region, @parent_region, @state, @edition, @automatic, sqlc.narg(arrive_time), sqlc.narg(deadline_time),
        sqlc.narg(hold_until_time), sqlc.narg(forward_time), @decline_reason, @chapters_reached, @chapters_sent, @chapters_dismissed,
        @people_queued, @people_mailed, @people_bounced, @people_failed, @people_uncertain, @people_unsubscribed,
        @waiting_with, @acting_region, sqlc.narg(waiting_since))
ON CONFLICT (announcement_id, region) DO UPDATE
SET parent_region = excluded.parent_region, state = excluded.state, edition = excluded.edition, automatic = excluded.automatic,
    arrive_time = excluded.arrive_time, deadline_time = excluded.deadline_time, hold_until_time = excluded.hold_until_time,
    forward_time = excluded.forward_time, decline_reason = excluded.decline_reason,
    chapters_reached = excluded.chapters_reached, chapters_sent = excluded.chapters_sent,
    chapters_dismissed = excluded.chapters_dismissed, people_queued = excluded.people_queued,
    people_mailed = excluded.people_mailed, people_bounced = excluded.people_bounced, people_failed = excluded.people_failed,
    people_uncertain = excluded.people_uncertain, people_unsubscribed = excluded.people_unsubscribed,
    waiting_with = excluded.waiting_with, acting_region = excluded.acting_region, waiting_since = excluded.waiting_since;

-- name: RelaysOf :many
SELECT sqlc.embed(r), coalesce(g.display_name, '')::text AS display_name
FROM relays r LEFT JOIN regions g ON g.id = r.region
WHERE r.announcement_id = @announcement_id
ORDER BY r.region;
