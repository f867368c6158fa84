package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/keygroup"
)

// memoryDisk is a Disk that holds what it is given, and takes every misuse for an
// error: a key that is put twice, or removed without having been there.
type memoryDisk struct {
	mu struct {
		sync.Mutex
		pages  map[PageKey][]byte
		gone   map[uint64]bool // tables of which a range was removed
		misuse error
		fail   func(op string) error
	}
	numbers      atomic.Uint64
	reads, puts  atomic.Int64
	batchesEnded atomic.Int64
}

func newMemoryDisk() *memoryDisk {
	d := &memoryDisk{}
	d.mu.pages, d.mu.gone = map[PageKey][]byte{}, map[uint64]bool{}
	return d
}

func (d *memoryDisk) Number() uint64 { return d.numbers.Add(1) }

func (d *memoryDisk) failing(op string) error {
	if d.mu.fail == nil {
		return nil
	}
	return d.mu.fail(op)
}

func (d *memoryDisk) Read(key PageKey, f func([]byte) error) error {
	d.reads.Add(1)
	d.mu.Lock()
	b, ok := d.mu.pages[key]
	err := d.failing("read")
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%v is not on the disk", key)
	}
	b = slices.Clone(b)
	defer clear(b) // what f keeps is not its own
	return f(b)
}

func (d *memoryDisk) Batch() DiskBatch { return &memoryBatch{d: d} }

type memoryBatch struct {
	d    *memoryDisk
	todo []func()
}

func (b *memoryBatch) Put(key PageKey, bytes []byte) {
	bytes = slices.Clone(bytes)
	b.d.puts.Add(1)
	b.todo = append(b.todo, func() {
		if _, ok := b.d.mu.pages[key]; ok {
			b.d.mu.misuse = fmt.Errorf("%v is put twice", key)
		}
		b.d.mu.pages[key] = bytes
	})
}

func (b *memoryBatch) Remove(key PageKey) {
	b.todo = append(b.todo, func() {
		if _, ok := b.d.mu.pages[key]; !ok && !b.d.mu.gone[key.Table] {
			b.d.mu.misuse = fmt.Errorf("%v is removed and not there", key)
		}
		delete(b.d.mu.pages, key)
	})
}

func (b *memoryBatch) RemoveTable(table, first, last uint64) {
	b.todo = append(b.todo, func() {
		b.d.mu.gone[table] = true
		for k := range b.d.mu.pages {
			if k.Table == table && k.Hash >= first && k.Hash <= last {
				delete(b.d.mu.pages, k)
			}
		}
	})
}

func (b *memoryBatch) Commit() error {
	b.d.batchesEnded.Add(1)
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	if err := b.d.failing("commit"); err != nil {
		return err
	}
	for _, f := range b.todo {
		f()
	}
	return b.d.mu.misuse
}

// checkDisk checks, for a store of which no snapshot is under way, that memory
// and disk hold the same: each content that a page or stub names is there, no
// other is, and what is counted is what there is.
func (t *tables) checkDisk(tt *testing.T) {
	tt.Helper()
	t.s.bury()
	t.s.unhold(t.s.epoch)
	tier := t.s.tier
	for tier.unknown.len()+tier.garbage.len()+tier.retired.len() > 0 {
		tier.ease(0)
	}
	named := map[PageKey]bool{}
	bytes := int64(0)
	count := func(root ref, of *Stats, size func(p *page) int) {
		if root == nil {
			return
		}
		for pages := (walk{stack: []ref{root}}); ; {
			p := pages.next()
			if p == nil {
				return
			}
			if p.class == 0 || p.epoch == 0 {
				named[p.key()] = true
			}
			of.Bytes += size(p)
		}
	}
	for _, tab := range tier.tables {
		var sum Stats
		count(tab.root, &sum, tab.of.sizeIn)
		got := tab.bytes
		bytes += int64(tab.heap)
		bytes += int64(got)
		if got != sum.Bytes {
			tt.Errorf("%s counts %d bytes, its pages have %d", tab.of.name, got, sum.Bytes)
		}
	}
	if bytes != tier.bytes {
		tt.Errorf("the tier counts %d bytes, its tables %d", tier.bytes, bytes)
	}
	d := tier.disk.(*memoryDisk)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.misuse != nil {
		tt.Error(d.mu.misuse)
	}
	lost, left := 0, 0
	for k := range named {
		if _, ok := d.mu.pages[k]; !ok {
			lost++
		}
	}
	for k := range d.mu.pages {
		if !named[k] {
			left++
		}
	}
	if lost > 0 || left > 0 {
		tt.Errorf("of %d contents that pages name %d are not on the disk, %d others are", len(named), lost, left)
	}
}

