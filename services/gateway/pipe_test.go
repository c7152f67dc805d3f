package gateway_test

import (
	"io"
	"testing"
)

// pipe is a body that arrives as the test writes it. It ends with the test, so that no request outlives it.
func pipe(t *testing.T) (*io.PipeReader, *io.PipeWriter) {
	reader, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	return reader, writer
}
