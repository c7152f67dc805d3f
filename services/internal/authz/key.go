package authz

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"
)

// The files that GenerateKey writes.
const (
	// SigningKeyFile holds the private key as a JWK; mode 0600.
	SigningKeyFile = "token-key.json"
	// JWKSFile holds the public keys, all that a verifier needs.
	JWKSFile = "token-jwks.json"
)

// GenerateKey makes an Ed25519 key for tokens in dir, where there is none yet, and the JWKS that verifies it.
// What is there already stays.
func GenerateKey(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	keyPath := filepath.Join(dir, SigningKeyFile)
	if _, err := os.Stat(keyPath); errors.Is(err, fs.ErrNotExist) {
		if err := writeNewKey(keyPath); err != nil {
			return err
		}
	}
	key, err := readKey(keyPath)
	if err != nil {
		return err
	}
	set, err := json.MarshalIndent(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, JWKSFile), append(set, '\n'), 0o644)
}

func writeNewKey(path string) error {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	key := jose.JSONWebKey{Key: private, Algorithm: string(jose.EdDSA), Use: "sig"}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	text, err := json.MarshalIndent(key, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(path, append(text, '\n'), 0o600)
}

// writeNew writes a file that is complete from the moment it appears, and leaves alone one that is there:
// of two processes that start at once, both go on with the key of the first.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Signer mints tokens with one private key.
type Signer struct{ signer jose.Signer }

// LoadSigner reads the private key that GenerateKey made. It refuses a file that everybody on the machine may read.
func LoadSigner(path string) (*Signer, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, err
	}
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", key.KeyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key.Key}, options)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	return &Signer{signer}, nil
}

func readKey(path string) (jose.JSONWebKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return jose.JSONWebKey{}, fmt.Errorf("signing key %s can be read by everybody: chmod 600", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	var key jose.JSONWebKey
	if json.Unmarshal(text, &key) != nil { // its error could quote the key
		return jose.JSONWebKey{}, fmt.Errorf("signing key %s is no JWK", path)
	}
	if _, ok := key.Key.(ed25519.PrivateKey); !ok || key.KeyID == "" || !key.Valid() {
		return jose.JSONWebKey{}, fmt.Errorf("signing key %s is no Ed25519 private key with a kid", path)
	}
	return key, nil
}
