package files

import (
	"compress/gzip"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/sdk"
)

// linger is how long Close waits for requests under way: as a rule a store
// answers at once a request of which it has all.
const linger = 2 * time.Second

// writer is one subtask's. Its parts and counters are the task's; what it
// uploads runs beside, and is waited for by finish and Close.
type writer[T any] struct {
	Parts[T]
	env    sdk.SinkEnv
	bucket *place
	// ctx ends with the attempt: nothing begins any more. requests outlives it,
	// for what is under way then; abandon ends that too.
	ctx      context.Context
	cancel   context.CancelFunc
	requests context.Context
	abandon  context.CancelFunc
	group    sync.WaitGroup
	slots    chan struct{}

	id     string
	token  string
	open   map[string]*part
	recent *part // of the last record
	turn   uint64
	line   []byte
	zips   []*gzip.Writer // not in use
	parts  uint64         // of this epoch, which numbers staged keys
	ended  []*upload
	number uint64

	mu struct {
		sync.Mutex
		err error
	}
}

func newWriter[T any](ctx context.Context, p Parts[T], env sdk.SinkEnv, at *place) *writer[T] {
	w := &writer[T]{
		Parts: p, env: env, bucket: at, slots: make(chan struct{}, uploads),
		id: idOf(env.Lineage, env.UID), token: token(), open: map[string]*part{},
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.requests, w.abandon = context.WithCancel(context.WithoutCancel(ctx))
	return w
}

// part is an open file of one partition.
type part struct {
	partition string
	upload    *upload
	used      uint64 // turn of its last batch
	zip       *gzip.Writer
	// buf is what has not gone to the bucket, gone what has.
	buf  []byte
	gone int64
}

// Write implements io.Writer, for zip.
func (p *part) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	return len(b), nil
}

