package mail_test

import (
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

// A mail of a form is the mail that the library would have written.
func TestAFormIsFilledAsItWouldBeWritten(t *testing.T) {
	t.Parallel()
	file, record := rsaKey(t)
	sink, mailer := world(t, func(c *mail.Config) { c.DKIMKeyFile, c.DKIMSelector = file, "s1" })
	text := "Grüße, \n.\n..dots and = signs" + strings.Repeat(" and so on", 20) + "\n"
	whole := mail.Message{
		From: netmail.Address{Name: "Les Göphers"}, ReplyTo: netmail.Address{Address: "orga@example.org"}, Subject: "Nouvelles, très " + strings.Repeat("longues ", 20),
		Language: "fr", ListID: "a.chapterhouse.example", ListName: "Ä list", OneClick: true, Headers: map[string]string{"X-Own": "1"},
	}
	say := func(link string) (string, string) {
		return text + "To leave the list: " + link + "\n", "<p>" + text + "<a\nhref=\"" + link + "\"\n>Leave</a></p>"
	}
	blank := whole
	blank.Text, blank.HTML = say(mail.UnsubscribeMark)
	form, err := mailer.NewForm(blank)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "Ada", "Ada \"the\" King, Lovelace", strings.Repeat("Ада ", 60), strings.Repeat("long ", 100)} {
		whole.To = netmail.Address{Name: strings.TrimSpace(name), Address: "ada@example.org"}
		whole.ID = "0b0c1df2@chapterhouse.example"
		whole.Unsubscribe = "https://chapterhouse.example/s/" + strings.Repeat("aZ09-_=.", 20)
		whole.Text, whole.HTML = say(whole.Unsubscribe)
		send(t, mailer, whole)
		send(t, mailer, mail.Message{Form: form, To: whole.To, ID: whole.ID, Unsubscribe: whole.Unsubscribe})
	}
	kept := sink.Messages()
	for i := 0; i < len(kept); i += 2 {
		same(t, kept[i], kept[i+1])
		verified(t, string(kept[i+1].Raw), record)
		for line := range strings.Lines(string(kept[i+1].Raw)) {
			if len(line) > 998 || !strings.HasSuffix(line, "\r\n") {
				t.Errorf("a line of %d bytes: %q", len(line), line)
			}
		}
	}
}

func same(t *testing.T, want, got mailsink.Message) {
	t.Helper()
	if want.Text != got.Text || want.HTML != got.HTML || want.From != got.From || got.Broken != "" {
		t.Errorf("the form's mail differs (%s):\n%s\nwant\n%s", got.Broken, got.Raw, want.Raw)
	}
	if len(want.Headers) != len(got.Headers) {
		t.Errorf("%d headers, want %d:\n%s", len(got.Headers), len(want.Headers), got.Raw)
	}
	for _, header := range want.Headers {
		if header.Name == "Content-Type" || header.Name == "Dkim-Signature" {
			continue // each has its own boundary
		}
		if got := got.Header(header.Name); got != header.Value {
			t.Errorf("%s is %q, want %q", header.Name, got, header.Value)
		}
	}
}

func TestWhatIsNoMailOfAFormIsRefused(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	blank := to("")
	blank.Text, blank.OneClick = "Leave: "+mail.UnsubscribeMark+"\n", true
	form, err := mailer.NewForm(blank)
	if err != nil {
		t.Fatal(err)
	}
	good := mail.Message{Form: form, To: netmail.Address{Address: "ada@example.org"}, Unsubscribe: "https://example.org/s/x"}
	for name, spoil := range map[string]func(*mail.Message){
		"NoMailbox":   func(m *mail.Message) { m.To.Address = "ada" },
		"TwoLines":    func(m *mail.Message) { m.To.Name = "Ada\r\nBcc: eve@example.net" },
		"NoID":        func(m *mail.Message) { m.ID = "<x>\r\n@y" },
		"NoLink":      func(m *mail.Message) { m.Unsubscribe = "javascript:x" },
		"MissingLink": func(m *mail.Message) { m.Unsubscribe = "" },
	} {
		message := good
		spoil(&message)
		if failed := failure(t, mailer.Send(t.Context(), message), mail.Permanent); failed.At != "compose" {
			t.Errorf("%s: %v", name, failed)
		}
	}
	if n := len(sink.Messages()); n != 0 {
		t.Errorf("%d mails arrived", n)
	}
	send(t, mailer, good)
	blank.Text = strings.Repeat("x", 70) + mail.UnsubscribeMark + "\n"
	if _, err := mailer.NewForm(blank); err == nil {
		t.Error("a mark that is broken over two lines is taken")
	}
}

// The return path says of which mail a bounce is, where there is room for it.
func TestVERP(t *testing.T) {
	t.Parallel()
	const id = "0b0c1df2-2f6a-4b0e-9d0f-111111111111"
	sink, mailer := world(t, func(c *mail.Config) { c.ReturnPath, c.VERP = "bounces@bounce.example.org", true })
	blank := to("")
	form, err := mailer.NewForm(blank)
	if err != nil {
		t.Fatal(err)
	}
	message := to("ada@example.org")
	message.ID = id + "@chapterhouse.example"
	send(t, mailer, message)
	message.Form = form
	send(t, mailer, message)
	message.ID = "longer-" + message.ID
	send(t, mailer, message)
	for i, want := range []string{"bounces+" + id + "@bounce.example.org", "bounces+" + id + "@bounce.example.org", "bounces@bounce.example.org"} {
		if got := sink.Messages()[i].From; got != want {
			t.Errorf("mail %d is from %s, want %s", i, got, want)
		}
	}
	for name, config := range map[string]mail.Config{
		"NoReturnPath": {}, "NoRoom": {ReturnPath: strings.Repeat("b", 28) + "@example.org"},
	} {
		config.SMTP, config.From, config.VERP = "smtp://127.0.0.1:1", "site@chapterhouse.example", true
		if _, err := mail.New(config, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
