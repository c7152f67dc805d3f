package source_test

import (
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/source"
)

func TestHeadersThatToolsWrite(t *testing.T) {
	for name, c := range map[string]struct{ header, row, want string }{
		"GoogleGroups":      {"Email address,Nickname,Group status,Email status,Email preference,Posting permissions,Join year", "ada@example.org,Ada,member,,email,allowed,2015", "Ada"},
		"Mailchimp":         {"Email Address,First Name,Last Name,Address,Phone Number,MEMBER_RATING,OPTIN_TIME", `ada@example.org,Ada,Rao,"1 Main St, Paris",,2,2024`, "Ada Rao"},
		"Listmonk":          {"email,name,attributes", `ada@example.org,Ada Rao,"{""city"": ""Lyon""}"`, "Ada Rao"},
		"Mailman2":          {"address,fullname,digest", "ada@example.org,Ada Rao,no", "Ada Rao"},
		"Postorius":         {"email", "ada@example.org", ""},
		"HyperKitty":        {"display_name,email,delivery_mode,role", "Ada Rao,ada@example.org,regular,member", "Ada Rao"},
		"Bevy":              {"First Name,Last Name,Email,Chapter,Joined Chapter Date", "Ada,Rao,ada@example.org,Go Paris,2024", "Ada Rao"},
		"BevyUsers":         {"User ID,User Name,Email Address,Company,Title", "7,Ada Rao,ada@example.org,,Dr.", ""},
		"MeetupPro":         {"Name\tMember ID\tEmail\tTitle\tJoined Group on", "Ada Rao\t7\tada@example.org\t\t2024", "Ada Rao"},
		"SpreadsheetSimple": {"Name;E-Mail", "Ada Rao;ada@example.org", "Ada Rao"},
		"GermanOutlook":     {"Anrede;Vorname;Nachname;Firma;E-Mail-Adresse;E-Mail: Angezeigter Name", "Frau;Ada;Rao;;ada@example.org;Ada", "Ada Rao"},
		"FrenchPhrase":      {"Prénom;Nom de famille;Adresse de courriel", "Ada;Rao;ada@example.org", "Ada Rao"},
		"FrenchMail":        {"NOM;PRENOM;MAIL", "Rao;Ada;ada@example.org", "Ada Rao"},
		"SpanishShort":      {"Nombre y apellidos;Correo", "Ada Rao;ada@example.org", "Ada Rao"},
		"SpanishEmail":      {"Nombre;Primer apellido;Email", "Ada;Rao;ada@example.org", "Ada Rao"},
		"PortugueseFull":    {"Nome completo;E-mail", "Ada Rao;ada@example.org", "Ada Rao"},
		"PortuguesePT":      {"Nome próprio;Apelido;Endereço de correio eletrónico", "Ada;Rao;ada@example.org", "Ada Rao"},
		"JapaneseMail":      {"名前,Eメール", "山田花子,ada@example.org", "山田花子"},
		"JapaneseKanji":     {"氏名,電子メールアドレス", "山田花子,ada@example.org", "山田花子"},
		"Mailman3":          {"email,display_name,role", "ada@example.org,Ada Rao,member", "Ada Rao"},
		"ListmonkFull":      {"uuid,email,name,attributes,status,created_at,updated_at", "0,ada@example.org,Ada Rao,{},enabled,2024,2024", "Ada Rao"},
		"GoogleContacts":    {"First Name,Middle Name,Last Name,E-mail 1 - Label,E-mail 1 - Value", "Ada,,Rao,Work,ada@example.org", "Ada Rao"},
		"OurOwn":            {"name,address,displayName,state", "chapters/x/lists/y/entries/z,ada@example.org,Ada Rao,SUBSCRIBED", "Ada Rao"},
		"PostalAddress":     {"Name,Address,E-Mail", "Ada Rao,1 Main St,ada@example.org", "Ada Rao"},
		"EmailStatusFirst":  {"Email status,Email,Name", "email,ada@example.org,Ada Rao", "Ada Rao"},
		"Question":          {"Member,What is your e-mail? (required)", "Ada,ada@example.org", ""},
		"ContactInfo":       {"Name,Kontakt", "Ada Rao,ada@example.org", "Ada Rao"},
		"German":            {"Vorname,Name,E-Mail-Adresse", "Ada,Rao,ada@example.org", "Ada Rao"},
		"GermanFull":        {"Vor- und Nachname,eMail", "Ada Rao,ada@example.org", "Ada Rao"},
		"French":            {"Nom,Prénom,Adresse électronique", "Rao,Ada,ada@example.org", "Ada Rao"},
		"FrenchWhole":       {"Nom,Courriel", "Ada Rao,ada@example.org", "Ada Rao"},
		"Spanish":           {"Nombre,Apellidos,Correo electrónico", "Ada,Rao,ada@example.org", "Ada Rao"},
		"SpanishNoAccents":  {"NOMBRE COMPLETO,DIRECCION DE CORREO ELECTRONICO", "Ada Rao,ada@example.org", "Ada Rao"},
		"Portuguese":        {"Nome,Sobrenome,Endereço de e-mail", "Ada,Rao,ada@example.org", "Ada Rao"},
		"Japanese":          {"姓,名,メールアドレス", "山田,花子,ada@example.org", "山田 花子"},
		"JapaneseHalfWidth": {"氏名,ﾒｰﾙｱﾄﾞﾚｽ", "山田花子,ada@example.org", "山田花子"},
		"NameIsWhole":       {"Name,First Name,Email", "Ada Rao,Ada,ada@example.org", "Ada Rao"},
		"NameIsGiven":       {"Name,Surname,Email", "Ada,Rao,ada@example.org", "Ada Rao"},
		"OnlyLastFilled":    {"First Name,Last Name,Email", ",Rao,ada@example.org", "Rao"},
		"OnlyFirstFilled":   {"First Name,Last Name,Email", "Ada,,ada@example.org", "Ada"},
		"QuotedHeader":      {`"EMAIL_ADDRESS","FULL_NAME"`, `"ada@example.org","Ada Rao"`, "Ada Rao"},
		"SpaceAfterComma":   {`email, name`, `ada@example.org, "Ada Rao"`, "Ada Rao"},
		"UnknownOnlyColumn": {"Teilnehmende", "ada@example.org", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := wantRows(t, c.header+"\n"+c.row+"\n", csvType, source.Options{}, "2 ada@example.org|"+c.want)
			if !d.Header {
				t.Error("the header is not seen as one")
			}
		})
	}
}

