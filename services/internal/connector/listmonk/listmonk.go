// Package listmonk connects to a list of a listmonk instance, through its API for subscribers and imports. It is
// written for listmonk 6; older ones lack the change of a name.
//
// What listmonk says maps like this: whose subscription is confirmed is SUBSCRIBED; unconfirmed is PENDING on a list
// with double opt-in, and SUBSCRIBED on one with single opt-in, to which listmonk sends all the same; whose
// subscription is unsubscribed, or who is blocklisted, is UNSUBSCRIBED. listmonk does not say that mail came back: it
// blocklists or unsubscribes for it, as its settings have it.
//
// A subscriber of listmonk is one for all lists of the instance, and a token often reaches all of them. Calls name the
// configured list, and a row that does not show that list is an error. It has to be: asked for a list that the token
// has no right to, listmonk answers with those that it has a right to, or with everybody.
package listmonk

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const product = "listmonk's API"

// Config is where the list is and who asks.
type Config struct {
	URL      string // of the instance, as https://listmonk.example.org
	Username string // of an API user
	Token    string // of that user
	ListID   int    // the number that the list's page shows
	Policy   connector.Policy
}

// List is a list of an instance.
type List struct {
	client *connector.Client
	id     int
}

var _ connector.Remote = (*List)(nil)

// New refuses a Config that cannot work. It makes no call.
func New(config Config) (*List, error) {
	client, err := connector.NewClient(connector.Access{
		Product: product, URL: strings.TrimSuffix(strings.TrimRight(config.URL, "/"), "/api"),
		Username: config.Username, Password: config.Token, Policy: config.Policy,
	})
	if err != nil {
		return nil, err
	}
	if config.ListID < 1 {
		return nil, connector.Errorf(connector.ListMissing, connector.SettingList, "the list is named by the number that its page in listmonk shows")
	}
	return &List{client: client, id: config.ListID}, nil
}

// Check implements connector.Remote.
func (l *List) Check(ctx context.Context) error {
	_, err := l.doubleOptin(ctx)
	return err
}

// doubleOptin says whether an unconfirmed subscription of the list still has to be confirmed.
func (l *List) doubleOptin(ctx context.Context) (bool, error) {
	answer, err := l.client.Do(ctx, connector.Call{Method: http.MethodGet, Path: "/api/lists/" + strconv.Itoa(l.id)})
	if err != nil {
		return false, err
	}
	var list struct {
		Data struct {
			ID    int    `json:"id"`
			Optin string `json:"optin"`
		} `json:"data"`
	}
	switch answer.Status {
	case http.StatusOK:
		err = l.client.Decode(answer, &list)
	case http.StatusForbidden, http.StatusUnauthorized:
		err = l.forbidden(ctx)
	case http.StatusBadRequest: // what listmonk says of a list that is not there
		err = connector.Errorf(connector.ListMissing, connector.SettingList, "listmonk has no list with the number %d: check the list", l.id)
	default:
		err = l.wrongURL()
	}
	if err == nil && list.Data.ID != l.id {
		err = l.wrongURL()
	}
	return list.Data.Optin == "double", err
}

// forbidden tells credentials that are wrong from those that lack a right: listmonk answers 403 to both.
func (l *List) forbidden(ctx context.Context) error {
	answer, err := l.client.Do(ctx, connector.Call{Method: http.MethodGet, Path: "/api/profile"})
	if err != nil {
		return err
	}
	if !answer.OK() {
		return connector.Errorf(connector.Credentials, connector.SettingCredentials,
			"listmonk refuses the user name or the token: set those of an API user (in listmonk under Admin, Users)")
	}
	return l.noRight("list:get and list:manage of the list")
}

func (l *List) noRight(rights string) error {
	return connector.Errorf(connector.Credentials, connector.SettingCredentials,
		"listmonk's API user has no right to do this on list %d: give its roles %s", l.id, rights)
}

func (l *List) wrongURL() error {
	return connector.Errorf(connector.WrongURL, connector.SettingURL, "what answers is not listmonk's API: set the URL to that of the listmonk instance, without a path")
}

// call makes a call that has to succeed, and names the right that it takes.
func (l *List) call(ctx context.Context, call connector.Call, right string, into any) error {
	answer, err := l.client.Do(ctx, call)
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusForbidden:
		return l.noRight(right)
	case !answer.OK():
		return l.client.Refused(answer)
	}
	return l.client.Decode(answer, into)
}
