package listmonk_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// standin answers like listmonk 6.2, as far as its API is used here: shapes and statuses are those that a real one
// gave to the same calls, and its oddities are kept. Whatever it is asked that is not written down here fails the
// test. CHAPTERHOUSE_LISTMONK_URL runs the tests against a real one instead (world_test.go).
type standin struct {
	t     *testing.T
	url   string
	mails int // opt-in mails that would have been sent

	mu          sync.Mutex
	lists       map[int]string // opt-in by number
	subscribers map[int]*row
	next        int
	imported    map[string]any
}

type row struct {
	id                  int
	email, name, status string
	on                  map[int]string // subscription by list
}

const (
	standinUser, standinToken = "api", "standin-token"
	// limitedUser has the rights of subscribers, and list:get on list 1 alone.
	limitedUser = "limited"
	// blindUser has the rights of subscribers, and no list.
	blindUser = "blind"
)

func startStandin(t *testing.T) *standin {
	s := &standin{
		t: t, lists: map[int]string{1: "single"}, subscribers: map[int]*row{},
		imported: map[string]any{"name": "", "total": 0, "imported": 0, "status": "none"},
	}
	routes := http.NewServeMux()
	for pattern, handle := range map[string]func(*http.Request) (int, any){
		"GET /api/profile":                    func(*http.Request) (int, any) { return data(map[string]any{"username": "api"}) },
		"POST /api/lists":                     s.createList,
		"GET /api/lists/{id}":                 s.list,
		"GET /api/subscribers":                s.query,
		"POST /api/subscribers":               s.create,
		"PATCH /api/subscribers/{id}":         s.patch,
		"PUT /api/subscribers/{id}/blocklist": s.blocklist,
		"PUT /api/subscribers/lists":          s.manage,
		"GET /api/import/subscribers":         func(*http.Request) (int, any) { return data(s.imported) },
		"POST /api/import/subscribers":        s.importCSV,
	} {
		routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			status, body := http.StatusForbidden, any(map[string]any{"message": "invalid API credentials"})
			if user, token, _ := r.BasicAuth(); token == standinToken && (user == standinUser || user == limitedUser || user == blindUser) {
				status, body = handle(r)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s is no call that listmonk has been asked before", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"message":"404 unknown endpoint"}`))
	})
	server := httptest.NewServer(routes)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func data(value any) (int, any) { return http.StatusOK, map[string]any{"data": value} }

func fail(status int, message string) (int, any) { return status, map[string]any{"message": message} }

// read takes a body with exactly the fields that listmonk knows.
func (s *standin) read(r *http.Request, into any) {
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		s.t.Errorf("%s %s: a body of type %q", r.Method, r.URL.Path, kind)
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func (s *standin) createList(r *http.Request) (int, any) {
	var list struct{ Name, Type, Optin string }
	s.read(r, &list)
	number := len(s.lists) + 1
	s.lists[number] = list.Optin
	return data(map[string]any{"id": number, "optin": list.Optin})
}

func (s *standin) list(r *http.Request) (int, any) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	if !mayRead(r, id) {
		return fail(http.StatusForbidden, "permission denied")
	}
	if optin, ok := s.lists[id]; ok {
		return data(map[string]any{"id": id, "name": "List", "type": "private", "optin": optin, "status": "active"})
	}
	return fail(http.StatusBadRequest, "List not found")
}

func mayRead(r *http.Request, list int) bool {
	user, _, _ := r.BasicAuth()
	return user == standinUser || user == limitedUser && list == 1
}

// query pages through a list's subscribers by id. Asked for a list that the token has no right to, it answers with one
// that it has a right to, or with nobody, as the real one does.
func (s *standin) query(r *http.Request) (int, any) {
	query := r.URL.Query()
	s.expect(query, map[string]string{"order": "asc"}, "list_id", "page", "per_page")
	list, _ := strconv.Atoi(query.Get("list_id"))
	switch user, _, _ := r.BasicAuth(); user {
	case limitedUser:
		list = 1
	case blindUser:
		list = -1
	}
	page, _ := strconv.Atoi(query.Get("page"))
	size, _ := strconv.Atoi(query.Get("per_page"))
	var found []any
	for _, id := range slices.Sorted(maps.Keys(s.subscribers)) {
		if row := s.subscribers[id]; row.on[list] != "" {
			found = append(found, row.json())
		}
	}
	var results any = []any{}
	if total := len(found); total > 0 {
		results = found[min(total, (page-1)*size):min(total, page*size)]
	}
	return data(map[string]any{"results": results, "search": "", "query": "", "total": len(found), "per_page": size, "page": page})
}

// expect refuses parameters that were not agreed on.
func (s *standin) expect(query url.Values, fixed map[string]string, free ...string) {
	for name, values := range query {
		if len(values) != 1 || fixed[name] != "" && fixed[name] != values[0] || fixed[name] == "" && !slices.Contains(free, name) {
			s.t.Errorf("the parameter %s=%v", name, values)
		}
	}
}

func (r *row) json() map[string]any {
	lists := []any{}
	for _, id := range slices.Sorted(maps.Keys(r.on)) {
		lists = append(lists, map[string]any{"id": id, "subscription_status": r.on[id], "name": "List", "optin": "single"})
	}
	return map[string]any{
		"id": r.id, "created_at": "2026-11-25T09:46:54.246905Z", "uuid": "3004fd61-2fe0-49bd-8a6a-958d9d56738a",
		"email": r.email, "name": r.name, "attribs": map[string]any{}, "status": r.status, "lists": lists,
	}
}

type subscriberForm struct {
	Email        string `json:"email"`
	Name         string `json:"name"`
	Status       string `json:"status"`
	Lists        []int  `json:"lists"`
	Preconfirmed bool   `json:"preconfirm_subscriptions"`
}

func (s *standin) create(r *http.Request) (int, any) {
	var form subscriberForm
	s.read(r, &form)
	email, ok := sanitize(form.Email)
	if !ok {
		return fail(http.StatusBadRequest, "Invalid email.")
	}
	if s.byEmail(email) != nil {
		return fail(http.StatusConflict, "E-mail already exists.")
	}
	status := "unconfirmed"
	if form.Preconfirmed {
		status = "confirmed"
	}
	made := s.insert(email, form.Name)
	for _, list := range form.Lists {
		made.on[list] = status
		if status == "unconfirmed" && s.lists[list] == "double" {
			s.mails++
		}
	}
	return data(made.json())
}

// sanitize is what listmonk does to an address.
func sanitize(raw string) (string, bool) {
	email := strings.ToLower(strings.TrimSpace(raw))
	parsed, err := mail.ParseAddress(email)
	return email, err == nil && parsed.Address == email
}

func (s *standin) byEmail(email string) *row {
	for _, row := range s.subscribers {
		if row.email == email {
			return row
		}
	}
	return nil
}

// insert makes up a name where there is none, as listmonk does.
func (s *standin) insert(email, name string) *row {
	if name == "" {
		local, _, _ := strings.Cut(email, "@")
		name = strings.Title(strings.ReplaceAll(local, ".", " ")) //nolint:staticcheck // good enough for the names here
	}
	s.next++
	made := &row{id: s.next, email: email, name: name, status: "enabled", on: map[int]string{}}
	s.subscribers[made.id] = made
	return made
}

func (s *standin) patch(r *http.Request) (int, any) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	var form struct{ Name string }
	s.read(r, &form)
	s.subscribers[id].name = form.Name
	return data(s.subscribers[id].json())
}

