package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

// dataFlag names a local platform.
type dataFlag struct {
	Data string `default:".chapterhouse" env:"CHAPTERHOUSE_DATA" placeholder:"DIR" help:"Data directory of the local platform."`
}

type tokenCommand struct {
	dataFlag

	Role    string        `required:"" help:"international_staff, auditor, coordinator, chapter_admin, member or organization_coordinator."`
	Scope   string        `help:"Where the role is held: regions/..., chapters/..., members/... or organizations/...; nothing for staff and auditors."`
	Subject string        `placeholder:"NAME" help:"Who it is. Without it each role and scope is a person of its own."`
	TTL     time.Duration `name:"ttl" default:"24h" help:"How long the token is valid."`
}

// Run prints the token and nothing else.
func (c *tokenCommand) Run(a *app) error {
	keys, err := platform.KeysOf(c.Data)
	if err != nil {
		return err
	}
	principal := platform.Person(authz.Role(c.Role), c.Scope, c.Subject)
	token, err := keys.Mint(principal, c.TTL, clock.System{}.Now())
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(a.stdout, token)
	return err
}

type keysCommand struct {
	Init keysInitCommand `cmd:"" help:"Make what is missing in a directory; what is there stays."`
}

type keysInitCommand struct {
	Dir   string        `arg:"" help:"Where the files go."`
	Sites []string      `default:"main" help:"The local sites."`
	TTL   time.Duration `name:"ttl" default:"8760h" help:"How long the tokens are valid that the services show each other."`
}

// Run makes the keys and says what is for whom.
func (c *keysInitCommand) Run(a *app) error {
	keys, err := platform.MakeKeys(c.Dir, c.Sites)
	if err != nil {
		return err
	}
	if err := keys.MintServiceTokens(c.Sites, c.TTL, clock.System{}.Now()); err != nil {
		return err
	}
	for _, file := range keys.Describe() {
		if _, err := fmt.Fprintf(a.stderr, "%-36s %s\n", filepath.Join(c.Dir, file.Name), file.Purpose); err != nil {
			return err
		}
	}
	return nil
}
