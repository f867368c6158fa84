package exchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// sender is an operator with one output, receiver one with one input.
type sendingOperator[T any] struct {
	out operator.Output[T]
}

func (*sendingOperator[T]) Input(int) any { return nil }
func (s *sendingOperator[T]) Output(tag string) any {
	if tag != "" {
		return nil
	}
	return &s.out
}
func (*sendingOperator[T]) Open(*operator.Context) error     { return nil }
func (*sendingOperator[T]) Watermark(t int64) (int64, error) { return t, nil }
func (*sendingOperator[T]) Close() error                     { return nil }

type takingOperator[T any] struct {
	take func(b *batch.Batch[T]) error
}

func (r *takingOperator[T]) Push(b *batch.Batch[T]) error { return r.take(b) }
func (r *takingOperator[T]) Input(i int) any {
	if i != 0 {
		return nil
	}
	return r
}
func (*takingOperator[T]) Output(string) any                { return nil }
func (*takingOperator[T]) Open(*operator.Context) error     { return nil }
func (*takingOperator[T]) Watermark(t int64) (int64, error) { return t, nil }
func (*takingOperator[T]) Close() error                     { return nil }

// small is a record of fixed layout, text one that is not.
type small struct {
	Sender uint32
	Key    uint32
	Seq    uint64
}

type text struct {
	Key  uint64
	Body string
}

// opOf is the operation that tests give a record: senders of odd number send
// stretches of rows with operations among others without.
func opOf(v small) batch.Op {
	if v.Sender%2 == 1 && v.Seq/150%2 == 1 && v.Seq%3 == 0 {
		return batch.Delete
	}
	return batch.Insert
}

// wantOps checks the operations of a batch, which has none where nobody sent any.
func wantOps(b *batch.Batch[small]) error {
	if n := len(b.Ops); n != 0 && n != b.Len() {
		return fmt.Errorf("%d operations of %d rows", n, b.Len())
	}
	for i, v := range b.Values {
		if b.OpOf(i) != opOf(v) {
			return fmt.Errorf("%+v came with %v", v, b.OpOf(i))
		}
		if v.Sender%2 == 0 && len(b.Ops) > 0 {
			return fmt.Errorf("%+v came with a column of operations", v)
		}
	}
	return nil
}

// hashSmall spreads keys over all groups.
func hashSmall(b *batch.Batch[small]) {
	for i := range b.Values {
		b.Hashes = append(b.Hashes, uint64(b.Values[i].Key)*0x9e3779b97f4a7c15)
	}
}

// rig is one edge of a job with its subtasks spread over workers, all in this
// process.
type rig[T any] struct {
	tb       testing.TB
	networks []*Network
	outs     []*sendingOperator[T]
	writers  []Writer
	takers   []*takingOperator[T]
	gates    []Gate
	notify   []chan struct{}
	cancel   context.CancelFunc
	errs     []error
	done     sync.WaitGroup
}

type layout struct {
	ship               pb.Ship
	senders, receivers int
	// workers spreads subtasks round robin; 1 is all local.
	workers             int
	key                 any
	rows, bytes, credit int
	park                func(<-chan struct{}) (bool, error)
	// cold gates do not know yet that their operators are fast.
	cold bool
	// updates says that rows may have operations.
	updates bool
}

func edgeGraph(l layout) *pb.JobGraph {
	return &pb.JobGraph{Name: "edge", Vertices: []*pb.Vertex{
		{Id: "a", Name: "from", Parallelism: uint32(l.senders), MaxParallelism: 128},
		{Id: "b", Name: "to", Parallelism: uint32(l.receivers), MaxParallelism: 128,
			Inputs: []*pb.Input{{FromVertex: "a", Ship: l.ship, Updates: l.updates}}},
	}}
}