func TestTitleLines(t *testing.T) {
	for body, want := range map[string]int{
		"email\nada@example.org\n":                                       0,
		"ada@example.org\n":                                              0,
		"Members\nemail\nada@example.org\n":                              1,
		"\"Members\nof 2026\"\r\n\r\nemail\r\nada@example.org\r\n":       3,
		"Members of \"Go\" Paris\nas of today\nemail\nada@example.org\n": 2,
		",\nada@example.org,Ada\n":                                       0,
	} {
		_, detected, err := readAll(strings.NewReader(body), csvType, source.Options{})
		if err != nil || detected.TitleLines != want {
			t.Errorf("%q: %v, %d lines of title, want %d", body, err, detected.TitleLines, want)
		}
	}
}

func TestMeetupExportHoldsNoAddresses(t *testing.T) {
	const members = "Name\tUser ID\tTitle\tMember ID\tLocation\tJoined Group on\tLast visited group on\tMailing List\tURL of Member Profile\n" +
		"Ada Rao\tuser 1\t\t1\tParis\t2024\t2024\tYes\thttps://example.org/members/1\n"
	wantError(t, members, csvType, source.Options{}, source.NoAddressColumn, 0)
	_, _, err := readAll(strings.NewReader(members), csvType, source.Options{})
	if err == nil || !strings.Contains(err.Error(), "Meetup") || !strings.Contains(err.Error(), "add a column email") {
		t.Errorf("the remedy is not named: %v", err)
	}

	wantError(t, "Name\tUser ID\tTitle\tEvent Host\tRSVPed on\tURL of Member Profile\nAda Rao\tuser 1\t\tNo\t2024\thttps://example.org/members/1\n",
		csvType, source.Options{}, source.NoAddressColumn, 0)
	d := wantRows(t, "Name\tUser ID\tPlease leave your email address\nAda Rao\tuser 1\tada@example.org\n", csvType, source.Options{}, "2 ada@example.org|Ada Rao")
	if d.Delimiter != "\t" || d.AddressColumn.Number != 3 {
		t.Errorf("taken for %+v", d)
	}
}

