package shardlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

func TestAFailedSyncFailsTheLogForGood(t *testing.T) {
	var failing atomic.Bool
	lost := errors.New("the disk is gone")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.HasSuffix(op.Path, ".log") {
			failing.Store(false) // later syncs would succeed: it must not try
			return lost
		}
		return nil
	}))
	l := openLog(t, "log", Options{FS: fs})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(t.Context(), shard0, makeBlock("a")); err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	_, _, err := l.Append(t.Context(), shard0, makeBlock("b"))
	wantKind(t, err, stream.StoreFailed)
	<-l.Failed()
	_, _, err = l.Append(t.Context(), shard0, makeBlock("c"))
	wantKind(t, err, stream.StoreFailed)
	wantKind(t, l.Err(), stream.StoreFailed)
	wantRecords(t, l, shard0, "a")
}

// smallDisk reports how much room a disk has.
type smallDisk struct {
	vfs.FS
	free atomic.Uint64
	mute atomic.Bool
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if d.mute.Load() {
		return vfs.DiskUsage{}, errors.New("input/output error")
	}
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 1 << 30, UsedBytes: 1<<30 - d.free.Load()}, nil
}

func TestAFullDiskRefusesAppendsAndStillCommits(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	now := clock.NewVirtual(time.UnixMilli(1_000_000))
	l := openLog(t, "log", Options{FS: disk, Clock: now})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	if err := l.Stage(t.Context(), shard0, tx(1, 1), 0, 0, makeBlock("a")); err != nil {
		t.Fatal(err)
	}
	disk.free.Store(1 << 20)
	l.room.free = 0 // looks again at once
	_, _, err := l.Append(t.Context(), shard0, makeBlock("b"))
	wantKind(t, err, stream.DiskFull)
	wantKind(t, l.Stage(t.Context(), shard0, tx(1, 2), 0, 0, makeBlock("c")), stream.DiskFull)
	if _, _, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 1, 1)}); err != nil {
		t.Errorf("commit on a full disk: %v", err)
	}
	wantKind(t, l.Create(t.Context(), Spec{ID: shard1}), stream.DiskFull)
	disk.free.Store(1 << 30)
	if _, _, err := l.Append(t.Context(), shard0, makeBlock("d")); err != nil {
		t.Errorf("append after room was made: %v", err)
	}
	wantRecords(t, l, shard0, "a", "d")
	// What makes room, and what a split needs of its parent, is done.
	disk.free.Store(1 << 20)
	l.room.free = 0
	now.Advance(time.Hour)
	if err := l.Create(t.Context(), Spec{ID: shard0, Retention: time.Minute, Sealed: true}); err != nil {
		t.Errorf("a shorter retention and a seal on a full disk: %v", err)
	}
	wantRecords(t, l, shard0)
}

// A disk that once cannot say how much room it has is asked again.
func TestAFullDiskIsNoticedLater(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewMem()}
	room := diskRoom{fs: disk, now: time.Now}
	group := []*op{{bytes: 1, grows: true}}
	disk.mute.Store(true)
	if err := room.check(group); err != nil {
		t.Errorf("a disk that does not say how full it is: %v", err)
	}
	disk.mute.Store(false)
	wantKind(t, room.check(group), stream.DiskFull)
}

// What is damaged ends the log where writes wait for it, and not before.
func TestDamageEndsTheLogWhereWritesWaitForIt(t *testing.T) {
	damage := fmt.Errorf("block 7/9 of a table: %w", pebble.ErrCorruption)
	stall := func(l *pebble.EventListener) { l.WriteStallBegin(pebble.WriteStallBeginInfo{}) }
	meet := func(l *pebble.EventListener) { l.BackgroundError(damage) }
	mend := func(l *pebble.EventListener) { l.CompactionEnd(pebble.CompactionInfo{}) }
	goOn := func(l *pebble.EventListener) { l.WriteStallEnd() }
	for name, c := range map[string]struct {
		events []func(*pebble.EventListener)
		ends   bool
	}{
		"damage alone":           {[]func(*pebble.EventListener){meet, meet}, false},
		"a stall alone":          {[]func(*pebble.EventListener){stall}, false},
		"damage, then a stall":   {[]func(*pebble.EventListener){meet, stall}, true},
		"a stall, then damage":   {[]func(*pebble.EventListener){stall, meet}, true},
		"a stall that is over":   {[]func(*pebble.EventListener){stall, goOn, meet}, false},
		"damage that was passed": {[]func(*pebble.EventListener){meet, mend, stall}, false},
	} {
		f := newFault()
		l := pebbleLog{dir: "log", log: slog.New(slog.DiscardHandler), fault: &f}.listener()
		// The event that ends the log does not return.
		err := f.guard(func() error {
			for _, event := range c.events {
				event(l)
			}
			return nil
		})
		if (err != nil) != c.ends || err != nil && (!strings.Contains(err.Error(), "shard log in log") || !strings.Contains(err.Error(), "block 7/9")) {
			t.Errorf("%s: %v, want an error: %v", name, err, c.ends)
		}
	}
}

func TestAFolderInUseIsNamed(t *testing.T) {
	dir := t.TempDir()
	openLog(t, dir, Options{})
	_, err := Open(dir, Options{})
	wantKind(t, err, stream.FolderInUse)
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %q does not name the folder %s", err, dir)
	}
}

