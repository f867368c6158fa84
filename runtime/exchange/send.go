package exchange

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/codec"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// batchBytes is about how large a batch may become, whatever its rows.
const batchBytes = 32 << 10

// writer implements Writer and operator.Stage[T].
type writer[T any] struct {
	n       *Network
	edge    *Edge
	subtask int
	from    string
	to      string
	codec   codec.Codec[T]
	park    func(<-chan struct{}) (bool, error)
	stats   WriterStats

	targets []target[T]
	// limit is how many rows fill a batch: batch.Rows, fewer of large records.
	limit int
	// pending is how many targets have an open batch that is not empty.
	pending int

	// Of hash edges: key fills the hashes of keyed, a view of the pushed
	// batch, and owner maps a key group to its target.
	key   func(*batch.Batch[T])
	keyed batch.Batch[T]
	owner []uint16
	// next is the target of rebalance edges.
	next int
	// partition chooses the target on custom edges.
	partition func(T, int) int

	// rowBytes is about what a record takes; of records without a fixed size
	// it follows samples, encoded to scratch.
	rowBytes int
	scratch  []byte
}

// batchesPerBound is how many batches are to fit into a channel at least: a
// task deals with a batch as a whole.
const batchesPerBound = 4

// target is one receiving subtask. Exactly one of gate and remote is set.
type target[T any] struct {
	open *batch.Batch[T]
	// limit is how many rows fill its batch: the writer's, fewer if the
	// receiver is slow. paced is its share of that.
	limit, paced int
	gate         *gate[T]
	channel      int
	remote       *credit
}

// room decides what a send does when a channel is full.
type room uint8

const (
	try room = iota
	wait
	overdraw
)

func (t typed[T]) NewWriter(n *Network, c WriterConfig) (Writer, error) {
	if c.Edge < 0 || c.Edge >= len(n.topology.Edges) {
		return nil, fmt.Errorf("connect %s to %s: edge %d of %d", c.From.Name, c.To, c.Edge, len(n.topology.Edges))
	}
	out, err := outputOf[T](c.From, c.To)
	if err != nil {
		return nil, err
	}
	e := &n.topology.Edges[c.Edge]
	w := &writer[T]{n: n, edge: e, subtask: c.Subtask, from: c.From.Name, to: c.To, codec: t.codec, park: c.Park,
		limit: batch.Rows, rowBytes: 16 + t.codec.Fixed()}
	if w.park == nil {
		w.park = n.park
	}
	switch e.Ship {
	case pb.Ship_SHIP_HASH:
		if w.key, err = keyOf[T](c.From.Name, c.To, c.Key); err != nil {
			return nil, err
		}
		if e.Receivers > e.KeyGroups || e.KeyGroups > keygroup.Max {
			return nil, fmt.Errorf("connect %s to %s: %d subtasks share %d key groups", c.From.Name, c.To, e.Receivers, e.KeyGroups)
		}
		w.owner = make([]uint16, e.KeyGroups)
		for g := range w.owner {
			w.owner[g] = uint16(keygroup.Owner(g, e.Receivers, e.KeyGroups))
		}
	case pb.Ship_SHIP_REBALANCE:
		w.next = c.Subtask % e.Receivers
	case pb.Ship_SHIP_CUSTOM:
		if w.partition, err = partitionOf[T](c.From.Name, c.To, c.Key); err != nil {
			return nil, err
		}
	case pb.Ship_SHIP_FORWARD, pb.Ship_SHIP_BROADCAST:
	default:
		return nil, fmt.Errorf("connect %s to %s: %v is no way to ship records", c.From.Name, c.To, e.Ship)
	}
	if t.codec.Fixed() > 0 {
		w.limit = min(batch.Rows, max(1, batchBytes/w.rowBytes))
	}
	n.addWriter(w)
	out.Attach(w)
	return w, nil
}

// receivers calls f with the receiving subtasks.
func (w *writer[T]) receivers(f func(subtask int)) {
	if w.edge.Ship == pb.Ship_SHIP_FORWARD {
		f(w.subtask)
		return
	}
	for r := range w.edge.Receivers {
		f(r)
	}
}

