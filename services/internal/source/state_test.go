package source_test

import (
	"encoding/csv"
	"reflect"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

// A cell is the row "<n>@example.org,<cell>"; the wanted text is the reason why the row is not taken, empty where it is.
func TestRowsOfWhoHasLeft(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		cells  [][2]string
		column string // the one found
	}{
		"ListmonkSubscribers": {"status", [][2]string{{"enabled", ""}, {"blocklisted", "blocklisted"}, {"disabled", "disabled"}}, "status"},
		"ListmonkList":        {"subscription_status", [][2]string{{"confirmed", ""}, {"unconfirmed", "not confirmed"}, {"unsubscribed", "unsubscribed"}}, "subscription_status"},
		"MailchimpAPI":        {"STATUS", [][2]string{{"subscribed", ""}, {"cleaned", "cleaned"}, {"non-subscribed", "unsubscribed"}, {"archived", "archived"}}, "STATUS"},
		"MailchimpLeft":       {"UNSUB_TIME", [][2]string{{"2024-01-11 10:00:00", "unsubscribed"}, {"", ""}}, "UNSUB_TIME"},
		"MailchimpWhy":        {"UNSUB_REASON", [][2]string{{"NORMAL", "unsubscribed"}, {"", ""}}, "UNSUB_REASON"},
		"MailchimpCleaned":    {"CLEAN_TIME", [][2]string{{"2024-01-11 10:00:00", "cleaned"}, {"", ""}}, "CLEAN_TIME"},
		"GoogleGroup":         {"Group status", [][2]string{{"member", ""}, {"owner", ""}, {"invited", "invited"}, {"pending", "not confirmed"}, {"banned", "banned"}}, "Group status"},
		"GoogleEmail":         {"Email status", [][2]string{{"", ""}, {"bouncing", "bounced"}, {"something new", ""}}, "Email status"},
		"Mailman":             {"delivery_status", [][2]string{{"enabled", ""}, {"by_user", ""}, {"by_bounces", "bounced"}, {"unknown", ""}}, "delivery_status"},
		"Ours":                {"state", [][2]string{{"SUBSCRIBED", ""}, {"PENDING", "not confirmed"}, {"UNSUBSCRIBED", "unsubscribed"}, {"BOUNCED", "bounced"}}, "state"},
		"Salesforce":          {"Email Opt Out", [][2]string{{"0", ""}, {"1", "unsubscribed"}, {"No", ""}, {"TRUE", "unsubscribed"}}, "Email Opt Out"},
		"German":              {"Zustand", [][2]string{{"Aktiv", ""}, {"Abgemeldet", "unsubscribed"}, {"gesperrt", "blocklisted"}}, "Zustand"},
		"French":              {"Statut", [][2]string{{"Abonné", ""}, {"Désabonné", "unsubscribed"}, {"En attente", "not confirmed"}}, "Statut"},
		"Spanish":             {"Estado", [][2]string{{"Suscrito", ""}, {"Dado de baja", "unsubscribed"}}, "Estado"},
		"Portuguese":          {"Situação", [][2]string{{"Inscrito", ""}, {"Descadastrado", "unsubscribed"}}, "Situação"},
		"Japanese":            {"ステータス", [][2]string{{"購読中", ""}, {"配信停止", "unsubscribed"}, {"退会", "unsubscribed"}}, "ステータス"},
		"UnknownWord":         {"Status", [][2]string{{"active", ""}, {"honorary", ""}, {"unsubscribed", "unsubscribed"}}, "Status"},
		"Province":            {"State", [][2]string{{"WA", ""}, {"CA", ""}, {"pending", ""}}, ""},
		"AnotherMatter":       {"Status", [][2]string{{"paid", ""}, {"unpaid", ""}, {"invoice sent", ""}, {"blocked", ""}}, ""},
		"NothingInIt":         {"Status", [][2]string{{"", ""}, {"", ""}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := "email," + c.header + "\n"
			for i, cell := range c.cells {
				body += string(rune('a'+i)) + "@example.org," + cell[0] + "\n"
			}
			rows, detected, err := readAll(strings.NewReader(body), csvType, source.Options{})
			if err != nil || len(rows) != len(c.cells) {
				t.Fatalf("%v, %d rows", err, len(rows))
			}
			for i, cell := range c.cells {
				wantState(t, cell[0], rows[i], cell[1])
			}
			var want []source.Column
			if c.column != "" {
				want = []source.Column{{Number: 2, Header: c.column}}
			}
			if !reflect.DeepEqual(detected.StateColumns, want) {
				t.Errorf("taken for states: %v", detected.StateColumns)
			}
		})
	}
}

func wantState(t *testing.T, cell string, row source.Row, why string) {
	t.Helper()
	switch {
	case why == "" && row.Rejected != nil:
		t.Errorf("%q is refused: %v", cell, row.Rejected)
	case why != "" && row.Rejected == nil:
		t.Errorf("%q is taken", cell)
	case why != "" && (row.Rejected.Code != source.NotSubscribed || row.Rejected.Text != "the source itself says that this address is not subscribed: "+why):
		t.Errorf("%q is refused as %v", cell, row.Rejected)
	}
}

