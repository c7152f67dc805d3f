package mail

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
	gomail "github.com/wneessen/go-mail"
)

// signed are the headers that nobody can change on the way; RFC 8058 demands both of List-Unsubscribe. Those that are
// named twice cannot be added either.
var signed = []string{
	"From", "From", "To", "To", "Reply-To", "Subject", "Subject", "Date", "Date", "Message-ID", "MIME-Version", "Content-Type",
	"Content-Transfer-Encoding", "Content-Language", "Auto-Submitted", "List-Id", "List-Id",
	"List-Unsubscribe", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Unsubscribe-Post",
}

// signature is how mail is signed (RFC 6376); nil where no key is set. The mail library's own signer is not used: it
// folds a list of headers that is longer than a line within their names, and then nobody can verify it (0.8.1).
func (c Config) signature(senderDomain string) (*dkim.SignOptions, error) {
	if c.DKIMKeyFile == "" && c.DKIMSelector == "" && c.DKIMDomain == "" {
		return nil, nil //nolint:nilnil // see above
	}
	if c.DKIMKeyFile == "" || c.DKIMSelector == "" {
		return nil, errors.New("DKIM needs a key file and a selector")
	}
	text, err := os.ReadFile(c.DKIMKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := gomail.PrivKeyFromPEM(text)
	if err != nil {
		return nil, fmt.Errorf("read the DKIM key %s: %w", c.DKIMKeyFile, err)
	}
	options := &dkim.SignOptions{
		Domain: c.DKIMDomain, Selector: c.DKIMSelector, Signer: key, HeaderKeys: signed,
		// Relays fold headers anew.
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	}
	if options.Domain == "" {
		options.Domain = senderDomain
	}
	return options, nil
}

// sign adds a signature to a mail that is complete: it is written once to be signed, and again, the same, to be sent.
func sign(msg *gomail.Msg, options *dkim.SignOptions) error {
	signer, err := dkim.NewSigner(options)
	if err != nil {
		return err
	}
	if _, err := msg.WriteTo(signer); err != nil {
		return errors.Join(err, signer.Close())
	}
	if err := signer.Close(); err != nil {
		return err
	}
	_, value, _ := strings.Cut(signer.Signature(), ":")
	msg.SetGenHeaderPreformatted("DKIM-Signature", strings.TrimSpace(value))
	return nil
}
