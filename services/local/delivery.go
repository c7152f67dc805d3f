package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
// Mails are taken in batches, which is committed with the owner's number. In the moment in which some are handed over it is
// noted that they are in the air, and what became of those before them; the notes wait for no disk and outlive the process.
// So when a process dies, what is uncertain is at most one mail a connection: those in the air. All others are as they were,
// or as they ended. The notes are gone after a crash of the database, and then everything that was taken is uncertain: up to
// a batch.
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
	// air are those that were handed over and have not been answered.
	air map[int64]struct{}
	// last is where the last look for mails ended; a tick begins anew.
	last db.TakeMailsRow
	// done is what became of mails and is not written yet; the first so many are noted.
	done  []outcome
	noted int
	// stale are the notes when anything was handed over or answered since they were last written anew.
	stale bool
	// dry says that nothing more is due for now.
	dry bool
	// without are domains that have had enough for now.
	without map[string]bool
}

// outcome is what became of a mail.
type outcome struct {
	MailNo  int64
	Owner   int32
	State   string
	Bounced bool
	Failure string
	DueTime time.Time
	// Tried says that it was handed over.
	Tried bool
}

// runMail sends what is due until ctx ends.
func (s *Service) runMail(ctx context.Context) error {
	if !s.mail.Configured() {
		return nil // what is queued waits
	}
	connections := s.mail.Connections()
	d := &delivery{
		Service: s, limits: s.newLimits(), frames: map[int64]*frame{}, results: make(chan outcome, connections), idle: connections,
		without: map[string]bool{}, air: map[int64]struct{}{},
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
	if err := p.write(ctx); err != nil {
		return err
	}
	return db.New(p.pipe.conn).ForgetOwner(ctx, p.owner)
}

// deliver works until ctx ends or the database fails.
func (p *post) deliver(ctx context.Context) error {
	tick := time.NewTicker(mailTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C: // however busy it is: what mails say may have been corrected
			if err := p.look(ctx); err != nil {
				return err
			}
		default:
		}
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
	for _, o := range first {
		d.landed(o)
	}
	for {
		select {
		case o := <-d.results:
			d.landed(o)
		default:
			return
		}
	}
}

func (d *delivery) landed(o outcome) {
	d.idle++
	delete(d.air, o.MailNo)
	d.done, d.stale = append(d.done, o), true
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
	d.done = append(d.done, outcome{MailNo: one.MailNo, Owner: d.owner, State: mailQueued, DueTime: one.DueTime})
}

// post is a delivery with its connection to the database.
type post struct {
	*delivery

	pipe *pipeline
}

// byKey makes the statements of the connection look up rows by their keys and take them in the order of an index, by plans
// that are kept until the next tick: planning what hands over a few mails costs as much as running it. A queue that has just
// been filled has no statistics yet, and the planner would sort all of it for each batch.
const byKey = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"

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
	picked := p.pick()
	switch {
	case len(picked) > 0:
		return true, p.handOver(ctx, picked)
	case len(p.done) >= mailBatch || len(p.done) > 0 && p.idle > 0:
		return true, p.write(ctx)
	}
	return p.idle > 0 && !p.dry, nil
}

// take takes the mails that are due next, and writes what became of others with it.
func (p *post) take(ctx context.Context) (err error) {
	q := db.New(p.pipe)
	if err := errors.Join(q.PlanAnew(ctx), p.end(ctx, q, p.done), p.noteAir(ctx, q)); err != nil {
		return err
	}
	without, now := make([]string, 0, len(p.without)), p.clock.Now()
	for domain := range p.without {
		without = append(without, domain)
	}
	p.taken, err = q.TakeMails(ctx, db.TakeMailsParams{
		Owner: p.owner, Due: now, Without: without, Size: mailBatch,
		AfterKind: p.last.Kind, AfterDue: p.last.DueTime, AfterNo: p.last.MailNo,
	})
	if err != nil {
		return fmt.Errorf("take mails: %w", err)
	}
	p.done, p.noted, p.stale = p.done[:0], 0, false
	p.dry = len(p.taken) < mailBatch
	slices.SortFunc(p.taken, func(a, b db.TakeMailsRow) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.DueTime.Compare(b.DueTime), cmp.Compare(a.MailNo, b.MailNo))
	})
	if len(p.taken) > 0 {
		p.last = p.taken[len(p.taken)-1]
	}
	return nil
}

