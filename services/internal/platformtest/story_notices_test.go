package platformtest

import "google.golang.org/grpc/codes"

// zigAdmin keeps the chapter of which a member of staff is an officer.
var zigAdmin = role{admin.role, "chapters/zig-$x"}

// noticing is officers and what they are told. It follows the story in which golang was chartered.
var noticing = []step{
	{
		does: "AChapterNamesItsOfficers", as: admin,
		grpc: `local.v1.OfficerService/CreateOfficer {"parent":"chapters/golang-$x","officer":{"displayName":"Ada $secret","role":"PRESIDENT","subject":"ada-$secret","mailAddress":"Ada.$x@$d"}}`,
		rest: `POST /v1/chapters/golang-$x/officers {"displayName":"Ada $secret","role":"PRESIDENT","subject":"ada-$secret","mailAddress":"Ada.$x@$d"}`,
		want: `{"name":"*","displayName":"Ada $secret","role":"PRESIDENT","subject":"ada-$secret","mailAddress":"ada.$x@$d","state":"CURRENT","noticesMuted":false,"termStartTime":"*","termEndTime":"*","etag":"*"}`,
		keep: map[string]string{"officer": "name", "officerEtag": "etag"},
	},
	{
		does: "NotForLife", as: admin,
		grpc:  `local.v1.OfficerService/CreateOfficer {"parent":"chapters/golang-$x","officer":{"displayName":"Bob","role":"OTHER","termEndTime":"2099-01-01T00:00:00Z"}}`,
		rest:  `POST /v1/chapters/golang-$x/officers {"displayName":"Bob","role":"OTHER","termEndTime":"2099-01-01T00:00:00Z"}`,
		fails: refused("OFFICER_TERM_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AsSomething", as: admin,
		grpc:  `local.v1.OfficerService/CreateOfficer {"parent":"chapters/golang-$x","officer":{"displayName":"Bob"}}`,
		rest:  `POST /v1/chapters/golang-$x/officers {"displayName":"Bob"}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "AndChangesThem", as: admin,
		grpc: `local.v1.OfficerService/UpdateOfficer {"officer":{"name":"$officer","role":"TREASURER","etag":"$officerEtag"},"updateMask":"role"}`,
		rest: `PATCH /v1/$officer {"role":"TREASURER","etag":"$officerEtag"}`,
		want: `{"name":"$officer","role":"TREASURER","mailAddress":"ada.$x@$d"}`,
	},
	{
		does: "AsTheyWereRead", as: admin,
		grpc:  `local.v1.OfficerService/UpdateOfficer {"officer":{"name":"$officer","role":"OTHER","etag":"$officerEtag"},"updateMask":"role"}`,
		rest:  `PATCH /v1/$officer {"role":"OTHER","etag":"$officerEtag"}`,
		fails: refused("ETAG_MISMATCH", codes.Aborted, 409),
	},
	{
		does: "StaffSeeNamesAndRoles", as: staff,
		grpc: `local.v1.OfficerService/ListOfficers {"parent":"chapters/golang-$x"}`,
		rest: `GET /v1/chapters/golang-$x/officers`,
		want: `{"officers":[{"name":"$officer","displayName":"Ada $secret","role":"TREASURER","subject":"","mailAddress":""}],"nextPageToken":""}`,
	},
	{
		does: "SoDoCoordinators", as: coordinator,
		grpc: `local.v1.OfficerService/GetOfficer {"name":"$officer"}`,
		rest: `GET /v1/$officer`,
		want: `{"displayName":"Ada $secret","subject":"","mailAddress":""}`,
	},
	{
		does: "AnotherChapterSeesNothing", as: otherAdmin,
		grpc:  `local.v1.OfficerService/ListOfficers {"parent":"chapters/golang-$x"}`,
		rest:  `GET /v1/chapters/golang-$x/officers`,
		fails: denied(),
	},
	{
		does: "NorDoesThePublic", as: nobody,
		grpc:  `local.v1.OfficerService/GetOfficer {"name":"$officer"}`,
		rest:  `GET /v1/$officer`,
		fails: refused("UNAUTHENTICATED", codes.Unauthenticated, 401),
	},
	{
		does: "StaffAppointNobody", as: staff,
		grpc:  `local.v1.OfficerService/DeleteOfficer {"name":"$officer"}`,
		rest:  `DELETE /v1/$officer`,
		fails: denied(),
	},
	{
		does: "WhatWasDecidedLiesInTheInbox", as: admin, within: patience,
		grpc: `local.v1.InboxService/ListInboxItems {"parent":"chapters/golang-$x","kind":"NOTICE"}`,
		rest: `GET /v1/chapters/golang-$x/inbox?kind=NOTICE`,
		want: `{"items":[{"kind":"NOTICE","state":"ARRIVED","subject":"Golang Paris is chartered","notice":{"kind":"APPROVED","charter":"charters/golang-$x","charterState":"CHARTERED","note":"Welcome"}},
			{"notice":{"kind":"IN_REVIEW"}},{"notice":{"kind":"APPLIED","note":"We are growing."}}],"nextPageToken":""}`,
		keep: map[string]string{"notice": "items.name"},
	},
	{
		does: "InWords", as: admin,
		grpc: `local.v1.InboxService/GetInboxItem {"name":"$notice"}`,
		rest: `GET /v1/$notice`,
		want: `{"kind":"NOTICE","language":"en","announcement":"","body":"*","bodyHtml":"*","bodyText":"*"}`,
	},
	{
		does: "WhichGoesToNoList", as: admin,
		grpc:  `local.v1.InboxService/SendInboxItem {"name":"$notice","lists":["chapters/golang-$x/lists/members"]}`,
		rest:  `POST /v1/$notice:send {"lists":["chapters/golang-$x/lists/members"]}`,
		fails: refused("INBOX_ITEM_IS_NOTICE", codes.FailedPrecondition, 400),
	},
	{
		does: "AndIsSeen", as: admin,
		grpc: `local.v1.InboxService/DismissInboxItem {"name":"$notice","reason":"seen"}`,
		rest: `POST /v1/$notice:dismiss {"reason":"seen"}`,
		want: `{"name":"$notice","kind":"NOTICE","state":"DISMISSED","dismissReason":"seen"}`,
	},
	{
		does: "ByThoseOfTheChapter", as: coordinator,
		grpc:  `local.v1.InboxService/GetInboxItem {"name":"$notice"}`,
		rest:  `GET /v1/$notice`,
		fails: denied(),
	},
	{
		does: "AnOfficerIsForgotten", as: admin,
		grpc: `local.v1.ListService/ErasePerson {"parent":"chapters/golang-$x","address":"Ada.$x@$d"}`,
		rest: `POST /v1/chapters/golang-$x:erasePerson {"address":"Ada.$x@$d"}`,
		want: `{"officers":["$officer"]}`,
	},
	{
		does: "AMemberOfStaffHasAChapterToo", as: coordinator,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"zig-$x","chapter":{"displayName":"Zig","region":"regions/france-$x"}}`,
		rest: `POST /v1/chapters?chapterId=zig-$x {"displayName":"Zig","region":"regions/france-$x"}`,
	},
	{
		does: "AsItsPresident", as: zigAdmin,
		grpc: `local.v1.OfficerService/CreateOfficer {"parent":"chapters/zig-$x","officer":{"displayName":"Zoe $secret","role":"PRESIDENT","subject":"international_staff:federation"}}`,
		rest: `POST /v1/chapters/zig-$x/officers {"displayName":"Zoe $secret","role":"PRESIDENT","subject":"international_staff:federation"}`,
		want: `{"role":"PRESIDENT"}`,
		keep: map[string]string{"president": "name"},
	},
	{
		does: "ItApplies", as: zigAdmin,
		grpc: `international.v1.CharterService/CreateCharter {"charter":{"chapter":"chapters/zig-$x"}}`,
		rest: `POST /v1/charters {"chapter":"chapters/zig-$x"}`,
		want: `{"state":"APPLIED"}`,
	},
	{
		does: "NobodyDecidesOnTheirOwn", as: staff, within: patience,
		grpc:  `international.v1.CharterService/ClaimCharter {"name":"charters/zig-$x"}`,
		rest:  `POST /v1/charters/zig-$x:claim {}`,
		fails: refused("CONFLICT_OF_INTEREST", codes.PermissionDenied, 403),
	},
	{
		does: "ThePresidentSteppedDown", as: zigAdmin,
		grpc: `local.v1.OfficerService/DeleteOfficer {"name":"$president"}`,
		rest: `DELETE /v1/$president`,
	},
	{
		does: "AndMayDecide", as: staff, within: patience,
		grpc: `international.v1.CharterService/DeclineCharter {"name":"charters/zig-$x","note":"Nobody yet."}`,
		rest: `POST /v1/charters/zig-$x:decline {"note":"Nobody yet."}`,
		want: `{"state":"DECLINED"}`,
	},
}
