package mail_test

import (
	"maps"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
)

func TestMailSaysWhatItIs(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t, func(c *mail.Config) { c.ReturnPath = "bounces@chapterhouse.example" })
	send(t, mailer, mail.Message{
		From:        netmail.Address{Name: "Golang München, e.V."},
		ReplyTo:     netmail.Address{Name: "Die Leute", Address: "team@muenchen.example"},
		To:          netmail.Address{Name: "Анастасия Михайлова", Address: "anastasia@example.com"},
		Subject:     "Grüße an alle, die 東京 lieben: einmal im Monat treffen wir uns, und diesmal ist es besonders lang",
		Text:        "Bitte bestätigen:\nhttps://chapterhouse.example/c/abc\n.\nEnde",
		HTML:        "<p>Bitte <a href=\"https://chapterhouse.example/c/abc\">bestätigen</a></p>",
		Language:    "de",
		ID:          "confirm-0198@chapterhouse.example",
		ListID:      "announce.golang-muenchen.chapterhouse.example",
		ListName:    "Ankündigungen",
		Unsubscribe: "https://chapterhouse.example/u/" + strings.Repeat("0123456789", 20),
		OneClick:    true,
		Automatic:   true,
		Headers:     map[string]string{"List-Help": "<https://chapterhouse.example/help>"},
	})
	got := only(t, sink)
	for name, want := range map[string]string{
		"From":                  `Golang München, e.V. <site@chapterhouse.example>`,
		"Reply-To":              `"Die Leute" <team@muenchen.example>`,
		"To":                    `Анастасия Михайлова <anastasia@example.com>`,
		"Subject":               "Grüße an alle, die 東京 lieben: einmal im Monat treffen wir uns, und diesmal ist es besonders lang",
		"Date":                  "Mon, 23 Nov 2026 18:33:21 +0000",
		"Message-Id":            "<confirm-0198@chapterhouse.example>",
		"Mime-Version":          "1.0",
		"Content-Language":      "de",
		"List-Id":               "Ankündigungen <announce.golang-muenchen.chapterhouse.example>",
		"List-Unsubscribe":      "<https://chapterhouse.example/u/" + strings.Repeat("0123456789", 20) + ">",
		"List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Help":             "<https://chapterhouse.example/help>",
		"Auto-Submitted":        "auto-generated",
		"Precedence":            "list",
		"User-Agent":            "",
		"X-Mailer":              "",
	} {
		if value := got.Header(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if got.From != "bounces@chapterhouse.example" || len(got.To) != 1 || got.To[0] != "anastasia@example.com" {
		t.Errorf("envelope from %s to %s", got.From, got.To)
	}
	if want := "Bitte bestätigen:\nhttps://chapterhouse.example/c/abc\n.\nEnde"; got.Text != want {
		t.Errorf("text %q, want %q", got.Text, want)
	}
	if !strings.Contains(got.HTML, ">bestätigen</a>") {
		t.Errorf("HTML %q", got.HTML)
	}
	head, _, _ := strings.Cut(string(got.Raw), "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r > 126 }) {
			t.Errorf("a header line that mail cannot carry: %q", line)
		}
	}
}

func TestSettingsFillWhatAMailLeavesOut(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	send(t, mailer, to("ada@example.org"))
	got := only(t, sink)
	if from := got.Header("From"); from != `"Chapterhouse" <site@chapterhouse.example>` {
		t.Errorf("From: %s", from)
	}
	if id := got.Header("Message-Id"); !strings.HasSuffix(id, "@"+mailer.Domain()+">") || len(id) < 40 {
		t.Errorf("Message-Id: %s", id)
	}
	for _, absent := range []string{"List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Auto-Submitted", "Reply-To"} {
		if value := got.Header(absent); value != "" {
			t.Errorf("%s: %s, want none", absent, value)
		}
	}
	if precedence := got.Header("Precedence"); precedence != "bulk" {
		t.Errorf("Precedence: %s, want bulk", precedence)
	}
}

