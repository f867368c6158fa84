//go:build linux

package clustertest

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// reshard splits a shard of a stream, or merges two neighbours, by the command. It
// fails where its task manager is killed under it, or another change is under way.
func (p *parts) reshard(stream string, rng *rand.Rand) (did string, ok bool) {
	p.t.Helper()
	client := p.kinesis.get()
	list, err := client.ListShards(p.t.Context(), &kinesis.ListShardsInput{
		StreamName: &stream, ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest},
	})
	if err != nil {
		return err.Error(), false
	}
	a := list.Shards[rng.IntN(len(list.Shards))]
	args := []string{"stream", "split", stream, *a.ShardId}
	if rng.IntN(5) < len(list.Shards)-1 {
		for _, b := range list.Shards {
			if last, first := *a.HashKeyRange.EndingHashKey, *b.HashKeyRange.StartingHashKey; follows(last, first) {
				args = []string{"stream", "merge", stream, *a.ShardId, *b.ShardId}
			}
		}
	}
	code, out, problem := command(p.t, append(args, "--kinesis", p.tm.ready["kinesis"], "--timeout", "20s")...)
	return strings.Join(args[1:], " ") + ": " + lastLine(out+problem), code == 0
}

// TestKilledWhileShardsAreSplitTheOutputIsTheSame splits and merges the shards of
// the input, and now and then of the output, while a worker, the task manager or
// the job manager is killed.
func TestKilledWhileShardsAreSplitTheOutputIsTheSame(t *testing.T) {
	t.Parallel()
	rng := random(t)
	c := startParts(t, 2)
	mustRun(t, "stream", "create", "flights", "--shards", "2", "--kinesis", c.tm.ready["kinesis"])
	id := submit(t, c.rest, 2, "delays")
	delays := watch(t, &c.kinesis, "delays")
	input := newFeeder(&c.kinesis, "flights")
	order := []victim{worker, jobManager, taskManager, worker, taskManager, jobManager, worker, taskManager}
	changes := 0
	for round, v := range order {
		fed, changed := make(chan error, 1), make(chan bool, 1)
		go func() {
			n := len(flights())
			fed <- input.put(t.Context(), flights()[round*n/len(order):(round+1)*n/len(order)])
		}()
		stream := "flights"
		if round%4 == 3 {
			stream = "delays"
		}
		alone := rand.New(rand.NewPCG(rng.Uint64(), 0))
		if v == taskManager { // the command would go with it: kill right after instead
			did, ok := c.reshard(stream, alone)
			t.Logf("round %d: %s", round, did)
			changed <- ok
		} else {
			go func() {
				did, ok := c.reshard(stream, alone)
				t.Logf("round %d: %s", round, did)
				changed <- ok
			}()
		}
		c.kill(id, v, rng)
		if err := <-fed; err != nil {
			t.Fatalf("round %d, %v: %v", round, v, err)
		}
		if <-changed {
			changes++
		}
		d := c.rest.awaitRunning(t, id, 0)
		t.Logf("round %d: %v killed, epoch %d", round, v, d.Epoch)
	}
	if changes < len(order)/2 {
		t.Errorf("%d of %d rounds split or merged shards", changes, len(order))
	}
	// Each generation of children is read after a checkpoint that holds its
	// parents' ends; a drain takes what is being read.
	for range len(order) {
		c.rest.awaitCheckpoint(t, id, time.Now())
	}
	drain(t, c.rest, id)
	if err := delays.end(); err != nil {
		t.Errorf("a reader of delays saw: %v", err)
	}
	checkOutput(t, &c.kinesis, "delays")
}

// follows says that first is last plus one.
func follows(last, first string) bool {
	n, ok := new(big.Int).SetString(last, 10)
	return ok && n.Add(n, big.NewInt(1)).String() == first
}
