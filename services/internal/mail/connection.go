package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

const (
	dialTimeout = 15 * time.Second
	quitTimeout = time.Second
)

// connection is one to the server. It has a client of its own, because the library's locks itself while it sends.
type connection struct {
	client *gomail.Client
	smtp   *smtp.Client
	raw    net.Conn // below TLS

	timeout time.Duration

	used   bool // has sent before: the server may have closed it since
	broken bool
}

func (s server) connect(ctx context.Context) (*connection, error) {
	c := &connection{timeout: s.timeout}
	options := append(slices.Clone(s.options), gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		return c.dial(ctx, s, network, address)
	}))
	var err error
	if c.client, err = gomail.NewClient(s.host, options...); err != nil {
		return nil, connectFailure(err)
	}
	if c.smtp, err = c.client.DialToSMTPClientWithContext(ctx); err != nil {
		if c.raw != nil {
			_ = c.raw.Close() // which the library leaves open
		}
		return nil, connectFailure(err)
	}
	return c, nil
}

func (c *connection) dial(ctx context.Context, s server, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.raw = raw
	if !s.tlsFrom {
		return raw, nil
	}
	secure := tls.Client(raw, s.tls)
	return secure, secure.HandshakeContext(ctx)
}

// send hands over one mail. The library's client speaks with the server; its own way of sending waits for an answer to each
// command and to a RSET after each mail, which is two thirds of what a mail to a near server costs, and more to a far one.
func (c *connection) send(m *written) *Error {
	offered, _ := c.smtp.Extension("SMTPUTF8")
	if m.utf8 && !offered {
		return &Error{Kind: Permanent, At: atRcpt, Status: "5.6.7", Reason: "the server takes no addresses beyond ASCII"}
	}
	failure := c.envelope(m)
	if failure == nil {
		failure = c.content(m.raw)
	}
	// After an answer to these the server is ready for the next mail.
	answered := failure != nil && failure.Code != 0 && failure.Code != 421 && (failure.At == atRcpt || failure.At == atEnd)
	c.broken = c.broken || failure != nil && !answered
	if failure != nil && failure.At == atRcpt && !c.broken {
		c.broken = c.smtp.Reset() != nil // what was said of the sender would be there still
	}
	return failure
}

// stage is a command, the answer that is wanted, and where it failed without it.
type stage struct {
	at, command string
	want        int
}

func (c *connection) stages(m *written) []stage {
	sender := "MAIL FROM:<" + m.from + ">"
	if offered, _ := c.smtp.Extension("8BITMIME"); offered {
		sender += " BODY=8BITMIME"
	}
	if m.utf8 { // asked for without need, it makes servers refuse the mail that cannot do it
		sender += " SMTPUTF8"
	}
	return []stage{{atMail, sender, 250}, {atRcpt, "RCPT TO:<" + m.to + ">", 25}, {atData, "DATA", 354}}
}

// envelope says who the mail is from and for, and that it comes: all at once where the server takes that (RFC 2920).
func (c *connection) envelope(m *written) (failure *Error) {
	if err := c.smtp.UpdateDeadline(c.timeout); err != nil {
		return &Error{Kind: Temporary, At: atConnect, Reason: "the connection ended"}
	}
	stages, atOnce := c.stages(m), 1
	if offered, _ := c.smtp.Extension("PIPELINING"); offered {
		atOnce = len(stages)
	}
	for len(stages) > 0 {
		failure = c.say(stages[:atOnce])
		if failure != nil {
			return failure
		}
		stages = stages[atOnce:]
	}
	return nil
}

// say sends commands and waits for the answers to all of them. It answers the first failure.
func (c *connection) say(stages []stage) (failure *Error) {
	for _, one := range stages {
		_, _ = c.smtp.Text.W.WriteString(one.command + "\r\n") // Flush says the same
	}
	err := c.smtp.Text.W.Flush()
	for _, one := range stages {
		if err == nil {
			_, _, err = c.smtp.Text.ReadResponse(one.want)
		}
		switch {
		case err != nil && failure == nil:
			failure = c.failure(one.at, err)
		case err == nil && failure != nil && one.at == atData:
			c.broken = true // it waits for a mail, of which it has refused the recipient
		}
		if !isAnswer(err) {
			return failure
		}
		err = nil
	}
	return failure
}

// content is the mail itself. From its end on it may be taken, whatever is heard of it.
func (c *connection) content(raw []byte) *Error {
	w := c.smtp.Text.DotWriter()
	if _, err := w.Write(raw); err != nil {
		return c.failure(atData, err)
	}
	_ = w.Close() // there is no answer either
	if _, _, err := c.smtp.Text.ReadResponse(250); err != nil {
		return c.failure(atEnd, err)
	}
	return nil
}

// failure is what the server answered instead of what was wanted, or that it did not.
func (c *connection) failure(at string, err error) *Error {
	coded, _ := c.smtp.Extension("ENHANCEDSTATUSCODES")
	return sendFailure(at, err, coded)
}

// stale says that the server ended the connection between two mails: nothing of this one has reached it.
func (c *connection) stale(failure *Error) bool {
	return c.used && failure != nil && (failure.At == atConnect || failure.At == atMail)
}

// close takes leave, unless that could do harm: QUIT after half a mail would end that mail, and have it sent.
func (c *connection) close() {
	var err error
	if !c.broken {
		err = errors.Join(c.smtp.UpdateDeadline(quitTimeout), c.client.CloseWithSMTPClient(c.smtp))
	}
	if c.broken || err != nil {
		_ = c.raw.Close() // what is lost by now is known
	}
}
