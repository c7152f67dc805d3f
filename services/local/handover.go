package local

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// taken is a mail with whom it is for and whether it is still wanted, in the moment in which it is handed over.
type taken struct {
	db.TakeMailsRow
	now db.HandMailsRow
}

// launch sends a mail, beside everything else. What is not wanted any more is not sent.
func (p *post) launch(ctx context.Context, one taken) error {
	result := outcome{MailNo: one.MailNo, Owner: p.owner, State: mailCancelled, DueTime: p.clock.Now(), Tried: true}
	if !wanted(one) {
		moved, err := p.moveToOtherList(ctx, one)
		if err != nil || moved {
			p.lookAgain()
			return err
		}
		p.done = append(p.done, result)
		return nil
	}
	message, err := p.compose(ctx, one)
	if err != nil {
		p.log.ErrorContext(ctx, "a mail cannot be written", "mail", one.MailNo, "error", err)
		result.State, result.Failure, result.DueTime = mailQueued, "it could not be written", p.clock.Now().Add(mail.BackOff(one.Attempts+1))
		p.done = append(p.done, result)
		return nil
	}
	p.idle--
	p.air[one.MailNo] = struct{}{}
	go func() { p.results <- p.hand(context.WithoutCancel(ctx), one, result, message) }()
	return nil
}

// hand gives a mail to the server, and says what became of it.
func (p *post) hand(ctx context.Context, taken taken, result outcome, message mail.Message) outcome {
	ctx, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	err := p.mail.Send(ctx, message)
	if err == nil {
		result.State = mailSent
		return result
	}
	result.Failure = err.Error()
	failure, _ := errors.AsType[*mail.Error](err)
	now := p.clock.Now()
	switch {
	case mail.KindOf(err) == mail.Uncertain:
		result.State = mailUncertain
	case mail.KindOf(err) == mail.Temporary && now.Sub(taken.CreateTime) < mail.Patience:
		result.State, result.DueTime = mailQueued, now.Add(mail.BackOff(taken.Attempts+1))
		return result
	case failure.Bounce():
		result.State, result.Bounced = mailFailed, taken.Kind != mailPosting
		if err := p.bounced(ctx, taken, result.Failure); err != nil {
			p.log.ErrorContext(ctx, "a bounce is not recorded", "mail", taken.MailNo, "error", err)
			result.State, result.Bounced, result.DueTime = mailQueued, false, now.Add(mail.BackOff(taken.Attempts+1))
			return result
		}
	default:
		result.State = mailFailed
	}
	p.log.WarnContext(ctx, "a mail was not sent", "mail", taken.MailNo, "state", result.State, "error", err)
	return result
}

// wanted says whether a mail is still to be sent: asked in the moment in which it is handed over.
func wanted(taken taken) bool {
	now := taken.now
	if now.Deleted || now.Recalled || now.MailingState == mailingCancelled {
		return false
	}
	switch taken.Kind {
	case mailNotice:
		return now.Officer
	case mailPosting:
		return now.PostingAddress != ""
	case mailAnnouncement:
		return now.EntryState == subscribed
	}
	// Something to confirm: an entry that waits, or somebody who asked to come back.
	return now.Address != "" &&
		(now.EntryState == pending || now.EntryState > pending && !taken.CreateTime.Before(now.EntryTime))
}

// moveToOtherList gives the mail of somebody who has left its list to another list that the announcement is mailed to and
// that has the person still.
func (p *post) moveToOtherList(ctx context.Context, taken taken) (bool, error) {
	if taken.Kind != mailAnnouncement || taken.now.Recalled {
		return false, nil
	}
	q := db.New(p.pipe.conn)
	other, err := q.OtherListOf(ctx, db.OtherListOfParams{AnnouncementID: *taken.AnnouncementID, ListNo: taken.ListNo, Token: taken.Token})
	if err != nil {
		return false, ignoreNoRows(err)
	}
	now := p.clock.Now()
	return true, q.MoveMail(ctx, db.MoveMailParams{
		MailNo: taken.MailNo, Owner: p.owner, ListNo: other.ListNo, FromMailing: *taken.MailingNo, ToMailing: other.MailingNo, Now: now,
	})
}

// bounced records that nobody is reached at the address of a mail.
func (s *Service) bounced(ctx context.Context, taken taken, said string) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		if taken.Kind == mailNotice {
			return struct{}{}, bounceOfficers(ctx, tx, taken.Token, said, s.clock.Now())
		}
		return struct{}{}, buryBounced(ctx, tx, taken.ListNo, taken.AnnouncementID, taken.Token, said, s.clock.Now())
	})
	s.publisher.Wake()
	s.moves.wake()
	return err
}
