package platformtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// concerning is a concern's way up and its answers' way down.
var concerning = []step{
	{
		does: "AChapterRaisesAConcern", as: admin,
		grpc: `local.v1.ConcernService/CreateConcern {"parent":"chapters/golang-$x","concern":{"subject":"No rooms in Paris","body":"The university **closed** our rooms.","shared":true}}`,
		rest: `POST /v1/chapters/golang-$x/concerns {"subject":"No rooms in Paris","body":"The university **closed** our rooms.","shared":true}`,
		want: `{"name":"*","state":"SENT","region":"regions/france-$x","case":"*"}`,
		keep: map[string]string{"concern": "name", "lies": "case"},
	},
	{
		does: "SoonItLiesWithTheRegion", as: admin, within: patience, // so that it is the earlier of the two there
		grpc: `local.v1.ConcernService/GetConcern {"name":"$concern"}`,
		rest: `GET /v1/$concern`,
		want: `{"state":"OPEN","liesWith":"regions/france-$x"}`,
	},
	{
		does: "AMemberRaisesAnother", as: role{"member", "members/eve-$x"},
		grpc: `local.v1.ConcernService/CreateConcern {"parent":"chapters/rust-$x","concern":{"subject":"Rooms","body":"Rooms of the university are closed."}}`,
		rest: `POST /v1/chapters/rust-$x/concerns {"subject":"Rooms","body":"Rooms of the university are closed."}`,
		want: `{"name":"*","state":"SENT"}`,
		keep: map[string]string{"other": "name", "otherCase": "case"},
	},
	{
		does: "AndSeesWhereItLies", as: role{"member", "members/eve-$x"}, within: patience,
		grpc: `local.v1.ConcernService/GetConcern {"name":"$other"}`,
		rest: `GET /v1/$other`,
		want: `{"state":"OPEN","liesWith":"regions/france-$x","dueTime":"*","answers":[]}`,
	},
	{
		does: "OthersDoNot", as: role{"member", "members/finn-$x"},
		grpc:  `local.v1.ConcernService/GetConcern {"name":"$other"}`,
		rest:  `GET /v1/$other`,
		fails: denied(),
	},
	{
		does: "TheCoordinatorSeesBoth", as: coordinator, within: patience,
		grpc: `regional.v1.CaseService/ListCases {"parent":"regions/france-$x","state":"OPEN"}`,
		rest: `GET /v1/regions/france-$x/concerns?state=OPEN`,
		want: `{"cases":[{"name":"$lies","concern":"$concern","subject":"No rooms in Paris"},{"name":"$otherCase"}],"nextPageToken":""}`,
	},
	{
		does: "OneIsLikeTheOther", as: coordinator,
		grpc: `regional.v1.CaseService/ListSimilarCases {"name":"$otherCase"}`,
		rest: `GET /v1/$otherCase:similar`,
		want: `{"cases":[{"case":{"name":"$lies"}}]}`,
	},
	{
		does: "SoItIsMerged", as: coordinator,
		grpc: `regional.v1.CaseService/MergeCase {"name":"$otherCase","into":"$lies"}`,
		rest: `POST /v1/$otherCase:merge {"into":"$lies"}`,
		want: `{"state":"MERGED","mergedInto":"$lies"}`,
	},
	{
		does: "NotTheOtherWayRound", as: coordinator,
		grpc:  `regional.v1.CaseService/MergeCase {"name":"$lies","into":"$otherCase"}`,
		rest:  `POST /v1/$lies:merge {"into":"$otherCase"}`,
		fails: refused("CONCERN_MERGE_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "NobodyClosesWhatNobodyAnswered", as: coordinator,
		grpc:  `regional.v1.CaseService/CloseCase {"name":"$lies"}`,
		rest:  `POST /v1/$lies:close {}`,
		fails: refused("CONCERN_NOT_ANSWERED", codes.FailedPrecondition, 400),
	},
	{
		does: "StaffDoNotAnswerForARegion", as: staff,
		grpc:  `regional.v1.CaseService/AnswerCase {"name":"$lies","body":"No."}`,
		rest:  `POST /v1/$lies:answer {"body":"No."}`,
		fails: denied(),
	},
	{
		does: "TheCoordinatorAnswers", as: coordinator,
		grpc: `regional.v1.CaseService/AnswerCase {"name":"$lies","body":"We ask."}`,
		rest: `POST /v1/$lies:answer {"body":"We ask."}`,
		want: `{"state":"ANSWERED","raiserCount":2,"answers":[{"by":"regions/france-$x","body":"We ask."}]}`,
	},
	{
		does: "AndEscalates", as: coordinator,
		grpc: `regional.v1.CaseService/EscalateCase {"name":"$lies","summary":"Two chapters have no rooms."}`,
		rest: `POST /v1/$lies:escalate {"summary":"Two chapters have no rooms."}`,
		want: `{"state":"ESCALATED","liesWith":"regions/europe-$x"}`,
		keep: map[string]string{"above": "escalatedTo"},
	},
	{
		does: "OnlyOnce", as: coordinator,
		grpc:  `regional.v1.CaseService/EscalateCase {"name":"$lies","summary":"Again."}`,
		rest:  `POST /v1/$lies:escalate {"summary":"Again."}`,
		fails: refused("CONCERN_STATE", codes.FailedPrecondition, 400, "state", "ESCALATED"),
	},
	{
		does: "ThroughTheRegionAbove", as: coordinator,
		grpc: `regional.v1.CaseService/EscalateCase {"name":"$above","summary":"France has no rooms."}`,
		rest: `POST /v1/$above:escalate {"summary":"France has no rooms."}`,
		want: `{"state":"ESCALATED","liesWith":"international"}`,
		keep: map[string]string{"top": "escalatedTo"},
	},
	{
		does: "ToTheInternationalBody", as: staff, within: patience,
		grpc: `international.v1.EscalationService/GetEscalation {"name":"$top"}`,
		rest: `GET /v1/$top`,
		want: `{"state":"OPEN","case":"$above","subject":"No rooms in Paris","summary":"France has no rooms.","raiserCount":2,"dueTime":"*"}`,
	},
	{
		does: "WhichGivesItToTheVendor", as: staff,
		grpc: `international.v1.EscalationService/HandEscalationToVendor {"name":"$top","note":"They have offices."}`,
		rest: `POST /v1/$top:handToVendor {"note":"They have offices."}`,
		want: `{"state":"HANDED_TO_VENDOR"}`,
	},
	{
		does: "AndAnswers", as: staff,
		grpc: `international.v1.EscalationService/AnswerEscalation {"name":"$top","body":"You get their office."}`,
		rest: `POST /v1/$top:answer {"body":"You get their office."}`,
		want: `{"state":"HANDED_TO_VENDOR","answers":[{"by":"international"}]}`,
	},
	{
		does: "TheChapterHears", as: admin, within: patience,
		grpc: `local.v1.ConcernService/GetConcern {"name":"$concern"}`,
		rest: `GET /v1/$concern`,
		want: `{"state":"HANDED_TO_VENDOR","liesWith":"vendor","vendorNote":"They have offices.","answers":[{"by":"regions/france-$x","body":"We ask."},{"by":"international","body":"You get their office."}]}`,
	},
	{
		does: "AndTheMemberWhoseConcernWasMerged", as: role{"member", "members/eve-$x"}, within: patience,
		grpc: `local.v1.ConcernService/ListConcerns {"parent":"chapters/rust-$x"}`,
		rest: `GET /v1/chapters/rust-$x/concerns`,
		want: `{"concerns":[{"name":"$other","state":"HANDED_TO_VENDOR","liesWith":"vendor","mergedInto":"$lies"}],"nextPageToken":""}`,
	},
	{
		does: "WithAllAnswers", as: otherAdmin, within: patience,
		grpc: `local.v1.ConcernService/GetConcern {"name":"$other"}`,
		rest: `GET /v1/$other`,
		want: `{"answers":[{"body":"We ask."},{"body":"You get their office."}]}`,
	},
	{
		does: "AnotherChapterMayJoin", as: otherAdmin, within: patience,
		grpc: `local.v1.ConcernService/ListJoinableConcerns {"parent":"chapters/rust-$x"}`,
		rest: `GET /v1/chapters/rust-$x/concerns:joinable`,
		want: `{"concerns":[{"name":"$lies","subject":"No rooms in Paris","body":"The university **closed** our rooms."}]}`,
	},
	{
		does: "AndDoes", as: otherAdmin,
		grpc: `local.v1.ConcernService/JoinConcern {"parent":"chapters/rust-$x","concern":"$lies"}`,
		rest: `POST /v1/chapters/rust-$x/concerns:join {"concern":"$lies"}`,
		want: `{"subject":"No rooms in Paris","joins":"$lies"}`,
		keep: map[string]string{"joined": "name"},
	},
	{
		does: "SoItIsToldWhatWasAnsweredBefore", as: otherAdmin, within: patience,
		grpc: `local.v1.ConcernService/GetConcern {"name":"$joined"}`,
		rest: `GET /v1/$joined`,
		want: `{"state":"HANDED_TO_VENDOR","answers":[{"body":"We ask."},{"body":"You get their office."}]}`,
	},
	{
		does: "OneIsTakenBack", as: otherAdmin,
		grpc: `local.v1.ConcernService/WithdrawConcern {"name":"$joined"}`,
		rest: `POST /v1/$joined:withdraw {}`,
		want: `{"state":"WITHDRAWN"}`,
	},
	{
		does: "AndCountedNoMore", as: coordinator, within: patience,
		grpc: `regional.v1.CaseService/GetConcernStats {"name":"regions/europe-$x"}`,
		rest: `GET /v1/regions/europe-$x/concerns:stats`,
		want: `{"region":"regions/europe-$x","concernCount":2,"openCount":0,"overdueCount":0,"medianTimeToAnswer":"*","children":[{"region":"regions/france-$x","concernCount":2}]}`,
	},
	{
		does: "NothingWaits", as: coordinator,
		grpc: `regional.v1.DigestService/GetRegionDigest {"name":"regions/europe-$x"}`,
		rest: `GET /v1/regions/europe-$x:digest`,
		want: `{"name":"regions/europe-$x","concerns":{"unansweredCount":0,"overdueCount":0,"overdueBelowCount":0,"firstDue":[]}}`,
	},
}

// TestConcernsSurviveOutages stops each tier while a concern is on its way.
func TestConcernsSurviveOutages(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.found(t, paris, berlin)
	concerns, cases := localv1.NewConcernServiceClient(h.conns[bus.Local]), regionalv1.NewCaseServiceClient(h.conns[bus.Regional])
	escalations := internationalv1.NewEscalationServiceClient(h.conns[bus.International])
	ctx := bounded(t, 3*patience)
	coordinates := h.as(ctx, t, authz.Coordinator, authz.World)
	raise := func(chapter string) *localv1.Concern {
		return get(concerns.CreateConcern(h.admin(ctx, t, chapter), &localv1.CreateConcernRequest{
			Parent: "chapters/" + chapter, Concern: &localv1.Concern{Subject: "No rooms", Body: "None."},
		}))(t)
	}
	h.stop(bus.Regional)
	first, second := raise(paris), raise(berlin)
	h.start(bus.Regional)
	for _, one := range []*localv1.Concern{first, second} {
		eventually(t, patience, func() string {
			_, err := cases.GetCase(coordinates, &regionalv1.GetCaseRequest{Name: one.GetCase()})
			return text(err)
		})
	}
	get(cases.MergeCase(coordinates, &regionalv1.MergeCaseRequest{Name: second.GetCase(), Into: first.GetCase()}))(t)
	h.stop(bus.International)
	h.stop(bus.Local)
	up := get(cases.EscalateCase(coordinates, &regionalv1.EscalateCaseRequest{Name: first.GetCase(), Summary: "No rooms."}))(t)
	get(cases.AnswerCase(coordinates, &regionalv1.AnswerCaseRequest{Name: first.GetCase(), Body: "We ask."}))(t)
	h.start(bus.International)
	staffed := h.staff(ctx, t)
	eventually(t, patience, func() string {
		_, err := escalations.AnswerEscalation(staffed, &internationalv1.AnswerEscalationRequest{Name: up.GetEscalatedTo(), Body: "Rent.", RequestId: "once"})
		return text(err)
	})
	h.stop(bus.Regional)
	get(escalations.CloseEscalation(staffed, &internationalv1.CloseEscalationRequest{Name: up.GetEscalatedTo(), Body: "Done."}))(t)
	h.start(bus.Local)
	h.start(bus.Regional)
	for chapter, one := range map[string]*localv1.Concern{paris: first, berlin: second} {
		eventually(t, patience, func() string {
			got, err := concerns.GetConcern(h.admin(ctx, t, chapter), &localv1.GetConcernRequest{Name: one.GetName()})
			if err != nil {
				return err.Error()
			}
			var answers []string
			for _, answer := range got.GetAnswers() {
				answers = append(answers, answer.GetBody())
			}
			slices.Sort(answers) // the clock stands still
			if strings.Join(answers, " ") != "Done. Rent. We ask." || got.GetState() != localv1.Concern_CLOSED {
				return fmt.Sprintf("%s hears %s %q", chapter, got.GetState(), answers)
			}
			return ""
		})
	}
}

// text is an error's, empty for none.
func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
