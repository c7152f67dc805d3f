package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const (
	// mailTick is how soon a mail that is due goes out, and a mailing starts.
	mailTick = time.Second
	// mailBatch is how many mails are taken at a time, and written.
	mailBatch = 250
	// gatherPause is how long a free connection waits for others, to be given a mail together with them.
	gatherPause = 2 * time.Millisecond
	// mailLimit is how long one mail may take, with the wait for a connection.
	mailLimit = 15 * time.Minute
	// statementLimit is how long the database may take to answer.
	statementLimit = time.Minute
	// mailOwners is the class of the advisory locks by which senders of mail see that others live.
	mailOwners = int32(0x6d61696c)
)

// delivery hands mails to the server, one for each of its connections at a time.
//
// Mails are taken in batches, which is committed: SENDING by this process. In the moment in which one is handed over it is
// noted as in the air, and so is what became of it; the notes wait for no disk and outlive the process. So when a process
// dies, what is uncertain is at most one mail a connection: those in the air. All others are as they were, or as they ended.
// The notes are gone after a crash of the database, and then everything that was taken is uncertain: up to a batch.
//
// Any number of processes deliver side by side. Each holds an advisory lock on a connection to the database of its own,
// which the database lets go when the process is gone.
type delivery struct {
	*Service

	limits  limits
	frames  map[int64]*frame
	results chan outcome
	idle    int // connections to the mail server that have nothing to do

	// owner is the number under which mails are taken.
	owner int32
	// taken are this process's, and not handed over yet.
	taken []db.TakeMailsRow
	// last is where the last look for mails ended; a tick begins anew.
	last db.TakeMailsRow
	// done is what became of mails and is not written yet; the first so many are noted.
	done  []outcome
	noted int
	// dry says that nothing more is due for now.
	dry bool
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
	// tried says that it was handed over.
	tried bool
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

// session delivers for as long as its connection to the database lives, or until ctx ends and all mails that are in the air
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
	err = p.deliver(ctx)
	d.land()
	if err != nil {
		return err // what is done is written by the next session
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
	defer cancel()
	return p.write(ctx)
}

// deliver works until ctx ends or the database fails.
func (p *post) deliver(ctx context.Context) error {
	tick := time.NewTicker(mailTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		busy, err := p.round(ctx)
		if err != nil {
			return err
		}
		if busy {
			continue
		}
		select {
		case o := <-p.results:
			p.gather(o)
		case <-tick.C:
			if err := p.look(ctx); err != nil {
				return err
			}
		case <-p.mailDue:
			p.lookAgain()
		case <-ctx.Done():
		}
	}
	return nil
}

// gatherHalf waits until half of the connections are free, but not for slow ones: two statements for eight mails cost what
// they cost for one.
func (d *delivery) gatherHalf() {
	d.gather()
	timer := time.NewTimer(gatherPause)
	defer timer.Stop()
	for 2*d.idle < cap(d.results) {
		select {
		case o := <-d.results:
			d.gather(o)
		case <-timer.C:
			return
		}
	}
}

// gather takes in what became of mails so far.
func (d *delivery) gather(first ...outcome) {
	d.idle += len(first)
	d.done = append(d.done, first...)
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

// land waits for all mails in the air, and gives back what was taken and not handed over.
func (d *delivery) land() {
	for d.idle < cap(d.results) {
		d.gather(<-d.results)
	}
	for _, one := range d.taken {
		d.giveBack(one)
	}
	d.taken = nil
}

// lookAgain begins anew with the mails that are due first.
func (d *delivery) lookAgain() { d.dry, d.last = false, db.TakeMailsRow{} }

func (d *delivery) giveBack(one db.TakeMailsRow) {
	d.done = append(d.done, outcome{mailNo: one.MailNo, owner: d.owner, state: mailQueued, dueTime: one.DueTime})
}

// post is a delivery with its connection to the database.
type post struct {
	*delivery

	pipe *pipeline
}

// byKey makes the statements of the connection look up rows by their keys, by plans that are kept until the next tick:
// planning what hands over a few mails costs as much as running it.
const byKey = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"

// begin takes a number that nobody has, and says what became of mails that were under way when the last connection broke,
// before they count as lost.
func (p *post) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if _, err := p.pipe.conn.Exec(ctx, byKey); err != nil {
		return err
	}
	q := db.New(p.pipe.conn)
	owner, err := q.NewOwner(ctx)
	if err != nil {
		return fmt.Errorf("take a number: %w", err)
	}
	if err := q.BecomeOwner(ctx, db.BecomeOwnerParams{Class: mailOwners, Owner: owner}); err != nil {
		return fmt.Errorf("lock the number: %w", err)
	}
	if err := p.write(ctx); err != nil {
		return err
	}
	p.owner = owner
	// A database that was set back may have mails of this number.
	if err := p.forsake(ctx, owner); err != nil {
		return err
	}
	return q.OwnerLives(ctx, owner)
}

// look does what is due once a tick, and lets what had enough be looked at again.
func (p *post) look(ctx context.Context) error {
	p.lookAgain()
	clear(p.without)
	clear(p.frames)
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if _, err := p.pipe.conn.Exec(ctx, "DISCARD PLANS"); err != nil {
		return err
	}
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

// forsake writes what is known of the mails of somebody who is gone.
func (p *post) forsake(ctx context.Context, owner int32) error {
	_, err := postgres.InTx(ctx, p.pool, func(tx pgx.Tx) (struct{}, error) {
		q := db.New(tx)
		if owner != p.owner {
			gone, err := q.OwnerGone(ctx, db.OwnerGoneParams{Class: mailOwners, Owner: owner})
			if err != nil || !gone {
				return struct{}{}, err
			}
		}
		rows, err := q.Forsaken(ctx, owner)
		if err != nil {
			return struct{}{}, err
		}
		known := make([]outcome, 0, len(rows))
		for _, row := range rows {
			o := outcome{
				mailNo: row.MailNo, owner: owner, state: row.State, bounced: row.Bounced, failure: row.Failure, dueTime: row.DueTime, tried: row.Handed,
			}
			if o.state == mailUncertain && o.failure == "" {
				o.failure = "the process ended while the mail was on its way"
			}
			known = append(known, o)
		}
		if err := p.end(ctx, q, known); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, q.ForgetOwner(ctx, owner)
	})
	if err != nil {
		return fmt.Errorf("take over mails that were forsaken: %w", err)
	}
	return nil
}

// round hands a mail to each connection that is free; false when there is nothing to do but to wait.
func (p *post) round(ctx context.Context) (bool, error) {
	p.gatherHalf()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
	defer cancel()
	if len(p.taken) == 0 && p.idle > 0 && !p.dry {
		if err := p.take(ctx); err != nil {
			return false, err
		}
	}
	numbers := p.pick()
	switch {
	case len(numbers) > 0:
		return true, p.handOver(ctx, numbers)
	case len(p.done) >= mailBatch || len(p.done) > 0 && p.idle > 0:
		return true, p.write(ctx)
	}
	return p.idle > 0 && !p.dry, nil
}

// take takes the mails that are due next, and writes what became of others with it.
func (p *post) take(ctx context.Context) (err error) {
	q := db.New(p.pipe)
	if err := errors.Join(q.PlanAnew(ctx), p.end(ctx, q, p.done)); err != nil {
		return err
	}
	without, now := make([]string, 0, len(p.without)), p.clock.Now()
	for domain := range p.without {
		without = append(without, domain)
	}
	p.taken, err = q.TakeMails(ctx, db.TakeMailsParams{
		Owner: p.owner, Due: &now, Without: without, Size: mailBatch,
		AfterKind: p.last.Kind, AfterDue: p.last.DueTime, AfterNo: p.last.MailNo,
	})
	if err != nil {
		return fmt.Errorf("take mails: %w", err)
	}
	p.done, p.noted = p.done[:0], 0
	p.dry = len(p.taken) < mailBatch
	slices.SortFunc(p.taken, func(a, b db.TakeMailsRow) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.DueTime.Compare(b.DueTime), cmp.Compare(a.MailNo, b.MailNo))
	})
	if len(p.taken) > 0 {
		p.last = p.taken[len(p.taken)-1]
	}
	return nil
}

