package platformtest

import "google.golang.org/grpc/codes"

const ten = `{"entries":[{"address":"l1.$x@$d"},{"address":"l2.$x@$d"},{"address":"l3.$x@$d"},{"address":"l4.$x@$d"},{"address":"l5.$x@$d"},
	{"address":"l6.$x@$d"},{"address":"l7.$x@$d"},{"address":"l8.$x@$d"},{"address":"ada.$x@$d"},{"address":"linus.$x@$d"}]}`

// keeping is what makes a sync one that can be trusted: the guard, tombstones, entries one by one.
var keeping = []step{
	{
		does: "AMailingListCountsOnItsOwnBasis", as: admin, media: "application/json", source: ten,
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"REPLACE","source":"news","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=REPLACE&source=news&apply=true`,
		want: `{"state":"APPLIED","counts":{"add":10}}`,
	},
	{
		does: "SoonItDoes", as: staff, within: soon,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":true,"basis":"MEMBERSHIP","membership":{"total":8,"international":5},"mailing":{"total":10,"international":1}}`,
	},
	{
		does: "ABrokenExportIsStopped", as: admin, media: "text/csv", source: "email\nada.$x@$d\nlinus.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"REPLACE","source":"news"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=REPLACE&source=news`,
		want: `{"state":"BLOCKED","counts":{"remove":8,"unchanged":2},"confirmRemovals":8}`,
		keep: map[string]string{"blocked": "name"},
	},
	{
		does: "AndNotApplied", as: admin, media: "text/csv", source: "email\nada.$x@$d\nlinus.$x@$d\n",
		grpc:  `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"REPLACE","source":"news","apply":true}}`,
		rest:  `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=REPLACE&source=news&apply=true`,
		fails: refused("REMOVALS_NOT_CONFIRMED", codes.FailedPrecondition, 400, "removals", "8"),
	},
	{
		does: "UnlessSomebodyMeansIt", as: admin,
		grpc: `local.v1.SyncService/ApplySync {"name":"$blocked","confirmRemovals":8}`,
		rest: `POST /v1/$blocked:apply {"confirmRemovals":8}`,
		want: `{"state":"APPLIED"}`,
	},
	{
		does: "APlanOfAnEarlierListIsStale", as: admin, media: "text/csv", source: "email\nada.$x@$d\nlinus.$x@$d\nhugo.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"REPLACE","source":"news"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=REPLACE&source=news`,
		want: `{"state":"PLANNED","counts":{"add":1}}`,
		keep: map[string]string{"stale": "name"},
	},
	{
		does: "SinceAnEntryWasMade", as: admin,
		grpc: `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/announce","entry":{"address":"Ida $secret <ida.$x@$d>"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/entries {"address":"Ida $secret <ida.$x@$d>"}`,
		want: `{"name":"*","address":"ida.$x@$d","displayName":"Ida $secret","state":"SUBSCRIBED","sources":["manual"]}`,
		keep: map[string]string{"ida": "name"},
	},
	{
		does: "AndIsNotAppliedAnyMore", as: admin,
		grpc:  `local.v1.SyncService/ApplySync {"name":"$stale"}`,
		rest:  `POST /v1/$stale:apply {}`,
		fails: refused("PLAN_STALE", codes.Aborted, 409),
	},
	{
		does: "AnEntryIsMadeOnce", as: admin,
		grpc:  `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/announce","entry":{"address":"ida.$x@$d"}}`,
		rest:  `POST /v1/chapters/golang-$x/lists/announce/entries {"address":"ida.$x@$d"}`,
		fails: refused("ALREADY_EXISTS", codes.AlreadyExists, 409),
	},
	{
		does: "ABadAddressIsNoEntry", as: admin,
		grpc:  `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/announce","entry":{"address":"$secret at $d"}}`,
		rest:  `POST /v1/chapters/golang-$x/lists/announce/entries {"address":"$secret at $d"}`,
		fails: refused("ADDRESS_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "WhoLeaves", as: admin,
		grpc: `local.v1.ListService/UnsubscribeEntry {"name":"$ida"}`,
		rest: `POST /v1/$ida:unsubscribe {}`,
		want: `{"name":"$ida","state":"UNSUBSCRIBED"}`,
	},
	{
		does: "StaysAway", as: admin, media: "text/csv", source: "email\nida.$x@$d\njan.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"MERGE","source":"news","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=MERGE&source=news&apply=true`,
		want: `{"state":"APPLIED","counts":{"add":1,"suppressed":1}}`,
	},
	{
		does: "WhoeverAsks", as: admin,
		grpc:  `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/announce","entry":{"address":"ida.$x@$d"}}`,
		rest:  `POST /v1/chapters/golang-$x/lists/announce/entries {"address":"ida.$x@$d"}`,
		fails: refused("ENTRY_SUPPRESSED", codes.FailedPrecondition, 400),
	},
	{
		does: "EntriesAreListedWithTombstones", as: admin,
		grpc: `local.v1.ListService/ListEntries {"parent":"chapters/golang-$x/lists/announce","state":"UNSUBSCRIBED"}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/entries?state=UNSUBSCRIBED`,
		want: `{"entries":[{"name":"$ida","address":"ida.$x@$d","state":"UNSUBSCRIBED"}],"nextPageToken":""}`,
	},
	{
		does: "SyncsAreRemembered", as: admin,
		grpc: `local.v1.SyncService/GetSync {"name":"$sync"}`,
		rest: `GET /v1/$sync`,
		want: `{"name":"$sync","state":"APPLIED","source":"crm"}`,
	},
	{
		does: "AllThatIsCounted", as: staff, within: soon,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"mailing":{"total":3,"international":1}}`,
	},
}

// entryReaders are those who run the federation, and may not read a chapter's entries for all that.
var entryReaders = []role{staff, auditor, coordinator, otherAdmin, {role: "service"}, {"site", "sites/main"}, {"member", "members/eve-$x"}}

// entryCalls lead to entries, all of them.
var entryCalls = []step{
	{
		does: "ListEntries",
		grpc: `local.v1.ListService/ListEntries {"parent":"chapters/golang-$x/lists/members"}`,
		rest: `GET /v1/chapters/golang-$x/lists/members/entries`,
	},
	{
		does: "GetEntry",
		grpc: `local.v1.ListService/GetEntry {"name":"$ida"}`,
		rest: `GET /v1/$ida`,
	},
	{
		does: "CreateEntry",
		grpc: `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/members","entry":{"address":"ada.$x@$d"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/members/entries {"address":"ada.$x@$d"}`,
	},
	{
		does: "ListSyncChanges",
		grpc: `local.v1.SyncService/ListSyncChanges {"parent":"$sync"}`,
		rest: `GET /v1/$sync/changes`,
	},
	{
		does: "CreateSync", media: "text/csv", source: "email\nada.$x@$d\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/members","mode":"MERGE","source":"crm"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/members/syncs?mode=MERGE&source=crm`,
	},
	{
		does: "DeleteEntry",
		grpc: `local.v1.ListService/DeleteEntry {"name":"$ida"}`,
		rest: `DELETE /v1/$ida`,
	},
}
