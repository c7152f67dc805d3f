package bus

import "github.com/nats-io/nats-server/v2/server"

// Permissions are what a site's user may do: publish its own events, dead letters and requests,
// look into its own streams, read the streams it has copies from by its own durables, and answer
// what it is asked. The server refuses everything else. Streams and durables are made by Provision.
func Permissions(tier, site string) *server.Permissions {
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publishable(tier, site)},
		Subscribe: &server.SubjectPermission{Allow: []string{
			inboxPrefix(User(tier, site)) + ".>",
			askSubject("*", "*", tier, site, "*"),
		}},
		// A snapshot is many messages to one reply subject and takes its time. Unlike 0, -1 is no
		// limit.
		Response: &server.ResponsePermission{MaxMsgs: -1, Expires: snapshotTimeout},
	}
}

func publishable(tier, site string) []string {
	allow := []string{eventPrefix(tier, site) + ">", deadPrefix(tier, site) + ">"}
	for _, stream := range []string{Stream(tier, site), DeadStream(tier, site)} {
		allow = append(allow, "$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.MSG.GET."+stream)
	}
	for _, owner := range owners(tier) {
		allow = append(allow, askSubject(tier, site, owner.tier, owner.site, "*"))
		allow = append(allow, consumable(owner.stream, Durable(tier, site))...)
	}
	return allow
}

// consumable are the subjects of one durable consumer on a stream; its name keeps others away.
func consumable(stream, durable string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream,
		"$JS.API.CONSUMER.INFO." + stream + "." + durable,
		"$JS.API.CONSUMER.DELETE." + stream + "." + durable,
		"$JS.API.CONSUMER.MSG.NEXT." + stream + "." + durable,
		"$JS.ACK." + stream + "." + durable + ".>",
	}
}

type ownerPattern struct{ tier, site, stream string }

// owners are those whose aggregates a tier has copies of. A local site reads the two tiers above
// it and never another site. The names of streams have no part for the tier alone, so the upper
// tiers get all of them.
func owners(tier string) []ownerPattern {
	if tier == Local {
		return []ownerPattern{
			{International, MainSite, Stream(International, MainSite)},
			{Regional, MainSite, Stream(Regional, MainSite)},
		}
	}
	return []ownerPattern{{"*", "*", "*"}}
}
