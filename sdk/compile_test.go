package sdk

import (
	"context"
	"iter"
	"time"
)

// everyMethod calls every generic method of the package on every kind of
// result, so that the compiler refuses an instantiation cycle here, and not in
// a user's job: a method whose result type wraps T or K compiles alone, and ends
// in a cycle as soon as it meets itself. The compiler looks for cycles in
// generic code as it is declared, so nothing calls this function: to generate
// code for all of its operators would take minutes.
//
//nolint:unused // see above
func everyMethod[T comparable](s DataStream[T]) {
	streamMethods(s)
	streamMethods(s.Map(func(v T) []T { return []T{v} }))
	streamMethods(s.Map(func(v T) map[string]T { return nil }))
	streamMethods(s.KeyBy(func(v T) T { return v }).Reduce("r", func(a, _ T) T { return a }))
	keyedMethods(s.KeyBy(func(v T) T { return v }))
	joinMethods(s, s.Map(func(v T) []T { return []T{v} }).KeyBy(func([]T) (k T) { return k }))
	joinMethods(s.PartitionBy(func(T, int) int { return 0 }), s.Map(func(v T) *T { return &v }).KeyBy(func(v *T) T { return *v }))
	keyedMethods(s.KeyBy(func(v T) [2]T { return [2]T{v} }))
	keyedMethods(s.Map(func(v T) *T { return &v }).KeyBy(func(v *T) T { return *v }))
}

//nolint:unused // see everyMethod
func streamMethods[T any](s DataStream[T]) {
	tag := NewTag[T]("side")
	_ = s.Map(func(v T) T { return v })
	_ = s.Map(func(v T) []T { return []T{v} })
	_ = s.TryMap(func(v T) (map[int]T, error) { return nil, nil })
	_ = s.FlatMap(func(v T, emit func([]T)) { emit(nil) })
	_ = s.FilterMap(func(v T) ([]T, bool) { return []T{v}, true })
	_ = s.Filter(func(T) bool { return true }).Union(s).Rebalance().Broadcast()
	p := s.Process(func(op *Op) Fn[T, []T] {
		side := op.Side(tag)
		return func(c *Context[[]T], v T) error {
			c.EmitTo(side, v)
			c.Emit([]T{v})
			return nil
		}
	})
	_ = p.Side(tag).Named("n").Parallel(2).MaxParallel(4)
	_ = s.WithTimestamps(BoundedOutOfOrderness(time.Second, func(T) time.Time { return time.Time{} }).IdleAfter(1).MaxDrift(1))
	_ = s.WithTimestamps(Monotonous(func(T) time.Time { return time.Time{} }))
	_ = s.WithTimestamps(SourceTimes[T](0)).WithTimestamps(NoWatermarks[T]())
	s.To(Func(func(T) error { return nil })).Named("s").Parallel(1)
	s.To(Print(JSON[T]()))
	_ = s.KeyBy(func(T) string { return "" })
	_ = s.AsyncMap("async", func(context.Context, T) ([]T, error) { return nil, nil }, AsyncUnordered(), AsyncFailed(tag, func(v T, _ error) T { return v })).Side(tag)
	updateMethods(s.AsUpdates())
	late := NewTag[T]("late")
	all := s.WindowAll(Sliding(time.Hour, time.Minute)).AllowedLateness(0).Late(late)
	_ = all.Aggregate("aa", Collect[T](), func(_ Window, vs []T) []T { return vs }).Side(late)
	_ = all.Reduce("ar", func(a, _ T) T { return a }, func(_ Window, v T) [1]T { return [1]T{v} })
	_ = s.Connect(s.Map(func(T) int { return 0 })).Process(func(op *Op) StreamCoFn[T, int, []T] {
		return StreamCoFn[T, int, []T]{
			Left:  func(c *Context[[]T], v T) error { c.Emit([]T{v}); return nil },
			Right: func(*Context[[]T], int) error { return nil },
		}
	})
}

//nolint:unused // see everyMethod
func updateMethods[T any](u Updates[T]) {
	_ = u.Map(func(v T) []T { return []T{v} }).FlatMap(func(v []T, emit func(map[int]T)) {}).Changes(func(Change, map[int]T) T { var v T; return v })
	_ = u.Filter(func(T) bool { return true }).Union(u).Named("u").Parallel(1).MaxParallel(2)
	u.To(FuncUpdates(func(Change, T) error { return nil }))
	k := u.KeyBy(func(T) string { return "" })
	_ = k.TopN("n", 1, func(a, b T) bool { return false }, TTL(time.Hour)).KeyBy(func(T) [2]string { return [2]string{} }).Distinct("d")
	_ = k.TopNRanked("r", 1, func(a, b T) bool { return false }, func(int, T) []T { return nil })
	_ = k.AggregateFunc("f", Collect[T](), func(string, []T) []T { return nil }, func(_, _ []T) bool { return false })
}

