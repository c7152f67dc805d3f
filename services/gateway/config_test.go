package gateway

import (
	"testing"

	"github.com/alecthomas/kong"
)

// The command line and callers without one get the same defaults.
func TestDefaults(t *testing.T) {
	t.Parallel()
	var parsed Config
	parser, err := kong.New(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if without := (Config{}).withDefaults(); parsed != without {
		t.Errorf("%+v, and without a command line %+v", parsed, without)
	}
}
