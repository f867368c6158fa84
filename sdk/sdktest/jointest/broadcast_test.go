package jointest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/sdk"
)

// labelled gives records of the left side the number that a record of the right
// side has set for their key, and counts them by key; a negative number deletes.
func labelled(in sdk.DataStream[rec]) sdk.DataStream[string] {
	left := in.Filter(func(v rec) bool { return v.Side == "l" }).KeyBy(keyOf)
	rules := in.Filter(func(v rec) bool { return v.Side == "r" })
	return left.ConnectBroadcast(rules).Process("label", func(op *sdk.KeyedBroadcastOp[string]) sdk.KeyedBroadcastFn[string, rec, rec, string] {
		n := op.Value[int]("n")
		labels := op.Broadcast[string, []int]("labels")
		return sdk.KeyedBroadcastFn[string, rec, rec, string]{
			Each: func(c *sdk.KeyedContext[string, string], v rec) error {
				n.Set(n.Get() + 1)
				label, ok := labels.Get(v.Key)
				c.Emit(fmt.Sprint(v.Key, v.N, " ", label, ok, " of ", labels.Len(), ", ", n.Get()))
				c.SetTimer(at(1000))
				return nil
			},
			OnBroadcast: func(c *sdk.BroadcastContext[string], v rec) error {
				if v.N < 0 {
					labels.Delete(c, v.Key)
					return nil
				}
				old, _ := labels.Get(v.Key)
				labels.Put(c, v.Key, append(slices.Clone(old), v.N))
				return nil
			},
			OnTimer: func(c *sdk.KeyedContext[string, string]) error {
				var all []string
				for k, v := range labels.All() {
					all = append(all, fmt.Sprint(k, v))
				}
				c.Emit(c.Key() + ": " + strings.Join(all, " "))
				return nil
			},
		}
	})
}

func TestBroadcastStateIsReadByAllAndRestored(t *testing.T) {
	h := harness(t, labelled)
	h.Push(at(1), l("a", 1))
	h.Push(at(1), r("a", 5), r("b", 6))
	h.Push(at(1), l("a", 2))
	gives(t, h, "before and after", "a1 [] false of 0, 1", "a2 [5] true of 2, 2")
	saved := h.Snapshot()
	h.Push(at(2), r("a", 7), r("c", 8), r("b", -1))
	h.Push(at(2), l("a", 3))
	gives(t, h, "changed", "a3 [5 7] true of 2, 3")
	h.Restore(saved)
	h.Push(at(2), l("a", 3), l("b", 4))
	gives(t, h, "as it was", "a3 [5] true of 2, 3", "b4 [6] true of 2, 1")
	h.Push(at(2), r("d", 9), r("a", -1))
	h.Restore(h.Snapshot())
	h.End()
	gives(t, h, "in the order in which keys came", "a: b[6] d[9]", "b: b[6] d[9]")
}

// Many deletions leave no gaps behind, also while a walk goes on.
func TestBroadcastStateForgetsWhatIsDeleted(t *testing.T) {
	h := harness(t, func(in sdk.DataStream[rec]) sdk.DataStream[string] {
		rules := in.Filter(func(v rec) bool { return v.Side == "r" })
		left := in.Filter(func(v rec) bool { return v.Side == "l" })
		return left.ConnectBroadcast(rules).Process("all", func(op *sdk.BroadcastOp) sdk.BroadcastFn[rec, rec, string] {
			all := op.Broadcast[int, int]("all")
			return sdk.BroadcastFn[rec, rec, string]{
				Each: func(c *sdk.Context[string], v rec) error {
					sum := 0
					for k, v := range all.All() {
						sum += k * v
					}
					c.Emit(fmt.Sprint(all.Len(), " ", sum))
					return nil
				},
				OnBroadcast: func(c *sdk.BroadcastContext[string], v rec) error {
					if v.N < 0 {
						for k := range all.All() {
							if k%100 != 0 && !all.Delete(c, k) {
								return errors.New("it was there")
							}
						}
						return nil
					}
					all.Put(c, v.N, 1)
					return nil
				},
			}
		})
	})
	for n := range 1000 {
		h.Push(at(1), r("", n))
	}
	h.Push(at(1), l("", 0))
	gives(t, h, "before deletions", "1000 499500")
	h.Push(at(1), r("", -1))
	h.Push(at(1), l("", 0))
	gives(t, h, "after deletions", "10 4500")
	h.Push(at(1), r("", 7), r("", 100))
	h.Push(at(1), l("", 0))
	gives(t, h, "and additions", "11 4507")
	h.Restore(h.Snapshot())
	h.Push(at(1), l("", 0))
	gives(t, h, "and a restore", "11 4507")
}

// Every subtask has the broadcast state, also those that a rescale adds.
func TestBroadcastStateIsTheSameThroughFailures(t *testing.T) {
	rows := samely(t, 2000, func(in sdk.DataStream[int64]) sdk.DataStream[string] {
		even := in.Filter(func(v int64) bool { return v%2 == 0 }).KeyBy(func(v int64) int64 { return v % 64 })
		odd := in.Filter(func(v int64) bool { return v%2 == 1 })
		return even.ConnectBroadcast(odd).Process("sum", func(op *sdk.KeyedBroadcastOp[int64]) sdk.KeyedBroadcastFn[int64, int64, int64, string] {
			n, sums := op.Value[int64]("n"), op.Broadcast[int64, int64]("sums")
			return sdk.KeyedBroadcastFn[int64, int64, int64, string]{
				Each: func(c *sdk.KeyedContext[int64, string], v int64) error {
					n.Set(n.Get() + v)
					c.SetTimer(at(1 << 20)) // the end
					return nil
				},
				OnBroadcast: func(c *sdk.BroadcastContext[string], v int64) error {
					old, _ := sums.Get(v % 10)
					sums.Put(c, v%10, old+v)
					return nil
				},
				OnTimer: func(c *sdk.KeyedContext[int64, string]) error {
					all := int64(0)
					for _, v := range sums.All() {
						all += v
					}
					c.Emit(fmt.Sprint(c.Key(), " ", n.Get(), " ", sums.Len(), " ", all))
					return nil
				},
			}
		})
	})
	if len(rows) != 32 || !strings.HasSuffix(rows[0], " 5 1000000") {
		t.Errorf("%d rows, want 32 that end in 5 1000000, the sum of all odd numbers: %q", len(rows), rows)
	}
}
