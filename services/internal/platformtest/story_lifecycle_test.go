package platformtest

import "google.golang.org/grpc/codes"

var lifeAdmin = role{"chapter_admin", "chapters/life-$x"}

// living takes a charter through all of its life but the approval on figures, which counting tells.
var living = []step{
	{
		does: "AThirdChapterIsFounded", as: staff,
		grpc: `local.v1.ChapterService/CreateChapter {"chapterId":"life-$x","chapter":{"displayName":"Life Lyon","region":"regions/france-$x","city":"Lyon","countryCode":"FR","latitude":45.76,"longitude":4.84}}`,
		rest: `POST /v1/chapters?chapterId=life-$x {"displayName":"Life Lyon","region":"regions/france-$x","city":"Lyon","countryCode":"FR","latitude":45.76,"longitude":4.84}`,
		want: `{"name":"chapters/life-$x"}`,
	},
	{
		does: "ItAppliesWithNobody", as: lifeAdmin, within: patience,
		grpc: `international.v1.CharterService/CreateCharter {"charter":{"chapter":"chapters/life-$x"}}`,
		rest: `POST /v1/charters {"chapter":"chapters/life-$x"}`,
		want: `{"state":"APPLIED","reviewDueTime":"*","waitingFor":"DECISION","waitingSinceTime":"*","overdue":false}`,
		keep: map[string]string{"lifeEtag": "etag"},
	},
	{
		does: "ItStandsInTheQueue", as: staff,
		grpc: `international.v1.CharterService/ListReviewQueue {"region":"regions/france-$x","state":"APPLIED","unclaimed":true,"blocker":"MINIMUM_PEOPLE"}`,
		rest: `GET /v1/charters:queue?region=regions/france-$x&state=APPLIED&unclaimed=true&blocker=MINIMUM_PEOPLE`,
		want: `{"charters":[{"charter":{"name":"charters/life-$x"},"chapterDisplayName":"Life Lyon","region":"regions/france-$x","blockers":["THRESHOLD","MINIMUM_PEOPLE"]}]}`,
	},
	{
		does: "WhichIsNotForCoordinators", as: coordinator,
		grpc:  `international.v1.CharterService/ListReviewQueue {"region":"regions/europe-$x"}`,
		rest:  `GET /v1/charters:queue?region=regions/europe-$x`,
		fails: denied(),
	},
	{
		does: "StaffClaimIt", as: staff,
		grpc: `international.v1.CharterService/ClaimCharter {"name":"charters/life-$x","etag":"$lifeEtag"}`,
		rest: `POST /v1/charters/life-$x:claim {"etag":"$lifeEtag"}`,
		want: `{"state":"IN_REVIEW","claimExpireTime":"*"}`,
	},
	{
		does: "ButNotWhatSomebodyElseHasSeen", as: staff,
		grpc:  `international.v1.CharterService/ReleaseCharter {"name":"charters/life-$x","etag":"$lifeEtag"}`,
		rest:  `POST /v1/charters/life-$x:release {"etag":"$lifeEtag"}`,
		fails: refused("ETAG_MISMATCH", codes.Aborted, 409),
	},
	{
		does: "AndAskForMore", as: staff,
		grpc: `international.v1.CharterService/RequestCharterChanges {"name":"charters/life-$x","reasons":["INFORMATION_MISSING","TOO_FEW_PEOPLE"],"note":"Who are you?"}`,
		rest: `POST /v1/charters/life-$x:requestChanges {"reasons":["INFORMATION_MISSING","TOO_FEW_PEOPLE"],"note":"Who are you?"}`,
		want: `{"state":"CHANGES_REQUESTED","changesDueTime":"*","changesRequest":{"reasons":["INFORMATION_MISSING","TOO_FEW_PEOPLE"],"note":"Who are you?"}}`,
	},
	{
		does: "InAWordThatIsKnown", as: staff,
		grpc:  `international.v1.CharterService/RequestCharterChanges {"name":"charters/life-$x","reasons":[],"note":"Who are you?"}`,
		rest:  `POST /v1/charters/life-$x:requestChanges {"reasons":[],"note":"Who are you?"}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "TheChapterAnswers", as: lifeAdmin,
		grpc: `international.v1.CharterService/CreateCharterComment {"parent":"charters/life-$x","comment":{"visibility":"CHAPTER","body":"Friends of Lyon."}}`,
		rest: `POST /v1/charters/life-$x/comments {"visibility":"CHAPTER","body":"Friends of Lyon."}`,
		want: `{"name":"charters/life-$x/comments/1","body":"Friends of Lyon.","subject":"*","createTime":"*"}`,
	},
	{
		does: "AndHandsItInAgain", as: lifeAdmin,
		grpc: `international.v1.CharterService/ResubmitCharter {"name":"charters/life-$x","note":"See above."}`,
		rest: `POST /v1/charters/life-$x:resubmit {"note":"See above."}`,
		want: `{"state":"IN_REVIEW","reviewer":"*"}`,
	},
	{
		does: "StaffCommentAmongThemselves", as: staff,
		grpc: `international.v1.CharterService/CreateCharterComment {"parent":"charters/life-$x","comment":{"visibility":"INTERNAL","body":"I know them."}}`,
		rest: `POST /v1/charters/life-$x/comments {"visibility":"INTERNAL","body":"I know them."}`,
		want: `{"name":"charters/life-$x/comments/2"}`,
	},
	{
		does: "WhichTheChapterDoesNotRead", as: lifeAdmin,
		grpc: `international.v1.CharterService/ListCharterComments {"parent":"charters/life-$x"}`,
		rest: `GET /v1/charters/life-$x/comments`,
		want: `{"comments":[{"name":"charters/life-$x/comments/1"}]}`,
	},
	{
		does: "TheReviewShowsAllOfIt", as: staff, within: patience,
		grpc: `international.v1.CharterService/GetCharterReview {"name":"charters/life-$x"}`,
		rest: `GET /v1/charters/life-$x:review`,
		want: `{"charter":{"state":"IN_REVIEW"},"standing":{"eligible":false},"trend":["*"],"conflictOfInterest":false,
			"requirements":[{"requirement":"THRESHOLD","met":false,"have":0,"want":1,"remedy":"*"},{"requirement":"MINIMUM_PEOPLE","met":false,"have":0,"want":1,"remedy":"*"}],
			"history":[{"verb":"apply"},{"verb":"claim"},{"verb":"requestChanges","reasons":["INFORMATION_MISSING","TOO_FEW_PEOPLE"]},{"verb":"resubmit"}],
			"comments":[{"visibility":"CHAPTER"},{"visibility":"INTERNAL"}],"verbs":["claim","release","requestChanges","approve","decline","withdraw","protect","unprotect"]}`,
		keep: map[string]string{"lifeStanding": "standing.etag"},
	},
	{
		does: "AgainstTheFiguresWithAReasonOnly", as: staff,
		grpc:  `international.v1.CharterService/ApproveCharter {"name":"charters/life-$x","standingEtag":"$lifeStanding","override":{"reason":"","untilTime":"2098-01-01T00:00:00Z"}}`,
		rest:  `POST /v1/charters/life-$x:approve {"standingEtag":"$lifeStanding","override":{"reason":"","untilTime":"2098-01-01T00:00:00Z"}}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "AndNotForGood", as: staff,
		grpc:  `international.v1.CharterService/ApproveCharter {"name":"charters/life-$x","standingEtag":"$lifeStanding","override":{"reason":"A flood.","untilTime":"2098-01-01T00:00:00Z"}}`,
		rest:  `POST /v1/charters/life-$x:approve {"standingEtag":"$lifeStanding","override":{"reason":"A flood.","untilTime":"2098-01-01T00:00:00Z"}}`,
		fails: refused("DEADLINE_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "StaffApproveAgainstTheFigures", as: staff,
		grpc: `international.v1.CharterService/ApproveCharter {"name":"charters/life-$x","standingEtag":"$lifeStanding","override":{"reason":"A flood.","untilTime":"$soonish"}}`,
		rest: `POST /v1/charters/life-$x:approve {"standingEtag":"$lifeStanding","override":{"reason":"A flood.","untilTime":"$soonish"}}`,
		want: `{"state":"CHARTERED","overrideUntilTime":"$soonish","decision":{"override":{"reason":"A flood."},"standing":{"eligible":false}}}`,
	},
	{
		does: "AndProtectIt", as: staff,
		grpc: `international.v1.CharterService/ProtectCharter {"name":"charters/life-$x","untilTime":"$soonish","reason":"The flood."}`,
		rest: `POST /v1/charters/life-$x:protect {"untilTime":"$soonish","reason":"The flood."}`,
		want: `{"state":"CHARTERED","protectUntilTime":"$soonish","protectReason":"The flood."}`,
	},
	{
		does: "UntilTheWaterIsGone", as: staff,
		grpc: `international.v1.CharterService/UnprotectCharter {"name":"charters/life-$x"}`,
		rest: `POST /v1/charters/life-$x:unprotect {}`,
		want: `{"state":"CHARTERED","protectReason":""}`,
	},
	{
		does: "WhichItIsOnce", as: staff,
		grpc:  `international.v1.CharterService/UnprotectCharter {"name":"charters/life-$x"}`,
		rest:  `POST /v1/charters/life-$x:unprotect {}`,
		fails: refused("NOT_PROTECTED", codes.FailedPrecondition, 400),
	},
	{
		does: "CharterNeedNoRenewal", as: lifeAdmin,
		grpc:  `international.v1.CharterService/RenewCharter {"name":"charters/life-$x"}`,
		rest:  `POST /v1/charters/life-$x:renew {}`,
		fails: refused("NO_RENEWALS", codes.FailedPrecondition, 400),
	},
	{
		does: "AnAuditorSuspendsNobody", as: auditor,
		grpc:  `international.v1.CharterService/SuspendCharter {"name":"charters/life-$x","reason":"CONDUCT","note":"It sold its list."}`,
		rest:  `POST /v1/charters/life-$x:suspend {"reason":"CONDUCT","note":"It sold its list."}`,
		fails: denied(),
	},
	{
		does: "StaffDo", as: staff,
		grpc: `international.v1.CharterService/SuspendCharter {"name":"charters/life-$x","reason":"CONDUCT","note":"It sold its list."}`,
		rest: `POST /v1/charters/life-$x:suspend {"reason":"CONDUCT","note":"It sold its list."}`,
		want: `{"state":"SUSPENDED","decision":{"reasons":["CONDUCT"],"note":"It sold its list."}}`,
	},
	{
		does: "ReinstatedBelowTheLineItIsAtRisk", as: staff,
		grpc: `international.v1.CharterService/ReinstateCharter {"name":"charters/life-$x"}`,
		rest: `POST /v1/charters/life-$x:reinstate {}`,
		want: `{"state":"AT_RISK","cureByTime":"*"}`,
	},
	{
		does: "RevokedItMayComeBack", as: staff,
		grpc: `international.v1.CharterService/RevokeCharter {"name":"charters/life-$x","reason":"CONDUCT","note":"Again.","reapplyTime":"$soonish"}`,
		rest: `POST /v1/charters/life-$x:revoke {"reason":"CONDUCT","note":"Again.","reapplyTime":"$soonish"}`,
		want: `{"state":"REVOKED","reapplyTime":"$soonish"}`,
	},
	{
		does: "ButNotAtOnce", as: lifeAdmin,
		grpc:  `international.v1.CharterService/CreateCharter {"charter":{"chapter":"chapters/life-$x"}}`,
		rest:  `POST /v1/charters {"chapter":"chapters/life-$x"}`,
		fails: refused("WAITING_TIME", codes.FailedPrecondition, 400, "reapplyTime", "$soonish"),
	},
	{
		does: "NothingIsLeftToSurrender", as: lifeAdmin,
		grpc:  `international.v1.CharterService/SurrenderCharter {"name":"charters/life-$x"}`,
		rest:  `POST /v1/charters/life-$x:surrender {}`,
		fails: refused("CHARTER_STATE", codes.FailedPrecondition, 400, "state", "REVOKED"),
	},
	{
		does: "NobodyOverdue", as: staff,
		grpc: `international.v1.CharterService/ListCharters {"region":"regions/france-$x","overdue":true}`,
		rest: `GET /v1/charters?region=regions/france-$x&overdue=true`,
		want: `{"charters":[]}`,
	},
}
