package tier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, opt Options) *Disk {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "tier"), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func read(t testing.TB, d *Disk, k state.PageKey) string {
	t.Helper()
	var got string
	err := d.Read(k, func(b []byte) error {
		got = string(b)
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return got
}

func TestADiskHoldsWhatItIsGiven(t *testing.T) {
	d := open(t, Options{})
	a, b, c := state.PageKey{Table: 1, Hash: 5, Version: 7}, state.PageKey{Table: 1, Hash: 1 << 63, Version: 8}, state.PageKey{Table: 2, Hash: 5, Version: 9}
	w := d.Batch()
	w.Put(a, []byte("a"))
	w.Put(b, []byte("b"))
	w.Put(c, []byte("c"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, d, a) + read(t, d, b) + read(t, d, c); got != "abc" {
		t.Fatal(got)
	}
	w = d.Batch()
	w.Remove(c)
	w.RemoveTable(1, 6, 1<<64-1)
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, d, a); got != "a" {
		t.Errorf("what is outside of the range removed is %q", got)
	}
	for _, k := range []state.PageKey{b, c} {
		if got := read(t, d, k); !strings.Contains(got, "not there") || !strings.Contains(got, d.Folder()) {
			t.Errorf("%v after its removal: %s", k, got)
		}
	}
	if err := d.Read(a, func([]byte) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("the error of who reads: %v", err)
	}
	if d.Number() == d.Number() {
		t.Error("a number comes twice")
	}
}

func TestAFolderIsEmptiedAndGoesWithItsDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "tier")
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := d.Batch()
	w.Put(state.PageKey{Table: 1, Version: 1}, []byte("old"))
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := d.db.Flush(); err != nil { // what a process that was killed leaves behind
		t.Fatal(err)
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, again, state.PageKey{Table: 1, Version: 1}); !strings.Contains(got, "not there") {
		t.Errorf("left from before: %s", got)
	}
	_ = d.Close()
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder after Close: %v", err)
	}
}

// job is a store on a disk with a model of what it holds.
type job struct {
	s     *state.Store
	t     *state.Table[uint64, string]
	p     *state.Spaces[uint64, int64]
	hash  func(*uint64) uint64
	model map[uint64]string
	slice map[uint64]int64
	ns    int64
}

func newJob(d *Disk, budget int64) (*job, error) {
	j := &job{s: state.NewStore(keygroup.RangeOf(0, 1, 64)), model: map[uint64]string{}, slice: map[uint64]int64{}}
	j.s.UseDisk(d, state.NewBudget(budget))
	var err error
	if j.hash, err = keygroup.HasherOf[uint64](); err != nil {
		return nil, err
	}
	if j.t, err = state.NewTable[uint64, string](j.s, "t"); err != nil {
		return nil, err
	}
	j.p, err = state.NewSpaces[uint64, int64](j.s, "p")
	return j, err
}

// step works at n keys. Every value read is compared.
func (j *job) step(rng *rand.Rand, n int) error {
	for i := range n {
		if i%state.Stride == 0 {
			j.s.Ease()
		}
		k := rng.Uint64N(3000)
		h := j.hash(&k)
		v, fresh := j.t.Upsert(h, k)
		if want, ok := j.model[k]; fresh == ok || *v != want {
			return fmt.Errorf("key %d is %q, want %q", k, *v, want)
		}
		*v = fmt.Sprintf("%x", rng.Uint64())
		j.model[k] = *v
		if got, ok := j.p.Space(j.ns).Get(h, k); ok != (j.slice[k] > 0) || ok && *got != j.slice[k] {
			return fmt.Errorf("key %d of the slice: %v, want %d", k, got, j.slice[k])
		}
		c, _ := j.p.Space(j.ns).Upsert(h, k)
		*c++
		j.slice[k]++
	}
	return nil
}

