package platformtest

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

var (
	seatKeeper  = role{authz.OrganizationCoordinator, "organizations/acme-$x"}
	otherKeeper = role{authz.OrganizationCoordinator, "organizations/globex-$x"}
	mia         = role{authz.Member, "members/mia-$x"}
)

// registering is what becomes of memberships: suspensions, seats, merges, imports, and somebody who is forgotten. None of
// these people is on a list of the story but noa.
var registering = []step{
	memberNamed("mia"), memberNamed("mio"), memberNamed("noa"),
	{
		does: "AMemberAddsAnAddress", as: mia,
		grpc: `international.v1.MemberService/CreateAddress {"parent":"members/mia-$x","address":{"address":"Mia.$x@other.$d"}}`,
		rest: `POST /v1/members/mia-$x/addresses {"address":"Mia.$x@other.$d"}`,
		want: `{"address":"mia.$x@other.$d","verified":false,"verifyMethod":"VERIFY_METHOD_UNSPECIFIED"}`,
		keep: map[string]string{"address": "name"},
	},
	{
		does: "ButCannotAttestIt", as: mia,
		grpc:  `international.v1.MemberService/VerifyAddress {"name":"$address"}`,
		rest:  `POST /v1/$address:verify {}`,
		fails: denied(),
	},
	{
		does: "StaffAttestIt", as: staff,
		grpc: `international.v1.MemberService/VerifyAddress {"name":"$address"}`,
		rest: `POST /v1/$address:verify {}`,
		want: `{"verified":true,"verifyMethod":"STAFF","verifiedBy":"*"}`,
	},
	{
		does: "NobodyMakesMemberLinks", as: nobody,
		grpc:  `international.v1.MemberLinkService/ConfirmMemberLink {"name":"memberLinks/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		rest:  `POST /v1/memberLinks/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA:confirm {}`,
		fails: refused("MEMBER_LINK_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "AReasonIsNeeded", as: staff,
		grpc:  `international.v1.MemberService/SuspendMember {"name":"members/mia-$x"}`,
		rest:  `POST /v1/members/mia-$x:suspend {}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "AMembershipIsSuspended", as: staff,
		grpc: `international.v1.MemberService/SuspendMember {"name":"members/mia-$x","reason":"a complaint"}`,
		rest: `POST /v1/members/mia-$x:suspend {"reason":"a complaint"}`,
		want: `{"state":"SUSPENDED","suspendReason":"a complaint","suspendTime":"*"}`,
	},
	{
		does: "AndNotRenewed", as: staff,
		grpc:  `international.v1.MemberService/RenewMember {"name":"members/mia-$x","termEndTime":"2100-01-01T00:00:00Z"}`,
		rest:  `POST /v1/members/mia-$x:renew {"termEndTime":"2100-01-01T00:00:00Z"}`,
		fails: refused("MEMBER_STATE", codes.FailedPrecondition, 400, "state", "SUSPENDED"),
	},
	{
		does: "NobodyReinstatesThemselves", as: mia,
		grpc:  `international.v1.MemberService/ReinstateMember {"name":"members/mia-$x"}`,
		rest:  `POST /v1/members/mia-$x:reinstate {}`,
		fails: denied(),
	},
	{
		does: "WhatIsLeftComesBack", as: staff,
		grpc: `international.v1.MemberService/ReinstateMember {"name":"members/mia-$x","reason":"heard"}`,
		rest: `POST /v1/members/mia-$x:reinstate {"reason":"heard"}`,
		want: `{"state":"ACTIVE","suspendReason":"","activeUntilTime":"*"}`,
	},
	{
		does: "TheTermsAreListed", as: mia,
		grpc: `international.v1.MemberService/ListTerms {"parent":"members/mia-$x"}`,
		rest: `GET /v1/members/mia-$x/terms`,
		want: `{"terms":[{"state":"RUNNING"}],"nextPageToken":""}`,
	},
	{
		does: "AndSoIsTheHistory", as: mia,
		grpc: `international.v1.MemberService/ListMemberHistory {"parent":"members/mia-$x"}`,
		rest: `GET /v1/members/mia-$x/history`,
		want: `{"changes":[{"verb":"ENTERED"},{"verb":"ADDRESS_ADDED","subject":"member"},{"verb":"ADDRESS_VERIFIED","verifiedCount":2},
			{"verb":"SUSPENDED","note":"a complaint","state":"SUSPENDED"},{"verb":"REINSTATED","note":"heard","state":"ACTIVE"}]}`,
	},
	{
		does: "MembersAreFoundByTheirAddress", as: staff,
		grpc: `international.v1.MemberService/SearchMembers {"address":"MIA.$x@other.$d"}`,
		rest: `POST /v1/members:search {"address":"MIA.$x@other.$d"}`,
		want: `{"members":[{"name":"members/mia-$x"}],"nextPageToken":""}`,
	},
	{
		does: "ButNotByOtherMembers", as: mia,
		grpc:  `international.v1.MemberService/SearchMembers {"displayName":"noa"}`,
		rest:  `POST /v1/members:search {"displayName":"noa"}`,
		fails: denied(),
	},
	{
		does: "AMergeIsRehearsed", as: staff,
		grpc: `international.v1.MemberService/MergeMember {"name":"members/mia-$x","from":"members/mio-$x","validateOnly":true}`,
		rest: `POST /v1/members/mia-$x:merge {"from":"members/mio-$x","validateOnly":true}`,
		want: `{"name":"members/mia-$x","addresses":[{"verified":true},{"verified":true},{"verified":true}]}`,
	},
	{
		does: "AndDone", as: staff,
		grpc: `international.v1.MemberService/MergeMember {"name":"members/mia-$x","from":"members/mio-$x"}`,
		rest: `POST /v1/members/mia-$x:merge {"from":"members/mio-$x"}`,
		want: `{"name":"members/mia-$x","state":"ACTIVE"}`,
	},
	{
		does: "TheOldNameLeadsThere", as: staff,
		grpc: `international.v1.MemberService/GetMember {"name":"members/mio-$x"}`,
		rest: `GET /v1/members/mio-$x`,
		want: `{"state":"MERGED","mergedInto":"members/mia-$x","addresses":[]}`,
	},
	{
		does: "ItIsMergedOnce", as: staff,
		grpc:  `international.v1.MemberService/MergeMember {"name":"members/mia-$x","from":"members/mio-$x"}`,
		rest:  `POST /v1/members/mia-$x:merge {"from":"members/mio-$x"}`,
		fails: refused("MERGE_INVALID", codes.FailedPrecondition, 400),
	},
	{
		does: "AnOrganisationJoins", as: staff,
		grpc: `international.v1.OrganizationService/CreateOrganization {"organizationId":"acme-$x","organization":{"displayName":"Acme","seatCount":1,"termEndTime":"2099-06-30T00:00:00Z"}}`,
		rest: `POST /v1/organizations?organizationId=acme-$x {"displayName":"Acme","seatCount":1,"termEndTime":"2099-06-30T00:00:00Z"}`,
		want: `{"name":"organizations/acme-$x","state":"ACTIVE","takenCount":0,"etag":"*"}`,
	},
	{
		does: "ItsCoordinatorGivesASeat", as: seatKeeper,
		grpc: `international.v1.OrganizationService/CreateSeat {"parent":"organizations/acme-$x","seat":{"member":"members/noa-$x"}}`,
		rest: `POST /v1/organizations/acme-$x/seats {"member":"members/noa-$x"}`,
		want: `{"name":"*","state":"HELD","member":"members/noa-$x","address":""}`,
		keep: map[string]string{"seat": "name"},
	},
	{
		does: "AnotherOnesDoesNot", as: otherKeeper,
		grpc:  `international.v1.OrganizationService/CreateSeat {"parent":"organizations/acme-$x","seat":{"member":"members/mia-$x"}}`,
		rest:  `POST /v1/organizations/acme-$x/seats {"member":"members/mia-$x"}`,
		fails: denied(),
	},
	{
		does: "NoMoreThanThereAre", as: seatKeeper,
		grpc:  `international.v1.OrganizationService/CreateSeat {"parent":"organizations/acme-$x","seat":{"member":"members/mia-$x"}}`,
		rest:  `POST /v1/organizations/acme-$x/seats {"member":"members/mia-$x"}`,
		fails: refused("NO_SEAT_FREE", codes.FailedPrecondition, 400, "seats", "1"),
	},
	{
		does: "TakenSeatsStay", as: staff,
		grpc:  `international.v1.OrganizationService/UpdateOrganization {"organization":{"name":"organizations/acme-$x","seatCount":0},"updateMask":"seatCount"}`,
		rest:  `PATCH /v1/organizations/acme-$x?updateMask=seatCount {"seatCount":0}`,
		fails: refused("SEATS_TAKEN", codes.FailedPrecondition, 400, "taken", "1"),
	},
	{
		does: "SeatsAreListed", as: auditor,
		grpc: `international.v1.OrganizationService/ListSeats {"parent":"organizations/acme-$x"}`,
		rest: `GET /v1/organizations/acme-$x/seats`,
		want: `{"seats":[{"name":"$seat","member":"members/noa-$x"}]}`,
	},
	{
		does: "AndReleased", as: seatKeeper,
		grpc: `international.v1.OrganizationService/DeleteSeat {"name":"$seat"}`,
		rest: `DELETE /v1/$seat`,
		want: `{}`,
	},
	{
		does: "TheMembershipEnds", as: staff,
		grpc: `international.v1.OrganizationService/EndOrganization {"name":"organizations/acme-$x"}`,
		rest: `POST /v1/organizations/acme-$x:end {}`,
		want: `{"state":"ENDED","takenCount":0}`,
	},
	{
		does: "AndGivesNoSeats", as: seatKeeper,
		grpc:  `international.v1.OrganizationService/CreateSeat {"parent":"organizations/acme-$x","seat":{"member":"members/mia-$x"}}`,
		rest:  `POST /v1/organizations/acme-$x/seats {"member":"members/mia-$x"}`,
		fails: refused("ORGANIZATION_STATE", codes.FailedPrecondition, 400, "state", "ENDED"),
	},
	{
		does: "AFileIsPlanned", as: staff, media: "text/csv",
		source: "memberId,address,displayName,termEndTime\nmia-$x,mia.$x@$d,Mia $secret,2100-01-01\nola-$x,ola.$x@$d,Ola $secret,2099-01-01\n,nonsense,X,\n",
		grpc:   `international.v1.MemberImportService/ImportMembers {"header":{}}`,
		rest:   `POST /v1/members:import`,
		want:   `{"name":"*","state":"PLANNED","counts":{"add":1,"renew":1,"rejected":1,"unchanged":0},"etag":"*"}`,
		keep:   map[string]string{"import": "name"},
	},
	{
		does: "EveryRowHasItsFate", as: staff,
		grpc: `international.v1.MemberImportService/ListMemberImportChanges {"parent":"$import"}`,
		rest: `GET /v1/$import/changes`,
		want: `{"changes":[{"kind":"RENEW","line":2,"member":"members/mia-$x"},{"kind":"ADD","line":3},{"kind":"REJECTED","line":4,"code":"EMAIL_SYNTAX"}]}`,
	},
	{
		does: "AndItIsApplied", as: staff,
		grpc: `international.v1.MemberImportService/ApplyMemberImport {"name":"$import"}`,
		rest: `POST /v1/$import:apply {}`,
		want: `{"name":"$import","state":"APPLIED","applyTime":"*"}`,
	},
	{
		does: "AndNotCancelledThen", as: staff,
		grpc:  `international.v1.MemberImportService/CancelMemberImport {"name":"$import"}`,
		rest:  `POST /v1/$import:cancel {}`,
		fails: refused("IMPORT_STATE", codes.FailedPrecondition, 400, "state", "APPLIED"),
	},
	{
		does: "AuditorsImportNothing", as: auditor, media: "text/csv", source: "address\nx.$x@$d\n",
		grpc:  `international.v1.MemberImportService/ImportMembers {"header":{}}`,
		rest:  `POST /v1/members:import`,
		fails: denied(),
	},
	{
		does: "SomebodyIsForgotten", as: staff,
		grpc: `international.v1.MemberService/EraseMember {"name":"members/noa-$x"}`,
		rest: `POST /v1/members/noa-$x:erase {}`,
		want: `{"name":"*","member":"members/noa-$x","parts":[{"part":"international","confirmTime":"*"},{"part":"regional/main"},{"part":"local/main"}]}`,
		keep: map[string]string{"erasure": "name"},
	},
	{
		does: "OfWhomFiguresAreLeft", as: staff,
		grpc: `international.v1.MemberService/GetMember {"name":"members/noa-$x"}`,
		rest: `GET /v1/members/noa-$x`,
		want: `{"state":"ERASED","displayName":"","addresses":[]}`,
	},
	{
		does: "EveryTierConfirms", as: auditor, within: time.Minute,
		grpc: `international.v1.ErasureService/GetErasure {"name":"$erasure"}`,
		rest: `GET /v1/$erasure`,
		want: `{"state":"COMPLETE","parts":[{"confirmedCount":1},{"part":"regional/main","confirmTime":"*"},{"part":"local/main","confirmTime":"*"}]}`,
	},
	{
		does: "TheLedgerIsListed", as: auditor,
		grpc: `international.v1.ErasureService/ListErasures {"pageSize":1}`,
		rest: `GET /v1/erasures?pageSize=1`,
		want: `{"erasures":[{"name":"$erasure"}]}`,
	},
}
