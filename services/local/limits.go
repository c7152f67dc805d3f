package local

import (
	"time"

	"golang.org/x/time/rate"
)

// limits keep a domain from getting more mails than its servers like, so many a minute. Several processes share the rates by
// halves, thirds and so on: each counts its own.
type limits struct {
	config MailingsConfig
	byName map[string]*rate.Limiter
	shares int
}

func (s *Service) newLimits() limits {
	return limits{config: s.config.Mailings, byName: map[string]*rate.Limiter{}, shares: 1}
}

// share says how many processes there are.
func (l *limits) share(among int, now time.Time) {
	if among == l.shares {
		return
	}
	l.shares = among
	for domain, limiter := range l.byName {
		limiter.SetLimitAt(now, l.rate(domain))
		limiter.SetBurstAt(now, l.burst(domain))
	}
}

func (l *limits) perMinute(domain string) int {
	if own, found := l.config.DomainRates[domain]; found {
		return own
	}
	return l.config.DomainRate
}

func (l *limits) rate(domain string) rate.Limit {
	return rate.Limit(float64(l.perMinute(domain)) / 60 / float64(l.shares))
}

// burst is a tenth of a minute's mails, which may go at once.
func (l *limits) burst(domain string) int { return max(1, l.perMinute(domain)/10/l.shares) }

// allow says whether a domain takes another mail now. Confirmations know no domain and are not limited.
func (l *limits) allow(domain string, now time.Time) bool {
	if domain == "" || l.perMinute(domain) <= 0 {
		return true
	}
	limiter := l.byName[domain]
	if limiter == nil {
		limiter = rate.NewLimiter(l.rate(domain), l.burst(domain))
		l.byName[domain] = limiter
	}
	return limiter.AllowN(now, 1)
}
