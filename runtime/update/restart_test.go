package update

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
)

// restored is a new operator with the state of r, as after a failure right after
// a checkpoint of it.
func (r *rig[R]) restored(t *testing.T, op operator.Operator) *rig[R] {
	t.Helper()
	frozen := r.ctx.State.Freeze(true)
	defer frozen.Release()
	w := snapshot.NewWriter(keygroup.Default)
	if err := frozen.Write(w); err != nil {
		t.Fatal(err)
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	next := newRig[R](t, op, r.ctx.Batch)
	groups := next.ctx.KeyGroups
	reader, err := snapshot.Open("checkpoint", run.Bytes, groups.First, groups.Last)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.ctx.State.Load([]*snapshot.Reader{reader}, state.Restore{Declared: r.ctx.State.Declared()}); err != nil {
		t.Fatal(err)
	}
	return next
}

// TestAFailureAmongTheFinalRows: a restart between two steps of the final rows shows
// those that the checkpoint has not, and each once.
func TestAFailureAmongTheFinalRows(t *testing.T) {
	for _, c := range operators {
		t.Run(c.name, func(t *testing.T) {
			f := &feed{rng: rand.New(rand.NewPCG(1, 2)), keys: 6000, deletes: c.deletes}
			first := newRig[result](t, c.make(), true)
			for range 30 {
				first.push(t, f.batch(400))
			}
			if at, err := first.op.Watermark(1 << 62); at != 1<<62 || err != nil {
				t.Fatal(at, err)
			}
			first.step(t)
			after := first.restored(t, c.make())
			if n := len(first.out.table); n == 0 || n >= len(c.model(f.live)) {
				t.Fatalf("%d of %d rows came in the first step", n, len(c.model(f.live)))
			}
			after.end(t)
			all := maps.Clone(first.out.table)
			for row, n := range after.out.table {
				all[row] += n
			}
			if diff := cmp.Diff(c.model(f.live), all); diff != "" {
				t.Errorf("(want -, got +):\n%.2000s", diff)
			}
		})
	}
}
