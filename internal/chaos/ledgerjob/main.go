// Ledgerjob is the job of chaos runs: accounts with running sums, windows and
// timers, into a transactional sink that the checker owns, or into a stream. See
// package ledger for what must be true of it.
package main

import (
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/internal/chaos/ledger"
	"github.com/millrace/millrace/sdk"
)

func main() { sdk.Main(build) }

func build(env *sdk.Env) error {
	env.Name("ledger")
	env.Doc("Keeps accounts, for runs that break the system around it.")
	input := env.String("input", "entries", "stream of entries")
	store := env.String("outlet", "", "HOST:PORT of the checker's store; a stream without it")
	output := env.String("output", "rows", "stream of rows, without --outlet")
	interval := env.Duration("checkpoint", 200*time.Millisecond, "time between checkpoints")
	ballast := env.Int("ballast", 0, "further keys with 100 bytes of state each")
	env.CheckpointEvery(interval)
	env.CheckpointTimeout(10 * time.Second)
	env.Restart(sdk.RestartAfter(20*time.Millisecond, 0))

	entries := sdk.From(env, shards.Source(input, sdk.CodecOf(ledger.DecodeRecord, nil))).
		WithTimestamps(sdk.BoundedOutOfOrderness(ledger.Bound, func(r ledger.Record) time.Time { return time.UnixMilli(r.Time) }))
	accounted := entries.KeyBy(func(r ledger.Record) uint64 { return r.Key }).Process("accounts", accounts)

	tooLate := sdk.NewTag[ledger.Record]("late")
	windows := accounted.Side(counted).
		KeyBy(func(r ledger.Record) uint64 { return r.Key }).
		Window(sdk.Tumbling(ledger.WindowMillis*time.Millisecond)).
		Late(tooLate).
		Aggregate("windows", total, func(w sdk.Window, key uint64, t Total) ledger.Row {
			return ledger.Row{Kind: ledger.Window, Key: key, Time: w.Start.UnixMilli(), Seq: t.N, Amount: t.Sum}
		})
	late := windows.Side(tooLate).Map(func(r ledger.Record) ledger.Row {
		return ledger.Row{Kind: ledger.Late, Key: r.Key, Seq: r.Seq, Amount: r.Amount, Time: r.Time}
	})
	rows := accounted.Union(windows, late)
	if ballast > 0 {
		rows = rows.Union(weights(env, int64(ballast)))
	}
	if store != "" {
		rows.To(outletSink{store}).Named("outlet")
		return nil
	}
	// The key of a row is that of its account: rows of one key stay in order.
	rows.To(shards.Sink(output, sdk.CodecOf(nil, func(dst []byte, r ledger.Row) ([]byte, error) {
		return ledger.AppendRow(dst, r), nil
	}), func(r ledger.Row) string { return keyText(r.Key) })).Named("outlet")
	return nil
}

// Total is a window's accumulator.
type Total struct {
	N   uint64
	Sum int64
}

var total = sdk.Aggregate[ledger.Record, Total]{
	New: func() Total { return Total{} },
	Add: func(t *Total, r ledger.Record) {
		t.N++
		t.Sum += r.Amount
	},
	Merge: func(a, b *Total) {
		a.N += b.N
		a.Sum += b.Sum
	},
}
