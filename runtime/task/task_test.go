package task

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/source"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers is a source of the numbers from 0 to n-1, in one split.
type numbers struct{ n int64 }

type numberReader struct {
	src *numbers
	at  int64
}

func (s *numbers) Bounded() bool { return true }
func (s *numbers) Splits(context.Context, source.Env, []source.Split) ([]source.Split, error) {
	return []source.Split{{ID: "0"}}, nil
}

func (s *numbers) Open(_ context.Context, _ source.Env, _ source.Split, at []byte) (source.Reader[int64], error) {
	r := &numberReader{src: s}
	if len(at) > 0 {
		r.at = int64(binary.BigEndian.Uint64(at))
	}
	return r, nil
}

func (r *numberReader) Poll(b *batch.Batch[int64], limit int) (source.Status, error) {
	for n := 0; n < limit && r.at < r.src.n; n++ {
		b.Append(r.at, r.at)
		r.at++
	}
	if r.at == r.src.n {
		return source.Ended, nil
	}
	return source.More, nil
}

func (r *numberReader) Position() []byte    { return binary.BigEndian.AppendUint64(nil, uint64(r.at)) }
func (r *numberReader) StopAfter([]byte)    {}
func (r *numberReader) Lag() (int64, int64) { return -1, r.src.n - r.at }
func (r *numberReader) Close() error        { return nil }

// adder is a sink that adds up; flushes says when its task was idle.
type adder struct {
	sum     int64
	n       int
	flushed chan int
	closed  bool
	write   func() error
}

func (a *adder) Open(context.Context, sink.Env) (sink.Writer[int64], error) { return a, nil }

func (a *adder) Write(b *batch.Batch[int64]) error {
	for _, v := range b.Values {
		a.sum += v
	}
	a.n += len(b.Values)
	if a.write != nil {
		return a.write()
	}
	return nil
}

func (a *adder) Flush() error {
	if a.flushed != nil {
		a.flushed <- a.n
	}
	return nil
}
func (a *adder) Close() error { a.closed = true; return nil }

// chain is a task of a source, some operators and a sink.
type chain struct {
	*Task
	box         *Mailbox
	ready       chan struct{}
	checkpoints chan *Checkpoint
	exhausted   chan struct{}
	metrics     chan *pb.TaskMetrics
}

func newChain(t testing.TB, restored []*pb.OperatorEntry, ops ...operator.Operator) *chain {
	return newGatedChain(t, restored, nil, ops...)
}

func newGatedChain(t testing.TB, restored []*pb.OperatorEntry, gates []exchange.Gate, ops ...operator.Operator) *chain {
	c := &chain{
		box: NewMailbox(), ready: make(chan struct{}), checkpoints: make(chan *Checkpoint, 10),
		exhausted: make(chan struct{}), metrics: make(chan *pb.TaskMetrics, 10),
	}
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	cfg := Config{
		VertexID: "v", KeyGroups: groups, Gates: gates, Mailbox: c.box, Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		Restore:   func(context.Context, int) (Restored, error) { return Restored{Entries: restored}, nil },
		Ready:     func() { close(c.ready) },
		Running:   func() {},
		Snapshot:  func(cp *Checkpoint) { c.checkpoints <- cp },
		Exhausted: func() { close(c.exhausted) },
		Metrics:   func(m *pb.TaskMetrics) { c.metrics <- m },
	}
	for i, op := range ops {
		name := "op-" + string(rune('a'+i))
		cfg.Operators = append(cfg.Operators, Operator{
			UID: name, Name: name, Parent: i - 1, Operator: op,
			Context: &operator.Context{
				Name: name, UID: name, Parallelism: 1, KeyGroups: groups, Clock: clock.System, Log: cfg.Log,
				Attempt: t.Context(), Mail: c.box.Post, Wake: c.box.Wake, Held: func() {}, FirstOutput: func() {},
				Fail: func(error) {}, Metrics: &operator.Metrics{},
			},
		})
		if i > 0 {
			ops[i-1].Output("").(*operator.Output[int64]).Attach(op.Input(0).(operator.Stage[int64]))
		}
	}
	var err error
	if c.Task, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return c
}

