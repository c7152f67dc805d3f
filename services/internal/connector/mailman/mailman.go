// Package mailman connects to a list of a Mailman 3 core, through its REST API 3.1.
//
// What Mailman says maps like this: a member of the list is SUBSCRIBED, also one who paused delivery; a member whose
// delivery Mailman stopped because mail came back is BOUNCED; who asked for a subscription that is not confirmed or
// not approved is PENDING. Mailman forgets who left, so nobody is UNSUBSCRIBED; whom it bans cannot be added.
//
// The credentials reach all lists of the core. Calls name the configured one, and what is answered for another one is
// an error.
package mailman

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const product = "Mailman's REST API"

// Config is where the list is and who asks.
type Config struct {
	URL      string // of the REST API, as http://127.0.0.1:8001; the version may follow
	Username string // admin_user of [webservice] in mailman.cfg
	Password string // admin_pass
	ListID   string // with dots, as announce.lists.example.org
	Policy   connector.Policy
}

// List is a list of a core.
type List struct {
	client *connector.Client
	id     string
}

var _ connector.Remote = (*List)(nil)

// New refuses a Config that cannot work. It makes no call.
func New(config Config) (*List, error) {
	client, err := connector.NewClient(connector.Access{
		Product: product, URL: strings.TrimSuffix(strings.TrimRight(config.URL, "/"), "/3.1"),
		Username: config.Username, Password: config.Password, Policy: config.Policy,
	})
	if err != nil {
		return nil, err
	}
	if config.ListID == "" || strings.ContainsAny(config.ListID, "@/ ") {
		return nil, connector.Errorf(connector.ListMissing, connector.SettingList,
			"the list is named by its id, with a dot where its address has the at sign, like announce.lists.example.org")
	}
	return &List{client: client, id: config.ListID}, nil
}

// path of something of the list's.
func (l *List) path(below string) string { return "/3.1/lists/" + url.PathEscape(l.id) + below }

// Check implements connector.Remote.
func (l *List) Check(ctx context.Context) error {
	if err := l.checkAPI(ctx); err != nil {
		return err
	}
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: l.path("")})
	if err != nil {
		return err
	}
	if answer.Status == http.StatusNotFound {
		return l.missing()
	}
	var list struct {
		ID string `json:"list_id"`
	}
	if err := l.read(answer, &list); err != nil {
		return err
	}
	if list.ID != l.id {
		return l.missing()
	}
	return nil
}

// checkAPI tells a wrong URL from a list that is missing: both are 404.
func (l *List) checkAPI(ctx context.Context) error {
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: "/3.1/system/versions"})
	if err != nil {
		return err
	}
	var versions struct {
		Mailman string `json:"mailman_version"`
	}
	if answer.OK() {
		if err := l.client.Decode(answer, &versions); err != nil {
			return err
		}
	}
	if versions.Mailman == "" {
		return connector.Errorf(connector.WrongURL, connector.SettingURL,
			"what answers is not the REST API 3.1 of Mailman: set the URL to where [webservice] in mailman.cfg has it, by default http://127.0.0.1:8001")
	}
	return nil
}

func (l *List) missing() error {
	return connector.Errorf(connector.ListMissing, connector.SettingList, "Mailman has no list with the id %s: check the list", l.id)
}

func (l *List) otherList() error {
	return connector.Errorf(connector.Unexpected, "", "Mailman answered with members of another list than %s; nothing of it is used", l.id)
}

// do makes a call whose refusals, but for credentials, are its caller's to judge.
func (l *List) do(ctx context.Context, call connector.Call) (connector.Answer, error) {
	answer, err := l.client.Do(ctx, call)
	if err == nil && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden) {
		return answer, connector.Errorf(connector.Credentials, connector.SettingCredentials,
			"Mailman refuses the user name or the password: set admin_user and admin_pass of [webservice] in its mailman.cfg")
	}
	return answer, err
}

// read decodes an answer that has to be a success.
func (l *List) read(answer connector.Answer, into any) error {
	if !answer.OK() {
		return l.client.Refused(answer)
	}
	return l.client.Decode(answer, into)
}
