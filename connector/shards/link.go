package shards

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/client"
)

// link is a client of the shards that all readers and writers of this process
// share, counted: one catalog and one connection per host.
type link struct {
	*client.Client
	address string
	users   int
}

var links struct {
	sync.Mutex
	byAddress map[string]*link
}

// errNoCluster is the error of a job that has no shards to reach.
var errNoCluster = errors.New("there are no shards here, for the job runs by hand in its own process: " +
	"run it on a cluster (millrace run), or choose another source and sink where env.Local() is true")

// dial returns the process's client for a shard socket; release gives it back.
func dial(address string, log *slog.Logger) (*link, error) {
	if address == "" {
		return nil, errNoCluster
	}
	links.Lock()
	defer links.Unlock()
	l := links.byAddress[address]
	if l == nil {
		l = &link{Client: client.New(client.Config{Address: address, Log: log}), address: address}
		if links.byAddress == nil {
			links.byAddress = map[string]*link{}
		}
		links.byAddress[address] = l
	}
	l.users++
	return l, nil
}

// release closes the client when nobody else uses it. Closing waits, so it is
// done without the lock.
func (l *link) release() error {
	links.Lock()
	l.users--
	last := l.users == 0
	if last {
		delete(links.byAddress, l.address)
	}
	links.Unlock()
	if !last {
		return nil
	}
	return l.Close()
}

// describe returns a stream, or the error that says how to create it. A stream
// that was created a moment ago may be news to this host: it waits heardWait.
func (l *link) describe(ctx context.Context, name string) (*pb.Stream, error) {
	for began := time.Now(); ; {
		s, err := l.Describe(ctx, name)
		if err == nil || stream.KindOf(err) != stream.NotFound {
			return s, err
		}
		if time.Since(began) > heardWait {
			return nil, stream.Errorf(stream.NotFound, "stream %q does not exist: create it with `millrace stream create %s`", name, name)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(hostsPoll):
		}
	}
}

// streams is what ensure asks of a client.
type streams interface {
	Describe(ctx context.Context, name string) (*pb.Stream, error)
	Command(ctx context.Context, cmd *pb.StreamCommand) error
}

const (
	// hostsWait is how long a stream may take from its creation until all of
	// its hosts have opened it.
	hostsWait = 30 * time.Second
	// heardWait is how long this host may take to hear of a stream that exists.
	heardWait = 2 * time.Second
	hostsPoll = 5 * time.Millisecond
)

// changing says that shards of a stream are being created, split or merged, or
// are to the knowledge of those that closed some.
func changing(s *pb.Stream, closed []client.Shard) bool {
	if s.GetStatus() == pb.Stream_STATUS_CREATING || s.GetStatus() == pb.Stream_STATUS_UPDATING {
		return true
	}
	return slices.ContainsFunc(s.GetShards(), func(sh *pb.Shard) bool {
		return !sh.GetClosed() && slices.Contains(closed, client.Shard{Stream: s.GetName(), Generation: s.GetGeneration(), Index: sh.GetIndex()})
	})
}

// ensure returns a stream that can be written, created if it is missing. All
// subtasks of a sink do this at once: one creates the stream, and the others may
// be told that it exists before this host has heard of it. So may who was told that
// shards are closed.
func ensure(ctx context.Context, c streams, name string, shards int, closed ...client.Shard) (*pb.Stream, error) {
	s, err := c.Describe(ctx, name)
	if err != nil && stream.KindOf(err) == stream.NotFound {
		create := &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: name, Shards: uint32(shards)}}}
		if err := c.Command(ctx, create); err != nil && stream.KindOf(err) != stream.Exists {
			return nil, fmt.Errorf("create stream %s with %d shards: %w", name, shards, err)
		}
		s, err = c.Describe(ctx, name)
	}
	for began := time.Now(); ; s, err = c.Describe(ctx, name) {
		waits := err == nil && changing(s, closed) || err != nil && stream.KindOf(err) == stream.NotFound
		if !waits {
			return s, err
		}
		if err != nil && time.Since(began) > heardWait {
			return nil, stream.Errorf(stream.Unavailable, "stream %s exists, but this task manager has not heard of it within %v: is it attached to the job manager, and can it write its disk?", name, heardWait)
		}
		if time.Since(began) > hostsWait {
			return nil, stream.Errorf(stream.Unavailable, "stream %s was created, split or merged, but not all of its hosts have done their part within %v: are all task managers up?", name, hostsWait)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(hostsPoll):
		}
	}
}