//nolint:unused // see everyMethod
func keyedUpdateMethods[K comparable, T any](k KeyedUpdates[K, T]) {
	_ = k.Aggregate("a", Count[T](), func(k K, n int64) [2]K { return [2]K{k} }).KeyBy(func(v [2]K) K { return v[0] }).Distinct("d")
	_ = k.Aggregate("m", MeanOf(func(T) int { return 0 }), func(k K, _ Mean[int]) K { return k })
	_ = k.Max("max", func(T) string { return "" }, func(k K, _ string) [1]K { return [1]K{k} }, TTL(time.Hour).OnRead())
	_ = k.Min("min", func(T) int { return 0 }, func(k K, _ int) K { return k })
	_ = k.CountDistinct("c", func(T) int { return 0 }, func(k K, _ int64) K { return k })
	_ = k.AggregateDistinct("ad", Distincts[T, K, int]{}, func(k K, _ int) [3]K { return [3]K{k} })
	updateMethods(k.Distinct("d"))
}

//nolint:unused // see everyMethod
func keyedMethods[K comparable, T any](k KeyedStream[K, T]) {
	_ = k.Reduce("r", func(a, _ T) T { return a }, TTL(time.Hour).InProcessingTime())
	_ = k.Aggregate("a", Count[T](), func(K, int64) K { var k K; return k })
	_ = k.Aggregate("b", Collect[T](), func(_ K, all []T) []T { return all })
	_ = k.Aggregate("c", Max(func(T) int { return 0 }), func(k K, _ Extreme[int]) [1]K { return [1]K{k} })
	p := k.Process("p", func(op *KeyedOp[K]) KeyedFn[K, T, map[K]T] {
		v, l, m := op.Value[[]T]("v"), op.List[T]("l"), op.Map[K, T]("m")
		side := op.Side(NewTag[K]("keys"))
		fold := op.Reducing("fold", func(a, _ []T) []T { return a }, TTL(time.Hour).OnRead())
		agg := op.Aggregating("agg", Collect[T](), TTL(time.Hour).InProcessingTime())
		aged := op.Map[K, []T]("aged", TTL(time.Minute))
		return KeyedFn[K, T, map[K]T]{
			Each: func(c *KeyedContext[K, map[K]T], r T) error {
				v.Set([]T{r})
				fold.Add(agg.Get())
				agg.Add(r)
				for k, all := range aged.All() {
					l.Append(all...)
					aged.Delete(k)
				}
				l.RemoveFirst(1)
				l.Append(r)
				m.Put(c.Key(), r)
				c.SetTimer(c.Time())
				c.EmitTo(side, c.Key())
				return nil
			},
			OnTimer: func(c *KeyedContext[K, map[K]T]) error { c.Emit(nil); return nil },
		}
	})
	_ = p.Side(NewTag[K]("keys"))
	co := k.Connect(p.KeyBy(func(map[K]T) (key K) { return key })).Process("co", func(op *KeyedOp[K]) CoFn[K, T, map[K]T, []K] {
		l := op.List[T]("l")
		return CoFn[K, T, map[K]T, []K]{
			Left:    func(_ *KeyedContext[K, []K], v T) error { l.Append(v); return nil },
			Right:   func(c *KeyedContext[K, []K], _ map[K]T) error { c.Emit([]K{c.Key()}); return nil },
			OnTimer: func(c *KeyedContext[K, []K]) error { return nil },
		}
	})
	_ = co.Map(func(v []K) K { return v[0] })
	_ = k.First("first")
	_ = k.Last("last").Union(k.Best("best", func(_, _ T) bool { return true }))
	keyedUpdateMethods(k.AsUpdates())
	for _, windows := range []Windows{Tumbling(time.Hour), Sliding(time.Hour, time.Minute), Session(time.Minute).InProcessingTime()} {
		late := NewTag[T]("late")
		w := k.Window(windows).AllowedLateness(0).Late(late).Unfolded()
		_ = w.Aggregate("wa", Sum(func(T) int32 { return 1 }), func(_ Window, k K, n int32) K { return k }).Side(late)
		_ = w.Aggregate("wc", Collect[T](), func(_ Window, _ K, all []T) []T { return all })
		_ = w.Aggregate("wm", Min(func(T) string { return "" }), func(_ Window, k K, _ Extreme[string]) []K { return nil })
		_ = w.Top("wt", 1, Count[T](), func(n int64) int64 { return n }, func(_ Window, k K, _ int64) []K { return []K{k} }).Side(late)
		_ = w.Top("wl", 1, Collect[T](), func(all []T) string { return "" }, func(_ Window, _ K, all []T) []T { return all })
		t := w.Trigger(OnCount[T](3)).Purging()
		_ = t.Aggregate("ta", Collect[T](), func(_ Window, k K, all []T) map[K][]T { return nil }).Side(late)
		_ = w.Trigger(OnDelta(func(_, _ T) bool { return true })).Evict(KeepLast[T](3)).Apply("td", func(_ Window, _ K, all []T) []T { return all })
		_ = w.Trigger(Every[T](time.Second)).Evict(KeepNewest[T](time.Second)).Apply("te", func(_ Window, k K, _ []T) K { return k })
		_ = w.Evict(func(_ Window, all []Kept[T]) []Kept[T] { return all }).Apply("tf", func(_ Window, k K, _ []T) []K { return nil })
		_ = w.Reduce("wr", func(a, _ T) T { return a }, func(_ Window, k K, v T) map[K]T { return nil })
	}
}