// run starts the task and returns what ends it and gives its error.
func (c *chain) run(t testing.TB, splits ...*pb.Split) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case <-c.ready:
	case err := <-done:
		cancel()
		return func() error { return err }
	}
	c.Start(Beginning{Splits: splits})
	return func() error {
		cancel()
		return <-done
	}
}

func from(n int64) operator.Operator {
	return operator.NewSource(&numbers{n}, watermark.Strategy[int64]{})
}

func all() *pb.Split { return &pb.Split{Id: "0", Watermark: batch.NoTime} }

func TestTaskRunsAChainToItsEnd(t *testing.T) {
	const n = 10_000
	end := &adder{flushed: make(chan int, 10)}
	c := newChain(t, nil, from(n),
		operator.NewMap(func(v int64) int64 { return 2 * v }),
		operator.NewFilter(func(v int64) bool { return v%4 == 0 }),
		operator.NewSink(end))
	stop := c.run(t, all())
	<-c.exhausted
	if got := <-end.flushed; got != n/2 {
		t.Errorf("flushed at %d rows, want %d", got, n/2)
	}
	c.RequestMetrics()
	m := <-c.metrics
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if want := int64(n / 2 * (n - 2) / 2 * 2); end.sum != want || !end.closed {
		t.Errorf("sum %d, want %d; closed %v", end.sum, want, end.closed)
	}
	if m.GetOperators()[0].GetRecordsOut() != n || m.GetOperators()[3].GetRecordsIn() != n/2 || m.GetWatermark() != batch.NoTime && m.GetSplits()[0].GetWatermark() != n-2 {
		t.Errorf("metrics: %v", m)
	}
}

