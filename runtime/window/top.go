package window

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
)

// Contender is a key that is among the greatest of a window in one subtask. It
// travels on the edge to the operator that NewFinal makes.
type Contender[K comparable, A any] struct {
	End int64
	Key K
	Acc A
}

// FinalState is the name of the state of NewFinal.
const FinalState = "contenders"

// Final describes the operator that finds the greatest of each window among the
// contenders of all subtasks.
type Final[K comparable, A, R any, V cmp.Ordered] struct {
	Assigner Assigner
	N        int
	Score    func(A) V
	Result   func(w Window, key K, acc A) R
}

// NewFinal makes the operator of one subtask. Its input is keyed by the ends of
// windows; the results of a window leave the greatest first.
func NewFinal[K comparable, A, R any, V cmp.Ordered](f Final[K, A, R, V]) operator.Operator {
	open := func(ctx *operator.Context, cur *state.Current[int64]) (operator.KeyedFunction[int64, Contender[K, A], R], error) {
		var g operator.KeyedFunction[int64, Contender[K, A], R]
		hash, err := keygroup.HasherOf[K]()
		if err != nil {
			return g, err
		}
		windows, err := state.NewTable[int64, []Contender[K, A]](ctx.State, FinalState)
		if err != nil {
			return g, err
		}
		ctx.State.Describe(FinalState, "window")
		ends, err := timer.New[int64](ctx.State, StateName+"-ends")
		g.EventTimers = ends
		g.Process = func(_ *operator.Call, c Contender[K, A], _ func(R)) error {
			all, fresh := windows.Upsert(cur.Hash(), c.End)
			*all = append(*all, c)
			// What ties stays, so the list may grow; to halve it each time
			// that it has doubled keeps the cost of a contender constant.
			if n := len(*all); n >= 2*f.N && n&(n-1) == 0 {
				*all = f.first(*all, hash)
			}
			if fresh {
				ends.Register(c.End-1, cur.Hash(), c.End)
			}
			return nil
		}
		g.OnEventTime = func(_ *operator.Call, emit func(R)) error {
			end := cur.Key()
			all, _ := windows.Upsert(cur.Hash(), end) // first sorts in place
			for _, c := range f.first(*all, hash) {
				emit(f.Result(Window{f.Assigner.start(end), end}, c.Key, c.Acc))
			}
			windows.Delete(cur.Hash(), end)
			return nil
		}
		return g, err
	}
	return operator.NewKeyedProcess(func(c Contender[K, A]) int64 { return c.End }, open)
}

// first sorts contenders and leaves those that are not among the first N, nor tie
// with the last of them.
func (f *Final[K, A, R, V]) first(all []Contender[K, A], hash func(*K) uint64) []Contender[K, A] {
	slices.SortFunc(all, func(a, b Contender[K, A]) int {
		return cmp.Or(cmp.Compare(f.Score(b.Acc), f.Score(a.Acc)), cmp.Compare(hash(&a.Key), hash(&b.Key)))
	})
	if len(all) <= f.N {
		return all
	}
	n := f.N
	for least := f.Score(all[n-1].Acc); n < len(all) && cmp.Compare(f.Score(all[n].Acc), least) == 0; n++ {
	}
	clear(all[n:])
	return all[:n]
}
