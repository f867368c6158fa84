package operator

import (
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
)

var errPlanted = errors.New("planted")

func push[T, U any](t *testing.T, op Operator, in ...T) []row[U] {
	t.Helper()
	newRig(t).open(t, op)
	out := attach(op, "", &collect[U]{})
	if err := stage[T](op).Push(batchOf(in...)); err != nil {
		t.Fatal(err)
	}
	return out.rows
}

func TestMapKeepsOrderAndTimes(t *testing.T) {
	want := []row[string]{{"1", 100}, {"2", 101}, {"3", 102}}
	if diff := cmp.Diff(want, push[int, string](t, NewMap(strconv.Itoa), 1, 2, 3)); diff != "" {
		t.Error(diff)
	}
	try := NewTryMap(func(v int) (string, error) { return strconv.Itoa(v), nil })
	if diff := cmp.Diff(want, push[int, string](t, try, 1, 2, 3)); diff != "" {
		t.Error(diff)
	}
}

func TestFilter(t *testing.T) {
	even := func(v int) bool { return v%2 == 0 }
	for _, c := range []struct {
		in   []int
		want []row[int]
	}{
		{[]int{1, 3, 5}, nil},
		{[]int{2, 4}, []row[int]{{2, 100}, {4, 101}}},
		{[]int{2, 3, 4, 5, 6, 7}, []row[int]{{2, 100}, {4, 102}, {6, 104}}},
		{[]int{1, 2}, []row[int]{{2, 101}}},
	} {
		if diff := cmp.Diff(c.want, push[int, int](t, NewFilter(even), c.in...)); diff != "" {
			t.Errorf("%v: %s", c.in, diff)
		}
	}
}

func TestFilterMap(t *testing.T) {
	half := func(v int) (string, bool) { return strconv.Itoa(v / 2), v%2 == 0 }
	for _, c := range []struct {
		in   []int
		want []row[string]
	}{
		{[]int{1, 3}, nil},
		{[]int{2, 4}, []row[string]{{"1", 100}, {"2", 101}}},
		{[]int{1, 2, 3, 4, 5}, []row[string]{{"1", 101}, {"2", 103}}},
	} {
		if diff := cmp.Diff(c.want, push[int, string](t, NewFilterMap(half), c.in...)); diff != "" {
			t.Errorf("%v: %s", c.in, diff)
		}
	}
}

func TestFilterDoesNotChangeItsInput(t *testing.T) {
	op := NewFilter(func(v int) bool { return v != 1 })
	newRig(t).open(t, op)
	attach(op, "", &collect[int]{})
	in := batchOf(0, 1, 2)
	if err := stage[int](op).Push(in); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batchOf(0, 1, 2), in); diff != "" {
		t.Errorf("a borrowed batch was changed: %s", diff)
	}
}

func TestFlatMapOvershoots(t *testing.T) {
	const each = 3*batch.Rows + 1
	op := NewFlatMap(func(v int, emit func(int)) {
		for i := range each {
			emit(v*each + i)
		}
	})
	r := newRig(t)
	r.open(t, op)
	largest := 0
	out := attach(op, "", &collect[int]{seen: func(b *batch.Batch[int]) { largest = max(largest, b.Len()) }})
	if err := stage[int](op).Push(batchOf(0, 1)); err != nil {
		t.Fatal(err)
	}
	if largest > batch.Rows {
		t.Errorf("a batch of %d rows, want at most %d", largest, batch.Rows)
	}
	if len(out.rows) != 2*each {
		t.Fatalf("%d rows, want %d", len(out.rows), 2*each)
	}
	for i, got := range out.rows {
		if want := (row[int]{i, 100 + int64(i/each)}); got != want {
			t.Fatalf("row %d: %v, want %v", i, got, want)
		}
	}
	if m := r.ctx.Metrics; m.RecordsIn != 2 || m.RecordsOut != 2*each {
		t.Errorf("counted %d in, %d out", m.RecordsIn, m.RecordsOut)
	}
}

// A failure behind a full batch in the middle of user code must not be lost.
func TestFlatMapFailureBehindIt(t *testing.T) {
	op := NewFlatMap(func(_ int, emit func(int)) {
		for i := range 2 * batch.Rows {
			emit(i)
		}
	})
	newRig(t).open(t, op)
	out := attach(op, "", &collect[int]{fail: errPlanted})
	if err := stage[int](op).Push(batchOf(1)); !errors.Is(err, errPlanted) {
		t.Fatalf("got %v", err)
	}
	if len(out.rows) != batch.Rows {
		t.Errorf("%d rows after the failure, want the %d of the batch that failed", len(out.rows), batch.Rows)
	}
}

func TestUserErrorsComeOut(t *testing.T) {
	for name, op := range map[string]Operator{
		"try map": NewTryMap(func(int) (int, error) { return 0, errPlanted }),
		"process": NewProcess(func(*Call, int, func(int)) error { return errPlanted }),
	} {
		r := newRig(t)
		r.open(t, op)
		if err := stage[int](op).Push(batchOf(1)); !errors.Is(err, errPlanted) {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.entered) == 0 || r.entered[0] != r.ctx {
			t.Errorf("%s did not enter before user code ran", name)
		}
	}
}

func TestProcessSideOutputs(t *testing.T) {
	late, odd := Tag[string]{"late"}, Tag[int]{"odd"}
	op := NewProcess(func(c *Call, v int, emit func(int)) error {
		if c.Time() <= c.Watermark() {
			EmitTo(c, late, strconv.Itoa(v))
			return nil
		}
		if v%2 == 1 {
			EmitTo(c, odd, v)
		}
		EmitTo(c, Tag[string]{"odd"}, "wrong type: nobody reads it")
		EmitTo(c, Tag[int]{"undeclared"}, v)
		emit(v)
		return nil
	}, late, odd)
	newRig(t).open(t, op)
	main, lates, odds := attach(op, "", &collect[int]{}), attach(op, "late", &collect[string]{}), attach(op, "odd", &collect[int]{})
	if op.Output("undeclared") != nil {
		t.Error("an undeclared output exists")
	}
	if got, err := op.Watermark(101); got != 101 || err != nil {
		t.Fatal(got, err)
	}
	if err := stage[int](op).Push(batchOf(0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]row[int]{{2, 102}, {3, 103}}, main.rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]row[string]{{"0", 100}, {"1", 101}}, lates.rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]row[int]{{3, 103}}, odds.rows); diff != "" {
		t.Error(diff)
	}
}
