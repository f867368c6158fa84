package shardlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/stream"
)

const (
	formatMagic = "MRSL"
	// A log in which a shard was sealed has version 2: a program that knows
	// only 1 would go on writing to it.
	formatVersion = 1
	formatSealed  = 2

	defaultCacheBytes    = 16 << 20
	defaultMemTableBytes = 16 << 20
)

// Open opens the log in a folder, which it creates, and reads what it must
// know of each shard. A folder that another process has open is an error of
// kind FolderInUse.
func Open(dir string, opt Options) (*Log, error) {
	if opt.FS == nil {
		opt.FS = vfs.Default
	}
	if opt.Clock == nil {
		opt.Clock = clock.System
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.CacheBytes == 0 {
		opt.CacheBytes = defaultCacheBytes
	}
	if opt.MemTableBytes == 0 {
		opt.MemTableBytes = defaultMemTableBytes
	}
	l := &Log{dir: dir, opt: opt, queue: make(chan *op, maxQueued), stopped: make(chan struct{}), fault: newFault()}
	l.fs = &files{FS: opt.FS, note: pebbleLog{dir: dir, log: opt.Log, fault: &l.fault}}
	l.mu.shards = make(map[ID]*shard)
	l.room = &diskRoom{fs: opt.FS, dir: dir, now: time.Now}
	if err := makeFolder(opt.FS, dir); err != nil {
		return nil, fmt.Errorf("create the folder %s of the shard log: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, opt.FS)
	if _, unmade := errors.AsType[*fs.PathError](err); unmade {
		return nil, fmt.Errorf("make the lock of the shard log in %s: %w", dir, err)
	}
	if err != nil {
		return nil, stream.Errorf(stream.FolderInUse, "the folder %s is in use by another process (%w): stop that process, or choose another folder", dir, err)
	}
	l.lock = lock
	if err := l.fault.guard(l.openStore); err != nil {
		return nil, errors.Join(fmt.Errorf("open the shard log in %s: %w", dir, err), lock.Close())
	}
	l.fs.serving.Store(true)
	return l, nil
}

// makeFolder creates a folder and syncs what leads to it: without that, a
// power loss could take the whole log away. The folder may be there and its
// parent not synced, after a start that failed.
func makeFolder(disk vfs.FS, dir string) error {
	dir = filepath.Clean(dir)
	top := filepath.Dir(dir)
	for _, err := disk.Stat(top); err != nil && top != filepath.Dir(top); _, err = disk.Stat(top) {
		top = filepath.Dir(top)
	}
	if err := disk.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for dir != top {
		dir = filepath.Dir(dir)
		parent, err := disk.OpenDir(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) openStore() error {
	opts := &pebble.Options{
		FS:                          l.fs,
		Lock:                        l.lock,
		CacheSize:                   l.opt.CacheBytes,
		MemTableSize:                l.opt.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       32,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      l.fs.note,
		EventListener:               l.fs.note.listener(),
	}
	if err := checkWALs(l.opt.FS, l.dir); err != nil {
		return err
	}
	db, err := pebble.Open(l.dir, opts)
	if err != nil {
		return err
	}
	l.db = db
	if err := l.checkFormat(); err != nil {
		return errors.Join(l.unread(err), db.Close())
	}
	if err := l.recover(); err != nil {
		return errors.Join(l.unread(err), db.Close())
	}
	return nil
}

func (l *Log) checkFormat() error {
	value, err := l.get([]byte{keyFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		b := l.db.NewBatch()
		if err := b.Set([]byte{keyFormat}, formatMark(formatVersion), nil); err != nil {
			return err
		}
		return l.apply(b)
	}
	if err != nil {
		return err
	}
	if len(value) != len(formatMagic)+2 || string(value[:len(formatMagic)]) != formatMagic {
		return stream.Errorf(stream.Corrupt, "its format mark is %q", value)
	}
	if v := binary.LittleEndian.Uint16(value[len(formatMagic):]); v != formatVersion && v != formatSealed {
		return stream.Errorf(stream.InvalidArgument, "it has format version %d, this program knows %d and %d: use the version that wrote it", v, formatVersion, formatSealed)
	}
	return nil
}

func formatMark(version uint16) []byte {
	return binary.LittleEndian.AppendUint16([]byte(formatMagic), version)
}

// recover builds the state of every shard from its keys.
func (l *Log) recover() error {
	metas, err := l.scan(keyShard, nil)
	if err != nil {
		return err
	}
	for metas.next() {
		id, err := idOfKey(metas.key)
		if err != nil {
			return errors.Join(err, metas.close())
		}
		m, err := decodeShardMeta(metas.value)
		if err != nil {
			return errors.Join(err, metas.close())
		}
		l.mu.shards[id] = newShard(id, m)
	}
	if err := metas.close(); err != nil {
		return err
	}
	sealed, err := l.scan(keySealed, nil)
	if err != nil {
		return err
	}
	for sealed.next() {
		id, err := idOfKey(sealed.key)
		if err == nil && l.mu.shards[id] == nil {
			err = stream.Errorf(stream.Corrupt, "shard %v is sealed and is not there", id)
		}
		if err != nil {
			return errors.Join(err, sealed.close())
		}
		s := l.mu.shards[id]
		s.sealed, s.mu.sealed = true, true
	}
	if err := sealed.close(); err != nil {
		return err
	}
	for _, s := range l.mu.shards {
		if err := l.recoverShard(s); err != nil {
			return fmt.Errorf("read shard %v: %w", s.id, err)
		}
	}
	return nil
}

func (l *Log) recoverShard(s *shard) error {
	if err := l.recoverTip(s); err != nil {
		return err
	}
	byNumber := make(map[uint32]*sinkState)
	sinks, err := l.scan(keySink, &s.id)
	if err != nil {
		return err
	}
	for sinks.next() {
		m, err := decodeSinkMeta(sinks.value)
		if err != nil || len(sinks.key) != 13 {
			return errors.Join(err, sinks.close(), stream.Errorf(stream.Corrupt, "key %x of a sink", sinks.key))
		}
		st := &sinkState{number: binary.BigEndian.Uint32(sinks.key[9:]), meta: *m, open: make(map[txEpoch]map[blockID]staged)}
		byNumber[st.number] = st
		s.sinks[sinkName{m.lineage, m.sink}] = st
		s.nextSink = max(s.nextSink, st.number+1)
	}
	if err := sinks.close(); err != nil {
		return err
	}
	blocks, err := l.scan(keyUncommitted, &s.id)
	if err != nil {
		return err
	}
	for blocks.next() {
		tx, at, err := parseBlockKey(blocks.key)
		if err != nil {
			return errors.Join(err, blocks.close())
		}
		what, err := decodeStaged(blocks.value)
		st := byNumber[tx.sink]
		if err != nil || st == nil {
			return errors.Join(err, blocks.close(), stream.Errorf(stream.Corrupt, "staged block %x is of an unknown sink", blocks.key))
		}
		te := txEpoch{tx.epoch, tx.checkpoint}
		if st.open[te] == nil {
			st.open[te] = make(map[blockID]staged)
		}
		st.open[te][at] = what
	}
	return blocks.close()
}

// recoverTip finds the last record of a shard.
func (l *Log) recoverTip(s *shard) (err error) {
	it, err := l.db.NewIter(bounds(keyRecords, &s.id))
	if err != nil {
		return err
	}
	defer l.done(it, &err)
	if !it.Last() {
		return it.Error()
	}
	e, err := decodeEntry(it)
	if err != nil {
		return err
	}
	s.next = max(s.next, e.last+1)
	s.arrival = max(s.arrival, e.arrival)
	s.mu.tip = s.next - 1
	return nil
}

// scanner walks keys of one kind, of one shard or of all.
type scanner struct {
	it         *pebble.Iterator
	begun      bool
	key, value []byte
}

func bounds(kind byte, id *ID) *pebble.IterOptions {
	prefix := []byte{kind}
	if id != nil {
		prefix = shardKey(kind, *id)
	}
	return &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
}

func (l *Log) scan(kind byte, id *ID) (*scanner, error) {
	it, err := l.db.NewIter(bounds(kind, id))
	if err != nil {
		return nil, err
	}
	return &scanner{it: it}, nil
}

func (s *scanner) next() bool {
	var ok bool
	if s.begun {
		ok = s.it.Next()
	} else {
		ok, s.begun = s.it.First(), true
	}
	if ok {
		s.key, s.value = s.it.Key(), s.it.Value()
	}
	return ok
}

func (s *scanner) close() error { return errors.Join(s.it.Error(), s.it.Close()) }
