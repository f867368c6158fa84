package sdktest_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/sdk/sdktest"
)

// remembering keeps what a user did for an hour of event time, the last of it for
// an hour after it was last read by the clock, and folds the rest.
func remembering(in sdk.DataStream[visit]) sdk.DataStream[string] {
	return in.KeyBy(user).Process("remember", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, visit, string] {
		recent := op.List[int]("recent", sdk.TTL(time.Hour))
		by := op.Map[int, string]("by", sdk.TTL(time.Hour))
		last := op.Value[int]("last", sdk.TTL(time.Hour).InProcessingTime().OnRead())
		most := op.Reducing("most", func(sofar, n int) int { return max(sofar, n) })
		count := op.Aggregating("count", sdk.Count[visit]())
		return sdk.KeyedFn[string, visit, string]{
			Each: func(c *sdk.KeyedContext[string, string], v visit) error {
				before := last.GetOr(-1)
				recent.Append(v.N)
				by.Put(v.N, fmt.Sprint(v.N))
				last.Set(v.N)
				most.Add(v.N)
				count.Add(v)
				c.SetTimer(c.Time().Add(time.Hour))
				c.Emit(fmt.Sprint(slices.Collect(recent.All()), slices.Sorted(maps.Keys(maps.Collect(by.All()))), " after ", before, " most ", most.Get(), " of ", count.Get()))
				return nil
			},
			OnTimer: func(c *sdk.KeyedContext[string, string]) error {
				c.Emit(fmt.Sprint("at ", c.Time().Format("15:04"), " ", slices.Collect(recent.All())))
				return nil
			},
		}
	})
}

func TestStateExpiresByHand(t *testing.T) {
	h := sdktest.Operator(t, remembering)
	h.Push(minute(0), visit{"ann", 1})
	h.Push(minute(30), visit{"ann", 2})
	want(t, h.Output(), "[1] [1] after -1 most 1 of 1", "[1 2] [1 2] after 1 most 2 of 2")
	// By the record in hand, wherever the watermark is.
	h.Push(minute(60), visit{"ann", 0})
	want(t, h.Output(), "[2 0] [0 2] after 2 most 2 of 3")
	h.Push(minute(59), visit{"ann", 3})
	want(t, h.Output(), "[1 2 0 3] [0 1 2 3] after 0 most 3 of 4")
	// Timers see what lives at their own time, and what a jump of event time made
	// obsolete is gone for late records.
	h.Watermark(minute(95))
	want(t, h.Output(), "at 01:00 [2 0 3]", "at 01:30 [0 3]")
	saved := h.Snapshot()
	h.Push(minute(40), visit{"ann", 5})
	want(t, h.Output(), "[0 3 5] [0 3 5] after 3 most 5 of 5")
	h.Restore(saved)
	h.Advance(59 * time.Minute)
	h.Push(minute(120), visit{"ann", 6})
	want(t, h.Output(), "[6] [6] after 3 most 6 of 5")
	h.Advance(59*time.Minute + 59*time.Second)
	h.Push(minute(121), visit{"ann", 7})
	want(t, h.Output(), "[6 7] [6 7] after 6 most 7 of 6")
	h.Advance(time.Hour)
	h.Push(minute(122), visit{"ann", 8})
	want(t, h.Output(), "[6 7 8] [6 7 8] after -1 most 8 of 7")
}

// Operators that fold records forget a key with its last one, First with the one
// that it has emitted.
func TestOperatorsForgetByHand(t *testing.T) {
	h := sdktest.Operator(t, func(in sdk.DataStream[visit]) sdk.DataStream[string] {
		k := in.KeyBy(user)
		sum := k.Reduce("sum", func(a, b visit) visit { return visit{a.User, a.N + b.N} }, sdk.TTL(time.Hour))
		count := k.Aggregate("count", sdk.Count[visit](), func(_ string, n int64) int64 { return n }, sdk.TTL(time.Hour).InProcessingTime())
		first := k.First("first", sdk.TTL(time.Hour))
		seen := k.First("seen", sdk.TTL(time.Hour).OnRead())
		return sum.Map(func(v visit) string { return fmt.Sprint("sum ", v.N) }).Union(
			count.Map(func(n int64) string { return fmt.Sprint("count ", n) }),
			first.Map(func(v visit) string { return fmt.Sprint("first ", v.N) }),
			seen.Map(func(v visit) string { return fmt.Sprint("seen ", v.N) }))
	})
	h.Push(minute(0), visit{"ann", 1})
	want(t, h.Output(), "sum 1", "count 1", "first 1", "seen 1")
	h.Push(minute(40), visit{"ann", 2})
	want(t, h.Output(), "sum 3", "count 2")
	h.Advance(59 * time.Minute)
	saved := h.Snapshot()
	h.Push(minute(60), visit{"ann", 4})
	want(t, h.Output(), "sum 7", "count 3", "first 4")
	h.Restore(saved)
	h.Push(minute(60), visit{"ann", 4})
	want(t, h.Output(), "sum 7", "count 3", "first 4")
	h.Push(minute(59), visit{"ann", 8}) // late by the record, early by none
	want(t, h.Output(), "sum 15", "count 4")
	h.Advance(time.Hour)
	h.Push(minute(120), visit{"ann", 16})
	want(t, h.Output(), "sum 16", "count 1", "first 16", "seen 16")
	// Of a record that comes late, the operator's time counts.
	h.Watermark(minute(180))
	h.Push(minute(121), visit{"ann", 32})
	want(t, h.Output(), "sum 32", "count 2", "first 32", "seen 32")
}
