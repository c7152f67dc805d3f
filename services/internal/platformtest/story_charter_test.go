package platformtest

import "google.golang.org/grpc/codes"

// The members of the story's members list: of ada, bob, cleo and linus, ada alone holds international membership.
const (
	crm    = "address,displayName\nada.$x@$d,Ada $secret\nBob $secret <bob.$x@$d>,\nCLEO.$x@$d,Cleo\nlinus.$x@$d,Linus $secret\nada.$x@$d,Ada again\nno-address-$secret,Nobody\n"
	meetup = `{"address":"dora.$x@$d","displayName":"Dora $secret"}` + "\n" + `{"address":"eve+club.$x@$d"}` + "\n" + `{"address":"finn.$x@$d"}` + "\n" + `{"address":"gus.$x@$d"}` + "\n"
)

// counting takes a chapter from nothing to below the line and over it.
var counting = []step{
	{
		does: "AChapterHasAStandingFromItsCreation", as: coordinator, within: patience,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":false,"basis":"BASIS_UNSPECIFIED","membership":{"total":0,"international":0},"mailing":{"total":0,"international":0},"gap":{"recruit":1},"margin":0,"gapBasis":"MEMBERSHIP","policyRevision":"1","etag":"*"}`,
	},
	{
		does: "ASyncIsPlannedFirst", as: admin, media: "text/csv", source: crm,
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/members","mode":"REPLACE","source":"crm"}}`,
		rest: `POST /v1/chapters/golang-$x/lists/members/syncs?mode=REPLACE&source=crm`,
		want: `{"state":"PLANNED","mode":"REPLACE","source":"crm","etag":"*","expireTime":"*","standingUnavailable":false,
			"counts":{"add":4,"update":0,"unchanged":0,"remove":0,"suppressed":0,"rejected":1,"duplicate":1},
			"standingBefore":{"membership":{"total":0}},"standingAfter":{"eligible":false,"membership":{"total":4,"international":1},"gap":{"convert":2,"recruit":4}}}`,
		keep: map[string]string{"sync": "name"},
	},
	{
		does: "ThePlanShowsEveryRow", as: admin,
		grpc: `local.v1.SyncService/ListSyncChanges {"parent":"$sync","filter":"kind = REJECTED OR kind = DUPLICATE"}`,
		rest: `GET /v1/$sync/changes?filter=kind+%3D+REJECTED+OR+kind+%3D+DUPLICATE`,
		want: `{"changes":[{"kind":"REJECTED","line":7,"code":"*"},{"kind":"DUPLICATE","line":6,"firstLine":2}]}`,
	},
	{
		does: "APlanChangesNothing", as: admin,
		grpc: `local.v1.ListService/GetList {"name":"chapters/golang-$x/lists/members"}`,
		rest: `GET /v1/chapters/golang-$x/lists/members`,
		want: `{"subscribedCount":0}`,
	},
	{
		does: "AndIsThenApplied", as: admin,
		grpc: `local.v1.SyncService/ApplySync {"name":"$sync"}`,
		rest: `POST /v1/$sync:apply {}`,
		want: `{"name":"$sync","state":"APPLIED","counts":{"add":4},"applyTime":"*"}`,
	},
	{
		does: "SoonTheStandingHasIt", as: staff, within: soon,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":false,"basis":"BASIS_UNSPECIFIED","membership":{"total":4,"international":1},"gap":{"convert":2,"recruit":4},"margin":-2,"gapBasis":"MEMBERSHIP"}`,
		keep: map[string]string{"below": "etag"},
	},
	{
		does: "TheChapterApplies", as: admin,
		grpc: `international.v1.CharterService/CreateCharter {"charter":{"chapter":"chapters/golang-$x","note":"We are growing."}}`,
		rest: `POST /v1/charters {"chapter":"chapters/golang-$x","note":"We are growing."}`,
		want: `{"name":"charters/golang-$x","chapter":"chapters/golang-$x","state":"APPLIED"}`,
	},
	{
		does: "StaffClaimTheReview", as: staff,
		grpc: `international.v1.CharterService/ClaimCharter {"name":"charters/golang-$x"}`,
		rest: `POST /v1/charters/golang-$x:claim {}`,
		want: `{"state":"IN_REVIEW","reviewer":"*"}`,
	},
	{
		does: "BelowTheLineNothingIsApproved", as: staff,
		grpc:  `international.v1.CharterService/ApproveCharter {"name":"charters/golang-$x","standingEtag":"$below"}`,
		rest:  `POST /v1/charters/golang-$x:approve {"standingEtag":"$below"}`,
		fails: refused("NOT_ELIGIBLE", codes.FailedPrecondition, 400, "convert", "2", "recruit", "4"),
	},
	{
		does: "AnotherSourceIsMergedAtOnce", as: admin, media: "application/x-ndjson", source: meetup,
		grpc: `local.v1.SyncService/CreateSync {"header":{"parent":"chapters/golang-$x/lists/members","mode":"MERGE","source":"meetup","apply":true}}`,
		rest: `POST /v1/chapters/golang-$x/lists/members/syncs?mode=MERGE&source=meetup&apply=true`,
		want: `{"state":"APPLIED","mode":"MERGE","counts":{"add":4,"unchanged":0,"remove":0},
			"standingBefore":{"membership":{"total":4,"international":1}},
			"standingAfter":{"eligible":true,"basis":"MEMBERSHIP","membership":{"total":8,"international":5}}}`,
	},
	{
		does: "SoonTheChapterIsOverTheLine", as: staff, within: soon,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":true,"basis":"MEMBERSHIP","membership":{"total":8,"international":5},"gap":{"convert":0,"recruit":0},"margin":0,
			"basedOn":{"registerPosition":"*","lists":[{"list":"chapters/golang-$x/lists/announce"},{"list":"chapters/golang-$x/lists/members","version":"*"}]}}`,
		keep: map[string]string{"over": "etag"},
	},
	{
		does: "NobodyApprovesWhatTheyDidNotRead", as: staff,
		grpc:  `international.v1.CharterService/ApproveCharter {"name":"charters/golang-$x","standingEtag":"$below"}`,
		rest:  `POST /v1/charters/golang-$x:approve {"standingEtag":"$below"}`,
		fails: refused("STANDING_MOVED", codes.Aborted, 409, "standingEtag", "$over"),
	},
	{
		does: "OnlyStaffApprove", as: coordinator,
		grpc:  `international.v1.CharterService/ApproveCharter {"name":"charters/golang-$x","standingEtag":"$over"}`,
		rest:  `POST /v1/charters/golang-$x:approve {"standingEtag":"$over"}`,
		fails: denied(),
	},
	{
		does: "StaffApproveOnTheFiguresTheyRead", as: staff,
		grpc: `international.v1.CharterService/ApproveCharter {"name":"charters/golang-$x","standingEtag":"$over","note":"Welcome"}`,
		rest: `POST /v1/charters/golang-$x:approve {"standingEtag":"$over","note":"Welcome"}`,
		want: `{"state":"CHARTERED","decision":{"note":"Welcome","policyRevision":"1","standing":{"etag":"$over","membership":{"total":8,"international":5}}}}`,
	},
	{
		does: "AResignationIsCountedAtOnce", as: staff,
		grpc: `international.v1.MemberService/ResignMember {"name":"members/eve-$x"}`,
		rest: `POST /v1/members/eve-$x:resign {}`,
		want: `{"state":"RESIGNED"}`,
	},
	{
		does: "AndPutsTheCharterAtRisk", as: admin, within: soon,
		grpc: `international.v1.CharterService/GetCharter {"name":"charters/golang-$x"}`,
		rest: `GET /v1/charters/golang-$x`,
		want: `{"state":"AT_RISK","cureByTime":"*"}`,
	},
	{
		does: "BelowTheLineTheGapIsShown", as: admin, within: soon,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":false,"membership":{"total":8,"international":4},"gap":{"convert":1,"recruit":2},"margin":-1}`,
	},
	{
		does: "ANewTermHeals", as: staff,
		grpc: `international.v1.MemberService/RenewMember {"name":"members/eve-$x","termEndTime":"2099-12-31T00:00:00Z"}`,
		rest: `POST /v1/members/eve-$x:renew {"termEndTime":"2099-12-31T00:00:00Z"}`,
		want: `{"state":"ACTIVE"}`,
	},
	{
		does: "TheHistoryTellsAllOfIt", as: auditor, within: soon,
		grpc: `international.v1.CharterService/ListCharterHistory {"parent":"charters/golang-$x"}`,
		rest: `GET /v1/charters/golang-$x/history`,
		want: `{"history":[{"verb":"apply","toState":"APPLIED"},{"verb":"claim"},{"verb":"approve","toState":"CHARTERED","note":"Welcome"},
			{"verb":"eligibilityLost","toState":"AT_RISK","subject":"system"},{"verb":"eligibilityRegained","toState":"CHARTERED"}]}`,
	},
	{
		does: "AnotherChapterApplies", as: otherAdmin,
		grpc: `international.v1.CharterService/CreateCharter {"charter":{"chapter":"chapters/rust-$x"}}`,
		rest: `POST /v1/charters {"chapter":"chapters/rust-$x"}`,
		want: `{"state":"APPLIED"}`,
	},
	{
		does: "AndIsDeclined", as: staff,
		grpc: `international.v1.CharterService/DeclineCharter {"name":"charters/rust-$x","note":"Nobody yet."}`,
		rest: `POST /v1/charters/rust-$x:decline {"note":"Nobody yet."}`,
		want: `{"state":"DECLINED","reapplyTime":"*","decision":{"note":"Nobody yet."}}`,
	},
	{
		does: "ChartersAreListedByRegion", as: coordinator, within: patience,
		grpc: `international.v1.CharterService/ListCharters {"region":"regions/europe-$x","state":"CHARTERED"}`,
		rest: `GET /v1/charters?region=regions/europe-$x&state=CHARTERED`,
		want: `{"charters":[{"name":"charters/golang-$x","state":"CHARTERED"}]}`,
	},
	{
		does: "ThePolicyIsPublic", as: otherAdmin,
		grpc: `international.v1.CharterService/GetCharterPolicy {}`,
		rest: `GET /v1/charterPolicy`,
		want: `{"revision":"1","thresholdPercent":60,"minimumPeopleMembership":1,"minimumPeopleMailing":1,"graceDays":90,"allowedBases":["MEMBERSHIP","MAILING"]}`,
	},
	{
		does: "TheTreeCountsItsChapters", as: coordinator, within: patience,
		grpc: `regional.v1.RegionService/GetRegionTree {"name":"regions/europe-$x"}`,
		rest: `GET /v1/regions/europe-$x:tree`,
		want: `{"region":{"name":"regions/europe-$x"},"chapters":0,"totalChapters":2,"eligibleChapters":1,"charteredChapters":1,
			"children":[{"region":{"name":"regions/france-$x"},"chapters":2,"children":[]}]}`,
	},
}