func (w *writer[T]) workers(f func(worker int)) {
	w.receivers(func(r int) { f(w.n.Worker(r)) })
}

func (w *writer[T]) join() error {
	var err error
	w.receivers(func(r int) {
		t := target[T]{open: new(batch.Batch[T]), limit: w.limit, paced: batch.Rows * batchesPerBound}
		number := w.edge.Channel(w.subtask, r)
		if !w.n.Local(r) {
			t.remote = w.n.peers[w.n.Worker(r)].open(number, w.n.config.Credit)
		} else {
			e, ok := w.n.mu.ends[number]
			if !ok {
				err = fmt.Errorf("connect %s/%d to %s/%d: the receiver has no gate", w.from, w.subtask, w.to, r)
				return
			}
			if t.gate, ok = e.gate.(*gate[T]); !ok {
				err = fmt.Errorf("connect %s to %s: the receiver's gate is a %T, the writer a %T: the edge has one record type", w.from, w.to, e.gate, w)
				return
			}
			t.channel = e.channel
			w.pace(&t, firstRows)
		}
		w.targets = append(w.targets, t)
	})
	return err
}

func (w *writer[T]) Pending() bool { return w.pending > 0 }

func (w *writer[T]) Stats() WriterStats { return w.stats }

// Push implements operator.Stage: it copies the records to the open batches of
// their targets.
func (w *writer[T]) Push(b *batch.Batch[T]) error {
	if b.Len() == 0 {
		return nil
	}
	if w.codec.Fixed() == 0 {
		w.sample(b)
	}
	w.stats.Rows += uint64(b.Len())
	switch w.edge.Ship {
	case pb.Ship_SHIP_HASH:
		return w.split(b)
	case pb.Ship_SHIP_REBALANCE:
		if w.edge.pinned() {
			return w.copyTo(&w.targets[w.next], b)
		}
		return w.spread(b)
	case pb.Ship_SHIP_CUSTOM:
		return w.place(b)
	case pb.Ship_SHIP_BROADCAST:
		for i := range w.targets {
			if err := w.copyTo(&w.targets[i], b); err != nil {
				return err
			}
		}
		return nil
	default:
		return w.copyTo(&w.targets[0], b)
	}
}