// run works for a while, with checkpoints. One that could not be written is
// declined, and the job goes on; err is what ended the job, if anything did.
func (j *job) run(rng *rand.Rand, rounds int) (declined, err error) {
	var writing sync.WaitGroup
	defer func() {
		writing.Wait()
		if r := recover(); r != nil {
			e, ok := r.(*state.DiskError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	for round := range rounds {
		if err := j.step(rng, 1500); err != nil {
			return declined, err
		}
		f := j.s.Freeze(round%3 == 2)
		wrote := make(chan error, 1)
		writing.Go(func() {
			w := snapshot.NewWriter(64)
			w.Own(0, 63)
			err := f.Write(w)
			if err == nil {
				_, err = w.Finish()
			}
			wrote <- err
		})
		stepped := j.step(rng, 500)
		if err := <-wrote; err != nil {
			declined = errors.Join(declined, err)
			f.Abort()
		} else {
			f.Release()
		}
		if stepped != nil {
			return declined, stepped
		}
		if round%4 == 3 {
			j.p.Drop(j.ns)
			j.ns++
			clear(j.slice)
		}
	}
	return declined, j.step(rng, 1500)
}

// TestEveryOperationOfTheDiskFailsOnce lets operation 1, 2, 3 … of the file system
// fail. A job then either goes on with the right values, or ends with an error
// that names the folder or the operation; never with another value. It does not go on
// where a snapshot met the error: what that could not read is in no checkpoint.
func TestEveryOperationOfTheDiskFailsOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	injected := errors.New("injected")
	ended, passed, snapshots := 0, 0, 0
	kinds := map[string]int{}
	for n, stride := int32(0), int32(1); ; n += stride {
		switch {
		case testing.Short():
			stride = 10 + n/4
		case n > 60:
			stride = 2 + n/20
		}
		var op atomic.Int32
		var fired atomic.Pointer[errorfs.Op]
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
			if op.Add(1) != n+1 {
				return nil
			}
			fired.Store(&o)
			return injected
		}))
		declined, err := func() (declined, err error) {
			d, err := Open("tier", Options{FS: fs, Memory: 1})
			if err != nil {
				return nil, err
			}
			d.most = 1 << 20
			defer func() { _ = d.Close() }()
			j, err := newJob(d, 30_000)
			if err != nil {
				return nil, err
			}
			return j.run(rand.New(rand.NewPCG(seed, uint64(n))), 8)
		}()
		at := fired.Load()
		if at == nil {
			if err := errors.Join(declined, err); err != nil {
				t.Fatalf("without a failure: %v", err)
			}
			break
		}
		if declined != nil {
			snapshots++
		}
		switch {
		case err == nil && declined != nil:
			t.Errorf("operation %d, %v of %s failed: the job went on after %v", n, at.Kind, at.Path, declined)
		case err == nil:
			passed++
		case errors.Is(err, injected) || strings.Contains(err.Error(), "injected"):
			ended++
			kinds[fmt.Sprint(at.Kind.ReadOrWrite())]++
		default:
			t.Errorf("operation %d, %v of %s failed: %v", n, at.Kind, at.Path, err)
		}
	}
	t.Logf("%d jobs ended with the error, %d of them after a snapshot that met it, %d went on: %v", ended, snapshots, passed, kinds)
	if ended < 20 {
		t.Errorf("%d failures were seen: this proves little", ended)
	}
}

// A disk that is full stays full: nobody waits for it.
func TestAFullDiskEndsTheJobAndHoldsNobodyUp(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if full.Load() && o.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(o.Path, ".sst") {
			return errors.New("no space left")
		}
		return nil
	}))
	d, err := Open("tier", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	full.Store(true)
	b := make([]byte, 1<<16)
	for i := range uint64(10_000) {
		w := d.Batch()
		w.Put(state.PageKey{Table: 1, Version: i + 1}, b)
		if err := w.Commit(); err != nil {
			if !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "tier") {
				t.Fatal(err)
			}
			if got := read(t, d, state.PageKey{Table: 1, Version: 1}); !strings.Contains(got, "no space left") {
				t.Errorf("a read afterwards: %.50s", got)
			}
			return
		}
	}
	t.Fatal("640 MB on a full disk")
}

