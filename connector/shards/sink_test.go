package shards_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/connector/shards"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
)

func same(v string) string { return v }

func (r *rig) sinkEnv(epoch uint64, subtask int) sdk.SinkEnv {
	return sdk.SinkEnv{UID: "to-out", Lineage: "job", Epoch: epoch, Subtask: subtask, Parallelism: 2, ShardAddress: r.address}
}

// prepare writes records and returns the handle of the checkpoint that ends
// with them.
func prepare(t *testing.T, w sdk.Writer[string], subtask int, id uint64, records ...string) sdk.Handle {
	t.Helper()
	b := sdk.Batch[string]{Values: records, Times: make([]int64, len(records))}
	if err := w.Write(&b); err != nil {
		t.Fatal(err)
	}
	finish, err := w.(sdk.Preparer).Prepare(id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sdk.Handle{Subtask: subtask, Value: h}
}

func TestACommitShowsACheckpointOnceAndWhole(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	s := shards.Sink("out", sdk.Lines(), same)
	tx := s.(sdk.Transactional)
	r.check(tx.Recover(ctx, r.sinkEnv(1, 0), 0, nil))
	var handles []sdk.Handle
	var writers []sdk.Writer[string]
	for subtask := range 2 {
		w, err := s.Open(ctx, r.sinkEnv(1, subtask))
		r.check(err)
		writers = append(writers, w)
		part := numbers(100)[subtask*50 : subtask*50+50]
		handles = append(handles, prepare(t, w, subtask, 1, part...))
	}
	r.holds("out") // nothing before the commit
	for range 2 {  // a commit may come again
		r.check(tx.Commit(ctx, r.sinkEnv(1, 0), 1, handles))
		r.holds("out", numbers(100)...)
	}
	if h := prepare(t, writers[0], 0, 2); h.Value != nil {
		t.Error("a checkpoint without records has a handle")
	}
	for _, w := range writers {
		r.check(w.Close())
	}
}

func TestRecoverySettlesWhatAnOlderAttemptLeft(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	s := shards.Sink("out", sdk.Lines(), same, shards.CreateShards(2))
	tx := s.(sdk.Transactional)
	r.check(tx.Recover(ctx, r.sinkEnv(1, 0), 0, nil))
	zombie, err := s.Open(ctx, r.sinkEnv(1, 0))
	r.check(err)
	defer zombie.Close()
	held := prepare(t, zombie, 0, 1, "in the checkpoint")
	prepare(t, zombie, 0, 2, "after the checkpoint")
	for range 2 { // recovery itself may fail and come again
		r.check(tx.Recover(ctx, r.sinkEnv(2, 0), 1, []sdk.Handle{held}))
		r.holds("out", "in the checkpoint")
	}
	b := sdk.Batch[string]{Values: []string{"from the dead"}, Times: []int64{0}}
	err = zombie.Write(&b)
	if err == nil {
		var finish func(context.Context) ([]byte, error)
		if finish, err = zombie.(sdk.Preparer).Prepare(3); err == nil {
			_, err = finish(ctx)
		}
	}
	if !errors.Is(err, &stream.Error{Kind: stream.StaleEpoch}) {
		t.Errorf("a writer of an older epoch got %v, want stale epoch", err)
	}
	w, err := s.Open(ctx, r.sinkEnv(2, 0))
	r.check(err)
	r.check(tx.Commit(ctx, r.sinkEnv(2, 0), 2, []sdk.Handle{prepare(t, w, 0, 2, "again")}))
	r.check(w.Close())
	r.holds("out", "again", "in the checkpoint")
}

func TestRecoveryRefusesAStreamThatIsAnother(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	s := shards.Sink("out", sdk.Lines(), same)
	w, err := s.Open(ctx, r.sinkEnv(1, 0))
	r.check(err)
	h := prepare(t, w, 0, 1, "lost")
	r.check(w.Close())
	r.drop("out")
	if err := s.(sdk.Transactional).Recover(ctx, r.sinkEnv(2, 0), 1, []sdk.Handle{h}); err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("recovery to a stream that was deleted: %v", err)
	}
	h.Value = h.Value[:len(h.Value)-1]
	if err := s.(sdk.Transactional).Recover(ctx, r.sinkEnv(2, 0), 1, []sdk.Handle{h}); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("a handle that is cut off: %v", err)
	}
}

func TestAtLeastOnceShowsRecordsAtEachFlush(t *testing.T) {
	r := newRig(t)
	s := shards.Sink("out", sdk.Lines(), same, shards.AtLeastOnce())
	if _, ok := s.(sdk.Transactional); ok {
		t.Error("the sink says that it is transactional")
	}
	w, err := s.Open(context.Background(), r.sinkEnv(1, 0))
	r.check(err)
	b := sdk.Batch[string]{Values: numbers(10), Times: make([]int64, 10)}
	r.check(w.Write(&b))
	r.check(w.Flush())
	r.holds("out", numbers(10)...)
	r.check(w.Close())
}

// TestAJobMovesEachRecordOnce runs a whole job from stream to stream, breaks it
// three times on the way, and drains it.
func TestAJobMovesEachRecordOnce(t *testing.T) {
	r := newRig(t)
	r.create("in", 4)
	want := numbers(3000)
	r.put("in", want...)
	var broken atomic.Int32
	drain := make(chan struct{})
	var once sync.Once
	build := func(env *sdk.Env) error {
		env.Name("mover")
		env.Parallelism(2)
		env.CheckpointEvery(20 * time.Millisecond)
		env.Restart(sdk.RestartAfter(time.Millisecond, 0))
		sdk.From(env, shards.Source("in", sdk.Lines())).
			KeyBy(func(v string) string { return v[:3] }).
			Process("breaks", func(op *sdk.KeyedOp[string]) sdk.KeyedFn[string, string, string] {
				seen := op.Value[int64]("seen")
				return sdk.KeyedFn[string, string, string]{Each: func(c *sdk.KeyedContext[string, string], v string) error {
					seen.Set(seen.Get() + 1)
					if strings.HasSuffix(v, "777") && broken.Add(1) <= 3 {
						return errors.New("broken on purpose")
					}
					if broken.Load() > 3 {
						once.Do(func() { close(drain) })
					}
					c.Emit(v)
					return nil
				}}
			}).
			To(shards.Sink("out", sdk.Lines(), same))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r.check(r.run(ctx, build, local.Config{Parallelism: 2, Drain: drain}))
	r.holds("out", want...)
	if broken.Load() <= 3 {
		t.Errorf("the job broke %d times, want 3", broken.Load())
	}
}
