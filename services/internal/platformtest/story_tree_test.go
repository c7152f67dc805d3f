package platformtest

import (
	"google.golang.org/grpc/codes"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

// iberian speaks for the region that the story's chapter comes to.
var iberian = role{authz.Coordinator, "regions/iberia-$x"}

// arranging is how staff arrange the tree, who acts in it, and how a chapter moves.
var arranging = []step{
	{
		does: "StaffMakeARegionBeside", as: staff,
		grpc: `regional.v1.RegionService/CreateRegion {"regionId":"iberia-$x","region":{"displayName":"Iberia","parentRegion":"regions/world"}}`,
		rest: `POST /v1/regions?regionId=iberia-$x {"displayName":"Iberia","parentRegion":"regions/world"}`,
		want: `{"name":"regions/iberia-$x","effectiveTime":"*"}`,
		keep: map[string]string{"asIberiaBegan": "effectiveTime"},
	},
	{
		does: "APartIsMade", as: staff,
		grpc: `regional.v1.RegionService/SplitRegion {"name":"regions/iberia-$x","parts":[{"regionId":"spain-$x","displayName":"Spain","countryCodes":["ES"]}]}`,
		rest: `POST /v1/regions/iberia-$x:split {"parts":[{"regionId":"spain-$x","displayName":"Spain","countryCodes":["ES"]}]}`,
		want: `{"regions":[{"name":"regions/spain-$x","parentRegion":"regions/iberia-$x"}],"movedChapters":0}`,
	},
	{
		does: "ACountryIsCoveredOnce", as: staff,
		grpc:  `regional.v1.RegionService/CreateRegion {"regionId":"hispania-$x","region":{"displayName":"Hispania","parentRegion":"regions/iberia-$x","countryCodes":["ES"]}}`,
		rest:  `POST /v1/regions?regionId=hispania-$x {"displayName":"Hispania","parentRegion":"regions/iberia-$x","countryCodes":["ES"]}`,
		fails: refused("REGION_COUNTRY_TAKEN", codes.FailedPrecondition, 400, "country", "ES", "region", "regions/spain-$x"),
	},
	{
		does: "NothingHangsOnItself", as: staff,
		grpc:  `regional.v1.RegionService/MoveRegion {"name":"regions/iberia-$x","parentRegion":"regions/spain-$x"}`,
		rest:  `POST /v1/regions/iberia-$x:move {"parentRegion":"regions/spain-$x"}`,
		fails: refused("REGION_PARENT_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "CoordinatorsDoNotArrange", as: coordinator,
		grpc:  `regional.v1.RegionService/MoveRegion {"name":"regions/france-$x","parentRegion":"regions/iberia-$x"}`,
		rest:  `POST /v1/regions/france-$x:move {"parentRegion":"regions/iberia-$x"}`,
		fails: denied(),
	},
	{
		does: "TheRegionMoves", as: staff,
		grpc: `regional.v1.RegionService/MoveRegion {"name":"regions/spain-$x","parentRegion":"regions/world"}`,
		rest: `POST /v1/regions/spain-$x:move {"parentRegion":"regions/world"}`,
		want: `{"name":"regions/spain-$x","parentRegion":"regions/world"}`,
	},
	{
		does: "ItsHistoryStays", as: auditor,
		grpc: `regional.v1.RegionService/ListRegionHistory {"parent":"regions/spain-$x"}`,
		rest: `GET /v1/regions/spain-$x/history`,
		want: `{"periods":[{"change":"MOVED","parentRegion":"regions/world","closed":false},{"change":"SPLIT","parentRegion":"regions/iberia-$x","endTime":"*"}]}`,
	},
	{
		does: "ItMergesBack", as: staff,
		grpc: `regional.v1.RegionService/MergeRegion {"name":"regions/spain-$x","intoRegion":"regions/iberia-$x"}`,
		rest: `POST /v1/regions/spain-$x:merge {"intoRegion":"regions/iberia-$x"}`,
		want: `{"name":"regions/iberia-$x","countryCodes":["ES"]}`,
	},
	{
		does: "AndIsNoMore", as: auditor,
		grpc:  `regional.v1.RegionService/GetRegion {"name":"regions/spain-$x"}`,
		rest:  `GET /v1/regions/spain-$x`,
		fails: refused("NOT_FOUND", codes.NotFound, 404, "mergedInto", "regions/iberia-$x"),
	},
	{
		does: "TheTreeIsReadAsItWas", as: auditor,
		grpc: `regional.v1.RegionService/GetRegionTree {"name":"regions/iberia-$x","asOfTime":"$asIberiaBegan"}`,
		rest: `GET /v1/regions/iberia-$x:tree?asOfTime=$asIberiaBegan`,
		want: `{"region":{"displayName":"Iberia","countryCodes":[]},"totalChapters":0,"children":[]}`,
	},
	{
		does: "TheFutureIsNotKnown", as: auditor,
		grpc:  `regional.v1.RegionService/GetRegion {"name":"regions/iberia-$x","asOfTime":"2999-01-01T00:00:00Z"}`,
		rest:  `GET /v1/regions/iberia-$x?asOfTime=2999-01-01T00:00:00Z`,
		fails: refused("AS_OF_TIME_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "ACoordinatorIsAppointed", as: staff,
		grpc: `regional.v1.CoordinatorService/CreateCoordinator {"parent":"regions/iberia-$x","coordinator":{"subject":"inez-$x","displayName":"Inez $secret","role":"COORDINATOR"}}`,
		rest: `POST /v1/regions/iberia-$x/coordinators {"subject":"inez-$x","displayName":"Inez $secret","role":"COORDINATOR"}`,
		want: `{"name":"*","subject":"inez-$x","termStartTime":"*","etag":"*"}`,
		keep: map[string]string{"inez": "name"},
	},
	{
		does: "WhoAppointsADeputy", as: iberian, within: patience,
		grpc: `regional.v1.CoordinatorService/CreateCoordinator {"parent":"regions/iberia-$x","coordinator":{"subject":"dora-$x","displayName":"Dora $secret","role":"DEPUTY"},"requestId":"dora-$x"}`,
		rest: `POST /v1/regions/iberia-$x/coordinators {"subject":"dora-$x","displayName":"Dora $secret","role":"DEPUTY"}`,
		want: `{"role":"DEPUTY"}`,
		keep: map[string]string{"deputy": "name"},
	},
	{
		does: "AndGoesAway", as: iberian,
		grpc: `regional.v1.CoordinatorService/UpdateCoordinator {"coordinator":{"name":"$inez","awayStartTime":"2020-01-01T00:00:00Z","substitute":"$deputy"},"updateMask":"awayStartTime,substitute"}`,
		rest: `PATCH /v1/$inez?updateMask=awayStartTime,substitute {"awayStartTime":"2020-01-01T00:00:00Z","substitute":"$deputy"}`,
		want: `{"substitute":"$deputy"}`,
	},
	{
		does: "ThenTheSubstituteActs", as: auditor,
		grpc: `regional.v1.CoordinatorService/GetActing {"region":"regions/iberia-$x"}`,
		rest: `GET /v1/regions/iberia-$x:acting`,
		want: `{"actingRegion":"regions/iberia-$x","basis":"SUBSTITUTES","coordinators":[{"name":"$deputy"}]}`,
	},
	{
		does: "CoordinatorsAreListed", as: auditor,
		grpc: `regional.v1.CoordinatorService/ListCoordinators {"parent":"regions/iberia-$x"}`,
		rest: `GET /v1/regions/iberia-$x/coordinators`,
		want: `{"coordinators":[{"name":"$inez"},{"name":"$deputy"}],"nextPageToken":""}`,
	},
	{
		does: "NotByEverybody", as: admin,
		grpc:  `regional.v1.CoordinatorService/GetCoordinator {"name":"$inez"}`,
		rest:  `GET /v1/$inez`,
		fails: denied(),
	},
	{
		does: "TheReceiverAsksForAChapter", as: iberian, within: patience,
		grpc: `regional.v1.TransferService/AdoptChapter {"region":"regions/iberia-$x","chapter":"chapters/rust-$x","note":"they meet in Porto"}`,
		rest: `POST /v1/regions/iberia-$x:adopt {"chapter":"chapters/rust-$x","note":"they meet in Porto"}`,
		want: `{"state":"PROPOSED","proposedBy":"RECEIVING","fromRegion":"regions/france-$x","toRegion":"regions/iberia-$x"}`,
		keep: map[string]string{"transfer": "name"},
	},
	{
		does: "AndCannotConsentForTheGiver", as: iberian,
		grpc:  `regional.v1.TransferService/AcceptTransfer {"name":"$transfer"}`,
		rest:  `POST /v1/$transfer:accept {}`,
		fails: denied(),
	},
	{
		does: "TheGiverSeesIt", as: coordinator, within: patience,
		grpc: `regional.v1.TransferService/ListTransfers {"parent":"regions/france-$x","state":"PROPOSED"}`,
		rest: `GET /v1/regions/france-$x/transfers?state=PROPOSED`,
		want: `{"transfers":[{"chapter":"chapters/rust-$x","note":"they meet in Porto"}]}`,
	},
	{
		does: "AndConsents", as: coordinator,
		grpc: `regional.v1.TransferService/AcceptTransfer {"name":"$transfer","note":"go well"}`,
		rest: `POST /v1/$transfer:accept {"note":"go well"}`,
		want: `{"state":"COMPLETED","decisionNote":"go well"}`,
	},
	{
		does: "Once", as: coordinator,
		grpc:  `regional.v1.TransferService/DeclineTransfer {"name":"$transfer"}`,
		rest:  `POST /v1/$transfer:decline {}`,
		fails: refused("TRANSFER_STATE", codes.FailedPrecondition, 400, "state", "COMPLETED"),
	},
	{
		does: "TheChapterLiesThere", as: auditor,
		grpc: `regional.v1.RegionService/ListRegionChapters {"parent":"regions/iberia-$x"}`,
		rest: `GET /v1/regions/iberia-$x/chapters`,
		want: `{"chapters":[{"chapter":"chapters/rust-$x","region":"regions/iberia-$x","startTime":"*"}]}`,
	},
	{
		does: "AsItsOwnSiteSays", as: auditor, within: patience,
		grpc: `local.v1.ChapterService/GetChapter {"name":"chapters/rust-$x"}`,
		rest: `GET /v1/chapters/rust-$x`,
		want: `{"region":"regions/iberia-$x"}`,
	},
	{
		does: "WhoSpeaksForBothMovesAtOnce", as: staff,
		grpc: `regional.v1.TransferService/AdoptChapter {"region":"regions/france-$x","chapter":"chapters/rust-$x"}`,
		rest: `POST /v1/regions/france-$x:adopt {"chapter":"chapters/rust-$x"}`,
		want: `{"state":"COMPLETED","proposedBy":"BOTH"}`,
	},
	{
		does: "AndItIsBack", as: auditor, within: patience,
		grpc: `local.v1.ChapterService/GetChapter {"name":"chapters/rust-$x"}`,
		rest: `GET /v1/chapters/rust-$x`,
		want: `{"region":"regions/france-$x"}`,
	},
	{
		does: "ACoordinatorIsRemoved", as: staff,
		grpc: `regional.v1.CoordinatorService/DeleteCoordinator {"name":"$deputy"}`,
		rest: `DELETE /v1/$deputy`,
		want: `{}`,
	},
	{
		does: "WhatIsFullIsNotClosed", as: staff,
		grpc:  `regional.v1.RegionService/DeleteRegion {"name":"regions/europe-$x"}`,
		rest:  `DELETE /v1/regions/europe-$x`,
		fails: refused("REGION_NOT_EMPTY", codes.FailedPrecondition, 400, "regions", "1", "chapters", "0"),
	},
	{
		does: "WhatIsEmptyIs", as: staff,
		grpc: `regional.v1.RegionService/DeleteRegion {"name":"regions/iberia-$x"}`,
		rest: `DELETE /v1/regions/iberia-$x`,
		want: `{}`,
	},
}
