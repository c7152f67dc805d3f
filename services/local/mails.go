package local

import (
	"context"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// The kinds of mails, in the order in which they go out: a notice to an officer, a link to confirm, an announcement to a
// person, and one to the posting address of a list.
const (
	mailNotice       = int16(0)
	mailConfirm      = int16(1)
	mailAnnouncement = int16(2)
	mailPosting      = int16(3)
)

// The states of a mail.
const (
	mailQueued    = "QUEUED"
	mailSent      = "SENT"
	mailFailed    = "FAILED"
	mailUncertain = "UNCERTAIN"
	mailCancelled = "CANCELLED"
)

// keepMails is how long it is known what was sent to whom.
const keepMails = 90 * 24 * time.Hour

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

// confirmation is the mail that asks for a person's own word.
func (s *Service) confirmation(taken taken, about db.MailContextRow) mail.Message {
	now := s.clock.Now()
	page := func(purpose localv1.Subscription_Purpose) string {
		return s.page(link{purpose: purpose, listNo: taken.ListNo, issued: now, token: taken.Token})
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
		ID:     s.messageID(taken.ID),
		ListID: listID(about.ListID, about.ChapterID, s.mail.Domain()), ListName: about.ListName,
		Unsubscribe: leave, OneClick: true, Automatic: true,
	}
}
