package platformtest

import "google.golang.org/grpc/codes"

// foundation is regions, chapters, lists and the register: all that is there before anything is counted.
var foundation = []step{
	{
		does: "StaffMakeARegion", as: staff,
		grpc: `regional.v1.RegionService/CreateRegion {"regionId":"europe-$x","region":{"displayName":"Europe","parentRegion":"regions/world"}}`,
		rest: `POST /v1/regions?regionId=europe-$x {"displayName":"Europe","parentRegion":"regions/world"}`,
		want: `{"name":"regions/europe-$x","displayName":"Europe","parentRegion":"regions/world","etag":"*"}`,
	},
	{
		does: "AndOneBelowIt", as: staff,
		grpc: `regional.v1.RegionService/CreateRegion {"regionId":"france-$x","region":{"displayName":"France","parentRegion":"regions/europe-$x","countryCodes":["FR"]}}`,
		rest: `POST /v1/regions?regionId=france-$x {"displayName":"France","parentRegion":"regions/europe-$x","countryCodes":["FR"]}`,
		want: `{"parentRegion":"regions/europe-$x","countryCodes":["FR"]}`,
	},
	{
		does: "OnlyOnce", as: staff,
		grpc:  `regional.v1.RegionService/CreateRegion {"regionId":"france-$x","region":{"displayName":"Again","parentRegion":"regions/europe-$x"}}`,
		rest:  `POST /v1/regions?regionId=france-$x {"displayName":"Again","parentRegion":"regions/europe-$x"}`,
		fails: refused("ALREADY_EXISTS", codes.AlreadyExists, 409),
	},
	{
		does: "NotBelowNothing", as: staff,
		grpc:  `regional.v1.RegionService/CreateRegion {"regionId":"lost-$x","region":{"displayName":"Lost","parentRegion":"regions/nowhere-$x"}}`,
		rest:  `POST /v1/regions?regionId=lost-$x {"displayName":"Lost","parentRegion":"regions/nowhere-$x"}`,
		fails: refused("REGION_PARENT_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AnybodySignedInReadsRegions", as: auditor,
		grpc: `regional.v1.RegionService/ListRegions {"parentRegion":"regions/europe-$x"}`,
		rest: `GET /v1/regions?parentRegion=regions/europe-$x`,
		want: `{"regions":[{"name":"regions/france-$x"}],"nextPageToken":""}`,
	},
	{
		does: "StaffFoundAChapter", as: staff,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"golang-$x","chapter":{"displayName":"Golang Paris","region":"regions/france-$x","city":"Paris","countryCode":"FR","latitude":48.85,"longitude":2.35}}`,
		rest: `POST /v1/chapters?chapterId=golang-$x {"displayName":"Golang Paris","region":"regions/france-$x","city":"Paris","countryCode":"FR","latitude":48.85,"longitude":2.35}`,
		want: `{"name":"chapters/golang-$x","region":"regions/france-$x","city":"Paris","latitude":48.85}`,
		keep: map[string]string{"chapterEtag": "etag"},
	},
	{
		// Once the local service has heard where the region lies.
		does: "ACoordinatorFoundsAnother", as: coordinator, within: patience,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"rust-$x","chapter":{"displayName":"Rust Paris","region":"regions/france-$x"}}`,
		rest: `POST /v1/chapters?chapterId=rust-$x {"displayName":"Rust Paris","region":"regions/france-$x"}`,
		want: `{"name":"chapters/rust-$x"}`,
	},
	{
		does: "NotOutsideOfTheRegion", as: coordinator,
		grpc:  `local.v1.ChapterService/CreateChapter {"chapterId":"stray-$x","chapter":{"displayName":"Stray","region":"regions/world"}}`,
		rest:  `POST /v1/chapters?chapterId=stray-$x {"displayName":"Stray","region":"regions/world"}`,
		fails: denied(),
	},
	{
		does: "NotInARegionThatIsNotThere", as: staff,
		grpc:  `local.v1.ChapterService/CreateChapter {"chapterId":"stray-$x","chapter":{"displayName":"Stray","region":"regions/nowhere-$x"}}`,
		rest:  `POST /v1/chapters?chapterId=stray-$x {"displayName":"Stray","region":"regions/nowhere-$x"}`,
		fails: refused("NOT_FOUND", codes.NotFound, 404),
	},
	{
		does: "ChaptersOfTheRegionAreListed", as: otherAdmin,
		grpc: `local.v1.ChapterService/ListChapters {"region":"regions/france-$x"}`,
		rest: `GET /v1/chapters?region=regions/france-$x`,
		want: `{"chapters":[{"name":"chapters/golang-$x","city":"Paris"},{"name":"chapters/rust-$x","city":"","latitude":0}]}`,
	},
	{
		does: "AdminsChangeTheirChapter", as: admin,
		grpc: `local.v1.ChapterService/UpdateChapter {"chapter":{"name":"chapters/golang-$x","url":"https://golang.example","etag":"$chapterEtag"},"updateMask":"url"}`,
		rest: `PATCH /v1/chapters/golang-$x?updateMask=url {"url":"https://golang.example","etag":"$chapterEtag"}`,
		want: `{"url":"https://golang.example","city":"Paris"}`,
	},
	{
		does: "NotOnAnOldReading", as: admin, header: "If-Match: $chapterEtag",
		grpc:  `local.v1.ChapterService/UpdateChapter {"chapter":{"name":"chapters/golang-$x","url":"https://other.example","etag":"$chapterEtag"},"updateMask":"url"}`,
		rest:  `PATCH /v1/chapters/golang-$x?updateMask=url {"url":"https://other.example"}`,
		fails: refused("ETAG_MISMATCH", codes.Aborted, 409),
	},
	{
		does: "NorSomebodyElsesChapter", as: otherAdmin,
		grpc:  `local.v1.ChapterService/UpdateChapter {"chapter":{"name":"chapters/golang-$x","url":"https://other.example"},"updateMask":"url"}`,
		rest:  `PATCH /v1/chapters/golang-$x?updateMask=url {"url":"https://other.example"}`,
		fails: denied(),
	},
	{
		does: "AChapterHasItsMembersList", as: admin,
		grpc: `local.v1.ListService/GetList {"name":"chapters/golang-$x/lists/members"}`,
		rest: `GET /v1/chapters/golang-$x/lists/members`,
		want: `{"name":"chapters/golang-$x/lists/members","kind":"MEMBERSHIP","subscribedCount":0}`,
	},
	{
		does: "AndMailingListsAsItLikes", as: admin,
		grpc: `local.v1.ListService/CreateList {"parent":"chapters/golang-$x","listId":"announce","list":{"displayName":"Announcements"}}`,
		rest: `POST /v1/chapters/golang-$x/lists?listId=announce {"displayName":"Announcements"}`,
		want: `{"name":"chapters/golang-$x/lists/announce","kind":"MAILING","doubleOptIn":false}`,
	},
	{
		does: "MembersStays", as: admin,
		grpc:  `local.v1.ListService/DeleteList {"name":"chapters/golang-$x/lists/members"}`,
		rest:  `DELETE /v1/chapters/golang-$x/lists/members`,
		fails: refused("LIST_PERMANENT", codes.FailedPrecondition, 400),
	},
}

