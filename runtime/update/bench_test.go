package update

import (
	"testing"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/operator"
)

// count is a stage that takes rows and looks at none.
type count[R any] struct{ rows int }

func (c *count[R]) Push(b *batch.Batch[R]) error {
	c.rows += b.Len()
	return nil
}

type small struct{ Key, Price, Number int64 }

func benchBatches(keys int64, price func(i int64) int64) []*batch.Batch[small] {
	var all []*batch.Batch[small]
	x := uint64(1)
	for range 64 {
		b := &batch.Batch[small]{}
		for range batch.Rows {
			x = x*6364136223846793005 + 1442695040888963407
			i := int64(len(all))*batch.Rows + int64(b.Len())
			v := small{int64(x>>33) % keys, price(i), i}
			b.AppendKeyed(v, i, hashOf(&v.Key))
		}
		all = append(all, b)
	}
	return all
}

func bench[R any](b *testing.B, op operator.Operator, batches []*batch.Batch[small]) {
	r := newRig[R](b, op, false)
	out := &count[R]{}
	var to operator.Output[R]
	to.Attach(out)
	*op.Output("").(*operator.Output[R]) = to
	in := op.Input(0).(operator.Stage[small])
	for _, part := range batches {
		if err := in.Push(part); err != nil {
			b.Fatal(err)
		}
	}
	out.rows = 0
	_ = r
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := in.Push(batches[n%len(batches)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*batch.Rows), "ns/row")
	b.ReportMetric(float64(out.rows)/float64(n*batch.Rows), "changes/row")
}

// BenchmarkKeyed is the cost of a row, by operator and number of keys.
func BenchmarkKeyed(b *testing.B) {
	key := func(v small) int64 { return v.Key }
	falls := func(i int64) int64 { return -i }
	before := func(x, y small) bool { return x.Price > y.Price }
	same := func(x, y int64) bool { return x == y }
	for _, keys := range []struct {
		name string
		n    int64
	}{{"5", 5}, {"10k", 10_000}} {
		batches := benchBatches(keys.n, falls)
		b.Run("max/nothing changes/"+keys.name, func(b *testing.B) {
			bench[int64](b, NewAggregate(Aggregate[int64, small, int64, int64]{Key: key, New: func() int64 { return -1 << 62 },
				Add: func(acc *int64, v small) { *acc = max(*acc, v.Price) }, Result: func(_, acc int64) int64 { return acc }, Same: same}), batches)
		})
		b.Run("sum/"+keys.name, func(b *testing.B) {
			bench[int64](b, NewAggregate(Aggregate[int64, small, int64, int64]{Key: key, New: func() int64 { return 0 },
				Add: func(acc *int64, v small) { *acc += v.Number }, Result: func(_, acc int64) int64 { return acc }, Same: same}), batches)
		})
		b.Run("best/nothing changes/"+keys.name, func(b *testing.B) { bench[small](b, NewBest(key, before), batches) })
		b.Run("last/"+keys.name, func(b *testing.B) {
			bench[small](b, NewBest(key, func(_, _ small) bool { return true }), batches)
		})
		t := Top[int64, small, small]{Key: key, N: 10, Before: before, Row: func(_ int, v small) small { return v }}
		b.Run("top 10/nothing changes/"+keys.name, func(b *testing.B) { bench[small](b, NewTopN(t), batches) })
		t.Ranked, t.Before = true, func(x, y small) bool { return x.Number > y.Number }
		b.Run("top 10 ranked/"+keys.name, func(b *testing.B) { bench[small](b, NewTopN(t), batches) })
		b.Run("distinct/nothing changes/"+keys.name, func(b *testing.B) {
			bench[int64](b, NewValues(Values[int64, int64, small, int64, int64]{
				Aggregate: Aggregate[int64, small, int64, int64]{Key: key, New: func() int64 { return 0 }, Result: func(_, acc int64) int64 { return acc }, Same: same},
				Values:    func(v small, each func(int64, uint64)) { each(v.Number%1000, 3) },
				Came:      func(acc *int64, _ int64, _ uint64) { *acc++ },
			}), batches)
		})
	}
}
