package tier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/runtime/state"
)

// Options of a Disk; the zero value is for production.
type Options struct {
	// Memory is about what Pebble may use of it, in bytes: half for what is
	// not flushed yet, half for a cache of blocks. 32 MiB if 0; at least 2 MiB.
	Memory int64
	// FS is the file system, vfs.Default where nil.
	FS vfs.FS
	// Log discards if nil.
	Log *slog.Logger
}

const (
	defaultMemory = 32 << 20
	leastMemory   = 2 << 20
	mostMemTable  = 32 << 20
	// mostManifest is the size at which Pebble begins its list of tables anew.
	mostManifest = 256 << 10
)

// Disk is a folder of pages.
type Disk struct {
	dir     string
	fs      vfs.FS
	db      *pebble.DB
	numbers atomic.Uint64
	fault   fault

	// most is what mu.unflushed may be for another batch to be admitted.
	most int64
	mu   struct {
		sync.Mutex
		// unflushed is what was written and is in memory still. flushed is closed,
		// and made anew, whenever it has become less: all who wait then look again.
		unflushed int64
		flushed   chan struct{}
		closed    bool
	}
}

var _ state.Disk = (*Disk)(nil)

// Open empties a folder, or makes it, and returns a disk there.
func Open(dir string, opt Options) (*Disk, error) {
	if opt.Memory == 0 {
		opt.Memory = defaultMemory
	}
	opt.Memory = max(opt.Memory, leastMemory)
	if opt.FS == nil {
		opt.FS = vfs.Default
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	memTable := min(opt.Memory/8, mostMemTable)
	d := &Disk{
		dir: dir, fs: opt.FS, most: opt.Memory / 2,
		fault: fault{raised: make(chan struct{}), log: opt.Log, dir: dir},
	}
	d.mu.flushed = make(chan struct{})
	if err := d.fs.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty the folder %s of tiered state: %w", dir, err)
	}
	if err := d.fs.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder %s of tiered state: %w", dir, err)
	}
	o := d.options(opt, memTable)
	if err := o.FS.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the folder %s of tiered state: %w", dir, err)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the folder %s of tiered state: %w", dir, err)
	}
	d.db = db
	return d, nil
}

