package mail

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Config is how mail is sent. Passwords and keys are in files.
type Config struct {
	SMTP         string        `name:"smtp" env:"CHAPTERHOUSE_MAIL_SMTP" placeholder:"URL" help:"Server that mail is handed to: smtp:// (TLS when offered), smtp+starttls://, smtps:// or smtp+plain://HOST[:PORT]. Without it no mail is sent."`
	Username     string        `env:"CHAPTERHOUSE_MAIL_USERNAME" placeholder:"NAME" help:"Who signs in there."`
	PasswordFile string        `env:"CHAPTERHOUSE_MAIL_PASSWORD_FILE" placeholder:"FILE" help:"Holds the password."`
	CAFile       string        `name:"ca-file" env:"CHAPTERHOUSE_MAIL_CA_FILE" placeholder:"FILE" help:"Certificate authorities beside the machine's."`
	HELO         string        `name:"helo" env:"CHAPTERHOUSE_MAIL_HELO" placeholder:"DOMAIN" help:"How we introduce ourselves; the machine's name without it."`
	Connections  int           `env:"CHAPTERHOUSE_MAIL_CONNECTIONS" default:"4" help:"The most connections at a time."`
	IdleTimeout  time.Duration `env:"CHAPTERHOUSE_MAIL_IDLE_TIMEOUT" default:"30s" help:"How long an unused connection stays open."`
	Timeout      time.Duration `env:"CHAPTERHOUSE_MAIL_TIMEOUT" default:"2m" help:"How long one mail may take. What is cut off while the server thinks about a whole mail is uncertain."`

	From       string `env:"CHAPTERHOUSE_MAIL_FROM" placeholder:"MAILBOX" help:"Who mail is from: Name <local@domain>."`
	ReturnPath string `env:"CHAPTERHOUSE_MAIL_RETURN_PATH" placeholder:"ADDRESS" help:"Where bounces go; to the sender without it."`
	VERP       bool   `name:"verp" env:"CHAPTERHOUSE_MAIL_VERP" help:"Put the mail's ID into the return path, local+ID@domain, so that a bounce that does not name the mail is found too."`

	DKIMKeyFile  string `name:"dkim-key-file" env:"CHAPTERHOUSE_MAIL_DKIM_KEY_FILE" placeholder:"FILE" help:"Private key (PEM, RSA or Ed25519) that mail is signed with."`
	DKIMDomain   string `name:"dkim-domain" env:"CHAPTERHOUSE_MAIL_DKIM_DOMAIN" placeholder:"DOMAIN" help:"Domain that vouches; the sender's without it."`
	DKIMSelector string `name:"dkim-selector" env:"CHAPTERHOUSE_MAIL_DKIM_SELECTOR" placeholder:"NAME" help:"Where the public key is: NAME._domainkey.DOMAIN."`
}

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	if c.Connections <= 0 {
		c.Connections = 4
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Minute
	}
	return c
}

// transports says, by the scheme of a server's URL, how the connection is protected. A certificate that does not fit
// the host is refused in all of them: a connection that anybody could have taken over is worth as much as a plain one.
var transports = map[string]struct {
	port    int
	policy  gomail.TLSPolicy
	tlsFrom bool // from the first byte
}{
	"smtp":          {25, gomail.TLSOpportunistic, false},
	"smtp+starttls": {587, gomail.TLSMandatory, false},
	"smtps":         {465, gomail.NoTLS, true},
	"smtp+plain":    {25, gomail.NoTLS, false},
}

// server is where and how mail is handed over.
type server struct {
	host    string
	port    int
	tls     *tls.Config
	tlsFrom bool
	timeout time.Duration
	options []gomail.Option
}

func (c Config) server() (server, error) {
	u, err := url.Parse(c.SMTP)
	if err != nil {
		return server{}, errors.New("the SMTP server's URL cannot be read") // quotes no password
	}
	transport, known := transports[u.Scheme]
	if !known || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return server{}, errors.New("the SMTP server's URL must be smtp://, smtp+starttls://, smtps:// or smtp+plain://HOST[:PORT]")
	}
	if u.User != nil {
		return server{}, errors.New("the SMTP server's URL must hold no credentials: the name is a setting of its own, the password is in a file")
	}
	s := server{host: u.Hostname(), port: transport.port, tlsFrom: transport.tlsFrom, timeout: c.Timeout}
	if u.Port() != "" {
		if s.port, err = strconv.Atoi(u.Port()); err != nil || s.port < 1 || s.port > 65535 {
			return server{}, errors.New("the SMTP server's port must be 1 to 65535")
		}
	}
	if s.tls, err = c.tls(s.host); err != nil {
		return server{}, err
	}
	s.options = []gomail.Option{
		gomail.WithPort(s.port), gomail.WithTimeout(c.Timeout), gomail.WithTLSConfig(s.tls),
		gomail.WithTLSPolicy(transport.policy),
	}
	if c.HELO != "" {
		s.options = append(s.options, gomail.WithHELO(c.HELO))
	}
	credentials, err := c.credentials()
	s.options = append(s.options, credentials...)
	return s, err
}

func (c Config) tls(host string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	if config.RootCAs, err = x509.SystemCertPool(); err != nil {
		config.RootCAs = x509.NewCertPool()
	}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
	}
	return config, nil
}

// credentials prefer what never sends the password. It is never sent in plain text, except to this very machine.
func (c Config) credentials() ([]gomail.Option, error) {
	if (c.Username == "") != (c.PasswordFile == "") {
		return nil, errors.New("a user name for the SMTP server needs a password file, and the reverse")
	}
	if c.Username == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return nil, err
	}
	return []gomail.Option{
		gomail.WithUsername(c.Username), gomail.WithPassword(strings.TrimSpace(string(text))),
		gomail.WithOpportunisticSMTPAuth(
			gomail.SMTPAuthSCRAMSHA256PLUS, gomail.SMTPAuthSCRAMSHA1PLUS, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1,
			gomail.SMTPAuthCramMD5, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin),
	}, nil
}

// The longest ID that is put into a return path, a UUID, and what that leaves of the 64 characters before an @ (RFC 5321).
const (
	verpID       = 36
	maxVERPLocal = 64 - verpID - len("+")
)

// senders returns the default sender and where bounces go.
func (c Config) senders() (from netmail.Address, returnPath string, err error) {
	parsed, err := netmail.ParseAddress(c.From)
	if err != nil {
		return from, "", errors.New("the sender of mail must be a mailbox: Name <local@domain>")
	}
	if c.ReturnPath == "" && c.VERP {
		return from, "", errors.New("VERP needs a return path, to which the mails' IDs are added")
	}
	if c.ReturnPath == "" {
		return *parsed, "", nil
	}
	bounces, err := netmail.ParseAddress(c.ReturnPath)
	if err != nil {
		return from, "", errors.New("the return path of mail must be an address: local@domain")
	}
	if c.VERP && strings.LastIndexByte(bounces.Address, '@') > maxVERPLocal {
		return from, "", fmt.Errorf("the return path's part before the @ must have at most %d characters when mails' IDs are put behind it", maxVERPLocal)
	}
	return *parsed, bounces.Address, nil
}

// isLoopback says whether a host is this very machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