func TestWhatIsNoMailIsRefused(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	cases := map[string]func(*mail.Message){
		"SubjectWithALineBreak":  func(m *mail.Message) { m.Subject = "Hello\r\nBcc: eve@example.net" },
		"SubjectWithABareLF":     func(m *mail.Message) { m.Subject = "Hello\nBcc: eve@example.net" },
		"SubjectNotUTF8":         func(m *mail.Message) { m.Subject = "Hello \xff" },
		"SubjectTooLong":         func(m *mail.Message) { m.Subject = strings.Repeat("x", 901) },
		"NoSubject":              func(m *mail.Message) { m.Subject = "" },
		"NoText":                 func(m *mail.Message) { m.Text = "" },
		"TextNotUTF8":            func(m *mail.Message) { m.Text = "\xff" },
		"TextTooLarge":           func(m *mail.Message) { m.HTML = strings.Repeat("x", 10<<20) },
		"NameWithALineBreak":     func(m *mail.Message) { m.To.Name = "Ada\r\nBcc: eve@example.net" },
		"SenderWithALineBreak":   func(m *mail.Message) { m.From.Name = "Ada\nBcc: eve@example.net" },
		"AddressWithALineBreak":  func(m *mail.Message) { m.To.Address = "ada@example.org>\r\nRCPT TO:<eve@example.net" },
		"AddressOfTwo":           func(m *mail.Message) { m.To.Address = "ada@example.org, eve@example.net" },
		"AddressMissing":         func(m *mail.Message) { m.To.Address = "" },
		"ReplyToWithoutAddress":  func(m *mail.Message) { m.ReplyTo.Name = "Ada" },
		"HeaderWithALineBreak":   func(m *mail.Message) { m.Headers = map[string]string{"X-Test": "a\r\nBcc: eve@example.net"} },
		"HeaderNameWithAColon":   func(m *mail.Message) { m.Headers = map[string]string{"Bcc: eve@example.net\r\nX": "a"} },
		"HeaderThatIsOurs":       func(m *mail.Message) { m.Headers = map[string]string{"bcc": "eve@example.net"} },
		"IDWithALineBreak":       func(m *mail.Message) { m.ID = "a@example.org>\r\nBcc: <eve@example.net" },
		"IDWithoutADomain":       func(m *mail.Message) { m.ID = "a" },
		"LanguageWithALineBreak": func(m *mail.Message) { m.Language = "de\r\nBcc: eve@example.net" },
		"ListWithALineBreak":     func(m *mail.Message) { m.ListID = "a.b>\r\nBcc: <eve@example.net" },
		"ListNameWithALineBreak": func(m *mail.Message) { m.ListID, m.ListName = "a.b", "A\r\nBcc: eve@example.net" },
		"ListNameWithoutID":      func(m *mail.Message) { m.ListName = "A" },
		"LinkWithALineBreak":     func(m *mail.Message) { m.Unsubscribe = "https://example.org/\r\nBcc: eve@example.net" },
		"LinkWithABracket":       func(m *mail.Message) { m.Unsubscribe = "https://example.org/>,<mailto:eve@example.net" },
		"LinkInPlainText":        func(m *mail.Message) { m.Unsubscribe = "http://example.org/u" },
		"LinkThatIsAScript":      func(m *mail.Message) { m.Unsubscribe = "javascript:alert(1)" },
		"OneClickWithoutALink":   func(m *mail.Message) { m.OneClick = true },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			message := to("ada@example.org")
			spoil(&message)
			failed := failure(t, mailer.Send(t.Context(), message), mail.Permanent)
			if failed.At != "compose" || failed.Bounce() || strings.ContainsAny(failed.Error(), "\r\n") {
				t.Errorf("%q at %s, bounce %v", failed.Error(), failed.At, failed.Bounce())
			}
		})
	}
	if kept := sink.Messages(); len(kept) != 0 {
		t.Errorf("%d mails went out", len(kept))
	}
}

func TestOddButGoodAddresses(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	for _, address := range []string{"a.da+go@example.org", "андрей@example.org", "o'neil@xn--mnchen-3ya.example", "x@localhost"} {
		send(t, mailer, to(address))
	}
	arrived := map[string]bool{}
	for _, m := range sink.Messages() {
		arrived[m.To[0]] = true
		if needed := m.To[0] == "андрей@example.org"; m.UTF8 != needed {
			t.Errorf("SMTPUTF8 for %s: %v, want %v", m.To[0], m.UTF8, needed)
		}
	}
	if want := map[string]bool{
		"a.da+go@example.org": true, "андрей@example.org": true, "o'neil@xn--mnchen-3ya.example": true, "x@localhost": true,
	}; !maps.Equal(arrived, want) {
		t.Errorf("arrived at %v, want %v", arrived, want)
	}
}

func TestUnsubscribeOnThisMachineMayBePlain(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	message := to("ada@example.org")
	message.Unsubscribe, message.OneClick = "http://127.0.0.1:8080/u/abc", true
	send(t, mailer, message)
	if got := only(t, sink).Header("List-Unsubscribe"); got != "<http://127.0.0.1:8080/u/abc>" {
		t.Errorf("List-Unsubscribe: %s", got)
	}
}
