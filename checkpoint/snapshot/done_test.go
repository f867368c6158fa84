package snapshot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Whether changes come all over, or about in the order of key groups, which then are
// done, in memory or with parts on disk: the run is the same.
func TestRunsOfGroupsThatAreDoneAreTheSame(t *testing.T) {
	type put struct {
		group      int
		state      string
		ns         int64
		key, value string
	}
	add := func(w *Writer, p put) {
		if p.value[0] == '1' {
			w.Delete(p.group, p.state, p.ns, []byte(p.key))
		} else {
			w.Put(p.group, p.state, p.ns, []byte(p.key), []byte(p.value))
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	apart, parts := 0, 0
	for range 40 {
		groups := []int{1, 7, 128}[rng.IntN(3)]
		first := rng.IntN(groups)
		last := first + rng.IntN(groups-first)
		begin := func(memory int) *Writer {
			w := NewWriter(groups)
			w.Own(first, last)
			if memory > 0 {
				w.Spill(Scratch{Folder: t.TempDir(), Memory: memory})
			}
			for i := range 4 { // s3 has no changes
				w.State(fmt.Sprint("s", i))
			}
			w.Drop("s3", 1)
			return w
		}
		plain := begin(0)
		steps := make([][]put, groups) // some come before the turn of their key group
		for range rng.IntN(4000) {
			n, group := rng.IntN(300), last
			if rng.IntN(3) > 0 {
				group = first + rng.IntN(last-first+1)
			}
			p := put{group, fmt.Sprint("s", rng.IntN(3)), int64(rng.IntN(3)), fmt.Sprint(n), fmt.Sprint(rng.Uint64())}
			step := max(first, p.group-n%3)
			steps[step] = append(steps[step], p)
			add(plain, p)
		}
		want := finish(t, plain)
		for _, memory := range []int{0, 1000, 20_000, 1 << 20} {
			w := begin(memory)
			begun := false
			for g := first; g <= last; g++ {
				for _, p := range steps[g] {
					begun = begun || w.begun != nil && w.begun.entries > 0
					add(w, p)
				}
				w.Done(g)
			}
			if begun && w.parts != nil {
				parts++
			}
			got := finish(t, w)
			if !bytes.Equal(content(t, got), want.Bytes) {
				t.Fatalf("groups %d to %d, %d bytes of memory: another run", first, last, memory)
			}
			if got.apart != nil {
				apart++
			}
		}
	}
	if apart == 0 || parts == 0 {
		t.Errorf("%d not in one piece, %d with parts after what was done: this proves nothing", apart, parts)
	}
}

// What was done before a part had to go to disk has blocks larger than those of parts.
func TestLargeBlocksThatWereDoneArePartsToo(t *testing.T) {
	begin := func(s Scratch) *Writer {
		w := NewWriter(2)
		if s.Folder != "" {
			w.Spill(s)
		}
		for group, n := range []int{40, 120} {
			for i := range n {
				w.Put(group, "s", 0, fmt.Appendf(nil, "%03d", i), bytes.Repeat([]byte{byte(i)}, 8<<10))
			}
			w.Done(group)
		}
		return w
	}
	w := begin(Scratch{Folder: t.TempDir(), Memory: 400 << 10})
	if w.parts == nil || w.parts.list[0].length < 9*partBlock {
		t.Fatalf("%+v: no large part", w.parts)
	}
	if got, want := finish(t, w), finish(t, begin(Scratch{})); !bytes.Equal(content(t, got), content(t, want)) {
		t.Error("another run")
	}
}
