package operator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
)

func length(s string) int { return len(s) }

// texts makes a batch of a keyed edge, whose key is the length of the text.
func texts(t testing.TB, at int64, values ...string) *batch.Batch[string] {
	hash, err := keygroup.HasherOf[int]()
	if err != nil {
		t.Fatal(err)
	}
	b := &batch.Batch[string]{}
	for _, v := range values {
		k := length(v)
		b.AppendKeyed(v, at, hash(&k))
	}
	return b
}

// Both inputs work on the state and the timers of one key.
func TestTwoInputsShareStateAndTimers(t *testing.T) {
	op := NewKeyedCoProcess(digit, length,
		func(ctx *Context, cur *state.Current[int]) (f KeyedCoFunction[int, int, string, fired], err error) {
			sum, err := state.NewValue[int, int](ctx.State, cur, "sum")
			if err != nil {
				return f, err
			}
			timers, err := timer.New[int](ctx.State, "timers")
			f.Left = func(_ *Call, v int, _ func(fired)) error {
				sum.Set(sum.Get() + v)
				return nil
			}
			f.Right = func(c *Call, v string, emit func(fired)) error {
				timers.Register(c.Time()+10, cur.Hash(), cur.Key())
				emit(fired{cur.Key(), v, sum.Get()})
				return nil
			}
			f.EventTimers = timers
			f.OnEventTime = func(c *Call, emit func(fired)) error {
				emit(fired{cur.Key(), "timer", sum.Get()})
				return nil
			}
			return f, err
		})
	newRig(t).open(t, op)
	out := attach(op, "", &collect[fired]{})
	left, right := op.Input(0).(Stage[int]), op.Input(1).(Stage[string])
	if op.Input(2) != nil {
		t.Error("it has a third input")
	}
	for _, err := range []error{
		right.Push(texts(t, 5, "abc")),
		left.Push(keyed(t, 3, 13, 4)),
		right.Push(texts(t, 15, "xyz", "four")),
		left.Push(keyed(t, 23)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := op.Watermark(20); err != nil {
		t.Fatal(err)
	}
	want := []row[fired]{
		{fired{3, "abc", 0}, 5}, {fired{3, "xyz", 16}, 15}, {fired{4, "four", 4}, 15}, {fired{3, "timer", 39}, 15},
	}
	if diff := cmp.Diff(want, out.rows); diff != "" {
		t.Error(diff)
	}
}

func TestTwoInputsWithoutKeys(t *testing.T) {
	odd := Tag[int]{"odd"}
	n := 0
	op := NewCoProcess(
		func(c *Call, v int, emit func(string)) error {
			n += v
			if v%2 == 1 {
				EmitTo(c, odd, v)
			}
			return nil
		},
		func(c *Call, v string, emit func(string)) error {
			for range n {
				emit(v)
			}
			return nil
		}, odd)
	newRig(t).open(t, op)
	out, side := attach(op, "", &collect[string]{}), attach(op, "odd", &collect[int]{})
	left, right := op.Input(0).(Stage[int]), op.Input(1).(Stage[string])
	for _, err := range []error{left.Push(batchOf(1, 2)), right.Push(batchOf("x")), left.Push(batchOf(7)), right.Push(batchOf[string]())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]row[string]{{"x", 100}, {"x", 100}, {"x", 100}}, out.rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]row[int]{{1, 100}, {7, 100}}, side.rows); diff != "" {
		t.Error(diff)
	}
}
