package local

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// membersID is the list that every chapter has.
const membersID = "members"

// The ids in resource names. The requests' rules have checked their form.

func chapterName(id string) string       { return "chapters/" + id }
func regionName(id string) string        { return "regions/" + id }
func listName(chapter, id string) string { return "chapters/" + chapter + "/lists/" + id }

func regionID(name string) string { return strings.TrimPrefix(name, "regions/") }

// chapterID takes the chapter out of any name below it.
func chapterID(name string) string { return element(name, 1) }

// listIDs takes chapter and list out of a list's name or any name below it.
func listIDs(name string) (chapter, list string) { return element(name, 1), element(name, 3) }

// listOf cuts what follows the list off a name.
func listOf(name string) string { return listName(listIDs(name)) }

func element(name string, i int) string {
	parts := strings.Split(name, "/")
	if i >= len(parts) {
		return ""
	}
	return parts[i]
}

// entryToken takes the token out of an entry's name; false for what can be no entry's.
func entryToken(name string) ([]byte, bool) {
	token, err := address.ParseEntryID(element(name, 5))
	return token[:], err == nil
}

// entryName is empty for what is no token: a rejected row's.
func entryName(list string, token []byte) string {
	parsed, err := address.TokenFromBytes(token)
	if err != nil {
		return ""
	}
	return list + "/entries/" + parsed.EntryID()
}

// syncID takes the id out of a sync's name, or of a name below it.
func syncID(name string) (uuid.UUID, bool) {
	id, err := uuid.Parse(element(name, 5))
	return id, err == nil
}

func syncName(list string, id uuid.UUID) string { return list + "/syncs/" + id.String() }

func etag(epoch, version int64) string { return fmt.Sprintf("%d-%d", epoch, version) }

func notFound(name string) *rpc.Error {
	return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "%s does not exist", name).With("resource", name)
}

func orNotFound(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(name)
	}
	return err
}

func alreadyExists(name string) *rpc.Error {
	return rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s exists already", name).With("resource", name)
}

// readable is printable, but for line breaks and tabs.
func readable(field, text string) error {
	return printable(field, strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(text))
}

// printable refuses control characters, which no name holds on purpose and of which Postgres cannot store one.
func printable(field string, texts ...string) error {
	for _, text := range texts {
		if strings.ContainsFunc(text, unicode.IsControl) {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, field, "holds a control character")
		}
	}
	return nil
}