func (l *layout) sizeIn(p *page) int {
	if p.class == 0 {
		return stubSize
	}
	return l.size(p)
}

// TestTieredStoreIsAMap is TestStoreIsAMap with next to no memory: all pages
// leave it all the time. Checkpoints are restored to memory or to a disk, as it
// comes.
func TestTieredStoreIsAMap(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	defer func() { placeOf = nil }()
	start := uint64(time.Now().UnixNano())
	for i := range seeds {
		seed := start + uint64(i)
		keys := []int{12, 300, 3000}[i%3]
		budget := []int64{0, 20_000, 200_000}[i/3%3]
		t.Run(fmt.Sprintf("keys=%d,budget=%d", keys, budget), func(t *testing.T) {
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			n, reads := 0, int64(0)
			disks := []*memoryDisk{}
			placeOf = func() (Disk, *Budget) {
				if n++; n > 1 && n%2 == 0 {
					return nil, nil
				}
				d := newMemoryDisk()
				disks = append(disks, d)
				return d, NewBudget(budget)
			}
			drive(t, rng, keys)
			for _, d := range disks {
				reads += d.reads.Load()
				if d.mu.misuse != nil {
					t.Error(d.mu.misuse)
				}
			}
			if budget == 0 && keys >= 300 && reads < 1000 {
				t.Errorf("%d reads: this proves nothing", reads)
			}
		})
	}
}

// What moved to another process does not stay on the disk of this one.
func TestForsakenPagesLeaveTheDisk(t *testing.T) {
	d := newMemoryDisk()
	old := NewStore(everything)
	old.UseDisk(d, NewBudget(0))
	tab := newTable[uint64, uint64](t, old, "t")
	for k := range uint64(20_000) {
		tab.Upsert(hashOf(k), k)
		old.Ease()
	}
	old.Freeze(false).Release()
	if err := old.Detach(); err != nil {
		t.Fatal(err)
	}
	before := len(d.mu.pages)
	now := NewStore(keygroup.RangeOf(1, 3, everything.N))
	now.UseDisk(d, NewBudget(0))
	mine := newTable[uint64, uint64](t, now, "t")
	if err := now.Adopt([]*Store{old}, Restore{}); err != nil {
		t.Fatal(err)
	}
	if err := Forsake([]*Store{old}, []*Store{now}); err != nil {
		t.Fatal(err)
	}
	named := 0
	for pages := (walk{stack: []ref{mine.root}}); ; named++ {
		p := pages.next()
		if p == nil {
			break
		}
		if _, ok := d.mu.pages[p.key()]; p.class == 0 && !ok {
			t.Fatalf("the page at %x is gone", p.prefix)
		} else if p.class > 0 && p.epoch > 0 {
			named--
		}
	}
	if len(d.mu.pages) != named || named < before/4 || named > before/2 {
		t.Errorf("of %d pages on the disk %d are left, and %d are in use", before, len(d.mu.pages), named)
	}
	n := 0
	for from, done := uint64(0), false; !done; {
		from, done = mine.Scan(from, 100, func(uint64, *uint64, *uint64) bool { n++; return true })
		now.Ease()
	}
	if n != mine.Len() {
		t.Errorf("%d keys of %d", n, mine.Len())
	}
}

// A read, or a write, that fails ends the store, with an error that says so; the next
// Ease has it again.
func TestADiskThatFailsEndsTheStore(t *testing.T) {
	for _, op := range []string{"read", "commit"} {
		d := newMemoryDisk()
		s := NewStore(everything)
		s.UseDisk(d, NewBudget(0))
		tab := newTable[uint64, uint64](t, s, "t")
		work := func() (err error) {
			defer s.caught(&err)
			for k := range uint64(2000) {
				tab.Upsert(hashOf(k), k)
				s.Ease()
			}
			return nil
		}
		if err := work(); err != nil {
			t.Fatal(err)
		}
		d.mu.fail = func(at string) error {
			if at == op {
				return errInjected
			}
			return nil
		}
		for _, again := range []string{"", ", again"} {
			var disk *DiskError
			if err := work(); !errors.Is(err, errInjected) || !errors.As(err, &disk) || disk.ErrorCode() != "state-disk-failed" {
				t.Errorf("%s fails%s: %v", op, again, err)
			}
		}
		if err := s.Detach(); err == nil {
			t.Errorf("%s failed, and others may take the state over", op)
		}
	}
}

var errInjected = errors.New("injected")
