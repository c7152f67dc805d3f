package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// mailTick is how soon a mail that is due goes out, and a mailing starts.
	mailTick = time.Second
	// mailWindow is how many due mails are looked at at a time. They are nobody's until they are taken.
	mailWindow = 2000
	// mailLimit is how long one mail may take, with the wait for a connection.
	mailLimit = 15 * time.Minute
	// statementLimit is how long the database may take to answer.
	statementLimit = time.Minute
	// mailPatience is how long a mail is tried. A server that is away for a weekend costs nobody a mail.
	mailPatience = 3 * 24 * time.Hour
	// mailOwners is the class of the advisory locks by which senders of mail see that others live.
	mailOwners = int32(0x6d61696c)
)

// delivery hands mails to the server, one for each of its connections at a time. A mail is taken, which is committed, in
// the moment in which a connection is free for it; what became of it is written with the taking of the next. So what is
// SENDING when a process dies is at most one mail a connection, and all the rest is as it was.
//
// Any number of processes deliver side by side. Each holds an advisory lock on a connection to the database of its own,
// which the database lets go when the process is gone.
type delivery struct {
	*Service

	limits  limits
	frames  map[int64]*frame
	results chan outcome
	idle    int // connections to the mail server that have nothing to do

	// done is what became of mails and is not written yet.
	done []outcome
	// waiting are due mails in their order, of the last look. There were none but these when dry.
	waiting []db.DueMailsRow
	dry     bool
	// without are domains that have had enough for now.
	without map[string]bool
}

// outcome is what became of a mail.
type outcome struct {
	mailNo  int64
	owner   int32
	state   string
	bounced bool
	failure string
	dueTime time.Time
}

// runMail sends what is due until ctx ends.
func (s *Service) runMail(ctx context.Context) error {
	if !s.mail.Configured() {
		return nil // what is queued waits
	}
	connections := s.mail.Connections()
	d := &delivery{
		Service: s, limits: s.newLimits(), frames: map[int64]*frame{}, results: make(chan outcome, connections), idle: connections,
		without: map[string]bool{},
	}
	repeat(ctx, mailTick, func() {
		if err := d.session(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "mail is not delivered", "error", err)
		}
	})
	return nil
}

// repeat calls fn, and again so much after its end, until ctx ends.
func repeat(ctx context.Context, pause time.Duration, fn func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		fn()
		timer.Reset(pause)
	}
}

// session delivers for as long as its connection to the database lives, or until ctx ends and all mails that are under way
// have been answered: a mail that is cut off on its way is one of which nobody knows whether it has arrived.
func (d *delivery) session(ctx context.Context) error {
	pooled, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // closed at the end, which lets the lock go
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	p := &post{delivery: d, pipe: newPipeline(conn)}
	if err := p.begin(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(mailTick)
	defer tick.Stop()
	for {
		busy, err := p.round(ctx)
		if err != nil {
			return err
		}
		if busy {
			continue
		}
		if ctx.Err() != nil && d.idle == cap(d.results) {
			return nil
		}
		stop := ctx.Done()
		if ctx.Err() != nil {
			stop = nil
		}
		select {
		case o := <-d.results:
			d.gather(o)
		case <-tick.C:
			if err := p.look(ctx); err != nil {
				return err
			}
		case <-d.mailDue:
			d.dry = false
		case <-stop:
		}
	}
}

// gather takes in what became of mails so far.
func (d *delivery) gather(first ...outcome) {
	for _, o := range first {
		d.idle++
		d.done = append(d.done, o)
	}
	for {
		select {
		case o := <-d.results:
			d.idle++
			d.done = append(d.done, o)
		default:
			return
		}
	}
}

// post is a delivery with its connection to the database.
type post struct {
	*delivery

	pipe  *pipeline
	owner int32
}

// begin takes a number that nobody has, and says what became of mails that were under way when the last connection broke,
// before they count as lost.
func (p *post) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	// The statements are few and look up single rows: planning them each time would cost more than running them.
	if _, err := p.pipe.conn.Exec(ctx, "SET plan_cache_mode = force_generic_plan"); err != nil {
		return err
	}
	q := db.New(p.pipe.conn)
	var err error
	if p.owner, err = q.NewOwner(ctx); err != nil {
		return fmt.Errorf("take a number: %w", err)
	}
	if err := q.BecomeOwner(ctx, db.BecomeOwnerParams{Class: mailOwners, Owner: p.owner}); err != nil {
		return fmt.Errorf("lock the number: %w", err)
	}
	if err := p.write(ctx); err != nil {
		return err
	}
	// A database that was set back may have mails of this number.
	return p.forsake(ctx, p.owner)
}

