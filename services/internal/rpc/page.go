package rpc

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// Page sizes: what is given when none is asked for, and the most that is given.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// PageSize returns how many resources to list: 50 for zero, at most 1000. A negative size is invalid.
func PageSize(requested int32) (int, error) {
	switch {
	case requested < 0:
		return 0, Invalid(errorv1.Reason_REASON_INVALID_FIELD, "pageSize", "must not be negative")
	case requested == 0:
		return DefaultPageSize, nil
	}
	return min(int(requested), MaxPageSize), nil
}

// maxPageBytes leaves the rest of a page room in a gRPC message, which ends at 4 MiB.
const maxPageBytes = 3 << 20

// Fit returns how many of a page's resources fit into one message: at least one. The page then ends early, and its token
// leads on from there.
func Fit[M proto.Message](resources []M) int {
	size := 0
	for i, resource := range resources {
		if size += proto.Size(resource); size > maxPageBytes && i > 0 {
			return i
		}
	}
	return len(resources)
}

// Sealer makes page tokens: the cursor at which the next page begins, encrypted, because it can hold an address and
// tokens end up in logs, and bound to the query, because it means nothing for another.
type Sealer struct{ aead cipher.AEAD }

// SealerKeyBytes is the size of a Sealer's key.
const SealerKeyBytes = 32

// NewSealer returns a Sealer with a key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != SealerKeyBytes {
		return nil, fmt.Errorf("page token key: %d bytes instead of %d", len(key), SealerKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	return &Sealer{aead}, nil
}

// LoadSealer returns the Sealer of a service's database, with a key that is made when there is none yet. All replicas
// share it, and page tokens survive a restart.
func LoadSealer(ctx context.Context, pool *pgxpool.Pool) (*Sealer, error) {
	fresh := make([]byte, SealerKeyBytes)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, "INSERT INTO page_key (key) VALUES ($1) ON CONFLICT DO NOTHING", fresh); err != nil {
		return nil, fmt.Errorf("load page token key: %w", err)
	}
	var key []byte
	if err := pool.QueryRow(ctx, "SELECT key FROM page_key").Scan(&key); err != nil {
		return nil, fmt.Errorf("load page token key: %w", err)
	}
	return NewSealer(key)
}

// Seal makes the token of the page that begins at cursor; "" for no further page. Filter says, in any form, what is
// listed beside the page's size and token: see Filter.
func (s *Sealer) Seal(method, filter, cursor string) string {
	if cursor == "" {
		return ""
	}
	sealed := s.aead.Seal(nil, nil, []byte(cursor), binding(method, filter)) //nolint:gosec // this AEAD takes no nonce: it makes its own
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// Open returns the cursor of a token; "" without a token, which is the first page.
func (s *Sealer) Open(method, filter, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		var cursor []byte
		if cursor, err = s.aead.Open(nil, nil, sealed, binding(method, filter)); err == nil {
			return string(cursor), nil
		}
	}
	return "", Invalid(errorv1.Reason_REASON_PAGE_TOKEN_INVALID, "pageToken", "is not one that this method gave out for this same query")
}

func binding(method, filter string) []byte {
	return fmt.Appendf(nil, "%d:%s%s", len(method), method, filter)
}

// Filter sums up what a list request asks for: everything in it but the page's size and token.
func Filter(request proto.Message) string {
	hash, err := hashWithout(request, "page_size", "page_token")
	if err != nil { // only invalid UTF-8 or an unset proto2 field, which no received request has
		sum := sha256.Sum256([]byte(err.Error()))
		hash = sum[:]
	}
	return string(hash)
}
