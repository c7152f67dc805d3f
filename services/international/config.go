package international

import (
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
)

// Config is every setting of the international service that is not an address or a secret.
type Config struct {
	Sites []string `help:"Local sites whose chapters are counted." default:"main" env:"CHAPTERHOUSE_SITES"`

	// PublicURL is where people open the links in the register's mails; without it none is sent.
	PublicURL string      `help:"Where people open the links in mails: the gateway as the world sees it (https, or on this machine http). Without it the register sends no mail." placeholder:"URL" env:"CHAPTERHOUSE_PUBLIC_URL"`
	Mail      mail.Config `embed:"" prefix:"mail-"`

	ImportLifetime time.Duration `help:"How long a plan of an import can be applied." default:"24h"`
	KeepImports    time.Duration `help:"How long the rows of old imports are kept." default:"720h"`
	UploadIdle     time.Duration `help:"How long nothing of an upload may arrive." default:"60s"`
	UploadLimit    time.Duration `help:"How long an upload may take in all." default:"1h"`
	MaxUploadBytes int64         `help:"The largest file to import." default:"268435456"`
	MaxUploadRows  int           `help:"The most rows of a file to import." default:"1000000"`

	LapseEvery     time.Duration `help:"How often terms that ran out are looked for." default:"30s"`
	LapseBatch     int32         `help:"Members that lapse in one transaction." default:"5000"`
	PreviewRate    float64       `help:"Previews of a standing that one site may ask for in a second." default:"50"`
	PreviewBurst   int           `help:"Previews that one site may ask for at once." default:"500"`
	PreviewWait    time.Duration `help:"How long a preview waits for the list version that it is based on." default:"1s"`
	LookupTimeout  time.Duration `help:"How long to ask a local site for a chapter that is not known yet." default:"2s"`
	Workers        int           `help:"Changes of different chapters that are counted at once." default:"8"`
	AnswerDue      time.Duration `help:"How long the international body may take to answer a concern." default:"336h"`
	RemindAgain    time.Duration `help:"How long after a reminder of a concern the next one comes." default:"168h"`
	RemindEvery    time.Duration `help:"How often concerns are looked for whose answer is due." default:"1m"`
	DeadlinesEvery time.Duration `help:"How often charters are looked for of which a deadline has passed." default:"30s"`
	RelayDeadline  time.Duration `help:"How long a region that does nothing holds up an announcement, unless it says otherwise." default:"168h"`
	NoticeSettle   time.Duration `help:"How long a chapter must stay on the other side of the line until its officers and coordinators are told." default:"1h"`
	NoticeEvery    time.Duration `help:"How often notices are looked for that are due." default:"1m"`
	PublishEvery   time.Duration `help:"How often scheduled announcements that are due are looked for." default:"1s"`
	PolicyEvery    time.Duration `help:"How often policy revisions are looked for whose time has come." default:"30s"`
	PolicyBatch    int32         `help:"Standings that are judged by a new policy revision in one transaction." default:"1000"`

	// GapWait and CompareEvery are the bus's; tests shorten them.
	GapWait      time.Duration `hidden:"" default:"2s"`
	CompareEvery time.Duration `hidden:"" default:"10m"`
}

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	if len(c.Sites) == 0 {
		c.Sites = []string{"main"}
	}
	c.ImportLifetime = orElse(c.ImportLifetime, 24*time.Hour)
	c.KeepImports = orElse(c.KeepImports, 30*24*time.Hour)
	c.UploadIdle = orElse(c.UploadIdle, time.Minute)
	c.UploadLimit = orElse(c.UploadLimit, time.Hour)
	c.MaxUploadBytes = orElse(c.MaxUploadBytes, 256<<20)
	c.MaxUploadRows = orElse(c.MaxUploadRows, 1_000_000)
	c.LapseEvery = orElse(c.LapseEvery, 30*time.Second)
	c.LapseBatch = orElse(c.LapseBatch, 5000)
	c.PolicyEvery = orElse(c.PolicyEvery, 30*time.Second)
	c.PolicyBatch = orElse(c.PolicyBatch, 1000)
	c.PreviewRate = orElse(c.PreviewRate, 50)
	c.PreviewBurst = orElse(c.PreviewBurst, 500)
	c.PreviewWait = orElse(c.PreviewWait, time.Second)
	c.LookupTimeout = orElse(c.LookupTimeout, 2*time.Second)
	c.RelayDeadline = orElse(c.RelayDeadline, 7*24*time.Hour)
	c.NoticeSettle = orElse(c.NoticeSettle, time.Hour)
	c.NoticeEvery = orElse(c.NoticeEvery, time.Minute)
	c.PublishEvery = orElse(c.PublishEvery, time.Second)
	c.Workers = orElse(c.Workers, 8)
	c.AnswerDue = orElse(c.AnswerDue, 14*24*time.Hour)
	c.RemindAgain = orElse(c.RemindAgain, 7*24*time.Hour)
	c.DeadlinesEvery = orElse(c.DeadlinesEvery, 30*time.Second)
	c.RemindEvery = orElse(c.RemindEvery, time.Minute)
	return c
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
