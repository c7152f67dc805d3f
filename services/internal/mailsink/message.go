package mailsink

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/emersion/go-message/mail"
)

// Message is a mail that arrived.
type Message struct {
	// ID counts the mails that this sink has taken.
	ID       string
	Received time.Time
	// From and To are what the envelope said; bounces would go to From.
	From string
	To   []string
	// User is who had signed in, and TLS says whether the connection was secret.
	User string
	TLS  bool
	// UTF8 says whether it was handed over as one that only SMTPUTF8 can carry.
	UTF8 bool

	// Headers are decoded, in their order.
	Headers []Header
	Subject string
	Text    string
	HTML    string
	// Raw is the mail as it came.
	Raw []byte
	// Broken says why it could not be read, as far as it could not.
	Broken string
}

// Header is one line of a mail's head.
type Header struct{ Name, Value string }

// Header returns the first header of this name, in the spelling that mail is written with; empty when there is none.
func (m Message) Header(name string) string {
	for _, header := range m.Headers {
		if header.Name == name {
			return header.Value
		}
	}
	return ""
}

// Reached says whether the mail was for this address.
func (m Message) Reached(address string) bool {
	for _, to := range m.To {
		if to == address {
			return true
		}
	}
	return false
}

// Links are the web addresses in the text, in their order.
func (m Message) Links() []string { return link.FindAllString(m.Text, -1) }

// link ends before what belongs to the sentence.
var link = regexp.MustCompile(`https?://[^\s<>"']*[^\s<>"'.,;:!?)\]]`)

// parse reads a mail, as far as it can be read.
func parse(raw []byte) Message {
	m := Message{Raw: raw}
	reader, err := mail.CreateReader(bytes.NewReader(raw))
	if reader == nil {
		m.Broken = err.Error()
		return m
	}
	fields := reader.Header.Fields()
	for fields.Next() {
		value, err := fields.Text()
		if err != nil {
			value = fields.Value()
		}
		m.Headers = append(m.Headers, Header{fields.Key(), value})
	}
	m.Subject = m.Header("Subject")
	if err := m.parts(reader); err != nil {
		m.Broken = err.Error()
	}
	return m
}

// parts takes the first text and the first HTML.
func (m *Message) parts(reader *mail.Reader) error {
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		inline, ok := part.Header.(*mail.InlineHeader)
		if !ok {
			continue
		}
		body, err := io.ReadAll(part.Body)
		if err != nil {
			return err
		}
		media, _, _ := inline.ContentType()
		switch {
		case media == "text/html" && m.HTML == "":
			m.HTML = string(body)
		case media == "text/plain" && m.Text == "":
			m.Text = strings.ReplaceAll(string(body), "\r\n", "\n")
		}
	}
}
