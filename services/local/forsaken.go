package local

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

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
	p.owner = owner
	// A database that was set back may have mails of this number.
	if _, err := p.forsake(ctx, owner); err != nil {
		return err
	}
	p.stale = true // it has no note yet
	if err := p.write(ctx); err != nil {
		return err
	}
	return p.lookForForsaken(ctx, true)
}

// look does what is due once a tick, and lets what had enough be looked at again.
func (p *post) look(ctx context.Context) error {
	quiet := p.dry && p.idle == cap(p.results)
	p.lookAgain()
	clear(p.without)
	clear(p.frames)
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if _, err := p.pipe.conn.Exec(ctx, "DISCARD PLANS"); err != nil {
		return err
	}
	return p.lookForForsaken(ctx, quiet)
}

// lookForForsaken takes over the mails of those who are gone. They have left notes; only after a crash of the database there
// are none, and the whole queue has to be looked through for them. Crashes end sessions, so that it is when one begins.
func (p *post) lookForForsaken(ctx context.Context, everywhere bool) error {
	owners, err := db.New(p.pipe.conn).TakenOwners(ctx, db.TakenOwnersParams{Owner: p.owner, Everywhere: everywhere})
	if err != nil {
		return fmt.Errorf("look for mails that were forsaken: %w", err)
	}
	alive := 1
	for _, owner := range owners {
		gone, err := p.forsake(ctx, owner)
		if err != nil {
			return err
		}
		if !gone {
			alive++
		}
	}
	p.limits.share(alive, p.clock.Now())
	return nil
}

// forsake writes what is known of the mails of somebody who is gone, and answers whether they are.
func (p *post) forsake(ctx context.Context, owner int32) (bool, error) {
	gone, err := postgres.InTx(ctx, p.pool, func(tx pgx.Tx) (bool, error) {
		q := db.New(tx)
		if owner != p.owner {
			gone, err := q.OwnerGone(ctx, db.OwnerGoneParams{Class: mailOwners, Owner: owner})
			if err != nil || !gone {
				return false, err
			}
		}
		known, err := forsaken(ctx, q, owner)
		if err != nil {
			return false, err
		}
		if err := p.end(ctx, q, known); err != nil {
			return false, err
		}
		return true, q.ForgetOwner(ctx, owner)
	})
	if err != nil {
		return false, fmt.Errorf("take over mails that were forsaken: %w", err)
	}
	return gone, nil
}

// forsaken is what is known of the mails of somebody who is gone. Those in the air may have arrived. Those that were not
// handed over are as they were; but after a crash of the database nobody knows which these are.
func forsaken(ctx context.Context, q *db.Queries, owner int32) ([]outcome, error) {
	rows, err := q.TakenMails(ctx, owner)
	if err != nil {
		return nil, err
	}
	notes, err := q.MailNotes(ctx, owner)
	if err != nil {
		return nil, err
	}
	known := map[int64]outcome{}
	lost := outcome{Owner: owner, State: mailUncertain, Failure: "the process ended while the mail was on its way", Tried: true}
	for _, note := range notes {
		for _, mailNo := range note.Handed {
			if _, ended := known[mailNo]; !ended {
				lost.MailNo = mailNo
				known[mailNo] = lost
			}
		}
	}
	for _, note := range notes {
		for _, mailNo := range note.Sent {
			known[mailNo] = outcome{MailNo: mailNo, Owner: owner, State: mailSent, Tried: true}
		}
		var others []outcome
		if err := json.Unmarshal(note.Others, &others); err != nil {
			return nil, fmt.Errorf("read a note about mails: %w", err)
		}
		for _, o := range others {
			known[o.MailNo] = o
		}
	}
	outcomes := make([]outcome, 0, len(rows))
	for _, row := range rows {
		o, handed := known[row.MailNo]
		switch {
		case handed:
		case len(notes) == 0:
			o = lost
			o.MailNo = row.MailNo
		default:
			o = outcome{MailNo: row.MailNo, Owner: owner, State: mailQueued}
		}
		if o.State == mailQueued && o.DueTime.IsZero() {
			o.DueTime = row.DueTime
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}
