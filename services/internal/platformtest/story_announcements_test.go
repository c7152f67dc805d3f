package platformtest

import "google.golang.org/grpc/codes"

// announcing takes an announcement through the regions and back, and one of a region's own. $u is its UUID.
var announcing = []step{
	{
		does: "StaffWriteADraft", as: staff,
		grpc: `international.v1.AnnouncementService/CreateAnnouncement {"announcementId":"$u","announcement":{"subject":"News","body":"All is *well*.","audience":{"regions":["regions/europe-$x"]},"links":[{"title":"Map","url":"https://example.org/map"}]}}`,
		rest: `POST /v1/announcements?announcementId=$u {"subject":"News","body":"All is *well*.","audience":{"regions":["regions/europe-$x"]},"links":[{"title":"Map","url":"https://example.org/map"}]}`,
		want: `{"name":"announcements/$u","state":"DRAFT","edition":0,"language":"en","priority":"NORMAL","relayDeadline":"604800s","etag":"*"}`,
	},
	{
		does: "AndChangeIt", as: staff,
		grpc: `international.v1.AnnouncementService/UpdateAnnouncement {"announcement":{"name":"announcements/$u","subject":"Good news"},"updateMask":"subject"}`,
		rest: `PATCH /v1/announcements/$u {"subject":"Good news"}`,
		want: `{"subject":"Good news","body":"All is *well*."}`,
	},
	{
		does: "ADraftTooMany", as: staff,
		grpc: `international.v1.AnnouncementService/CreateAnnouncement {"announcement":{"subject":"News","body":"All is well."}}`,
		rest: `POST /v1/announcements {"subject":"News","body":"All is well."}`,
		want: `{"state":"DRAFT"}`,
		keep: map[string]string{"tooMany": "name", "tooManyTag": "etag"},
	},
	{
		does: "IsNoCoordinatorsToDelete", as: coordinator,
		grpc:  `international.v1.AnnouncementService/DeleteAnnouncement {"name":"$tooMany"}`,
		rest:  `DELETE /v1/$tooMany`,
		fails: denied(),
	},
	{
		does: "NorStaffsWhoReadAnother", as: staff, header: "If-Match: 1-1",
		grpc:  `international.v1.AnnouncementService/DeleteAnnouncement {"name":"$tooMany","etag":"1-1"}`,
		rest:  `DELETE /v1/$tooMany`,
		fails: refused("ETAG_MISMATCH", codes.Aborted, 409),
	},
	{
		does: "TheyScheduleIt", as: staff,
		grpc: `international.v1.AnnouncementService/PublishAnnouncement {"name":"$tooMany","publishTime":"2999-01-01T00:00:00Z"}`,
		rest: `POST /v1/$tooMany:publish {"publishTime":"2999-01-01T00:00:00Z"}`,
		want: `{"state":"SCHEDULED"}`,
	},
	{
		does: "AndDeleteIt", as: staff,
		grpc: `international.v1.AnnouncementService/DeleteAnnouncement {"name":"$tooMany"}`,
		rest: `DELETE /v1/$tooMany`,
		want: `{}`,
	},
	{
		does: "ThenItIsNoMore", as: staff,
		grpc:  `international.v1.AnnouncementService/GetAnnouncement {"name":"$tooMany"}`,
		rest:  `GET /v1/$tooMany`,
		fails: refused("NOT_FOUND", codes.NotFound, 404),
	},
	{
		// Once the international body has heard of regions and chapters.
		does: "TheyLookWhomItReaches", as: auditor, within: patience,
		grpc: `international.v1.AnnouncementService/PreviewAnnouncement {"name":"announcements/$u"}`,
		rest: `GET /v1/announcements/$u:preview`,
		want: `{"regions":3,"chapters":2,"peopleEstimate":"*","unknownRegions":[],"texts":[{"language":"en","subject":"Good news","html":"<p>All is <em>well</em>.</p>\n","text":"All is well."}]}`,
	},
	{
		does: "CoordinatorsSeeNoDrafts", as: coordinator,
		grpc:  `international.v1.AnnouncementService/GetAnnouncement {"name":"announcements/$u"}`,
		rest:  `GET /v1/announcements/$u`,
		fails: refused("NOT_FOUND", codes.NotFound, 404),
	},
	{
		does: "NorPublishThem", as: coordinator,
		grpc:  `international.v1.AnnouncementService/PublishAnnouncement {"name":"announcements/$u"}`,
		rest:  `POST /v1/announcements/$u:publish {}`,
		fails: denied(),
	},
	{
		does: "StaffDo", as: staff,
		grpc: `international.v1.AnnouncementService/PublishAnnouncement {"name":"announcements/$u"}`,
		rest: `POST /v1/announcements/$u:publish {}`,
		want: `{"state":"PUBLISHED","edition":1,"publishTime":"*","relayDeadlineTime":"*"}`,
	},
	{
		does: "WhatIsPublishedStays", as: staff,
		grpc:  `international.v1.AnnouncementService/UpdateAnnouncement {"announcement":{"name":"announcements/$u","subject":"Bad news"},"updateMask":"subject"}`,
		rest:  `PATCH /v1/announcements/$u {"subject":"Bad news"}`,
		fails: refused("ANNOUNCEMENT_STATE", codes.FailedPrecondition, 400, "state", "PUBLISHED"),
	},
	{
		does: "NorIsItDeleted", as: staff,
		grpc:  `international.v1.AnnouncementService/DeleteAnnouncement {"name":"announcements/$u"}`,
		rest:  `DELETE /v1/announcements/$u`,
		fails: refused("ANNOUNCEMENT_STATE", codes.FailedPrecondition, 400, "state", "PUBLISHED"),
	},
	{
		does: "AdminsRead", as: admin,
		grpc: `international.v1.AnnouncementService/ListAnnouncements {"state":"PUBLISHED"}`,
		rest: `GET /v1/announcements?state=PUBLISHED`,
		want: `{"announcements":"*"}`,
	},
	{
		does: "ItLiesInTheRegionsInbox", as: coordinator, within: patience,
		grpc: `regional.v1.RelayService/ListRelays {"parent":"regions/europe-$x","state":"WAITING"}`,
		rest: `GET /v1/regions/europe-$x/relays?state=WAITING`,
		want: `{"relays":[{"name":"regions/europe-$x/relays/$u","announcement":"announcements/$u","parentRelay":"regions/world/relays/$u","state":"WAITING","deadlineTime":"*","remindTime":"*","content":{"subject":"Good news","body":""}}],"nextPageToken":""}`,
	},
	{
		does: "ItIsNotHeldIntoThePast", as: coordinator,
		grpc:  `regional.v1.RelayService/HoldRelay {"name":"regions/europe-$x/relays/$u","untilTime":"2020-01-01T00:00:00Z"}`,
		rest:  `POST /v1/regions/europe-$x/relays/$u:hold {"untilTime":"2020-01-01T00:00:00Z"}`,
		fails: refused("HOLD_TIME_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AndForwardedWithANote", as: coordinator,
		grpc: `regional.v1.RelayService/ForwardRelay {"name":"regions/europe-$x/relays/$u","note":"Please read","translations":[{"language":"fr","subject":"Bonnes nouvelles","body":"Tout va *bien*."}]}`,
		rest: `POST /v1/regions/europe-$x/relays/$u:forward {"note":"Please read","translations":[{"language":"fr","subject":"Bonnes nouvelles","body":"Tout va *bien*."}]}`,
		want: `{"state":"FORWARDED","edition":1,"automatic":false,"note":"Please read","childRegions":["regions/france-$x"],"chaptersChosen":false}`,
	},
	{
		does: "Once", as: coordinator,
		grpc:  `regional.v1.RelayService/DeclineRelay {"name":"regions/europe-$x/relays/$u","reason":"no"}`,
		rest:  `POST /v1/regions/europe-$x/relays/$u:decline {"reason":"no"}`,
		fails: refused("RELAY_STATE", codes.FailedPrecondition, 400, "state", "FORWARDED"),
	},
	{
		does: "TheNextRegionForwardsAllItHas", as: coordinator,
		grpc: `regional.v1.RelayService/ForwardAllRelays {"parent":"regions/france-$x"}`,
		rest: `POST /v1/regions/france-$x/relays:forwardAll {}`,
		want: `{"relays":["regions/france-$x/relays/$u"],"more":false}`,
	},
	{
		does: "TheReachShowsTheWay", as: staff, within: patience,
		grpc: `international.v1.AnnouncementService/GetAnnouncementReach {"name":"announcements/$u/reach"}`,
		rest: `GET /v1/announcements/$u/reach`,
		want: `{"name":"announcements/$u/reach","relays":{"waiting":0,"forwarded":3},"regions":[{"region":"regions/world","state":"FORWARDED","children":[{"region":"regions/europe-$x","displayName":"Europe","forwardTime":"*","children":[{"region":"regions/france-$x","edition":1,"children":[]}]}]}]}`,
	},
	{
		does: "ARegionAnnouncesToo", as: coordinator,
		grpc: `regional.v1.RegionalAnnouncementService/CreateRegionalAnnouncement {"parent":"regions/europe-$x","announcement":{"subject":"Summer","body":"It is warm."}}`,
		rest: `POST /v1/regions/europe-$x/announcements {"subject":"Summer","body":"It is warm."}`,
		want: `{"state":"PUBLISHED","edition":1,"subject":"Summer"}`,
		keep: map[string]string{"own": "name", "ownEtag": "etag"},
	},
	{
		does: "NotInOthersRegions", as: coordinator,
		grpc:  `regional.v1.RegionalAnnouncementService/CreateRegionalAnnouncement {"parent":"regions/world","announcement":{"subject":"Summer","body":"It is warm."}}`,
		rest:  `POST /v1/regions/world/announcements {"subject":"Summer","body":"It is warm."}`,
		fails: denied(),
	},
	{
		does: "AndCorrects", as: coordinator, header: "If-Match: $ownEtag",
		grpc: `regional.v1.RegionalAnnouncementService/CorrectRegionalAnnouncement {"name":"$own","body":"It is hot.","etag":"$ownEtag"}`,
		rest: `POST /v1/$own:correct {"body":"It is hot."}`,
		want: `{"edition":2,"subject":"Summer","body":"It is hot."}`,
	},
	{
		does: "AndRecalls", as: coordinator,
		grpc: `regional.v1.RegionalAnnouncementService/RecallRegionalAnnouncement {"name":"$own","reason":"winter"}`,
		rest: `POST /v1/$own:recall {"reason":"winter"}`,
		want: `{"state":"RECALLED","recallReason":"winter"}`,
	},
	{
		does: "ItIsListedStill", as: coordinator,
		grpc: `regional.v1.RegionalAnnouncementService/ListRegionalAnnouncements {"parent":"regions/europe-$x"}`,
		rest: `GET /v1/regions/europe-$x/announcements`,
		want: `{"announcements":[{"name":"$own","state":"RECALLED","body":""}]}`,
	},
	{
		does: "StaffCorrect", as: staff,
		grpc: `international.v1.AnnouncementService/CorrectAnnouncement {"name":"announcements/$u","body":"All is *better*."}`,
		rest: `POST /v1/announcements/$u:correct {"body":"All is *better*."}`,
		want: `{"edition":2,"subject":"Good news","links":[]}`,
	},
	{
		does: "TheCorrectionFollows", as: coordinator, within: patience,
		grpc: `regional.v1.RelayService/GetRelay {"name":"regions/france-$x/relays/$u"}`,
		rest: `GET /v1/regions/france-$x/relays/$u`,
		want: `{"state":"FORWARDED","edition":2,"content":{"body":"All is *better*."}}`,
	},
	{
		does: "ATranslationOfTheFirstEditionGoesToNobody", as: coordinator,
		grpc: `regional.v1.RelayService/GetRelay {"name":"regions/europe-$x/relays/$u"}`,
		rest: `GET /v1/regions/europe-$x/relays/$u`,
		want: `{"edition":2,"translations":[{"language":"fr","subject":"Bonnes nouvelles","edition":1}],"translationsOutdated":true}`,
	},
	{
		does: "UntilThereIsANewOne", as: coordinator,
		grpc: `regional.v1.RelayService/TranslateRelay {"name":"regions/europe-$x/relays/$u","translations":[{"language":"fr","subject":"Bonnes nouvelles","body":"Tout va *mieux*."}]}`,
		rest: `POST /v1/regions/europe-$x/relays/$u:translate {"translations":[{"language":"fr","subject":"Bonnes nouvelles","body":"Tout va *mieux*."}]}`,
		want: `{"edition":2,"translations":[{"language":"fr","body":"Tout va *mieux*.","edition":2}],"translationsOutdated":false}`,
	},
	{
		does: "WhichStays", as: coordinator,
		grpc:  `regional.v1.RelayService/TranslateRelay {"name":"regions/europe-$x/relays/$u","translations":[{"language":"fr","subject":"Bof","body":"Bof."}]}`,
		rest:  `POST /v1/regions/europe-$x/relays/$u:translate {"translations":[{"language":"fr","subject":"Bof","body":"Bof."}]}`,
		fails: refused("TRANSLATION_EXISTS", codes.FailedPrecondition, 400, "language", "fr"),
	},
	{
		does: "StaffRecall", as: staff,
		grpc: `international.v1.AnnouncementService/RecallAnnouncement {"name":"announcements/$u","reason":"wrong date"}`,
		rest: `POST /v1/announcements/$u:recall {"reason":"wrong date"}`,
		want: `{"state":"RECALLED","recallReason":"wrong date","recallTime":"*"}`,
	},
	{
		does: "AllRelaysClose", as: staff, within: patience,
		grpc: `international.v1.AnnouncementService/GetAnnouncementReach {"name":"announcements/$u/reach"}`,
		rest: `GET /v1/announcements/$u/reach`,
		want: `{"relays":{"forwarded":0,"recalled":3}}`,
	},
}