func (d *Disk) options(opt Options, memTable int64) *pebble.Options {
	o := &pebble.Options{
		FS: newFiles(d.fs), MaxManifestFileSize: mostManifest, DisableWAL: true, NoSyncOnClose: true, FormatMajorVersion: pebble.FormatNewest,
		CacheSize: opt.Memory / 2, MemTableSize: uint64(memTable),
		// A write that waits inside of Pebble waits for good when flushes fail, so
		// those that must wait do so in admit.
		MemTableStopWritesThreshold: 1 << 20, L0StopWritesThreshold: 1 << 20,
		L0CompactionThreshold: 4, LBaseMaxBytes: max(8*memTable, 16<<20),
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		Logger:                     &d.fault,
		EventListener: &pebble.EventListener{
			BackgroundError: d.fault.raise,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { d.fault.raise(i.Details) },
			FlushEnd:        d.flushEnded,
		},
	}
	for i := range o.Levels {
		// Every key asked for is there, once: a level that does not have it should
		// not be read.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}

// Folder is where the disk is.
func (d *Disk) Folder() string { return d.dir }

// Number implements state.Disk.
func (d *Disk) Number() uint64 { return d.numbers.Add(1) }

// Read implements state.Disk.
func (d *Disk) Read(key state.PageKey, f func(b []byte) error) error {
	if err := d.fault.err(); err != nil {
		return err
	}
	var k [keySize]byte
	b, closer, err := d.db.Get(encodeKey(k[:0], key))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("read page %d of table %d in %s: the page is not there", key.Version, key.Table, d.dir)
	case err != nil:
		d.fault.raise(fmt.Errorf("read page %d of table %d: %w", key.Version, key.Table, err))
		return d.fault.err()
	}
	if err := f(b); err != nil {
		return errors.Join(fmt.Errorf("read page %d of table %d in %s: %w", key.Version, key.Table, d.dir, err), closer.Close())
	}
	return closer.Close()
}

// Batch implements state.Disk.
func (d *Disk) Batch() state.DiskBatch { return &batch{d: d, b: d.db.NewBatch()} }

// batch is a state.DiskBatch. Its methods cannot fail: a batch is in memory.
type batch struct {
	d   *Disk
	b   *pebble.Batch
	key [keySize]byte
	end [keySize]byte
	err error
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *batch) Put(key state.PageKey, bytes []byte) {
	b.note(b.b.Set(encodeKey(b.key[:0], key), bytes, nil))
}

// Remove is no SingleDelete, though each key is put once: Pebble panics when it
// cannot read what comes after one.
func (b *batch) Remove(key state.PageKey) {
	b.note(b.b.Delete(encodeKey(b.key[:0], key), nil))
}

func (b *batch) RemoveTable(table, first, last uint64) {
	from := encodeKey(b.key[:0], state.PageKey{Table: table, Hash: first})
	end := state.PageKey{Table: table, Hash: last + 1}
	if end.Hash == 0 {
		end.Table++
	}
	b.note(b.b.DeleteRange(from, encodeKey(b.end[:0], end), nil))
}

func (b *batch) Commit() error {
	size := int64(b.b.Len() - batchrepr.HeaderLen)
	err := b.err
	if err == nil && !b.b.Empty() {
		if err = b.d.admit(size); err == nil {
			err = b.b.Commit(pebble.NoSync)
		}
	}
	if err := errors.Join(err, b.b.Close()); err != nil {
		return fmt.Errorf("write %d bytes in %s: %w", size, b.d.dir, err)
	}
	return b.d.fault.err()
}

// errClosed is that of a batch that comes, or still waits, when the disk is given up.
var errClosed = errors.New("the disk was given up")

// admit waits until no more is in memory than may be, or the disk has failed or
// is closed.
func (d *Disk) admit(size int64) error {
	for {
		d.mu.Lock()
		flushed, closed, room := d.mu.flushed, d.mu.closed, d.mu.unflushed <= d.most
		if room && !closed {
			d.mu.unflushed += size
		}
		d.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case room:
			return d.fault.err()
		}
		select {
		case <-flushed:
		case <-d.fault.raised:
			return d.fault.err()
		}
	}
}

// flushEnded counts no less than admit did of the same batches, so what is
// unflushed comes down to nothing: a batch that Pebble takes as it is weighs what
// it has after its header, and in a table in memory comes an index on top.
func (d *Disk) flushEnded(i pebble.FlushInfo) {
	if i.Err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.unflushed = max(0, d.mu.unflushed-int64(i.InputBytes))
	d.wake()
}

// wake has all who wait in admit look again. It is called under the lock.
func (d *Disk) wake() {
	close(d.mu.flushed)
	d.mu.flushed = make(chan struct{})
}

// Close gives up the disk and removes its folder. Nobody may use it any more; a
// Commit that waits for a flush still ends with an error.
func (d *Disk) Close() error {
	d.mu.Lock()
	d.mu.closed = true
	d.wake()
	d.mu.Unlock()
	failed := d.fault.err() != nil
	err := d.db.Close()
	if failed {
		err = nil // it was said
	}
	if e := d.fs.RemoveAll(d.dir); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close the folder %s of tiered state: %w", d.dir, err)
	}
	return nil
}

// keySize is that of a key: table, lowest hash, version, big-endian.
const keySize = 24

func encodeKey(dst []byte, k state.PageKey) []byte {
	dst = binary.BigEndian.AppendUint64(dst, k.Table)
	dst = binary.BigEndian.AppendUint64(dst, k.Hash)
	return binary.BigEndian.AppendUint64(dst, k.Version)
}
