package main

import (
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/sdk"
)

// counted are the entries that are no repeats.
var counted = sdk.NewTag[ledger.Record]("counted")

// lateBy tells an entry that was made to come late from those that are only out
// of order: it lies that far behind the account's newest.
const lateBy = 30_000

// accounts keeps the running sum of each key.
func accounts(op *sdk.KeyedOp[uint64]) sdk.KeyedFn[uint64, ledger.Record, ledger.Row] {
	state := op.Value[Account]("account")
	side := op.Side(counted)
	return sdk.KeyedFn[uint64, ledger.Record, ledger.Row]{
		Each: func(c *sdk.KeyedContext[uint64, ledger.Row], r ledger.Record) error {
			a := state.Get()
			if r.Seq < a.Next {
				c.Emit(ledger.Row{Kind: ledger.Repeat, Key: r.Key, Seq: r.Seq, Amount: r.Amount, Time: r.Time})
				return nil
			}
			a.Next = r.Seq + 1 // a gap is for the checker to see
			a.Sum += r.Amount
			late := r.Time < a.Newest-lateBy
			a.Newest = max(a.Newest, r.Time)
			state.Set(a)
			if ledger.HasTimer(r, late) {
				c.SetTimer(time.UnixMilli(r.Time + ledger.TimerDelay))
			}
			c.Emit(ledger.Row{Kind: ledger.Entry, Key: r.Key, Seq: r.Seq, Amount: r.Amount, Time: r.Time, Sum: a.Sum})
			c.EmitTo(side, r)
			return nil
		},
		OnTimer: func(c *sdk.KeyedContext[uint64, ledger.Row]) error {
			c.Emit(ledger.Row{Kind: ledger.Timer, Key: c.Key(), Time: c.Time().UnixMilli()})
			return nil
		},
	}
}

func keyText(key uint64) string { return strconv.FormatUint(key, 36) }

// weights makes state of a size: nothing of it is seen outside.
func weights(env *sdk.Env, n int64) sdk.DataStream[ledger.Row] {
	return sdk.From(env, sdk.Generate(n, func(i int64) int64 { return i })).Named("weights-in").
		WithTimestamps(sdk.NoWatermarks[int64]()).
		KeyBy(func(i int64) int64 { return i }).
		Process("weights", func(op *sdk.KeyedOp[int64]) sdk.KeyedFn[int64, int64, ledger.Row] {
			state := op.Value[[100]byte]("weight")
			return sdk.KeyedFn[int64, int64, ledger.Row]{Each: func(c *sdk.KeyedContext[int64, ledger.Row], i int64) error {
				state.Set([100]byte{byte(i), byte(i >> 8), byte(i >> 16)})
				return nil
			}}
		})
}
