package local

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// credentialsKey is what the key is derived for that chapters' credentials are encrypted with. It comes from the site's
// key, which is not in the database: who reads the database alone reads no secret.
const credentialsKey = "credentials"

// sealSecret encrypts a secret for one place; it opens nowhere else.
func (s *Service) sealSecret(place, secret string) ([]byte, error) {
	gcm, err := s.gcm()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce) // never fails, says crypto/rand
	return gcm.Seal(nonce, nonce, []byte(secret), []byte(place)), nil
}

func (s *Service) openSecret(place string, sealed []byte) (string, error) {
	gcm, err := s.gcm()
	if err != nil {
		return "", err
	}
	if len(sealed) < gcm.NonceSize() {
		return "", errors.New("a secret is too short to be one")
	}
	secret, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], []byte(place))
	if err != nil {
		return "", fmt.Errorf("the secret of %s was sealed with another site key: %w", place, err)
	}
	return string(secret), nil
}

func (s *Service) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.siteKey.Derive(credentialsKey))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
