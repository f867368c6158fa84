package snapshot

import "context"

// source is where the bytes of a run are. read returns those from an offset
// that p has room for, in p or in memory of its own, after check agreed to them.
// It is called from several goroutines at once.
type source interface {
	read(offset int64, p []byte, check func([]byte) error) ([]byte, error)
}

// reading says how much is read at once, and how much beside.
type reading struct {
	window int
	ahead  int
}

// windows are the pieces of a run that are read one by one, a few of them
// ahead of the reader, each by a goroutine that ends with it.
//
// The buffers go round: of ahead+2, ahead are being filled, one is read, and
// one was read before it, as the merge still looks at its last entry.
type windows struct {
	r      *Reader
	src    source
	cfg    reading
	stop   context.CancelFunc
	loaded int // blocks in the windows so far
	begun  int // blocks in these and those under way
	under  []*loading
	rounds int
	ring   [][]byte
}

// loading is a window on its way.
type loading struct {
	from, to int // blocks
	done     chan struct{}
	data     []byte
	err      error
}

// next says which blocks the next window has.
func (w *windows) next() (from, to int) {
	blocks := w.r.blocks
	from = w.begun
	for to = from + 1; to < len(blocks); to++ {
		if blocks[to].offset+blocks[to].length-blocks[from].offset > w.cfg.window {
			break
		}
	}
	return from, to
}

// begin starts the next window.
func (w *windows) begin() *loading {
	l := &loading{done: make(chan struct{})}
	l.from, l.to = w.next()
	w.begun = l.to
	if w.ring == nil {
		w.ring = make([][]byte, w.cfg.ahead+2)
	}
	slot := &w.ring[w.rounds%len(w.ring)]
	w.rounds++
	first, last := w.r.blocks[l.from], w.r.blocks[l.to-1]
	n := last.offset + last.length - first.offset
	if cap(*slot) < n {
		*slot = make([]byte, max(n, min(w.cfg.window, int(w.r.size))))
	}
	buf := (*slot)[:n]
	fetch := func() {
		defer close(l.done)
		l.data, l.err = w.src.read(int64(first.offset), buf, func(data []byte) error {
			for _, b := range w.r.blocks[l.from:l.to] {
				at := b.offset - first.offset
				if at+b.length > len(data) {
					return w.r.truncated(int64(first.offset+len(data)), "%d bytes instead of %d at offset %d", len(data), n, first.offset)
				}
				if err := w.r.check(b, data[at:at+b.length]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if w.cfg.ahead == 0 {
		fetch()
	} else {
		go fetch()
	}
	return l
}

// load waits for the next window and starts those behind it.
func (w *windows) load() (data []byte, base int, err error) {
	if len(w.under) == 0 {
		w.under = append(w.under, w.begin())
	}
	l := w.under[0]
	<-l.done
	w.under = append(w.under[:0], w.under[1:]...)
	w.loaded = l.to
	if l.err != nil {
		return nil, 0, l.err
	}
	for len(w.under) < w.cfg.ahead && w.begun < len(w.r.blocks) {
		w.under = append(w.under, w.begin())
	}
	return l.data, w.r.blocks[l.from].offset, nil
}

// ahead starts reading before it is asked for anything.
func (w *windows) prefetch() {
	for len(w.under) < w.cfg.ahead && w.begun < len(w.r.blocks) {
		w.under = append(w.under, w.begin())
	}
}

func (w *windows) close() {
	if w.stop != nil {
		w.stop()
	}
	for _, l := range w.under {
		<-l.done
	}
	w.under, w.ring = nil, nil
	w.begun = len(w.blocks())
}

func (w *windows) blocks() []block {
	if w.r == nil {
		return nil
	}
	return w.r.blocks
}

// headChunk is what is read of a run to see its head. A run that is no longer
// than wholeRun is read at once.
const (
	headChunk = 64 << 10
	wholeRun  = 256 << 10
)

// openSource opens a run of size bytes.
func openSource(name string, size int64, src source, first, last int, cfg reading) (*Reader, error) {
	r := &Reader{object: name, size: size, from: first, to: last}
	var head []byte
	see := func(data []byte) (err error) {
		head, err = r.checkHead(data)
		return err
	}
	_, err := src.read(0, make([]byte, min(size, headChunk)), see)
	if long, ok := err.(*errLongHead); ok {
		_, err = src.read(0, make([]byte, long.head), see)
	}
	if err == nil {
		err = r.parse(head)
	}
	if err != nil {
		return nil, err
	}
	r.windows = windows{r: r, src: src, cfg: cfg}
	return r, nil
}
