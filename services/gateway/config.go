package gateway

import "time"

// Config is every setting of the gateway that is not an address.
type Config struct {
	PublicURL string `help:"The gateway as the world sees it, for the links in feeds; as each caller sees it without it." placeholder:"URL" env:"CHAPTERHOUSE_PUBLIC_URL"`

	MaxBodyBytes   int64 `help:"Largest JSON body." default:"1048576" env:"CHAPTERHOUSE_GATEWAY_MAX_BODY_BYTES"`
	MaxUploadBytes int64 `help:"Largest source of a sync, after decompression too." default:"268435456" env:"CHAPTERHOUSE_GATEWAY_MAX_UPLOAD_BYTES"`

	RequestTimeout    time.Duration `help:"How long a JSON body may take to arrive, and then its answer." default:"30s" env:"CHAPTERHOUSE_GATEWAY_REQUEST_TIMEOUT"`
	IdleTimeout       time.Duration `help:"How long an upload or an export may stand still." default:"2m" env:"CHAPTERHOUSE_GATEWAY_IDLE_TIMEOUT"`
	KeepAliveTimeout  time.Duration `help:"How long an unused connection stays open." default:"2m" env:"CHAPTERHOUSE_GATEWAY_KEEP_ALIVE_TIMEOUT"`
	ReadHeaderTimeout time.Duration `help:"How long a request's headers may take to arrive." default:"10s" env:"CHAPTERHOUSE_GATEWAY_READ_HEADER_TIMEOUT"`
	DrainTimeout      time.Duration `help:"How long running requests may go on after the order to stop." default:"8s" env:"CHAPTERHOUSE_GATEWAY_DRAIN_TIMEOUT"`

	Tracing bool `help:"Take traces up and hand them on (OpenTelemetry)." env:"CHAPTERHOUSE_TRACING"`
}

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	c.MaxBodyBytes = orElse(c.MaxBodyBytes, 1<<20)
	c.MaxUploadBytes = orElse(c.MaxUploadBytes, 256<<20)
	c.RequestTimeout = orElse(c.RequestTimeout, 30*time.Second)
	c.IdleTimeout = orElse(c.IdleTimeout, 2*time.Minute)
	c.KeepAliveTimeout = orElse(c.KeepAliveTimeout, 2*time.Minute)
	c.ReadHeaderTimeout = orElse(c.ReadHeaderTimeout, 10*time.Second)
	c.DrainTimeout = orElse(c.DrainTimeout, 8*time.Second)
	return c
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