func TestWhereTheRowsBegin(t *testing.T) {
	for name, c := range map[string]struct {
		body   string
		header bool
		want   []string
	}{
		"NoHeader":               {"ada@example.org,Ada Rao\nbob@example.org,Bob\n", false, []string{"1 ada@example.org|", "2 bob@example.org|"}},
		"NoHeaderLaterColumn":    {"Ada,ada@example.org\nBob,bob@example.org\n", false, []string{"1 ada@example.org|", "2 bob@example.org|"}},
		"NoHeaderRefusedAddress": {"x@exa_mple.com\nada@example.org\n", false, []string{"1 !EMAIL_DOMAIN", "2 ada@example.org|"}},
		"OneAddress":             {"ada@example.org", false, []string{"1 ada@example.org|"}},
		"Mailboxes":              {"Ada Rao <ada@example.org>\n<bob@example.org>\n", false, []string{"1 ada@example.org|Ada Rao", "2 bob@example.org|"}},
		"MailmanMailboxes":       {"bob@example.org\n\n\"Rao, Ada\" <ada@example.org>\nx\n", false, []string{"1 bob@example.org|", "3 ada@example.org|Rao, Ada", "4 !EMAIL_SYNTAX"}},
		"MailboxUnderHeader":     {"email\n\"\"\"Rao, Ada\"\" <ada@example.org>\"\n", true, []string{"2 ada@example.org|Rao, Ada"}},
		"MailboxBesideName":      {"email,name\nAce <ada@example.org>,Ada Rao\nBob <bob@example.org>,\n", true, []string{"2 ada@example.org|Ada Rao", "3 bob@example.org|Bob"}},
		"BlankLinesBefore":       {"\n\n,\nemail,name\nada@example.org,Ada\n", true, []string{"5 ada@example.org|Ada"}},
		"TitleWithQuotes":        {"Members of \"Go Paris\", 2026\nemail,name\nada@example.org,Ada\n", true, []string{"3 ada@example.org|Ada"}},
		"TitleAboutMail":         {"E-mail list of Go Paris\n\nName,Mail\nAda,ada@example.org\n", true, []string{"4 ada@example.org|Ada"}},
		"TitleWithAddress":       {"Members of paris@example.org\nemail,name\nada@example.org,Ada\n", true, []string{"3 ada@example.org|Ada"}},
		"SepLine":                {"sep=;\r\nemail;name\r\nada@example.org;Rao, Ada\r\n", true, []string{"3 ada@example.org|Rao, Ada"}},
		"SemicolonsNoHeader":     {"ada@example.org;Ada\nbob@example.org;Bob\n", false, []string{"1 ada@example.org|", "2 bob@example.org|"}},
		"CommasInSemicolons":     {"email;name\nada@example.org;Rao, Ada, Dr., Paris\n", true, []string{"2 ada@example.org|Rao, Ada, Dr., Paris"}},
		"TabsWithEmptyCells":     {"name\tcity\temail\n\t\tada@example.org\n", true, []string{"2 ada@example.org|"}},
		"BlankRows":              {"email,name\n,\nada@example.org,Ada\n , \n\n", true, []string{"3 ada@example.org|Ada"}},
		"ShortAndLongRows":       {"email,name,x\nada@example.org\nbob@example.org,Bob,1,2,3\n", true, []string{"2 ada@example.org|", "3 bob@example.org|Bob"}},
		"SecondByteOrderMark":    {"\ufeff\ufeffemail\nada@example.org\n", true, []string{"2 ada@example.org|"}},
		"MarkInCell":             {"email\n\ufeffada@example.org\n", true, []string{"2 !EMAIL_LOCAL_INVISIBLE"}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := wantRows(t, c.body, csvType, source.Options{}, c.want...); d.Header != c.header {
				t.Errorf("header %v, want %v", d.Header, c.header)
			}
		})
	}
}