func (s *standin) blocklist(r *http.Request) (int, any) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	blocked := s.subscribers[id]
	blocked.status = "blocklisted"
	for list := range blocked.on {
		blocked.on[list] = "unsubscribed"
	}
	return data(true)
}

func (s *standin) manage(r *http.Request) (int, any) {
	var form struct {
		IDs    []int  `json:"ids"`
		Action string `json:"action"`
		Lists  []int  `json:"target_list_ids"`
		Status string `json:"status"`
	}
	s.read(r, &form)
	for _, id := range form.IDs {
		for _, list := range form.Lists {
			on := s.subscribers[id].on
			switch {
			case form.Action == "add":
				on[list] = form.Status
			case form.Action == "remove":
				delete(on, list)
			case form.Action == "unsubscribe" && on[list] != "":
				on[list] = "unsubscribed"
			}
		}
	}
	return data(true)
}

// importCSV does at once what listmonk does in the background, and is seen to be busy once.
func (s *standin) importCSV(r *http.Request) (int, any) {
	if s.imported["status"] == "importing" {
		return fail(http.StatusBadRequest, "An import is already running.")
	}
	var params struct {
		Mode               string `json:"mode"`
		Status             string `json:"subscription_status"`
		Delim              string `json:"delim"`
		Lists              []int  `json:"lists"`
		Overwrite          bool   `json:"overwrite"`
		OverwriteUserInfo  bool   `json:"overwrite_userinfo"`
		OverwriteSubStatus bool   `json:"overwrite_subscription_status"`
	}
	file, header, err := r.FormFile("file")
	if err != nil {
		return fail(http.StatusBadRequest, err.Error())
	}
	if err := json.Unmarshal([]byte(r.FormValue("params")), &params); err != nil || params.Mode != "subscribe" || params.Delim != "," {
		s.t.Errorf("params %s: %v", r.FormValue("params"), err)
	}
	if params.Overwrite || params.OverwriteSubStatus || params.OverwriteUserInfo {
		s.t.Error("an import that overwrites")
	}
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || fmt.Sprint(rows[0]) != "[email name]" {
		s.t.Errorf("%v: %v", rows[:1], err)
	}
	for _, cells := range rows[1:] {
		email, ok := sanitize(cells[0])
		if !ok {
			continue
		}
		found := s.byEmail(email)
		if found == nil {
			found = s.insert(email, cells[1])
		}
		for _, list := range params.Lists {
			switch {
			case found.on[list] != "":
			case found.status == "blocklisted":
				found.on[list] = "unsubscribed"
			default:
				found.on[list] = params.Status
			}
		}
	}
	s.imported = map[string]any{"name": header.Filename, "total": len(rows) - 1, "imported": len(rows) - 1, "status": "finished"}
	return data(map[string]any{"name": header.Filename, "total": 0, "imported": 0, "status": "importing"})
}
