-- name: QueueAddressMail :exec
INSERT INTO register_mails (address_no, state, create_time, due_time) VALUES (@address_no::bigint, 'QUEUED', @now::timestamptz, @now::timestamptz);

-- name: QueueSeatMail :exec
INSERT INTO register_mails (seat_no, state, create_time, due_time) VALUES (@seat_no::bigint, 'QUEUED', @now::timestamptz, @now::timestamptz);

-- name: AddressMailedSince :one
SELECT EXISTS (SELECT FROM register_mails WHERE address_no = @address_no::bigint AND create_time > @since)::boolean;

-- name: SeatMailedSince :one
SELECT EXISTS (SELECT FROM register_mails WHERE seat_no = @seat_no::bigint AND create_time > @since)::boolean;

-- Takes mails that are due. What a process took and never answered for is uncertain after its time.
-- name: TakeRegisterMails :many
UPDATE register_mails SET state = 'SENDING', take_time = @now::timestamptz, attempts = attempts + 1
WHERE mail_no IN (
    SELECT mail_no FROM register_mails WHERE state = 'QUEUED' AND due_time <= @now::timestamptz
    ORDER BY due_time, mail_no LIMIT @size FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: DoubtRegisterMails :exec
UPDATE register_mails SET state = 'UNCERTAIN', end_time = @now::timestamptz
WHERE state = 'SENDING' AND take_time < @before::timestamptz;

-- name: EndRegisterMail :exec
UPDATE register_mails SET state = @state, failure = @failure, due_time = @due_time, end_time = sqlc.narg(end_time)
WHERE mail_no = @mail_no AND state = 'SENDING';

-- What a mail is about, as it stands: nothing when that is settled.
-- name: AddressOfMail :one
SELECT a.*, m.display_name FROM addresses a JOIN members m USING (member_no)
WHERE a.address_no = @address_no AND a.verify_time IS NULL;

-- name: SeatOfMail :one
SELECT s.*, o.display_name AS organization FROM seats s JOIN organizations o USING (organization_no)
WHERE s.seat_no = @seat_no AND s.member_no IS NULL;

-- name: PruneRegisterMails :exec
DELETE FROM register_mails WHERE end_time < @before::timestamptz;
