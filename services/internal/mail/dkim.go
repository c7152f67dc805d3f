package mail

import (
	"errors"
	"fmt"
	"os"

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

// sign puts a signature above a mail that is complete.
func sign(raw []byte, options *dkim.SignOptions) ([]byte, error) {
	signer, err := dkim.NewSigner(options)
	if err != nil {
		return nil, err
	}
	if _, err := signer.Write(raw); err != nil {
		return nil, errors.Join(err, signer.Close())
	}
	if err := signer.Close(); err != nil {
		return nil, err
	}
	return append([]byte(signer.Signature()), raw...), nil
}
