package local

import (
	"time"

	"golang.org/x/time/rate"
)

// limits keep a domain from getting more mails than its servers like, so many a minute. They are one process's: several
// share nothing.
type limits struct {
	config MailingsConfig
	byName map[string]*rate.Limiter
}

func (s *Service) newLimits() limits {
	return limits{config: s.config.Mailings, byName: map[string]*rate.Limiter{}}
}

// allow says whether a domain takes another mail now. Confirmations know no domain and are not limited.
func (l limits) allow(domain string, now time.Time) bool {
	if domain == "" {
		return true
	}
	perMinute, own := l.config.DomainRates[domain]
	if !own {
		perMinute = l.config.DomainRate
	}
	if perMinute <= 0 {
		return true
	}
	limiter := l.byName[domain]
	if limiter == nil {
		// A tenth of a minute's mails may go at once.
		limiter = rate.NewLimiter(rate.Limit(float64(perMinute)/60), max(1, perMinute/10))
		l.byName[domain] = limiter
	}
	return limiter.AllowN(now, 1)
}
