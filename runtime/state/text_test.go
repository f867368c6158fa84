package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
)

// TestTextsAreAMap puts strings of all lengths, often seen and not, from memory
// that is used again at once. Pages fill, split, are copied for snapshots and
// leave for a disk meanwhile. The table and each snapshot must be what a Go map
// was at that moment.
func TestTextsAreAMap(t *testing.T) {
	type row struct {
		A, B string
		N    int
	}
	hashed, err := keygroup.HasherOf[string]()
	if err != nil {
		t.Fatal(err)
	}
	for _, tiered := range []bool{false, true} {
		t.Run(fmt.Sprint("tiered=", tiered), func(t *testing.T) {
			open := func() (*Store, *Table[string, row]) {
				s := NewStore(keygroup.RangeOf(0, 1, 16))
				if tiered {
					s.UseDisk(newMemoryDisk(), NewBudget(1<<14))
				}
				return s, newTable[string, row](t, s, "rows")
			}
			s, table := open()
			rng := rand.New(rand.NewPCG(7, 11))
			want := map[string]row{}
			memory := make([]byte, 0, 1<<13)
			borrow := func(text string) string {
				from := len(memory)
				memory = append(memory, text...)
				return unsafe.String(unsafe.SliceData(memory[from:]), len(text))
			}
			text := func() string {
				switch rng.IntN(8) {
				case 0:
					return ""
				case 1, 2:
					return strings.Repeat("common", 1+rng.IntN(5)) + string(rune('a'+rng.IntN(20)))
				case 3:
					return strings.Repeat("long ", 200+rng.IntN(50)) + fmt.Sprint(rng.Int())
				case 4:
					return fmt.Sprint(rng.Int())
				default:
					return strings.Repeat("text ", 7+rng.IntN(20)) + fmt.Sprint(rng.Int())
				}
			}
			check := func(at string, table *Table[string, row], want map[string]row) {
				t.Helper()
				got := map[string]row{}
				table.Scan(0, 1<<40, func(_ uint64, k *string, v *row) bool {
					got[strings.Clone(*k)] = row{strings.Clone(v.A), strings.Clone(v.B), v.N}
					return true
				})
				if !maps.Equal(got, want) {
					t.Fatalf("%s: %d rows, want %d, or others", at, len(got), len(want))
				}
			}
			var frozen *Frozen
			var then map[string]row
			var handed []string // out of the table
			var copies []string
			for step := range 30_000 {
				key := fmt.Sprintf("key %d of the table", rng.IntN(2500))
				hash := hashed(&key)
				switch {
				case rng.IntN(10) == 0:
					table.Delete(hash, borrow(key))
					delete(want, key)
				default:
					r := row{text(), text(), step}
					if old, ok := want[key]; ok && rng.IntN(3) == 0 {
						r.A = old.A
					}
					table.Put(hash, borrow(key), row{borrow(r.A), borrow(r.B), step})
					want[key] = r
				}
				if v, ok := table.Get(hash, key); ok && step%50 == 0 {
					handed, copies = append(handed, v.B), append(copies, strings.Clone(v.B))
				}
				for i := range memory {
					memory[i] = 'X'
				}
				memory = memory[:0]
				s.Ease()
				if step%1500 == 1000 {
					frozen, then = s.Freeze(true), maps.Clone(want)
				}
				if step%1500 == 1400 {
					run, err := writeRun(frozen, s.groups)
					if err != nil {
						t.Fatal(err)
					}
					frozen.Release()
					r, err := snapshot.Open("run", run.Bytes, 0, 15)
					if err != nil {
						t.Fatal(err)
					}
					into, restored := open()
					if err := into.Load([]*snapshot.Reader{r}, Restore{}); err != nil {
						t.Fatal(err)
					}
					check(fmt.Sprint("restored at ", step), restored, then)
				}
			}
			check("at the end", table, want)
			for i := range handed {
				if handed[i] != copies[i] {
					t.Fatalf("a string that was handed out has become %q", handed[i])
				}
			}
		})
	}
}

// TestTextsAreFewThings counts what the collector has to look after: the strings
// of a page are one thing, whatever was overwritten is gone, and what all rows say
// is there once.
func TestTextsAreFewThings(t *testing.T) {
	s := NewStore(keygroup.RangeOf(0, 1, 16))
	table := newTable[uint64, string](t, s, "texts")
	text := strings.Repeat("x", 100)
	const keys = 4000
	for round := range 6 {
		for k := range uint64(keys) {
			table.Put(hashOf(k), k, fmt.Sprint(text, round, k))
		}
	}
	chunks, size := map[uintptr]bool{}, 0
	eachLeaf(table.root, 0, 0, 0, 1<<64-1, func(g graft) {
		eachHash(g.p, func(i uint32, _ uint64) {
			at := uintptr(unsafe.Pointer(unsafe.StringData(*(*string)(table.of.val(g.p, i)))))
			if chunk := at / textChunk; !chunks[chunk] {
				chunks[chunk], size = true, size+textChunk
			}
		})
	})
	if least := keys * 104; size > 4*least || len(chunks) > keys/4 {
		t.Errorf("%d chunks, up to %d bytes, for %d strings of together %d", len(chunks), size, keys, least)
	}
	common := newTable[uint64, string](t, s, "common")
	memory := []byte("the same text for all")
	for k := range uint64(keys) {
		common.Put(hashOf(k), k, unsafe.String(&memory[0], len(memory)))
	}
	shared := map[*byte]int{}
	common.Scan(0, keys, func(_ uint64, _ *uint64, v *string) bool {
		shared[unsafe.StringData(*v)]++
		return true
	})
	if len(shared) > 2 || shared[&memory[0]] > 0 {
		t.Errorf("a text that all rows have is there %d times", len(shared))
	}
}
