package listmonk

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const (
	// fewAdditions are made one by one: listmonk mails its admins about each import.
	fewAdditions = 20
	// idsAtOnce go into one call.
	idsAtOnce = 500
)

// push is one push under way.
type push struct {
	*List
	known  map[string]entry // by canonical address, as it was when the push began
	result connector.Result

	additions          []connector.Change
	removals, leavings []int // ids of subscribers
}

type entry struct {
	subscriber
	state connector.State
}

// Push implements connector.Remote. It reads the list first: that tells who left, and needs no look at other lists.
func (l *List) Push(ctx context.Context, changes []connector.Change) (connector.Result, error) {
	p := push{List: l}
	var err error
	if p.known, err = l.entries(ctx); err != nil {
		return p.result, err
	}
	for _, change := range changes {
		if err := p.plan(ctx, change); err != nil {
			return p.result, err
		}
	}
	if err := p.takeOff(ctx, "remove", p.removals); err != nil {
		return p.result, err
	}
	if err := p.takeOff(ctx, "unsubscribe", p.leavings); err != nil {
		return p.result, err
	}
	return p.result, p.add(ctx)
}

// entries are the list's rows. Those whose address is none that we could ask for are left out.
func (l *List) entries(ctx context.Context) (map[string]entry, error) {
	doubleOptin, err := l.doubleOptin(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]entry{}
	err = l.subscribers(ctx, func(s subscriber) error {
		if canonical, err := address.Canonical(s.Email); err == nil {
			found[canonical] = entry{s, s.state(l.id, doubleOptin)}
		}
		return nil
	})
	return found, err
}

// plan makes a change of a name, and notes one of a subscription for the calls that make many.
func (p *push) plan(ctx context.Context, change connector.Change) error {
	e, found := p.known[change.Address]
	switch {
	case !found && change.Action == connector.Add:
		p.additions = append(p.additions, change)
	case !found:
		p.result.Unchanged++
	case change.Action == connector.Rename || change.Action == connector.Add && e.state == connector.Subscribed:
		return p.giveName(ctx, e, change)
	case change.Action == connector.Add:
		p.suppress(change, e.state)
	case e.state == connector.Unsubscribed:
		p.result.Unchanged++
	case change.Action == connector.Remove:
		p.removals = append(p.removals, e.ID)
	case change.Action == connector.Unsubscribe:
		p.leavings = append(p.leavings, e.ID)
	}
	return nil
}

func (p *push) suppress(change connector.Change, state connector.State) {
	reason := "listmonk has the address as unsubscribed or blocklisted"
	if state == connector.Pending {
		reason = "the subscription waits in listmonk to be confirmed"
	}
	p.result.Suppressed = append(p.result.Suppressed, connector.Outcome{Address: change.Address, Reason: reason})
}

// giveName changes the name of a subscriber, who has one for all lists. It stays when another list, which may be
// another chapter's, has the subscriber too.
func (p *push) giveName(ctx context.Context, e entry, change connector.Change) error {
	if change.DisplayName == "" || change.DisplayName == e.Name {
		p.result.Unchanged++
		return nil
	}
	if len(e.Lists) != 1 {
		p.result.NameKept++
		return nil
	}
	call := connector.JSON(http.MethodPatch, "/api/subscribers/"+strconv.Itoa(e.ID), map[string]any{"name": change.DisplayName})
	answer, err := p.client.Do(ctx, call)
	switch {
	case err != nil:
		return err
	case answer.OK():
		p.result.Renamed++
		return nil
	case answer.Status == http.StatusMethodNotAllowed: // before 6.1; a PUT would set all lists of the subscriber too
		p.result.NameKept++
		return nil
	case answer.Status == http.StatusForbidden:
		return p.noRight("subscribers:manage")
	}
	return p.client.Refused(answer)
}

// takeOff ends subscriptions to this list alone. "unsubscribe" leaves a mark that keeps additions away, "remove" does not.
func (p *push) takeOff(ctx context.Context, action string, ids []int) error {
	for some := range slices.Chunk(ids, idsAtOnce) {
		call := connector.JSON(http.MethodPut, "/api/subscribers/lists", map[string]any{
			"ids": some, "action": action, "target_list_ids": []int{p.id},
		})
		if err := p.call(ctx, call, "subscribers:manage, and list:manage of the list", &struct{}{}); err != nil {
			return err
		}
		p.result.Removed += len(some)
	}
	return nil
}

// add makes few additions one by one, and imports many. Who is a subscriber of other lists can only be imported: we do
// not look at those.
func (p *push) add(ctx context.Context) error {
	if len(p.additions) > fewAdditions {
		return p.importAll(ctx, p.additions)
	}
	var elsewhere []connector.Change
	for _, change := range p.additions {
		exists, err := p.create(ctx, change)
		if err != nil {
			return err
		}
		if exists {
			elsewhere = append(elsewhere, change)
		}
	}
	return p.importAll(ctx, elsewhere)
}

// create makes a new subscriber. listmonk refuses, with 409, to touch one that exists.
func (p *push) create(ctx context.Context, change connector.Change) (exists bool, err error) {
	answer, err := p.client.Do(ctx, connector.JSON(http.MethodPost, "/api/subscribers", map[string]any{
		"email": change.Address, "name": change.DisplayName, "status": "enabled",
		"lists": []int{p.id}, "preconfirm_subscriptions": true,
	}))
	switch {
	case err != nil:
		return false, err
	case answer.OK():
		p.result.Added++
		return false, nil
	case answer.Status == http.StatusConflict:
		return true, nil
	case answer.Status == http.StatusBadRequest:
		p.reject(change)
		return false, nil
	case answer.Status == http.StatusForbidden:
		return false, p.noRight("subscribers:manage, and list:manage of the list")
	}
	return false, p.client.Refused(answer)
}

func (p *push) reject(change connector.Change) {
	p.result.Rejected = append(p.result.Rejected, connector.Outcome{Address: change.Address, Reason: "listmonk does not take the address"})
}