func TestTaskCheckpointHoldsThePlaceOfTheBarrier(t *testing.T) {
	const n = 1 << 40 // never ends
	seen := make(chan struct{})
	var once sync.Once
	end := &adder{write: func() error { once.Do(func() { close(seen) }); return nil }}
	c := newChain(t, nil, from(n), operator.NewSink(end))
	stop := c.run(t, all())
	<-seen
	c.Trigger(barrier.Barrier{ID: 1, TriggeredMillis: time.Now().UnixMilli(), Terminal: true})
	cp := <-c.checkpoints
	if cp.Err != nil {
		t.Fatal(cp.Err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s := &pb.Split{}
	if err := proto.Unmarshal(cp.Operators[0].Entries[0].GetValue(), s); err != nil {
		t.Fatal(err)
	}
	if at := int64(binary.BigEndian.Uint64(s.GetPosition())); at != int64(end.n) {
		t.Errorf("position %d, the sink has %d records, none after a terminal barrier", at, end.n)
	}
}

// restless wants to do something whenever it may.
type restless struct {
	operator.Operator
	ctx       *operator.Context
	completed chan uint64
	did       int
	halted    bool // by the test's account
	late      int
	lazy      bool // without work of its own
}

func (r *restless) Open(ctx *operator.Context) error {
	r.ctx = ctx
	return r.Operator.Open(ctx)
}

func (r *restless) act() {
	if r.did++; r.halted {
		r.late++
	}
}

func (r *restless) Work() (bool, int64, error) {
	r.act()
	if r.lazy {
		return false, batch.NoTime, nil
	}
	r.ctx.Wake()
	return r.did%3 > 0, batch.NoTime, nil
}

func (r *restless) Flush() error {
	r.act()
	return nil
}

func (r *restless) CurrentWatermark() int64 {
	r.act()
	return batch.NoTime
}

// Snapshot is the last thing that it does, if its barrier halts.
func (r *restless) Snapshot(s *operator.Snapshot) error {
	r.halted = s.CheckpointID == 2
	return nil
}

func (r *restless) CheckpointCompleted(id uint64) error {
	r.ctx.Mail(func() error { r.act(); return nil })
	r.ctx.Wake()
	r.completed <- id
	return nil
}

func TestAHaltedTaskOnlyReadsItsMail(t *testing.T) {
	const n = 1 << 40 // never ends
	end := &adder{}
	r := &restless{Operator: operator.NewMap(func(v int64) int64 { return v }), completed: make(chan uint64)}
	c := newChain(t, nil, from(n), r, operator.NewSink(end))
	c.ops[1].Context.State = state.NewStore(c.cfg.KeyGroups)
	stop := c.run(t, all())
	for id := uint64(1); id <= 2; id++ {
		c.Trigger(barrier.Barrier{ID: id, TriggeredMillis: time.Now().UnixMilli(), Halt: id == 2})
		c.Trigger(barrier.Barrier{ID: id + 5, TriggeredMillis: time.Now().UnixMilli()}) // not after a halt
		cp := <-c.checkpoints
		if id == 1 {
			<-c.checkpoints
		} else {
			s := &pb.Split{}
			if err := proto.Unmarshal(cp.Operators[0].Entries[0].GetValue(), s); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if at := int64(binary.BigEndian.Uint64(s.GetPosition())); at != int64(end.n) {
					t.Errorf("position %d, the sink has %d records, none after the barrier", at, end.n)
				}
			}()
		}
		c.Completed(id)
		if got := <-r.completed; got != id {
			t.Errorf("checkpoint %d completed, want %d", got, id)
		}
	}
	for range 3 { // each is a turn of the mailbox
		c.RequestMetrics()
		<-c.metrics
	}
	if len(c.checkpoints) > 0 {
		t.Error("another checkpoint after the halt")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if r.did == 0 || r.late > 0 {
		t.Errorf("the operator did %d things, %d after the halt", r.did, r.late)
	}
	if c.Kept(1) != nil || c.Kept(2)["op-b"] != c.ops[1].Context.State {
		t.Error("kept state is not that of the halt")
	}
}

// script is a gate that gives out items, and counts how often it is asked after
// the last.
type script struct {
	items []exchange.Item
	late  int
	// clock makes each item take so long that flushes are due.
	clock *clock.Virtual
}

func (s *script) Channels() int { return 1 }

func (s *script) Poll() (exchange.Item, error) {
	if len(s.items) == 0 {
		s.late++
		return exchange.Item{}, nil
	}
	s.clock.Advance(FlushInterval)
	item := s.items[0]
	s.items = s.items[1:]
	return item, nil
}

func (s *script) TakeBarrier(bool) (exchange.Item, bool) {
	if len(s.items) > 0 && s.items[0].Kind != exchange.Barrier {
		return exchange.Item{}, false
	}
	item, _ := s.Poll()
	return item, item.Kind == exchange.Barrier
}

func (s *script) Pressed() bool             { return false }
func (s *script) InFlight() [][]byte        { return nil }
func (s *script) Resume([][]byte) error     { return nil }
func (s *script) Port() int                 { return 0 }
func (s *script) Block(int)                 {}
func (s *script) Unblock()                  {}
func (s *script) Stats() exchange.GateStats { return exchange.GateStats{} }

// Once while the operator has work of its own, once while it takes input.
func TestAHaltedTaskReadsNoGate(t *testing.T) {
	for _, busy := range []bool{false, true} {
		gate := &script{clock: clock.NewVirtual(time.UnixMilli(0)), items: []exchange.Item{
			{Kind: exchange.Barrier, Barrier: barrier.Barrier{ID: 1}},
			{Kind: exchange.Watermark, Time: 5},
			{Kind: exchange.Barrier, Barrier: barrier.Barrier{ID: 2, Halt: true}},
		}}
		r := &restless{Operator: operator.NewMap(func(v int64) int64 { return v }), completed: make(chan uint64, 2), lazy: !busy}
		c := newGatedChain(t, nil, []exchange.Gate{gate}, r, operator.NewSink(&adder{}))
		c.cfg.Clock = gate.clock
		stop := c.run(t)
		<-c.checkpoints
		<-c.checkpoints
		for range 3 {
			c.RequestMetrics()
			<-c.metrics
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if r.did == 0 || r.late > 0 || gate.late > 0 {
			t.Errorf("busy %v: the operator did %d things, %d after the halt; the gate was read %d times then", busy, r.did, r.late, gate.late)
		}
	}
}

// congested is a gate of two channels with much data. The first barrier comes on
// one channel, and behind it, where it is blocked, the next one, which also waits
// behind data on the other. Then the first checkpoint is given up.
type congested struct {
	script
	task    *chain
	polls   int
	blocked bool
	taken   int // of the second barrier
	after   int // polls
	over    chan struct{}
}

func (g *congested) Channels() int { return 2 }

func (g *congested) Poll() (exchange.Item, error) {
	g.clock.Advance(Patience / 10)
	switch g.polls++; g.polls {
	case 1:
		return exchange.Item{Kind: exchange.Barrier, Barrier: barrier.Barrier{ID: 1}}, nil
	case 10:
		g.task.box.Press()
	case 20:
		g.task.Aborted(1)
	case 1000:
		close(g.over)
	}
	if g.polls > 1000 || g.taken > 0 {
		return exchange.Item{}, nil
	}
	return exchange.Item{Kind: exchange.Data, Channel: 1}, nil
}

func (g *congested) TakeBarrier(overtake bool) (exchange.Item, bool) {
	if !g.Pressed() || !overtake {
		return exchange.Item{}, false
	}
	g.taken++
	g.after = g.polls
	return exchange.Item{Kind: exchange.Barrier, Channel: g.taken - 1, Barrier: barrier.Barrier{ID: 2}}, true
}

func (g *congested) Pressed() bool { return g.polls > 10 && !g.blocked && g.taken < 2 }
func (g *congested) Block(int)     { g.blocked = g.taken == 0 }
func (g *congested) Unblock()      { g.blocked = false }

// A barrier that came in on a blocked channel overtakes like any other once the
// channel is read again.
func TestABarrierThatWasHeldUpOvertakes(t *testing.T) {
	gate := &congested{script: script{clock: clock.NewVirtual(time.UnixMilli(0))}, over: make(chan struct{})}
	c := newGatedChain(t, nil, []exchange.Gate{gate}, operator.NewMap(func(v int64) int64 { return v }), operator.NewSink(&adder{}))
	c.cfg.Clock, gate.task = gate.clock, c
	stop := c.run(t)
	select {
	case cp := <-c.checkpoints:
		if cp.Barrier.ID != 2 {
			t.Errorf("checkpoint %d", cp.Barrier.ID)
		}
	case <-gate.over:
		t.Error("the barrier waited behind 1,000 batches")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if gate.after != 30 {
		t.Errorf("it overtook after %d batches, want 30", gate.after)
	}
}

// closing emits n records at the end of time, one each time it works.
type closing struct {
	operator.Operator
	to   operator.Stage[int64]
	n    int64
	left int64
	kept int64 // at the barrier
}

func (c *closing) Snapshot(*operator.Snapshot) error {
	c.kept = c.left
	return nil
}

func (c *closing) Watermark(w int64) (int64, error) {
	if w == batch.EndOfTime {
		c.left = c.n
		return batch.NoTime, nil
	}
	return w, nil
}

func (c *closing) Work() (bool, int64, error) {
	if c.left == 0 {
		return false, batch.EndOfTime, nil
	}
	b := &batch.Batch[int64]{}
	b.Append(c.left, 0)
	c.left--
	return true, batch.NoTime, c.to.Push(b)
}

// The barrier is there before the operator has emitted anything.
func TestATerminalBarrierWaitsForWhatIsStillToCome(t *testing.T) {
	gate := &script{clock: clock.NewVirtual(time.UnixMilli(0)), items: []exchange.Item{
		{Kind: exchange.Watermark, Time: batch.EndOfTime},
		{Kind: exchange.Barrier, Barrier: barrier.Barrier{ID: 1, Terminal: true}},
	}}
	end := &adder{}
	sink := operator.NewSink(end)
	slow := &closing{Operator: operator.NewMap(func(v int64) int64 { return v }), to: sink.Input(0).(operator.Stage[int64]), n: 100}
	c := newGatedChain(t, nil, []exchange.Gate{gate}, slow, sink)
	stop := c.run(t)
	cp := <-c.checkpoints
	if err := stop(); cp.Err != nil || err != nil {
		t.Fatal(cp.Err, err)
	}
	if end.n != 100 || slow.kept > 0 {
		t.Errorf("%d records, want 100; %d came after the barrier", end.n, slow.kept)
	}
}

// A subtask that has no watermark yet says so: after a restore with others that
// do, the least of all holds.
func TestACheckpointHoldsTheWatermarkThereIsNot(t *testing.T) {
	gate := &script{clock: clock.NewVirtual(time.UnixMilli(0)), items: []exchange.Item{{Kind: exchange.Barrier, Barrier: barrier.Barrier{ID: 1}}}}
	c := newGatedChain(t, nil, []exchange.Gate{gate}, operator.NewMap(func(v int64) int64 { return v }), operator.NewSink(&adder{}))
	stop := c.run(t)
	cp := <-c.checkpoints
	if err := stop(); cp.Err != nil || err != nil {
		t.Fatal(cp.Err, err)
	}
	got, err := operator.RestoredWatermark(append(cp.Operators[0].Entries, operator.WatermarkEntry(operator.KeyInput, 7)), operator.KeyInput)
	if err != nil || got != batch.NoTime {
		t.Errorf("restored at %d, %v", got, err)
	}
}

var errPlanted = errors.New("planted")

func TestFailuresNameTheOperator(t *testing.T) {
	boom := func(v int64) int64 {
		if v == 700 {
			panic("boom")
		}
		return v
	}
	for name, c := range map[string]struct {
		ops      []operator.Operator
		operator string
		code     string
		stack    bool
	}{
		"panic in the middle": {
			[]operator.Operator{from(1000), operator.NewMap(func(v int64) int64 { return v }), operator.NewMap(boom), operator.NewSink(&adder{})},
			"op-c", "user-function-panicked", true,
		},
		"error at the end": {
			[]operator.Operator{from(1000), operator.NewMap(func(v int64) int64 { return v }), operator.NewSink(&adder{write: func() error { return errPlanted }})},
			"op-c", "sink-failed", false,
		},
		"error in a function": {
			[]operator.Operator{from(1000), operator.NewTryMap(func(int64) (int64, error) { return 0, errPlanted }), operator.NewSink(&adder{})},
			"op-b", "user-function-failed", false,
		},
		"after a full batch went on": {
			[]operator.Operator{from(1000), operator.NewFlatMap(func(v int64, emit func(int64)) { emit(v); emit(boom(v)) }), operator.NewSink(&adder{})},
			"op-b", "user-function-panicked", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			task := newChain(t, nil, c.ops...)
			done := make(chan error, 1)
			go func() { done <- task.Run(context.Background()) }()
			<-task.ready
			task.Start(Beginning{Splits: []*pb.Split{all()}})
			e := ErrorOf(<-done, "other")
			if e.GetOperator() != c.operator || e.GetCode() != c.code || strings.Contains(e.GetStack(), "task_test.go") != c.stack {
				t.Errorf("got %v", e)
			}
		})
	}
}

func TestPanicInOpenIsAFailure(t *testing.T) {
	c := newChain(t, nil, from(1), &opener{Operator: operator.NewMap(func(v int64) int64 { return v })}, operator.NewSink(&adder{}))
	if e := ErrorOf(c.Run(context.Background()), "other"); e.GetOperator() != "op-b" || e.GetCode() != "user-function-panicked" {
		t.Errorf("got %v", e)
	}
}

type opener struct{ operator.Operator }

func (opener) Open(*operator.Context) error { panic("open") }

// A sink that waits for its context ends with the task.
func TestCancellationUnblocks(t *testing.T) {
	blocked := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	end := &adder{write: func() error {
		close(blocked)
		<-ctx.Done()
		return ctx.Err()
	}}
	c := newChain(t, nil, from(10), operator.NewSink(end))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.ready
	c.Start(Beginning{Splits: []*pb.Split{all()}})
	<-blocked
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a cancelled task failed: %v", err)
	}
	if !end.closed {
		t.Error("the sink was not closed")
	}
}

func TestParkAnswersForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, nil, from(10), operator.NewSink(&adder{}))
		ctx, cancel := context.WithCancel(context.Background())
		c.done = ctx.Done()
		room, parked := make(chan struct{}), make(chan error, 1)
		park := func(room chan struct{}) {
			pressed, err := c.Park(room)
			if pressed {
				t.Error("nothing presses")
			}
			parked <- err
		}
		go park(room)
		synctest.Wait()
		time.Sleep(time.Second)
		c.RequestMetrics()
		if m := <-c.metrics; m.GetBackpressuredNs() < uint64(time.Second) {
			t.Errorf("%d ns backpressured after a second", m.GetBackpressuredNs())
		}
		close(room)
		if err := <-parked; err != nil {
			t.Error(err)
		}
		// A trigger has patience, then it presses.
		began := time.Now()
		pressed := make(chan bool)
		go func() {
			p, _ := c.Park(nil)
			pressed <- p
		}()
		synctest.Wait()
		c.Trigger(barrier.Barrier{ID: 1})
		if p := <-pressed; !p || time.Since(began) != Patience {
			t.Errorf("pressed %v after %v, want it after %v", p, time.Since(began), Patience)
		}
		c.box.triggers.Add(-1)
		c.pressed = time.Time{}
		go park(nil)
		cancel()
		if err := <-parked; !errors.Is(err, errCancelled) {
			t.Errorf("got %v", err)
		}
	})
}

