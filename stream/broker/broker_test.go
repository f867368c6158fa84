package broker_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/broker"
	"github.com/millrace/millrace/stream/catalog"
	"github.com/millrace/millrace/stream/client"
	"github.com/millrace/millrace/stream/server"
	"github.com/millrace/millrace/stream/shardlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a job manager's catalog with hosts around it.
type cluster struct {
	t     *testing.T
	mu    sync.Mutex
	cat   *pb.Catalog
	hosts map[string]*host
}

type host struct {
	broker  *broker.Broker
	address string
	stop    func()
}

func newCluster(t *testing.T, hosts ...string) *cluster {
	c := &cluster{t: t, hosts: make(map[string]*host)}
	for _, id := range hosts {
		c.start(id, vfs.NewMem())
	}
	t.Cleanup(func() {
		for _, h := range c.hosts {
			h.stop()
		}
	})
	return c
}

func (c *cluster) start(id string, fs vfs.FS) {
	c.t.Helper()
	log, err := shardlog.Open("log", shardlog.Options{FS: fs})
	if err != nil {
		c.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	h := &host{address: ln.Addr().String()}
	h.broker = broker.New(broker.Config{ID: id, Log: log, Command: c.command})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = log.Run(ctx) })
	wg.Go(func() { _ = server.New(h.broker, log, nil).Serve(ctx, ln) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		_ = h.broker.Close()
		_ = log.Close()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts[id] = h
	c.set(catalog.SetHost(c.cat, id, h.address))
}

// set pushes a catalog to all hosts and settles what they have applied.
func (c *cluster) set(cat *pb.Catalog) {
	for cat != nil {
		c.cat = cat
		applied := make(map[string]uint64)
		for id, h := range c.hosts {
			if err := h.broker.SetCatalog(c.t.Context(), cat); err == nil {
				applied[id] = cat.GetVersion()
			}
		}
		next := catalog.Settle(cat, applied)
		for id, h := range c.hosts {
			if sealed := catalog.Sealed(cat, id, h.broker.Sealed(), time.Now()); sealed != nil {
				next = sealed
				break
			}
		}
		cat = next
	}
}

func (c *cluster) command(_ context.Context, cmd *pb.StreamCommand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, err := catalog.Decide(c.cat, cmd, time.Now())
	if err != nil {
		return err
	}
	c.set(next)
	return nil
}

func create(name string, shards uint32) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: name, Shards: shards}}}
}

func remove(name string) *pb.StreamCommand {
	return &pb.StreamCommand{Body: &pb.StreamCommand_Delete{Delete: &pb.DeleteStream{Name: name}}}
}

func (c *cluster) client(id string) *client.Client {
	cl := client.New(client.Config{Address: c.hosts[id].address, RetryFor: 2 * time.Second})
	c.t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func entries(n int) []stream.Entry {
	out := make([]stream.Entry, n)
	for i := range out {
		key := fmt.Sprint("key", i)
		out[i] = stream.Entry{PartitionKey: key, Hash: stream.HashOf(key), Data: []byte(fmt.Sprint("data", i))}
	}
	return out
}

func wantKind(t *testing.T, err error, kind stream.Kind) {
	t.Helper()
	if err == nil || stream.KindOf(err) != kind {
		t.Errorf("got error %v, want one of kind %q", err, kind)
	}
}

func TestPutAndReadWhereverTheShardsLive(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.hosts["a"].broker, c.hosts["b"].broker
	if err := a.Command(t.Context(), create("flights", 4)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, a.Command(t.Context(), create("flights", 4)), stream.Exists)
	s, err := b.Describe(t.Context(), "flights")
	if err != nil || s.GetStatus() != pb.Stream_STATUS_ACTIVE {
		t.Fatalf("described as %v, %v", s, err)
	}
	owners := make(map[string]int)
	for _, sh := range s.GetShards() {
		owners[sh.GetOwner()]++
	}
	if owners["a"] != 2 || owners["b"] != 2 {
		t.Errorf("shards are placed %v, want two each", owners)
	}
	results, err := a.Put(t.Context(), "flights", entries(100))
	if err != nil {
		t.Fatal(err)
	}
	byShard := make(map[uint32][]string)
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("entry %d: %v", i, r.Err)
		}
		byShard[r.Shard] = append(byShard[r.Shard], fmt.Sprint("data", i))
	}
	for name, reader := range map[string]*broker.Broker{"a": a, "b": b} {
		for shard := range uint32(4) {
			got, err := reader.Read(t.Context(), "flights", shard, stream.Position{From: stream.FromTrimHorizon}, 1000, 1<<20, 0)
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, r := range got.Records {
				texts = append(texts, string(r.Data))
			}
			if fmt.Sprint(texts) != fmt.Sprint(byShard[shard]) {
				t.Errorf("through %s shard %d holds %v, want %v", name, shard, texts, byShard[shard])
			}
		}
	}
}

