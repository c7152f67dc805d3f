package listmonk

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

// pageSize is a compromise: listmonk looks the lists of a page's subscribers up in quadratic time.
const pageSize = 1000

// What the API calls statuses.
const (
	blocklisted  = "blocklisted"
	confirmed    = "confirmed"
	unconfirmed  = "unconfirmed"
	unsubscribed = "unsubscribed"
)

// subscriber is a row of the API.
type subscriber struct {
	ID     int    `json:"id"`
	Email  string `json:"email"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Lists  []struct {
		ID     int    `json:"id"`
		Status string `json:"subscription_status"`
	} `json:"lists"`
}

func (s subscriber) key() []string {
	key := []string{strconv.Itoa(s.ID), s.Email, s.Name, s.Status}
	for _, list := range s.Lists {
		key = append(key, strconv.Itoa(list.ID), list.Status)
	}
	return key
}

// on returns the status of the subscription to a list, empty where there is none.
func (s subscriber) on(list int) string {
	for _, l := range s.Lists {
		if l.ID == list {
			return l.Status
		}
	}
	return ""
}

// state of a subscription; 0 for what is not known.
func (s subscriber) state(list int, doubleOptin bool) connector.State {
	switch status := s.on(list); {
	case s.Status == blocklisted || status == unsubscribed:
		return connector.Unsubscribed
	case status == confirmed || status == unconfirmed && !doubleOptin:
		return connector.Subscribed
	case status == unconfirmed:
		return connector.Pending
	}
	return 0
}

// Pull implements connector.Remote.
func (l *List) Pull(ctx context.Context, yield func(connector.Person) error) error {
	doubleOptin, err := l.doubleOptin(ctx)
	if err != nil {
		return err
	}
	return l.subscribers(ctx, func(s subscriber) error {
		state := s.state(l.id, doubleOptin)
		if state == 0 {
			return connector.Errorf(connector.Unexpected, "", "listmonk has a status of subscriptions that is not known here; nothing of this reading is used")
		}
		return yield(connector.Person{Address: s.Email, DisplayName: s.Name, State: state})
	})
}

// subscribers reads the list's rows by their ids, which is how listmonk orders what it is not told to order. It ends
// with a look at the list: one that is deleted, or no longer the token's to see, has no rows and is no error.
func (l *List) subscribers(ctx context.Context, yield func(subscriber) error) error {
	err := connector.ReadPages(ctx, l.page, subscriber.key, func(s subscriber) error {
		if s.on(l.id) == "" {
			return l.noRight("list:get of the list; listmonk answered with people of other lists, none of whom is used")
		}
		return yield(s)
	})
	if err != nil {
		return err
	}
	return l.Check(ctx)
}

func (l *List) page(ctx context.Context, number int) (connector.Page[subscriber], error) {
	query := url.Values{
		"list_id": {strconv.Itoa(l.id)}, "order": {"asc"},
		"page": {strconv.Itoa(number)}, "per_page": {strconv.Itoa(pageSize)},
	}
	var page struct {
		Data struct {
			Results []subscriber `json:"results"`
			Total   *int         `json:"total"`
			Size    int          `json:"per_page"`
			Number  int          `json:"page"`
		} `json:"data"`
	}
	call := connector.Call{Method: http.MethodGet, Path: "/api/subscribers", Query: query}
	if err := l.call(ctx, call, "subscribers:get", &page); err != nil {
		return connector.Page[subscriber]{}, err
	}
	if page.Data.Total == nil || page.Data.Number != number {
		return connector.Page[subscriber]{}, l.wrongURL()
	}
	return connector.Page[subscriber]{Rows: page.Data.Results, Size: page.Data.Size, Total: *page.Data.Total}, nil
}
