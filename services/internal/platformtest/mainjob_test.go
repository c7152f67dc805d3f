package platformtest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The story's addresses and names carry marks, by which they are found wherever they do not belong.
const (
	secretDomain = "zq-secret.example"
	secretName   = "Zqsecretname"
)

func story(door string) variables {
	return variables{
		"x": door, "d": secretDomain, "secret": secretName,
		"soon":    time.Now().UTC().AddDate(0, 0, 2).Format(time.RFC3339),
		"soonish": time.Now().UTC().AddDate(0, 1, 0).Truncate(24 * time.Hour).Format(time.RFC3339),
		"u":       uuid.NewSHA1(uuid.NameSpaceURL, []byte(door)).String(), "v": uuid.NewSHA1(uuid.NameSpaceURL, []byte(door+" in public")).String(),
	}
}

// TestMainJob is the main job, over gRPC and over REST with the same expectations.
func TestMainJob(t *testing.T) {
	t.Parallel()
	t.Run("OneProcess", func(t *testing.T) {
		t.Parallel()
		o := onePlatform(t)
		errs := &recorder{}
		o.tell(t, errs)
		t.Run("KeepsSecrets", func(t *testing.T) {
			wantNoSecret(t, "the log", o.log.String())
			wantNoSecret(t, "errors", errs.String())
			wantNoSecretInStreams(t, o.streams(t))
		})
	})
	t.Run("SeparateProcesses", func(t *testing.T) {
		t.Parallel()
		d := deploy(t)
		errs := &recorder{}
		d.tell(t, errs)
		t.Run("KeepsSecrets", func(t *testing.T) {
			wantNoSecret(t, "the logs", d.logs())
			wantNoSecret(t, "errors", errs.String())
			wantNoSecretInStreams(t, d.streams(t))
			d.wantNoSecretAbove(t)
		})
		t.Run("AndItsOwnCredentials", d.credentials)
	})
}

// tell tells the whole story at each door, each with chapters and members of its own.
func (f *federation) tell(t *testing.T, errs *recorder) {
	t.Helper()
	for _, d := range f.doors(errs) {
		t.Run(d.name(), func(t *testing.T) {
			vars := story(map[string]string{"GRPC": "g", "REST": "r"}[d.name()])
			play(t, d, slices.Concat(foundation, arranging, register, counting, keeping, leaving, concerning, announcing, digesting, noticing, living, registering), vars)
			t.Run("NobodyElseReachesEntries", func(t *testing.T) { wantEntriesClosed(t, d, vars) })
		})
	}
}

// wantEntriesClosed tries every call that leads to entries as everybody but the chapter's admin.
func wantEntriesClosed(t *testing.T, d door, vars variables) {
	t.Helper()
	for _, call := range slices.Concat(entryCalls, leavingCalls) {
		for _, who := range entryReaders {
			call.as, call.fails = who, denied()
			t.Run(call.does+"As"+string(who.role), func(t *testing.T) { take(t, d, vars.apply(call), vars) })
		}
	}
}
