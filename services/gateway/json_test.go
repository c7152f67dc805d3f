package gateway_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
)

func TestZeroAndFalseAreWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, internationalv1.StandingService_GetStanding_FullMethodName, func(context.Context, *internationalv1.GetStandingRequest) (*internationalv1.Standing, error) {
		none := int32(0)
		return &internationalv1.Standing{
			Name:       "chapters/golang-paris/standing",
			Membership: &internationalv1.Figures{},
			Gap:        &internationalv1.Gap{Convert: &none},
		}, nil
	})
	got := w.do(http.MethodGet, "/v1/chapters/golang-paris/standing", "")
	for _, want := range []string{
		`"eligible":false`, `"margin":0`, `"basis":"BASIS_UNSPECIFIED"`, `"membership":{"total":0,"international":0}`,
		`"gap":{"convert":0}`, `"etag":""`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("no %s in %s", want, got.body)
		}
	}
	if strings.Contains(got.body, "null") || strings.Contains(got.body, "forecastLossTime") {
		t.Errorf("what is not set is written: %s", got.body)
	}
	if got.header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type is %q", got.header.Get("Content-Type"))
	}
}

func TestBodiesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const create, patch, verb = "/v1/chapters/golang-paris/lists?listId=announce", listPath, "/v1/charters/golang-paris:approve"
	for name, c := range map[string]struct{ method, path, body, field string }{
		"UnknownField":          {http.MethodPost, create, `{"displayName":"A","colour":"red"}`, "colour"},
		"UnknownFieldOfAnEntry": {http.MethodPost, "/v1/members", `{"addresses":[{"mail":"ada@example.org"}]}`, "mail"},
		"UnknownFieldOfAVerb":   {http.MethodPost, verb, `{"standingTag":"1"}`, "standingTag"},
		"UnknownFieldOfAPatch":  {http.MethodPatch, patch, `{"nope":1}`, "nope"},
		"WrongType":             {http.MethodPost, "/v1/members", `{"addresses":[{"verified":"ada@example.org"}]}`, "verified"},
		"Twice":                 {http.MethodPost, create, `{"displayName":"A","displayName":"B"}`, "displayName"},
		"NameThatIsAnAddress":   {http.MethodPost, create, `{"ada@example.org":1}`, ""},
		"NoJSON":                {http.MethodPost, create, `ada@example.org`, ""},
		"MoreThanOneValue":      {http.MethodPost, create, `{"displayName":"A"}{"displayName":"B"}`, ""},
		"HalfAValue":            {http.MethodPost, create, `{"displayName":"A"`, ""},
		"Null":                  {http.MethodPost, create, `null`, ""},
		"Array":                 {http.MethodPost, verb, `[]`, ""},
		"BodyOfAGet":            {http.MethodGet, listPath, `{}`, ""},
		"BodyOfADelete":         {http.MethodDelete, listPath, `{"etag":"1-1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(c.method, c.path, c.body, asJSON)
			got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
			if c.field != "" {
				got.wantField(t, c.field)
			}
			if strings.Contains(got.body, "ada@") || strings.Contains(got.body, "proto:") {
				t.Errorf("the body is quoted: %s", got.body)
			}
		})
	}
	if w.called() != 0 {
		t.Errorf("%d calls reached a service", w.called())
	}
}

func TestMediaTypesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, headers := range [][]string{
		{"Content-Type: application/x-www-form-urlencoded"},
		{"Content-Type: text/plain"},
		{"Content-Type: ;"},
		{},
		{asJSON, "Content-Encoding: gzip"},
	} {
		w.do(http.MethodPost, "/v1/members", `{"displayName":"Ada"}`, headers...).
			wantError(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	}
}

func TestVerbNeedsNoBody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	on(w, internationalv1.CharterService_ClaimCharter_FullMethodName, func(_ context.Context, r *internationalv1.ClaimCharterRequest) (*internationalv1.Charter, error) {
		return &internationalv1.Charter{Name: r.GetName()}, nil
	})
	for _, body := range []string{"", "{}", " \n"} {
		if got := w.do(http.MethodPost, "/v1/charters/golang-paris:claim", body, asJSON+"; charset=utf-8"); got.status != http.StatusOK {
			t.Errorf("body %q: %d %s", body, got.status, got.body)
		}
	}
}

func TestTooLargeBody(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.MaxBodyBytes = 1000 })
	body := `{"displayName":"` + strings.Repeat("a", 1000) + `"}`
	for _, chunked := range []bool{false, true} {
		reader := strings.NewReader(body)
		var got answer
		if chunked {
			got = w.send(http.MethodPost, "/v1/members", struct{ *strings.Reader }{reader}, asJSON)
		} else {
			got = w.send(http.MethodPost, "/v1/members", reader, asJSON)
		}
		info := got.wantError(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")["details"].([]any)[0].(map[string]any)
		if info["metadata"].(map[string]any)["limit"] != "1000" {
			t.Errorf("metadata: %v", info)
		}
	}
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.RequestTimeout = 100 * time.Millisecond })
	reader, writer := pipe(t)
	go func() { _, _ = writer.Write([]byte(`{"displayName":`)) }()
	w.send(http.MethodPost, "/v1/members", reader, asJSON).wantError(t, http.StatusRequestTimeout, "UPLOAD_INTERRUPTED")
}

// A deadline for the body that stays on the connection would end the call while the service works.
func TestAnswerMayTakeLongerThanTheBody(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.RequestTimeout = 2 * time.Second })
	on(w, internationalv1.MemberService_CreateMember_FullMethodName, func(ctx context.Context, r *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(1200 * time.Millisecond):
			return r.GetMember(), nil
		}
	})
	reader, writer := pipe(t)
	go func() {
		_, _ = writer.Write([]byte(`{"displayName":`))
		<-time.After(1200 * time.Millisecond)
		_, _ = writer.Write([]byte(`"Ada"}`))
		_ = writer.Close()
	}()
	if got := w.send(http.MethodPost, "/v1/members", reader, asJSON); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestUpdateMask(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var got []string
	on(w, localv1.ChapterService_UpdateChapter_FullMethodName, func(_ context.Context, r *localv1.UpdateChapterRequest) (*localv1.Chapter, error) {
		got = r.GetUpdateMask().GetPaths()
		slices.Sort(got)
		return r.GetChapter(), nil
	})
	for _, c := range []struct{ query, body, want string }{
		{"", `{"displayName":"Golang Paris","city":""}`, "city display_name"},
		{"", `{"name":"chapters/other","etag":"1-2","latitude":0}`, "latitude"},
		{"", `{"display_name":"Golang Paris"}`, "display_name"},
		{"?updateMask=displayName,countryCode", `{}`, "country_code display_name"},
		{"?updateMask=display_name", `{}`, "display_name"},
		{"?updateMask=nothing", `{"city":"Paris"}`, "nothing"},
		{"", ``, ""},
	} {
		answer := w.do(http.MethodPatch, "/v1/chapters/golang-paris"+c.query, c.body, asJSON)
		if answer.status != http.StatusOK || strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: mask %q, want %q (%d %s)", c.query, c.body, got, c.want, answer.status, answer.body)
		}
		if c.body != "" && answer.json(t)["name"] != "chapters/golang-paris" {
			t.Errorf("the path does not name the chapter: %s", answer.body)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var list *localv1.ListEntriesRequest
	on(w, localv1.ListService_ListEntries_FullMethodName, func(_ context.Context, r *localv1.ListEntriesRequest) (*localv1.ListEntriesResponse, error) {
		list = r
		return &localv1.ListEntriesResponse{}, nil
	})
	if got := w.do(http.MethodGet, listPath+"/entries?pageSize=7&pageToken=a%2Bb&state=PENDING", ""); got.body != `{"entries":[],"nextPageToken":"","etag":""}`+"\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if list.GetPageSize() != 7 || list.GetPageToken() != "a+b" || list.GetState() != localv1.Entry_PENDING || list.GetParent() != "chapters/golang-paris/lists/members" {
		t.Errorf("the service got %v", list)
	}
	on(w, localv1.ListService_DeleteList_FullMethodName, func(_ context.Context, r *localv1.DeleteListRequest) (*emptypb.Empty, error) {
		if r.GetEtag() != "1-2" {
			t.Errorf("etag %q", r.GetEtag())
		}
		return &emptypb.Empty{}, nil
	})
	if got := w.do(http.MethodDelete, listPath+"?etag=1-2", ""); got.body != "{}\n" {
		t.Errorf("%d %s", got.status, got.body)
	}
	for query, field := range map[string]string{
		"pageSize=many": "pageSize", "page_size=3": "page_size", "parent=x": "parent", "pageSize=1&pageSize=2": "pageSize", "state=ASLEEP": "state",
		"filter=ada@example.org": "filter", "ada@example.org=1": "query", "pageSize=1&colour=red": "colour", "pageSize[x]=1": "query",
	} {
		got := w.do(http.MethodGet, listPath+"/entries?"+query, "")
		got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		got.wantField(t, field)
		if strings.Contains(got.body, "example.org") {
			t.Errorf("the query is quoted: %s", got.body)
		}
	}
	w.do(http.MethodGet, listPath+"/entries?a=%zz", "").wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
	// A verb takes everything in its body.
	verb := w.do(http.MethodPost, "/v1/charters/golang-paris:approve?note=x", "{}", asJSON)
	verb.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
	verb.wantField(t, "note")
}

// A message beside the body is set field by field in the query.
func TestQueryOfAMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var consent *localv1.Consent
	on(w, localv1.ListService_CreateEntry_FullMethodName, func(_ context.Context, r *localv1.CreateEntryRequest) (*localv1.Entry, error) {
		consent = r.GetConsent()
		return r.GetEntry(), nil
	})
	path := listPath + "/entries?consent.method=sheet&consent.text=News%20please&consent.time=2026-01-31T09:00:00Z"
	if got := w.do(http.MethodPost, path, `{"address":"ada@example.org"}`, asJSON); got.status != http.StatusOK || got.json(t)["address"] != "ada@example.org" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if consent.GetMethod() != "sheet" || consent.GetText() != "News please" || consent.GetTime().GetSeconds() != 1769850000 {
		t.Errorf("the service got %v", consent)
	}
	for query, field := range map[string]string{"consent=x": "consent", "consent.colour=red": "consent.colour", "consent.time=soon": "consent.time"} {
		got := w.do(http.MethodPost, listPath+"/entries?"+query, `{}`, asJSON)
		got.wantError(t, http.StatusBadRequest, "MALFORMED_REQUEST")
		got.wantField(t, field)
	}
}
