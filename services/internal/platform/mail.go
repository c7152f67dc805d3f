package platform

import (
	"context"
	"fmt"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

// sinkSender is who mail to the sink is from, where the settings do not say.
const sinkSender = "Chapterhouse <mail@chapterhouse.example>"

// openMail makes the mailers, and the sink where one is wanted. The regional service and the register share the site's, unless
// they have settings of their own.
func (p *Platform) openMail(ctx context.Context) (err error) {
	config := p.options.Local.Mail
	if config.SMTP == "" && p.options.MailSink {
		if p.sink, err = mailsink.Start(ctx, mailsink.Config{Web: "127.0.0.1:0", Clock: p.options.Clock}); err != nil {
			return fmt.Errorf("start the mail sink: %w", err)
		}
		p.Endpoints.Mail = p.sink.WebURL()
		config.SMTP, config.Username, config.PasswordFile = "smtp+plain://"+p.sink.Addr(), "", ""
		if config.From == "" {
			config.From = sinkSender
		}
	}
	if p.mailer, err = mail.New(config, p.options.Clock); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if p.regionalMailer, err = p.ownMailer(p.options.Regional.Mail); err != nil {
		return fmt.Errorf("the regional service's mail: %w", err)
	}
	if p.registerMailer, err = p.ownMailer(p.options.International.Mail); err != nil {
		return fmt.Errorf("the register's mail: %w", err)
	}
	return nil
}

// ownMailer is that of a service with settings of its own; without them there is one way out for one machine.
func (p *Platform) ownMailer(config mail.Config) (*mail.Mailer, error) {
	if config.SMTP == "" {
		return p.mailer, nil
	}
	return mail.New(config, p.options.Clock)
}

// closeMail lets the mails that are under way arrive first, until ctx ends.
func (p *Platform) closeMail(ctx context.Context) error {
	p.mailer.Close(ctx)
	for _, other := range []*mail.Mailer{p.regionalMailer, p.registerMailer} {
		if other != p.mailer {
			other.Close(ctx)
		}
	}
	if p.sink == nil {
		return nil
	}
	return p.sink.Close()
}
