package regional

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// Mail to coordinators is a row first, queued in the transaction of what it tells of; delivery sends the rows. Whoever wants
// coordinators to hear of something calls tellActing, or queueLetter for one of them, with a topic that names what it is
// about: a second mail of one topic to the same person is never made.

// The states of a mail beside SENDING, in which it is handed to the server.
const (
	mailQueued    = "QUEUED"
	mailSent      = "SENT"
	mailFailed    = "FAILED"
	mailUncertain = "UNCERTAIN"
	mailCancelled = "CANCELLED"
	mailEmpty     = "EMPTY"
)

const (
	// mailLimit is how long one mail may take, with the wait for a connection.
	mailLimit = 15 * time.Minute
	// keepMails is how long it is known what was sent.
	keepMails = 90 * 24 * time.Hour
	// mailOwners is the class of the advisory locks by which senders of mail see that others live.
	mailOwners = int32(0x6d61696c)
)

// tellActing queues a letter to everybody who acts for one of the regions: one, however many of them it is. write gets those
// that the person acts for.
func (s *Service) tellActing(ctx context.Context, q *db.Queries, regions []string, now time.Time, write func(acts []db.OpenRegionsRow) letter) error {
	a, err := readActors(ctx, q, now)
	if err != nil {
		return err
	}
	for id, acts := range a.among(regions) {
		if err := s.queueLetter(ctx, q, a.people[id].Coordinator, write(acts), now); err != nil {
			return err
		}
	}
	return nil
}

// queueLetter queues a letter to one coordinator. Who has no address gets none, not even when they have one later.
func (s *Service) queueLetter(ctx context.Context, q *db.Queries, to db.Coordinator, l letter, now time.Time) error {
	if to.MailAddress == "" {
		return nil
	}
	text, html, err := l.render(to.DisplayName)
	if err != nil {
		return err
	}
	return putMail(ctx, q, db.InsertMailParams{
		CoordinatorID: to.ID, Topic: l.topic, State: mailQueued, Subject: oneLine(l.subject), Text: text, Html: html, Now: now,
	})
}

func putMail(ctx context.Context, q *db.Queries, args db.InsertMailParams) (err error) {
	if args.ID, err = uuid.NewV7(); err != nil {
		return err
	}
	if _, err = q.InsertMail(ctx, args); err != nil {
		return fmt.Errorf("queue a mail: %w", err)
	}
	return nil
}

// doubtMails takes it that everything was sent that was due when a backup was made: what the database does not know of any
// more may have been.
func (s *Service) doubtMails(ctx context.Context, q *db.Queries) error {
	now := s.clock.Now()
	return errors.Join(q.DoubtMails(ctx, now), q.ForgetReminders(ctx, &now), q.PutOffDigests(ctx, new(s.nextDigest(now))))
}

// delivery sends mails one after the other. Each is SENDING, committed, before it is handed to the server, so that whoever
// finds it so after the process is gone knows that it may have arrived, and does not send it again. That the process is gone
// shows in its advisory lock, which lives as long as its connection to the database.
type delivery struct {
	*Service
	owner int32
	// unsaid is what became of a mail and could not be written yet.
	unsaid *db.EndMailParams
}

// runMail sends what is due until ctx ends, the mail that is on its way included.
func (s *Service) runMail(ctx context.Context) error {
	if !s.mail.Configured() {
		return nil // what is queued waits
	}
	d := &delivery{Service: s}
	ticker := time.NewTicker(s.config.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := d.session(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "mail is not delivered", "error", err)
		}
	}
}

