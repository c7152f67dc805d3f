package bus

import "testing"

func TestJudge(t *testing.T) {
	t.Parallel()
	none, held := Version{}, Version{Epoch: 10, Number: 5}
	for _, c := range []struct {
		name     string
		delta    bool
		held, v  Version
		expected verdict
	}{
		{"the first state", false, none, Version{10, 3}, apply},
		{"a newer state", false, held, Version{10, 9}, apply},
		{"a state of a newer epoch", false, held, Version{11, 1}, apply},
		{"the same state", false, held, held, ignore},
		{"an older state", false, held, Version{10, 4}, ignore},
		{"a state of an older epoch", false, held, Version{9, 99}, ignore},

		{"the first delta", true, none, Version{10, 1}, apply},
		{"a delta on nothing", true, none, Version{10, 2}, wait},
		{"the next delta", true, held, Version{10, 6}, apply},
		{"a delta after a gap", true, held, Version{10, 7}, wait},
		{"the same delta", true, held, held, ignore},
		{"an older delta", true, held, Version{10, 1}, ignore},
		{"the first delta of a newer epoch", true, held, Version{11, 1}, replace},
		{"a later delta of a newer epoch", true, held, Version{11, 6}, replace},
		{"a delta of an older epoch", true, held, Version{9, 6}, ignore},
	} {
		if got := judge(c.delta, c.held, c.v); got != c.expected {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.expected)
		}
	}
}
