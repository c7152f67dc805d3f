package local

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// mailConfirm is the kind of a mail with a link to confirm.
const mailConfirm = int16(1)

// The states in which a mail ends.
const (
	mailSent      = "SENT"
	mailFailed    = "FAILED"
	mailUncertain = "UNCERTAIN"
	mailCancelled = "CANCELLED"
)

const (
	// mailBatch is how many mails are taken at a time, and mailAtOnce how many are sent side by side.
	mailBatch, mailAtOnce = 50, 4
	// mailTick is how soon a mail that is due goes out.
	mailTick = time.Second
	// mailLease is how long a batch may take; who took it is gone then.
	mailLease = 15 * time.Minute
	// mailPatience is how long a mail is tried. A server that is away for a weekend costs nobody a confirmation.
	mailPatience = 3 * 24 * time.Hour
	// keepMails is how long it is known what was sent to whom.
	keepMails = 90 * 24 * time.Hour
)

// askToConfirm queues a mail with a link, unless one is under way.
func (s *Service) askToConfirm(ctx context.Context, tx pgx.Tx, listNo int64, token []byte, now time.Time) error {
	queued, err := db.New(tx).QueueMail(ctx, db.QueueMailParams{ListNo: listNo, Token: token, Kind: mailConfirm, Now: now})
	if err != nil {
		return fmt.Errorf("queue a mail: %w", err)
	}
	if queued == 0 {
		return nil
	}
	return record(ctx, tx, listNo, consent{kind: requested, at: now, method: "mail"}, token)
}

// runMail sends what is due until ctx ends. Any number of processes do so side by side.
func (s *Service) runMail(ctx context.Context) error {
	if !s.mail.Configured() {
		return nil // what is queued waits
	}
	tick := time.NewTicker(mailTick)
	defer tick.Stop()
	for {
		sent, err := s.deliver(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "mail is not delivered", "error", err)
		}
		if sent == mailBatch {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// deliver takes a batch of mails that are due and sends it, to the end even when ctx ends meanwhile: a mail that is cut
// off on its way is one of which nobody knows whether it has arrived.
func (s *Service) deliver(ctx context.Context) (int, error) {
	q, now := db.New(s.pool), s.clock.Now()
	if _, err := q.ForsakeMails(ctx, db.ForsakeMailsParams{Now: now, Before: now.Add(-mailLease)}); err != nil {
		return 0, fmt.Errorf("look for mails that were forsaken: %w", err)
	}
	taken, err := q.TakeMails(ctx, db.TakeMailsParams{Now: now, Size: mailBatch})
	if err != nil {
		return 0, fmt.Errorf("take mails: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mailLease)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(mailAtOnce)
	for _, one := range taken {
		group.Go(func() error { return s.post(ctx, one) })
	}
	return len(taken), group.Wait()
}

// post sends one mail and records what became of it.
func (s *Service) post(ctx context.Context, taken db.Mail) error {
	q := db.New(s.pool)
	about, err := q.MailContext(ctx, db.MailContextParams{ListNo: taken.ListNo, Token: taken.Token})
	if err != nil {
		return fmt.Errorf("read what mail %d is about: %w", taken.MailNo, err)
	}
	if !wanted(taken, about) {
		return q.EndMail(ctx, db.EndMailParams{MailNo: taken.MailNo, State: mailCancelled, Now: s.clock.Now()})
	}
	err = s.mail.Send(ctx, s.confirmation(taken, about))
	failure, _ := errors.AsType[*mail.Error](err)
	end := db.EndMailParams{MailNo: taken.MailNo, State: mailSent, Now: s.clock.Now()}
	switch {
	case err == nil:
		return q.EndMail(ctx, end)
	case mail.KindOf(err) == mail.Uncertain:
		end.State = mailUncertain
	case mail.KindOf(err) == mail.Temporary && end.Now.Sub(taken.CreateTime) < mailPatience:
		return q.PutOffMail(ctx, db.PutOffMailParams{
			MailNo: taken.MailNo, Failure: err.Error(), Attempts: taken.Attempts, DueTime: end.Now.Add(backOff(taken.Attempts)),
		})
	case failure.Bounce():
		if err := s.bounced(ctx, taken, failure); err != nil {
			return fmt.Errorf("record a bounce: %w", err)
		}
		end.State = mailFailed
	default:
		end.State = mailFailed
	}
	s.log.WarnContext(ctx, "a mail was not sent", "mail", taken.MailNo, "state", end.State, "error", err)
	end.Failure = err.Error()
	return q.EndMail(ctx, end)
}

// backOff is the wait before another try: a minute, and twice as long each time, up to six hours.
func backOff(attempts int32) time.Duration {
	return min(time.Minute<<min(max(attempts-1, 0), 10), 6*time.Hour)
}

// wanted says whether there still is something to confirm: an entry that waits, or somebody who asked to come back.
func wanted(taken db.Mail, about db.MailContextRow) bool {
	if about.Deleted || about.Address == "" {
		return false
	}
	return about.State == pending || about.State > pending && !taken.CreateTime.Before(about.UpdateTime)
}

// bounced records that nobody is reached at the address of a mail.
func (s *Service) bounced(ctx context.Context, taken db.Mail, failure *mail.Error) error {
	_, err := inTx(ctx, s, func(tx pgx.Tx) (*localv1.Entry, error) {
		q := db.New(tx)
		list, err := q.ListByNoForUpdate(ctx, taken.ListNo)
		if err != nil {
			return nil, err
		}
		entry, err := q.Entry(ctx, db.EntryParams{ListNo: taken.ListNo, Token: taken.Token})
		if err != nil || entry.State > pending {
			return nil, ignoreNoRows(err)
		}
		c := entryChange{tx: tx, list: list, entry: entry, now: s.clock.Now()}
		_, err = c.bounce(ctx, "mail", failure.Error())
		return nil, err
	})
	return err
}

// confirmation is the mail that asks for a person's own word.
func (s *Service) confirmation(taken db.Mail, about db.MailContextRow) mail.Message {
	now := s.clock.Now()
	page := func(purpose localv1.Subscription_Purpose) string {
		return strings.TrimRight(s.config.PublicURL, "/") + "/s/" + s.sign(link{purpose, taken.ListNo, now, taken.Token})
	}
	leave, greeting := page(localv1.Subscription_LEAVE), "Hello,"
	if about.DisplayName != "" {
		greeting = "Hello " + about.DisplayName + ","
	}
	text := fmt.Sprintf(`%s

%s would like to write to you on its list “%s”, at your request or because
it has your address from you. It does so only if you agree:

    %s

If you agree, open this page and say so. The link works for a week:

    %s

If you do not, there is nothing to do: you get no mail from this list. If you
never want to be asked again, say so here:

    %s
`, greeting, about.ChapterName, about.ListName, strings.ReplaceAll(consentText(about), "\n", "\n    "),
		page(localv1.Subscription_CONFIRM), leave)
	return mail.Message{
		From: netmail.Address{Name: about.ChapterName}, To: netmail.Address{Name: about.DisplayName, Address: about.Address},
		Subject: fmt.Sprintf("Please confirm: %s of %s", about.ListName, about.ChapterName), Text: text, Language: "en",
		ID:     taken.ID.String() + "@" + s.mail.Domain(),
		ListID: about.ListID + "." + about.ChapterID + "." + s.mail.Domain(), ListName: about.ListName,
		Unsubscribe: leave, OneClick: true, Automatic: true,
	}
}
