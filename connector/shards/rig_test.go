package shards_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/clock"
	"github.com/millrace/millrace/local"
	"github.com/millrace/millrace/runtime/graph"
	"github.com/millrace/millrace/sdk"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/broker"
	"github.com/millrace/millrace/stream/catalog"
	"github.com/millrace/millrace/stream/server"
	"github.com/millrace/millrace/stream/shardlog"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is one host of shards with a catalog of its own, behind a real socket.
type rig struct {
	t       *testing.T
	broker  *broker.Broker
	clock   *clock.Virtual // of the log: it says what has expired
	address string

	mu  sync.Mutex
	cat *pb.Catalog
}

func newRig(t *testing.T) *rig {
	t.Helper()
	now := clock.NewVirtual(time.Now())
	log, err := shardlog.Open("log", shardlog.Options{FS: vfs.NewMem(), Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, clock: now, address: ln.Addr().String()}
	r.broker = broker.New(broker.Config{ID: "host", Log: log, Command: r.command})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = log.Run(ctx) })
	wg.Go(func() { _ = server.New(r.broker, log, nil).Serve(ctx, ln) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = r.broker.Close()
		_ = log.Close()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(catalog.SetHost(r.cat, "host", r.address))
	return r
}

func (r *rig) set(cat *pb.Catalog) {
	for cat != nil {
		r.cat = cat
		applied := map[string]uint64{}
		if err := r.broker.SetCatalog(context.Background(), cat); err == nil {
			applied["host"] = cat.GetVersion()
		}
		if cat = catalog.Sealed(cat, "host", r.broker.Sealed(), time.Now()); cat == nil {
			cat = catalog.Settle(r.cat, applied)
		}
	}
}

func (r *rig) command(_ context.Context, cmd *pb.StreamCommand) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := catalog.Decide(r.cat, cmd, time.Now())
	if err != nil {
		return err
	}
	r.set(next)
	return nil
}

func (r *rig) create(name string, shards uint32) {
	r.t.Helper()
	r.check(r.broker.Command(context.Background(), &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: name, Shards: shards}}}))
}

func (r *rig) drop(name string) {
	r.t.Helper()
	r.check(r.broker.Command(context.Background(), &pb.StreamCommand{Body: &pb.StreamCommand_Delete{Delete: &pb.DeleteStream{Name: name}}}))
}

// expire makes all records older than any retention.
func (r *rig) expire() {
	r.t.Helper()
	r.clock.Advance(2 * 365 * 24 * time.Hour)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check(r.broker.SetCatalog(context.Background(), r.cat))
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// put sends records with their own text as the partition key.
func (r *rig) put(name string, data ...string) {
	r.t.Helper()
	for part := range slices.Chunk(data, stream.MaxPutRecords) {
		var entries []stream.Entry
		for _, d := range part {
			entries = append(entries, stream.Entry{PartitionKey: d, Hash: stream.HashOf(d), Data: []byte(d)})
		}
		results, err := r.broker.Put(context.Background(), name, entries)
		r.check(err)
		for _, res := range results {
			r.check(res.Err)
		}
	}
}

// records returns all records of a stream, shard after shard.
func (r *rig) records(ctx context.Context, name string) (all []string, err error) {
	s, err := r.broker.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.GetShards() {
		at := stream.Position{From: stream.FromTrimHorizon}
		for {
			res, err := r.broker.Read(ctx, name, sh.GetIndex(), at, 1000, 1<<20, 0)
			if err != nil {
				return nil, err
			}
			if len(res.Records) == 0 {
				break
			}
			for _, rec := range res.Records {
				all = append(all, string(rec.Data))
			}
			at = res.Next
		}
	}
	return all, nil
}

// holds compares the records of a stream with what it is to hold, in any order,
// and returns them as they were read.
func (r *rig) holds(name string, want ...string) []string {
	r.t.Helper()
	got, err := r.records(context.Background(), name)
	r.check(err)
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		r.t.Errorf("stream %s (-want +got):\n%s", name, diff)
	}
	return got
}

// run runs a job on this host's shards.
func (r *rig) run(ctx context.Context, build func(*sdk.Env) error, config local.Config) error {
	config.Graph = func() (*graph.Graph, error) { return sdk.Plan(build, nil, false) }
	config.ShardAddress = r.address
	return local.Run(ctx, config)
}
