package connector

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Page is one answer of a list that is read in pages: its rows, how many rows it has when it is full, and how many the
// remote counts in all.
type Page[R any] struct {
	Rows  []R
	Size  int
	Total int
}

// ReadPages hands over all rows, in the pages' order. key is everything about a row that its reader uses.
//
// Pages are cut by counting, so a row that goes away while they are read moves another one from a page to come to a
// page that was read, and nobody sees it; where another one arrives meanwhile, not even the total gives that away. Rows
// that need more than one page are therefore read twice, and both readings have to be the same.
func ReadPages[R any](ctx context.Context, read func(ctx context.Context, number int) (Page[R], error), key func(R) []string, yield func(R) error) error {
	first, pages, err := readOnce(ctx, read, key, yield)
	if err != nil || pages <= 1 {
		return err
	}
	second, _, err := readOnce(ctx, read, key, func(R) error { return nil })
	if err != nil {
		return err
	}
	if first != second {
		return changedMeanwhile()
	}
	return nil
}

func changedMeanwhile() error {
	return Errorf(Changed, "", "the list changed while it was read; nothing of this reading is used")
}

type digest [sha256.Size]byte

func readOnce[R any](ctx context.Context, read func(context.Context, int) (Page[R], error), key func(R) []string, yield func(R) error) (digest, int, error) {
	sum := sha256.New()
	for seen, size, total, number := 0, 0, 0, 1; ; number++ {
		page, err := read(ctx, number)
		if err != nil {
			return digest{}, 0, err
		}
		if number == 1 {
			size, total = page.Size, page.Total
			write(sum, total)
		}
		if page.Size != size || page.Total != total || !page.fits(seen) {
			return digest{}, 0, changedMeanwhile()
		}
		for _, row := range page.Rows {
			for _, text := range key(row) {
				write(sum, len(text))
				sum.Write([]byte(text))
			}
			if err := yield(row); err != nil {
				return digest{}, 0, err
			}
		}
		if seen += len(page.Rows); seen == total {
			return digest(sum.Sum(nil)), number, nil
		}
	}
}

func write(sum hash.Hash, n int) {
	var word [8]byte
	binary.BigEndian.PutUint64(word[:], uint64(n))
	sum.Write(word[:])
}

// fits says whether the page has the rows that it must have when seen rows were before it: as many as a full page, or
// all that are left.
func (p Page[R]) fits(seen int) bool {
	return p.Size > 0 && p.Total >= seen && len(p.Rows) == min(p.Size, p.Total-seen)
}
