package connector

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what helps.
type Kind int

// The kinds.
const (
	Unreachable Kind = iota + 1 // no connection, a time-out, an answer cut off, 5xx, 429: later
	Changed                     // the list changed while it was read: later
	Busy                        // the remote does something that it does not do twice at a time: later
	Credentials                 // refused: a person has to set others, or to give them rights
	ListMissing                 // there is no such list: a person has to set another
	WrongURL                    // not the API that it should be: a person has to set another
	Unexpected                  // the API answered what it should not: a person has to look
)

// The settings that an Error can name.
const (
	SettingURL         = "url"
	SettingCredentials = "credentials"
	SettingList        = "list"
)

// Error is why a remote could not be used.
type Error struct {
	Kind    Kind
	Setting string // to be fixed: one of the Setting constants, empty where none is to blame
	Text    string // a sentence for the list's admin, without addresses and secrets
	cause   error
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.cause }

// Retry says whether trying again later may help; otherwise a person has to act.
func (e *Error) Retry() bool {
	return e.Kind == Unreachable || e.Kind == Changed || e.Kind == Busy
}

// Retry says whether trying again later may help. An error that is not of this package is a mistake of ours, or a
// context's, and may pass.
func Retry(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.Retry()
}

// Errorf makes an Error. Its arguments are numbers, host names and settings, never anything out of an answer.
func Errorf(kind Kind, setting, format string, args ...any) *Error {
	return &Error{Kind: kind, Setting: setting, Text: fmt.Sprintf(format, args...)}
}
