package update

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/state"
)

// TestValuesAreAskedForWhereTheyAre: where they are many, a batch's values are
// brought from memory by the hashes under which the state has them.
func TestValuesAreAskedForWhereTheyAre(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		r := newRig[result](t, NewValues(distinctNames(deletes)), false)
		o := r.op.(*keyed[int64, bid, result]).folder.(*values[int64, string, bid, [3]int64, result])
		next := int64(0)
		push := func() {
			b := &batch.Batch[bid]{}
			for range batch.Rows {
				next++
				b.Append(bid{Key: next % 3, Price: next % 20, Number: next, Name: fmt.Sprint("name-", next)}, next)
			}
			r.push(t, b)
		}
		for push(); len(o.ahead) == 0; push() {
			if next > 1<<20 {
				t.Fatalf("deletes %v: %d values, and none was asked for", deletes, next)
			}
		}
		have := map[uint64]bool{}
		if deletes {
			o.counts.Scan(0, 1<<30, func(hash uint64, _ *state.MapKey[int64, Facet[string]], _ *int64) bool {
				have[hash] = true
				return true
			})
		} else {
			o.seen.Scan(0, 1<<30, func(hash uint64, _ *state.MapKey[int64, string], _ *uint64) bool { have[hash] = true; return true })
		}
		for _, hash := range o.ahead {
			if !have[hash] {
				t.Fatalf("deletes %v: asked for %x, which no value has", deletes, hash)
			}
		}
		want := batch.Rows
		if deletes { // a price from 10 on counts in two facets
			want += batch.Rows / 2
		}
		if n := len(o.ahead); n < want-20 || n > want+20 {
			t.Errorf("deletes %v: asked for %d, want about %d", deletes, n, want)
		}
	}
}
