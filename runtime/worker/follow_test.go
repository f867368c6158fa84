package worker

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/source"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/watermark"
	"github.com/millrace/millrace/runtime/window"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// lineKeys are the keys of the test's stream: record n is of key n % lineKeys and
// has time n.
const lineKeys = 64

// line is a stream whose shards are split and merged while it is read. A shard
// holds a range of keys.
type line struct {
	total int64
	mu    struct {
		sync.Mutex
		written int64
		shards  []*lineShard
		wakes   []func()
	}
}

type lineShard struct {
	first, last int64 // keys
	parents     []int
	records     []int64
	closed      bool
}

func newLine(total int64) *line {
	l := &line{total: total}
	l.mu.shards = []*lineShard{{first: 0, last: lineKeys/2 - 1}, {first: lineKeys / 2, last: lineKeys - 1}}
	return l
}

// write appends records to the open shards of their keys.
func (l *line) write(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for end := min(l.mu.written+n, l.total); l.mu.written < end; l.mu.written++ {
		for _, s := range l.mu.shards {
			if k := l.mu.written % lineKeys; !s.closed && s.first <= k && k <= s.last {
				s.records = append(s.records, l.mu.written)
			}
		}
	}
	for _, wake := range l.mu.wakes {
		wake()
	}
}

// reshard splits a shard, or merges two.
func (l *line) reshard(rng *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []int
	for i, s := range l.mu.shards {
		if !s.closed {
			open = append(open, i)
		}
	}
	slices.SortFunc(open, func(a, b int) int { return int(l.mu.shards[a].first - l.mu.shards[b].first) })
	at := rng.IntN(len(open))
	s := l.mu.shards[open[at]]
	if rng.IntN(len(open)) < 3 && s.first < s.last {
		middle := s.first + 1 + rng.Int64N(s.last-s.first)
		s.closed = true
		l.mu.shards = append(l.mu.shards,
			&lineShard{first: s.first, last: middle - 1, parents: []int{open[at]}}, &lineShard{first: middle, last: s.last, parents: []int{open[at]}})
	} else if at+1 < len(open) {
		next := l.mu.shards[open[at+1]]
		s.closed, next.closed = true, true
		l.mu.shards = append(l.mu.shards, &lineShard{first: s.first, last: next.last, parents: []int{open[at], open[at+1]}})
	}
	for _, wake := range l.mu.wakes {
		wake()
	}
}

func (l *line) Bounded() bool { return false }

func (l *line) Splits(context.Context, source.Env, []source.Split) ([]source.Split, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []source.Split
	for i, s := range l.mu.shards {
		sp := source.Split{ID: fmt.Sprint(i), Payload: binary.BigEndian.AppendUint64(nil, uint64(i))}
		for _, p := range s.parents {
			sp.Parents = append(sp.Parents, fmt.Sprint(p))
		}
		out = append(out, sp)
	}
	return out, nil
}

func (l *line) Open(_ context.Context, env source.Env, s source.Split, at []byte) (source.Reader[event], error) {
	r := &lineReader{src: l, shard: int(binary.BigEndian.Uint64(s.Payload))}
	if len(at) > 0 {
		r.at = int(binary.BigEndian.Uint64(at))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.wakes = append(l.mu.wakes, env.Wake)
	return r, nil
}

type lineReader struct {
	src   *line
	shard int
	at    int
}

func (r *lineReader) Poll(b *batch.Batch[event], most int) (source.Status, error) {
	r.src.mu.Lock()
	defer r.src.mu.Unlock()
	s := r.src.mu.shards[r.shard]
	for n := 0; n < min(most, 20) && r.at < len(s.records); n++ {
		at := s.records[r.at]
		b.Append(event{at % lineKeys, at}, at)
		r.at++
	}
	switch {
	case r.at < len(s.records):
		return source.More, nil
	case s.closed:
		return source.Followed, nil
	case r.src.mu.written == r.src.total:
		return source.Ended, nil
	}
	return source.Waiting, nil
}

func (r *lineReader) Position() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(r.at))
}
func (r *lineReader) StopAfter([]byte)    {}
func (r *lineReader) Lag() (int64, int64) { return -1, -1 }
func (r *lineReader) Close() error        { return nil }

func (e event) lineKey() string { return fmt.Sprint("key-", e.Split) }

