package platformtest

import "google.golang.org/grpc/codes"

// leaving is what becomes of people on a list: syncs that are undone, tombstones, double opt-in, those who follow.
var leaving = []step{
	{
		does: "WhoFollowsReadsAllFirst", as: admin,
		grpc: `local.v1.ListService/ListEntries {"parent":"chapters/golang-$x/lists/announce"}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/entries`,
		want: `{"etag":"*"}`,
		keep: map[string]string{"point": "etag"},
	},
	{
		does: "AMistake", as: admin, media: "text/csv", source: "email,name\nada.$x@$d,Wrong\nkim.$x@$d,Kim\n",
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/announce","mode":"MERGE","source":"news","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/syncs?mode=MERGE&source=news&apply=true`,
		want: `{"state":"APPLIED","counts":{"add":1,"update":1},"revertExpireTime":"*"}`,
		keep: map[string]string{"mistake": "name"},
	},
	{
		does: "IsUndone", as: admin,
		grpc: `local.v1.SyncService/RevertSync {"name":"$mistake"}`,
		rest: `POST /v1/$mistake:revert {}`,
		want: `{"name":"$mistake","state":"REVERTED","conflicts":0,"revertTime":"*"}`,
	},
	{
		does: "AndCannotBeAppliedAgain", as: admin,
		grpc:  `local.v1.SyncService/ApplySync {"name":"$mistake"}`,
		rest:  `POST /v1/$mistake:apply {}`,
		fails: refused("SYNC_STATE", codes.FailedPrecondition, 400, "state", "REVERTED"),
	},
	{
		does: "WhoFollowsSeesItEnd", as: admin,
		grpc: `local.v1.ListService/FollowList {"parent":"chapters/golang-$x/lists/announce","since":"$point","pageSize":1}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/changes?since=$point&pageSize=1`,
		want: `{"changes":[{"entryName":"*"}],"nextSince":"*","more":true}`,
	},
	{
		does: "NothingIsAPointOfAnotherTime", as: admin,
		grpc:  `local.v1.ListService/FollowList {"parent":"chapters/golang-$x/lists/announce","since":"1-1"}`,
		rest:  `GET /v1/chapters/golang-$x/lists/announce/changes?since=1-1`,
		fails: refused("CHANGES_EXPIRED", codes.FailedPrecondition, 400),
	},
	{
		does: "OneEntryIsFoundByItsAddress", as: admin,
		grpc: `local.v1.ListService/ListEntries {"parent":"chapters/golang-$x/lists/announce","address":"jan.$x@$d"}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/entries?address=jan.$x@$d`,
		want: `{"entries":[{"name":"*","claims":[{"source":"news","firstSeenTime":"*","lastSeenTime":"*"}]}]}`,
		keep: map[string]string{"jan": "entries.name"},
	},
	{
		does: "MailComesBack", as: admin,
		grpc: `local.v1.ListService/BounceEntry {"name":"$jan","text":"550 5.1.1"}`,
		rest: `POST /v1/$jan:bounce {"text":"550 5.1.1"}`,
		want: `{"name":"$jan","state":"BOUNCED"}`,
	},
	{
		does: "WhichIsOnRecord", as: admin,
		grpc: `local.v1.ListService/ListConsents {"parent":"$jan"}`,
		rest: `GET /v1/$jan/consents`,
		want: `{"consents":[{"kind":"BOUNCED","text":"550 5.1.1"}]}`,
	},
	{
		does: "ATombstoneKeepsItsName", as: admin,
		grpc:  `local.v1.ListService/UpdateEntry {"entry":{"name":"$jan","displayName":"Jan"}}`,
		rest:  `PATCH /v1/$jan {"displayName":"Jan"}`,
		fails: refused("ENTRY_SUPPRESSED", codes.FailedPrecondition, 400),
	},
	{
		does: "SomebodyWantsToBeForgotten", as: admin,
		grpc: `local.v1.ListService/ErasePerson {"parent":"chapters/golang-$x","address":"jan.$x@$d"}`,
		rest: `POST /v1/chapters/golang-$x:erasePerson {"address":"jan.$x@$d"}`,
		want: `{"entries":["$jan"],"connectors":[]}`,
	},
	{
		does: "AndIsButForAMark", as: admin,
		grpc: `local.v1.ListService/GetEntry {"name":"$jan"}`,
		rest: `GET /v1/$jan`,
		want: `{"name":"$jan","address":"","displayName":"","state":"UNSUBSCRIBED","sources":[]}`,
	},
	{
		does: "ListsAskForPeoplesOwnWord", as: admin,
		grpc: `local.v1.ListService/UpdateList {"list":{"name":"chapters/golang-$x/lists/announce","doubleOptIn":true,"removalGuard":{"percent":10,"entries":2}},"updateMask":"doubleOptIn,removalGuard"}`,
		rest: `PATCH /v1/chapters/golang-$x/lists/announce {"doubleOptIn":true,"removalGuard":{"percent":10,"entries":2}}`,
		want: `{"doubleOptIn":true,"removalGuard":{"percent":10,"entries":2}}`,
	},
	{
		does: "WhichWaits", as: admin,
		grpc: `local.v1.ListService/CreateEntry {"parent":"chapters/golang-$x/lists/announce","entry":{"address":"lou.$x@$d"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/entries {"address":"lou.$x@$d"}`,
		want: `{"state":"PENDING"}`,
		keep: map[string]string{"lou": "name"},
	},
	{
		does: "AndIsAskedOnceAnHour", as: admin,
		grpc: `local.v1.ListService/SendConfirmation {"name":"$lou"}`,
		rest: `POST /v1/$lou:sendConfirmation {}`,
		want: `{"name":"$lou","state":"PENDING"}`,
	},
	{
		does: "NobodyMakesLinks", as: nobody,
		grpc:  `local.v1.SubscriptionService/GetSubscription {"name":"subscriptions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		rest:  `GET /v1/subscriptions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`,
		fails: refused("LINK_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AToolIsTiedToTheList", as: admin,
		grpc: `local.v1.ConnectorService/CreateConnector {"parent":"chapters/golang-$x/lists/announce","connectorId":"tool","connector":{"mailman":{"url":"http://127.0.0.1:9","listId":"a.example.org","username":"u"},"secret":"$secret","direction":"PULL"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/connectors?connectorId=tool {"mailman":{"url":"http://127.0.0.1:9","listId":"a.example.org","username":"u"},"secret":"$secret","direction":"PULL"}`,
		want: `{"name":"chapters/golang-$x/lists/announce/connectors/tool","secret":"","mode":"REPLACE","interval":"0s"}`,
	},
	{
		does: "OrIsNotThere", as: admin,
		grpc:  `local.v1.ConnectorService/CheckConnector {"name":"chapters/golang-$x/lists/announce/connectors/tool"}`,
		rest:  `POST /v1/chapters/golang-$x/lists/announce/connectors/tool:check {}`,
		fails: refused("CONNECTOR_UNREACHABLE", codes.Unavailable, 503),
	},
	{
		does: "APartOfItsSettingsChanges", as: admin,
		grpc: `local.v1.ConnectorService/UpdateConnector {"connector":{"name":"chapters/golang-$x/lists/announce/connectors/tool","mailman":{"listId":"b.example.org"}},"updateMask":"mailman.listId"}`,
		rest: `PATCH /v1/chapters/golang-$x/lists/announce/connectors/tool {"mailman":{"listId":"b.example.org"}}`,
		want: `{"mailman":{"url":"http://127.0.0.1:9","listId":"b.example.org","username":"u"}}`,
	},
}

// leavingCalls lead to people on a list too.
var leavingCalls = []step{
	{
		does: "FollowList",
		grpc: `local.v1.ListService/FollowList {"parent":"chapters/golang-$x/lists/members","since":"1-1"}`,
		rest: `GET /v1/chapters/golang-$x/lists/members/changes?since=1-1`,
	},
	{
		does: "ListConsents",
		grpc: `local.v1.ListService/ListConsents {"parent":"$ida"}`,
		rest: `GET /v1/$ida/consents`,
	},
	{
		does: "ErasePerson",
		grpc: `local.v1.ListService/ErasePerson {"parent":"chapters/golang-$x","address":"ada.$x@$d"}`,
		rest: `POST /v1/chapters/golang-$x:erasePerson {"address":"ada.$x@$d"}`,
	},
	{
		does: "BounceEntry",
		grpc: `local.v1.ListService/BounceEntry {"name":"$ida"}`,
		rest: `POST /v1/$ida:bounce {}`,
	},
	{
		does: "RevertSync",
		grpc: `local.v1.SyncService/RevertSync {"name":"$sync"}`,
		rest: `POST /v1/$sync:revert {}`,
	},
	{
		does: "GetConnector",
		grpc: `local.v1.ConnectorService/GetConnector {"name":"chapters/golang-$x/lists/announce/connectors/tool"}`,
		rest: `GET /v1/chapters/golang-$x/lists/announce/connectors/tool`,
	},
	{
		does: "RunConnector",
		grpc: `local.v1.ConnectorService/RunConnector {"name":"chapters/golang-$x/lists/announce/connectors/tool"}`,
		rest: `POST /v1/chapters/golang-$x/lists/announce/connectors/tool:run {}`,
	},
}
