package shardlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/internal/clock"
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// lifeFolder is what every error of a life must name.
const lifeFolder = "data/shards"

var (
	lifeParent, lifeChild = ID{7, 0}, ID{7, 2}
	lifeTrimmed           = ID{7, 1}
	lifeDropped           = ID{8, 0}
)

// life is that of a log from its first start to its end, on a disk that fails.
type life struct {
	disk *vfs.MemFS // below the failures
	opt  Options
	now  *clock.Virtual
	log  *Log

	// acked are the records of each shard that are to be there, in their order;
	// the first of them may be gone where trimming says so, and must be where
	// trimmed does.
	acked             map[ID][]string
	tried             map[string]bool
	trimming, trimmed bool
	sealed, dropped   bool
	dropping          bool
}

// TestEveryOperationOfTheDiskFails lets operation 1, 2, 3 … of the file system
// fail, it alone or all from there on, while a log is opened, written, sealed,
// trimmed and closed. What was acknowledged is there once the disk works again, also
// where the power went; the first thing that could not be done is an error that
// names the folder. Nobody waits for good.
func TestEveryOperationOfTheDiskFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		after  bool
		stride int64
	}{{"once", false, 1}, {"from there on", true, 3}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			unharmed, failed := 0, map[string]int{} // by kind of file
			rounds, sampled := 0, raceEnabled || testing.Short()
			for n, stride := int64(1), c.stride; ; n, rounds = n+stride, rounds+1 {
				if sampled {
					stride = 5 + n/20
				}
				var op atomic.Int64
				var first atomic.Pointer[errorfs.Op]
				l := newLife(func(o errorfs.Op) error {
					i := op.Add(1)
					if i == n {
						first.Store(&o)
					}
					if i == n || c.after && i > n {
						return errors.New("injected")
					}
					return nil
				})
				var err error
				within(t, fmt.Sprint("operation ", n), func() { err = l.run(t.Context()) })
				at := first.Load()
				if at == nil {
					if err != nil {
						t.Fatalf("without a failure: %v", err)
					}
					t.Logf("%d operations", n-1)
					break
				}
				what := fmt.Sprintf("operation %d, kind %d of %s, failed", n, at.Kind, at.Path)
				if err == nil {
					unharmed++
				} else {
					failed[kindOf(at.Path)]++
					if !strings.Contains(err.Error(), lifeFolder) || !strings.Contains(err.Error(), "injected") {
						t.Errorf("%s: the error does not name the folder and the cause: %v", what, err)
					}
				}
				lost := 100 * (rounds % 2) // of what is not synced: the process or the power ended
				within(t, what, func() {
					if broken := l.check(t.Context(), 100-lost); broken != nil {
						t.Errorf("%s, and the log said %v: %d %% of what is not synced is lost: %v", what, err, lost, broken)
					}
				})
			}
			t.Logf("%d of %d failures were survived, the others were those of %v", unharmed, rounds, failed)
			for _, kind := range []string{"MANIFEST-", ".log", ".sst", "shards"} {
				if failed[kind] == 0 && !sampled {
					t.Errorf("no failure of %s was seen", kind)
				}
			}
		})
	}
}

// kindOf is a file's name without its number, or the extension behind that.
func kindOf(name string) string {
	base := path.Base(name)
	if at := strings.IndexAny(base, "0123456789"); at == 0 {
		return path.Ext(base)
	} else if at > 0 {
		return base[:at]
	}
	return base
}

// within fails a test whose goroutines wait for good.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		stacks := make([]byte, 16<<20)
		t.Fatalf("%s: it hangs\n%s", what, stacks[:goruntime.Stack(stacks, true)])
	}
}

func newLife(inject errorfs.InjectorFunc) *life {
	l := &life{disk: vfs.NewCrashableMem(), now: clock.NewVirtual(time.UnixMilli(1_000_000)), acked: map[ID][]string{}, tried: map[string]bool{}}
	l.opt = Options{FS: errorfs.Wrap(l.disk, inject), Clock: l.now, CacheBytes: 1 << 20, MemTableBytes: 64 << 10}
	return l
}

