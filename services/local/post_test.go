package local

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

// pemFile writes what is in it into a file.
func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tlsSink takes mail over TLS alone, and the file that has others trust it.
func tlsSink(t *testing.T) (*mailsink.Sink, string) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // has a certificate for this machine
	defer server.Close()
	sink, err := mailsink.Start(t.Context(), mailsink.Config{TLS: server.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return sink, pemFile(t, "CERTIFICATE", server.Certificate().Raw)
}

// The mail of a mailing as a large provider looks at it: over TLS, signed with all that RFC 8058 wants signed, with the
// list's own sender, and a way out by one click that leads out.
func TestMailOfAMailingIsWhatProvidersWant(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sink, ca := tlsSink(t)
	w := setup(t, func(config *Config) {
		config.Mail.SMTP, config.Mail.CAFile = "smtp+starttls://"+sink.Addr(), ca
		config.Mail.DKIMKeyFile, config.Mail.DKIMSelector = pemFile(t, "PRIVATE KEY", private), "s1"
	})
	w.sink = sink
	_, err = w.lists.UpdateList(t.Context(), &localv1.UpdateListRequest{List: &localv1.List{
		Name: members, FromName: "Les Gophers", ReplyTo: "orga@example.org",
	}})
	w.must(err)
	w.sync(replace("crm", people(0, 3)).applied())
	news := announcement("Nouvelles")
	news.Body = "# Grüße\n\nLeading *dots*:\n\n.\n..\n\nand <script>alert(1)</script>"
	w.send(w.above().delivered(news), members)
	seen := map[string]bool{}
	for _, message := range w.mails(3) {
		to := message.To[0]
		if !message.TLS || message.Broken != "" {
			t.Errorf("to %s: TLS %v, %s", to, message.TLS, message.Broken)
		}
		w.isSigned(message, base64.StdEncoding.EncodeToString(public))
		for header, want := range map[string]string{
			"From": `"Les Gophers" <site@chapterhouse.example>`, "Reply-To": "<orga@example.org>", "To": `"Person ` + strings.TrimPrefix(strings.TrimSuffix(to, "@example.org"), "person") + `" <` + to + ">", "Subject": "Nouvelles",
			"List-Id": `"Members" <members.golang-paris.chapterhouse.example>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "Precedence": "list",
		} {
			if got := message.Header(header); got != want {
				t.Errorf("%s is %q, want %q", header, got, want)
			}
		}
		link := strings.Trim(message.Header("List-Unsubscribe"), "<>")
		if !strings.Contains(message.Text, link) || !strings.Contains(message.HTML, "href=\""+link+"\"") || seen[link] {
			t.Errorf("the link %s is another's, or not in the mail:\n%s\n%s", link, message.Text, message.HTML)
		}
		if !strings.Contains(message.Text, "Grüße") || !strings.Contains(message.HTML, "<em>dots</em>") || strings.Contains(message.HTML, "<script") {
			t.Errorf("the mail says:\n%s\n%s", message.Text, message.HTML)
		}
		seen[link], seen[message.Header("Message-Id")], seen[to] = true, true, true
		_, err := w.links.LeaveSubscription(t.Context(), &localv1.LeaveSubscriptionRequest{
			Name: "subscriptions/" + links.FindStringSubmatch(link)[1], OneClick: true,
		})
		w.must(err)
		if state := w.entries(members)[to].GetState(); state != localv1.Entry_UNSUBSCRIBED {
			t.Errorf("%s clicked, and is %s", to, state)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d links, IDs and recipients, want three of each", len(seen))
	}
}

func (w *world) isSigned(message mailsink.Message, public string) {
	w.t.Helper()
	found, err := dkim.VerifyWithOptions(strings.NewReader(string(message.Raw)), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) {
		return []string{"v=DKIM1; k=rsa; p=" + public}, nil
	}})
	w.must(err)
	if len(found) != 1 || found[0].Err != nil || found[0].Domain != "chapterhouse.example" {
		w.t.Fatalf("the signatures are %v", found)
	}
	for _, header := range []string{"From", "To", "Reply-To", "Subject", "Date", "Message-ID", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"} {
		if !slices.Contains(found[0].HeaderKeys, header) {
			w.t.Errorf("%s is not signed", header)
		}
	}
}
