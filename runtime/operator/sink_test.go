package operator

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/sink"
)

// ledger is a transactional sink whose handles name what was written.
type ledger struct {
	open     []int
	flushes  int
	failNext bool
}

func (l *ledger) Open(context.Context, sink.Env) (sink.Writer[int], error) { return l, nil }
func (l *ledger) Write(b *batch.Batch[int]) error                          { l.open = append(l.open, b.Values...); return nil }
func (l *ledger) Flush() error                                             { l.flushes++; return nil }
func (l *ledger) Close() error                                             { return nil }

func (l *ledger) Prepare(id uint64) (func(context.Context) ([]byte, error), error) {
	rows := l.open
	l.open = nil
	return func(context.Context) ([]byte, error) {
		if l.failNext {
			l.failNext = false
			return nil, errPlanted
		}
		if len(rows) == 0 {
			return nil, nil
		}
		return fmt.Append(nil, id, rows), nil
	}, nil
}

func (l *ledger) Recover(context.Context, sink.Env, uint64, []sink.Handle) error { return nil }
func (l *ledger) Commit(context.Context, sink.Env, uint64, []sink.Handle) error  { return nil }

func barrierAt(t *testing.T, op Operator, id uint64) (handles []string, err error) {
	t.Helper()
	if err := op.(Flusher).Flush(); err != nil {
		t.Fatal(err)
	}
	snap := Snapshot{CheckpointID: id}
	if err := op.(Snapshotter).Snapshot(&snap); err != nil {
		t.Fatal(err)
	}
	for _, f := range snap.Deferred {
		entries, err := f()
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.GetKind() != KindHandle {
				t.Errorf("entry of kind %s", e.GetKind())
			}
			handles = append(handles, e.GetKey()+"="+string(e.GetValue()))
		}
	}
	return handles, nil
}

func TestSinkKeepsHandlesUntilACheckpointWithThemCompletes(t *testing.T) {
	l := &ledger{}
	op, r := NewSink[int](l), newRig(t)
	r.open(t, op)
	write := func(v ...int) {
		if err := stage[int](op).Push(batchOf(v...)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(id uint64, want ...string) {
		t.Helper()
		got, err := barrierAt(t, op, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("checkpoint %d: %s", id, diff)
		}
	}
	write(1, 2)
	write(3)
	if r.held != 1 || r.first != 1 {
		t.Errorf("held %d times, first output %d times; want once", r.held, r.first)
	}
	check(1, "1/0=1 [1 2 3]")
	check(2, "1/0=1 [1 2 3]") // 1 was aborted; nothing new
	write(4)
	if r.held != 2 {
		t.Errorf("held %d times after two barriers, want 2", r.held)
	}
	check(3, "1/0=1 [1 2 3]", "3/0=3 [4]")
	if err := op.(Completer).CheckpointCompleted(3); err != nil {
		t.Fatal(err)
	}
	check(4)
	write(5)
	l.failNext = true
	if _, err := barrierAt(t, op, 5); !errors.Is(err, errPlanted) {
		t.Fatalf("a failed finish: %v", err)
	}
	check(6, "5/0=5 [5]")
}

// patient is a ledger that waits for the interval.
type patient struct{ ledger }

func (*patient) Patient() bool { return true }

func TestAPatientSinkAsksForNoEarlyCheckpoint(t *testing.T) {
	op, r := NewSink[int](&patient{}), newRig(t)
	r.open(t, op)
	for id := range uint64(2) {
		if err := stage[int](op).Push(batchOf(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := barrierAt(t, op, id+1); err != nil {
			t.Fatal(err)
		}
	}
	if r.held != 0 {
		t.Errorf("held %d times", r.held)
	}
}

func TestSinkFlushesOnlyWhatWasWritten(t *testing.T) {
	l := &ledger{}
	op := NewSink[int](l)
	newRig(t).open(t, op)
	for range 3 {
		if err := op.(Flusher).Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if l.flushes != 0 {
		t.Errorf("%d flushes of nothing", l.flushes)
	}
	if err := stage[int](op).Push(batchOf(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := op.Watermark(batch.EndOfTime); err != nil || l.flushes != 1 {
		t.Errorf("at the end of time: %d flushes, %v", l.flushes, err)
	}
}
