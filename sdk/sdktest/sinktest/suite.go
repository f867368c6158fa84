package sinktest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/millrace/millrace/sdk"
)

// Target is where a sink under test writes to, empty and its own for each seed.
type Target[T any] struct {
	// Sink returns the sink as a process that starts anew makes it.
	Sink func() sdk.Sink[T]
	// Record makes the record with this number; its value says the number.
	Record func(n int) T
	// Visible returns the numbers of the records that a reader sees now, each
	// as often as it is seen, in any order. It fails on what is not whole.
	Visible func(ctx context.Context) ([]int, error)
	// Garbage, if set, counts what is stored and invisible: staged records,
	// temporary files. Ledgers of what was committed do not count.
	Garbage func(ctx context.Context) (int, error)
	// Fail, if set, makes the n-th operation at the target from now on fail,
	// and all that come after it; 0 heals. Calls that fail so must leave what
	// a crash would have left. Visible and Garbage go on working.
	Fail func(n int)
	// ShardAddress is for the sink's environment.
	ShardAddress string
}

// Options say how long to look. Zero values are the defaults.
type Options struct {
	// Seeds is the number of histories, 50; with -short a fifth of it.
	Seeds int
	// Steps is the length of each, 60.
	Steps int
	// First is the first seed, 1. SINKTEST_SEED in the environment runs that
	// seed alone.
	First uint64
	// NoRewinds leaves out jobs that start from a savepoint older than their
	// newest checkpoint.
	NoRewinds bool
}

// Run drives the sinks of targets that open returns through histories.
func Run[T any](t *testing.T, open func(t *testing.T) Target[T], o Options) {
	t.Helper()
	if o.Seeds == 0 {
		o.Seeds = 50
	}
	if testing.Short() {
		o.Seeds = max(1, o.Seeds/5)
	}
	if o.Steps == 0 {
		o.Steps = 60
	}
	if o.First == 0 {
		o.First = 1
	}
	if only, err := strconv.ParseUint(os.Getenv("SINKTEST_SEED"), 10, 64); err == nil {
		o.First, o.Seeds = only, 1
	}
	if open(t).Fail != nil && os.Getenv("SINKTEST_SEED") == "" {
		t.Run("each-fails", func(t *testing.T) { eachFails(t, open) })
	}
	for seed := o.First; seed < o.First+uint64(o.Seeds); seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			if err := history(t.Context(), open(t), seed, o); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// eachFails lets the first, second, third … operation of a checkpoint, its commit
// and a recovery fail, until there are no more; with -short, every fourth.
func eachFails[T any](t *testing.T, open func(t *testing.T) Target[T]) {
	step := 1
	if testing.Short() {
		step = 4
	}
	const most = 1000
	for n, unhurt := 1, 0; unhurt < 3 && !t.Failed(); n += step {
		if n > most {
			t.Fatalf("a checkpoint of a few records takes more than %d operations, or fails without end", most)
		}
		t.Run(fmt.Sprintf("operation-%d", n), func(t *testing.T) {
			w := newWorld(t.Context(), open(t), uint64(n))
			defer w.leave()
			hurt, err := w.oneFails(n)
			if err == nil {
				err = w.settle()
			}
			if err != nil {
				t.Fatalf("%v\nafter:\n%s", err, w.story())
			}
			if unhurt++; hurt {
				unhurt = 0
			}
		})
	}
}

func newWorld[T any](ctx context.Context, target Target[T], seed uint64) *world[T] {
	return &world[T]{
		ctx: ctx, target: target, rng: rand.New(rand.NewPCG(seed, 1)),
		must: map[int]bool{}, may: map[int]bool{},
	}
}

// history plays one seed.
func history[T any](ctx context.Context, target Target[T], seed uint64, o Options) error {
	w := newWorld(ctx, target, seed)
	defer w.leave()
	err := w.play(o)
	if err == nil {
		err = w.settle()
	}
	if err != nil {
		return fmt.Errorf("%w\nseed %d, after:\n%s", err, seed, w.story())
	}
	return nil
}
