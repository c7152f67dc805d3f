package mail_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"golang.org/x/sync/errgroup"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestManyAtOnceArriveOnceEachOverFewConnections(t *testing.T) {
	t.Parallel()
	const mails, connections = 200, 3
	key, _ := rsaKey(t)
	sink, mailer := world(t, func(c *mail.Config) {
		c.Connections, c.DKIMKeyFile, c.DKIMSelector = connections, key, "s1"
	})
	var group errgroup.Group
	for i := range mails {
		group.Go(func() error {
			if i == mails/2 {
				sink.Disconnect() // whatever is open in the middle of it
			}
			message := to(fmt.Sprintf("person-%d@example.org", i))
			for {
				err := mailer.Send(t.Context(), message)
				if err == nil || mail.KindOf(err) != mail.Temporary {
					return err
				}
			}
		})
	}
	err := group.Wait()
	if err != nil && mail.KindOf(err) != mail.Uncertain {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, m := range sink.Messages() {
		seen[m.To[0]]++
	}
	for address, times := range seen {
		if times != 1 {
			t.Errorf("%s got %d", address, times)
		}
	}
	// At most what was in flight when the connections were cut.
	if len(seen) < mails-connections || err == nil && len(seen) != mails {
		t.Errorf("%d of %d arrived (%v)", len(seen), mails, err)
	}
	if _, ever := sink.Connections(); ever > 3*connections {
		t.Errorf("%d connections were opened for %d mails", ever, mails)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	sink.Reject("nobody@example.org", 550)
	for range 5 {
		send(t, mailer, to("ada@example.org"))
		failure(t, mailer.Send(t.Context(), to("nobody@example.org")), mail.Permanent)
	}
	if _, ever := sink.Connections(); ever != 1 {
		t.Errorf("%d connections were opened, want 1", ever)
	}
}

func TestAConnectionThatTheServerClosedIsMadeAnew(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	for range 3 {
		send(t, mailer, to("ada@example.org"))
		sink.Disconnect()
	}
	if kept := sink.Messages(); len(kept) != 3 {
		t.Errorf("%d mails arrived, want 3", len(kept))
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t, func(c *mail.Config) { c.IdleTimeout = 20 * time.Millisecond })
	send(t, mailer, to("ada@example.org"))
	testkit.Eventually(t, patience, func() (bool, string) {
		open, _ := sink.Connections()
		return open == 0, fmt.Sprintf("%d connections are open", open)
	})
	send(t, mailer, to("ada@example.org"))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	config, ca := certificate(t, "127.0.0.1")

	t.Run("StartsWhereItIsOffered", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Config{TLS: config})
		for _, scheme := range []string{"smtp", "smtp+starttls"} {
			send(t, newMailer(t, mail.Config{SMTP: scheme + "://" + sink.Addr(), CAFile: ca}), to(scheme+"@example.org"))
		}
		for _, m := range sink.Messages() {
			if !m.TLS {
				t.Errorf("the mail to %s came in plain text", m.To)
			}
		}
	})

	t.Run("IsSpokenFromTheFirstByte", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Config{TLS: config, TLSOnly: true})
		send(t, newMailer(t, mail.Config{SMTP: "smtps://" + sink.Addr(), CAFile: ca}), to("ada@example.org"))
		if !only(t, sink).TLS {
			t.Error("the mail came in plain text")
		}
	})

	t.Run("IsNotSpokenWhereNobodyWantsIt", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Config{TLS: config})
		send(t, newMailer(t, mail.Config{SMTP: "smtp+plain://" + sink.Addr()}), to("ada@example.org"))
		if only(t, sink).TLS {
			t.Error("the mail came over TLS")
		}
	})

	t.Run("IsDemanded", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Config{})
		mailer := newMailer(t, mail.Config{SMTP: "smtp+starttls://" + sink.Addr()})
		if failed := failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary); !strings.Contains(failed.Reason, "STARTTLS") {
			t.Errorf("%v", failed)
		}
	})

	t.Run("NeedsACertificateForTheHost", func(t *testing.T) {
		t.Parallel()
		other, otherCA := certificate(t, "mail.example.net")
		for name, c := range map[string]mail.Config{"Unknown": {}, "AnotherName": {CAFile: otherCA}} {
			sink := startSink(t, mailsink.Config{TLS: other})
			c.SMTP = "smtp://" + sink.Addr()
			failed := failure(t, newMailer(t, c).Send(t.Context(), to("ada@example.org")), mail.Temporary)
			if !strings.Contains(failed.Reason, "certificate") || len(sink.Messages()) != 0 {
				t.Errorf("%s: %v, %d mails", name, failed, len(sink.Messages()))
			}
			testkit.Eventually(t, patience, func() (bool, string) {
				open, _ := sink.Connections()
				return open == 0, fmt.Sprintf("%s: %d connections are left open", name, open)
			})
		}
	})
}

