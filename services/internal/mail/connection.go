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

	used   bool // has sent before: the server may have closed it since
	broken bool
}

func (s server) connect(ctx context.Context) (*connection, error) {
	c := &connection{}
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

// send hands over one mail.
func (c *connection) send(msg *gomail.Msg) *Error {
	from, err := msg.GetSender(false)
	if err != nil {
		return unwritable("there is no sender")
	}
	needed := beyondASCII(append(msg.GetToString(), from)...)
	if offered, _ := c.smtp.Extension("SMTPUTF8"); needed && !offered {
		return &Error{Kind: Permanent, At: atRcpt, Status: "5.6.7", Reason: "the server takes no addresses beyond ASCII"}
	}
	// Asked for without need, it makes servers refuse the mail that cannot do it.
	c.smtp.SkipSMTPUTF8(!needed)
	err = c.client.SendWithSMTPClient(c.smtp, msg)
	failure := sendFailure(err)
	// After an answer to these the server is ready for the next mail.
	answered := failure != nil && failure.Code != 0 && failure.Code != 421 && (failure.At == atRcpt || failure.At == atEnd)
	c.broken = err != nil && !answered
	return failure
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