func TestMapping(t *testing.T) {
	body := "Kontakt,Email,Rufname\nada@example.org,boss@example.org,Ada\n"
	wantRows(t, body, csvType, source.Options{MapAddress: "kontakt", MapDisplayName: " RUFNAME "}, "2 ada@example.org|Ada")
	wantRows(t, body, csvType, source.Options{}, "2 boss@example.org|Ada")
	wantRows(t, "★,☆\nada@example.org,Ada\n", csvType, source.Options{MapAddress: "★", MapDisplayName: "☆"}, "2 ada@example.org|Ada")
	wantRows(t, "a;b\nx;ada@example.org\n", csvType, source.Options{MapAddress: "b"}, "2 ada@example.org|")
	wantError(t, body, csvType, source.Options{MapAddress: "Mitglied"}, source.NoAddressColumn, 0)
	wantError(t, body, csvType, source.Options{MapDisplayName: "Mitglied"}, source.Unreadable, 0)
	wantError(t, `{"address":"ada@example.org"}`, ndjsonType, source.Options{MapAddress: "email"}, source.Unreadable, 0)
}

func TestNoAddressColumn(t *testing.T) {
	for name, body := range map[string]string{
		"TwoUnknownColumns": "wer,wo\nada@example.org,Paris\n",
		"MailButNone":       "name,email status\nAda,confirmed\n",
		"Postal":            "name,address\nAda,1 Main St\n",
		"Prose":             "Dear all,\nplease find the list attached.\n",
	} {
		t.Run(name, func(t *testing.T) { wantError(t, body, csvType, source.Options{}, source.NoAddressColumn, 0) })
	}
	_, _, err := readAll(strings.NewReader("wer;wo\nParis;ada@example.org\n"), csvType, source.Options{})
	if err == nil || !strings.Contains(err.Error(), "column 2") {
		t.Errorf("the likely column is not named: %v", err)
	}
	wantError(t, `[{"address":"ada@example.org"}]`, csvType, source.Options{}, source.Unreadable, 0)
}

func TestQuotes(t *testing.T) {
	const head = "email,name\n"
	t.Run("CostTheirRow", func(t *testing.T) {
		wantRows(t, head+"ada@example.org,Ada \"Ace\" Rao\nbob@example.org,\"Bob \"B\" Bo\"\neve@example.org,Eve\n", csvType, source.Options{},
			"2 !SOURCE_BROKEN_QUOTES", "3 !SOURCE_BROKEN_QUOTES", "4 eve@example.org|Eve")
	})
	t.Run("Escaped", func(t *testing.T) {
		wantRows(t, head+"ada@example.org,\"Ada \"\"Ace\"\" Rao\"\n", csvType, source.Options{}, `2 ada@example.org|Ada "Ace" Rao`)
	})
	t.Run("LineBreaks", func(t *testing.T) {
		wantRows(t, head+"ada@example.org,\"Ada\r\nRao\"\r\nbob@example.org,Bob\n", csvType, source.Options{}, "2 ada@example.org|Ada Rao", "4 bob@example.org|Bob")
	})
	t.Run("UnclosedToTheEnd", func(t *testing.T) {
		wantError(t, head+"ada@example.org,\"Ada\nbob@example.org,Bob\n", csvType, source.Options{}, source.Unreadable, 2)
	})
	t.Run("UnclosedToTheNextQuote", func(t *testing.T) {
		wantError(t, head+"ada@example.org,\"Ada\nbob@example.org,\"Bob\"\neve@example.org,Eve\n", csvType, source.Options{}, source.Unreadable, 2)
	})
	t.Run("UnclosedAndBalancedByAccident", func(t *testing.T) {
		wantError(t, head+"\"ada@example.org,Ada\nbob@example.org,Bob\nBo\"\neve@example.org,Eve\n", csvType, source.Options{}, source.Unreadable, 2)
	})
	t.Run("LastRow", func(t *testing.T) {
		wantError(t, head+"ada@example.org,Ada\nbob@example.org,\"Bo", csvType, source.Options{}, source.Unreadable, 3)
	})
}
