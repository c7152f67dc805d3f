package mailsink

import (
	"crypto/subtle"
	"errors"
	"io"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// session is one connection.
type session struct {
	sink *Sink
	conn *smtp.Conn
	user string

	from string
	to   []string
	utf8 bool
}

func (s *Sink) newSession(conn *smtp.Conn) (smtp.Session, error) {
	return &session{sink: s, conn: conn}, nil
}

// Logout has nothing to give back.
func (*session) Logout() error { return nil }

// Reset forgets the mail that was begun.
func (c *session) Reset() { c.from, c.to = "", nil }

// AuthMechanisms are what a client may sign in with.
func (c *session) AuthMechanisms() []string {
	if c.sink.config.Username == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth signs the client in.
func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		name := subtle.ConstantTimeCompare([]byte(username), []byte(c.sink.config.Username))
		secret := subtle.ConstantTimeCompare([]byte(password), []byte(c.sink.config.Password))
		if name&secret == 0 {
			return smtp.ErrAuthFailed
		}
		c.user = username
		return nil
	}), nil
}

// Mail begins a mail.
func (c *session) Mail(from string, options *smtp.MailOptions) error {
	if c.sink.config.Username != "" && c.user == "" {
		return smtp.ErrAuthRequired
	}
	c.from, c.utf8 = from, options.UTF8
	return c.suffer(Sender, from)
}

// Rcpt adds a recipient.
func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := c.suffer(Recipient, to); err != nil {
		return err
	}
	c.to = append(c.to, to)
	return nil
}

// Data takes the mail.
func (c *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err // one that was broken off half-way is no mail
	}
	message := parse(raw)
	message.From, message.To, message.User, message.UTF8 = c.from, c.to, c.user, c.utf8
	message.Received = c.sink.config.Clock.Now()
	_, message.TLS = c.conn.TLSConnectionState()
	for _, to := range c.to {
		fault, found := c.sink.fault(Content, to)
		if !found {
			continue
		}
		if fault.Keep {
			c.sink.keep(message)
		}
		if err := c.meet(fault, to); err != nil || fault.Keep {
			return err
		}
	}
	c.sink.keep(message)
	return nil
}

// suffer lets go wrong what is to go wrong with an address.
func (c *session) suffer(at Stage, address string) error {
	if fault, found := c.sink.fault(at, address); found {
		return c.meet(fault, address)
	}
	return nil
}

func (c *session) meet(fault Fault, address string) error {
	if fault.Until != nil {
		select {
		case <-fault.Until:
		case <-c.sink.closed:
		}
	}
	if fault.Cut {
		return errors.Join(errors.New("cut"), c.conn.Conn().Close())
	}
	return fault.answer(address)
}