// TestAFlippedBitIsAnError turns bits over in the files of a disk. What is read is
// what was written, or an error that names the folder.
func TestAFlippedBitIsAnError(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const pages, rounds, flips = 200, 20, 10
	content := func(i uint64) string { return strings.Repeat(fmt.Sprintf("page %d ", i), 300) }
	found := 0
	for range rounds {
		d := open(t, Options{Memory: 1})
		w := d.Batch()
		for i := range uint64(pages) {
			w.Put(state.PageKey{Table: 1, Hash: i << 50, Version: i + 1}, []byte(content(i)))
		}
		if err := errors.Join(w.Commit(), d.db.Flush()); err != nil {
			t.Fatal(err)
		}
		tables, err := filepath.Glob(filepath.Join(d.Folder(), "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatalf("%d tables on the disk, %v", len(tables), err)
		}
		for range flips {
			name := tables[rng.IntN(len(tables))]
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			at := rng.IntN(len(b))
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{b[at] ^ 1<<rng.IntN(8)}, int64(at))
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint64(pages) {
			switch got := read(t, d, state.PageKey{Table: 1, Hash: i << 50, Version: i + 1}); {
			case got == content(i):
			case strings.Contains(got, d.Folder()) && strings.Contains(got, "replace it, or run the job with -D state.backend.type=memory"):
				found++
			default:
				t.Fatalf("page %d is %.100q", i, got)
			}
		}
	}
	t.Logf("%d of %d pages could not be read", found, rounds*pages)
	if found < rounds {
		t.Errorf("%d flipped bits were found in %d files", found, rounds)
	}
}

// TestMemoryStaysBounded runs 100,000 keys of some 130 bytes each through 4 MB and
// looks at the heap.
func TestMemoryStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("100,000 keys")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	const budget, keys = 4 << 20, 100_000
	d := open(t, Options{Memory: budget / 8})
	s := state.NewStore(keygroup.RangeOf(0, 1, 1024))
	b := state.NewBudget(budget)
	s.UseDisk(d, b)
	tab, err := state.NewTable[uint64, string](s, "t")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := keygroup.HasherOf[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 90)
	rng := rand.New(rand.NewPCG(1, 2))
	var f *state.Frozen
	var most, mostUsed uint64
	for i := range uint64(keys + keys/4) {
		k := i
		if i >= keys {
			k = rng.Uint64N(keys)
		}
		if i%state.Stride == 0 {
			s.Ease()
		}
		v, fresh := tab.Upsert(hash(&k), k)
		if fresh != (i < keys) || !fresh && *v != fmt.Sprint(text, k) {
			t.Fatalf("key %d: %q, fresh %v", k, *v, fresh)
		}
		*v = fmt.Sprint(text, k)
		if i%10_000 == 9_999 {
			if f != nil {
				f.Release()
			}
			var m goruntime.MemStats
			goruntime.GC()
			goruntime.ReadMemStats(&m)
			most, mostUsed = max(most, m.HeapAlloc), max(mostUsed, uint64(b.Used()))
			f = s.Freeze(false)
		}
	}
	stats := s.Stats()
	t.Logf("at most %.1f MiB on the heap, %.1f of the budget of %d MiB used; %d entries, %.1f MiB in memory, %.1f on the disk", float64(most)/(1<<20),
		float64(mostUsed)/(1<<20), budget>>20, stats.Entries, float64(stats.Bytes)/(1<<20), float64(stats.Disk)/(1<<20))
	if stats.Entries != keys || stats.Disk < 4<<20 {
		t.Errorf("%+v", stats)
	}
	if most > 3*budget {
		t.Errorf("%d bytes on the heap, with a budget of %d", most, budget)
	}
	sizes := []int{}
	_ = filepath.Walk(d.Folder(), func(_ string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			sizes = append(sizes, int(i.Size()))
		}
		return nil
	})
	if len(sizes) > 0 {
		t.Logf("%d files, the largest of %d bytes", len(sizes), slices.Max(sizes))
	}
}
