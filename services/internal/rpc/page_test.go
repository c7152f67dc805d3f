package rpc_test

import (
	"encoding/base64"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestPageSize(t *testing.T) {
	t.Parallel()
	for requested, want := range map[int32]int{0: 50, 1: 1, 1000: 1000, 1001: 1000, 1 << 30: 1000} {
		if got, err := rpc.PageSize(requested); err != nil || got != want {
			t.Errorf("%d: got %d, %v", requested, got, err)
		}
	}
	_, err := rpc.PageSize(-1)
	wantError(t, err, codes.InvalidArgument, invalidField)
	if rpc.ViolationsOf(err)["pageSize"] == "" {
		t.Errorf("got %v", rpc.ViolationsOf(err))
	}
}

const listMembers = internationalv1.MemberService_ListMembers_FullMethodName

func TestSealer(t *testing.T) {
	t.Parallel()
	sealer, err := rpc.NewSealer([]byte(strings.Repeat("k", rpc.SealerKeyBytes)))
	must(t, err)
	other, err := rpc.NewSealer([]byte(strings.Repeat("o", rpc.SealerKeyBytes)))
	must(t, err)
	const cursor = "ada@example.org"
	token := sealer.Seal(listMembers, "active", cursor)
	if got, err := sealer.Open(listMembers, "active", token); err != nil || got != cursor {
		t.Fatalf("got %q, %v", got, err)
	}
	if sealed, err := base64.RawURLEncoding.DecodeString(token); err != nil || strings.Contains(string(sealed), "ada") {
		t.Errorf("the token shows its cursor, or %v", err)
	}
	if first, err := sealer.Open(listMembers, "active", ""); err != nil || first != "" {
		t.Errorf("no token: got %q, %v", first, err)
	}
	if last := sealer.Seal(listMembers, "active", ""); last != "" {
		t.Errorf("no further page: got %q", last)
	}
	tampered := []byte(token)
	tampered[len(tampered)/2] ^= 1
	for name, open := range map[string]func() (string, error){
		"AnotherFilter": func() (string, error) { return sealer.Open(listMembers, "lapsed", token) },
		"AnotherMethod": func() (string, error) { return sealer.Open("/x.Y/ListMembers", "active", token) },
		"ShiftedText":   func() (string, error) { return sealer.Open(listMembers+"a", "ctive", token) },
		"AnotherKey":    func() (string, error) { return other.Open(listMembers, "active", token) },
		"Tampered":      func() (string, error) { return sealer.Open(listMembers, "active", string(tampered)) },
		"Cut":           func() (string, error) { return sealer.Open(listMembers, "active", token[:5]) },
		"NoBase64":      func() (string, error) { return sealer.Open(listMembers, "active", "50!") },
	} {
		cursor, err := open()
		if cursor != "" {
			t.Errorf("%s opens", name)
		}
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_PAGE_TOKEN_INVALID)
	}
	if _, err := rpc.NewSealer([]byte("short")); err == nil {
		t.Error("takes a short key")
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	base := &internationalv1.ListMembersRequest{State: internationalv1.Member_ACTIVE}
	page := &internationalv1.ListMembersRequest{State: internationalv1.Member_ACTIVE, PageSize: 7, PageToken: "t"}
	other := &internationalv1.ListMembersRequest{State: internationalv1.Member_LAPSED}
	if rpc.Filter(base) != rpc.Filter(page) {
		t.Error("another page of the same list has another filter")
	}
	if rpc.Filter(base) == rpc.Filter(other) {
		t.Error("another list has the same filter")
	}
	if page.GetPageToken() != "t" {
		t.Error("Filter changes the request")
	}
}

func TestReplicasShareTheSealer(t *testing.T) {
	t.Parallel()
	pool := database(t)
	sealers := make([]*rpc.Sealer, 4)
	var group sync.WaitGroup
	for i := range sealers {
		group.Go(func() {
			var err error
			if sealers[i], err = rpc.LoadSealer(t.Context(), pool); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	token := sealers[0].Seal(listMembers, "", "cursor")
	for _, sealer := range sealers {
		if got, err := sealer.Open(listMembers, "", token); err != nil || got != "cursor" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestCheckEtag(t *testing.T) {
	t.Parallel()
	for _, given := range []string{"", "7", `"7"`, `W/"7"`, "*", `"6", "7"`, ` W/"6" , W/"7"`} {
		if err := rpc.CheckEtag(given, "7"); err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
	for _, given := range []string{"6", `"6"`, `W/"77"`, `"5", "6"`, `""`} {
		wantError(t, rpc.CheckEtag(given, "7"), codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	}
}

func TestCheckEtagsWantsBothToHold(t *testing.T) {
	t.Parallel()
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpc.IfMatchHeader, `"7"`))
	must(t, rpc.CheckEtags(ctx, "", "7"))
	must(t, rpc.CheckEtags(ctx, "7", "7"))
	must(t, rpc.CheckEtags(t.Context(), "", "7"))
	wantError(t, rpc.CheckEtags(ctx, "8", "8"), codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	wantError(t, rpc.CheckEtags(ctx, "6", "7"), codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
}

func TestFit(t *testing.T) {
	t.Parallel()
	of := func(sizes ...int) []*internationalv1.Announcement {
		var all []*internationalv1.Announcement
		for _, size := range sizes {
			all = append(all, &internationalv1.Announcement{Body: strings.Repeat("a", size)})
		}
		return all
	}
	const mib = 1 << 20
	for name, test := range map[string]struct {
		page []*internationalv1.Announcement
		want int
	}{
		"Nothing": {nil, 0}, "All": {of(mib, mib), 2}, "SomeOfThem": {of(mib, mib, mib, mib), 2}, "OneAtLeast": {of(5*mib, 1), 1},
	} {
		if got := rpc.Fit(test.page); got != test.want {
			t.Errorf("%s: %d fit, want %d", name, got, test.want)
		}
	}
}
