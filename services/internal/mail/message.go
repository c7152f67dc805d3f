package mail

import (
	"maps"
	"net/mail"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

// Message is one mail to one person.
type Message struct {
	// From is completed from the settings: without an address it is the site's, under the name given here.
	From mail.Address
	// ReplyTo is who gets the answers, the sender when empty.
	ReplyTo mail.Address
	To      mail.Address
	Subject string
	// Text is needed; HTML is for those who see no text.
	Text string
	HTML string
	// Language of both (BCP 47).
	Language string

	// ID is the Message-ID without its angle brackets, unique in the world (Mailer.Domain helps). Whoever makes it from
	// what the mail is about lets a second copy be recognised. Random when empty.
	ID string

	// ListID names the list for ever (RFC 2919), such as announce.golang-paris.example.org, and ListName for people.
	ListID   string
	ListName string
	// Unsubscribe is the https URL by which this person leaves (RFC 2369).
	Unsubscribe string
	// OneClick says that a POST there suffices (RFC 8058).
	OneClick bool
	// Automatic says that nobody wrote it to this person: a confirmation, a notice (RFC 3834).
	Automatic bool

	// Headers are any others, by name.
	Headers map[string]string

	// Form has been written for many: of all fields above only To, ID and Unsubscribe are read then.
	Form *Form
}

const (
	maxHeaderBytes = 900 // a line may have 998 (RFC 5322, 2.1.1), its name included
	maxLineBytes   = 990
	maxBodyBytes   = 10 << 20
)

var (
	listID     = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$`)
	messageID  = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+/=?^_{|}~.-]+@[A-Za-z0-9.-]+$`)
	language   = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)
	headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,60}$`)
	// own are the headers that have a field above or are the mailer's.
	own = []string{
		"From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type",
		"Content-Transfer-Encoding", "Content-Language", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
		"Auto-Submitted", "Precedence", "Dkim-Signature", "Return-Path", "Received",
	}
)

// compose writes a mail in the library's form, or says what keeps it from being one.
func (m *Mailer) compose(message Message) (*gomail.Msg, error) {
	if message.From.Address == "" {
		message.From.Address = m.from.Address
		if message.From.Name == "" {
			message.From.Name = m.from.Name
		}
	}
	if err := message.check(); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(&message.From)
	msg.ToMailAddress(&message.To)
	if message.ReplyTo.Address != "" {
		msg.ReplyToMailAddress(&message.ReplyTo)
	}
	msg.SetMessageIDWithValue(message.ID)
	msg.SetDateWithValue(m.clock.Now())
	message.setHeaders(msg)
	msg.SetBodyString(gomail.TypeTextPlain, message.Text)
	if message.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, message.HTML)
	}
	return msg, nil
}

func (message Message) setHeaders(msg *gomail.Msg) {
	for name, value := range message.Headers {
		msg.SetGenHeader(gomail.Header(name), value)
	}
	msg.Subject(message.Subject)
	if message.Language != "" {
		msg.SetGenHeader(gomail.HeaderContentLang, message.Language)
	}
	// Precedence keeps absence notices of before RFC 3834 quiet, and Outlook's by its own header.
	msg.SetGenHeader(gomail.HeaderPrecedence, "bulk")
	msg.SetGenHeader(gomail.HeaderXAutoResponseSuppress, "All")
	if message.Automatic {
		msg.SetGenHeader("Auto-Submitted", "auto-generated")
	}
	if message.ListID != "" {
		msg.SetGenHeader(gomail.HeaderPrecedence, "list")
		msg.SetGenHeader("List-Id", listHeader(message.ListName, message.ListID))
	}
	if message.Unsubscribe != "" {
		msg.SetListUnsubscribe(message.Unsubscribe)
	}
	if message.OneClick {
		msg.SetListUnsubscribePost()
	}
}

// listHeader puts the name in front as it is put before an address: quoted or encoded where that is needed.
func listHeader(name, id string) string {
	if name == "" {
		return "<" + id + ">"
	}
	phrase := (&mail.Address{Name: name, Address: "list@example.org"}).String()
	return strings.TrimSuffix(phrase, "<list@example.org>") + "<" + id + ">"
}

// check refuses what would be no mail, or another one than was meant.
func (message Message) check() error {
	if err := message.checkOwn(); err != nil {
		return err
	}
	if err := checkMailbox("From", message.From); err != nil {
		return err
	}
	if message.ReplyTo != (mail.Address{}) {
		if err := checkMailbox("Reply-To", message.ReplyTo); err != nil {
			return err
		}
	}
	lines := map[string]string{"Subject": message.Subject, "the list's name": message.ListName}
	maps.Copy(lines, message.Headers)
	for name, value := range lines {
		if !oneLine(value) {
			return unwritable("%s has a line break, a control character, or more than %d bytes", printable(name), maxHeaderBytes)
		}
	}
	for name := range message.Headers {
		if !headerName.MatchString(name) || slices.Contains(own, textproto.CanonicalMIMEHeaderKey(name)) {
			return unwritable("%s is no header that can be set", printable(name))
		}
	}
	switch {
	case message.Subject == "":
		return unwritable("there is no subject")
	case message.Text == "":
		return unwritable("there is no text")
	case len(message.Text)+len(message.HTML) > maxBodyBytes:
		return unwritable("it has more than %d bytes", maxBodyBytes)
	case !utf8.ValidString(message.Text + message.HTML):
		return unwritable("its text is not UTF-8")
	case message.Language != "" && !language.MatchString(message.Language):
		return unwritable("its language is none")
	}
	return message.checkList()
}

// checkOwn checks what a mail has by itself when it is one of many.
func (message Message) checkOwn() error {
	if err := checkMailbox("To", message.To); err != nil {
		return err
	}
	switch {
	case message.ID != "" && (!messageID.MatchString(message.ID) || len(message.ID) > 250):
		return unwritable("its ID is none")
	case message.Unsubscribe != "" && !isLink(message.Unsubscribe):
		return unwritable("the link to unsubscribe must be https, or http on this machine")
	}
	return nil
}

func checkMailbox(name string, a mail.Address) error {
	if !oneLine(a.Name) || len(a.Address) > 320 || domainOf(a.Address) == "" {
		return unwritable("%s is no mailbox", name)
	}
	// The library takes it as it is, and would quote what is none. No address of ours needs quotes (docs/addresses.md).
	if parsed, err := mail.ParseAddress(a.Address); err != nil || parsed.Address != a.Address {
		return unwritable("%s is no mailbox", name)
	}
	return nil
}

func (message Message) checkList() error {
	switch {
	case message.ListID != "" && (!listID.MatchString(message.ListID) || len(message.ListID) > 255):
		return unwritable("the list's ID is none: labels with dots between them")
	case message.ListID == "" && message.ListName != "":
		return unwritable("a list's name needs the list's ID")
	case message.OneClick && message.Unsubscribe == "":
		return unwritable("one click needs a link to click")
	}
	return nil
}

// isLink takes http only from the machine itself: RFC 8058 demands https, and a platform on one machine has none.
func isLink(link string) bool {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || u.User != nil || len(link) > maxHeaderBytes {
		return false
	}
	for _, c := range link {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>",`, c) {
			return false
		}
	}
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())
}

func oneLine(text string) bool {
	return len(text) <= maxHeaderBytes && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// printable keeps what a caller names from breaking the line of a log.
func printable(name string) string {
	if headerName.MatchString(name) || name == "the list's name" {
		return name
	}
	return "a header"
}

func domainOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return ""
	}
	return address[at+1:]
}

// beyondASCII says whether an address needs SMTPUTF8 (RFC 6531).
func beyondASCII(addresses ...string) bool {
	return slices.ContainsFunc(addresses, func(address string) bool {
		return strings.ContainsFunc(address, func(r rune) bool { return r > unicode.MaxASCII })
	})
}
