package snapshot

import (
	"io"
	"sort"
)

// chunks are bytes in memory that grow piece by piece: to move what there is would
// take long, and the collector waits for a move.
type chunks []chunk

type chunk struct {
	offset int64
	bytes  []byte
}

// A chunk is as large as all before it, within bounds.
const (
	leastChunk = 4 << 10
	mostChunk  = 1 << 20
)

func (c chunks) size() int64 {
	if len(c) == 0 {
		return 0
	}
	last := c[len(c)-1]
	return last.offset + int64(len(last.bytes))
}

func (c chunks) append(p []byte) chunks {
	if last := len(c) - 1; last >= 0 {
		b := c[last].bytes
		n := min(len(p), cap(b)-len(b))
		c[last].bytes = append(b, p[:n]...)
		p = p[n:]
	}
	if len(p) > 0 {
		size := c.size()
		b := make([]byte, 0, max(int64(len(p)), min(max(size, leastChunk), mostChunk)))
		c = append(c, chunk{size, append(b, p...)})
	}
	return c
}

// ReadAt implements io.ReaderAt.
func (c chunks) ReadAt(p []byte, offset int64) (n int, err error) {
	at := sort.Search(len(c), func(i int) bool { return c[i].offset > offset }) - 1
	for ; at >= 0 && at < len(c) && n < len(p); at++ {
		if from := offset + int64(n) - c[at].offset; from < int64(len(c[at].bytes)) {
			n += copy(p[n:], c[at].bytes[from:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
