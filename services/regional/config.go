package regional

import (
	"errors"
	"slices"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
)

// Config is every setting of the regional service that is not an address or a secret.
type Config struct {
	Sites         []string      `help:"Local sites whose chapters are shown in the tree." default:"main" env:"CHAPTERHOUSE_SITES"`
	RelayDeadline time.Duration `help:"How long a region that does nothing holds up an announcement of a region, unless it says otherwise." default:"168h"`

	AnswerDue   time.Duration `help:"How long a region may take to answer a concern." default:"336h"`
	RemindAgain time.Duration `help:"How long after a reminder of a concern the next one comes." default:"168h"`
	RemindTick  time.Duration `help:"How often concerns are looked for whose answer is due." default:"1m"`

	PublicURL   string        `help:"Where the links in mails lead: the gateway as the world sees it." placeholder:"URL" env:"CHAPTERHOUSE_PUBLIC_URL"`
	DigestDay   string        `help:"On which day of the week coordinators get their digest." enum:"monday,tuesday,wednesday,thursday,friday,saturday,sunday" default:"monday"`
	DigestHour  int           `help:"At which hour of it, 0 to 23 UTC." default:"7"`
	SilentAfter time.Duration `help:"How long nothing is heard of a chapter before it is called silent." default:"2160h"`

	Mail mail.Config `embed:"" prefix:"mail-"`

	// Tick is how often what is due by itself is looked for; tests shorten it.
	Tick time.Duration `hidden:"" default:"1s"`
	// GapWait and CompareEvery are the bus's; tests shorten them.
	GapWait      time.Duration `hidden:"" default:"2s"`
	CompareEvery time.Duration `hidden:"" default:"10m"`
}

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	if len(c.Sites) == 0 {
		c.Sites = []string{"main"}
	}
	orDefault(&c.AnswerDue, 14*24*time.Hour)
	orDefault(&c.RemindAgain, 7*24*time.Hour)
	orDefault(&c.RemindTick, time.Minute)
	orDefault(&c.PublicURL, "http://127.0.0.1:8080")
	orDefault(&c.DigestDay, "monday")
	orDefault(&c.SilentAfter, 90*24*time.Hour)
	if c.RelayDeadline == 0 {
		c.RelayDeadline = 7 * 24 * time.Hour
	}
	if c.Tick == 0 {
		c.Tick = time.Second
	}
	return c
}

// weekdays are the values of DigestDay, as time.Weekday numbers them.
var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// Validate is called by the command line.
func (c Config) Validate() error {
	if c.DigestHour < 0 || c.DigestHour > 23 {
		return errors.New("the digest's hour must be 0 to 23")
	}
	return nil
}

// nextDigest is when the next weekly digest after a moment is due.
func (s *Service) nextDigest(after time.Time) time.Time {
	after = after.UTC()
	days := slices.Index(weekdays, s.config.DigestDay) - int(after.Weekday())
	next := time.Date(after.Year(), after.Month(), after.Day()+days, s.config.DigestHour, 0, 0, 0, time.UTC)
	for !next.After(after) {
		next = next.AddDate(0, 0, 7)
	}
	for next.AddDate(0, 0, -7).After(after) {
		next = next.AddDate(0, 0, -7)
	}
	return next
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
