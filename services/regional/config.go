package regional

import "time"

// Config is every setting of the regional service that is not an address or a secret.
type Config struct {
	Sites         []string      `help:"Local sites whose chapters are shown in the tree." default:"main" env:"CHAPTERHOUSE_SITES"`
	RelayDeadline time.Duration `help:"How long a region that does nothing holds up an announcement of a region, unless it says otherwise." default:"168h"`

	AnswerDue   time.Duration `help:"How long a region may take to answer a concern." default:"336h"`
	RemindAgain time.Duration `help:"How long after a reminder of a concern the next one comes." default:"168h"`
	RemindTick  time.Duration `help:"How often concerns are looked for whose answer is due." default:"1m"`

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
	if c.RelayDeadline == 0 {
		c.RelayDeadline = 7 * 24 * time.Hour
	}
	if c.Tick == 0 {
		c.Tick = time.Second
	}
	return c
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