// noteAir notes which mails are in the air, in place of all notes before: what they say is written.
func (p *post) noteAir(ctx context.Context, q *db.Queries) error {
	if !p.stale {
		return nil // one who has nothing to do writes nothing
	}
	return q.NoteMails(ctx, db.NoteMailsParams{Owner: p.owner, Handed: slices.AppendSeq([]int64{}, maps.Keys(p.air))})
}

// pick chooses a mail for each connection that is free. Those of domains that have had enough are given back.
func (p *post) pick() (picked []db.TakeMailsRow) {
	now := p.clock.Now()
	for len(picked) < p.idle && len(p.taken) > 0 {
		next := p.taken[0]
		p.taken = p.taken[1:]
		if p.without[next.Domain] || !p.limits.allow(next.Domain, now) {
			p.without[next.Domain] = true
			p.giveBack(next)
			continue
		}
		picked = append(picked, next)
	}
	return picked
}

// handOver notes that mails are handed over, and what became of others, and sends them. Those that it could not send it has
// still.
func (p *post) handOver(ctx context.Context, picked []db.TakeMailsRow) (err error) {
	waiting := map[int64]db.TakeMailsRow{}
	for _, one := range picked {
		waiting[one.MailNo] = one
	}
	defer func() {
		if err != nil {
			p.taken = slices.AppendSeq(p.taken, maps.Values(waiting))
		}
	}()
	q := db.New(p.pipe)
	args, err := p.note(picked)
	if err := errors.Join(err, q.CommitSoon(ctx)); err != nil {
		return err
	}
	handed, err := q.HandMails(ctx, args)
	if err != nil {
		return fmt.Errorf("hand over mails: %w", err)
	}
	p.noted, p.stale = len(p.done), true
	for _, now := range handed {
		if err := p.launch(ctx, taken{waiting[now.MailNo], now}); err != nil {
			return err
		}
		delete(waiting, now.MailNo)
	}
	return nil
}

// note is what is noted when mails are handed over: these, and what became of those that were in the air.
func (p *post) note(picked []db.TakeMailsRow) (args db.HandMailsParams, err error) {
	args = db.HandMailsParams{Owner: p.owner, Sent: []int64{}}
	for _, one := range picked {
		args.Handed = append(args.Handed, one.MailNo)
	}
	others := []outcome{}
	for _, o := range p.done[p.noted:] {
		switch {
		case o.Tried && o.State == mailSent:
			args.Sent = append(args.Sent, o.MailNo)
		case o.Tried:
			others = append(others, o)
		}
	}
	args.Others, err = json.Marshal(others)
	return args, err
}

// write writes what became of mails.
func (p *post) write(ctx context.Context) error {
	q := db.New(p.pipe)
	if err := errors.Join(q.PlanAnew(ctx), p.end(ctx, q, p.done), p.noteAir(ctx, q)); err != nil {
		return err
	}
	if err := p.pipe.flush(ctx); err != nil {
		return fmt.Errorf("record what became of mails: %w", err)
	}
	p.done, p.noted, p.stale = p.done[:0], 0, false
	return nil
}

func (p *post) end(ctx context.Context, q *db.Queries, done []outcome) error {
	if len(done) == 0 {
		return nil
	}
	now := p.clock.Now()
	args := db.EndMailsParams{Now: &now}
	for _, o := range done {
		args.MailNos, args.Owners = append(args.MailNos, o.MailNo), append(args.Owners, o.Owner)
		args.States, args.Bounces = append(args.States, o.State), append(args.Bounces, o.Bounced)
		args.Failures, args.DueTimes = append(args.Failures, o.Failure), append(args.DueTimes, o.DueTime)
		tries := int32(0)
		if o.Tried {
			tries = 1
		}
		args.Tries = append(args.Tries, tries)
	}
	return q.EndMails(ctx, args)
}
