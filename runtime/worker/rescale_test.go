package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/timer"
	"github.com/millrace/millrace/runtime/watermark"
	"github.com/millrace/millrace/runtime/window"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// few are the keys of what is kept by time: each has records all the time.
func (e event) few() string { return fmt.Sprint("few-", (e.N*7+e.Split)%83) }

// bucketed keeps, for each key, a list of its records and a map of their number
// by stretches of time. A timer at the end of a stretch emits what they say and
// takes it out.
func bucketed() operator.Operator {
	const stretch = 60
	return operator.NewKeyedProcess(event.few,
		func(ctx *operator.Context, cur *state.Current[string]) (operator.KeyedFunction[string, event, counted], error) {
			list, e1 := state.NewList[string, int64](ctx.State, cur, "list")
			counts, e2 := state.NewMap[string, int64, int64](ctx.State, cur, "counts")
			timers, e3 := timer.New[string](ctx.State, "timers")
			return operator.KeyedFunction[string, event, counted]{
				EventTimers: timers,
				Process: func(_ *operator.Call, e event, _ func(counted)) error {
					end := (e.N/stretch + 1) * stretch
					list.Append(e.N)
					n, _ := counts.Get(end)
					counts.Put(end, n+1)
					timers.Register(end, cur.Hash(), cur.Key())
					return nil
				},
				OnEventTime: func(c *operator.Call, emit func(counted)) error {
					var sum int64
					var later []int64
					for n := range list.All() {
						if n < c.Time() {
							sum += n
						} else {
							later = append(later, n)
						}
					}
					list.Set(later)
					n, _ := counts.Get(c.Time())
					counts.Delete(c.Time())
					emit(counted{fmt.Sprintf("bucket %s %d has %d", cur.Key(), c.Time(), n), sum})
					return nil
				},
			}, errors.Join(e1, e2, e3)
		})
}

// windowed counts records in windows.
func windowed(kind string, a window.Assigner) func() operator.Operator {
	return func() operator.Operator {
		return window.New(window.Config[string, event, int64, counted]{
			Assigner: a, Key: event.few,
			Aggregate: window.Aggregate[event, int64]{
				New:   func() int64 { return 0 },
				Add:   func(acc *int64, e event) { *acc += e.N },
				Merge: func(a, b *int64) { *a += *b },
			},
			Result: func(w window.Window, key string, acc int64) counted {
				return counted{fmt.Sprintf("%s %s %d to %d", kind, key, w.Start, w.End), acc}
			},
		})
	}
}

