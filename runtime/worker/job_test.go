package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/operator"
	"github.com/millrace/millrace/runtime/sink"
	"github.com/millrace/millrace/runtime/source"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is a record of the test job: the n-th of its split.
type event struct {
	Split int64
	N     int64
}

// The job: splits of numbered events, counted by key, into a ledger. There are
// many keys, so that a checkpoint changes few of them.
const (
	testSplits = 5
	testKeys   = 2003
)

func (e event) key() string { return fmt.Sprint("key-", (e.N*31+e.Split)%testKeys) }

// counted is what the keyed count emits: the n-th of its key.
type counted struct {
	Key   string
	Count int64
}

// feed is the source. Each split has n records, which it gives out up to a
// limit that the test raises, so that barriers fall everywhere.
type feed struct {
	n  int64
	mu struct {
		sync.Mutex
		limit int64
		wakes []func()
		// at says where splits stand that wait, moved that this has changed.
		at    [testSplits]int64
		moved chan struct{}
	}
}

// caughtUp waits until every split has given out what it may.
func (f *feed) caughtUp() {
	for {
		f.mu.Lock()
		limit, behind := min(f.mu.limit, f.n), false
		for _, at := range f.mu.at {
			behind = behind || at < limit
		}
		f.mu.moved = make(chan struct{})
		moved := f.mu.moved
		f.mu.Unlock()
		if !behind {
			return
		}
		<-moved
	}
}

// stands notes that a split has given out all up to here.
func (f *feed) stands(split, at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.at[split] = at
	if f.mu.moved != nil {
		close(f.mu.moved)
		f.mu.moved = nil
	}
}

// raise lets each split go on by some records.
func (f *feed) raise(by int64) {
	f.mu.Lock()
	f.mu.limit += by
	wakes := f.mu.wakes
	f.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

func (f *feed) limit() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(f.mu.limit, f.n)
}

type feedReader struct {
	src       *feed
	split, at int64
}

func (f *feed) Bounded() bool { return true }

func (f *feed) Splits(context.Context, source.Env, []source.Split) ([]source.Split, error) {
	var out []source.Split
	for i := range testSplits {
		out = append(out, source.Split{ID: fmt.Sprint(i), Payload: []byte{byte(i)}})
	}
	return out, nil
}

func (f *feed) Open(_ context.Context, env source.Env, s source.Split, at []byte) (source.Reader[event], error) {
	r := &feedReader{src: f, split: int64(s.Payload[0])}
	if len(at) > 0 {
		r.at = int64(binary.BigEndian.Uint64(at))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.wakes = append(f.mu.wakes, env.Wake)
	return r, nil
}

func (r *feedReader) Poll(b *batch.Batch[event], most int) (source.Status, error) {
	limit := r.src.limit()
	for n := 0; n < min(most, 50) && r.at < limit; n++ {
		b.Append(event{r.split, r.at}, r.at)
		r.at++
	}
	if r.at < limit {
		return source.More, nil
	}
	r.src.stands(r.split, r.at)
	if r.at == r.src.n {
		return source.Ended, nil
	}
	return source.Waiting, nil
}

func (r *feedReader) Position() []byte    { return binary.BigEndian.AppendUint64(nil, uint64(r.at)) }
func (r *feedReader) StopAfter([]byte)    {}
func (r *feedReader) Lag() (int64, int64) { return -1, r.src.n - r.at }
func (r *feedReader) Close() error        { return nil }

// ledger is a transactional sink that the test owns. What was staged is
// forgotten unless a handle brings it back; a transaction commits once.
type ledger struct {
	mu struct {
		sync.Mutex
		rows    []counted
		seen    map[string]bool
		commits int
		epoch   uint64
	}
}

// staged is a handle: the transaction's name and its rows.
type staged struct {
	Name string
	Rows []counted
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.seen = map[string]bool{}
	return l
}

func (l *ledger) Open(_ context.Context, env sink.Env) (sink.Writer[counted], error) {
	return &ledgerWriter{env: env}, nil
}

func (l *ledger) Recover(_ context.Context, env sink.Env, _ uint64, handles []sink.Handle) error {
	l.mu.Lock()
	l.mu.epoch = env.Epoch
	l.mu.Unlock()
	return l.commit(env, handles)
}

func (l *ledger) Commit(_ context.Context, env sink.Env, _ uint64, handles []sink.Handle) error {
	return l.commit(env, handles)
}

func (l *ledger) commit(env sink.Env, handles []sink.Handle) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if env.Epoch < l.mu.epoch {
		return fmt.Errorf("epoch %d is fenced by %d", env.Epoch, l.mu.epoch)
	}
	for _, h := range handles {
		var s staged
		if err := json.Unmarshal(h.Value, &s); err != nil {
			return err
		}
		if l.mu.seen[s.Name] {
			continue
		}
		l.mu.seen[s.Name] = true
		l.mu.rows = append(l.mu.rows, s.Rows...)
		l.mu.commits++
	}
	return nil
}

