package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// The environment that goes before what is saved.
const (
	envURL       = "CHAPTERHOUSE_URL"
	envToken     = "CHAPTERHOUSE_TOKEN"
	envTokenFile = "CHAPTERHOUSE_TOKEN_FILE"
	envContext   = "CHAPTERHOUSE_CONTEXT"
	envData      = "CHAPTERHOUSE_DATA"
	envPlaintext = "CHAPTERHOUSE_PLAINTEXT"
)

// defaultData is where `up` keeps a platform that is not told otherwise.
const defaultData = ".chapterhouse"

// reach is where a command finds the REST interface, and as whom. A token has no flag: every user of a machine can read
// the command lines of all others.
type reach struct {
	Context  string        `placeholder:"NAME" help:"A saved context instead of the one in use ($$CHAPTERHOUSE_CONTEXT)."`
	Data     string        `placeholder:"DIR" help:"A local platform, running or not, instead of a context ($$CHAPTERHOUSE_DATA)."`
	RetryFor time.Duration `default:"2m" placeholder:"TIME" help:"How long to go on trying when the server cannot be reached."`
}

// place is what a reach comes down to: a local platform's directory, or an address.
type place struct {
	data string
	savedContext
}

// place decides, flags first, then the environment, then what is saved, then the local platform.
func (r *reach) place() (place, error) {
	saved, err := loadContexts()
	if err != nil {
		return place{}, err
	}
	switch {
	case r.Data != "" && r.Context != "":
		return place{}, usage("either --context or --data")
	case r.Data != "":
		return place{data: r.Data}, nil
	case r.Context != "":
		return placeOf(saved, r.Context)
	case os.Getenv(envURL) != "":
		return placeFromEnvironment()
	case os.Getenv(envContext) != "":
		return placeOf(saved, os.Getenv(envContext))
	case os.Getenv(envData) != "":
		return place{data: os.Getenv(envData)}, nil
	case saved.Current != "":
		return placeOf(saved, saved.Current)
	}
	if _, err := platform.KeysOf(defaultData); err == nil {
		return place{data: defaultData}, nil
	}
	return place{}, usage("where to? Save a context (chapterhouse context add), set %s, or name a local platform with --data", envURL)
}

// placeOf is a saved context; a token in the environment replaces its own.
func placeOf(saved contexts, name string) (place, error) {
	found, known := saved.Contexts[name]
	if !known {
		return place{}, usage("there is no context %q: see chapterhouse context list", name)
	}
	if file, token := os.Getenv(envTokenFile), os.Getenv(envToken); file != "" || token != "" {
		found.TokenFile, found.Token = file, token
	}
	return place{savedContext: found}, checkURL(found.URL, found.Plaintext)
}

// placeFromEnvironment takes the token from there too: a saved one belongs to the address that it was saved with.
func placeFromEnvironment() (place, error) {
	plain, _ := strconv.ParseBool(os.Getenv(envPlaintext))
	p := place{savedContext: savedContext{
		URL: strings.TrimRight(os.Getenv(envURL), "/"), Plaintext: plain,
		TokenFile: os.Getenv(envTokenFile), Token: os.Getenv(envToken),
	}}
	return p, checkURL(p.URL, plain)
}

// checkURL refuses what a token must not be sent to.
func checkURL(address string, plaintext bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https":
		return usage("the address must be like https://chapterhouse.example.org")
	case u.Scheme == "http" && !plaintext && !loopback(u.Hostname()):
		return usage("%s would carry the token unencrypted: use https, or allow it with --plaintext or %s=true", address, envPlaintext)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// door opens the REST interface of the place for one chapter's admin. The caller closes it.
func (r *reach) door(a *app, p place, chapter string) (*door, error) {
	if p.data != "" {
		return r.localDoor(a, p.data, chapter)
	}
	tokens := rpc.StaticToken(p.Token)
	if p.TokenFile != "" {
		tokens = rpc.TokenFile(p.TokenFile)
	}
	return &door{
		base:   func(context.Context) (string, error) { return p.URL, nil },
		tokens: tokens, client: newClient(), patience: r.RetryFor, close: func() {},
	}, nil
}

// localDoor is that of a local platform, which is started for the occasion when it does not run.
func (r *reach) localDoor(a *app, dir, chapter string) (*door, error) {
	session, err := platform.Attach(a.ctx, platform.Options{
		Data: dir, HTTP: "127.0.0.1:0", Version: version,
		Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, err
	}
	signer, err := session.Keys.Signer()
	if err == nil && session.Endpoints.REST == "" {
		err = errors.New("another command has started the platform, and without REST: try again when it is done")
	}
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	admin := operatorPerson(authz.Grant{Role: authz.ChapterAdmin, Scope: "chapters/" + chapter})
	return &door{
		base:   func(ctx context.Context) (string, error) { return baseOf(ctx, dir, session.Endpoints.REST) },
		tokens: rpc.MintedToken(signer, admin, clock.System{}), client: newClient(), patience: r.RetryFor,
		close: func() { _ = session.Close() },
	}, nil
}

// restartTimeout is how long a local platform's file may be missing before an attempt counts as failed.
const restartTimeout = time.Second

// baseOf is where a local platform is now, or was last: one that is away fails when it is called.
func baseOf(ctx context.Context, dir, last string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	if now, err := platform.AwaitEndpoints(ctx, dir); err == nil && now.REST != "" {
		return now.REST, nil
	}
	return last, nil
}

// flags repeats on another command line where this one goes.
func (r *reach) flags() string {
	switch {
	case r.Data != "":
		return " --data " + quoted(r.Data)
	case r.Context != "":
		return " --context " + quoted(r.Context)
	}
	return ""
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=") == "" && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// chapterFlag is a reach for what belongs to a chapter.
type chapterFlag struct {
	reach

	Chapter string `env:"CHAPTERHOUSE_CHAPTER" placeholder:"CHAPTER" help:"The chapter's id; without it that of the context."`
}

// enter opens the door and says which chapter is meant.
func (c *chapterFlag) enter(a *app) (d *door, p place, chapter string, err error) {
	if p, err = c.place(); err != nil {
		return nil, p, "", err
	}
	chapter = chapterID(c.Chapter)
	if chapter == "" {
		chapter = p.Chapter
	}
	if chapter == "" {
		return nil, p, "", usage("which chapter? Give --chapter")
	}
	d, err = c.door(a, p, chapter)
	return d, p, chapter, err
}

// listFlags is a reach for what belongs to a list.
type listFlags struct {
	chapterFlag

	List string `required:"" placeholder:"LIST" help:"The list's id: members, or that of a mailing list."`
}

func (l *listFlags) enterList(a *app) (d *door, p place, list string, err error) {
	d, p, chapter, err := l.enter(a)
	return d, p, listName(chapter, l.List), err
}

func listName(chapter, list string) string {
	return fmt.Sprintf("chapters/%s/lists/%s", chapter, filepath.Base(list))
}
