package regional

import "time"

// Config is every setting of the regional service that is not an address or a secret.
type Config struct {
	Sites []string `help:"Local sites whose chapters are shown in the tree." default:"main" env:"CHAPTERHOUSE_SITES"`

	// GapWait and CompareEvery are the bus's; tests shorten them.
	GapWait      time.Duration `hidden:"" default:"2s"`
	CompareEvery time.Duration `hidden:"" default:"10m"`
}

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	if len(c.Sites) == 0 {
		c.Sites = []string{"main"}
	}
	return c
}
