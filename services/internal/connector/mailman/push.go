package mailman

import (
	"context"
	"net/http"
	"net/url"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

// removalsAtOnce go into one call.
const removalsAtOnce = 200

// Push implements connector.Remote. Mailman takes about 40 ms for each addition.
func (l *List) Push(ctx context.Context, changes []connector.Change) (connector.Result, error) {
	var result connector.Result
	if err := l.Check(ctx); err != nil {
		return result, err
	}
	var leaving []string
	for _, change := range changes {
		var err error
		switch change.Action {
		case connector.Add:
			err = l.add(ctx, change, &result)
		case connector.Rename:
			err = l.rename(ctx, change, &result)
		case connector.Remove, connector.Unsubscribe:
			leaving = append(leaving, change.Address)
		}
		if err == nil && len(leaving) == removalsAtOnce {
			err = l.remove(ctx, leaving, &result)
			leaving = nil
		}
		if err != nil {
			return result, err
		}
	}
	return result, l.remove(ctx, leaving, &result)
}

func (l *List) add(ctx context.Context, change connector.Change, result *connector.Result) error {
	answer, err := l.do(ctx, connector.Form(http.MethodPost, "/3.1/members", url.Values{
		"list_id": {l.id}, "subscriber": {change.Address}, "display_name": {change.DisplayName}, "role": {"member"},
		"pre_verified": {"true"}, "pre_confirmed": {"true"}, "pre_approved": {"true"}, "send_welcome_message": {"false"},
	}))
	if err != nil {
		return err
	}
	switch answer.Status {
	case http.StatusCreated:
		result.Added++
		return nil
	case http.StatusConflict:
		return l.addAgain(ctx, change, result)
	case http.StatusBadRequest:
		return l.refused(ctx, change, result)
	case http.StatusAccepted:
		result.Suppressed = append(result.Suppressed, connector.Outcome{Address: change.Address, Reason: waits})
		return nil
	}
	return l.client.Refused(answer)
}

const waits = "the subscription waits in Mailman to be confirmed or approved"

// addAgain is for somebody who is a member, or asked to become one.
func (l *List) addAgain(ctx context.Context, change connector.Change, result *connector.Result) error {
	m, found, err := l.find(ctx, change.Address)
	if err != nil {
		return err
	}
	if !found {
		result.Suppressed = append(result.Suppressed, connector.Outcome{Address: change.Address, Reason: waits})
		return nil
	}
	bounced, err := l.hasBounced(ctx, m)
	if err != nil {
		return err
	}
	if bounced {
		result.Suppressed = append(result.Suppressed, connector.Outcome{
			Address: change.Address, Reason: "Mailman stopped the delivery, because mail came back",
		})
		return nil
	}
	return l.giveName(ctx, m, change, result)
}

// refused tells a ban from an address that Mailman cannot hold, such as one beyond ASCII or that of the list itself.
func (l *List) refused(ctx context.Context, change connector.Change, result *connector.Result) error {
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: l.path("/bans/" + url.PathEscape(change.Address))})
	switch {
	case err != nil:
		return err
	case answer.OK():
		result.Suppressed = append(result.Suppressed, connector.Outcome{Address: change.Address, Reason: "the address is banned in Mailman"})
	default:
		result.Rejected = append(result.Rejected, connector.Outcome{Address: change.Address, Reason: "Mailman does not take the address"})
	}
	return nil
}

func (l *List) rename(ctx context.Context, change connector.Change, result *connector.Result) error {
	m, found, err := l.find(ctx, change.Address)
	if err != nil {
		return err
	}
	if !found {
		result.Unchanged++
		return nil
	}
	return l.giveName(ctx, m, change, result)
}

// find looks an address up on the list. Mailman takes a * in it for any characters.
func (l *List) find(ctx context.Context, address string) (member, bool, error) {
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: l.path("/member/" + url.PathEscape(address))})
	if err != nil || answer.Status == http.StatusNotFound {
		return member{}, false, err
	}
	var m member
	if err := l.read(answer, &m); err != nil {
		return member{}, false, err
	}
	return m, m.Email == address, l.ours(m)
}

func (l *List) hasBounced(ctx context.Context, m member) (bool, error) {
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: "/3.1/members/" + url.PathEscape(m.ID) + "/all/preferences"})
	if err != nil {
		return false, err
	}
	var preferences struct {
		DeliveryStatus string `json:"delivery_status"`
	}
	err = l.read(answer, &preferences)
	return preferences.DeliveryStatus == "by_bounces", err
}

// giveName changes the name of an address, which has one for all lists of the core. It stays when another list, which
// may be another chapter's, has the address too, and when the member is a user, whose name other addresses share.
func (l *List) giveName(ctx context.Context, m member, change connector.Change, result *connector.Result) error {
	if change.DisplayName == "" || change.DisplayName == m.DisplayName {
		result.Unchanged++
		return nil
	}
	alone, err := l.isAlone(ctx, m)
	if err != nil {
		return err
	}
	if !alone || m.Mode != "as_address" {
		result.NameKept++
		return nil
	}
	answer, err := l.do(ctx, connector.Form(http.MethodPatch, "/3.1/addresses/"+url.PathEscape(m.Email), url.Values{"display_name": {change.DisplayName}}))
	if err != nil {
		return err
	}
	if !answer.OK() {
		return l.client.Refused(answer)
	}
	result.Renamed++
	return nil
}

// isAlone says whether the address is on no other list.
func (l *List) isAlone(ctx context.Context, m member) (bool, error) {
	answer, err := l.do(ctx, connector.Call{Method: http.MethodGet, Path: "/3.1/addresses/" + url.PathEscape(m.Email) + "/memberships"})
	if err != nil {
		return false, err
	}
	var memberships struct {
		Entries []struct {
			ListID string `json:"list_id"`
		} `json:"entries"`
	}
	if err := l.read(answer, &memberships); err != nil {
		return false, err
	}
	for _, entry := range memberships.Entries {
		if entry.ListID != l.id {
			return false, nil
		}
	}
	return true, nil
}

// remove takes addresses off the list. Unlike the deletion of single members this asks and tells nobody.
func (l *List) remove(ctx context.Context, addresses []string, result *connector.Result) error {
	if len(addresses) == 0 {
		return nil
	}
	answer, err := l.do(ctx, connector.Form(http.MethodDelete, l.path("/roster/member"), url.Values{"emails": addresses}))
	if err != nil {
		return err
	}
	removed := map[string]any{}
	if err := l.read(answer, &removed); err != nil {
		return err
	}
	for _, address := range addresses {
		if removed[address] == true {
			result.Removed++
		} else {
			result.Unchanged++
		}
	}
	return nil
}