// split sends each record to the owner of its key group.
func (w *writer[T]) split(b *batch.Batch[T]) error {
	w.keyed.Values, w.keyed.Times, w.keyed.Hashes, w.keyed.Ops = b.Values, b.Times, w.keyed.Hashes[:0], b.Ops
	w.key(&w.keyed)
	hashes := w.keyed.Hashes
	if len(hashes) != len(b.Values) {
		return fmt.Errorf("key function from %s to %s made %d hashes of %d records", w.from, w.to, len(hashes), len(b.Values))
	}
	if len(w.targets) == 1 {
		return w.copyTo(&w.targets[0], &w.keyed)
	}
	if len(b.Ops) > 0 {
		return w.splitUpdates(&w.keyed)
	}
	values, times := b.Values, b.Times[:len(b.Values)]
	groups := len(w.owner)
	for i, h := range hashes {
		t := &w.targets[w.owner[keygroup.Of(h, groups)]]
		o := t.open
		o.Values = append(o.Values, values[i])
		o.Times = append(o.Times, times[i])
		o.Hashes = append(o.Hashes, h)
		n := len(o.Hashes)
		if n == 1 {
			w.pending++
		}
		if n >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitUpdates is split of rows that have operations.
func (w *writer[T]) splitUpdates(b *batch.Batch[T]) error {
	for i, h := range b.Hashes {
		t := &w.targets[w.owner[keygroup.Of(h, len(w.owner))]]
		o := t.open
		o.Ops = append(batch.FillOps(o.Ops, o.Len()), b.Ops[i])
		o.AppendKeyed(b.Values[i], b.Times[i], h)
		if o.Len() == 1 {
			w.pending++
		}
		if o.Len() >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// place sends each record to the target that the job's function chooses.
func (w *writer[T]) place(b *batch.Batch[T]) error {
	n := len(w.targets)
	for i := range b.Values {
		to := w.partition(b.Values[i], n)
		if to < 0 || to >= n {
			return &PartitionError{From: w.from, To: w.to, Index: to, Receivers: n}
		}
		t := &w.targets[to]
		o := t.open
		o.Values = append(o.Values, b.Values[i])
		o.Times = append(o.Times, b.Times[i])
		if len(o.Values) == 1 {
			w.pending++
		}
		if len(o.Values) >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// PartitionError is a partitioner that chose a subtask which there is not.
type PartitionError struct {
	From, To         string
	Index, Receivers int
}

func (e *PartitionError) Error() string {
	return fmt.Sprintf("the partitioner from %s to %s chose subtask %d of %d: it must return an index from 0 to %d",
		e.From, e.To, e.Index, e.Receivers, e.Receivers-1)
}

// spread fills one target's batch after the other.
func (w *writer[T]) spread(b *batch.Batch[T]) error {
	for from := 0; from < b.Len(); {
		t := &w.targets[w.next]
		from += w.fill(t, b, from)
		if t.open.Len() >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
			w.turn()
		}
	}
	return nil
}

func (w *writer[T]) turn() {
	if w.next++; w.next == len(w.targets) {
		w.next = 0
	}
}

// copyTo sends all records to one target.
func (w *writer[T]) copyTo(t *target[T], b *batch.Batch[T]) error {
	for from := 0; from < b.Len(); {
		from += w.fill(t, b, from)
		if t.open.Len() >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill copies as many records from a row on as fit and returns how many.
func (w *writer[T]) fill(t *target[T], b *batch.Batch[T], from int) int {
	o := t.open
	if o.Len() == 0 {
		w.pending++
	}
	n := min(b.Len()-from, max(1, t.limit-o.Len()))
	if len(b.Ops) > 0 {
		o.Ops = append(batch.FillOps(o.Ops, o.Len()), b.Ops[from:from+n]...)
	}
	o.Values = append(o.Values, b.Values[from:from+n]...)
	o.Times = append(o.Times, b.Times[from:from+n]...)
	if w.key != nil {
		o.Hashes = append(o.Hashes, b.Hashes[from:from+n]...)
	}
	return n
}

// sample adapts the size of batches to that of the records: at once when they
// grow, slowly when they shrink.
func (w *writer[T]) sample(b *batch.Batch[T]) {
	last := b.Len() - 1
	size := 0
	for _, i := range [...]int{0, last / 2, last} {
		w.scratch = w.codec.Append(w.scratch[:0], &b.Values[i])
		size = max(size, 16+len(w.scratch))
	}
	if cap(w.scratch) > batchBytes {
		w.scratch = nil
	}
	if size < w.rowBytes {
		size = w.rowBytes - (w.rowBytes-size+7)/8
	}
	w.rowBytes = size
	if limit := min(batch.Rows, max(1, batchBytes/size)); limit != w.limit {
		w.limit = limit
		for i := range w.targets {
			w.pace(&w.targets[i], w.targets[i].paced)
		}
	}
}

// pace sizes a target's batches so that several fit into its channel.
func (w *writer[T]) pace(t *target[T], rows int) {
	t.paced, t.limit = rows, min(w.limit, max(1, rows/batchesPerBound))
}

// send hands over a target's open batch, which is not empty, and says whether
// it could.
func (w *writer[T]) send(t *target[T], r room) (bool, error) {
	if o := t.open; len(o.Ops) > 0 {
		o.Ops = batch.FillOps(o.Ops, o.Len()) // rows without came after those with
	}
	if t.remote != nil {
		return w.encode(t, r)
	}
	for {
		next, rows := t.gate.offer(t.channel, t.open, t.open.Len()*w.rowBytes, r == overdraw)
		if next != nil {
			t.open = next
			if rows != t.paced {
				w.pace(t, rows)
			}
			w.sent()
			return true, nil
		}
		if r == try {
			return false, nil
		}
		pressed, err := w.waitFor(t.gate.mu.channels[t.channel].room)
		if err != nil {
			return false, err
		}
		if pressed {
			r = overdraw
		}
	}
}

func (w *writer[T]) sent() {
	w.pending--
	w.stats.Batches++
}

func (w *writer[T]) encode(t *target[T], r room) (bool, error) {
	for r != overdraw && !t.remote.left() {
		if r == try {
			return false, nil
		}
		pressed, err := w.waitFor(t.remote.room)
		if err != nil {
			return false, err
		}
		if pressed {
			r = overdraw
		}
	}
	b := beginFrame(t.remote.out.buffer(), frameBatch, t.remote.channel)
	b, err := endFrame(appendBatch(b, t.open, w.key != nil, w.codec))
	if err != nil {
		return false, fmt.Errorf("send from %s to %s: %w", w.from, w.to, err)
	}
	w.stats.Bytes += uint64(len(b))
	if rows := int(t.remote.bound.Load()) * t.open.Len() / len(b); rows != t.paced {
		w.pace(t, rows)
	}
	t.remote.send(b)
	if w.codec.Fixed() == 0 {
		clear(t.open.Values)
	}
	t.open.Values, t.open.Times, t.open.Hashes, t.open.Ops = t.open.Values[:0], t.open.Times[:0], t.open.Hashes[:0], t.open.Ops[:0]
	w.sent()
	return true, nil
}

// waitFor waits for room and counts the time as backpressure. pressed says that
// a barrier waits for the task, which is to go on without.
func (w *writer[T]) waitFor(room <-chan struct{}) (pressed bool, err error) {
	began := time.Now()
	pressed, err = w.park(room)
	w.stats.Blocked += time.Since(began)
	return pressed, err
}

func (w *writer[T]) Flush() error { return w.flush(wait) }

// flush sends every open batch: first all that have room, so that a full
// channel does not hold back the others, then the rest.
func (w *writer[T]) flush(r room) error {
	if w.pending == 0 {
		return nil
	}
	if r == wait {
		if err := w.sendAll(try); err != nil {
			return err
		}
	}
	return w.sendAll(r)
}

func (w *writer[T]) sendAll(r room) error {
	for i := range w.targets {
		if w.pending == 0 {
			return nil
		}
		t := &w.targets[i]
		if t.open.Len() == 0 {
			continue
		}
		ok, err := w.send(t, r)
		if err != nil {
			return err
		}
		if ok && w.edge.Ship == pb.Ship_SHIP_REBALANCE && !w.edge.pinned() {
			w.turn()
		}
	}
	return nil
}

func (w *writer[T]) Watermark(t int64) error { return w.event(Watermark, t, barrier.Barrier{}) }

func (w *writer[T]) Idle() error { return w.event(Idle, 0, barrier.Barrier{}) }

func (w *writer[T]) Active() error { return w.event(Active, 0, barrier.Barrier{}) }

func (w *writer[T]) Barrier(b barrier.Barrier) error { return w.event(Barrier, 0, b) }

func (w *writer[T]) event(kind Kind, time int64, b barrier.Barrier) error {
	r := wait
	if kind == Barrier {
		r = overdraw
	}
	if err := w.flush(r); err != nil {
		return err
	}
	for i := range w.targets {
		if err := w.sendEvent(&w.targets[i], kind, time, b); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer[T]) sendEvent(t *target[T], kind Kind, time int64, b barrier.Barrier) error {
	pressed := kind == Barrier
	var err error
	if t.remote == nil {
		for !t.gate.offerEvent(t.channel, kind, time, b, pressed) {
			if pressed, err = w.waitFor(t.gate.mu.channels[t.channel].room); err != nil {
				return err
			}
		}
		return nil
	}
	for !pressed && !t.remote.left() {
		if pressed, err = w.waitFor(t.remote.room); err != nil {
			return err
		}
	}
	frame := appendEvent(t.remote.out.buffer(), t.remote.channel, kind, time, b)
	w.stats.Bytes += uint64(len(frame))
	t.remote.send(frame)
	return nil
}
