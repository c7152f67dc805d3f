package international

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

const (
	// mailTick is how soon a mail that is due goes out.
	mailTick = time.Second
	// mailBatch is how many mails are taken at a time.
	mailBatch = 100
	// mailLimit is how long one mail may take; what was taken longer ago died with its process.
	mailLimit = 5 * time.Minute
	// keepMails is how long it is known what was sent.
	keepMails = 90 * 24 * time.Hour
)

// The states of a mail.
const (
	mailQueued    = "QUEUED"
	mailSent      = "SENT"
	mailFailed    = "FAILED"
	mailUncertain = "UNCERTAIN"
)

// canMail says whether people can be mailed a link that they can open.
func (s *Service) canMail() bool { return s.mail.Configured() && s.config.PublicURL != "" }

func (s *Service) needMail() error {
	if s.canMail() {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_MAIL_UNAVAILABLE, "the international body sends no mail here: no SMTP server or no public URL is set")
}

// askToVerify queues a mail with a link to an address that nobody has verified. Without a mail server staff attest.
func (s *Service) askToVerify(ctx context.Context, tx pgx.Tx, row db.Address, now time.Time) error {
	if row.VerifyTime != nil || !s.canMail() {
		return nil
	}
	return db.New(tx).QueueAddressMail(ctx, db.QueueAddressMailParams{AddressNo: row.AddressNo, Now: now})
}

func (s *Service) askAllToVerify(ctx context.Context, tx pgx.Tx, member db.Member, now time.Time) error {
	if !s.canMail() {
		return nil
	}
	rows, err := db.New(tx).AddressesOf(ctx, []int64{member.MemberNo})
	if err != nil {
		return err
	}
	for _, row := range rows { // twenty at most
		if err := s.askToVerify(ctx, tx, row, now); err != nil {
			return err
		}
	}
	return nil
}

// SendVerification mails an address its link once more, unless the last mail is less than an hour old.
func (s *Service) SendVerification(ctx context.Context, req *internationalv1.SendVerificationRequest) (*internationalv1.Address, error) {
	if err := s.needMail(); err != nil {
		return nil, err
	}
	return onAddress(ctx, s, req.GetName(), func(tx pgx.Tx, member db.Member, row db.Address, now time.Time) (*internationalv1.Address, error) {
		view := viewAddress("members/"+member.ID, row)
		mailed, err := db.New(tx).AddressMailedSince(ctx, db.AddressMailedSinceParams{AddressNo: row.AddressNo, Since: now.Add(-mailEvery)})
		if err != nil || mailed {
			return view, err
		}
		return view, s.askToVerify(ctx, tx, row, now)
	})
}

