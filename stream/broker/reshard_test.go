package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/broker"
	"github.com/millrace/millrace/stream/catalog"
	"github.com/millrace/millrace/stream/client"
)

func split(name string, shard uint32, at stream.HashKey) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Split{Split: &pb.SplitShard{Name: name, Shard: shard, StartingHash: at[:]}}}
}

func scale(name string, shards int) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Scale{Scale: &pb.ScaleStream{Name: name, Shards: uint32(shards)}}}
}

// readLineage reads a stream as its clients must: a shard when its parents have
// ended. It returns the records in that order.
func readLineage(t *testing.T, b *broker.Broker, name string) []string {
	t.Helper()
	s, err := b.Describe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ended := map[uint32]bool{}
	for _, sh := range s.GetShards() { // by index: parents come first
		for _, p := range []uint32{sh.GetParent(), sh.GetAdjacentParent()} {
			if p > 0 && !ended[p-1] {
				t.Fatalf("shard %d has a parent %d that has not ended", sh.GetIndex(), p-1)
			}
		}
		at := stream.Position{From: stream.FromTrimHorizon}
		for {
			res, err := b.Read(t.Context(), name, sh.GetIndex(), at, 100, 1<<20, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range res.Records {
				all = append(all, string(r.Data))
			}
			at = res.Next
			if ended[sh.GetIndex()] = res.End; res.End || len(res.Records) == 0 {
				break
			}
		}
		if end := at.Sequence; sh.GetClosed() && !bytes.Equal(end[:], sh.GetEndingSequence()) {
			t.Errorf("shard %d is read up to %v, its end is %x", sh.GetIndex(), end, sh.GetEndingSequence())
		}
		if ended[sh.GetIndex()] != sh.GetClosed() {
			t.Errorf("shard %d: read to the end %v, closed %v", sh.GetIndex(), ended[sh.GetIndex()], sh.GetClosed())
		}
	}
	return all
}

// Producers at both hosts go on while shards are split and merged: every
// acknowledged record is there once, and each key's are in order.
func TestPutGoesOnWhileShardsAreSplitAndMerged(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := newCluster(t, "a", "b")
	hosts := []*broker.Broker{c.hosts["a"].broker, c.hosts["b"].broker}
	if err := hosts[0].Command(t.Context(), create("s", 2)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sent := make([]int, 8)
	var wg sync.WaitGroup
	for p := range sent {
		wg.Go(func() {
			for ctx.Err() == nil {
				var put []stream.Entry
				for i := range 5 {
					key := fmt.Sprintf("key-%d-%d", p, i)
					put = append(put, stream.Entry{PartitionKey: key, Hash: stream.HashOf(key), Data: fmt.Appendf(nil, "%s/%d", key, sent[p])})
				}
				results, err := hosts[p%2].Put(t.Context(), "s", put)
				if err != nil {
					t.Errorf("producer %d: %v", p, err)
					return
				}
				for _, r := range results {
					if r.Err != nil {
						t.Errorf("producer %d: %v", p, r.Err)
						return
					}
				}
				sent[p]++
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for open := 2; c.cat.GetVersion() < 150; {
		n := 1 + rng.IntN(8)
		if n == open || n > 2*open || 2*n < open {
			continue
		}
		if err := hosts[rng.IntN(2)].Command(t.Context(), scale("s", n)); err != nil {
			t.Fatal(err)
		}
		open = n
	}
	cancel()
	wg.Wait()
	last := map[string]int{}
	for _, text := range readLineage(t, hosts[0], "s") {
		key, n, ok := cut(text)
		if !ok || n != last[key] {
			t.Fatalf("%s follows number %d of its key", text, last[key]-1)
		}
		last[key]++
	}
	for p, n := range sent {
		if n == 0 {
			t.Errorf("producer %d came to nothing", p)
		}
		for i := range 5 {
			if key := fmt.Sprintf("key-%d-%d", p, i); last[key] != n {
				t.Errorf("%s: %d records are there, %d were acknowledged", key, last[key], n)
			}
		}
	}
}

func cut(text string) (key string, n int, ok bool) {
	i := slices.Index([]byte(text), '/')
	if i < 0 {
		return "", 0, false
	}
	_, err := fmt.Sscan(text[i+1:], &n)
	return text[:i], n, err == nil
}

// What a job staged, and its checkpoint holds, is committed after a split too,
// and after another one, whoever does it and however often.
func TestACommitFollowsASplit(t *testing.T) {
	for _, generations := range []int{1, 2} {
		t.Run(fmt.Sprint(generations), func(t *testing.T) {
			c := newCluster(t, "a", "b")
			a := c.hosts["a"].broker
			cl := c.client("a")
			if err := a.Command(t.Context(), create("s", 1)); err != nil {
				t.Fatal(err)
			}
			s, _ := a.Describe(t.Context(), "s")
			st, err := cl.OpenStager(t.Context(), client.StagerConfig{Stream: s, Lineage: "l", Sink: "out", Epoch: 1, Transaction: 1, BlockBytes: 200})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }()
			var want []string
			for _, e := range entries(40) {
				want = append(want, string(e.Data))
				if err := st.Add(e.PartitionKey, e.Hash, e.Data); err != nil {
					t.Fatal(err)
				}
			}
			tx, wait, err := st.Finish(2)
			if err != nil {
				t.Fatal(err)
			}
			counts, err := wait(t.Context())
			if err != nil || len(counts) != 1 {
				t.Fatal(counts, err)
			}
			for n := range generations {
				if err := a.Command(t.Context(), scale("s", 2<<n)); err != nil {
					t.Fatal(err)
				}
			}
			staged := []*pb.StagedCount{{Blocks: counts[0].Blocks, Records: counts[0].Records}}
			var wg sync.WaitGroup
			for range 3 { // an old master and a new one, at once
				wg.Go(func() {
					for range 2 {
						if n, _, err := cl.Commit(t.Context(), counts[0].Shard, tx, staged); err != nil || n != counts[0].Records {
							t.Errorf("commit: %d records, %v", n, err)
						}
					}
				})
			}
			wg.Wait()
			got := readLineage(t, a, "s")
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the stream holds %d records, want %d: %v", len(got), len(want), got)
			}
			// The stager's shard is closed, and it is told so.
			e := entries(1)[0]
			if err := st.Add(e.PartitionKey, e.Hash, e.Data); err != nil {
				t.Fatal(err)
			}
			if _, wait, err = st.Finish(3); err == nil {
				_, err = wait(t.Context())
			}
			wantKind(t, err, stream.Closed)
		})
	}
}

// The job manager does not hear that a shard was sealed; the host comes back and
// says it again. Meanwhile nothing is acknowledged, and nothing is lost.
func TestAHostThatGoesAwayWhileItSeals(t *testing.T) {
	c := newCluster(t, "a")
	fs := vfs.NewMem()
	c.start("b", fs)
	a := c.hosts["a"].broker
	if err := a.Command(t.Context(), create("s", 2)); err != nil {
		t.Fatal(err)
	}
	put := entries(30)
	if _, err := a.Put(t.Context(), "s", put); err != nil {
		t.Fatal(err)
	}
	s, _ := a.Describe(t.Context(), "s")
	var mine *pb.Shard
	for _, sh := range s.GetShards() {
		if sh.GetOwner() == "b" {
			mine = sh
		}
	}
	r, _ := stream.RangeOf(mine)
	at := r.First
	at[1] = 0x55
	h := c.hosts["b"]
	c.mu.Lock()
	next, err := catalog.Decide(c.cat, split("s", mine.GetIndex(), at), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// It seals, and goes before it has said so.
	if err := h.broker.SetCatalog(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	h.stop()
	delete(c.hosts, "b")
	c.set(catalog.SetHost(next, "b", ""))
	if s, _ = a.Describe(t.Context(), "s"); s.GetStatus() != pb.Stream_STATUS_UPDATING {
		t.Errorf("the stream is %v without its host", s.GetStatus())
	}
	c.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		results, err := a.Put(t.Context(), "s", entries(30))
		if err != nil {
			t.Error(err)
		}
		for _, r := range results {
			if r.Err != nil && stream.KindOf(r.Err) != stream.Unavailable {
				t.Error(r.Err)
			}
		}
	})
	c.start("b", fs)
	wg.Wait()
	if s, _ = a.Describe(t.Context(), "s"); s.GetStatus() != pb.Stream_STATUS_ACTIVE || len(s.GetShards()) != 4 {
		t.Errorf("after its host came back the stream is %v", s)
	}
	n := map[string]int{}
	for _, text := range readLineage(t, a, "s") {
		n[text]++
	}
	for _, e := range put {
		if n[string(e.Data)] < 1 {
			t.Errorf("%s is lost", e.Data)
		}
	}
}
