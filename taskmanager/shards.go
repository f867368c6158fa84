package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/broker"
	"github.com/millrace/millrace/stream/server"
	"github.com/millrace/millrace/stream/shardlog"
	"github.com/millrace/millrace/taskmanager/supervise"
)

// shards is what this task manager hosts, and its view of the rest.
type shards struct {
	log      *shardlog.Log
	broker   *broker.Broker
	server   *server.Server
	listener net.Listener
	address  string
}

func openShards(config Config, id string, command broker.CommandFunc) (*shards, error) {
	log, err := shardlog.Open(shardFolder(config.Data), shardlog.Options{Log: config.Log})
	if err != nil {
		return nil, err
	}
	s := &shards{log: log}
	s.broker = broker.New(broker.Config{ID: id, Log: log, Command: command, Note: config.Log})
	s.server = server.New(s.broker, log, config.Log)
	if s.listener, err = net.Listen("tcp", net.JoinHostPort(config.Bind, "0")); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for shard connections: %w", err), s.broker.Close(), log.Close())
	}
	_, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.address = net.JoinHostPort(config.Advertise, port)
	return s, nil
}

func (s *shards) serve(ctx context.Context) error { return s.server.Serve(ctx, s.listener) }

func (s *shards) close() error {
	// The socket is closed already where the server ran.
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(err, s.broker.Close(), s.log.Close())
	}
	return errors.Join(s.broker.Close(), s.log.Close())
}

// retryCatalog is the time between two tries to apply a catalog.
const retryCatalog = time.Second

// offerCatalog hands a catalog to applyCatalogs, in place of one that waits.
// Only the link's goroutine calls it.
func (t *TaskManager) offerCatalog(c *pb.Catalog) {
	select {
	case <-t.catalogs:
	default:
	}
	t.catalogs <- c
}

// applyCatalogs opens and drops shards as the job manager wants it. What
// fails is reported and tried again until it succeeds or a newer one comes.
func (t *TaskManager) applyCatalogs(ctx context.Context) error {
	var failed *pb.Catalog
	for {
		retry := time.NewTimer(retryCatalog)
		var next *pb.Catalog
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil
		case next = <-t.catalogs:
		case <-retry.C:
			if next = failed; next == nil {
				continue
			}
		}
		retry.Stop()
		err := t.shards.broker.SetCatalog(ctx, next)
		if err != nil && failed != next {
			t.config.Log.Error("catalog not applied, trying again", "version", next.GetVersion(), "error", err)
		}
		if err == nil || failed != next {
			applied := &pb.CatalogApplied{Version: next.GetVersion(), Error: stream.ToProto(err)}
			if err == nil {
				applied.Sealed = t.shards.broker.Sealed()
			}
			t.up(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_CatalogApplied{CatalogApplied: applied}})
		}
		if failed = next; err == nil {
			failed = nil
			t.once.ready.Do(func() { close(t.ready) })
		}
	}
}

// catalogWait bounds the wait for a catalog that a reply names: a host that
// cannot apply it, for its disk is full, does not hold up who asked.
const catalogWait = 2 * time.Second

// streamCommand passes a change of the catalog to the job manager. Who asks
// here afterwards sees the change, or, after a refusal, what it was refused
// for.
func (t *TaskManager) streamCommand(ctx context.Context, command *pb.StreamCommand) error {
	l := t.link.Load()
	if l == nil || !l.registered.Load() {
		return stream.Errorf(stream.Unavailable, "no job manager is attached, which decides about streams: try again")
	}
	reply, err := l.call(ctx, command)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, catalogWait)
	defer cancel()
	if late := t.shards.broker.Await(waiting, reply.GetCatalogVersion()); late != nil {
		t.config.Log.Warn("a stream changed and is not seen here yet", "error", late)
	}
	return refusal(reply.GetError())
}

// refusal is why a job manager did not do what it was asked; nil stays nil.
// Errors of its own that pass are those of a host that is away.
func refusal(e *pb.Error) error {
	switch e.GetCode() {
	case "timed-out", "shutting-down", "too-many-requests", "leadership-lost", "not-leader", "bucket-unavailable":
		return stream.Errorf(stream.Unavailable, "%s", e.GetMessage())
	}
	return stream.FromProto(e)
}

// answer does what a job manager asks, and replies. It runs on a goroutine of
// its own.
func (t *TaskManager) answer(ctx context.Context, l *link, req *pb.Request) {
	reply := &pb.Reply{Id: req.GetId()}
	var err error
	switch body := req.GetBody().(type) {
	case *pb.Request_Plan:
		var plan *pb.PlanResult
		if plan, err = t.supervisor.Plan(ctx, l.target, body.Plan); err == nil {
			reply.Body = &pb.Reply_Plan{Plan: plan}
		}
	case *pb.Request_ListLogs:
		var logs *pb.LogList
		if logs, err = t.supervisor.Logs(); err == nil {
			reply.Body = &pb.Reply_Logs{Logs: logs}
		}
	case *pb.Request_ReadLog:
		var chunk *pb.LogChunk
		if chunk, err = t.supervisor.ReadLog(body.ReadLog); err == nil {
			reply.Body = &pb.Reply_Log{Log: chunk}
		}
	default:
		err = &supervise.Fault{Code: supervise.CodeInternal, Message: "this version of the task manager does not know the request"}
	}
	reply.Error = supervise.ToProto(err)
	l.send(&pb.TaskManagerMessage{Body: &pb.TaskManagerMessage_Reply{Reply: reply}})
}
