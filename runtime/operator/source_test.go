package operator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/source"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// lists is a source of splits whose records are given; the status after the
// last one is too.
type lists struct {
	mu      sync.Mutex // of opened
	splits  map[string][]int64
	after   map[string]source.Status
	opened  map[string]*listReader
	bounded bool
	perPoll int
}

type listReader struct {
	src    *lists
	id     string
	at     int
	stop   int
	env    source.Env
	closed bool
}

func (l *lists) Bounded() bool { return l.bounded }

func (l *lists) Splits(context.Context, source.Env, []source.Split) ([]source.Split, error) {
	var out []source.Split
	for id := range l.splits {
		out = append(out, source.Split{ID: id, Payload: []byte("p" + id)})
	}
	return out, nil
}

func (l *lists) Open(_ context.Context, env source.Env, s source.Split, position []byte) (source.Reader[int64], error) {
	if _, ok := l.splits[s.ID]; !ok {
		return nil, fmt.Errorf("no split %s", s.ID)
	}
	r := &listReader{src: l, id: s.ID, stop: -1, env: env}
	if len(position) > 0 {
		r.at = int(binary.BigEndian.Uint64(position))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened == nil {
		l.opened = map[string]*listReader{}
	}
	l.opened[s.ID] = r
	return r, nil
}

func (r *listReader) Poll(b *batch.Batch[int64], max int) (source.Status, error) {
	all := r.src.splits[r.id]
	if r.stop >= 0 {
		all = all[:r.stop]
	}
	for n := 0; r.at < len(all) && n < r.src.perPoll && n < max; n++ {
		b.Append(all[r.at], all[r.at])
		r.at++
	}
	switch {
	case r.at < len(all):
		return source.More, nil
	case r.stop >= 0:
		return source.Ended, nil
	}
	return r.src.after[r.id], nil
}

func (r *listReader) Position() []byte { return binary.BigEndian.AppendUint64(nil, uint64(r.at)) }

func (r *listReader) StopAfter(p []byte) {
	r.stop = r.at
	if len(p) > 0 {
		r.stop = max(r.at, int(binary.BigEndian.Uint64(p)))
	}
}

func (r *listReader) Lag() (int64, int64) { return -1, int64(len(r.src.splits[r.id]) - r.at) }
func (r *listReader) Close() error        { r.closed = true; return nil }

func sourceOf(t *testing.T, r *rig, l *lists, splits ...*pb.Split) (Source, *collect[int64]) {
	t.Helper()
	op := NewSource(l, watermark.Strategy[int64]{}).(Source)
	r.open(t, op)
	out := attach(op, "", &collect[int64]{})
	if err := op.Assign(context.Background(), splits); err != nil {
		t.Fatal(err)
	}
	return op, out
}

// drain calls Work until it has no more.
func drain(t *testing.T, op Worker) int64 {
	t.Helper()
	for {
		more, w, err := op.Work()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return w
		}
	}
}

func fresh(id string) *pb.Split { return &pb.Split{Id: id, Watermark: batch.NoTime} }