func typeOf[T any](tb testing.TB) Type {
	tb.Helper()
	t, err := TypeOf[T]()
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// newRig wires the edge and connects the workers.
func newRig[T any](tb testing.TB, l layout) *rig[T] {
	tb.Helper()
	r := &rig[T]{tb: tb}
	l.workers = max(1, l.workers)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	tb.Cleanup(r.close)
	var slots []uint32
	for i := range max(l.senders, l.receivers) {
		slots = append(slots, uint32(i%l.workers))
	}
	var addresses []*pb.WorkerAddress
	var listeners []*Listener
	for i := range l.workers {
		ln, err := Listen("job", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		listeners = append(listeners, ln)
		addresses = append(addresses, &pb.WorkerAddress{WorkerId: fmt.Sprintf("w%d", i), DataAddress: ln.Address()})
		r.done.Go(func() { _ = ln.Run(ctx) })
	}
	for i := range l.workers {
		n, err := NewNetwork(Config{JobID: "job", Epoch: 1, Graph: edgeGraph(l), Workers: addresses, SlotWorker: slots, Self: i,
			Listener: listeners[i], Rows: l.rows, Bytes: l.bytes, Credit: l.credit})
		if err != nil {
			tb.Fatal(err)
		}
		r.networks = append(r.networks, n)
	}
	typ := typeOf[T](tb)
	for i := range l.senders {
		out := &sendingOperator[T]{}
		w, err := typ.NewWriter(r.networks[slots[i]], WriterConfig{Subtask: i, From: Out{Operator: out, Name: "from"}, To: "to", Key: l.key, Park: l.park})
		if err != nil {
			tb.Fatal(err)
		}
		r.outs, r.writers = append(r.outs, out), append(r.writers, w)
	}
	for i := range l.receivers {
		taker := &takingOperator[T]{take: func(*batch.Batch[T]) error { return nil }}
		notify := make(chan struct{}, 1)
		g, err := typ.NewGate(r.networks[slots[i]], GateConfig{Vertex: 1, Subtask: i, To: In{Operator: taker, Name: "to"}, Notify: notify,
			Press: func() { signal(notify) }}) // for those who wait for a barrier only: its channel may have been queued before
		if err != nil {
			tb.Fatal(err)
		}
		r.takers, r.gates, r.notify = append(r.takers, taker), append(r.gates, g), append(r.notify, notify)
	}
	if !l.cold {
		for _, g := range r.gates {
			g := g.(*gate)
			g.pace.Took(batch.Rows, time.Microsecond)
			g.mu.rows = g.n.config.Rows
		}
	}
	r.errs = make([]error, l.workers)
	for i, n := range r.networks {
		r.done.Go(func() { r.errs[i] = n.Run(ctx) })
	}
	for _, n := range r.networks {
		select {
		case <-n.Connected():
		case <-n.Done():
			tb.Fatal(n.Err())
		}
	}
	if !l.cold {
		for _, w := range r.writers {
			w := w.(*writer)
			for i := range w.targets {
				w.pace(&w.targets[i], batch.Rows*batchesPerBound)
			}
		}
	}
	return r
}

func (r *rig[T]) close() {
	r.cancel()
	r.done.Wait()
	for i, err := range r.errs {
		if err != nil {
			r.tb.Errorf("network %d: %v", i, err)
		}
	}
	r.errs = nil
}

// next polls a gate, waiting for something to come in.
func (r *rig[T]) next(receiver int) Item {
	r.tb.Helper()
	for {
		it, err := r.gates[receiver].Poll()
		if err != nil {
			r.tb.Fatal(err)
		}
		if it.Kind != None {
			return it
		}
		select {
		case <-r.notify[receiver]:
		case <-time.After(20 * time.Second):
			r.tb.Fatal("nothing came in for 20 s")
		}
	}
}

// collect takes items in at a receiver until it has seen the end of time on
// every channel, and returns an error instead of failing the test.
func (r *rig[T]) collect(receiver int, each func(Item)) error {
	ended := 0
	for ended < r.gates[receiver].Channels() {
		it, err := r.gates[receiver].Poll()
		if err != nil {
			return err
		}
		switch it.Kind {
		case None:
			select {
			case <-r.notify[receiver]:
			case <-time.After(20 * time.Second):
				return errors.New("nothing came in for 20 s")
			}
			continue
		case Watermark:
			if it.Time == batch.EndOfTime {
				ended++
			}
		}
		if each != nil {
			each(it)
		}
	}
	return nil
}
