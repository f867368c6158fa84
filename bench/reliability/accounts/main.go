// Accounts is the job that the measurements of bench/reliability run: a keyed
// table of a chosen size under a chosen rate of updates, or windows over them,
// and a sink of a chosen speed.
package main

import (
	"time"

	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(build) }

// Update is a booking to an account.
type Update struct {
	Key uint64
	Seq int64
}

// Account is about a hundred bytes of state with its key.
type Account struct {
	Count, Sum int64
	Rest       [10]uint64
}

// Result says how often an account was booked to.
type Result struct {
	Key   uint64
	Count int64
}

func build(env *sdk.Env) error {
	env.Name("accounts")
	env.Doc("Accounts keeps a table of accounts, first filled, then updated at random.")
	keys := env.Int("keys", 1_000_000, "accounts")
	rate := env.Int("rate", 0, "updates a second in all, once every account is there; 0 is as fast as it goes")
	splits := env.Int("splits", 4, "splits of the source")
	sinkRate := env.Int("sink-rate", 0, "results a second that one subtask of the sink takes; 0 is any")
	every := env.Int("every", 64, "one in so many updates has a result")
	window := env.Duration("window", 0, "count in tumbling windows of this size instead; event time is a second for every --per-second updates")
	perSecond := env.Int("per-second", 100_000, "updates in a second of event time")
	if interval := env.Duration("checkpoint-interval", time.Second, "0 takes none"); interval != time.Second {
		env.CheckpointEvery(interval)
	}

	src := &source{keys: uint64(max(keys, 1)), rate: rate, splits: max(splits, 1)}
	updates := sdk.From[Update](env, src)
	var results sdk.DataStream[Result]
	if window > 0 {
		at := func(u Update) time.Time {
			return time.UnixMilli(u.Seq * 1000 / int64(perSecond))
		}
		results = updates.
			WithTimestamps(sdk.BoundedOutOfOrderness(100*time.Millisecond, at)).
			KeyBy(func(u Update) uint64 { return u.Key }).
			Window(sdk.Tumbling(window)).
			Aggregate("counts", sdk.Count[Update](), func(_ sdk.Window, key uint64, n int64) Result { return Result{key, n} })
	} else {
		results = updates.
			KeyBy(func(u Update) uint64 { return u.Key }).
			Process("accounts", table(int64(max(every, 1))))
	}
	results.Rebalance().To(sdk.FuncBatch(slow(sinkRate))).Named("results")
	return nil
}

func table(every int64) func(op *sdk.KeyedOp[uint64]) sdk.KeyedFn[uint64, Update, Result] {
	return func(op *sdk.KeyedOp[uint64]) sdk.KeyedFn[uint64, Update, Result] {
		accounts := op.Value[Account]("account")
		return sdk.KeyedFn[uint64, Update, Result]{
			Each: func(c *sdk.KeyedContext[uint64, Result], u Update) error {
				accounts.Update(func(a *Account) {
					a.Count++
					a.Sum += u.Seq
					a.Rest[a.Count%10] = uint64(u.Seq)
				})
				if u.Seq%every == 0 {
					c.Emit(Result{u.Key, u.Seq})
				}
				return nil
			},
		}
	}
}

// slow is a sink that takes so many results a second.
func slow(rate int) func([]Result) error {
	return func(results []Result) error {
		if rate > 0 {
			time.Sleep(time.Duration(len(results)) * time.Second / time.Duration(rate))
		}
		return nil
	}
}
