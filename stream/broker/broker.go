package broker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/client"
	"github.com/millrace/millrace/stream/shardlog"
)

// CommandFunc passes a change of the catalog to the job manager and returns
// once it is durable and, for a creation, once its shards can be written.
type CommandFunc func(ctx context.Context, cmd *pb.StreamCommand) error

// Config of a Broker. ID, Log and Command are required.
type Config struct {
	// ID of the task manager: the owner that the catalog names.
	ID string
	// Log holds the task manager's own shards.
	Log     *shardlog.Log
	Command CommandFunc
	// Dial reaches other hosts; a net.Dialer without one.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	Note *slog.Logger
}

// Broker is all streams as one task manager sees them.
type Broker struct {
	cfg    Config
	client *client.Client
	view   atomic.Pointer[view]

	setting sync.Mutex // one SetCatalog at a time
	mu      struct {
		sync.Mutex
		// changed is closed with the next view; nil while nobody waits for it.
		changed chan struct{}
	}
}

var _ stream.Service = (*Broker)(nil)

// view is one version of the catalog, indexed; it is never changed.
type view struct {
	catalog *pb.Catalog
	streams map[string]*streamView
}

type streamView struct {
	*pb.Stream
	router *stream.Router // nil while there is nothing to write to
	open   []*pb.Shard    // in the order of the router's places
	shards map[uint32]*pb.Shard
}

// New returns a broker that knows no catalog yet: until SetCatalog its answers
// are Unavailable.
func New(cfg Config) *Broker {
	if cfg.Note == nil {
		cfg.Note = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg}
	b.client = client.New(client.Config{
		Catalog:  func(context.Context) (*pb.Catalog, error) { return b.catalog() },
		Dial:     cfg.Dial,
		RetryFor: 2 * time.Second,
		Log:      cfg.Note,
	})
	return b
}

// Close ends the connections to other hosts. The log is not the broker's.
func (b *Broker) Close() error { return b.client.Close() }

// SetCatalog takes over a version of the catalog: when it returns, new shards
// of this host can be written, those to be sealed are (see Sealed), and deleted
// ones are gone. An older version than
// the last one is left alone. After an error the old version holds; the same
// one may be set again.
func (b *Broker) SetCatalog(ctx context.Context, cat *pb.Catalog) error {
	b.setting.Lock()
	defer b.setting.Unlock()
	if v := b.view.Load(); v != nil && cat.GetVersion() < v.catalog.GetVersion() {
		return nil
	}
	next, err := newView(cat)
	if err != nil {
		return err
	}
	known := make(map[uint64]bool)
	var specs []shardlog.Spec
	for _, s := range cat.GetStreams() {
		if s.GetStatus() == pb.Stream_STATUS_DELETING {
			continue
		}
		known[s.GetGeneration()] = true
		for _, sh := range s.GetShards() {
			if sh.GetOwner() == b.cfg.ID {
				specs = append(specs, shardlog.Spec{
					ID:        shardlog.ID{Generation: s.GetGeneration(), Shard: sh.GetIndex()},
					Retention: time.Duration(s.GetRetentionHours()) * time.Hour,
					Sealed:    sh.GetClosed() || sh.GetChange() == pb.Shard_CHANGE_SEALING || sh.GetChange() == pb.Shard_CHANGE_SEALED,
					Ended:     sh.GetClosed(),
				})
			}
		}
	}
	if err := b.cfg.Log.Create(ctx, specs...); err != nil {
		return fmt.Errorf("create the shards of catalog version %d: %w", cat.GetVersion(), err)
	}
	b.view.Store(next)
	b.mu.Lock()
	if b.mu.changed != nil {
		close(b.mu.changed)
		b.mu.changed = nil
	}
	b.mu.Unlock()
	return b.dropDeleted(ctx, cat, known)
}

// Await waits until the catalog has reached a version, or ctx ends.
func (b *Broker) Await(ctx context.Context, version uint64) error {
	err := b.await(ctx, func(v *view) bool { return v != nil && v.catalog.GetVersion() >= version || version == 0 })
	if err != nil {
		return stream.Errorf(stream.Unavailable, "wait for version %d of the catalog: %w", version, err)
	}
	return nil
}