func TestAFolderWhoseLockCannotBeMadeIsNotInUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "LOCK"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if err == nil || stream.KindOf(err) == stream.FolderInUse || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder whose lock cannot be made: %v", err)
	}
}

func TestCommitOrderFencesAndRefusals(t *testing.T) {
	fs := vfs.NewMem()
	l, stop := startLog(t, "log", Options{FS: fs})
	if err := l.Create(t.Context(), Spec{ID: shard0}); err != nil {
		t.Fatal(err)
	}
	for _, b := range []struct {
		tx      *pb.Transaction
		subtask uint32
		block   uint64
		text    string
	}{
		{tx(1, 1), 1, 0, "d"}, {tx(1, 1), 0, 1, "c"}, {tx(1, 1), 0, 0, "b"}, {tx(1, 2), 0, 0, "x"}, {tx(1, 3), 0, 0, "e"},
		{tx(1, 1), 0, 0, "b"}, // sent again
	} {
		if err := l.Stage(t.Context(), shard0, b.tx, b.subtask, b.block, makeBlock(b.text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := l.Append(t.Context(), shard0, makeBlock("a")); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 2, 2), count(1, 2, 2)})
	wantKind(t, err, stream.Incomplete)
	wantRecords(t, l, shard0, "a")
	if n, already, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 2, 2), count(1, 1, 1)}); n != 3 || already || err != nil {
		t.Errorf("commit: %d, %v, %v", n, already, err)
	}
	wantKind(t, l.Stage(t.Context(), shard0, tx(1, 1), 0, 2, makeBlock("late")), stream.InvalidArgument)
	wantRecords(t, l, shard0, "a", "b", "c", "d")
	stop()

	l = openLog(t, "log", Options{FS: fs})
	if n, err := l.Fence(t.Context(), shard0, "lineage", "sink", 2, []*pb.Transaction{tx(1, 3)}); n != 1 || err != nil {
		t.Errorf("the fence dropped %d blocks (%v), want 1", n, err)
	}
	_, err = l.Fence(t.Context(), shard0, "lineage", "sink", 1, nil)
	wantKind(t, err, stream.StaleEpoch)
	_, _, err = l.Commit(t.Context(), shard0, tx(1, 2), []*pb.StagedCount{count(0, 1, 1)})
	wantKind(t, err, stream.StaleEpoch)
	wantKind(t, l.Stage(t.Context(), shard0, tx(1, 4), 0, 0, makeBlock("zombie")), stream.StaleEpoch)
	if n, already, err := l.Commit(t.Context(), shard0, tx(1, 1), []*pb.StagedCount{count(0, 2, 2), count(1, 1, 1)}); n != 3 || !already || err != nil {
		t.Errorf("second commit: %d, %v, %v", n, already, err)
	}
	if _, _, err := l.Commit(t.Context(), shard0, tx(1, 3), []*pb.StagedCount{count(0, 1, 1)}); err != nil {
		t.Errorf("commit of what the fence kept: %v", err)
	}
	wantRecords(t, l, shard0, "a", "b", "c", "d", "e")
}

func TestRetentionHidesInOrderAndForGood(t *testing.T) {
	fs := vfs.NewMem()
	now := clock.NewVirtual(time.UnixMilli(1_000_000))
	l, stop := startLog(t, "log", Options{FS: fs, Clock: now})
	create := func(l *Log, keep time.Duration) {
		t.Helper()
		if err := l.Create(t.Context(), Spec{ID: shard0, Retention: keep}); err != nil {
			t.Fatal(err)
		}
	}
	create(l, time.Hour)
	for i, text := range []string{"a", "b", "c"} {
		if _, _, err := l.Append(t.Context(), shard0, makeBlock(text)); err != nil {
			t.Fatal(err)
		}
		te := uint64(i + 1)
		if err := l.Stage(t.Context(), shard0, tx(1, te), 0, 0, makeBlock(text+"2")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Commit(t.Context(), shard0, tx(1, te), []*pb.StagedCount{count(0, 1, 1)}); err != nil {
			t.Fatal(err)
		}
		now.Advance(time.Second)
	}
	wantRecords(t, l, shard0, "a", "a2", "b", "b2", "c", "c2")
	create(l, 2*time.Second)
	wantRecords(t, l, shard0, "b", "b2", "c", "c2")
	create(l, time.Hour)
	wantRecords(t, l, shard0, "b", "b2", "c", "c2")
	a, err := l.Read(t.Context(), shard0, ReadRequest{At: stream.Position{From: stream.FromAfterSequence, Sequence: shard0.sequence(1)}, MaxRecords: 1, MaxBytes: 1})
	if err != nil || a.Skipped != 1 {
		t.Errorf("a reader that retention overtook skips %d records (%v), want 1", a.Skipped, err)
	}
	now.Advance(2 * time.Hour)
	create(l, time.Hour)
	wantRecords(t, l, shard0)
	stop()
	l = openLog(t, "log", Options{FS: fs, Clock: now})
	wantRecords(t, l, shard0)
	if first, _, err := l.Append(t.Context(), shard0, makeBlock("d")); err != nil || first.Place() != 7 {
		t.Errorf("the record after all that is gone has place %d (%v), want 7", first.Place(), err)
	}
	staged, err := l.scan(keyStaged, &shard0)
	if err != nil {
		t.Fatal(err)
	}
	if staged.next() {
		t.Errorf("staged block %x outlived its retention", staged.key)
	}
	if err := staged.close(); err != nil {
		t.Fatal(err)
	}
}
