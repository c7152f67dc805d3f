package mail

import "time"

// Patience is how long a mail is tried. A server that is away for a weekend costs nobody a mail.
const Patience = 3 * 24 * time.Hour

// BackOff is the wait before another try: a minute, and twice as long each time, up to six hours.
func BackOff(attempts int32) time.Duration {
	return min(time.Minute<<min(max(attempts-1, 0), 10), 6*time.Hour)
}