// await waits until the view, nil before the first, is as wanted.
func (b *Broker) await(ctx context.Context, wanted func(*view) bool) error {
	for {
		b.mu.Lock()
		if wanted(b.view.Load()) {
			b.mu.Unlock()
			return nil
		}
		if b.mu.changed == nil {
			b.mu.changed = make(chan struct{})
		}
		changed := b.mu.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Sealed is what this host has to report of the catalog that it has taken over:
// the shards that it was to seal, each with its last record.
func (b *Broker) Sealed() []*pb.SealedShard {
	var out []*pb.SealedShard
	for _, s := range b.Current().GetStreams() {
		for _, sh := range s.GetShards() {
			if sh.GetOwner() != b.cfg.ID || sh.GetChange() != pb.Shard_CHANGE_SEALING {
				continue
			}
			end, sealed, err := b.cfg.Log.Sealed(shardlog.ID{Generation: s.GetGeneration(), Shard: sh.GetIndex()})
			if err == nil && sealed {
				out = append(out, &pb.SealedShard{
					Generation: s.GetGeneration(), Shard: sh.GetIndex(), OwnerEpoch: sh.GetOwnerEpoch(), EndingSequence: end[:],
				})
			}
		}
	}
	return out
}

// dropDeleted drops what the catalog has deleted. What it never knew stays: it
// is of a newer catalog, or of another cluster.
func (b *Broker) dropDeleted(ctx context.Context, cat *pb.Catalog, known map[uint64]bool) error {
	dropped := make(map[uint64]bool)
	for _, id := range b.cfg.Log.Shards() {
		g := id.Generation
		if known[g] || dropped[g] || g > cat.GetLastGeneration() {
			continue
		}
		dropped[g] = true
		if err := b.cfg.Log.Drop(ctx, g); err != nil {
			return fmt.Errorf("drop the shards of deleted stream generation %d: %w", g, err)
		}
		b.cfg.Note.Info("stream dropped", "generation", g)
	}
	return nil
}

func newView(cat *pb.Catalog) (*view, error) {
	v := &view{catalog: cat, streams: make(map[string]*streamView, len(cat.GetStreams()))}
	for _, s := range cat.GetStreams() {
		sv := &streamView{Stream: s, shards: make(map[uint32]*pb.Shard, len(s.GetShards()))}
		for _, sh := range s.GetShards() {
			sv.shards[sh.GetIndex()] = sh
		}
		var err error
		if sv.router, sv.open, err = stream.RouteOf(s); err != nil {
			return nil, err
		}
		v.streams[s.GetName()] = sv
	}
	return v, nil
}

func (b *Broker) catalog() (*pb.Catalog, error) {
	if v := b.view.Load(); v != nil {
		return v.catalog, nil
	}
	return nil, stream.Errorf(stream.Unavailable, "this task manager has not heard of the catalog yet: no job manager has answered it")
}

// Current is the catalog as of now, nil before the first. It must not be
// changed.
func (b *Broker) Current() *pb.Catalog {
	if v := b.view.Load(); v != nil {
		return v.catalog
	}
	return nil
}

// Catalog implements stream.Service.
func (b *Broker) Catalog(context.Context) (*pb.Catalog, error) { return b.catalog() }

// Describe implements stream.Service.
func (b *Broker) Describe(_ context.Context, name string) (*pb.Stream, error) {
	s, err := b.stream(name)
	if err != nil {
		return nil, err
	}
	return s.Stream, nil
}

// Command implements stream.Service.
func (b *Broker) Command(ctx context.Context, cmd *pb.StreamCommand) error {
	return b.cfg.Command(ctx, cmd)
}

// Local names a shard in the log if this task manager owns it with the epoch
// that ref carries.
func (b *Broker) Local(ref *pb.ShardRef) (shardlog.ID, error) {
	s, err := b.stream(ref.GetStream())
	if err != nil {
		return shardlog.ID{}, err
	}
	switch g := s.GetGeneration(); {
	case g > ref.GetGeneration():
		return shardlog.ID{}, stream.Errorf(stream.NotFound, "stream %s was deleted; the one that has its name now is new", ref.GetStream())
	case g < ref.GetGeneration():
		return shardlog.ID{}, stream.Errorf(stream.NotOwner, "this host has not heard of stream %s (generation %d) yet", ref.GetStream(), ref.GetGeneration())
	}
	sh := s.shards[ref.GetShard()]
	if sh == nil {
		return shardlog.ID{}, stream.Errorf(stream.ShardNotFound, "stream %s has no %s", ref.GetStream(), stream.ShardName(ref.GetShard()))
	}
	if sh.GetOwner() != b.cfg.ID || sh.GetOwnerEpoch() != ref.GetOwnerEpoch() {
		return shardlog.ID{}, stream.Errorf(stream.NotOwner, "%s of stream %s belongs to task manager %s with epoch %d, not to %s with epoch %d: ask for the catalog again",
			stream.ShardName(ref.GetShard()), ref.GetStream(), sh.GetOwner(), sh.GetOwnerEpoch(), b.cfg.ID, ref.GetOwnerEpoch())
	}
	return shardlog.ID{Generation: ref.GetGeneration(), Shard: ref.GetShard()}, nil
}

// stream finds a stream that is not being deleted.
func (b *Broker) stream(name string) (*streamView, error) {
	v := b.view.Load()
	if v == nil {
		_, err := b.catalog()
		return nil, err
	}
	s := v.streams[name]
	if s == nil {
		return nil, stream.Errorf(stream.NotFound, "stream %s does not exist", name)
	}
	return s, nil
}