func TestARefusedEntryTakesLaterOnesOfItsShardWithIt(t *testing.T) {
	c := newCluster(t, "a")
	b := c.hosts["a"].broker
	if err := b.Command(t.Context(), create("s", 1)); err != nil {
		t.Fatal(err)
	}
	put := entries(3)
	put[1].Data = make([]byte, stream.MaxRecordBytes+1)
	results, err := b.Put(t.Context(), "s", put)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || results[1].Err == nil || results[2].Err == nil {
		t.Errorf("got %v, want the second and third refused", results)
	}
	_, err = b.Put(t.Context(), "none", put)
	wantKind(t, err, stream.NotFound)
}

func TestADeletedStreamIsNotItsSuccessor(t *testing.T) {
	c := newCluster(t, "a")
	b := c.hosts["a"].broker
	for range 2 {
		if err := b.Command(t.Context(), create("s", 1)); err != nil {
			t.Fatal(err)
		}
		if err := b.Command(t.Context(), remove("s")); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.Describe(t.Context(), "s")
	wantKind(t, err, stream.NotFound)
	if err := b.Command(t.Context(), create("s", 1)); err != nil {
		t.Fatal(err)
	}
	s, _ := b.Describe(t.Context(), "s")
	_, err = c.client("a").Read(t.Context(), client.Shard{Stream: "s", Generation: s.GetGeneration() - 1}, client.ReadRequest{At: stream.Position{From: stream.FromTrimHorizon}})
	wantKind(t, err, stream.NotFound)
	old := stream.NewSequence(s.GetGeneration()-1, 0, 1)
	_, err = b.Read(t.Context(), "s", 0, stream.Position{From: stream.FromAfterSequence, Sequence: old}, 1, 1, 0)
	wantKind(t, err, stream.InvalidArgument)
}

func TestAHostThatIsAwayKeepsItsShards(t *testing.T) {
	c := newCluster(t, "a")
	fs := vfs.NewMem()
	c.start("b", fs)
	a := c.hosts["a"].broker
	if err := a.Command(t.Context(), create("s", 2)); err != nil {
		t.Fatal(err)
	}
	put := entries(20)
	if _, err := a.Put(t.Context(), "s", put); err != nil {
		t.Fatal(err)
	}
	c.hosts["b"].stop()
	c.mu.Lock()
	delete(c.hosts, "b")
	c.set(catalog.SetHost(c.cat, "b", ""))
	c.mu.Unlock()
	s, _ := a.Describe(t.Context(), "s")
	cl := client.New(client.Config{Address: c.hosts["a"].address, RetryFor: -1})
	defer func() { _ = cl.Close() }()
	count := func(want stream.Kind) (n int) {
		for _, sh := range s.GetShards() {
			got, err := cl.Read(t.Context(), client.Shard{Stream: "s", Generation: s.GetGeneration(), Index: sh.GetIndex()}, client.ReadRequest{At: stream.Position{From: stream.FromTrimHorizon}})
			if sh.GetOwner() == "b" && want != stream.Internal {
				wantKind(t, err, want)
			} else if err != nil {
				t.Error(err)
			}
			n += got.Records.Count()
		}
		return n
	}
	count(stream.Unavailable)
	c.start("b", fs)
	if n := count(stream.Internal); n != len(put) {
		t.Errorf("%d records after the host came back, want %d", n, len(put))
	}
}

func TestStagerAndReaderThroughACommit(t *testing.T) {
	c := newCluster(t, "a", "b")
	cl := c.client("a")
	if err := cl.Command(t.Context(), create("out", 3)); err != nil {
		t.Fatal(err)
	}
	s, err := cl.Describe(t.Context(), "out")
	if err != nil {
		t.Fatal(err)
	}
	var readers []*client.Reader
	wake := make(chan struct{}, 1)
	for _, sh := range s.GetShards() {
		r := cl.OpenReader(t.Context(), client.ReaderConfig{
			Shard: client.Shard{Stream: "out", Generation: s.GetGeneration(), Index: sh.GetIndex()},
			At:    stream.Position{From: stream.FromTrimHorizon},
			Wake: func() {
				select {
				case wake <- struct{}{}:
				default:
				}
			},
		})
		defer func() { _ = r.Close() }()
		readers = append(readers, r)
	}
	st, err := cl.OpenStager(t.Context(), client.StagerConfig{Stream: s, Lineage: "l", Sink: "s", Epoch: 1, BlockBytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	for _, e := range entries(50) {
		if err := st.Add(e.PartitionKey, e.Hash, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	tx, wait, err := st.Finish(1)
	if err != nil {
		t.Fatal(err)
	}
	counts, err := wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Held() {
		t.Error("a finished stager holds records")
	}
	for _, k := range counts {
		if tip, err := cl.Tip(t.Context(), k.Shard); err != nil || tip.Place() != 0 {
			t.Errorf("before the commit the tip is %d (%v)", tip.Place(), err)
		}
		short := []*pb.StagedCount{{Blocks: k.Blocks + 1, Records: k.Records + 1}}
		_, _, err := cl.Commit(t.Context(), k.Shard, tx, short)
		wantKind(t, err, stream.Incomplete)
		for i := range 2 {
			n, already, err := cl.Commit(t.Context(), k.Shard, tx, []*pb.StagedCount{{Blocks: k.Blocks, Records: k.Records}})
			if err != nil || n != k.Records || already != (i == 1) {
				t.Errorf("commit %d of %v: %d records, already %v, %v", i, k.Shard, n, already, err)
			}
		}
		if _, err := cl.Fence(t.Context(), k.Shard, "l", "s", 2, nil); err != nil {
			t.Error(err)
		}
	}
	if got := drain(t, readers, wake, 50); got != 50 {
		t.Errorf("readers saw %d records, want 50", got)
	}
	e := entries(1)[0]
	if err := st.Add(e.PartitionKey, e.Hash, e.Data); err != nil {
		t.Fatal(err)
	}
	_, wait, err = st.Finish(2)
	if err == nil {
		_, err = wait(t.Context())
	}
	wantKind(t, err, stream.StaleEpoch)
}

// drain polls readers until they have given n records.
func drain(t *testing.T, readers []*client.Reader, wake <-chan struct{}, n int) int {
	t.Helper()
	seen := 0
	for seen < n {
		progress := false
		for _, r := range readers {
			b, status := r.Next()
			if status == client.Failed {
				t.Fatal(r.Err())
			}
			it := b.Records()
			for rec := (block.Record{}); it.Next(&rec); {
				seen++
			}
			progress = progress || status == client.Ready
		}
		if !progress {
			select {
			case <-wake:
			case <-time.After(10 * time.Second):
				t.Fatalf("no wake-up after %d of %d records", seen, n)
			}
		}
	}
	return seen
}

func TestOwnershipIsCheckedWithItsEpoch(t *testing.T) {
	c := newCluster(t, "a", "b")
	a := c.hosts["a"].broker
	if err := a.Command(t.Context(), create("s", 2)); err != nil {
		t.Fatal(err)
	}
	s, _ := a.Describe(t.Context(), "s")
	for _, sh := range s.GetShards() {
		ref := &pb.ShardRef{Stream: "s", Generation: s.GetGeneration(), Shard: sh.GetIndex(), OwnerEpoch: sh.GetOwnerEpoch()}
		if _, err := c.hosts[sh.GetOwner()].broker.Local(ref); err != nil {
			t.Errorf("the owner refuses: %v", err)
		}
		other := map[string]string{"a": "b", "b": "a"}[sh.GetOwner()]
		_, err := c.hosts[other].broker.Local(ref)
		wantKind(t, err, stream.NotOwner)
		ref.OwnerEpoch++
		_, err = c.hosts[sh.GetOwner()].broker.Local(ref)
		wantKind(t, err, stream.NotOwner)
	}
	_, err := a.Local(&pb.ShardRef{Stream: "s", Generation: s.GetGeneration() + 1})
	wantKind(t, err, stream.NotOwner)
}
