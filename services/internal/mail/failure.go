package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	gomail "github.com/wneessen/go-mail"
)

// Kind says what the sender of a mail can do about a failure.
type Kind int

const (
	// Temporary: the mail has not gone out, and another try may succeed. It is for whatever is not the mail's own fault:
	// a server that is away or overloaded, but also one that refuses our credentials or our sender.
	Temporary Kind = iota + 1
	// Permanent: the mail has not gone out, and never will as it is.
	Permanent
	// Uncertain: the mail was handed over whole, and the connection ended before the answer. It may or may not have gone
	// out, so that another try may be a second copy.
	Uncertain
)

func (k Kind) String() string {
	switch k {
	case Temporary:
		return "temporary"
	case Permanent:
		return "permanent"
	case Uncertain:
		return "uncertain"
	}
	return "unknown"
}

// Where a mail failed.
const (
	atSettings = "settings"
	atCompose  = "compose"
	atConnect  = "connect"
	atMail     = "MAIL"
	atRcpt     = "RCPT"
	atData     = "DATA"
	atEnd      = "end of DATA"
)

// Error is why a mail was not sent. Its text holds no address and nothing that a server said beside numbers, for it is
// logged, and servers like to repeat the address.
type Error struct {
	Kind Kind
	// At is where it failed: settings, compose, connect, MAIL, RCPT, DATA, end of DATA.
	At string
	// Code is the server's answer (RFC 5321, 4.2), 0 where it gave none.
	Code int
	// Status is the enhanced status code (RFC 3463), such as 5.1.1, where the server gave one.
	Status string
	// Reason says it in words where the server said nothing.
	Reason string

	cause error // the caller's context, or nil
}

// ErrNotConfigured says that there is no server to hand mail to.
var ErrNotConfigured = &Error{Kind: Temporary, At: atSettings, Reason: "no SMTP server is configured"}

func (e *Error) Error() string {
	text := fmt.Sprintf("mail not sent (%s, at %s)", e.Kind, e.At)
	if e.Kind == Uncertain {
		text = fmt.Sprintf("mail may not be sent (%s, at %s)", e.Kind, e.At)
	}
	if e.Code != 0 {
		text += fmt.Sprintf(": %d", e.Code)
	}
	if e.Status != "" {
		text += " " + e.Status
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Unwrap returns the caller's context's error, when that ended the try.
func (e *Error) Unwrap() error { return e.cause }

// badMailbox are the statuses of RFC 3463 and RFC 7505 by which nobody can be reached at an address.
var badMailbox = []string{"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"}

// Bounce says whether the server knows that nobody is reached at the address, now or later. A mail that is refused for
// good need not be one: spam filters and relays that do not know us refuse everybody.
func (e *Error) Bounce() bool {
	if e.Kind != Permanent {
		return false
	}
	if e.Status != "" && e.Status != "5.0.0" {
		return slices.Contains(badMailbox, e.Status)
	}
	return e.At == atRcpt && (e.Code == 550 || e.Code == 551 || e.Code == 553)
}

// KindOf is the kind of an error of Send.
func KindOf(err error) Kind {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure.Kind
	}
	return Temporary
}

// unwritable refuses a mail that cannot be written.
func unwritable(format string, args ...any) *Error {
	return &Error{Kind: Permanent, At: atCompose, Reason: fmt.Sprintf(format, args...)}
}

// enhancedStatus is where a server's answer has it (RFC 2034).
var enhancedStatus = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}\b`)

// isAnswer says whether the server answered, be it with a refusal.
func isAnswer(err error) bool {
	_, refused := errors.AsType[*textproto.Error](err)
	return err == nil || refused
}

// sendFailure is why a mail was not sent. One that failed before its final dot was never accepted (RFC 5321, 4.1.1.4).
func sendFailure(at string, err error, coded bool) *Error {
	failure := &Error{Kind: Temporary, At: at}
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		failure.Code = answer.Code
		if coded {
			failure.Status = enhancedStatus.FindString(answer.Msg)
		}
	}
	if failure.Code == 0 {
		failure.Reason = "the connection ended"
	}
	switch {
	case failure.At == atEnd && failure.Code == 0:
		failure.Kind = Uncertain
	case failure.Code >= 500 && slices.Contains([]string{atRcpt, atData, atEnd}, failure.At):
		failure.Kind = Permanent
	}
	return failure
}

// connectFailure is why no connection was made. What a server refuses before it knows the recipient is no verdict on
// the mail: somebody has to mend the settings, and until then nobody loses anything.
func connectFailure(err error) *Error {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure
	}
	failure := &Error{Kind: Temporary, At: atConnect, Reason: "the connection could not be set up"}
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		failure.Code, failure.Reason = answer.Code, ""
		return failure
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		failure.cause, failure.Reason = err, "gave up waiting"
	}
	// These say nothing but hosts, ports and what is wrong with them.
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		failure.Reason = "the server's certificate is not valid for its name"
	} else if network, ok := errors.AsType[*net.OpError](err); ok {
		failure.Reason = network.Error()
	} else if errors.Is(err, io.EOF) {
		failure.Reason = "the server closed the connection"
	} else if strings.HasPrefix(err.Error(), "STARTTLS mode set") {
		failure.Reason = "the server offers no STARTTLS"
	} else if errors.Is(err, gomail.ErrNoSupportedAuthDiscovered) || strings.HasPrefix(err.Error(), "server does not support SMTP AUTH") {
		failure.Reason = "the server offers no way to sign in that keeps the password safe"
	}
	return failure
}
