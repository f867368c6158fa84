package join

import (
	"testing"

	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
)

// A key with fifty thousand rows puts into a checkpoint what has come since the
// last one, and a record that meets none of them looks at none.
func TestAHotKeyCostsWhatComesToIt(t *testing.T) {
	id := func(v int64) int64 { return 7 }
	looks := 0
	pair := func(l, r *int64) string { looks++; return "" }
	for name, op := range map[string]operator.Operator{
		"keyed":    NewKeyed(KeyedConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair}),
		"interval": NewInterval(IntervalConfig[int64, int64, int64, string]{Left: id, Right: id, Pair: pair, Lower: -1, Upper: 1}),
	} {
		s := begin(t, op, keygroup.RangeOf(0, 1, keygroup.Default), nil)
		hash, err := keygroup.HasherOf[int64]()
		if err != nil {
			t.Fatal(err)
		}
		k := int64(7)
		push := func(port, n int, at int64) {
			for ; n > 0; n -= min(n, batch.Rows) {
				var b batch.Batch[int64]
				for i := range min(n, batch.Rows) {
					b.AppendKeyed(int64(i), at, hash(&k))
				}
				if err := op.Input(port).(operator.Stage[int64]).Push(&b); err != nil {
					t.Fatal(err)
				}
			}
		}
		changes := func() uint64 {
			f := s.store.Freeze(false)
			defer f.Release()
			w := snapshot.NewWriter(keygroup.Default)
			if err := f.Write(w); err != nil {
				t.Fatal(err)
			}
			run, err := w.Finish()
			if err != nil {
				t.Fatal(err)
			}
			return uint64(run.Entries)
		}
		push(0, 50_000, 100)
		if n := changes(); n < 50_000 {
			t.Errorf("%s: %d entries in the first checkpoint", name, n)
		}
		changes() // which is in full, as nearly all had changed
		push(0, 3, 101)
		if n := changes(); n > 4 {
			t.Errorf("%s: %d entries in a checkpoint after three records, want those and the key's first row", name, n)
		}
		if looks = 0; name == "interval" {
			push(1, 10, 105) // within bounds of none
			if looks != 0 {
				t.Errorf("%d pairs", looks)
			}
		}
	}
}
