package exchange

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// batchBytes is about how large a batch may become, whatever its rows.
const batchBytes = 32 << 10

// writer implements Writer. What looks at records is a router's.
type writer struct {
	n       *Network
	edge    *Edge
	subtask int
	from    string
	to      string
	kind    kind
	park    func(<-chan struct{}) (bool, error)
	stats   WriterStats

	targets []target
	// limit is how many rows fill a batch: batch.Rows, fewer of large records.
	limit int
	// pending is how many targets have an open batch that is not empty.
	pending int

	// hashed says that batches have the hashes of keys.
	hashed bool
	// next is the target of rebalance edges.
	next int

	// rowBytes is about what a record takes; of records without a fixed size
	// it follows samples.
	rowBytes int
}

// batchesPerBound is how many batches are to fit into a channel at least: a
// task deals with a batch as a whole.
const batchesPerBound = 4

// target is one receiving subtask. Exactly one of gate and remote is set.
type target struct {
	open *columns
	// limit is how many rows fill its batch: the writer's, fewer if the
	// receiver is slow. paced is its share of that.
	limit, paced int
	gate         *gate
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

func newWriter(n *Network, c WriterConfig, k kind) (*writer, error) {
	if c.Edge < 0 || c.Edge >= len(n.topology.Edges) {
		return nil, fmt.Errorf("connect %s to %s: edge %d of %d", c.From.Name, c.To, c.Edge, len(n.topology.Edges))
	}
	e := &n.topology.Edges[c.Edge]
	w := &writer{n: n, edge: e, subtask: c.Subtask, from: c.From.Name, to: c.To, kind: k, park: c.Park,
		limit: batch.Rows, rowBytes: 16 + k.fixed()}
	if w.park == nil {
		w.park = n.park
	}
	switch e.Ship {
	case pb.Ship_SHIP_HASH:
		w.hashed = true
		if e.Receivers > e.KeyGroups || e.KeyGroups > keygroup.Max {
			return nil, fmt.Errorf("connect %s to %s: %d subtasks share %d key groups", c.From.Name, c.To, e.Receivers, e.KeyGroups)
		}
	case pb.Ship_SHIP_REBALANCE:
		w.next = c.Subtask % e.Receivers
	case pb.Ship_SHIP_FORWARD, pb.Ship_SHIP_BROADCAST, pb.Ship_SHIP_CUSTOM:
	default:
		return nil, fmt.Errorf("connect %s to %s: %v is no way to ship records", c.From.Name, c.To, e.Ship)
	}
	if k.fixed() > 0 {
		w.limit = min(batch.Rows, max(1, batchBytes/w.rowBytes))
	}
	n.addWriter(w)
	return w, nil
}

// receivers calls f with the receiving subtasks.
func (w *writer) receivers(f func(subtask int)) {
	if w.edge.Ship == pb.Ship_SHIP_FORWARD {
		f(w.subtask)
		return
	}
	for r := range w.edge.Receivers {
		f(r)
	}
}

func (w *writer) workers(f func(worker int)) {
	w.receivers(func(r int) { f(w.n.Worker(r)) })
}

func (w *writer) join() error {
	var err error
	w.receivers(func(r int) {
		t := target{open: w.kind.make(), limit: w.limit, paced: batch.Rows * batchesPerBound}
		number := w.edge.Channel(w.subtask, r)
		if !w.n.Local(r) {
			t.remote = w.n.peers[w.n.Worker(r)].open(number, w.n.config.Credit)
		} else {
			e, ok := w.n.mu.ends[number]
			if !ok {
				err = fmt.Errorf("connect %s/%d to %s/%d: the receiver has no gate", w.from, w.subtask, w.to, r)
				return
			}
			if t.gate = e.gate; t.gate.kind != w.kind {
				err = fmt.Errorf("connect %s to %s: the receiver's records are of %T, the writer's of %T: the edge has one record type", w.from, w.to, t.gate.kind, w.kind)
				return
			}
			t.channel = e.channel
			w.pace(&t, firstRows)
		}
		w.targets = append(w.targets, t)
	})
	return err
}

func (w *writer) Pending() bool { return w.pending > 0 }

func (w *writer) Stats() WriterStats { return w.stats }

// pass copies records to the open batches of their targets, which follow from the
// edge.
func (w *writer) pass(b *columns) error {
	switch w.edge.Ship {
	case pb.Ship_SHIP_REBALANCE:
		if w.edge.pinned() {
			return w.copyTo(&w.targets[w.next], b)
		}
		return w.spread(b)
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

// spread fills one target's batch after the other.
func (w *writer) spread(b *columns) error {
	for from := 0; from < b.len(); {
		t := &w.targets[w.next]
		from += w.fill(t, b, from)
		if t.open.len() >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
			w.turn()
		}
	}
	return nil
}

func (w *writer) turn() {
	if w.next++; w.next == len(w.targets) {
		w.next = 0
	}
}

// copyTo sends all records to one target.
func (w *writer) copyTo(t *target, b *columns) error {
	for from := 0; from < b.len(); {
		from += w.fill(t, b, from)
		if t.open.len() >= t.limit {
			if _, err := w.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill copies as many records from a row on as fit and returns how many.
func (w *writer) fill(t *target, b *columns, from int) int {
	o := t.open
	if o.len() == 0 {
		w.pending++
	}
	n := min(b.len()-from, max(1, t.limit-o.len()))
	o.add(b, from, from+n, w.hashed, w.kind)
	return n
}

// sized adapts the size of batches to that of the records, the largest of some: at
// once when they grow, slowly when they shrink.
func (w *writer) sized(size int) {
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
func (w *writer) pace(t *target, rows int) {
	t.paced, t.limit = rows, min(w.limit, max(1, rows/batchesPerBound))
}

// send hands over a target's open batch, which is not empty, and says whether
// it could.
func (w *writer) send(t *target, r room) (bool, error) {
	t.open.fillOps() // rows without came after those with
	if t.remote != nil {
		return w.encode(t, r)
	}
	for {
		next, rows := t.gate.offer(t.channel, t.open, t.open.len()*w.rowBytes, r == overdraw)
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

func (w *writer) sent() {
	w.pending--
	w.stats.Batches++
}

func (w *writer) encode(t *target, r room) (bool, error) {
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
	b, err := endFrame(appendBatch(b, t.open, w.hashed, w.kind))
	if err != nil {
		return false, fmt.Errorf("send from %s to %s: %w", w.from, w.to, err)
	}
	w.stats.Bytes += uint64(len(b))
	if rows := int(t.remote.bound.Load()) * t.open.len() / len(b); rows != t.paced {
		w.pace(t, rows)
	}
	t.remote.send(b)
	t.open.empty(w.kind)
	w.sent()
	return true, nil
}

// waitFor waits for room and counts the time as backpressure. pressed says that
// a barrier waits for the task, which is to go on without.
func (w *writer) waitFor(room <-chan struct{}) (pressed bool, err error) {
	began := time.Now()
	pressed, err = w.park(room)
	w.stats.Blocked += time.Since(began)
	return pressed, err
}

func (w *writer) Flush() error { return w.flush(wait) }

// flush sends every open batch: first all that have room, so that a full
// channel does not hold back the others, then the rest.
func (w *writer) flush(r room) error {
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

func (w *writer) sendAll(r room) error {
	for i := range w.targets {
		if w.pending == 0 {
			return nil
		}
		t := &w.targets[i]
		if t.open.len() == 0 {
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

func (w *writer) Watermark(t int64) error { return w.event(Watermark, t, barrier.Barrier{}) }

func (w *writer) Idle() error { return w.event(Idle, 0, barrier.Barrier{}) }

func (w *writer) Active() error { return w.event(Active, 0, barrier.Barrier{}) }

func (w *writer) Barrier(b barrier.Barrier) error { return w.event(Barrier, 0, b) }

func (w *writer) event(kind Kind, time int64, b barrier.Barrier) error {
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

func (w *writer) sendEvent(t *target, kind Kind, time int64, b barrier.Barrier) error {
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
