package postgres

import (
	"io"
	"testing"
)

// newPipe returns a reader, and what writes to it; an empty text ends it.
func newPipe(t *testing.T) (io.Reader, func(string)) {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r, func(text string) {
		if text == "" {
			w.Close()
			return
		}
		_, _ = w.Write([]byte(text))
	}
}
