package regional

import "time"

// Config is every setting of the regional service that is not an address or a secret.
type Config struct {
	Sites         []string      `help:"Local sites whose chapters are shown in the tree." default:"main" env:"CHAPTERHOUSE_SITES"`
	RelayDeadline time.Duration `help:"How long a region that does nothing holds up an announcement of a region, unless it says otherwise." default:"168h"`

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
	if c.RelayDeadline == 0 {
		c.RelayDeadline = 7 * 24 * time.Hour
	}
	if c.Tick == 0 {
		c.Tick = time.Second
	}
	return c
}