// statesOf are the states that an operator declares when it is opened.
func statesOf(t testing.TB, op operator.Operator) []*pb.StateDecl {
	groups := keygroup.RangeOf(0, 1, keygroup.Default)
	ctx := &operator.Context{
		KeyGroups: groups, State: state.NewStore(groups), Clock: clock.System, Log: slog.New(slog.DiscardHandler),
		Attempt: context.Background(), Mail: func(func() error) {}, Wake: func() {}, Metrics: &operator.Metrics{},
	}
	if err := op.Open(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx.State.Declared()
}

// fullJob is the job of the other tests with all kinds of state beside it.
func fullJob(t testing.TB, src *feed, out *ledger) func() (*graph.Graph, error) {
	events, counts, keys := edges(t, event.few)
	base := job(t, src, out)
	branches := []struct {
		name   string
		make   func() operator.Operator
		states []*pb.StateDecl
	}{
		{name: "buckets", make: bucketed},
		{name: "tumbling", make: windowed("tumbling", window.Tumbling(40*time.Millisecond))},
		{name: "sliding", make: windowed("sliding", window.Sliding(90*time.Millisecond, 30*time.Millisecond))},
		{name: "sessions", make: windowed("session", window.Session(4*time.Millisecond))},
	}
	for i := range branches {
		branches[i].states = statesOf(t, branches[i].make())
	}
	return func() (*graph.Graph, error) {
		g, err := base()
		if err != nil {
			return nil, err
		}
		feed, same := g.Nodes[0], g.Nodes[1]
		feed.New = func() operator.Operator {
			return operator.NewSource[event](src, watermark.Strategy[event]{IdleAfter: -1})
		}
		for _, b := range branches {
			op := &graph.Node{
				UID: b.name, Name: b.name, Kind: "Process", States: b.states, New: b.make,
				Inputs: []*graph.Edge{{From: same, Ship: pb.Ship_SHIP_HASH, Type: events, Key: keys}},
			}
			end := &graph.Node{
				UID: b.name + "-ledger", Name: b.name + "-ledger", Kind: "Sink", Transactional: true, Roles: operator.NewSinkRole[counted](out),
				New:    func() operator.Operator { return operator.NewSink[counted](out) },
				Inputs: []*graph.Edge{{From: op, Ship: pb.Ship_SHIP_FORWARD, Type: counts}},
			}
			g.Nodes = append(g.Nodes, op, end)
		}
		return g, nil
	}
}

// TestLiveRescaleSameness rescales a job with all kinds of state at random
// barriers, vertex by vertex, with crashes in between and in the middle.
func TestLiveRescaleSameness(t *testing.T) {
	const n, step = 1200, 90
	uninterrupted := func() []counted {
		src, out := &feed{n: n}, newLedger()
		m := newMaster(t, fullJob(t, src, out), blob.NewMemory(), 1, 0)
		defer m.stop()
		src.raise(n)
		if err := m.attempt(1); err != nil {
			t.Fatal(err)
		}
		return out.committed()
	}
	want := uninterrupted()
	if !slices.ContainsFunc(want, func(c counted) bool { return len(c.Key) > 7 && c.Key[:7] == "session" }) {
		t.Fatal("no session was ever closed")
	}
	seed := uint64(time.Now().UnixNano())
	for _, c := range []struct {
		workers, crashes, inline int
		overtake, tiered         bool
	}{
		{1, 0, 0, false, false},
		{1, 0, 1, false, false},
		{2, 0, 1, false, false},
		{1, 6, 1, false, false},
		{2, 6, 0, false, false},
		{1, 0, 1, true, false},
		{2, 4, 1, true, false},
		{1, 0, 1, false, true}, // all state but one byte is on a disk
		{2, 4, 1, false, true},
		{2, 4, 1, true, true}, // records in flight, and their state on a disk
	} {
		t.Run(fmt.Sprintf("workers=%d/crashes=%d/inline=%d/overtake=%v/tiered=%v", c.workers, c.crashes, c.inline, c.overtake, c.tiered), func(t *testing.T) {
			t.Logf("seed %d", seed)
			if c.tiered {
				testTiered = func(uint64) bool { return true }
				defer func() { testTiered = func(uint64) bool { return false } }()
			}
			if c.overtake {
				testPatience = -1
				defer func() { testPatience = 0 }()
			}
			src, out, rng := &feed{n: n}, newLedger(), rand.New(rand.NewPCG(seed, uint64(c.crashes)))
			m := newMaster(t, fullJob(t, src, out), blob.NewMemory(), c.workers, c.inline)
			defer m.stop()
			m.pace = func() { src.raise(1 + rng.Int64N(step)) }
			m.submitted = 2
			m.spread = func(_ *pb.Vertex, p int) int { return max(1, p-rng.IntN(3)) }
			m.halts = func() bool { return rng.IntN(3) == 0 }
			m.hasty = func() bool { return rng.IntN(2) == 0 }
			rescales := m.rescales(rng, c.crashes, 5)
			if got := out.committed(); !slices.Equal(want, got) {
				for i := range min(len(want), len(got)) {
					if want[i] != got[i] {
						t.Fatalf("seed %d: row %d: got %v, want %v (%d rows, want %d)", seed, i, got[i], want[i], len(got), len(want))
					}
				}
				t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(want))
			}
			t.Logf("%d rescales, %d epochs, %d checkpoints, %d batches in flight", rescales, m.epoch, m.id, m.flights)
			if rescales == 0 {
				t.Errorf("seed %d: the job was never rescaled", seed)
			}
		})
	}
}

// rescales runs the job to its end, each attempt at another parallelism.
func (m *master) rescales(rng *rand.Rand, crashes, maxParallelism int) (rescales int) {
	for {
		m.crash = func() bool { return false }
		if crashes > 0 {
			m.crashAfter(rng.IntN(40))
		}
		err := m.attempt(1 + rng.IntN(maxParallelism))
		switch {
		case err == nil:
			return rescales
		case errors.Is(err, errRescale):
			rescales++
		case errors.Is(err, errCrash):
			crashes--
			m.cancel()
		default:
			m.t.Fatal(err)
		}
	}
}

