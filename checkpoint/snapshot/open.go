package snapshot

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Local holds copies of objects on this machine. Nothing relies on them: each
// byte is checked, and what does not check is read from the bucket.
type Local interface {
	// Copy opens the copy of an object, if there is one.
	Copy(object string) (io.ReaderAt, io.Closer, bool)
	// Spoiled says that a copy is not what the object was.
	Spoiled(object string, err error)
}

// Opener opens runs wherever they are.
type Opener struct {
	Bucket blob.Bucket
	// Local may be nil.
	Local Local
	// Pause waits between two tries; the system's clock if nil.
	Pause func(context.Context, time.Duration)
	// Log discards if nil.
	Log *slog.Logger
	// Memory bounds what all readers of a chain hold: 64 MiB if 0. Each
	// holds at least a few blocks.
	Memory int
}

// Reads of the bucket are tried this often, with a pause that doubles.
const (
	readTries  = 5
	readPause  = 100 * time.Millisecond
	openMemory = 64 << 20
	// A request to a bucket has its price; a copy is read in pieces that fit
	// in the processor's cache.
	minWindow   = 256 << 10
	maxWindow   = 4 << 20
	localWindow = 512 << 10
	openAtOnce  = 8
)

// Chain opens the runs of a chain that overlap the key groups first to last,
// oldest first. What it returns must be closed.
func (o *Opener) Chain(ctx context.Context, chain []*pb.RunRef, first, last int) ([]*Reader, error) {
	var refs []*pb.RunRef
	for _, ref := range chain {
		if int(ref.GetKeyGroupFirst()) <= last && int(ref.GetKeyGroupLast()) >= first {
			refs = append(refs, ref)
		}
	}
	readers, errs := make([]*Reader, len(refs)), make([]error, len(refs))
	var group sync.WaitGroup
	turns := make(chan struct{}, openAtOnce)
	for i, ref := range refs {
		if ref.GetObject() == "" {
			readers[i], errs[i] = o.inline(ref, first, last)
			continue
		}
		turns <- struct{}{}
		group.Go(func() {
			readers[i], errs[i] = o.open(ctx, ref, first, last, len(refs))
			<-turns
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, r := range readers {
			if r != nil {
				_ = r.Close()
			}
		}
		return nil, err
	}
	for _, r := range readers {
		r.windows.prefetch()
	}
	return readers, nil
}

// Open opens one run, which must be closed.
func (o *Opener) Open(ctx context.Context, ref *pb.RunRef, first, last int) (*Reader, error) {
	if ref.GetObject() == "" {
		return o.inline(ref, first, last)
	}
	return o.open(ctx, ref, first, last, 1)
}

func (o *Opener) inline(ref *pb.RunRef, first, last int) (*Reader, error) {
	if err := compare(ref, ref.GetInline()); err != nil {
		return nil, err
	}
	return Open(NameOf(ref), ref.GetInline(), first, last)
}

// open opens a run of an object, of as many that are read together.
func (o *Opener) open(ctx context.Context, ref *pb.RunRef, first, last, many int) (*Reader, error) {
	if o.Local != nil {
		if at, closer, ok := o.Local.Copy(ref.GetObject()); ok {
			r, err := o.openAt(ctx, &fetch{o: o, ref: ref, local: at}, closer, first, last, many)
			if err == nil {
				return r, nil
			}
			_ = closer.Close()
			o.Local.Spoiled(ref.GetObject(), err)
		}
	}
	return o.openAt(ctx, &fetch{o: o, ref: ref}, nil, first, last, many)
}

func (o *Opener) openAt(ctx context.Context, src *fetch, closer io.Closer, first, last, many int) (*Reader, error) {
	ref := src.ref
	ctx, cancel := context.WithCancel(ctx)
	src.ctx = ctx
	stop := func() {
		cancel()
		if closer != nil {
			_ = closer.Close()
		}
	}
	size := int64(ref.GetLength())
	if size <= wholeRun {
		data, err := src.read(0, make([]byte, size), func(data []byte) error { return compare(ref, data) })
		if cancel(); err != nil {
			return nil, err
		}
		r, err := Open(NameOf(ref), data, first, last)
		if err != nil {
			return nil, err
		}
		stop()
		return r, nil
	}
	cfg := reading{ahead: 2, window: maxWindow}
	if src.local != nil {
		cfg = reading{ahead: 1, window: localWindow}
	}
	memory := o.Memory
	if memory == 0 {
		memory = openMemory
	}
	cfg.window = max(min(cfg.window, memory/(many*(cfg.ahead+2))), minWindow)
	r, err := openSource(NameOf(ref), size, src, first, last, cfg)
	if err == nil && r.crc != ref.GetCrc32C() {
		err = &CorruptError{Object: NameOf(ref), Reason: fmt.Sprintf("CRC %08x, its manifest says %08x", r.crc, ref.GetCrc32C())}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	r.windows.stop = sync.OnceFunc(stop)
	return r, nil
}

// fetch reads a run from the copy of its object or, where that does not check,
// from the bucket.
type fetch struct {
	o     *Opener
	ctx   context.Context
	ref   *pb.RunRef
	local io.ReaderAt
	once  sync.Once
}

func (f *fetch) read(offset int64, p []byte, check func([]byte) error) ([]byte, error) {
	if f.local != nil {
		err := f.readLocal(offset, p)
		if err == nil {
			err = check(p)
		}
		if _, long := err.(*errLongHead); err == nil || long {
			return p, err
		}
		f.once.Do(func() { f.o.Local.Spoiled(f.ref.GetObject(), err) })
	}
	return f.readBucket(offset, int64(len(p)), check)
}

func (f *fetch) readLocal(offset int64, p []byte) error {
	if n, err := f.local.ReadAt(p, int64(f.ref.GetOffset())+offset); n < len(p) {
		return fmt.Errorf("read its copy: %w", err)
	}
	return nil
}

// readBucket tries again what may pass: an error that is not about this
// object, and bytes that do not check, which may have been hurt on their way.
func (f *fetch) readBucket(offset, length int64, check func([]byte) error) ([]byte, error) {
	pause := readPause
	for try := 1; ; try++ {
		data, _, err := f.o.Bucket.Get(f.ctx, f.ref.GetObject(), int64(f.ref.GetOffset())+offset, length)
		if err != nil {
			err = fmt.Errorf("read run %s: %w", NameOf(f.ref), err)
		} else if err = check(data); err == nil {
			return data, nil
		}
		var corrupt *CorruptError
		_, long := err.(*errLongHead)
		switch {
		case long, errors.Is(err, blob.ErrNotFound), f.ctx.Err() != nil, try == readTries,
			errors.As(err, &corrupt) && try > 1:
			return nil, err
		}
		if f.o.Log != nil {
			f.o.Log.Warn("state was not read; trying again", "object", f.ref.GetObject(), "try", try, "error", err)
		}
		f.o.pause(f.ctx, pause)
		pause *= 2
	}
}

func (o *Opener) pause(ctx context.Context, d time.Duration) {
	if o.Pause != nil {
		o.Pause(ctx, d)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// OpenChain fetches and opens the runs of a chain that overlap the key groups
// first to last, oldest first. What it returns should be closed.
func OpenChain(ctx context.Context, b blob.Bucket, chain []*pb.RunRef, first, last int) ([]*Reader, error) {
	return (&Opener{Bucket: b}).Chain(ctx, chain, first, last)
}

// Fetch returns the bytes of a run, which are those that its reference was
// made for, or an error. It is for small runs: others are better opened.
func Fetch(ctx context.Context, b blob.Bucket, ref *pb.RunRef) ([]byte, error) {
	if ref.GetObject() == "" {
		return ref.GetInline(), compare(ref, ref.GetInline())
	}
	f := &fetch{o: &Opener{Bucket: b}, ctx: ctx, ref: ref}
	return f.readBucket(0, int64(ref.GetLength()), func(data []byte) error { return compare(ref, data) })
}

// compare says whether bytes are those that a reference was made for.
func compare(ref *pb.RunRef, data []byte) error {
	if uint64(len(data)) != ref.GetLength() {
		return &CorruptError{
			Object: NameOf(ref), Offset: int64(len(data)), Truncated: uint64(len(data)) < ref.GetLength(),
			Reason: fmt.Sprintf("%d bytes, its manifest says %d", len(data), ref.GetLength()),
		}
	}
	if crc := crc32.Checksum(data, castagnoli); crc != ref.GetCrc32C() {
		return &CorruptError{
			Object: NameOf(ref), Offset: flipped(data),
			Reason: fmt.Sprintf("CRC %08x, its manifest says %08x", crc, ref.GetCrc32C()),
		}
	}
	return nil
}

// flipped finds the part of a damaged run that does not check, 0 if each does.
func flipped(data []byte) int64 {
	var c *CorruptError
	if _, err := Open("", data, 0, maxGroups); errors.As(err, &c) {
		return c.Offset
	}
	return 0
}

// NameOf is how errors name a run.
func NameOf(ref *pb.RunRef) string {
	if ref.GetObject() == "" {
		return "(inline)"
	}
	if ref.GetOffset() == 0 {
		return ref.GetObject()
	}
	return fmt.Sprintf("%s+%d", ref.GetObject(), ref.GetOffset())
}