func TestSigningIn(t *testing.T) {
	t.Parallel()
	config, ca := certificate(t, "127.0.0.1")
	password := write(t, "password", []byte("s3cret\n"))
	tlsOnly := startSink(t, mailsink.Config{TLS: config, TLSOnly: true, Username: "site@example.org", Password: "s3cret"})
	startTLS := startSink(t, mailsink.Config{TLS: config, Username: "site@example.org", Password: "s3cret"})

	t.Run("Works", func(t *testing.T) {
		for url, sink := range map[string]*mailsink.Sink{"smtps://" + tlsOnly.Addr(): tlsOnly, "smtp+starttls://" + startTLS.Addr(): startTLS} {
			send(t, newMailer(t, mail.Config{SMTP: url, CAFile: ca, Username: "site@example.org", PasswordFile: password}), to("ada@example.org"))
			if user := only(t, sink).User; user != "site@example.org" {
				t.Errorf("%s: signed in as %q", url, user)
			}
		}
	})

	t.Run("WithAWrongPasswordIsTemporary", func(t *testing.T) {
		wrong := write(t, "wrong", []byte("guess"))
		mailer := newMailer(t, mail.Config{SMTP: "smtps://" + tlsOnly.Addr(), CAFile: ca, Username: "site@example.org", PasswordFile: wrong})
		if failed := failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary); failed.Code != 535 {
			t.Errorf("%v", failed)
		}
	})

	t.Run("ThatIsDemandedAndMissingIsTemporary", func(t *testing.T) {
		mailer := newMailer(t, mail.Config{SMTP: "smtps://" + tlsOnly.Addr(), CAFile: ca})
		if failed := failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary); failed.At != "MAIL" {
			t.Errorf("%v", failed)
		}
	})
}

func TestSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	file := write(t, "file", []byte("not a key"))
	for name, config := range map[string]mail.Config{
		"NoScheme":            {SMTP: "mail.example.org:25"},
		"AnotherScheme":       {SMTP: "https://mail.example.org"},
		"NoHost":              {SMTP: "smtp://"},
		"APath":               {SMTP: "smtp://mail.example.org/inbox"},
		"CredentialsInTheURL": {SMTP: "smtp://site:s3cret@mail.example.org"},
		"NoSender":            {SMTP: "smtp://mail.example.org", From: "nobody"},
		"NoPasswordFile":      {SMTP: "smtp://mail.example.org", Username: "site"},
		"PasswordFileMissing": {SMTP: "smtp://mail.example.org", Username: "site", PasswordFile: file + ".missing"},
		"CAIsNone":            {SMTP: "smtp://mail.example.org", CAFile: file},
		"BadReturnPath":       {SMTP: "smtp://mail.example.org", ReturnPath: "nobody"},
		"DKIMWithoutSelector": {SMTP: "smtp://mail.example.org", DKIMKeyFile: file},
		"DKIMWithoutKey":      {SMTP: "smtp://mail.example.org", DKIMSelector: "s1"},
		"DKIMKeyIsNone":       {SMTP: "smtp://mail.example.org", DKIMKeyFile: file, DKIMSelector: "s1"},
	} {
		t.Run(name, func(t *testing.T) {
			if config.From == "" {
				config.From = "site@chapterhouse.example"
			}
			if _, err := mail.New(config, nil); err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDKIM(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) (string, string){"RSA": rsaKey, "Ed25519": ed25519Key} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, record := make(t)
			sink, mailer := world(t, func(c *mail.Config) { c.DKIMKeyFile, c.DKIMSelector = file, "s1" })
			message := to("ada@example.org")
			message.Subject, message.Text = "Grüße", "  Leading,  double and trailing spaces \n\n\n.dots\n\n"
			message.HTML = "<p>Grüße</p>"
			message.ListID, message.Unsubscribe, message.OneClick = "a.chapterhouse.example", "https://chapterhouse.example/u/abc", true
			send(t, mailer, message)
			raw := string(only(t, sink).Raw)

			keys := verified(t, raw, record)
			for _, header := range []string{"From", "To", "Subject", "Date", "Message-ID", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"} {
				if !slices.Contains(keys, header) {
					t.Errorf("%s is not signed", header)
				}
			}
			for what, forged := range map[string]string{
				"another subject":        strings.Replace(raw, "Subject: ", "Subject: No ", 1),
				"another link":           strings.Replace(raw, "/u/abc>", "/u/abd>", 1),
				"no one-click":           strings.Replace(raw, "List-Unsubscribe-Post:", "X-Was:", 1),
				"a second sender":        "From: eve@example.net\r\n" + raw,
				"a second link to leave": "List-Unsubscribe: <https://example.net/>\r\n" + raw,
				"another text":           strings.Replace(raw, "dots", "dotz", 1),
			} {
				if forged == raw {
					t.Fatalf("%s: nothing was forged", what)
				}
				if err := verify(t, forged, record)[0].Err; err == nil {
					t.Errorf("%s went unnoticed", what)
				}
			}
		})
	}
}

func verified(t *testing.T, raw, record string) []string {
	t.Helper()
	found := verify(t, raw, record)
	if found[0].Err != nil || found[0].Domain != "chapterhouse.example" {
		t.Fatalf("the signature of %s: %v", found[0].Domain, found[0].Err)
	}
	return found[0].HeaderKeys
}

func verify(t *testing.T, raw, record string) []*dkim.Verification {
	t.Helper()
	found, err := dkim.VerifyWithOptions(strings.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
		if domain != "s1._domainkey.chapterhouse.example" {
			return nil, fmt.Errorf("asked for %s", domain)
		}
		return []string{record}, nil
	}})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d signatures: %v", len(found), err)
	}
	return found
}

func rsaKey(t *testing.T) (file, record string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keyFile(t, key), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
}

func ed25519Key(t *testing.T) (file, record string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyFile(t, key), "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
}

func keyFile(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "dkim.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
