package bus

import "strings"

// The tiers. The international and the regional tier have the one site [MainSite].
const (
	International = "international"
	Regional      = "regional"
	Local         = "local"

	MainSite = "main"
)

// User is the NATS user of a tier's site: "international", "regional" or "local.<site>".
func User(tier, site string) string {
	if tier == Local {
		return tier + "." + site
	}
	return tier
}

// Stream is the name of the stream that holds a site's events, such as CH_LOCAL_main.
func Stream(tier, site string) string { return "CH_" + scope(tier, site) }

// DeadStream is the name of the stream that holds what a site could not consume.
func DeadStream(tier, site string) string { return "CH_DEAD_" + scope(tier, site) }

// Durable is the name of a site's consumer on the streams of others.
func Durable(tier, site string) string { return scope(tier, site) }

// scope is upper(tier)_site. Tiers are our own ASCII constants.
func scope(tier, site string) string {
	upper := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, tier)
	return upper + "_" + site
}

func eventPrefix(tier, site string) string { return "ch." + tier + "." + site + "." }
func deadPrefix(tier, site string) string  { return "chdead." + tier + "." + site + "." }
func inboxPrefix(user string) string       { return "_INBOX." + user }
func sourceOf(tier, site string) string    { return "/chapterhouse/" + tier + "/" + site }

// askSubject is where one site asks another: what is "snapshot" or "versions".
func askSubject(tier, site, ownerTier, ownerSite, what string) string {
	return strings.Join([]string{"chq", tier, site, ownerTier, ownerSite, what}, ".")
}

// The bus's own kind of notice, which every consumer listens to.
const (
	kindBus        = "bus"
	noticeRestored = kindBus + ".restored"
)
