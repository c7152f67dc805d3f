package platformtest

import "google.golang.org/grpc/codes"

// digesting is what waits for a coordinator, what is announced in public, and where coordinators are written to. $v is the
// UUID of an announcement.
var digesting = []step{
	{
		does: "ARegionAnnouncesInPublic", as: coordinator,
		grpc: `regional.v1.RegionalAnnouncementService/CreateRegionalAnnouncement {"parent":"regions/europe-$x","announcementId":"$v","announcement":{"subject":"Open day","body":"*Everybody* is welcome.","public":true}}`,
		rest: `POST /v1/regions/europe-$x/announcements?announcementId=$v {"subject":"Open day","body":"*Everybody* is welcome.","public":true}`,
		want: `{"state":"PUBLISHED","public":true}`,
	},
	{
		does: "NotForSomeStatesOfChartersAlone", as: coordinator,
		grpc:  `regional.v1.RegionalAnnouncementService/CreateRegionalAnnouncement {"parent":"regions/europe-$x","announcement":{"subject":"Risk","body":"Risk.","public":true,"charterStates":["AT_RISK"]}}`,
		rest:  `POST /v1/regions/europe-$x/announcements {"subject":"Risk","body":"Risk.","public":true,"charterStates":["AT_RISK"]}`,
		fails: refused("PUBLIC_NARROWED", codes.InvalidArgument, 400),
	},
	{
		does: "NorDoStaff", as: staff,
		grpc:  `international.v1.AnnouncementService/CreateAnnouncement {"announcement":{"subject":"Risk","body":"Risk.","public":true,"audience":{"charterStates":["AT_RISK"]}}}`,
		rest:  `POST /v1/announcements {"subject":"Risk","body":"Risk.","public":true,"audience":{"charterStates":["AT_RISK"]}}`,
		fails: refused("PUBLIC_NARROWED", codes.InvalidArgument, 400),
	},
	{
		does: "EverybodyReadsIt", as: nobody,
		grpc: `regional.v1.FeedService/ListPublicAnnouncements {"parent":"regions/europe-$x"}`,
		rest: `GET /v1/announcements:public?parent=regions/europe-$x`,
		want: `{"announcements":[{"name":"regions/europe-$x/announcements/$v","from":"regions/europe-$x","fromDisplayName":"Europe","subject":"Open day","bodyHtml":"<p><em>Everybody</em> is welcome.</p>\n","edition":1,"updateTime":"*"}],"nextPageToken":"","displayName":"Europe","updateTime":"*"}`,
	},
	{
		does: "NotWhereItWasNotForwarded", as: nobody,
		grpc: `regional.v1.FeedService/ListPublicAnnouncements {"parent":"chapters/golang-$x"}`,
		rest: `GET /v1/announcements:public?parent=chapters/golang-$x`,
		want: `{"announcements":[],"displayName":"*"}`,
	},
	{
		does: "NorOfNobody", as: nobody,
		grpc:  `regional.v1.FeedService/ListPublicAnnouncements {"parent":"regions/nowhere-$x"}`,
		rest:  `GET /v1/announcements:public?parent=regions/nowhere-$x`,
		fails: refused("NOT_FOUND", codes.NotFound, 404),
	},
	{
		does: "ItWaitsInTheDigest", as: coordinator,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/france-$x"}`,
		rest: `GET /v1/regions/france-$x:digest`,
		want: `{"name":"regions/france-$x","parts":[{"kind":"RELAY_WAITING","count":1,"snoozedCount":0,"items":[{"name":"regions/france-$x/digestItems/relay-$v","kind":"RELAY_WAITING","resource":"regions/france-$x/relays/$v","region":"regions/france-$x","title":"Open day","sinceTime":"*","deadlineTime":"*","pressing":false,"remedy":"*"}]},{"kind":"RELAY_HELD"},{"kind":"CONCERN_UNANSWERED"},{"kind":"CHARTER_AT_RISK"},{"kind":"CHARTER_SUSPENDED"},{"kind":"CHAPTER_SILENT","count":0}]}`,
	},
	{
		does: "NotForThePast", as: coordinator,
		grpc:  `regional.v1.DigestService/SnoozeDigestItem {"name":"regions/france-$x/digestItems/relay-$v","untilTime":"2020-01-01T00:00:00Z"}`,
		rest:  `POST /v1/regions/france-$x/digestItems/relay-$v:snooze {"untilTime":"2020-01-01T00:00:00Z"}`,
		fails: refused("SNOOZE_TIME_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "NorWhatDoesNotWait", as: coordinator,
		grpc:  `regional.v1.DigestService/UnsnoozeDigestItem {"name":"regions/france-$x/digestItems/silent-golang-$x"}`,
		rest:  `POST /v1/regions/france-$x/digestItems/silent-golang-$x:unsnooze {}`,
		fails: refused("DIGEST_ITEM_UNKNOWN", codes.NotFound, 404),
	},
	{
		does: "NorByStaff", as: staff,
		grpc:  `regional.v1.DigestService/UnsnoozeDigestItem {"name":"regions/france-$x/digestItems/relay-$v"}`,
		rest:  `POST /v1/regions/france-$x/digestItems/relay-$v:unsnooze {}`,
		fails: denied(),
	},
	{
		does: "ItIsSnoozed", as: coordinator, header: "Idempotency-Key: snooze-$x",
		grpc: `regional.v1.DigestService/SnoozeDigestItem {"name":"regions/france-$x/digestItems/relay-$v","untilTime":"$soon","requestId":"snooze-$x"}`,
		rest: `POST /v1/regions/france-$x/digestItems/relay-$v:snooze {"untilTime":"$soon"}`,
		want: `{"name":"regions/france-$x/digestItems/relay-$v","snoozedUntilTime":"$soon"}`,
	},
	{
		does: "AndOutOfSight", as: coordinator,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/france-$x"}`,
		rest: `GET /v1/regions/france-$x:digest`,
		want: `{"parts":[{"kind":"RELAY_WAITING","count":1,"snoozedCount":1,"items":[]},"*","*","*","*","*"]}`,
	},
	{
		does: "UnlessAskedFor", as: coordinator,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/france-$x","includeSnoozed":true}`,
		rest: `GET /v1/regions/france-$x:digest?includeSnoozed=true`,
		want: `{"parts":[{"kind":"RELAY_WAITING","snoozedCount":1,"items":[{"name":"regions/france-$x/digestItems/relay-$v","snoozedUntilTime":"$soon"}]},"*","*","*","*","*"]}`,
	},
	{
		does: "OthersSeeIt", as: auditor,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/france-$x"}`,
		rest: `GET /v1/regions/france-$x:digest`,
		want: `{"parts":[{"kind":"RELAY_WAITING","count":1,"snoozedCount":0,"items":["*"]},"*","*","*","*","*"]}`,
	},
	{
		does: "ItIsBroughtBack", as: coordinator,
		grpc: `regional.v1.DigestService/UnsnoozeDigestItem {"name":"regions/france-$x/digestItems/relay-$v"}`,
		rest: `POST /v1/regions/france-$x/digestItems/relay-$v:unsnooze {}`,
		want: `{"name":"regions/france-$x/digestItems/relay-$v","title":"Open day"}`,
	},
	{
		does: "ItIsForwarded", as: coordinator,
		grpc: `regional.v1.RelayService/ForwardRelay {"name":"regions/france-$x/relays/$v"}`,
		rest: `POST /v1/regions/france-$x/relays/$v:forward {}`,
		want: `{"state":"FORWARDED"}`,
	},
	{
		does: "WhichIsInTheChaptersFeed", as: nobody,
		grpc: `regional.v1.FeedService/ListPublicAnnouncements {"parent":"chapters/golang-$x"}`,
		rest: `GET /v1/announcements:public?parent=chapters/golang-$x`,
		want: `{"announcements":[{"name":"regions/europe-$x/announcements/$v","subject":"Open day"}]}`,
	},
	{
		does: "AndOutOfTheDigest", as: coordinator,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/france-$x"}`,
		rest: `GET /v1/regions/france-$x:digest`,
		want: `{"parts":[{"kind":"RELAY_WAITING","count":0,"items":[]},"*","*","*","*","*"]}`,
	},
	{
		does: "ACoordinatorIsWrittenTo", as: coordinator,
		grpc: `regional.v1.CoordinatorService/CreateCoordinator {"parent":"regions/europe-$x","coordinator":{"subject":"ada-$x","displayName":"Ada Rao","role":"DEPUTY","mailAddress":"ada-$x@$d"}}`,
		rest: `POST /v1/regions/europe-$x/coordinators {"subject":"ada-$x","displayName":"Ada Rao","role":"DEPUTY","mailAddress":"ada-$x@$d"}`,
		want: `{"mailAddress":"ada-$x@$d"}`,
		keep: map[string]string{"ada": "name"},
	},
	{
		does: "OfWhichAuditorsSeeNothing", as: auditor,
		grpc: `regional.v1.CoordinatorService/GetCoordinator {"name":"$ada"}`,
		rest: `GET /v1/$ada`,
		want: `{"name":"$ada","displayName":"Ada Rao","mailAddress":""}`,
	},
	{
		does: "OnlyWhereThatIsPossible", as: coordinator,
		grpc:  `regional.v1.CoordinatorService/UpdateCoordinator {"coordinator":{"name":"$ada","mailAddress":"nobody"},"updateMask":"mailAddress"}`,
		rest:  `PATCH /v1/$ada {"mailAddress":"nobody"}`,
		fails: refused("ADDRESS_INVALID", codes.InvalidArgument, 400, "rule", "EMAIL_SYNTAX"),
	},
	{
		does: "AndIsRemovedAgain", as: coordinator,
		grpc: `regional.v1.CoordinatorService/DeleteCoordinator {"name":"$ada"}`,
		rest: `DELETE /v1/$ada`,
		want: `{}`,
	},
}
