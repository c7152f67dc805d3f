package local

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestNobodyElseReadsEntries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	entry := w.add(members, "ada@example.org")
	plan := w.sync(replace("crm", people(0, 3)))
	for role, scope := range map[authz.Role]string{
		authz.InternationalStaff: authz.Federation,
		authz.Auditor:            authz.Federation,
		authz.Service:            authz.Federation,
		authz.Coordinator:        "regions/world",
		authz.ChapterAdmin:       "chapters/golang-lyon",
		authz.Site:               "sites/main",
		authz.Member:             "members/ada",
	} {
		conn := w.as(role, scope)
		lists, syncs := localv1.NewListServiceClient(conn), localv1.NewSyncServiceClient(conn)
		for name, call := range map[string]func() error{
			"ListEntries": func() error {
				_, err := lists.ListEntries(t.Context(), &localv1.ListEntriesRequest{Parent: members})
				return err
			},
			"GetEntry": func() error {
				_, err := lists.GetEntry(t.Context(), &localv1.GetEntryRequest{Name: entry.GetName()})
				return err
			},
			"ListSyncChanges": func() error {
				_, err := syncs.ListSyncChanges(t.Context(), &localv1.ListSyncChangesRequest{Parent: plan.GetName()})
				return err
			},
			"ApplySync": func() error {
				_, err := syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: plan.GetName()})
				return err
			},
			"CreateSync": func() error { _, err := replace("crm", people(0, 3)).send(t.Context(), syncs); return err },
			"UnsubscribeEntry": func() error {
				_, err := lists.UnsubscribeEntry(t.Context(), &localv1.UnsubscribeEntryRequest{Name: entry.GetName()})
				return err
			},
		} {
			err := call()
			if !rpc.Is(err, errorv1.Reason_REASON_PERMISSION_DENIED) {
				t.Errorf("%s calls %s: %v", role, name, err)
			}
		}
	}
	staff := localv1.NewListServiceClient(w.as(authz.InternationalStaff, authz.Federation))
	list, err := staff.GetList(t.Context(), &localv1.GetListRequest{Name: members})
	w.must(err)
	if list.GetSubscribedCount() != 1 {
		t.Errorf("staff see the counts %v", list)
	}
}

// TestNoAddressLeavesTheTier looks for addresses in everything that others get to see.
func TestNoAddressLeavesTheTier(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const secret = "very.secret"
	entry := w.add(members, secret+"@example.org")
	var errs []error
	_, err := w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: secret + "@example.org"}})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	errs = append(errs, err)
	_, err = w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: secret + "@@example"}})
	hasCode(t, err, codes.InvalidArgument)
	errs = append(errs, err)
	w.unsubscribe(entry.GetName())
	_, err = w.lists.CreateEntry(t.Context(), &localv1.CreateEntryRequest{Parent: members, Entry: &localv1.Entry{Address: secret + "@example.org"}})
	errs = append(errs, err)
	w.sync(replace("crm", secret+"1@example.org\n"+secret+"2@example.org\n"+secret+"@bad\n").applied())
	_, err = replace("crm", "name\n"+secret+"\n").send(t.Context(), w.syncs)
	errs = append(errs, err)
	_, err = replace("crm", `{"entries":[{"address":"`+secret+`@example.org"}`).as("application/json").send(t.Context(), w.syncs)
	errs = append(errs, err)

	for _, err := range errs {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("an error says %v", err)
		}
	}
	if log := w.logged.String(); log == "" || strings.Contains(log, secret) {
		t.Errorf("the log of %d bytes holds an address", len(log))
	}
	var data []byte
	w.must(w.pool.QueryRow(t.Context(), "SELECT string_agg(data, '') FROM outbox").Scan(&data))
	if bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte("@example.org")) {
		t.Error("an event holds an address")
	}
}