// look does what is due once a tick, and lets what had enough be looked at again.
func (p *post) look(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	p.dry, p.waiting = false, nil
	clear(p.without)
	clear(p.frames)
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	owners, err := db.New(p.pipe.conn).TakenOwners(ctx, p.owner)
	if err != nil {
		return fmt.Errorf("look for mails that were forsaken: %w", err)
	}
	for _, owner := range owners {
		if err := p.forsake(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// forsake gives up the mails of somebody who is gone.
func (p *post) forsake(ctx context.Context, owner int32) error {
	_, err := postgres.InTx(ctx, p.pool, func(tx pgx.Tx) (struct{}, error) {
		q, now := db.New(tx), p.clock.Now()
		if owner != p.owner {
			gone, err := q.OwnerGone(ctx, db.OwnerGoneParams{Class: mailOwners, Owner: owner})
			if err != nil || !gone {
				return struct{}{}, err
			}
		}
		return struct{}{}, q.ForsakeMails(ctx, db.ForsakeMailsParams{Now: &now, Owner: owner})
	})
	if err != nil {
		return fmt.Errorf("give up mails that were forsaken: %w", err)
	}
	return nil
}

// round writes what became of mails, and takes one for each connection that is free; true when there was anything to do.
func (p *post) round(ctx context.Context) (bool, error) {
	p.gather()
	numbers, err := p.pick(ctx)
	if err != nil {
		return false, err
	}
	if len(p.done) == 0 && len(numbers) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
	defer cancel()
	if len(numbers) == 0 {
		return true, p.write(ctx)
	}
	q := db.New(p.pipe)
	if err := p.queueEnds(ctx, q); err != nil {
		return false, err
	}
	taken, err := q.TakeMails(ctx, db.TakeMailsParams{MailNos: numbers, Owner: p.owner, Now: p.clock.Now()})
	if err != nil {
		return false, fmt.Errorf("take mails: %w", err)
	}
	p.done = p.done[:0]
	for _, one := range taken {
		if err := p.launch(ctx, one); err != nil {
			return false, err
		}
	}
	return true, nil
}

// write writes what became of mails.
func (p *post) write(ctx context.Context) error {
	if err := p.queueEnds(ctx, db.New(p.pipe)); err != nil {
		return err
	}
	if err := p.pipe.flush(ctx); err != nil {
		return fmt.Errorf("record what became of mails: %w", err)
	}
	p.done = p.done[:0]
	return nil
}

func (p *post) queueEnds(ctx context.Context, q *db.Queries) error {
	if len(p.done) == 0 {
		return nil
	}
	now := p.clock.Now()
	args := db.EndMailsParams{Now: &now}
	for _, o := range p.done {
		args.MailNos, args.Owners = append(args.MailNos, o.mailNo), append(args.Owners, o.owner)
		args.States, args.Bounces = append(args.States, o.state), append(args.Bounces, o.bounced)
		args.Failures, args.DueTimes = append(args.Failures, o.failure), append(args.DueTimes, o.dueTime)
	}
	return q.EndMails(ctx, args)
}

// pick chooses a due mail for each connection that is free, of domains that have not had enough.
func (p *post) pick(ctx context.Context) (numbers []int64, err error) {
	for ctx.Err() == nil && len(numbers) < p.idle {
		if len(p.waiting) == 0 {
			if p.dry {
				return numbers, nil
			}
			if err := p.window(ctx); err != nil {
				return nil, err
			}
			continue
		}
		next := p.waiting[0]
		p.waiting = p.waiting[1:]
		if p.without[next.Domain] {
			continue
		}
		if !p.limits.allow(next.Domain, p.clock.Now()) {
			p.without[next.Domain] = true
			p.dry = false // what is due for others may not have been looked at
			continue
		}
		numbers = append(numbers, next.MailNo)
	}
	return numbers, nil
}

// window looks at the mails that are due next.
func (p *post) window(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	without := make([]string, 0, len(p.without))
	for domain := range p.without {
		without = append(without, domain)
	}
	p.waiting, err = db.New(p.pipe.conn).DueMails(ctx, db.DueMailsParams{Now: p.clock.Now(), Without: without, Size: mailWindow})
	if err != nil {
		return fmt.Errorf("look for mails that are due: %w", err)
	}
	p.dry = len(p.waiting) < mailWindow
	return nil
}

// launch sends a mail that was taken, beside everything else. What is not wanted any more is not sent.
func (p *post) launch(ctx context.Context, taken db.TakeMailsRow) error {
	result := outcome{mailNo: taken.MailNo, owner: p.owner, state: mailCancelled, dueTime: p.clock.Now()}
	if !wanted(taken) {
		moved, err := p.moveToOtherList(ctx, taken)
		if err != nil || moved {
			return err
		}
		p.done = append(p.done, result)
		return nil
	}
	message, err := p.compose(ctx, taken)
	if err != nil {
		p.log.ErrorContext(ctx, "a mail cannot be written", "mail", taken.MailNo, "error", err)
		result.state, result.failure, result.dueTime = mailQueued, "it could not be written", p.clock.Now().Add(backOff(taken.Attempts))
		p.done = append(p.done, result)
		return nil
	}
	p.idle--
	go func() { p.results <- p.hand(context.WithoutCancel(ctx), taken, result, message) }()
	return nil
}

// hand gives a mail to the server, and says what became of it.
func (p *post) hand(ctx context.Context, taken db.TakeMailsRow, result outcome, message mail.Message) outcome {
	ctx, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	err := p.mail.Send(ctx, message)
	if err == nil {
		result.state = mailSent
		return result
	}
	result.failure = err.Error()
	failure, _ := errors.AsType[*mail.Error](err)
	now := p.clock.Now()
	switch {
	case mail.KindOf(err) == mail.Uncertain:
		result.state = mailUncertain
	case mail.KindOf(err) == mail.Temporary && now.Sub(taken.CreateTime) < mailPatience:
		result.state, result.dueTime = mailQueued, now.Add(backOff(taken.Attempts))
		return result
	case failure.Bounce():
		result.state, result.bounced = mailFailed, taken.Kind != mailPosting
		if err := p.bounced(ctx, taken, result.failure); err != nil {
			p.log.ErrorContext(ctx, "a bounce is not recorded", "mail", taken.MailNo, "error", err)
			result.state, result.bounced, result.dueTime = mailQueued, false, now.Add(backOff(taken.Attempts))
			return result
		}
	default:
		result.state = mailFailed
	}
	p.log.WarnContext(ctx, "a mail was not sent", "mail", taken.MailNo, "state", result.state, "error", err)
	return result
}

// backOff is the wait before another try: a minute, and twice as long each time, up to six hours.
func backOff(attempts int32) time.Duration {
	return min(time.Minute<<min(max(attempts-1, 0), 10), 6*time.Hour)
}

// wanted says whether a mail is still to be sent: asked in the moment in which it is taken.
func wanted(taken db.TakeMailsRow) bool {
	if taken.Deleted || taken.Recalled || taken.MailingState == mailingCancelled {
		return false
	}
	switch taken.Kind {
	case mailPosting:
		return taken.PostingAddress != ""
	case mailAnnouncement:
		return taken.EntryState == subscribed
	}
	// Something to confirm: an entry that waits, or somebody who asked to come back.
	return taken.Address != "" &&
		(taken.EntryState == pending || taken.EntryState > pending && !taken.CreateTime.Before(taken.EntryTime))
}

// moveToOtherList gives the mail of somebody who has left its list to another list that the announcement is mailed to and
// that has the person still.
func (p *post) moveToOtherList(ctx context.Context, taken db.TakeMailsRow) (bool, error) {
	if taken.Kind != mailAnnouncement || taken.Recalled {
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
func (s *Service) bounced(ctx context.Context, taken db.TakeMailsRow, said string) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, buryBounced(ctx, tx, taken.ListNo, taken.AnnouncementID, taken.Token, said, s.clock.Now())
	})
	s.publisher.Wake()
	s.moves.wake()
	return err
}