// inOrder emits each record of a key, and says where one is not the next.
func inOrder() operator.Operator {
	return operator.NewKeyedProcess(event.lineKey,
		func(ctx *operator.Context, cur *state.Current[string]) (operator.KeyedFunction[string, event, counted], error) {
			due, err := state.NewValue[string, int64](ctx.State, cur, "due")
			return operator.KeyedFunction[string, event, counted]{
				Process: func(_ *operator.Call, e event, emit func(counted)) error {
					if n := due.Get(); e.N/lineKeys != n {
						emit(counted{fmt.Sprintf("%s: record %d where %d is due", cur.Key(), e.N/lineKeys, n), e.N})
					}
					due.Set(e.N/lineKeys + 1)
					emit(counted{cur.Key(), e.N})
					return nil
				},
			}, err
		})
}

const lineWindow = 100

func lineWindows() operator.Operator {
	return window.New(window.Config[string, event, int64, counted]{
		Assigner: window.Tumbling(lineWindow * time.Millisecond), Key: event.lineKey,
		Aggregate: window.Aggregate[event, int64]{
			New:   func() int64 { return 0 },
			Add:   func(acc *int64, e event) { *acc += e.N },
			Merge: func(a, b *int64) { *a += *b },
		},
		Result: func(w window.Window, key string, acc int64) counted {
			return counted{fmt.Sprintf("%s from %d", key, w.Start), acc}
		},
	})
}

// plainLine is what the job must come to.
func plainLine(total int64) []counted {
	var rows []counted
	sums := map[string]int64{}
	for n := range total {
		e := event{n % lineKeys, n}
		rows = append(rows, counted{e.lineKey(), n})
		sums[fmt.Sprintf("%s from %d", e.lineKey(), n/lineWindow*lineWindow)] += n
	}
	for key, sum := range sums {
		rows = append(rows, counted{key, sum})
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].Key < rows[j].Key || rows[i].Key == rows[j].Key && rows[i].Count < rows[j].Count
	})
	return rows
}

func lineJob(t testing.TB, src *line, out *ledger) func() (*graph.Graph, error) {
	events, counts, keys := edges(t, event.lineKey)
	branches := []struct {
		name   string
		make   func() operator.Operator
		states []*pb.StateDecl
	}{{name: "order", make: inOrder}, {name: "windows", make: lineWindows}}
	for i := range branches {
		branches[i].states = statesOf(t, branches[i].make())
	}
	return func() (*graph.Graph, error) {
		feed := &graph.Node{
			UID: "line", Name: "line", Kind: "Source", Source: true, Roles: operator.NewSourceRole[event](src),
			New: func() operator.Operator {
				return operator.NewSource[event](src, watermark.Strategy[event]{IdleAfter: -1})
			},
		}
		g := &graph.Graph{Name: "test", Nodes: []*graph.Node{feed}}
		for _, b := range branches {
			op := &graph.Node{
				UID: b.name, Name: b.name, Kind: "Process", States: b.states, New: b.make,
				Inputs: []*graph.Edge{{From: feed, Ship: pb.Ship_SHIP_HASH, Type: events, Key: keys}},
			}
			g.Nodes = append(g.Nodes, op, &graph.Node{
				UID: b.name + "-ledger", Name: b.name + "-ledger", Kind: "Sink", Transactional: true, Roles: operator.NewSinkRole[counted](out),
				New:    func() operator.Operator { return operator.NewSink[counted](out) },
				Inputs: []*graph.Edge{{From: op, Ship: pb.Ship_SHIP_FORWARD, Type: counts}},
			})
		}
		return g, nil
	}
}

// splitsOf are the splits of a source in a checkpoint.
func splitsOf(man *pb.Manifest, uid string) (out []*pb.Split, err error) {
	seen := map[string]bool{}
	for _, s := range man.GetOperators() {
		for _, e := range s.GetEntries() {
			if s.GetUid() != uid || e.GetKind() != checkpoint.EntrySplit {
				continue
			}
			split := &pb.Split{}
			if err := proto.Unmarshal(e.GetValue(), split); err != nil {
				return nil, err
			}
			if seen[split.GetId()] {
				return nil, fmt.Errorf("split %s is in checkpoint %d twice", split.GetId(), man.GetCheckpointId())
			}
			seen[split.GetId()] = true
			out = append(out, split)
		}
	}
	return out, nil
}

