package shards_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// scale splits or merges shards of a stream.
func (r *rig) scale(name string, n int) {
	r.t.Helper()
	r.check(r.broker.Command(context.Background(), &pb.StreamCommand{Body: &pb.StreamCommand_Scale{Scale: &pb.ScaleStream{Name: name, Shards: uint32(n)}}}))
}

func ids(splits []sdk.Split) string {
	var out []string
	for _, s := range splits {
		id := s.ID[len(s.ID)-1:]
		for _, p := range s.Parents {
			id += "<" + p[len(p)-1:]
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// finish marks splits as read.
func finish(splits []sdk.Split, id ...string) []sdk.Split {
	out := slices.Clone(splits)
	for i := range out {
		out[i].Finished = out[i].Finished || slices.Contains(id, out[i].ID[len(out[i].ID)-1:])
	}
	return out
}

func TestASourceNamesTheChildrenOfItsShards(t *testing.T) {
	r := newRig(t)
	r.create("in", 2)
	env, wake := environment(r)
	src := shards.Source("in", sdk.Records())
	list := func(src sdk.Source[sdk.Record], known []sdk.Split, want string) []sdk.Split {
		t.Helper()
		got, err := src.Splits(context.Background(), env, known)
		r.check(err)
		if ids(got) != want {
			t.Errorf("listed %s, want %s", ids(got), want)
		}
		return got
	}
	known := list(src, nil, "0 1")
	latest := list(shards.Source("in", sdk.Records(), shards.Latest()), nil, "0 1")
	r.put("in", numbers(50)...)
	r.scale("in", 4) // 0 into 2 and 3, 1 into 4 and 5
	r.put("in", numbers(100)[50:]...)
	list(src, nil, "0 1 2<0 3<0 4<1 5<1")
	list(shards.Source("in", sdk.Records(), shards.Latest()), nil, "2<0 3<0 4<1 5<1")
	// A finished shard is kept while a child waits.
	list(src, known, "0 1 2<0 3<0 4<1 5<1")
	known = list(src, finish(known, "0"), "1 2<0 3<0 4<1 5<1")
	known = slices.DeleteFunc(known, func(s sdk.Split) bool { return strings.Contains(ids([]sdk.Split{s}), "<1") })
	r.scale("in", 3) // 2 and 3, or others
	r.scale("in", 2)
	s, err := r.broker.Describe(context.Background(), "in")
	r.check(err)
	if len(s.GetShards()) != 8 {
		t.Fatalf("%d shards", len(s.GetShards()))
	}
	list(src, finish(known, "2"), "1 2<0 3<0 4<1 5<1 6<2<3")
	list(src, finish(known, "2", "3"), "1 4<1 5<1 6<2<3")
	// Who begins at the tips reads children from their starts.
	all := map[string]int{}
	for _, sp := range list(shards.Source("in", sdk.Records(), shards.Latest()), finish(latest, "0", "1"), "2<0 3<0 4<1 5<1") {
		rd, err := src.Open(context.Background(), env, sp, nil)
		r.check(err)
		var b sdk.Batch[sdk.Record]
		poll(t, rd, wake, &b, sdk.ReadFollowed)
		for _, rec := range b.Values {
			all[string(rec.Data)]++
		}
		r.check(rd.Close())
	}
	if len(all) != 50 {
		t.Errorf("the children hold %d records, want those since the split: 50", len(all))
	}
}

// TestAtLeastOnceFollowsASplit: what a closed shard refuses goes to its children.
func TestAtLeastOnceFollowsASplit(t *testing.T) {
	r := newRig(t)
	s := shards.Sink("out", sdk.Lines(), same, shards.AtLeastOnce(), shards.CreateShards(1))
	w, err := s.Open(context.Background(), r.sinkEnv(1, 0))
	r.check(err)
	for i, part := range [][]string{numbers(30)[:10], numbers(30)[10:20], numbers(30)[20:]} {
		b := sdk.Batch[string]{Values: part, Times: make([]int64, len(part))}
		r.check(w.Write(&b))
		r.scale("out", 2<<i)
		r.check(w.Flush())
	}
	r.holds("out", numbers(30)...)
	r.check(w.Close())
}

// TestSplitsOfTheOutputAreNoFailures splits and merges the stream that a job
// writes, whose restart strategy is none: each time its next attempt goes on.
func TestSplitsOfTheOutputAreNoFailures(t *testing.T) {
	r := newRig(t)
	r.create("in", 2)
	r.create("out", 2)
	build := func(env *sdk.Env) error {
		env.Name("copier")
		env.Parallelism(2)
		env.CheckpointEvery(20 * time.Millisecond)
		env.Restart(sdk.NoRestart())
		sdk.From(env, shards.Source("in", sdk.Lines())).
			To(shards.Sink("out", sdk.Lines(), same))
		return nil
	}
	first, drain := make(chan uint64, 100), make(chan struct{})
	ended := map[uint64]job.Exception{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ran := make(chan error, 1)
	go func() {
		ran <- r.run(ctx, build, local.Config{
			Drain: drain,
			Watch: func(o job.Observation) {
				switch o := o.(type) {
				case job.FirstOutput:
					select {
					case first <- o.Epoch:
					default: // nobody looks any more
					}
				case job.AttemptFailed:
					ended[o.Epoch] = o.Exception
				}
			},
		})
	}()
	epoch := uint64(0)
	for i, n := range []int{4, 2, 4, 3, 2} {
		// Of so many some go to each of the shards.
		r.put("in", numbers(200 * (i + 1))[200*i:]...)
		for before := epoch; epoch <= before; {
			select {
			case epoch = <-first:
			case err := <-ran:
				t.Fatalf("after %d changes: %v", i, err)
			}
		}
		r.scale("out", n)
	}
	close(drain)
	r.check(<-ran)
	r.holds("out", numbers(1000)...)
	if len(ended) < 4 {
		t.Errorf("%d attempts ended for a change of the output, want 4 at least", len(ended))
	}
	for epoch, x := range ended {
		if !x.Uncounted || !strings.Contains(x.Error.GetMessage(), "the restart strategy does not count") {
			t.Errorf("epoch %d: %v, want a failure that does not count and says so", epoch, x.Error)
		}
	}
}

// keyOf is the key of a record "key/number".
func keyOf(v string) string {
	key, _, _ := strings.Cut(v, "/")
	return key
}

// TestAJobFollowsSplitsAndMerges moves records from stream to stream while both
// are split and merged, the job breaks and is rescaled: each record once, and each
// key's in order, at the function and in the output.
func TestAJobFollowsSplitsAndMerges(t *testing.T) {
	const keys, each = 40, 150
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	r.create("in", 2)
	r.create("out", 2)
	var breaks atomic.Int32
	var mu sync.Mutex
	var wrong []string
	due := map[string]int{}
	drain := make(chan struct{})
	var once sync.Once
	build := func(env *sdk.Env) error {
		env.Name("mover")
		env.Parallelism(2)
		env.CheckpointEvery(20 * time.Millisecond)
		env.Restart(sdk.RestartAfter(time.Millisecond, 0))
		sdk.From(env, shards.Source("in", sdk.Lines())).
			KeyBy(keyOf).
			Process("orders", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, string, string] {
				next := op.Value[int64]("next")
				return sdk.KeyedFn[string, string, string]{Each: func(c *sdk.KeyedContext[string, string], v string) error {
					if breaks.Add(-1) == 0 {
						return errors.New("broken on purpose")
					}
					want := fmt.Sprintf("%s/%03d", c.Key(), next.Get())
					mu.Lock()
					if v != want {
						wrong = append(wrong, v+" where "+want+" is due")
					}
					due[c.Key()] = max(due[c.Key()], int(next.Get())+1)
					done := 0
					for _, n := range due {
						done += n
					}
					mu.Unlock()
					next.Set(next.Get() + 1)
					if done == keys*each {
						once.Do(func() { close(drain) })
					}
					c.Emit(v)
					return nil
				}}
			}).
			To(shards.Sink("out", sdk.Lines(), keyOf))
		return nil
	}
	rescale := make(chan local.Rescale)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- r.run(ctx, build, local.Config{Parallelism: 2, Drain: drain, Rescale: rescale}) }()
	open := map[string]int{"in": 2, "out": 2}
	var want []string
	for n := range each {
		var entries []stream.Entry
		for k := range keys {
			text := fmt.Sprintf("k%02d/%03d", k, n)
			want = append(want, text)
			entries = append(entries, stream.Entry{PartitionKey: keyOf(text), Hash: stream.HashOf(keyOf(text)), Data: []byte(text)})
		}
		results, err := r.broker.Put(ctx, "in", entries)
		r.check(err)
		for _, res := range results {
			r.check(res.Err)
		}
		name := []string{"in", "in", "in", "out"}[rng.IntN(4)]
		switch to := 1 + rng.IntN(6); {
		case n%6 == 1 && to != open[name] && to <= 2*open[name] && 2*to >= open[name]:
			r.scale(name, to)
			open[name] = to
		case n%40 == 20:
			breaks.Store(1 + int32(rng.IntN(100)))
		case n%40 == 30:
			done := make(chan struct{})
			select {
			case rescale <- local.Rescale{Parallelism: 1 + rng.IntN(3), Done: func(job.Result, error) { close(done) }}:
				<-done
			case err := <-ran:
				t.Fatal(err)
			}
		}
	}
	r.check(<-ran)
	for _, w := range wrong {
		t.Error(w)
	}
	last := map[string]string{}
	for _, v := range r.holds("out", want...) {
		if key := keyOf(v); v <= last[key] {
			t.Errorf("%s follows %s in the output", v, last[key])
		} else {
			last[key] = v
		}
	}
	s, err := r.broker.Describe(context.Background(), "in")
	r.check(err)
	t.Logf("%d shards came to be", len(s.GetShards()))
}