func TestSourceReadsTheSplitFurthestBehind(t *testing.T) {
	l := &lists{
		splits:  map[string][]int64{"a": {10, 20, 50, 60}, "b": {15, 25, 30, 35}},
		after:   map[string]source.Status{"a": source.Ended, "b": source.Ended},
		bounded: true, perPoll: 1,
	}
	op, out := sourceOf(t, newRig(t), l, fresh("a"), fresh("b"))
	if w := drain(t, op); w != batch.EndOfTime || !op.Exhausted() {
		t.Errorf("watermark %d, exhausted %v", w, op.Exhausted())
	}
	var got []int64
	for _, r := range out.rows {
		got = append(got, r.V)
	}
	if diff := cmp.Diff([]int64{10, 15, 20, 25, 50, 30, 35, 60}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSourceWithoutSplitsIsAtItsEnd(t *testing.T) {
	op, _ := sourceOf(t, newRig(t), &lists{})
	if w := drain(t, op); w != batch.EndOfTime || !op.Exhausted() || op.Idle() {
		t.Errorf("watermark %d, exhausted %v, idle %v", w, op.Exhausted(), op.Idle())
	}
}

func TestSourceTurnsIdleAfterItsTimeNotWhileWaiting(t *testing.T) {
	r := newRig(t)
	l := &lists{
		splits: map[string][]int64{"a": {10, 20}, "b": {11}},
		after:  map[string]source.Status{"a": source.Empty, "b": source.Empty}, perPoll: 10,
	}
	op, out := sourceOf(t, r, l, fresh("a"), fresh("b"))
	if w := drain(t, op); w != 10 || op.Idle() {
		t.Fatalf("caught up: watermark %d, idle %v; want 10, false", w, op.Idle())
	}
	// a gets more and then blocks; b falls idle and no longer holds time back.
	l.splits["a"] = append(l.splits["a"], 30)
	l.after["a"] = source.Waiting
	l.opened["a"].env.Wake()
	if w := drain(t, op); w != 10 {
		t.Fatalf("watermark %d, want 10", w)
	}
	wakes := r.wakes
	r.clock.Advance(watermark.DefaultIdleAfter)
	if r.wakes == wakes {
		t.Fatal("the clock did not wake the task")
	}
	if w := drain(t, op); w != 29 || op.Idle() {
		t.Fatalf("b idle: watermark %d, idle %v; want 29, false", w, op.Idle())
	}
	r.clock.Advance(time.Hour)
	if drain(t, op); op.Idle() {
		t.Fatal("a split that waits became idle")
	}
	l.after["a"] = source.Empty
	l.opened["a"].env.Wake()
	drain(t, op)
	r.clock.Advance(watermark.DefaultIdleAfter)
	if w := drain(t, op); w != 29 || !op.Idle() {
		t.Fatalf("all idle: watermark %d, idle %v; want 29, true", w, op.Idle())
	}
	if len(out.rows) != 4 {
		t.Errorf("%d rows, want 4", len(out.rows))
	}
}

func splitsOf(t *testing.T, op Snapshotter, terminal bool) map[string]*pb.Split {
	t.Helper()
	snap := Snapshot{CheckpointID: 1, Terminal: terminal}
	if err := op.Snapshot(&snap); err != nil {
		t.Fatal(err)
	}
	out := map[string]*pb.Split{}
	for _, e := range snap.Entries {
		s := &pb.Split{}
		if err := proto.Unmarshal(e.GetValue(), s); err != nil || e.GetKind() != KindSplit || e.GetKey() != s.GetId() {
			t.Fatalf("entry %v: %v", e, err)
		}
		out[s.GetId()] = s
	}
	return out
}

func TestSourceSnapshotRestores(t *testing.T) {
	l := &lists{
		splits: map[string][]int64{"a": {10, 20, 30}, "b": {15}},
		after:  map[string]source.Status{"a": source.Empty, "b": source.Ended}, perPoll: 1,
	}
	op, out := sourceOf(t, newRig(t), l, fresh("a"), fresh("b"))
	for range 3 {
		if _, _, err := op.Work(); err != nil {
			t.Fatal(err)
		}
	}
	first := append([]row[int64](nil), out.rows...)
	saved := splitsOf(t, op, false)
	if !saved["b"].GetFinished() || saved["a"].GetFinished() {
		t.Errorf("finished: %v", saved)
	}
	opened := l.opened["b"]
	again, rest := sourceOf(t, newRig(t), l, saved["a"], saved["b"])
	if l.opened["b"] != opened {
		t.Error("a finished split was opened again")
	}
	if w := again.Reached(); w != 19 {
		t.Errorf("restored watermark %d, want 19: what was late must be late again", w)
	}
	drain(t, again)
	if diff := cmp.Diff([]row[int64]{{10, 10}, {15, 15}, {20, 20}, {30, 30}}, append(first, rest.rows...)); diff != "" {
		t.Error(diff)
	}
}

func TestSourceEmitsNothingAfterATerminalBarrier(t *testing.T) {
	l := &lists{splits: map[string][]int64{"a": {1, 2, 3}}, after: map[string]source.Status{"a": source.Ended}, perPoll: 1}
	op, out := sourceOf(t, newRig(t), l, fresh("a"))
	if _, _, err := op.Work(); err != nil {
		t.Fatal(err)
	}
	splitsOf(t, op, true)
	if w := drain(t, op); w == batch.EndOfTime || len(out.rows) != 1 {
		t.Errorf("watermark %d, %d rows after the barrier", w, len(out.rows)-1)
	}
}

func TestPanicWhileOpeningASplitIsAnError(t *testing.T) {
	op := NewSource(&panics{}, watermark.Strategy[int64]{}).(Source)
	newRig(t).open(t, op)
	err := op.Assign(context.Background(), []*pb.Split{fresh("a"), fresh("b")})
	var c *coded
	if !errors.As(err, &c) || c.code != codePanicked {
		t.Errorf("got %v", err)
	}
}

type panics struct{ lists }

func (*panics) Open(context.Context, source.Env, source.Split, []byte) (source.Reader[int64], error) {
	panic("open")
}

type tipped struct{ *lists }

func (tipped) Tip(context.Context, source.Env, source.Split) ([]byte, error) { return nil, nil }

func TestDrain(t *testing.T) {
	pos := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	read := func(src source.Source[int64], l *lists, positions ...*pb.DrainPosition) (Source, int) {
		op := NewSource(src, watermark.Strategy[int64]{}).(Source)
		newRig(t).open(t, op)
		out := attach(op, "", &collect[int64]{})
		if err := op.Assign(context.Background(), []*pb.Split{fresh("a")}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := op.Work(); err != nil {
			t.Fatal(err)
		}
		op.DrainTo(positions)
		if w := drain(t, op); w != batch.EndOfTime {
			t.Errorf("watermark %d after a drain", w)
		}
		return op, len(out.rows)
	}
	list := func(bounded bool, after source.Status) *lists {
		return &lists{splits: map[string][]int64{"a": {1, 2, 3, 4}}, after: map[string]source.Status{"a": after}, bounded: bounded, perPoll: 1}
	}
	l := list(false, source.Empty)
	op, n := read(tipped{l}, l, &pb.DrainPosition{Split: "a", Position: pos(3)})
	if n != 3 {
		t.Errorf("with a tip: %d records, want 3", n)
	}
	if s := splitsOf(t, op, false)["a"]; s.GetFinished() || !cmp.Equal(s.GetPosition(), pos(3)) || s.GetWatermark() != 2 {
		t.Errorf("a drained split is not finished, its place and time are its own: %v", s)
	}
	l = list(false, source.Empty)
	if _, n := read(l, l); n != 1 {
		t.Errorf("without a tip: %d records, want the 1 that was read", n)
	}
	l = list(true, source.Ended)
	if _, n := read(l, l); n != 4 {
		t.Errorf("bounded: %d records, want all 4", n)
	}
	// Nobody assigns followers any more: a split that waits for them would hold up
	// the drain for good.
	l = list(true, source.Followed)
	op, n = read(l, l)
	if n != 4 {
		t.Errorf("followed by others: %d records, want all 4", n)
	}
	if s := splitsOf(t, op, true)["a"]; !s.GetFollowed() || !s.GetFinished() {
		t.Errorf("what follows is left to the job that goes on: %v", s)
	}
}

func TestEnumerate(t *testing.T) {
	l := &lists{splits: map[string][]int64{"a": nil, "b": nil, "c": nil}}
	known := []*pb.Split{
		{Id: "b", Position: []byte("x"), Watermark: 7},
		{Id: "gone", Finished: true},
		{Id: "parent", Position: []byte("y"), Watermark: 3},
	}
	got, err := NewSourceRole[int64](l).Enumerate(context.Background(), source.Env{}, known, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []*pb.SplitAssignment{
		{Subtask: 0, Splits: []*pb.Split{
			{Id: "a", Payload: []byte("pa"), Watermark: batch.NoTime},
			{Id: "parent", Position: []byte("y"), Watermark: 3},
		}},
		{Subtask: 1, Splits: []*pb.Split{{Id: "b", Payload: []byte("pb"), Position: []byte("x"), Watermark: 7}}},
		{Subtask: 2, Splits: []*pb.Split{{Id: "c", Payload: []byte("pc"), Watermark: batch.NoTime}}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestTimestamps(t *testing.T) {
	s := watermark.Strategy[int64]{Timestamp: func(v int64) int64 { return v }, OutOfOrderness: 5 * time.Millisecond}
	op := NewTimestamps(s)
	newRig(t).open(t, op)
	out := attach(op, "", &collect[int64]{})
	in := batchOf[int64](1000, 1020, 1010)
	if err := stage[int64](op).Push(in); err != nil {
		t.Fatal(err)
	}
	if in.Times[0] != 100 {
		t.Error("a borrowed batch was changed")
	}
	if diff := cmp.Diff([]row[int64]{{1000, 1000}, {1020, 1020}, {1010, 1010}}, out.rows); diff != "" {
		t.Error(diff)
	}
	own := op.(Watermarked)
	if w, _ := op.Watermark(99999); w != 1014 || own.CurrentWatermark() != 1014 {
		t.Errorf("watermark %d, %d; want 1014, whatever comes in", w, own.CurrentWatermark())
	}
	var snap Snapshot
	if err := op.(Snapshotter).Snapshot(&snap); err != nil {
		t.Fatal(err)
	}
	again := NewTimestamps(s)
	if err := again.Open(newRig(t).ctx); err != nil {
		t.Fatal(err)
	}
	entries := append(snap.Entries, WatermarkEntry(KeyOutput, 2000), WatermarkEntry(KeyInput, 1))
	if err := again.(Restorer).Restore(entries); err != nil {
		t.Fatal(err)
	}
	if w := again.(Watermarked).CurrentWatermark(); w != 1014 {
		t.Errorf("restored watermark %d, want the least: 1014", w)
	}
	if w, _ := op.Watermark(batch.EndOfTime); w != batch.EndOfTime {
		t.Errorf("the end of time did not pass: %d", w)
	}
}
