package exchange

import (
	"fmt"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// router is the part of a writer that knows the records: an operator.Stage[T]
// that copies them to the open batches of their targets.
type router[T any] struct {
	*writer
	typ typed[T]

	// Of hash edges: key fills the hashes of keyed, a view of the pushed
	// batch, and owner maps a key group to its target.
	key   func(*batch.Batch[T])
	keyed batch.Batch[T]
	owner []uint16
	// partition chooses the target on custom edges.
	partition func(T, int) int
	// scratch is where samples are encoded to.
	scratch []byte
}

func (t typed[T]) NewWriter(n *Network, c WriterConfig) (Writer, error) {
	out, err := outputOf[T](c.From, c.To)
	if err != nil {
		return nil, err
	}
	w, err := newWriter(n, c, t)
	if err != nil {
		return nil, err
	}
	r := &router[T]{writer: w, typ: t}
	switch e := w.edge; e.Ship {
	case pb.Ship_SHIP_HASH:
		if r.key, err = keyOf[T](c.From.Name, c.To, c.Key); err != nil {
			return nil, err
		}
		r.owner = make([]uint16, e.KeyGroups)
		for g := range r.owner {
			r.owner[g] = uint16(keygroup.Owner(g, e.Receivers, e.KeyGroups))
		}
	case pb.Ship_SHIP_CUSTOM:
		if r.partition, err = partitionOf[T](c.From.Name, c.To, c.Key); err != nil {
			return nil, err
		}
	}
	out.Attach(r)
	return w, nil
}

// Push implements operator.Stage.
func (r *router[T]) Push(b *batch.Batch[T]) error {
	if b.Len() == 0 {
		return nil
	}
	if r.typ.fixed() == 0 {
		r.sample(b)
	}
	r.stats.Rows += uint64(b.Len())
	switch r.edge.Ship {
	case pb.Ship_SHIP_HASH:
		return r.split(b)
	case pb.Ship_SHIP_CUSTOM:
		return r.place(b)
	}
	return r.pass(columnsOf(b))
}

// split sends each record to the owner of its key group.
func (r *router[T]) split(b *batch.Batch[T]) error {
	r.keyed.Values, r.keyed.Times, r.keyed.Hashes, r.keyed.Ops = b.Values, b.Times, r.keyed.Hashes[:0], b.Ops
	r.key(&r.keyed)
	hashes := r.keyed.Hashes
	if len(hashes) != len(b.Values) {
		return fmt.Errorf("key function from %s to %s made %d hashes of %d records", r.from, r.to, len(hashes), len(b.Values))
	}
	if len(r.targets) == 1 {
		return r.copyTo(&r.targets[0], columnsOf(&r.keyed))
	}
	if len(b.Ops) > 0 {
		return r.splitUpdates(&r.keyed)
	}
	values, times := b.Values, b.Times[:len(b.Values)]
	groups := len(r.owner)
	for i, h := range hashes {
		t := &r.targets[r.owner[keygroup.Of(h, groups)]]
		o := batchOf[T](t.open)
		o.Values = append(o.Values, values[i])
		o.Times = append(o.Times, times[i])
		o.Hashes = append(o.Hashes, h)
		n := len(o.Hashes)
		if n == 1 {
			r.pending++
		}
		if n >= t.limit {
			if _, err := r.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitUpdates is split of rows that have operations.
func (r *router[T]) splitUpdates(b *batch.Batch[T]) error {
	for i, h := range b.Hashes {
		t := &r.targets[r.owner[keygroup.Of(h, len(r.owner))]]
		o := batchOf[T](t.open)
		o.Ops = append(batch.FillOps(o.Ops, o.Len()), b.Ops[i])
		o.AppendKeyed(b.Values[i], b.Times[i], h)
		if o.Len() == 1 {
			r.pending++
		}
		if o.Len() >= t.limit {
			if _, err := r.send(t, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// place sends each record to the target that the job's function chooses.
func (r *router[T]) place(b *batch.Batch[T]) error {
	n := len(r.targets)
	for i := range b.Values {
		to := r.partition(b.Values[i], n)
		if to < 0 || to >= n {
			return &PartitionError{From: r.from, To: r.to, Index: to, Receivers: n}
		}
		t := &r.targets[to]
		o := batchOf[T](t.open)
		o.Values = append(o.Values, b.Values[i])
		o.Times = append(o.Times, b.Times[i])
		if len(o.Values) == 1 {
			r.pending++
		}
		if len(o.Values) >= t.limit {
			if _, err := r.send(t, wait); err != nil {
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

// sample takes the size of some records.
func (r *router[T]) sample(b *batch.Batch[T]) {
	last := b.Len() - 1
	size := 0
	for _, i := range [...]int{0, last / 2, last} {
		r.scratch = r.typ.codec.Append(r.scratch[:0], &b.Values[i])
		size = max(size, 16+len(r.scratch))
	}
	if cap(r.scratch) > batchBytes {
		r.scratch = nil
	}
	r.sized(size)
}
