package platformtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// judging takes the policy from one revision to the next, looks at what that does, and gathers the evidence.
var judging = []step{
	{
		does: "AStandingIsTakenApart", as: coordinator, within: soon,
		grpc: `international.v1.StandingService/ExplainStanding {"name":"chapters/golang-$x/standing","view":"SOURCES"}`,
		rest: `GET /v1/chapters/golang-$x/standing:explain?view=SOURCES`,
		want: `{"standing":{"eligible":true},"sourcesUnavailable":false,"bases":[
			{"basis":"MEMBERSHIP","figures":{"total":8,"international":5},"need":5,"eligible":true,"onSeveralLists":{"total":0},
				"lists":[{"list":{"list":"chapters/golang-$x/lists/members"},"addresses":8,"people":{"total":8},"onlyHere":{"international":5},"onSeveralSources":0,"sourcesVersion":"*",
					"sources":[{"source":"crm","addresses":4,"onlyHere":4},{"source":"meetup","addresses":4,"onlyHere":4}]}],
				"memberships":{"active":5,"lapsedRecently":0,"lapsedBefore":1,"resigned":0,"suspended":0,"other":0,"unrecognised":2}},
			{"basis":"MAILING","figures":{"total":0}}]}`,
	},
	{
		does: "TheSitesCountsAreForWhoeverReadsLists", as: auditor,
		grpc: `local.v1.ChapterService/CountSources {"name":"chapters/golang-$x"}`,
		rest: `GET /v1/chapters/golang-$x:countSources`,
		want: `{"lists":[{"list":"chapters/golang-$x/lists/announce","subscribedCount":0,"sources":[]},
			{"list":"chapters/golang-$x/lists/members","subscribedCount":8,"several":0,"sources":[{"source":"crm","entries":4,"only":4},{"source":"meetup","entries":4,"only":4}]}]}`,
	},
	{
		does: "TheForecastSaysWhenItWouldBeLost", as: admin,
		grpc: `international.v1.StandingService/ForecastStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing:forecast`,
		want: `{"standing":{"forecastLossTime":"2099-06-30T00:00:00Z"},"days":[],"horizonTime":"2026-08-30T12:00:00Z"}`,
	},
	{
		does: "AndSoDoesTheStanding", as: admin,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"forecastLossTime":"2099-06-30T00:00:00Z"}`,
	},
	{
		does: "ItIsTriedOutWhoWouldCome", as: admin,
		grpc: `international.v1.StandingService/SimulateStanding {"name":"chapters/golang-$x/standing","basis":"MEMBERSHIP","newcomersMembers":1,"newcomersOthers":4,"conversions":1}`,
		rest: `POST /v1/chapters/golang-$x/standing:simulate {"basis":"MEMBERSHIP","newcomersMembers":1,"newcomersOthers":4,"conversions":1}`,
		want: `{"before":{"membership":{"total":8,"international":5}},"after":{"eligible":false,"membership":{"total":13,"international":7},"gap":{"convert":1,"recruit":2},"etag":""}}`,
	},
	{
		does: "NotMoreCanJoinThanThereAre", as: admin,
		grpc:  `international.v1.StandingService/SimulateStanding {"name":"chapters/golang-$x/standing","conversions":4}`,
		rest:  `POST /v1/chapters/golang-$x/standing:simulate {"conversions":4}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "ADraftOfThePolicyIsTriedOut", as: staff,
		grpc: `international.v1.CharterService/SimulateCharterPolicy {"charterPolicy":{"thresholdPercent":70},"region":"regions/europe-$x"}`,
		rest: `POST /v1/charterPolicy:simulate {"charterPolicy":{"thresholdPercent":70},"region":"regions/europe-$x"}`,
		want: `{"inForce":{"revision":"1"},"draft":{"thresholdPercent":70,"graceDays":90},
			"total":{"chapters":2,"eligibleBefore":1,"eligibleAfter":0,"gaining":0,"losing":1,"chartersAtRisk":1,"chartersReturning":0},
			"regions":[{"region":"regions/france-$x","counts":{"chapters":2,"losing":1}}],
			"changes":[{"chapter":"chapters/golang-$x","region":"regions/france-$x","kind":"AT_RISK","before":{"margin":0},"after":{"margin":-1,"gap":{"convert":1}},
				"charterBefore":"CHARTERED","charterAfter":"AT_RISK"}],"nextPageToken":""}`,
	},
	{
		does: "OnlyStaffMakePolicy", as: auditor,
		grpc:  `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"thresholdPercent":70,"note":"Higher."}}`,
		rest:  `PATCH /v1/charterPolicy {"thresholdPercent":70,"note":"Higher."}`,
		fails: denied(),
	},
	{
		does: "ARevisionSaysWhy", as: staff,
		grpc:  `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"thresholdPercent":70}}`,
		rest:  `PATCH /v1/charterPolicy {"thresholdPercent":70}`,
		fails: refused("INVALID_FIELD", codes.InvalidArgument, 400),
	},
	{
		does: "ARevisionIsRehearsed", as: staff,
		grpc: `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"thresholdPercent":70,"note":"Higher."},"validateOnly":true}`,
		rest: `PATCH /v1/charterPolicy?validateOnly=true {"thresholdPercent":70,"note":"Higher."}`,
		want: `{"revision":"2","thresholdPercent":70}`,
	},
	{
		does: "ThePolicyIsReadFirst", as: staff,
		grpc: `international.v1.CharterService/GetCharterPolicy {}`,
		rest: `GET /v1/charterPolicy`,
		want: `{"name":"charterPolicy","revision":"1","state":"IN_FORCE","etag":"*"}`,
		keep: map[string]string{"read": "etag"},
	},
	{
		does: "AndThenChanged", as: staff,
		grpc: `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"thresholdPercent":70,"note":"Higher.","etag":"$read"}}`,
		rest: `PATCH /v1/charterPolicy {"thresholdPercent":70,"note":"Higher.","etag":"$read"}`,
		want: `{"name":"charterPolicy/revisions/2","revision":"2","state":"IN_FORCE","thresholdPercent":70,"graceDays":90,"note":"Higher.","subject":"*"}`,
	},
	{
		does: "NobodyChangesWhatTheyDidNotRead", as: staff, header: `If-Match: "$read"`,
		grpc:  `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"thresholdPercent":80,"note":"Higher.","etag":"$read"}}`,
		rest:  `PATCH /v1/charterPolicy {"thresholdPercent":80,"note":"Higher."}`,
		fails: refused("ETAG_MISMATCH", codes.Aborted, 409),
	},
	{
		does: "EverybodyIsJudgedByIt", as: coordinator,
		grpc: `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing"}`,
		rest: `GET /v1/chapters/golang-$x/standing`,
		want: `{"eligible":false,"policyRevision":"2","membership":{"total":8,"international":5},"gap":{"convert":1}}`,
	},
	{
		does: "AndTheCharterFollows", as: admin,
		grpc: `international.v1.CharterService/GetCharter {"name":"charters/golang-$x"}`,
		rest: `GET /v1/charters/golang-$x`,
		want: `{"state":"AT_RISK","decision":{"policyRevision":"1"}}`,
	},
	{
		does: "TheHistoryOfTheStandingSaysWhatMovedIt", as: admin,
		grpc: `international.v1.StandingService/ListStandingHistory {"parent":"chapters/golang-$x/standing","interval":"DAY"}`,
		rest: `GET /v1/chapters/golang-$x/standing/history?interval=DAY`,
		want: `{"history":[{"cause":"POLICY","standing":{"policyRevision":"2","eligible":false,"membership":{"total":8}}}],"nextPageToken":""}`,
	},
	{
		does: "NobodyKnowsTheFuture", as: admin,
		grpc:  `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing","asOfTime":"2026-06-02T12:00:00Z"}`,
		rest:  `GET /v1/chapters/golang-$x/standing?asOfTime=2026-06-02T12:00:00Z`,
		fails: refused("AS_OF_TIME_INVALID", codes.InvalidArgument, 400),
	},
	{
		does: "NorWhatWasBeforeTheRecords", as: admin,
		grpc:  `international.v1.StandingService/GetStanding {"name":"chapters/golang-$x/standing","asOfTime":"2026-05-01T12:00:00Z"}`,
		rest:  `GET /v1/chapters/golang-$x/standing?asOfTime=2026-05-01T12:00:00Z`,
		fails: refused("BEFORE_RECORDS", codes.OutOfRange, 400, "earliest", "2026-06-01T12:00:00Z"),
	},
	{
		does: "ACharterIsReadAsOfATime", as: admin,
		grpc:  `international.v1.CharterService/GetCharter {"name":"charters/golang-$x","asOfTime":"2026-05-01T12:00:00Z"}`,
		rest:  `GET /v1/charters/golang-$x?asOfTime=2026-05-01T12:00:00Z`,
		fails: refused("BEFORE_RECORDS", codes.OutOfRange, 400),
	},
	{
		does: "TheNextRevisionIsScheduled", as: staff,
		grpc: `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"graceDays":30,"note":"Less.","effectiveTime":"2026-09-01T00:00:00Z"}}`,
		rest: `PATCH /v1/charterPolicy {"graceDays":30,"note":"Less.","effectiveTime":"2026-09-01T00:00:00Z"}`,
		want: `{"revision":"3","state":"SCHEDULED","graceDays":30,"thresholdPercent":70}`,
	},
	{
		does: "NoneCanComeBeforeIt", as: staff,
		grpc:  `international.v1.CharterService/UpdateCharterPolicy {"charterPolicy":{"graceDays":60,"note":"More."}}`,
		rest:  `PATCH /v1/charterPolicy {"graceDays":60,"note":"More."}`,
		fails: refused("POLICY_SCHEDULED", codes.FailedPrecondition, 400, "revision", "3", "effectiveTime", "2026-09-01T00:00:00Z"),
	},
	{
		does: "ItIsWithdrawn", as: staff,
		grpc: `international.v1.CharterService/WithdrawCharterPolicyRevision {"name":"charterPolicy/revisions/3"}`,
		rest: `POST /v1/charterPolicy/revisions/3:withdraw {}`,
		want: `{"revision":"3","state":"WITHDRAWN","withdrawTime":"*","withdrawSubject":"*"}`,
	},
	{
		does: "WhatWasInForceIsNot", as: staff,
		grpc:  `international.v1.CharterService/WithdrawCharterPolicyRevision {"name":"charterPolicy/revisions/2"}`,
		rest:  `POST /v1/charterPolicy/revisions/2:withdraw {}`,
		fails: refused("POLICY_REVISION_STATE", codes.FailedPrecondition, 400, "state", "IN_FORCE"),
	},
	{
		does: "AllRevisionsAreThere", as: admin,
		grpc: `international.v1.CharterService/ListCharterPolicyRevisions {}`,
		rest: `GET /v1/charterPolicy/revisions`,
		want: `{"revisions":[{"revision":"1","state":"SUPERSEDED"},{"revision":"2","state":"IN_FORCE","note":"Higher."},{"revision":"3","state":"WITHDRAWN"}]}`,
	},
	{
		does: "EachCanBeRead", as: otherAdmin,
		grpc: `international.v1.CharterService/GetCharterPolicyRevision {"name":"charterPolicy/revisions/1"}`,
		rest: `GET /v1/charterPolicy/revisions/1`,
		want: `{"name":"charterPolicy/revisions/1","thresholdPercent":60}`,
	},
	{
		does: "TheEvidenceIsGathered", as: auditor,
		grpc: `international.v1.CharterService/ExportCharter {"name":"charters/golang-$x"}`,
		rest: `GET /v1/charters/golang-$x:export`,
		want: `{"digest":"*","evidence":{"format":1,"charter":"charters/golang-$x","state":"AT_RISK","policyRevisions":[{"revision":"1"},{"revision":"2"}],
			"decision":{"policyRevision":"1","noteDigest":"*","standing":{"membership":{"total":8,"international":5}}},
			"transitions":[{"verb":"apply"},{"verb":"claim"},{"verb":"approve","noteDigest":"*"},{"verb":"eligibilityLost"},{"verb":"eligibilityRegained"},{"verb":"eligibilityLost","policyRevision":"2"}],
			"explanation":{"standing":{"policyRevision":"2"}}}}`,
	},
	{
		does: "AnotherChapterDoesNotGetIt", as: otherAdmin,
		grpc:  `international.v1.CharterService/ExportCharter {"name":"charters/golang-$x"}`,
		rest:  `GET /v1/charters/golang-$x:export`,
		fails: denied(),
	},
}