// run returns what went wrong first, nil if nothing did.
func (l *life) run(ctx context.Context) error {
	log, err := Open(lifeFolder, l.opt)
	if err != nil {
		return err
	}
	l.log = log
	running, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- log.Run(running) }()
	for _, step := range []func(context.Context) error{l.fill, l.seal, l.move, l.trim, l.drop, l.fillChild, l.readAll} {
		if err = step(ctx); err != nil {
			// Whatever it is, others are answered.
			_ = l.append(ctx, lifeChild, "behind")
			_ = l.readAll(ctx)
			break
		}
	}
	cancel()
	if ended := <-ran; err == nil {
		err = ended
	}
	if closed := log.Close(); err == nil {
		err = closed
	}
	return err
}

// large is a text that fills the log's memory soon, and is told by its name.
func large(name string) string { return name + strings.Repeat(" ", 12<<10) }

func (l *life) append(ctx context.Context, id ID, name string) error {
	l.tried[name] = true
	_, _, err := l.log.Append(ctx, id, makeBlock(large(name)))
	if err == nil {
		l.acked[id] = append(l.acked[id], name)
	}
	return err
}

func (l *life) stage(ctx context.Context, id ID, tx *pb.Transaction, names ...string) error {
	for i, name := range names {
		l.tried[name] = true
		if err := l.log.Stage(ctx, id, tx, 0, uint64(i), makeBlock(name)); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) commit(ctx context.Context, id ID, tx *pb.Transaction, names ...string) error {
	_, _, err := l.log.Commit(ctx, id, tx, []*pb.StagedCount{count(0, uint64(len(names)), uint64(len(names)))})
	if err == nil {
		l.acked[id] = append(l.acked[id], names...)
	}
	return err
}

func (l *life) fill(ctx context.Context) error {
	if err := l.log.Create(ctx, Spec{ID: lifeParent}, Spec{ID: lifeTrimmed}, Spec{ID: lifeDropped}); err != nil {
		return err
	}
	for i := range 8 {
		for _, id := range []ID{lifeParent, lifeTrimmed, lifeDropped} {
			if err := l.append(ctx, id, fmt.Sprint("fill", id, ".", i)); err != nil {
				return err
			}
		}
		if i%4 != 0 {
			continue
		}
		names := []string{fmt.Sprint("tx", i, "a"), fmt.Sprint("tx", i, "b")}
		if err := l.stage(ctx, lifeTrimmed, tx(1, uint64(i)), names...); err != nil {
			return err
		}
		if err := l.commit(ctx, lifeTrimmed, tx(1, uint64(i)), names...); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) seal(ctx context.Context) error {
	if err := l.stage(ctx, lifeParent, tx(1, 99), "moved0", "moved1"); err != nil {
		return err
	}
	err := l.log.Create(ctx, Spec{ID: lifeParent, Sealed: true}, Spec{ID: lifeChild})
	l.sealed = err == nil
	return err
}

func (l *life) move(ctx context.Context) error {
	counts := []*pb.StagedCount{count(0, 2, 2)}
	blocks, _, err := l.log.Staged(ctx, lifeParent, tx(1, 99), counts)
	if err != nil {
		return err
	}
	for i, b := range blocks {
		if err := l.log.Stage(ctx, lifeChild, tx(1, 99), 0, uint64(i), b); err != nil {
			return err
		}
	}
	if err := l.commit(ctx, lifeChild, tx(1, 99), "moved0", "moved1"); err != nil {
		return err
	}
	_, _, err = l.log.Moved(ctx, lifeParent, tx(1, 99), counts)
	return err
}

// trim hides all but the last record of a shard.
func (l *life) trim(ctx context.Context) error {
	l.now.Advance(time.Hour)
	if err := l.append(ctx, lifeTrimmed, "kept"); err != nil {
		return err
	}
	l.trimming = true
	err := l.log.Create(ctx, Spec{ID: lifeTrimmed, Retention: time.Minute})
	l.trimmed = err == nil
	return err
}

func (l *life) drop(ctx context.Context) error {
	l.dropping = true
	err := l.log.Drop(ctx, lifeDropped.Generation)
	l.dropped = err == nil
	return err
}

func (l *life) fillChild(ctx context.Context) error {
	for i := range 24 {
		if err := l.append(ctx, lifeChild, fmt.Sprint("child.", i)); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) readAll(ctx context.Context) error {
	for _, id := range l.log.Shards() {
		if _, err := l.names(ctx, l.log, id); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) names(ctx context.Context, log *Log, id ID) ([]string, error) {
	read := loss{}
	got, err := read.readShard(ctx, log, id)
	names := make([]string, len(got))
	for i, p := range got {
		names[i] = strings.TrimSpace(p.text)
	}
	return names, err
}

// check opens what is left of the disk, compares it with what was acknowledged, and
// goes on from there.
func (l *life) check(ctx context.Context, unsynced int) error {
	disk := l.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, 1))})
	open := func(f func(*Log) error) error {
		log, err := Open(lifeFolder, Options{FS: disk, Clock: l.now, CacheBytes: 1 << 20, MemTableBytes: 64 << 10})
		if err != nil {
			return err
		}
		running, cancel := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() { ran <- log.Run(running) }()
		err = f(log)
		cancel()
		return errors.Join(err, <-ran, log.Close())
	}
	if err := open(func(log *Log) error { return errors.Join(l.compare(ctx, log), l.goOn(ctx, log)) }); err != nil {
		return err
	}
	disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
	if err := open(func(log *Log) error {
		got, err := l.names(ctx, log, ID{9, 0})
		if err == nil && !slices.Equal(got, []string{"later"}) {
			err = fmt.Errorf("what was acknowledged after that is %q", got)
		}
		return err
	}); err != nil {
		return fmt.Errorf("after the next start: %w", err)
	}
	return nil
}