// pick chooses a mail for each connection that is free. Those of domains that have had enough are given back.
func (p *post) pick() (numbers []int64) {
	now := p.clock.Now()
	for len(numbers) < p.idle && len(p.taken) > 0 {
		next := p.taken[0]
		p.taken = p.taken[1:]
		if p.without[next.Domain] || !p.limits.allow(next.Domain, now) {
			p.without[next.Domain] = true
			p.giveBack(next)
			continue
		}
		numbers = append(numbers, next.MailNo)
	}
	return numbers
}

// handOver notes that mails are handed over, and what became of others, and sends them.
func (p *post) handOver(ctx context.Context, numbers []int64) error {
	q := db.New(p.pipe)
	if err := q.CommitSoon(ctx); err != nil {
		return err
	}
	if err := p.note(ctx, q); err != nil {
		return err
	}
	handed, err := q.HandMails(ctx, db.HandMailsParams{MailNos: numbers, Owner: p.owner})
	if err != nil {
		return fmt.Errorf("hand over mails: %w", err)
	}
	p.noted = len(p.done)
	for _, one := range handed {
		if err := p.launch(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// note notes what became of mails that were handed over.
func (p *post) note(ctx context.Context, q *db.Queries) error {
	var args db.NoteOutcomesParams
	for _, o := range p.done[p.noted:] {
		if !o.tried {
			continue // not in the air
		}
		args.MailNos, args.States, args.Bounces = append(args.MailNos, o.mailNo), append(args.States, o.state), append(args.Bounces, o.bounced)
		args.Failures, args.DueTimes = append(args.Failures, o.failure), append(args.DueTimes, o.dueTime)
	}
	if len(args.MailNos) == 0 {
		return nil
	}
	return q.NoteOutcomes(ctx, args)
}

// write writes what became of mails.
func (p *post) write(ctx context.Context) error {
	q := db.New(p.pipe)
	if err := errors.Join(q.PlanAnew(ctx), p.end(ctx, q, p.done)); err != nil {
		return err
	}
	if err := p.pipe.flush(ctx); err != nil {
		return fmt.Errorf("record what became of mails: %w", err)
	}
	p.done, p.noted = p.done[:0], 0
	return nil
}

func (p *post) end(ctx context.Context, q *db.Queries, done []outcome) error {
	if len(done) == 0 {
		return nil
	}
	now := p.clock.Now()
	args := db.EndMailsParams{Now: &now}
	for _, o := range done {
		args.MailNos, args.Owners = append(args.MailNos, o.mailNo), append(args.Owners, o.owner)
		args.States, args.Bounces = append(args.States, o.state), append(args.Bounces, o.bounced)
		args.Failures, args.DueTimes = append(args.Failures, o.failure), append(args.DueTimes, o.dueTime)
		tries := int32(0)
		if o.tried {
			tries = 1
		}
		args.Tries = append(args.Tries, tries)
	}
	return q.EndMails(ctx, args)
}

// launch sends a mail, beside everything else. What is not wanted any more is not sent.
func (p *post) launch(ctx context.Context, one db.HandMailsRow) error {
	result := outcome{mailNo: one.MailNo, owner: p.owner, state: mailCancelled, dueTime: p.clock.Now(), tried: true}
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
		result.state, result.failure, result.dueTime = mailQueued, "it could not be written", p.clock.Now().Add(mail.BackOff(one.Attempts+1))
		p.done = append(p.done, result)
		return nil
	}
	p.idle--
	go func() { p.results <- p.hand(context.WithoutCancel(ctx), one, result, message) }()
	return nil
}

// hand gives a mail to the server, and says what became of it.
func (p *post) hand(ctx context.Context, taken db.HandMailsRow, result outcome, message mail.Message) outcome {
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
	case mail.KindOf(err) == mail.Temporary && now.Sub(taken.CreateTime) < mail.Patience:
		result.state, result.dueTime = mailQueued, now.Add(mail.BackOff(taken.Attempts+1))
		return result
	case failure.Bounce():
		result.state, result.bounced = mailFailed, taken.Kind != mailPosting
		if err := p.bounced(ctx, taken, result.failure); err != nil {
			p.log.ErrorContext(ctx, "a bounce is not recorded", "mail", taken.MailNo, "error", err)
			result.state, result.bounced, result.dueTime = mailQueued, false, now.Add(mail.BackOff(taken.Attempts+1))
			return result
		}
	default:
		result.state = mailFailed
	}
	p.log.WarnContext(ctx, "a mail was not sent", "mail", taken.MailNo, "state", result.state, "error", err)
	return result
}

// wanted says whether a mail is still to be sent: asked in the moment in which it is handed over.
func wanted(taken db.HandMailsRow) bool {
	if taken.Deleted || taken.Recalled || taken.MailingState == mailingCancelled {
		return false
	}
	switch taken.Kind {
	case mailNotice:
		return taken.Officer
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
func (p *post) moveToOtherList(ctx context.Context, taken db.HandMailsRow) (bool, error) {
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
func (s *Service) bounced(ctx context.Context, taken db.HandMailsRow, said string) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		if taken.Kind == mailNotice {
			return struct{}{}, s.bounceOfficers(ctx, tx, taken.Token, said)
		}
		return struct{}{}, buryBounced(ctx, tx, taken.ListNo, taken.AnnouncementID, taken.Token, said, s.clock.Now())
	})
	s.publisher.Wake()
	s.moves.wake()
	return err
}