// TestPolicyAndEvidence tells of the policy at each door, in a house of its own: the policy is everybody's.
func TestPolicyAndEvidence(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"GRPC", "REST"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := build(t)
			vars := story(strings.ToLower(name[:1]))
			for _, d := range h.doors(&recorder{}) {
				if d.name() != name {
					continue
				}
				play(t, d, foundation, vars)
				play(t, d, register, vars)
				play(t, d, counting, vars)
				play(t, d, judging, vars)
			}
			if name == "REST" {
				t.Run("AFileThatCanBeChecked", func(t *testing.T) { h.wantEvidence(t, "golang-"+vars["x"]) })
			}
			t.Run("SiteKnowsThePolicy", func(t *testing.T) { h.wantCopyOfPolicy(t) })
		})
	}
}

// wantEvidence downloads an evidence file and checks it as docs/evidence.md tells auditors to, with code of its own.
func (h *house) wantEvidence(t *testing.T, chapter string) {
	t.Helper()
	r := get(http.NewRequestWithContext(bounded(t, patience), http.MethodGet, h.rest+"/v1/charters/"+chapter+":export", http.NoBody))(t)
	r.Header.Set("Authorization", "Bearer "+h.token(t, auditor.role, auditor.scope))
	response := get(restClient.Do(r))(t)
	defer func() { _ = response.Body.Close() }()
	if got := response.Header.Get("Content-Disposition"); got != `attachment; filename="`+chapter+`-evidence.json"` {
		t.Errorf("the file is %q", got)
	}
	var file struct {
		Evidence any
		Digest   string
	}
	must(t, json.NewDecoder(response.Body).Decode(&file))
	// What the story holds is ASCII without "<", ">" and "&", of which encoding/json makes the canonical form.
	text := get(json.Marshal(file.Evidence))(t)
	sum := sha256.Sum256(text)
	if file.Digest != hex.EncodeToString(sum[:]) {
		t.Errorf("the digest is %s of what has the digest %x", file.Digest, sum)
	}
	wantNoSecret(t, "the evidence", string(text))
	for _, words := range []string{"We are growing.", "Welcome"} {
		if strings.Contains(string(text), words) {
			t.Errorf("the evidence holds the words %q", words)
		}
	}
}

func (h *house) wantCopyOfPolicy(t *testing.T) {
	t.Helper()
	pool := h.pool("local")
	eventually(t, patience, func() string {
		var revision string
		if err := pool.QueryRow(bounded(t, patience), "SELECT revision FROM charter_policy").Scan(&revision); err != nil || revision != "2" {
			return "the site's copy is of revision " + revision
		}
		return ""
	})
}
