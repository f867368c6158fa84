package operator

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/runtime/batch"
)

// bid is a record of 80 bytes with two strings.
type bid struct {
	Auction, Bidder, Price int64
	Channel, URL           string
	At, Extra              int64
	Flags                  uint64
}

// discard is the end of a chain.
type discard[T any] struct{ n int }

func (d *discard[T]) Push(b *batch.Batch[T]) error { d.n += len(b.Values); return nil }

func chainOf[T any](b *testing.B, ops ...Operator) Stage[T] {
	r := newRig(b)
	r.ctx.OnEnter(nil)
	for i, op := range ops {
		r.open(b, op)
		if i > 0 {
			ops[i-1].Output("").(*Output[T]).Attach(stage[T](op))
		}
	}
	ops[len(ops)-1].Output("").(*Output[T]).Attach(&discard[T]{})
	return stage[T](ops[0])
}

func pushes[T any](b *testing.B, first Stage[T], in *batch.Batch[T], hops int) {
	b.ReportAllocs()
	for b.Loop() {
		if err := first.Push(in); err != nil {
			b.Fatal(err)
		}
	}
	perHop := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(in.Len()) / float64(hops)
	b.ReportMetric(perHop, "ns/record/hop")
}

func BenchmarkChain(b *testing.B) {
	const hops = 8
	ints, bids := &batch.Batch[int64]{}, &batch.Batch[bid]{}
	for i := range batch.Rows {
		ints.Append(int64(i), int64(i))
		bids.Append(bid{Auction: int64(i), Channel: "web", URL: fmt.Sprint("item/", i)}, int64(i))
	}
	run := func(name string, i func() Operator, s func() Operator) {
		b.Run(name+"/int64", func(b *testing.B) {
			var ops []Operator
			for range hops {
				ops = append(ops, i())
			}
			pushes(b, chainOf[int64](b, ops...), ints, hops)
		})
		b.Run(name+"/bid", func(b *testing.B) {
			var ops []Operator
			for range hops {
				ops = append(ops, s())
			}
			pushes(b, chainOf[bid](b, ops...), bids, hops)
		})
	}
	run("map",
		func() Operator { return NewMap(func(v int64) int64 { return v + 1 }) },
		func() Operator { return NewMap(func(v bid) bid { v.Price++; return v }) })
	run("filter-all",
		func() Operator { return NewFilter(func(v int64) bool { return v >= 0 }) },
		func() Operator { return NewFilter(func(v bid) bool { return v.Auction >= 0 }) })
	run("filter-one-out",
		func() Operator { return NewFilter(func(v int64) bool { return v != 0 }) },
		func() Operator { return NewFilter(func(v bid) bool { return v.Auction != 0 }) })
	run("flat-map",
		func() Operator { return NewFlatMap(func(v int64, emit func(int64)) { emit(v) }) },
		func() Operator { return NewFlatMap(func(v bid, emit func(bid)) { emit(v) }) })
	run("filter-map",
		func() Operator { return NewFilterMap(func(v int64) (int64, bool) { return v, true }) },
		func() Operator { return NewFilterMap(func(v bid) (bid, bool) { return v, true }) })
	run("process",
		func() Operator {
			return NewProcess(func(_ *Call, v int64, emit func(int64)) error { emit(v); return nil })
		},
		func() Operator { return NewProcess(func(_ *Call, v bid, emit func(bid)) error { emit(v); return nil }) })
}
