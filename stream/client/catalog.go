package client

import (
	"context"
	"sync"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
)

// catalogCache keeps the last catalog, indexed. Requests that find it wanting
// fetch it together: one fetch is under way at a time.
type catalogCache struct {
	mu struct {
		sync.Mutex
		catalog *pb.Catalog
		streams map[string]*pb.Stream
		hosts   map[string]string
		fetch   *catalogFetch
	}
}

type catalogFetch struct {
	done    chan struct{}
	catalog *pb.Catalog
	err     error
}

// refresh fetches the catalog. Who calls it while a fetch is under way waits
// for the next one, since that fetch may have been answered already.
func (c *Client) refresh(ctx context.Context) (*pb.Catalog, error) {
	cc := &c.catalog
	for joined := false; ; joined = true {
		cc.mu.Lock()
		f := cc.mu.fetch
		if f == nil {
			f = &catalogFetch{done: make(chan struct{})}
			cc.mu.fetch = f
			cc.mu.Unlock()
			f.catalog, f.err = c.fetchCatalog(ctx)
			cc.mu.Lock()
			cc.mu.fetch = nil
			if f.err == nil {
				cc.setLocked(f.catalog)
			}
			cc.mu.Unlock()
			close(f.done)
			return f.catalog, f.err
		}
		cc.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, stream.Errorf(stream.Unavailable, "wait for the catalog: %w", ctx.Err())
		}
		if joined && f.err == nil {
			return f.catalog, nil
		}
	}
}

func (c *Client) fetchCatalog(ctx context.Context) (*pb.Catalog, error) {
	if c.cfg.Catalog != nil {
		return c.cfg.Catalog(ctx)
	}
	req := &pb.ShardRequest{Body: &pb.ShardRequest_Describe{Describe: &pb.ShardDescribe{}}}
	resp, _, _, err := c.ask(ctx, c.cfg.Address, req, nil)
	if err != nil {
		return nil, err
	}
	if err := stream.FromProto(resp.GetError()); err != nil {
		return nil, err
	}
	return resp.GetCatalog(), nil
}

func (cc *catalogCache) setLocked(cat *pb.Catalog) {
	if cc.mu.catalog != nil && cat.GetVersion() < cc.mu.catalog.GetVersion() {
		return
	}
	cc.mu.catalog = cat
	cc.mu.streams = make(map[string]*pb.Stream, len(cat.GetStreams()))
	for _, s := range cat.GetStreams() {
		cc.mu.streams[s.GetName()] = s
	}
	cc.mu.hosts = make(map[string]string, len(cat.GetHosts()))
	for _, h := range cat.GetHosts() {
		cc.mu.hosts[h.GetId()] = h.GetAddress()
	}
}

// locate names a shard's owner and its address.
func (c *Client) locate(ctx context.Context, shard Shard, fresh bool) (*pb.ShardRef, string, error) {
	if !fresh {
		if ref, address, err := c.catalog.find(shard); err == nil {
			return ref, address, nil
		}
	}
	if _, err := c.refresh(ctx); err != nil {
		return nil, "", err
	}
	return c.catalog.find(shard)
}

func (cc *catalogCache) find(shard Shard) (*pb.ShardRef, string, error) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	s := cc.mu.streams[shard.Stream]
	if s == nil || s.GetGeneration() < shard.Generation {
		return nil, "", stream.Errorf(stream.NotFound, "stream %s does not exist", shard.Stream)
	}
	if s.GetGeneration() != shard.Generation {
		return nil, "", stream.Errorf(stream.NotFound, "stream %s was deleted; the one that has its name now is new", shard.Stream)
	}
	// Shards are listed by index; a gap would be one that retention removed.
	var found *pb.Shard
	if i := int(shard.Index); i < len(s.GetShards()) && s.GetShards()[i].GetIndex() == shard.Index {
		found = s.GetShards()[i]
	} else {
		for _, sh := range s.GetShards() {
			if sh.GetIndex() == shard.Index {
				found = sh
			}
		}
	}
	if found == nil {
		return nil, "", stream.Errorf(stream.ShardNotFound, "stream %s has no %s", shard.Stream, stream.ShardName(shard.Index))
	}
	address := cc.mu.hosts[found.GetOwner()]
	if address == "" {
		return nil, "", stream.Errorf(stream.Unavailable, "task manager %s, the host of %s of stream %s, is away: its data waits there", found.GetOwner(), stream.ShardName(shard.Index), shard.Stream)
	}
	return &pb.ShardRef{Stream: shard.Stream, Generation: shard.Generation, Shard: shard.Index, OwnerEpoch: found.GetOwnerEpoch()}, address, nil
}
