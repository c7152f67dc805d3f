package platform

import (
	"context"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

func TestMail(t *testing.T) {
	t.Parallel()
	dir := data(t)
	letter := mail.Message{To: netmail.Address{Address: "ada@example.org"}, Subject: "Hello", Text: "Hello"}

	t.Run("IsKeptWhereNoServerIsSet", func(t *testing.T) {
		p := start(t, Options{Data: dir, MailSink: true})
		defer stop(t, p)
		if err := p.mailer.Send(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
		if kept := p.sink.Messages(); len(kept) != 1 || !strings.Contains(kept[0].Header("From"), "Chapterhouse") {
			t.Errorf("%d mails are kept", len(kept))
		}
		if p.Endpoints.Mail == "" {
			t.Error("nobody is told where")
		}
		if err := p.regionalMailer.Send(t.Context(), letter); err != nil || len(p.sink.Messages()) != 2 {
			t.Errorf("the regional service's mail: %v, %d are kept", err, len(p.sink.Messages()))
		}
	})

	t.Run("GoesToTheServerThatIsSet", func(t *testing.T) {
		relay, err := mailsink.Start(t.Context(), mailsink.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = relay.Close() }()
		p := start(t, Options{Data: dir, MailSink: true, Local: local.Config{Mail: mail.Config{
			SMTP: "smtp://" + relay.Addr(), From: "Site <site@chapterhouse.example>",
		}}})
		defer stop(t, p)
		if err := p.mailer.Send(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
		if kept := relay.Messages(); len(kept) != 1 {
			t.Errorf("%d mails arrived", len(kept))
		}
		if p.sink != nil || p.Endpoints.Mail != "" {
			t.Errorf("there is a sink, at %s", p.Endpoints.Mail)
		}
	})

	t.Run("GoesToTheRegionalServicesOwnServer", func(t *testing.T) {
		relay, err := mailsink.Start(t.Context(), mailsink.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = relay.Close() }()
		p := start(t, Options{Data: dir, MailSink: true, Regional: regional.Config{Mail: mail.Config{
			SMTP: "smtp://" + relay.Addr(), From: "Regions <regions@chapterhouse.example>",
		}}})
		defer stop(t, p)
		if err := p.regionalMailer.Send(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
		if kept := relay.Messages(); len(kept) != 1 || len(p.sink.Messages()) != 0 {
			t.Errorf("%d mails arrived, %d are kept", len(kept), len(p.sink.Messages()))
		}
	})

	// An operator's command runs for a moment: what it kept would be gone unseen, and counted as sent.
	t.Run("WaitsWhileAnOperatorIsAtWork", func(t *testing.T) {
		session, err := Attach(t.Context(), Options{Data: dir, MailSink: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = session.Close() }()
		if session.started.sink != nil || session.started.mailer.Configured() || session.Endpoints.Mail != "" {
			t.Error("an operator's platform sends mail")
		}
	})

	t.Run("ThatCannotWorkStopsTheStart", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := Start(ctx, Options{Data: dir, Local: local.Config{Mail: mail.Config{SMTP: "mail.example.org"}}})
		if err == nil || !strings.Contains(err.Error(), "smtp://") {
			t.Errorf("error %v", err)
		}
	})
}