//nolint:unused // see everyMethod
func joinMethods[T comparable, R any](s DataStream[T], right KeyedStream[T, R]) {
	k := s.KeyBy(func(v T) T { return v })
	tl, tr := NewTag[T]("left"), NewTag[R]("right")
	j := k.Join(right).TTL(time.Hour).Late(tl, tr)
	in := j.Inner("i", func(l T, r R) map[T]R { return map[T]R{l: r} })
	_ = j.ToOne().Left("l", func(T, *R) [1]T { return [1]T{} }).Side(tr)
	_ = j.Between(0, time.Hour).Right("r", func(*T, R) []R { return nil }).Side(tl)
	_ = j.Retain(0, 0).Full("f", func(l *T, r *R) *T { return l })
	w := j.Window(Tumbling(time.Hour))
	_ = w.Inner("wi", func(l T, r R) []R { return []R{r} })
	_ = w.Left("wl", func(l T, r *R) T { return l })
	_ = w.Right("wr", func(l *T, r R) R { return r })
	_ = w.Full("wf", func(l *T, r *R) *R { return r })
	_ = w.CoGroup("wc", func(_ Window, k T, left iter.Seq[T], right iter.Seq[R], emit func(map[T]R)) { emit(nil) })
	v := k.JoinVersions(right).ValidFor(time.Hour).Late(tl, tr)
	_ = v.Inner("vi", func(l T, r R) []T { return []T{l} })
	_ = v.Left("vl", func(l T, r *R) *T { return &l })
	_ = s.Lookup(LookupTable[T, R]{}, func(v T) T { return v }).Inner(func(l T, r R) []R { return []R{r} })
	_ = s.Lookup(MemoryTable(map[T]R{}), func(v T) T { return v }).Left(func(l T, r *R) [2]T { return [2]T{l, l} })
	_ = s.ConnectBroadcast(in).Process("b", func(op *BroadcastOp) BroadcastFn[T, map[T]R, []R] {
		rules := op.Broadcast[T, R]("rules")
		return BroadcastFn[T, map[T]R, []R]{
			Each:        func(c *Context[[]R], v T) error { c.Emit(nil); return nil },
			OnBroadcast: func(c *BroadcastContext[[]R], m map[T]R) error { var k T; rules.Put(c, k, m[k]); return nil },
		}
	})
	_ = right.ConnectBroadcast(in).Process("kb", func(op *KeyedBroadcastOp[T]) KeyedBroadcastFn[T, R, map[T]R, *T] {
		rules := op.Broadcast[T, []R]("rules")
		return KeyedBroadcastFn[T, R, map[T]R, *T]{
			Each:        func(c *KeyedContext[T, *T], v R) error { _, _ = rules.Get(c.Key()); return nil },
			OnBroadcast: func(c *BroadcastContext[*T], m map[T]R) error { return nil },
		}
	})
}
