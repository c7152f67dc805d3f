package connector_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

func key(n int) []string { return []string{strconv.Itoa(n)} }

// reader cuts pages out of whatever rows returns at the time.
func reader(size int, rows func(call int) []int) func(context.Context, int) (connector.Page[int], error) {
	call := 0
	return func(_ context.Context, number int) (connector.Page[int], error) {
		call++
		all := rows(call)
		from, to := min(len(all), (number-1)*size), min(len(all), number*size)
		return connector.Page[int]{Rows: all[from:to], Size: size, Total: len(all)}, nil
	}
}

func numbers(count int) []int {
	rows := make([]int, count)
	for n := range rows {
		rows[n] = n
	}
	return rows
}

func TestReadPagesHandsOverEachRowOnce(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 9, 10, 11, 20, 95} {
		var got []int
		err := connector.ReadPages(t.Context(), reader(10, func(int) []int { return numbers(count) }), key, func(n int) error {
			got = append(got, n)
			return nil
		})
		if err != nil || !slices.Equal(got, numbers(count)) {
			t.Errorf("%d rows: %v, %v", count, got, err)
		}
	}
}

// Whatever leaves and joins between two answers, a reading without an error has everybody who was there all the time.
func TestReadPagesMissesNobody(t *testing.T) {
	t.Parallel()
	const histories = 20_000
	whole := 0
	for seed := range uint64(histories) {
		random := rand.New(rand.NewPCG(seed, 0))
		rows := numbers(3 + random.IntN(12))
		always := slices.Clone(rows)
		next := len(rows)
		read := reader(3, func(int) []int {
			for range random.IntN(3) {
				switch at := random.IntN(8); {
				case at < len(rows) && random.IntN(2) == 0:
					always = slices.DeleteFunc(always, func(n int) bool { return n == rows[at] })
					rows = slices.Delete(slices.Clone(rows), at, at+1)
				case random.IntN(4) == 0:
					rows = append(slices.Clone(rows), next)
					next++
				}
			}
			return rows
		})
		var got []int
		err := connector.ReadPages(t.Context(), read, key, func(n int) error { got = append(got, n); return nil })
		if err != nil {
			var e *connector.Error
			if !errors.As(err, &e) || e.Kind != connector.Changed {
				t.Fatalf("seed %d: %v", seed, err)
			}
			continue
		}
		whole++
		for _, n := range always {
			if !slices.Contains(got, n) {
				t.Fatalf("seed %d: read %v, and not %d", seed, got, n)
			}
		}
	}
	if whole == 0 || whole == histories {
		t.Errorf("%d of %d histories were read whole: the test tries nothing", whole, histories)
	}
}

func TestReadPagesRefusesPagesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]connector.Page[int]{
		"too few rows":  {Rows: numbers(9), Size: 10, Total: 30},
		"too many rows": {Rows: numbers(11), Size: 10, Total: 30},
		"no size":       {Rows: numbers(10), Total: 30},
		"more in all":   {Rows: numbers(10), Size: 10, Total: 31},
		"another size":  {Rows: numbers(5), Size: 5, Total: 30},
		"nothing":       {Size: 10, Total: 30},
		"total gone":    {Size: 10},
	} {
		for at := 1; at <= 3; at++ {
			read := func(_ context.Context, number int) (connector.Page[int], error) {
				if number == at {
					return page, nil
				}
				return connector.Page[int]{Rows: numbers(10), Size: 10, Total: 30}, nil
			}
			err := connector.ReadPages(t.Context(), read, key, func(int) error { return nil })
			if legal := at == 1 && name == "total gone"; legal != (err == nil) {
				t.Errorf("%s at page %d: %v", name, at, err)
			}
		}
	}
}

func TestReadPagesNoticesARowThatIsAnother(t *testing.T) {
	t.Parallel()
	for changed := range 4 {
		read := reader(2, func(call int) []int {
			rows := numbers(4)
			if call > 2 {
				rows[changed] = 99
			}
			return rows
		})
		if err := connector.ReadPages(t.Context(), read, key, func(int) error { return nil }); err == nil {
			t.Errorf("row %d changed, and nobody noticed", changed)
		}
	}
}
