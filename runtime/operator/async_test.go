package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// asyncRig drives an async operator whose calls end when the test says so.
type asyncRig struct {
	*rig
	op   *async[string, string]
	out  *collect[string]
	gate chan string // results of calls, in any order
	made chan string // calls that were made
}

func newAsyncRig(t *testing.T, subtask, parallelism int, ordered bool, entries []*pb.OperatorEntry) *asyncRig {
	t.Helper()
	r := &asyncRig{rig: newRig(t), made: make(chan string, 100)}
	r.ctx.Subtask, r.ctx.Parallelism, r.ctx.Wake = subtask, parallelism, func() {}
	r.gate = make(chan string)
	results := map[string]chan struct{}{}
	for _, v := range strings.Split("abcdefghij", "") {
		results[v] = make(chan struct{})
	}
	go func() {
		for v := range r.gate {
			close(results[v])
		}
	}()
	f := func(ctx context.Context, v string) (string, error) {
		r.made <- v
		select {
		case <-results[v]:
			return strings.ToUpper(v), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	r.op = NewAsync(f, AsyncConfig[string]{Ordered: ordered, Capacity: 3, Attempts: 1}).(*async[string, string])
	r.out = attach(r.op, "", &collect[string]{})
	if err := r.op.Open(r.ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.op.Restore(entries); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(r.gate)
		if err := r.op.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// end lets calls return, one by one, and the operator work after each.
func (r *asyncRig) end(t *testing.T, values ...string) (mark int64) {
	t.Helper()
	mark = r.op.reached
	for _, v := range values {
		r.gate <- v
		<-r.op.Awaits()
		var err error
		if _, mark, err = r.op.Work(); err != nil {
			t.Fatal(err)
		}
	}
	return mark
}

func (r *asyncRig) rows() string {
	var all []string
	for _, row := range r.out.rows {
		all = append(all, fmt.Sprint(row.V, row.T))
	}
	r.out.rows = nil
	return strings.Join(all, " ")
}

func (r *asyncRig) snapshot(t *testing.T) (entries []*pb.OperatorEntry) {
	t.Helper()
	var s Snapshot
	if err := r.op.Snapshot(&s); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Deferred {
		more, err := f()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, more...)
	}
	return entries
}

// Results wait for those before them, or leave at once, but for watermarks; no more
// calls run than there is room for.
func TestAsyncResultsLeaveInTurn(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		r := newAsyncRig(t, 0, 1, ordered, nil)
		in := stage[string](r.op)
		push := func(b *batch.Batch[string]) {
			t.Helper()
			if err := in.Push(b); err != nil {
				t.Fatal(err)
			}
		}
		push(batchOf("a", "b", "c", "d"))
		if !r.op.Full() || len(r.op.inbox.mu.arrived) > 0 || r.op.running != 3 {
			t.Fatalf("full %v, %d calls", r.op.Full(), r.op.running)
		}
		mark := func(at int64) {
			t.Helper()
			if got, err := r.op.Watermark(at); err != nil || got != batch.NoTime {
				t.Fatalf("watermark %d, %v", got, err)
			}
		}
		mark(150)
		mark(200)
		push(batchOf("e", "f"))
		if got := r.end(t, "b", "c"); got != batch.NoTime {
			t.Errorf("time went on to %d", got)
		}
		want := map[bool]string{true: "", false: "B101 C102"}[ordered]
		if got := r.rows(); got != want {
			t.Errorf("ordered %v: %q left, want %q", ordered, got, want)
		}
		// e is behind a watermark that waits for a and d.
		r.end(t, "e", "a")
		want = map[bool]string{true: "A100 B101 C102", false: "A100"}[ordered]
		if got := r.rows(); got != want {
			t.Errorf("ordered %v: %q left, want %q", ordered, got, want)
		}
		if got := r.end(t, "d"); got != 200 {
			t.Errorf("ordered %v: time went on to %d", ordered, got)
		}
		if got, want := r.rows(), "D103 E100"; got != want {
			t.Errorf("ordered %v: %q left, want %q", ordered, got, want)
		}
		r.end(t, "f")
		if got := r.rows(); got != "F101" || r.op.Full() || r.op.Awaits() != nil {
			t.Errorf("%q left, full %v", got, r.op.Full())
		}
		if got, _ := r.op.Watermark(300); got != 300 {
			t.Errorf("an empty operator holds time at %d", got)
		}
	}
}

// What has not left is in the snapshot and is called for again, once, by the same
// subtask or, at another parallelism, by any.
func TestAsyncRecordsUnderWaySurvive(t *testing.T) {
	var entries []*pb.OperatorEntry
	for i, values := range [][]string{{"a", "b", "c", "d"}, {"e", "f"}} {
		r := newAsyncRig(t, i, 2, true, nil)
		if err := stage[string](r.op).Push(batchOf(values...)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			r.end(t, "a", "c") // c waits for b
			if got := r.rows(); got != "A100" {
				t.Fatalf("%q left", got)
			}
		}
		entries = append(entries, r.snapshot(t)...)
	}
	for _, c := range []struct {
		parallelism int
		want        []string
	}{{2, []string{"b101 c102 d103", "e100 f101"}}, {1, []string{"b101 c102 d103 e100 f101"}}, {3, nil}} {
		var got, all []string
		for i := range c.parallelism {
			r := newAsyncRig(t, i, c.parallelism, true, entries)
			var mine []string
			for item := r.op.queue.head; item != nil; item = item.next {
				mine = append(mine, fmt.Sprint(item.value, item.time))
			}
			got, all = append(got, strings.Join(mine, " ")), append(all, mine...)
			for range min(3, len(mine)) {
				<-r.made
			}
		}
		if d := cmp.Diff(c.want, got); c.want != nil && d != "" {
			t.Errorf("parallelism %d: %s", c.parallelism, d)
		}
		slices.Sort(all)
		if got := strings.Join(all, " "); got != "b101 c102 d103 e100 f101" {
			t.Errorf("parallelism %d: %s", c.parallelism, got)
		}
	}
	for cut := range entries[0].Value {
		r := newAsyncRig(t, 0, 2, true, nil)
		if err := r.op.Restore([]*pb.OperatorEntry{{Kind: KindAsync, Key: "0/2", Value: entries[0].Value[:cut]}}); err == nil {
			t.Fatalf("an entry that ends after %d bytes is taken", cut)
		}
	}
}
