package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/cluster"
	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/taskmanager/supervise"
)

// TaskManager is one run of a task manager.
type TaskManager struct {
	config      Config
	folder      *folder
	incarnation uint64
	shards      *shards
	supervisor  *supervise.Supervisor

	// link is the one to the job manager, from the moment of dialling; nil
	// between two.
	link  atomic.Pointer[link]
	ready chan struct{}
	once  struct{ ready, close sync.Once }
	// catalogs holds the newest catalog that is not yet applied.
	catalogs chan *pb.Catalog
	asked    chan struct{} // a token for each request under way

	mu struct {
		sync.Mutex
		epoch    uint64 // the highest of a leader that registered us
		buckets  map[string]blob.Bucket
		closeErr error
	}
}

// New takes the data folder, opens the shard log and binds the shard socket.
// Run must follow, or Close. A folder in use, a full disk or a bad setting is
// an error that names it.
func New(config Config) (*TaskManager, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	t := &TaskManager{config: config, incarnation: randomUint64(), ready: make(chan struct{}),
		catalogs: make(chan *pb.Catalog, 1), asked: make(chan struct{}, 16)}
	t.mu.buckets = map[string]blob.Bucket{}
	err := t.open()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start task manager: %w", err), t.Close())
	}
	return t, nil
}

func (t *TaskManager) open() error {
	var err error
	if t.folder, err = openFolder(t.config.Data, t.config.Lock); err != nil {
		return err
	}
	if t.shards, err = openShards(t.config, t.folder.id, t.streamCommand); err != nil {
		return err
	}
	t.supervisor, err = supervise.New(supervise.Config{
		Data: t.config.Data, Owner: t.folder.id, SlotMemory: t.config.SlotMemory,
		DataHost: t.config.Bind, Advertise: t.config.Advertise, ShardAddress: t.shards.address,
		Handshake: t.config.Handshake, Hang: t.config.Hang, Profile: t.config.Profile, LogLimit: t.config.LogLimit, Up: t.up, Log: t.config.Log,
	})
	return err
}

// ID is the task manager's name in the cluster, kept in its data folder.
func (t *TaskManager) ID() string { return t.folder.id }

// ShardAddress is where others reach the shard socket.
func (t *TaskManager) ShardAddress() string { return t.shards.address }

// Service is every stream of the cluster, for the Kinesis API. Until a job
// manager has sent the catalog, it answers stream.Unavailable.
func (t *TaskManager) Service() stream.Service { return t.shards.broker }

// Ready is closed once a job manager has accepted this task manager and the
// catalog that it sent has been applied, for the first time.
func (t *TaskManager) Ready() <-chan struct{} { return t.ready }

// Run works until ctx ends, then stops workers, closes shards and frees the
// folder. It returns nil after such an end, else why it could not go on: a
// shard log that failed must not acknowledge anything more.
func (t *TaskManager) Run(ctx context.Context) error {
	// Two lives: workers end first, then what they and their obituaries need.
	outer, stopOuter := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopOuter(nil)
	inner, stopInner := context.WithCancel(ctx)
	defer stopInner()
	var group sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		group.Go(func() {
			if err := f(outer); err != nil && outer.Err() == nil {
				stopOuter(fmt.Errorf("%s: %w", what, err))
				stopInner()
			}
		})
	}
	members, err := t.join()
	if err != nil {
		return errors.Join(err, t.Close())
	}
	if members != nil {
		run("gossip", members.Run)
	}
	run("shard log", t.shards.log.Run)
	run("shard socket", t.shards.serve)
	run("catalog", t.applyCatalogs)
	run("control link", func(ctx context.Context) error { return t.stayAttached(ctx, members) })

	err = t.supervisor.Run(inner)
	stopOuter(err)
	group.Wait()
	if cause := context.Cause(outer); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return errors.Join(err, t.Close())
}

// join makes this process a member of the cluster, where it has to look for
// its job manager.
func (t *TaskManager) join() (*cluster.Cluster, error) {
	if t.config.JobManager != "" {
		return nil, nil
	}
	bind := t.config.Gossip
	if bind == "" {
		bind = net.JoinHostPort(t.config.Bind, "0")
	}
	advertise := ""
	if t.config.Advertise != t.config.Bind {
		advertise = t.config.Advertise
	}
	return cluster.Join(cluster.Config{
		Name: t.folder.id, Role: cluster.TaskManager, Bind: bind, Advertise: advertise, Seeds: t.config.Join,
		Meta: cluster.Meta{ClusterID: t.folder.clusterID()}, Logger: t.config.Log,
	})
}

// Close frees what New took. Run does it by itself.
func (t *TaskManager) Close() error {
	t.once.close.Do(func() {
		var errs []error
		if t.supervisor != nil {
			errs = append(errs, t.supervisor.Close())
		}
		if t.shards != nil {
			errs = append(errs, t.shards.close())
		}
		for _, b := range t.mu.buckets {
			errs = append(errs, b.Close())
		}
		if t.folder != nil {
			errs = append(errs, t.folder.close())
		}
		t.mu.closeErr = errors.Join(errs...)
	})
	return t.mu.closeErr
}

// bucket opens the bucket of a job manager, once per URL.
func (t *TaskManager) bucket(ctx context.Context, url string) (blob.Bucket, error) {
	t.mu.Lock()
	b := t.mu.buckets[url]
	t.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b, err := t.config.OpenBucket(ctx, url)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.buckets[url] = b // only the link's goroutine gets here
	return b, nil
}

// hardware of this machine, as far as it can be read.
func hardware(cores int) *pb.Hardware {
	total, _ := memory()
	return &pb.Hardware{Cores: uint32(cores), MemoryBytes: total}
}

// selfResident is the resident set of this process.
func selfResident() uint64 { return supervise.Resident(os.Getpid()) }

func shardFolder(data string) string { return filepath.Join(data, "shards") }