// What stays in a process is not read again, and the checkpoints after a rescale
// go on from the runs of those before it.
func TestKeptStateIsNeitherReadNorWrittenAgain(t *testing.T) {
	for _, c := range []struct {
		workers     int
		parallelism []int
	}{
		{1, []int{1, 2, 3, 1, 5}},
		{2, []int{2, 2, 2}}, // each worker keeps its own
	} {
		src, out := &feed{n: 4000}, newLedger()
		b := &countingBucket{Bucket: blob.NewMemory(), gets: map[string]int{}}
		m := newMasterWith(t, fullJob(t, src, out), b, c.workers, 1, clock.System, func(cfg *Config) { cfg.unmerged, cfg.Patience = true, time.Hour })
		src.raise(2000) // about every key
		m.submitted = 1
		step, first := 0, true
		m.halts = func() bool { step++; return step%4 == 0 }
		m.deployed = func() { clear(b.gets) }
		m.running = func() {
			if m.complete != nil && len(b.gets) > 0 {
				t.Errorf("%d workers, epoch %d: read %v", c.workers, m.epoch, b.gets)
			}
			first = m.complete != nil
		}
		m.pace = func() {
			src.caughtUp() // the next barrier comes after all records so far
			src.raise(3)
			if first && step%4 == 2 { // the last checkpoint was the first after a rescale
				wrote, all := uint64(0), uint64(0)
				for _, s := range m.complete.GetOperators() {
					if s.GetUid() != "count" {
						continue
					}
					for _, r := range s.GetRuns() {
						if all += r.GetEntries(); r.GetCheckpoint() == m.complete.GetCheckpointId() {
							wrote += r.GetEntries()
						}
					}
				}
				if wrote > 200 || all < testKeys {
					t.Errorf("%d workers, checkpoint %d: %d of %d entries are new", c.workers, m.complete.GetCheckpointId(), wrote, all)
				}
			}
		}
		for _, p := range c.parallelism {
			if err := m.attempt(p); !errors.Is(err, errRescale) {
				t.Fatal(err)
			}
		}
		m.halts = func() bool { return false }
		src.raise(src.n)
		if err := m.attempt(2); err != nil {
			t.Fatal(err)
		}
		var got []counted
		for _, row := range out.committed() {
			if row.Key[:4] == "key-" {
				got = append(got, row)
			}
		}
		if !slices.Equal(got, wanted(src.n)) {
			t.Errorf("%d workers: %d rows, or others than wanted", c.workers, len(got))
		}
		m.stop()
	}
}

func TestChainsAreJoinedInTheOrderOfTheirCheckpoints(t *testing.T) {
	run := func(checkpoint uint64, first, last uint32) *pb.RunRef {
		return &pb.RunRef{Checkpoint: checkpoint, KeyGroupFirst: first, KeyGroupLast: last, Length: 100}
	}
	left := []*pb.RunRef{run(1, 0, 3), run(3, 0, 7), run(4, 0, 3), run(6, 0, 3)}
	right := []*pb.RunRef{run(2, 4, 7), run(3, 0, 7), run(5, 4, 7)}
	joined, ok := joinChains([][]*pb.RunRef{right, left}, keygroup.Range{First: 2, Last: 7, N: 8})
	var got []uint64
	for _, r := range joined {
		got = append(got, r.GetCheckpoint())
	}
	if !ok || !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("joined %v, %v", got, ok)
	}
	if _, ok := joinChains([][]*pb.RunRef{left, {run(0, 4, 7)}}, keygroup.Range{Last: 7, N: 8}); ok {
		t.Error("a run of unknown age was put in order")
	}
	if joined, ok := joinChains([][]*pb.RunRef{{run(0, 0, 3), run(0, 4, 7)}}, keygroup.Range{First: 4, Last: 7, N: 8}); !ok || len(joined) != 1 {
		t.Errorf("one chain: %v, %v", joined, ok)
	}
}