// session delivers until ctx ends or the database fails.
func (d *delivery) session(ctx context.Context) error {
	pooled, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // closed at the end, which lets the lock go
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	q := db.New(conn)
	if err := d.begin(ctx, q); err != nil {
		return err
	}
	ticker := time.NewTicker(d.config.Tick)
	defer ticker.Stop()
	for {
		if err := d.clear(ctx, q); err != nil {
			return err
		}
		for more := true; more && ctx.Err() == nil; {
			if more, err = d.next(ctx, q); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// begin takes a number that nobody has, after it was written what became of the mail of the last session.
func (d *delivery) begin(ctx context.Context, q *db.Queries) error {
	if err := d.say(ctx, q); err != nil {
		return err
	}
	owner, err := q.NewMailOwner(ctx)
	if err != nil {
		return fmt.Errorf("take a number: %w", err)
	}
	if err := q.LockMailOwner(ctx, db.LockMailOwnerParams{Class: mailOwners, Owner: owner}); err != nil {
		return fmt.Errorf("lock the number: %w", err)
	}
	d.owner = owner
	_, err = q.ForsakeMails(ctx, db.ForsakeMailsParams{Owner: &owner, Now: d.clock.Now()}) // a database that was set back may have some
	return err
}

// clear gives up what cannot be known or is too old, and forgets what nobody asks for any more.
func (d *delivery) clear(ctx context.Context, q *db.Queries) error {
	now := d.clock.Now()
	owners, err := q.MailOwners(ctx, &d.owner)
	if err != nil {
		return fmt.Errorf("look for mails that were forsaken: %w", err)
	}
	for _, owner := range owners {
		if err := d.forsake(ctx, owner, now); err != nil {
			return fmt.Errorf("give up mails that were forsaken: %w", err)
		}
	}
	late, err := q.GiveUpMails(ctx, db.GiveUpMailsParams{Now: now, Before: now.Add(-mail.Patience)})
	if late > 0 {
		d.log.WarnContext(ctx, "mails to coordinators could not be sent in time", "count", late)
	}
	return errors.Join(err, q.ForgetMails(ctx, new(now.Add(-keepMails))))
}

// forsake gives up the mails of somebody who is gone.
func (d *delivery) forsake(ctx context.Context, owner int32, now time.Time) error {
	return d.alone(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		gone, err := q.MailOwnerGone(ctx, db.MailOwnerGoneParams{Class: mailOwners, Owner: owner})
		if err != nil || !gone {
			return err
		}
		count, err := q.ForsakeMails(ctx, db.ForsakeMailsParams{Owner: &owner, Now: now})
		if count > 0 {
			d.log.WarnContext(ctx, "mails to coordinators may not have been sent", "count", count)
		}
		return err
	})
}

// next sends the next mail that is due, and says whether there was one.
func (d *delivery) next(ctx context.Context, q *db.Queries) (bool, error) {
	taken, err := q.TakeMail(ctx, db.TakeMailParams{Owner: &d.owner, Now: d.clock.Now()})
	if err != nil || len(taken) == 0 {
		return false, err
	}
	// A mail that is cut off on its way is one of which nobody knows whether it has arrived.
	whole := context.WithoutCancel(ctx)
	d.unsaid = d.hand(whole, taken[0])
	return true, d.say(whole, q)
}

// hand gives a mail to the server, and says what became of it.
func (d *delivery) hand(ctx context.Context, taken db.TakeMailRow) *db.EndMailParams {
	m, now := taken.Mail, d.clock.Now()
	end := &db.EndMailParams{ID: m.ID, Owner: &d.owner, State: mailSent, DueTime: now, Now: now}
	if taken.MailAddress == "" {
		end.State = mailCancelled
		return end
	}
	ctx, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	err := d.mail.Send(ctx, mail.Message{
		To:      netmail.Address{Name: taken.DisplayName, Address: taken.MailAddress},
		Subject: m.Subject, Text: m.Text, HTML: m.Html, Language: "en", ID: m.ID.String() + "@" + d.mail.Domain(), Automatic: true,
	})
	if err == nil {
		return end
	}
	end.Failure = err.Error() // which holds no address
	switch mail.KindOf(err) {
	case mail.Uncertain:
		end.State = mailUncertain
	case mail.Temporary:
		end.State, end.DueTime = mailQueued, now.Add(mail.BackOff(m.Attempts))
		return end
	default:
		end.State = mailFailed
	}
	d.log.WarnContext(ctx, "a mail to a coordinator was not sent", "mail", m.ID, "state", end.State, "error", err)
	return end
}

// say writes what became of a mail.
func (d *delivery) say(ctx context.Context, q *db.Queries) error {
	if d.unsaid == nil {
		return nil
	}
	if err := q.EndMail(ctx, *d.unsaid); err != nil {
		return fmt.Errorf("record what became of a mail: %w", err)
	}
	d.unsaid = nil
	return nil
}
