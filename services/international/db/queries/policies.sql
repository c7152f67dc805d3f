-- name: PolicyInForce :one
SELECT * FROM policies
WHERE withdraw_time IS NULL AND (effective_time <= @now::timestamptz OR revision = 1)
ORDER BY revision DESC
LIMIT 1;

-- The revision that a new one is laid over.
-- name: LastPolicy :one
SELECT * FROM policies WHERE withdraw_time IS NULL ORDER BY revision DESC LIMIT 1;

-- name: Policies :many
SELECT * FROM policies ORDER BY revision;

-- name: PoliciesAfter :many
SELECT * FROM policies WHERE revision > @after ORDER BY revision LIMIT @size;

-- name: PolicyOfRevision :one
SELECT * FROM policies WHERE revision = @revision;

-- name: ReadPolicyState :one
SELECT * FROM policy_state;

-- name: LockPolicyState :one
SELECT * FROM policy_state FOR UPDATE;

-- name: TouchPolicyState :one
UPDATE policy_state SET version = version + 1 RETURNING *;

-- name: SetEnforcedRevision :one
UPDATE policy_state SET version = version + 1, enforced_revision = @revision RETURNING *;

-- name: MovePolicyToEpoch :exec
UPDATE policy_state SET epoch = @epoch, version = 1;

-- name: InsertPolicy :one
INSERT INTO policies (revision, threshold_percent, minimum_membership, minimum_mailing, allow_membership, allow_mailing, grace_days,
    reapply_days, effective_time, review_due_days, changes_due_days, claim_hours, recovery_days, grace_end, renewal_days,
    activity_days, minimum_officers, second_approval, subject, note, create_time)
VALUES ((SELECT max(revision) + 1 FROM policies), @threshold_percent, @minimum_membership, @minimum_mailing, @allow_membership,
    @allow_mailing, @grace_days, @reapply_days, @effective_time, @review_due_days, @changes_due_days, @claim_hours,
    @recovery_days, @grace_end, @renewal_days, @activity_days, @minimum_officers, @second_approval, @subject, @note, @create_time)
RETURNING *;

-- name: WithdrawPolicy :one
UPDATE policies SET withdraw_time = @now::timestamptz, withdraw_subject = @subject WHERE revision = @revision RETURNING *;

-- Standings that are not judged by a revision yet, in the order in which standings are locked; and those that a process
-- whose clock is ahead judged by a revision that was withdrawn at the last moment.
-- name: StandingsBefore :many
SELECT sqlc.embed(s), c.id AS chapter_id
FROM standings s
JOIN chapters c USING (chapter_no)
WHERE s.policy_revision < @revision OR s.policy_revision IN (SELECT w.revision FROM policies w WHERE w.withdraw_time IS NOT NULL)
ORDER BY s.chapter_no
LIMIT @size
FOR UPDATE OF s;

-- What a draft is tried on: all standings, or those of some regions, and the charters' states.
-- name: StandingsForSimulation :many
SELECT sqlc.embed(s), c.id AS chapter_id, c.region, coalesce(ch.state, '')::text AS charter_state, ch.override_until_time
FROM standings s
JOIN chapters c USING (chapter_no)
LEFT JOIN charters ch USING (chapter_no)
WHERE @any_region::boolean OR c.region = ANY(@regions::text[]);
