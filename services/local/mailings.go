package local

import (
	"cmp"
	"context"
	"fmt"
	"html"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// mailingCancelled is the state of a mailing that was recalled, or dismissed before it began.
const mailingCancelled = "CANCELLED"

// runMailings starts mailings that are due until ctx ends.
func (s *Service) runMailings(ctx context.Context) error {
	if !s.mail.Configured() {
		return nil // what is due waits
	}
	repeat(ctx, mailTick, func() {
		for more := true; more; {
			var err error
			if more, err = s.startMailing(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "a mailing is not started", "error", err)
			}
		}
	})
	return nil
}

// startMailing starts a mailing that is due: it makes a mail for everybody on the list who has none of the announcement
// yet. It answers whether there was one.
func (s *Service) startMailing(ctx context.Context) (bool, error) {
	found, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (bool, error) {
		q, now := db.New(tx), s.clock.Now()
		due, err := q.DueMailing(ctx, now)
		if err != nil {
			return false, ignoreNoRows(err)
		}
		if due.Recalled || due.List.Deleted || due.List.AnnouncementMode == int16(localv1.List_NEVER) {
			return true, q.CancelMailing(ctx, db.CancelMailingParams{MailingNo: due.Mailing.MailingNo, Now: now})
		}
		return true, s.start(ctx, q, due, now)
	})
	if found && err == nil {
		select {
		case s.mailDue <- struct{}{}:
		default:
		}
	}
	return found && err == nil, err
}

func (s *Service) start(ctx context.Context, q *db.Queries, due db.DueMailingRow, now time.Time) error {
	mailing := due.Mailing
	queued, err := s.queueMails(ctx, q, due, now)
	if err != nil {
		return fmt.Errorf("queue the mails of mailing %d: %w", mailing.MailingNo, err)
	}
	err = q.StartMailing(ctx, db.StartMailingParams{
		MailingNo: mailing.MailingNo, Queued: int32(queued), Posting: due.List.PostingAddress != "", Now: now,
	})
	if err != nil {
		return err
	}
	return q.SentInboxItem(ctx, db.SentInboxItemParams{AnnouncementID: mailing.AnnouncementID, ChapterID: mailing.ChapterID, Now: now})
}

func (s *Service) queueMails(ctx context.Context, q *db.Queries, due db.DueMailingRow, now time.Time) (int64, error) {
	mailing, list := due.Mailing, due.List
	if list.PostingAddress == "" {
		return q.QueueMailing(ctx, db.QueueMailingParams{
			AnnouncementID: &mailing.AnnouncementID, ListNo: list.ListNo, MailingNo: &mailing.MailingNo, Now: now,
		})
	}
	token := s.siteKey.Token(list.PostingAddress)
	return q.QueuePosting(ctx, db.QueuePostingParams{
		AnnouncementID: &mailing.AnnouncementID, ListNo: list.ListNo, MailingNo: &mailing.MailingNo, Now: now,
		Token: token[:], Domain: domainOf(list.PostingAddress),
	})
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// frame is what the mails of a mailing have in common. It is written once.
type frame struct {
	pages

	from, replyTo    netmail.Address
	listID, listName string
	chapterName      string
	form             *mail.Form
}

// frameOf reads what a mailing's mails have in common. It is read again with every tick, so that a correction reaches all
// who have no mail yet.
func (d *delivery) frameOf(ctx context.Context, mailingNo int64) (*frame, error) {
	if known := d.frames[mailingNo]; known != nil {
		return known, nil
	}
	q := db.New(d.pool)
	row, err := q.MailingContext(ctx, mailingNo)
	if err != nil {
		return nil, fmt.Errorf("read mailing %d: %w", mailingNo, err)
	}
	l, err := letterOf(ctx, q, row.Announcement, row.Region, row.LanguageCode)
	if err != nil {
		return nil, err
	}
	f := &frame{
		from:    netmail.Address{Name: cmp.Or(row.List.FromName, row.ChapterName)},
		replyTo: netmail.Address{Address: row.List.ReplyTo},
		listID:  listID(row.List.ID, row.Mailing.ChapterID, d.mail.Domain()), listName: row.List.DisplayName,
		chapterName: row.ChapterName,
	}
	if f.pages, err = l.render(row.Mailing.Note); err != nil {
		return nil, err
	}
	if f.form, err = d.mail.NewForm(f.message()); err != nil {
		return nil, fmt.Errorf("write mailing %d: %w", mailingNo, err)
	}
	d.frames[mailingNo] = f
	return f, nil
}

// message is a mail of the mailing to a person, without what is the person's.
func (f *frame) message() mail.Message {
	message := mail.Message{
		From: f.from, ReplyTo: f.replyTo, Subject: f.subject, Language: f.language, ListID: f.listID, ListName: f.listName, OneClick: true,
	}
	text, rendered := f.signed(mail.UnsubscribeMark)
	message.Text, message.HTML = document(f.language, text, rendered)
	return message
}

// listID names a list for ever (RFC 2919).
func listID(list, chapter, domain string) string { return list + "." + chapter + "." + domain }

// compose writes a mail that was taken.
func (d *delivery) compose(ctx context.Context, taken taken) (mail.Message, error) {
	switch taken.Kind {
	case mailNotice:
		return d.noticeMail(ctx, taken)
	case mailConfirm:
		about, err := db.New(d.pool).MailContext(ctx, db.MailContextParams{ListNo: taken.ListNo, Token: taken.Token})
		return d.confirmation(taken, about), err
	}
	f, err := d.frameOf(ctx, *taken.MailingNo)
	if err != nil {
		return mail.Message{}, err
	}
	if taken.Kind == mailPosting { // the list is another's, and says so itself
		message := f.message()
		message.ID, message.To = d.messageID(taken.ID), netmail.Address{Address: taken.now.PostingAddress}
		message.Text, message.HTML = document(f.language, f.text, f.html)
		message.ListID, message.ListName, message.OneClick = "", "", false
		return message, nil
	}
	return mail.Message{
		Form: f.form, ID: d.messageID(taken.ID), To: netmail.Address{Name: taken.now.DisplayName, Address: taken.now.Address},
		Unsubscribe: d.page(link{
			purpose: localv1.Subscription_LEAVE, listNo: taken.ListNo, issued: d.clock.Now(), token: taken.Token, announcement: *taken.AnnouncementID,
		}),
	}, nil
}

// signed adds why the person gets the mail, and the way out. The link is where a form takes it.
func (f *frame) signed(leave string) (text, rendered string) {
	why := fmt.Sprintf("You get this as a subscriber of “%s” of %s.", f.listName, f.chapterName)
	return f.text + "\n-- \n" + why + "\nTo leave the list: " + leave + "\n",
		f.html + `<hr><p style="color:#666;font-size:small">` + html.EscapeString(why) + "\n<a\nhref=\"" + leave + "\"\n>Leave the list</a></p>"
}

// document makes a page of HTML of a fragment.
func document(language, text, fragment string) (string, string) {
	return text, `<!doctype html><html lang="` + html.EscapeString(language) + `"><head><meta charset="utf-8"></head><body>` + fragment + "</body></html>\n"
}

// messageID is the same for every copy of a mail there may ever be.
func (s *Service) messageID(id uuid.UUID) string { return id.String() + "@" + s.mail.Domain() }

// page is the URL behind a link in a mail.
func (s *Service) page(l link) string {
	return strings.TrimRight(s.config.PublicURL, "/") + "/s/" + s.sign(l)
}