func (l *life) goOn(ctx context.Context, log *Log) error {
	if err := log.Create(ctx, Spec{ID: ID{9, 0}}); err != nil {
		return err
	}
	_, _, err := log.Append(ctx, ID{9, 0}, makeBlock("later"))
	return err
}

func (l *life) compare(ctx context.Context, log *Log) error {
	for id, want := range l.acked {
		if held := slices.Contains(log.Shards(), id); id == lifeDropped && l.dropping && (l.dropped || !held) {
			if held {
				return fmt.Errorf("shard %v was dropped and is there", id)
			}
			continue
		}
		got, err := l.names(ctx, log, id)
		if err != nil {
			return err
		}
		if id == lifeTrimmed && l.trimming && (l.trimmed || len(got) == 1) {
			want = []string{"kept"}
			if !slices.Equal(got, want) {
				return fmt.Errorf("shard %v was trimmed: it holds %q", id, got)
			}
		}
		if err := l.holds(got, want); err != nil {
			return fmt.Errorf("shard %v: %w", id, err)
		}
	}
	if l.sealed {
		if _, sealed, err := log.Sealed(lifeParent); !sealed || err != nil {
			return fmt.Errorf("shard %v is no longer sealed: %v", lifeParent, err)
		}
	}
	return nil
}

// holds says whether got is want, with more that was tried between.
func (l *life) holds(got, want []string) error {
	at := 0
	for _, name := range got {
		if !l.tried[name] {
			return fmt.Errorf("record %q was never written", name)
		}
		if at < len(want) && name == want[at] {
			at++
		}
	}
	if at < len(want) {
		return fmt.Errorf("record %q was acknowledged and is missing, or out of place, in %q", want[at], got)
	}
	return nil
}