// A Google group has two such columns, and either is enough.
func TestTwoStateColumns(t *testing.T) {
	wantRows(t, "Members for group gophers\nEmail address,Nickname,Group status,Email status\nada@example.org,Ada,member,\nbob@example.org,Bob,member,bouncing\n"+
		"eve@example.org,Eve,banned,\n", csvType, source.Options{}, "3 ada@example.org|Ada", "4 !SOURCE_NOT_SUBSCRIBED", "5 !SOURCE_NOT_SUBSCRIBED")
}

// The whole of Mailchimp's export of those who left is refused row by row; the file itself is in order.
func TestMailchimpUnsubscribedFile(t *testing.T) {
	wantRows(t, "Email Address,First Name,Last Name,MEMBER_RATING,UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_REASON,UNSUB_REASON_OTHER\r\n"+
		`ada@example.org,Ada,"Rao",2,"2024-01-11 10:00:00",Spring,"No longer interested",`+"\r\n",
		csvType, source.Options{}, "2 !SOURCE_NOT_SUBSCRIBED")
}

// A word that the first rows do not have counts all the same, and so does a state that is not the row before's.
func TestStateFarDown(t *testing.T) {
	body := "email,status\n" + strings.Repeat("ada@example.org,enabled\n", 2000) + "bob@example.org,blocklisted\neve@example.org,enabled\n"
	rows, _, err := readAll(strings.NewReader(body), csvType, source.Options{})
	if err != nil || len(rows) != 2002 {
		t.Fatalf("%v, %d rows", err, len(rows))
	}
	if show(rows[1999:]) != "2001 ada@example.org|\n2002 !SOURCE_NOT_SUBSCRIBED\n2003 eve@example.org|\n" {
		t.Errorf("got\n%s", show(rows[1999:]))
	}
}

func TestStateInJSON(t *testing.T) {
	const entry = `{"name":"chapters/x/lists/y/entries/z","address":"ada@example.org","displayName":"Ada","state":"SUBSCRIBED","sources":["crm"],` +
		`"createTime":"2026-01-31T09:00:00Z","updateTime":"2026-01-31T09:00:00Z","etag":"1-1","claims":[{"source":"crm"}]}`
	gone := strings.ReplaceAll(strings.ReplaceAll(entry, `"SUBSCRIBED"`, `"UNSUBSCRIBED"`), "ada@", "bob@")
	want := []string{"1 ada@example.org|Ada", "2 !SOURCE_NOT_SUBSCRIBED"}
	wantRows(t, entry+"\n"+gone+"\n", ndjsonType, source.Options{}, want...)
	wantRows(t, `{"entries":[`+entry+","+gone+"]}", jsonType, source.Options{}, want...)
	wantError(t, `{"address":"ada@example.org","name":"Ada Rao"}`, ndjsonType, source.Options{}, source.Unreadable, 1)
}

// What our own export protects from spreadsheets comes back as it was; in anybody else's file an apostrophe is one.
func TestOwnExportIsReadBack(t *testing.T) {
	people := [][2]string{
		{"=x@example.org", "=1+1"},
		{"+1@example.org", "+1"},
		{"-a@example.org", "-"},
		{"'=b@example.org", "'=1"},
		{"''@example.org", "''+1"},
		{"'c@example.org", "'Tis Ada"},
		{"d@example.org", "@ada"},
		{"e@example.org", "Ada Rao"},
		{"f@example.org", ""},
	}
	var want []string
	var own, other strings.Builder
	write := func(b *strings.Builder, rows ...[]string) {
		if err := csv.NewWriter(b).WriteAll(rows); err != nil {
			t.Fatal(err)
		}
	}
	write(&own, source.ExportColumns)
	write(&other, []string{"address", "displayName"})
	for i, p := range people {
		write(&own, []string{source.Protected(p[0]), source.Protected(p[1]), "SUBSCRIBED", "crm", "", ""})
		write(&other, []string{string(rune('a'+i)) + "@example.org", p[1]})
		want = append(want, p[0]+"|"+p[1])
		if p[1] != "" && strings.ContainsAny(source.Protected(p[1])[:1], "=+-@") {
			t.Errorf("%q is not protected", p[1])
		}
	}
	wantRows(t, own.String(), csvType, source.Options{}, numbered(2, 1, want...)...)
	rows, _, err := readAll(strings.NewReader(other.String()), csvType, source.Options{})
	if err != nil || rows[3].DisplayName != "'=1" {
		t.Errorf("%v, %+v", err, rows)
	}
}

func FuzzProtected(f *testing.F) {
	for _, cell := range []string{"", "'", "=1", "'=1", "''=1", "'a", "\t", "@"} {
		f.Add(cell)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		protected := source.Protected(cell)
		if source.Unprotected(protected) != cell {
			t.Errorf("%q comes back as %q", cell, source.Unprotected(protected))
		}
		if protected != "" && strings.ContainsAny(protected[:1], "=+-@\t\r\n") {
			t.Errorf("%q is a formula", protected)
		}
	})
}
