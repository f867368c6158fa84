package timer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
)

func newTimers(t *testing.T) (*Timers[int], *state.Store) {
	t.Helper()
	s := state.NewStore(keygroup.RangeOf(0, 1, 8))
	ts, err := New[int](s, "timers")
	if err != nil {
		t.Fatal(err)
	}
	return ts, s
}

var hasher, _ = keygroup.HasherOf[int]()

func hash(key int) uint64 { return hasher(&key) }

// Timers behave as a set of (time, key), whatever was registered, deleted,
// fired and restored in between.
func TestTimersAreASet(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		ts, store := newTimers(t)
		model := map[[2]int64]bool{}
		now := int64(0)
		for range 600 {
			key, at := r.IntN(20), now+1+r.Int64N(50)
			switch r.IntN(10) {
			case 0, 1, 2, 3, 4:
				ts.Register(at, hash(key), key)
				model[[2]int64{at, int64(key)}] = true
			case 5, 6:
				ts.Delete(at, hash(key), key)
				delete(model, [2]int64{at, int64(key)})
			case 7, 8:
				now += r.Int64N(10)
				fireUpTo(t, seed, ts, now, model)
			case 9:
				f := store.Freeze(true)
				w := snapshot.NewWriter(8)
				if err := f.Write(w); err != nil {
					t.Fatal(err)
				}
				f.Release()
				run, err := w.Finish()
				if err != nil {
					t.Fatal(err)
				}
				rd, err := snapshot.Open("run", run.Bytes, 0, 7)
				if err != nil {
					t.Fatal(err)
				}
				was := store.Declared()
				ts, store = newTimers(t)
				if err := store.Load([]*snapshot.Reader{rd}, state.Restore{Declared: was}); err != nil {
					t.Fatal(err)
				}
				ts.Rebuild()
			}
			if ts.Len() != len(model) {
				t.Fatalf("seed %d: %d timers, want %d", seed, ts.Len(), len(model))
			}
		}
	}
}

func fireUpTo(t *testing.T, seed uint64, ts *Timers[int], now int64, model map[[2]int64]bool) {
	t.Helper()
	var want, got [][2]int64
	for m := range model {
		if m[0] <= now {
			want = append(want, m)
			delete(model, m)
		}
	}
	last := int64(-1)
	for more := true; more; {
		var err error
		more, err = ts.Advance(now, 3, func(at int64, h uint64, key int) error {
			if at < last || h != hash(key) {
				return fmt.Errorf("timer %d of %d fired after %d with hash %x", at, key, last, h)
			}
			last = at
			got = append(got, [2]int64{at, int64(key)})
			return nil
		})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	order := func(a, b [2]int64) int { return int(a[0]-b[0])*100 + int(a[1]-b[1]) }
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("seed %d: fired (-want +got)\n%s", seed, diff)
	}
}