func BenchmarkTask(b *testing.B) {
	b.ReportAllocs()
	end := &adder{}
	c := newChain(b, nil, from(int64(b.N)),
		operator.NewMap(func(v int64) int64 { return v + 1 }),
		operator.NewFilter(func(v int64) bool { return v >= 0 }),
		operator.NewSink(end))
	stop := c.run(b, all())
	<-c.exhausted
	b.StopTimer()
	if err := stop(); err != nil || end.n != b.N {
		b.Fatal(err, end.n)
	}
}

func TestCutStack(t *testing.T) {
	const dump = "goroutine 1 [running]:\nmain.main()\n\ngoroutine 12 [select, 2 minutes]:\nuser.code()\n\nuser.more()\n\ngoroutine 121 [chan receive]:\nothers.code()\n"
	for id, want := range map[uint64]string{12: "goroutine 12 [select, 2 minutes]:\nuser.code()", 1: "goroutine 1 [running]:\nmain.main()", 7: ""} {
		if got := cutStack([]byte(dump), id); got != want {
			t.Errorf("goroutine %d: %q, want %q", id, got, want)
		}
	}
	long := "goroutine 3 [running]:\n" + strings.Repeat("x", 2*mostStack)
	if got := cutStack([]byte(long), 3); len(got) > mostStack+10 || !strings.HasSuffix(got, "...") {
		t.Errorf("a long stack has %d bytes", len(got))
	}
}