// runMails sends what is due until ctx ends.
func (s *Service) runMails(ctx context.Context) error {
	if !s.canMail() {
		return nil // what is queued waits
	}
	ticker := time.NewTicker(mailTick)
	defer ticker.Stop()
	for {
		if err := s.sendMails(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "mail is not delivered", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sendMails sends all that is due. A mail is taken, which is committed, before it is handed over, so that none goes out
// twice on purpose: what a process took and never answered for becomes UNCERTAIN.
func (s *Service) sendMails(ctx context.Context) error {
	q := db.New(s.pool)
	now := s.clock.Now()
	if err := q.DoubtRegisterMails(ctx, db.DoubtRegisterMailsParams{Now: now, Before: now.Add(-2 * mailLimit)}); err != nil {
		return fmt.Errorf("doubt mails: %w", err)
	}
	for {
		taken, err := q.TakeRegisterMails(ctx, db.TakeRegisterMailsParams{Now: s.clock.Now(), Size: mailBatch})
		if err != nil || len(taken) == 0 {
			return err
		}
		// What is under way is not cut off: nobody would know whether it has arrived.
		sending := context.WithoutCancel(ctx)
		var group errgroup.Group
		group.SetLimit(s.mail.Connections())
		for _, one := range taken {
			group.Go(func() error { return s.sendMail(sending, one) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (s *Service) sendMail(ctx context.Context, taken db.RegisterMail) error {
	ctx, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	message, err := s.composeMail(ctx, taken)
	if errors.Is(err, pgx.ErrNoRows) { // it is settled meanwhile
		return s.endMail(ctx, taken, mailFailed, "nothing to ask any more")
	}
	if err != nil {
		return fmt.Errorf("write a mail: %w", err)
	}
	err = s.mail.Send(ctx, message)
	switch {
	case err == nil:
		return s.endMail(ctx, taken, mailSent, "")
	case mail.KindOf(err) == mail.Uncertain:
		return s.endMail(ctx, taken, mailUncertain, err.Error())
	case mail.KindOf(err) == mail.Temporary && s.clock.Now().Sub(taken.CreateTime) < mail.Patience:
		return s.endMail(ctx, taken, mailQueued, err.Error())
	}
	return s.endMail(ctx, taken, mailFailed, err.Error())
}

// endMail writes down what became of a mail. Whatever ends, its state is known; a QUEUED one is tried again.
func (s *Service) endMail(ctx context.Context, taken db.RegisterMail, state, failure string) error {
	now := s.clock.Now()
	args := db.EndRegisterMailParams{State: state, Failure: failure, DueTime: now, MailNo: taken.MailNo, EndTime: &now}
	if state == mailQueued {
		args.DueTime, args.EndTime = now.Add(mail.BackOff(taken.Attempts)), nil
	}
	if failure != "" {
		s.log.WarnContext(ctx, "a mail was not sent", "mail", taken.MailNo, "state", state, "error", failure)
	}
	return db.New(s.pool).EndRegisterMail(context.WithoutCancel(ctx), args)
}

// composeMail writes the mail to an address that is to be verified, or that is offered a seat; pgx.ErrNoRows when
// there is nothing to ask any more.
func (s *Service) composeMail(ctx context.Context, taken db.RegisterMail) (mail.Message, error) {
	q := db.New(s.pool)
	if taken.SeatNo != nil {
		seat, err := q.SeatOfMail(ctx, *taken.SeatNo)
		if err != nil {
			return mail.Message{}, err
		}
		text := fmt.Sprintf(`Hello %s,

%s holds seats in the international body of user groups,
and offers you one. With it you are an international member for as long as the
organisation is.

If you want it, open this page and say so. The link works for a week:

    %s

If you do not, there is nothing to do.
`, seat.DisplayName, seat.Organization, s.linkPage(internationalv1.MemberLink_TAKE_SEAT, seat.ID))
		return s.message(taken, seat.DisplayName, seat.Address, "Your seat in "+seat.Organization, text), nil
	}
	row, err := q.AddressOfMail(ctx, *taken.AddressNo)
	if err != nil {
		return mail.Message{}, err
	}
	text := fmt.Sprintf(`Hello %s,

this address was added to your international membership. It counts for you
once you confirm that it is yours: open this page and say so. The link works
for a week:

    %s

If you know nothing of it, there is nothing to do: the address stays as it is.
`, row.DisplayName, s.linkPage(internationalv1.MemberLink_VERIFY_ADDRESS, row.ID))
	return s.message(taken, row.DisplayName, row.Address, "Please confirm your address", text), nil
}

func (s *Service) message(taken db.RegisterMail, name, address, subject, text string) mail.Message {
	return mail.Message{
		To: netmail.Address{Name: name, Address: address}, Subject: subject, Text: text, Language: "en", Automatic: true,
		ID: fmt.Sprintf("register-%d-%d@%s", taken.MailNo, taken.CreateTime.UnixMicro(), s.mail.Domain()),
	}
}

// linkPage is where a person opens a link.
func (s *Service) linkPage(purpose internationalv1.MemberLink_Purpose, id string) string {
	link := memberLink{purpose: purpose, id: uuid.MustParse(id), issued: s.clock.Now()}
	return strings.TrimRight(s.config.PublicURL, "/") + "/m/" + s.signLink(link)
}