// follow does what the job master does after a checkpoint that holds the end of
// splits which others follow.
func (m *master) follow() error {
	return m.operators(func(v *pb.Vertex, o *pb.Operator) error {
		known, err := splitsOf(m.complete, o.GetUid())
		if err != nil || !o.GetSource() || !slices.ContainsFunc(known, (*pb.Split).GetFollowed) {
			return err
		}
		at := map[string]uint32{}
		for _, a := range m.assigned {
			for _, s := range a.GetSplits() {
				if at[s.GetId()] = a.GetSubtask(); !slices.ContainsFunc(known, func(k *pb.Split) bool { return k.GetId() == s.GetId() }) {
					known = append(known, s)
				}
			}
		}
		m.first(&pb.WorkerCommand{Body: &pb.WorkerCommand_Enumerate{Enumerate: &pb.Enumerate{Uid: o.GetUid(), Known: known, Again: true}}})
		var found []*pb.Split
		err = m.await(1, func(r sent) bool {
			for _, a := range r.GetEnumerated().GetSplits() {
				found = append(found, a.GetSplits()...)
			}
			return r.GetEnumerated() != nil
		})
		if err != nil {
			return err
		}
		inFlight := slices.ContainsFunc(m.complete.GetOperators(), func(o *pb.OperatorSnapshot) bool {
			return slices.ContainsFunc(o.GetEntries(), func(e *pb.OperatorEntry) bool { return e.GetKind() == operator.KindInFlight })
		})
		// All that follow a split hold time back before it lets go.
		var released []*pb.SplitAssignment
		for _, s := range found {
			to, least, apart := uint32(0), int64(0), false
			for i, p := range s.GetParents() {
				k := known[slices.IndexFunc(known, func(k *pb.Split) bool { return k.GetId() == p })]
				apart = apart || i > 0 && at[p] != to
				if i == 0 || k.GetWatermark() < least {
					to, least = at[p], k.GetWatermark()
				}
			}
			if apart && inFlight {
				continue
			}
			m.assigned = append(m.assigned, &pb.SplitAssignment{Uid: o.GetUid(), Subtask: to, Splits: []*pb.Split{s}})
			m.leave(m.assigned[len(m.assigned)-1])
			for _, p := range s.GetParents() {
				released = append(released, &pb.SplitAssignment{Uid: o.GetUid(), Subtask: at[p], Released: []string{p}})
			}
		}
		for _, a := range released {
			m.leave(a)
		}
		return nil
	})
}

// leave keeps an assignment for the worker that it is for.
func (m *master) leave(a *pb.SplitAssignment) {
	w := int(a.GetSubtask()) % len(m.workers)
	if m.waiting[w] == nil {
		m.waiting[w] = &pb.AssignSplits{}
	}
	m.waiting[w].Splits = append(m.waiting[w].Splits, a)
}

func (m *master) giveFollowers(worker int) {
	if a := m.waiting[worker]; a != nil {
		delete(m.waiting, worker)
		m.workers[worker].Handle(&pb.WorkerCommand{Epoch: m.epoch, Body: &pb.WorkerCommand_Assign{Assign: a}})
	}
}

// TestSplitsThatFollowOthers reads a stream while its shards are split and
// merged, through crashes, rescales and barriers that overtake: each key's records
// in order and once, none late, as a plain loop has it.
func TestSplitsThatFollowOthers(t *testing.T) {
	const total = 8000
	want := plainLine(total)
	seed := uint64(time.Now().UnixNano())
	for i, c := range []struct {
		workers, crashes int
		overtake         bool
	}{{1, 0, false}, {2, 0, false}, {1, 6, false}, {2, 8, false}, {2, 0, true}, {2, 8, true}} {
		t.Run(fmt.Sprintf("workers=%d/crashes=%d/overtake=%v", c.workers, c.crashes, c.overtake), func(t *testing.T) {
			t.Logf("seed %d", seed)
			if c.overtake {
				testPatience = -1
				defer func() { testPatience = 0 }()
			}
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			src, out := newLine(total), newLedger()
			m := newMaster(t, lineJob(t, src, out), blob.NewMemory(), c.workers, rng.IntN(2))
			defer m.stop()
			m.submitted = 2
			m.spread = func(_ *pb.Vertex, p int) int { return max(1, p-rng.IntN(3)) }
			m.halts = func() bool { return rng.IntN(8) == 0 }
			m.hasty = func() bool { return rng.IntN(2) == 0 }
			m.followed = func() bool { return rng.IntN(2) == 0 }
			m.pace = func() {
				src.write(rng.Int64N(200))
				if rng.IntN(2) == 0 {
					src.reshard(rng)
				}
				src.write(rng.Int64N(100))
			}
			rescales := m.rescales(rng, c.crashes, 4)
			if got := out.committed(); !slices.Equal(want, got) {
				for i := range min(len(want), len(got)) {
					if want[i] != got[i] {
						t.Fatalf("seed %d: row %d: got %v, want %v", seed, i, got[i], want[i])
					}
				}
				t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(want))
			}
			t.Logf("%d shards, %d rescales, %d epochs, %d checkpoints, %d batches in flight", len(src.mu.shards), rescales, m.epoch, m.id, m.flights)
		})
	}
}