func (w *writer[T]) Write(b *sdk.Batch[T]) error {
	if err := w.failed(); err != nil {
		return err
	}
	w.turn++
	for i := range b.Values {
		p, err := w.partFor(b.Values[i])
		if err != nil {
			return err
		}
		if err := w.add(p, b.Values[i]); err != nil {
			return fmt.Errorf("file of %s: encode %+v: %w", w.location, b.Values[i], err)
		}
		if len(p.buf) >= w.spillAt || p.upload.stream != nil && len(p.buf) >= chunkBytes {
			if err := w.spill(p); err != nil {
				return err
			}
		}
		if p.gone+int64(len(p.buf)) >= w.roll {
			if err := w.end(p, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// partFor returns the open part of a record's partition.
func (w *writer[T]) partFor(v T) (*part, error) {
	partition := ""
	if w.partition != nil {
		partition = w.partition(v)
	}
	if w.recent != nil && w.recent.partition == partition {
		w.recent.used = w.turn
		return w.recent, nil
	}
	p := w.open[partition]
	if p == nil {
		if err := checkPartition(partition); err != nil {
			return nil, sdk.Refused(fmt.Errorf("file of %s for %+v: %w", w.location, v, err))
		}
		if len(w.open) >= openParts {
			if err := w.end(w.quietest(), true); err != nil {
				return nil, err
			}
		}
		var err error
		if p, err = w.begin(partition); err != nil {
			return nil, err
		}
		w.open[partition] = p
	}
	p.used, w.recent = w.turn, p
	return p, nil
}

// quietest is the part that was written to longest ago.
func (w *writer[T]) quietest() *part {
	var least *part
	for _, p := range w.open {
		if least == nil || p.used < least.used || p.used == least.used && p.partition < least.partition {
			least = p
		}
	}
	return least
}

func (w *writer[T]) begin(partition string) (*part, error) {
	w.parts++
	p := &part{partition: partition, upload: &upload{
		partition: partition, name: fmt.Sprintf("%d-%s-%d", w.env.Subtask, w.token, w.parts), done: make(chan struct{}),
	}}
	if w.gzip {
		p.zip = w.zipTo(p)
	}
	var err error
	if w.line, err = w.format.Begin(w.line[:0]); err != nil {
		return nil, fmt.Errorf("begin a file of %s: %w", w.location, err)
	}
	if p.zip != nil {
		_, err = p.zip.Write(w.line)
	} else {
		p.buf = append(p.buf, w.line...)
	}
	return p, err
}

// zipTo returns a compressor, one of an earlier part if there is one: each has
// most of a megabyte of tables.
func (w *writer[T]) zipTo(p *part) *gzip.Writer {
	if len(w.zips) == 0 {
		return gzip.NewWriter(p)
	}
	z := w.zips[len(w.zips)-1]
	w.zips = w.zips[:len(w.zips)-1]
	z.Reset(p)
	return z
}

// add encodes one record. After an error the part may hold half of it: the
// attempt is over.
func (w *writer[T]) add(p *part, v T) (err error) {
	if p.zip == nil {
		p.buf, err = w.format.Append(p.buf, v)
		return err
	}
	if w.line, err = w.format.Append(w.line[:0], v); err != nil {
		return err
	}
	_, err = p.zip.Write(w.line)
	return err
}

// end closes a part and sends what is left of it. With wait, it first waits for
// one of the running uploads to end if there are many.
func (w *writer[T]) end(p *part, wait bool) error {
	delete(w.open, p.partition)
	if w.recent == p {
		w.recent = nil
	}
	if p.zip != nil {
		if err := p.zip.Close(); err != nil {
			return err
		}
		w.zips = append(w.zips, p.zip)
	}
	p.upload.size = uint64(p.gone) + uint64(len(p.buf))
	w.ended = append(w.ended, p.upload)
	if p.upload.stream != nil {
		err := w.spill(p)
		p.upload.stream.Close()
		return err
	}
	p.upload.data = p.buf
	return w.send(p.upload, wait)
}

// Flush keeps what is open: it goes to the bucket as it grows, and with the
// checkpoint.
func (w *writer[T]) Flush() error { return w.failed() }

// Prepare implements sdk.Preparer.
func (w *writer[T]) Prepare(checkpoint uint64) (func(context.Context) ([]byte, error), error) {
	for _, p := range w.open {
		if err := w.end(p, false); err != nil {
			return nil, err
		}
	}
	parts := w.ended
	w.ended = nil
	if len(parts) == 0 {
		return func(context.Context) ([]byte, error) { return nil, w.failed() }, nil
	}
	w.number++
	h := &handle{
		lineage: w.env.Lineage, sink: w.env.UID, epoch: w.env.Epoch, subtask: uint64(w.env.Subtask), number: w.number,
	}
	for i, u := range parts {
		h.parts = append(h.parts, staged{from: u.name, to: w.nameOf(u, checkpoint, i), size: u.size})
	}
	return func(ctx context.Context) ([]byte, error) {
		for _, u := range parts {
			select {
			case <-u.done:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if u.err != nil {
				return nil, u.err
			}
		}
		return h.encode(), nil
	}, nil
}

// nameOf is the key under which a part will be seen.
func (w *writer[T]) nameOf(u *upload, checkpoint uint64, i int) string {
	name := fmt.Sprintf("part-%s-%d-%08d-%d-%d-%s.%s", w.id, w.env.Epoch, checkpoint, w.env.Subtask, i+1, w.token, w.format.Extension())
	if w.gzip {
		name += ".gz"
	}
	if u.partition == "" {
		return name
	}
	return u.partition + "/" + name
}

func (w *writer[T]) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// Close gives up open parts. It waits for uploads under way: a request that is
// cancelled may still be carried out, after the next recovery has looked for
// what is left, and nobody would remove that part. Parts that are staged stay
// for that recovery.
func (w *writer[T]) Close() error {
	w.cancel()
	for _, p := range w.open {
		if p.upload.stream != nil {
			p.upload.stream.CloseWithError(context.Canceled)
		}
	}
	late := time.AfterFunc(linger, w.abandon)
	w.group.Wait()
	late.Stop()
	w.abandon()
	return w.bucket.release()
}
