package mailman

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const (
	// pageSize: Mailman 3.3.8 takes a quarter of a second for 1,000 members.
	pageSize = 1000
	// bouncedPageSize is larger, because Mailman goes through the whole list for each page: 5 s for 10,000 members.
	bouncedPageSize = 10_000
)

// member is a membership; of many, only memberFields are asked.
type member struct {
	ID          string `json:"member_id"`
	ListID      string `json:"list_id"`
	Email       string `json:"email"`
	DisplayName string `json:"display_name"`
	Role        string `json:"role"`
	Mode        string `json:"subscription_mode"`
}

// memberFields are few, because Mailman looks some up member by member: with role and subscription_mode a page takes
// three times as long.
var memberFields = []string{"member_id", "list_id", "email", "display_name"}

func (m member) key() []string { return []string{m.ID, m.Email, m.DisplayName} }

// request is a subscription that somebody has to confirm or approve.
type request struct {
	Token       string `json:"token"`
	ListID      string `json:"list_id"`
	Email       string `json:"email"`
	DisplayName string `json:"display_name"`
}

func (r request) key() []string { return []string{r.Token, r.Email, r.DisplayName} }

// Pull implements connector.Remote. Requests are read before members: who confirms meanwhile is in both, rather than
// in neither.
func (l *List) Pull(ctx context.Context, yield func(connector.Person) error) error {
	if err := l.Check(ctx); err != nil {
		return err
	}
	pending, err := l.pending(ctx)
	if err != nil {
		return err
	}
	bounced, err := l.bounced(ctx)
	if err != nil {
		return err
	}
	err = l.members(ctx, func(m member) error {
		delete(pending, m.Email)
		state := connector.Subscribed
		if bounced[m.ID] {
			state = connector.Bounced
		}
		return yield(connector.Person{Address: m.Email, DisplayName: m.DisplayName, State: state})
	})
	if err != nil {
		return err
	}
	for _, r := range pending {
		if err := yield(connector.Person{Address: r.Email, DisplayName: r.DisplayName, State: connector.Pending}); err != nil {
			return err
		}
	}
	return nil
}

// pending are the requests by address.
func (l *List) pending(ctx context.Context) (map[string]request, error) {
	found := map[string]request{}
	read := pages[request](l, l.path("/requests"), url.Values{}, pageSize)
	err := connector.ReadPages(ctx, read, request.key, func(r request) error {
		if r.ListID != l.id {
			return l.otherList()
		}
		found[r.Email] = r
		return nil
	})
	return found, err
}

// bounced are the ids of members whose delivery Mailman stopped.
func (l *List) bounced(ctx context.Context) (map[string]bool, error) {
	found := map[string]bool{}
	query := url.Values{
		"list_id": {l.id}, "role": {"member"}, "delivery_status": {"by_bounces"}, "fields": memberFields,
	}
	read := pages[member](l, "/3.1/members/find", query, bouncedPageSize)
	err := connector.ReadPages(ctx, read, member.key, func(m member) error {
		found[m.ID] = true
		return l.ours(m)
	})
	return found, err
}

func (l *List) members(ctx context.Context, yield func(member) error) error {
	read := pages[member](l, l.path("/roster/member"), url.Values{"fields": memberFields}, pageSize)
	return connector.ReadPages(ctx, read, member.key, func(m member) error {
		if err := l.ours(m); err != nil {
			return err
		}
		return yield(m)
	})
}

func (l *List) ours(m member) error {
	if m.ListID != l.id || m.Role != "member" && m.Role != "" {
		return l.otherList()
	}
	return nil
}

// pages reads a collection.
func pages[R any](l *List, path string, query url.Values, size int) func(context.Context, int) (connector.Page[R], error) {
	query.Set("count", strconv.Itoa(size))
	return func(ctx context.Context, number int) (connector.Page[R], error) {
		query.Set("page", strconv.Itoa(number))
		answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: path, Query: query})
		if err != nil {
			return connector.Page[R]{}, err
		}
		if answer.Status == http.StatusNotFound {
			return connector.Page[R]{}, l.missing()
		}
		var collection struct {
			Start   *int `json:"start"`
			Total   *int `json:"total_size"`
			Entries []R  `json:"entries"`
		}
		if err := l.read(answer, &collection); err != nil {
			return connector.Page[R]{}, err
		}
		if collection.Start == nil || collection.Total == nil || *collection.Start != (number-1)*size {
			return connector.Page[R]{}, l.client.Refused(answer)
		}
		return connector.Page[R]{Rows: collection.Entries, Size: size, Total: *collection.Total}, nil
	}
}