// committed are the rows, by key and count.
func (l *ledger) committed() []counted {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := append([]counted(nil), l.mu.rows...)
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].Key < rows[j].Key || rows[i].Key == rows[j].Key && rows[i].Count < rows[j].Count
	})
	return rows
}

type ledgerWriter struct {
	env  sink.Env
	rows []counted
}

func (w *ledgerWriter) Write(b *batch.Batch[counted]) error {
	w.rows = append(w.rows, b.Values...)
	return nil
}
func (w *ledgerWriter) Flush() error { return nil }
func (w *ledgerWriter) Close() error { return nil }

func (w *ledgerWriter) Prepare(id uint64) (func(context.Context) ([]byte, error), error) {
	s := staged{fmt.Sprintf("%s/%d/%d/%d", w.env.UID, w.env.Epoch, id, w.env.Subtask), w.rows}
	w.rows = nil
	return func(context.Context) ([]byte, error) {
		if len(s.Rows) == 0 {
			return nil, nil
		}
		return json.Marshal(s)
	}, nil
}

// countByKey is the keyed operator of the job.
func countByKey() operator.Operator {
	return operator.NewKeyedProcess(event.key,
		func(ctx *operator.Context, cur *state.Current[string]) (operator.KeyedFunction[string, event, counted], error) {
			n, err := state.NewValue[string, int64](ctx.State, cur, "count")
			return operator.KeyedFunction[string, event, counted]{
				Process: func(_ *operator.Call, _ event, emit func(counted)) error {
					c := n.Get() + 1
					n.Set(c)
					emit(counted{cur.Key(), c})
					return nil
				},
			}, err
		})
}

// edges are the types of the edges of events and of counts, and what hashes events
// by key.
func edges(t testing.TB, key func(event) string) (events, counts exchange.Type, keys func(*batch.Batch[event])) {
	events, e1 := exchange.TypeOf[event]()
	counts, e2 := exchange.TypeOf[counted]()
	hash, e3 := keygroup.HasherOf[string]()
	if err := errors.Join(e1, e2, e3); err != nil {
		t.Fatal(err)
	}
	return events, counts, func(b *batch.Batch[event]) {
		b.Hashes = b.Hashes[:0]
		for _, e := range b.Values {
			k := key(e)
			b.Hashes = append(b.Hashes, hash(&k))
		}
	}
}

// job builds the graph: feed → map → count by key → ledger.
func job(t testing.TB, src *feed, out *ledger) func() (*graph.Graph, error) {
	events, counts, keys := edges(t, event.key)
	declared, err := state.DeclareValue[string, int64]("count")
	if err != nil {
		t.Fatal(err)
	}
	return func() (*graph.Graph, error) {
		source := &graph.Node{
			UID: "feed", Name: "feed", Kind: "Source", Source: true, Bounded: true, Roles: operator.NewSourceRole[event](src),
			New: func() operator.Operator { return operator.NewSource[event](src, watermark.Strategy[event]{}) },
		}
		same := &graph.Node{
			UID: "same", Name: "same", Kind: "Map",
			New:    func() operator.Operator { return operator.NewMap(func(e event) event { return e }) },
			Inputs: []*graph.Edge{{From: source, Ship: pb.Ship_SHIP_FORWARD, Type: events}},
		}
		count := &graph.Node{
			UID: "count", Name: "count", Kind: "Process", States: declared, New: countByKey,
			Inputs: []*graph.Edge{{From: same, Ship: pb.Ship_SHIP_HASH, Type: events, Key: keys}},
		}
		end := &graph.Node{
			UID: "ledger", Name: "ledger", Kind: "Sink", Transactional: true, Roles: operator.NewSinkRole[counted](out),
			New:    func() operator.Operator { return operator.NewSink[counted](out) },
			Inputs: []*graph.Edge{{From: count, Ship: pb.Ship_SHIP_FORWARD, Type: counts}},
		}
		return &graph.Graph{Name: "test", Nodes: []*graph.Node{source, same, count, end}}, nil
	}
}

// wanted are the rows of an uninterrupted run.
func wanted(n int64) []counted {
	counts := map[string]int64{}
	var rows []counted
	for s := range int64(testSplits) {
		for i := range n {
			k := event{s, i}.key()
			counts[k]++
			rows = append(rows, counted{k, counts[k]})
		}
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].Key < rows[j].Key || rows[i].Key == rows[j].Key && rows[i].Count < rows[j].Count
	})
	return rows
}
