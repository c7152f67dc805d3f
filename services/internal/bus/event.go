package bus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

// maxData leaves room for headers below the 1 MiB at which NATS servers refuse a message.
const maxData = 960 << 10

// Version orders the events of one aggregate.
type Version struct {
	// Epoch is the time in Unix microseconds at which the aggregate's numbering began. A list
	// made anew or a restored database begins a higher one.
	Epoch int64
	// Number counts the changes within the epoch from 1, without gaps.
	Number int64
}

// Less reports whether v comes before w.
func (v Version) Less(w Version) bool {
	return v.Epoch < w.Epoch || v.Epoch == w.Epoch && v.Number < w.Number
}

// IsZero reports whether v is the version of nothing.
func (v Version) IsZero() bool { return v == Version{} }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Number) }

// Event is one change of an aggregate, or a notice.
type Event struct {
	// Subject is what follows ch.<tier>.<site>., such as "list.golang-paris.members.changed".
	// Events with the same second element are applied one after the other.
	Subject string
	// Aggregate is the resource whose copy the event changes, such as
	// "chapters/golang-paris/lists/members"; empty for a notice, which is delivered once and has no
	// version.
	Aggregate string
	// Kind is the first element of Subject; Append fills it in.
	Kind    string
	Version Version
	// Part of Parts from 1, for a version that is too large for one message; 0 of 0 is 1 of 1.
	Part, Parts int
	// Data is at most 960 KiB when encoded.
	Data proto.Message

	// ID and Time are set on received events: the outbox row's id and when it was written.
	ID   uuid.UUID
	Time time.Time
}

func (e Event) normal() Event {
	e.Kind = kindOf(e.Subject)
	if e.Parts == 0 && e.Part == 0 {
		e.Part, e.Parts = 1, 1
	}
	return e
}

func kindOf(subject string) string {
	kind, _, _ := strings.Cut(subject, ".")
	return kind
}

func (e Event) check(given string) error {
	switch {
	case !validSubject(e.Subject):
		return fmt.Errorf("subject %q is not of the form kind.id.event", e.Subject)
	case given != "" && given != e.Kind:
		return fmt.Errorf("kind %q differs from the subject %s", given, e.Subject)
	case e.Aggregate == "" && (e.Parts != 1 || !e.Version.IsZero()):
		return fmt.Errorf("%s: a notice has neither version nor parts", e.Subject)
	case e.Aggregate != "" && (e.Version.Epoch < 1 || e.Version.Number < 1):
		return fmt.Errorf("%s of %s: version %s is not positive", e.Subject, e.Aggregate, e.Version)
	case e.Part < 1 || e.Part > e.Parts:
		return fmt.Errorf("%s of %s: part %d of %d", e.Subject, e.Aggregate, e.Part, e.Parts)
	}
	return nil
}

var errNoData = errors.New("an event needs data")

// validSubject accepts at least two non-empty elements of printable ASCII without wildcards.
func validSubject(subject string) bool {
	elements := strings.Split(subject, ".")
	for _, element := range elements {
		if element == "" || strings.ContainsFunc(element, func(r rune) bool {
			return r <= ' ' || r > '~' || r == '*' || r == '>'
		}) {
			return false
		}
	}
	return len(elements) >= 2
}
