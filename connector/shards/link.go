package shards

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

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

// describe returns a stream, or the error that says how to create it.
func (l *link) describe(ctx context.Context, name string) (*pb.Stream, error) {
	s, err := l.Describe(ctx, name)
	if stream.KindOf(err) == stream.NotFound && err != nil {
		return nil, fmt.Errorf("stream %q does not exist: create it with `millrace stream create %s`: %w", name, name, err)
	}
	return s, err
}

// ensure returns a stream and creates it if it is missing.
func (l *link) ensure(ctx context.Context, name string, shards int) (*pb.Stream, error) {
	s, err := l.Describe(ctx, name)
	if err == nil || stream.KindOf(err) != stream.NotFound {
		return s, err
	}
	create := &pb.StreamCommand{Body: &pb.StreamCommand_Create{Create: &pb.CreateStream{Name: name, Shards: uint32(shards)}}}
	if err := l.Command(ctx, create); err != nil && stream.KindOf(err) != stream.Exists {
		return nil, fmt.Errorf("create stream %s with %d shards: %w", name, shards, err)
	}
	return l.Describe(ctx, name)
}
