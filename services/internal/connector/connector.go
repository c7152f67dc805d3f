// Package connector is the common vocabulary of the tools that chapters already run their lists with: what is read
// from such a tool's list, what is written to it, and how it fails. The tools themselves are in packages of their own
// (mailman, listmonk), each a Remote.
//
// Three rules hold for all of them. A source that was not read whole is an error, never a short list: what is missing
// from a list may be removed. Nobody who left is subscribed again. Nothing but the configured list is read or changed,
// however far the credentials reach.
package connector

import "context"

// State is what the remote says of somebody on its list.
type State int

// The states. Which words of a remote map to which is said in its package.
const (
	Subscribed   State = iota + 1 // gets mail
	Pending                       // has to confirm, or somebody has to approve
	Unsubscribed                  // left, or was blocked; must not be subscribed again
	Bounced                       // the remote stopped sending, because mail came back
)

func (s State) String() string {
	switch s {
	case Subscribed:
		return "SUBSCRIBED"
	case Pending:
		return "PENDING"
	case Unsubscribed:
		return "UNSUBSCRIBED"
	case Bounced:
		return "BOUNCED"
	}
	return "UNKNOWN"
}

// Person is somebody on the remote list, as the remote spells it: neither canonical nor checked.
type Person struct {
	Address     string
	DisplayName string
	State       State
}

// Action is what a Change asks for.
type Action int

// The actions. Whoever is on the list in another state than Subscribed keeps that state, whatever the action.
const (
	// Add subscribes somebody who joined here since the last push, and gives them the name if they are there already.
	// It is not for people who were on the remote list before and are missing from it now: they left, and Mailman
	// does not remember that.
	Add Action = iota + 1
	// Rename changes the display name of somebody on the list, and does nothing where nobody is.
	Rename
	// Remove takes somebody off the list who may come back by an Add.
	Remove
	// Unsubscribe takes somebody off the list who asked for it. A remote that remembers who left will remember it.
	Unsubscribe
)

// Change is one person's change.
type Change struct {
	Action      Action
	Address     string // canonical
	DisplayName string // for Add and Rename; an empty one leaves the remote's as it is
}

// Result says what became of the changes of a push. Each change counts once.
type Result struct {
	Added     int
	Renamed   int
	Removed   int // by Remove or Unsubscribe
	Unchanged int // the remote was like that already
	// NameKept counts people whose name differs and stays, because the remote shares it with lists that are not ours.
	NameKept   int
	Suppressed []Outcome // not added, because the remote knows them as left, blocked, bounced or waiting to confirm
	Rejected   []Outcome // the remote cannot hold such an address
}

// Outcome is a change that was not made.
type Outcome struct {
	Address string // as in the change
	Reason  string // a sentence without the address
}

// Remote is one list of one tool. Its methods may be called by several goroutines, but two pushes to one list at a
// time gain nothing.
//
// Errors are *Error, or the context's when that ended; none contains an address or a secret.
type Remote interface {
	// Check says whether the URL, the credentials and the list are right. It changes nothing.
	Check(ctx context.Context) error

	// Pull hands over everybody on the remote list, in all states, in no particular order. On an error, its own or
	// yield's, what was handed over is worth nothing: the list was not read whole, or changed meanwhile.
	Pull(ctx context.Context, yield func(Person) error) error

	// Push makes the changes, at most one for an address, without a mail from the remote to the people concerned.
	// Making them again is harmless. On an error the result says what was done until then.
	Push(ctx context.Context, changes []Change) (Result, error)
}