// register is the story's members: ada, eve and the like hold international membership, linus does not.
var register = []step{
	{
		does: "StaffEnterAMember", as: staff,
		grpc: `international.v1.MemberService/CreateMember {"member":{"displayName":"Ada $secret","addresses":[{"address":"ADA.$x@$d","verified":true}],"termEndTime":"2099-06-30T00:00:00Z"}}`,
		rest: `POST /v1/members {"displayName":"Ada $secret","addresses":[{"address":"ADA.$x@$d","verified":true}],"termEndTime":"2099-06-30T00:00:00Z"}`,
		want: `{"name":"*","state":"ACTIVE","addresses":[{"address":"ada.$x@$d","verified":true}],"termEndTime":"2099-06-30T00:00:00Z"}`,
		keep: map[string]string{"ada": "name"},
	},
	memberNamed("dora"), memberNamed("eve"), memberNamed("finn"), memberNamed("gus"),
	{
		does: "WithoutATermAMemberIsLapsed", as: staff,
		grpc: `international.v1.MemberService/CreateMember {"memberId":"linus-$x","member":{"displayName":"Linus $secret","addresses":[{"address":"linus.$x@$d","verified":true}]}}`,
		rest: `POST /v1/members?memberId=linus-$x {"displayName":"Linus $secret","addresses":[{"address":"linus.$x@$d","verified":true}]}`,
		want: `{"name":"members/linus-$x","state":"LAPSED"}`,
	},
	{
		does: "AVerifiedAddressBelongsToOneMember", as: staff,
		grpc:  `international.v1.MemberService/CreateMember {"memberId":"eva-$x","member":{"displayName":"Eva $secret","addresses":[{"address":"eve.$x@$d","verified":true}]}}`,
		rest:  `POST /v1/members?memberId=eva-$x {"displayName":"Eva $secret","addresses":[{"address":"eve.$x@$d","verified":true}]}`,
		fails: refused("ADDRESS_TAKEN", codes.AlreadyExists, 409),
	},
	{
		does: "ABadAddressIsRefused", as: staff,
		grpc:  `international.v1.MemberService/CreateMember {"memberId":"eva-$x","member":{"displayName":"Eva $secret","addresses":[{"address":"eva..$x@$d"}]}}`,
		rest:  `POST /v1/members?memberId=eva-$x {"displayName":"Eva $secret","addresses":[{"address":"eva..$x@$d"}]}`,
		fails: refused("ADDRESS_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "MembersAreRead", as: auditor,
		grpc: `international.v1.MemberService/GetMember {"name":"$ada"}`,
		rest: `GET /v1/$ada`,
		want: `{"name":"$ada","displayName":"Ada $secret","state":"ACTIVE"}`,
	},
	{
		does: "AndListedInPages", as: staff,
		grpc: `international.v1.MemberService/ListMembers {"pageSize":2,"state":"ACTIVE"}`,
		rest: `GET /v1/members?pageSize=2&state=ACTIVE`,
		want: `{"members":[{"state":"ACTIVE"},{"state":"ACTIVE"}],"nextPageToken":"*"}`,
		keep: map[string]string{"page": "nextPageToken"},
	},
	{
		does: "OneAfterTheOther", as: staff,
		grpc: `international.v1.MemberService/ListMembers {"pageSize":2,"state":"ACTIVE","pageToken":"$page"}`,
		rest: `GET /v1/members?pageSize=2&state=ACTIVE&pageToken=$page`,
		want: `{"members":[{"state":"ACTIVE"},{"state":"ACTIVE"}]}`,
	},
	{
		does: "APageTokenBelongsToItsQuery", as: staff,
		grpc:  `international.v1.MemberService/ListMembers {"pageSize":2,"state":"LAPSED","pageToken":"$page"}`,
		rest:  `GET /v1/members?pageSize=2&state=LAPSED&pageToken=$page`,
		fails: refused("PAGE_TOKEN_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AMemberAddsAnAddress", as: role{"member", "members/eve-$x"},
		grpc: `international.v1.MemberService/CreateAddress {"parent":"members/eve-$x","address":{"address":"eve+club.$x@$d"}}`,
		rest: `POST /v1/members/eve-$x/addresses {"address":"eve+club.$x@$d"}`,
		want: `{"address":"eve+club.$x@$d","verified":false}`,
		keep: map[string]string{"eveClub": "name"},
	},
	{
		does: "ThatStaffVerify", as: staff,
		grpc: `international.v1.MemberService/VerifyAddress {"name":"$eveClub"}`,
		rest: `POST /v1/$eveClub:verify {}`,
		want: `{"name":"$eveClub","verified":true,"verifyTime":"*"}`,
	},
	{
		does: "AddressesAreListed", as: staff,
		grpc: `international.v1.MemberService/ListAddresses {"parent":"members/eve-$x"}`,
		rest: `GET /v1/members/eve-$x/addresses`,
		want: `{"addresses":[{"address":"eve.$x@$d"},{"address":"eve+club.$x@$d","verified":true}]}`,
	},
	{
		does: "ARequestIsCarriedOutOnce", as: staff, header: "Idempotency-Key: once-$x",
		grpc: `international.v1.MemberService/CreateAddress {"parent":"$ada","address":{"address":"ada.home.$x@$d"},"requestId":"once-$x"}`,
		rest: `POST /v1/$ada/addresses {"address":"ada.home.$x@$d"}`,
		keep: map[string]string{"adaHome": "name"},
	},
	{
		does: "AndAnsweredAgain", as: staff, header: "Idempotency-Key: once-$x",
		grpc: `international.v1.MemberService/CreateAddress {"parent":"$ada","address":{"address":"ada.home.$x@$d"},"requestId":"once-$x"}`,
		rest: `POST /v1/$ada/addresses {"address":"ada.home.$x@$d"}`,
		want: `{"name":"$adaHome"}`,
	},
	{
		does: "ItsIdIsNotForAnother", as: staff, header: "Idempotency-Key: once-$x",
		grpc:  `international.v1.MemberService/CreateAddress {"parent":"$ada","address":{"address":"ada.work.$x@$d"},"requestId":"once-$x"}`,
		rest:  `POST /v1/$ada/addresses {"address":"ada.work.$x@$d"}`,
		fails: refused("IDEMPOTENCY_KEY_REUSED", codes.InvalidArgument, 422),
	},
	{
		does: "AddressesAreRemoved", as: staff,
		grpc: `international.v1.MemberService/DeleteAddress {"name":"$adaHome"}`,
		rest: `DELETE /v1/$adaHome`,
		want: `{}`,
	},
}

// memberNamed enters a member whose term runs for long.
func memberNamed(name string) step {
	return step{
		does: "StaffEnter" + name, as: staff,
		grpc: `international.v1.MemberService/CreateMember {"memberId":"` + name + `-$x","member":{"displayName":"` + name + ` $secret","addresses":[{"address":"` + name + `.$x@$d","verified":true}],"termEndTime":"2099-06-30T00:00:00Z"}}`,
		rest: `POST /v1/members?memberId=` + name + `-$x {"displayName":"` + name + ` $secret","addresses":[{"address":"` + name + `.$x@$d","verified":true}],"termEndTime":"2099-06-30T00:00:00Z"}`,
		want: `{"name":"members/` + name + `-$x","state":"ACTIVE"}`,
	}
}
