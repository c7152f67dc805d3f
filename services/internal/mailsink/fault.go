package mailsink

import (
	"fmt"

	"github.com/emersion/go-smtp"
)

// Stage is a moment in the handing over of a mail.
type Stage int

const (
	// Sender is the answer to MAIL FROM.
	Sender Stage = iota + 1
	// Recipient is the answer to RCPT TO.
	Recipient
	// Content is the answer to the whole mail.
	Content
)

// Fault is what goes wrong with the mail to one recipient, or from one sender.
type Fault struct {
	At Stage
	// Until holds up the answer until it is closed; nil for no time.
	Until <-chan struct{}
	// Code is the answer, such as 550, and Status its enhanced form, such as 5.1.1. 0 for none: the mail is taken.
	Code   int
	Status [3]int
	// Cut closes the connection instead of an answer; the mail is kept all the same with Keep.
	Cut  bool
	Keep bool
	// Times is how often; 0 for ever.
	Times int
}

// Inject makes something go wrong from now on, with the recipient or, At Sender, the sender of this address. A second
// one replaces the first.
func (s *Sink) Inject(address string, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[fault.key(address)] = &fault
}

// Reject refuses a recipient with a code, as RCPT TO is refused where nobody has that address.
func (s *Sink) Reject(address string, code int) {
	s.Inject(address, Fault{At: Recipient, Code: code, Status: [3]int{code / 100, 1, 1}})
}

// Heal takes all faults away.
func (s *Sink) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

func (f Fault) key(address string) string {
	if f.At == Sender {
		return "from " + address
	}
	return address
}

// fault is what goes wrong with an address at a stage, and uses it up once.
func (s *Sink) fault(at Stage, address string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := Fault{At: at}.key(address)
	fault := s.faults[key]
	if fault == nil || fault.At != at {
		return Fault{}, false
	}
	if fault.Times > 0 {
		if fault.Times--; fault.Times == 0 {
			delete(s.faults, key)
		}
	}
	return *fault, true
}

// answer repeats the address, as many servers do.
func (f Fault) answer(address string) error {
	if f.Code == 0 {
		return nil
	}
	return &smtp.SMTPError{Code: f.Code, EnhancedCode: f.Status, Message: fmt.Sprintf("<%s> is refused here", address)}
}
