package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/term"
)

type contextCommand struct {
	Add    contextAddCommand    `cmd:"" help:"Save a context, or change one. The token is read from a file, from stdin, or at a prompt."`
	Use    contextUseCommand    `cmd:"" help:"Make a context the one in use."`
	List   contextListCommand   `cmd:"" help:"List the contexts, without their tokens."`
	Remove contextRemoveCommand `cmd:"" help:"Forget a context and its token."`
}

type contextAddCommand struct {
	Name      string `arg:"" help:"What to call it."`
	URL       string `name:"url" required:"" placeholder:"URL" help:"Where the platform is: https://..."`
	TokenFile string `placeholder:"FILE" help:"Holds the token, and is read at every call. Without it the token is read from stdin now, and saved."`
	Chapter   string `placeholder:"CHAPTER" help:"The chapter that is meant where none is named."`
	Source    string `placeholder:"SOURCE" help:"The source that is meant where a sync names none."`
	Plaintext bool   `help:"Allow http where the network encrypts."`
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Run saves the context. The first one is the one in use.
func (c *contextAddCommand) Run(a *app) error {
	if !contextName.MatchString(c.Name) {
		return usage("%q is no name for a context: letters, digits, dots, dashes", c.Name)
	}
	added := savedContext{
		URL: strings.TrimRight(c.URL, "/"), Plaintext: c.Plaintext, Chapter: chapterID(c.Chapter), Source: c.Source,
	}
	if err := checkURL(added.URL, c.Plaintext); err != nil {
		return err
	}
	saved, err := loadContexts()
	if err != nil {
		return err
	}
	if err := c.readToken(a, &added); err != nil {
		return err
	}
	saved.Contexts[c.Name] = added
	if saved.Current == "" {
		saved.Current = c.Name
	}
	if err := saved.save(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stderr, "saved in %s; in use: %s\n", contextsFile(), saved.Current)
	return err
}

func (c *contextAddCommand) readToken(a *app, added *savedContext) (err error) {
	if c.TokenFile != "" {
		if added.TokenFile, err = filepath.Abs(c.TokenFile); err != nil {
			return err
		}
		_, err = os.Stat(added.TokenFile)
		return err
	}
	token, err := secret(a, "Token (not shown): ")
	if err != nil {
		return err
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return usage("what was read is no token: it must be one word")
	}
	if token == "" {
		_, err = fmt.Fprintf(a.stderr, "no token: %s or %s has to give one at each call\n", envToken, envTokenFile)
	}
	added.Token = token
	return err
}

// tokenBytes is more than any token has.
const tokenBytes = 64 << 10

// secret asks on a terminal, without echo; elsewhere it is all of stdin.
func secret(a *app, prompt string) (string, error) {
	fd := int(a.stdin.Fd())
	if !term.IsTerminal(fd) {
		text, err := io.ReadAll(io.LimitReader(a.stdin, tokenBytes))
		return strings.TrimSpace(string(text)), err
	}
	_, _ = io.WriteString(a.stderr, prompt)
	text, err := term.ReadPassword(fd)
	_, _ = fmt.Fprintln(a.stderr)
	return strings.TrimSpace(string(text)), err
}

// contextArgument is the name of a saved context; completion knows it by its type.
type contextArgument string

type contextUseCommand struct {
	Name contextArgument `arg:"" help:"Which."`
}

// Run changes which context is in use.
func (c *contextUseCommand) Run(*app) error {
	return changeContexts(string(c.Name), func(saved *contexts) { saved.Current = string(c.Name) })
}

type contextRemoveCommand struct {
	Name contextArgument `arg:"" help:"Which."`
}

// Run forgets a context. When it was the one in use, none is then.
func (c *contextRemoveCommand) Run(*app) error {
	return changeContexts(string(c.Name), func(saved *contexts) {
		delete(saved.Contexts, string(c.Name))
		if saved.Current == string(c.Name) {
			saved.Current = ""
		}
	})
}

func changeContexts(name string, change func(*contexts)) error {
	saved, err := loadContexts()
	if err != nil {
		return err
	}
	if _, known := saved.Contexts[name]; !known {
		return usage("there is no context %q: see chapterhouse context list", name)
	}
	change(&saved)
	return saved.save()
}

type contextListCommand struct{ output }

// shownContext is what may be seen of a context.
type shownContext struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	URL     string `json:"url"`
	Chapter string `json:"chapter"`
	Source  string `json:"source"`
	Token   string `json:"token"` // where it is, never what it is
}

// Run lists the contexts by name.
func (c *contextListCommand) Run(a *app) error {
	saved, err := loadContexts()
	if err != nil {
		return err
	}
	var shown []shownContext
	for _, name := range slices.Sorted(maps.Keys(saved.Contexts)) {
		one := saved.Contexts[name]
		shown = append(shown, shownContext{name, name == saved.Current, one.URL, one.Chapter, one.Source, one.tokenPlace()})
	}
	return printTable(c.output, a.stdout, table[shownContext]{
		head: []string{"context", "in use", "url", "chapter", "source", "token"},
		row: func(s shownContext) []string {
			return []string{s.Name, yes(s.Current), s.URL, s.Chapter, s.Source, s.Token}
		},
		items: shown,
	})
}

func (s savedContext) tokenPlace() string {
	switch {
	case s.TokenFile != "":
		return s.TokenFile
	case s.Token != "":
		return "saved"
	}
	return "none"
}
