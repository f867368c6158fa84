package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/jobmanager/journal"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// applyWait is how long an answer waits for the hosts of shards to follow.
const applyWait = 10 * time.Second

// streams keeps the stream catalog. One goroutine owns all of it but current:
// it decides a command, journals the new catalog, sends it to all task
// managers, and answers when those that host the stream's shards have applied
// it.
//
// Versions of the catalog are leader epoch × 2^32 + a counter, so they rise
// across leaders although changes of addresses are not journalled.
type streams struct {
	d      *Dispatcher
	events *queue[any]
	// current is the catalog as last sent.
	current atomic.Pointer[pb.Catalog]

	hosts   map[string]string // task manager, shard address: attached ones
	reached map[string]uint64 // version that each attached one has applied
	waiting []*streamCall
}

type (
	hostAttached struct{ reg *pb.Register }
	hostDetached struct{ id string }
	hostApplied  struct {
		id string
		at *pb.CatalogApplied
	}
	streamCall struct {
		tm   string
		id   uint64
		cmd  *pb.StreamCommand
		stop func() bool
		// version is the catalog that the call made, need who must apply it.
		version uint64
		need    map[string]bool
		reply   chan error // instead of tm
	}
	callExpired struct{ call *streamCall }
)

func newStreams(d *Dispatcher) *streams {
	s := &streams{d: d, events: newQueue[any](1 << 12), hosts: map[string]string{}, reached: map[string]uint64{}}
	c := d.journal.State().GetCatalog()
	if c == nil {
		c = &pb.Catalog{}
	}
	for _, h := range c.GetHosts() {
		h.Address = "" // until it attaches again
	}
	c.Version = max(c.GetVersion(), d.journal.Epoch()<<32)
	s.current.Store(c)
	return s
}

// Catalog is the current shard map. It must not be changed.
func (d *Dispatcher) Catalog() *pb.Catalog { return d.streams.current.Load() }

// Command changes the catalog, as a task manager's call does.
func (d *Dispatcher) Command(ctx context.Context, cmd *pb.StreamCommand) error {
	c := &streamCall{cmd: cmd, reply: make(chan error, 1)}
	if !d.streams.events.offer(ctx, nil, c) {
		return api.Errorf(api.TimedOut, "stream command: %w", ctx.Err())
	}
	select {
	case err := <-c.reply:
		return err
	case <-ctx.Done():
		return api.Errorf(api.TimedOut, "stream command: %w", ctx.Err())
	}
}

func (s *streams) attached(r *pb.Register) { s.events.put(hostAttached{r}) }
func (s *streams) detached(id string)      { s.events.put(hostDetached{id}) }
func (s *streams) applied(tm string, a *pb.CatalogApplied) {
	s.events.put(hostApplied{tm, a})
}

func (s *streams) call(tm string, c *pb.StreamCall) {
	call := &streamCall{tm: tm, id: c.GetId(), cmd: c.GetCommand()}
	s.events.mu.Lock()
	full := len(s.events.mu.items) >= s.events.limit
	s.events.mu.Unlock()
	if full {
		s.answer(call, api.Errorf(api.StreamLimit, "%d changes of streams wait to be decided", s.events.limit))
		return
	}
	s.events.put(call)
}

func (s *streams) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			for _, c := range s.waiting {
				c.stop()
			}
			return
		case <-s.events.ready:
		}
		for _, ev := range s.events.take() {
			s.handle(ctx, ev)
		}
	}
}

func (s *streams) handle(ctx context.Context, ev any) {
	switch ev := ev.(type) {
	case hostAttached:
		s.hosts[ev.reg.GetId()] = ev.reg.GetShardAddress()
		delete(s.reached, ev.reg.GetId())
		s.announce(s.next())
	case hostDetached:
		delete(s.hosts, ev.id)
		delete(s.reached, ev.id)
		s.announce(s.next())
		s.lost(ev.id)
	case hostApplied:
		s.reached[ev.id] = max(s.reached[ev.id], ev.at.GetVersion())
		if e := api.FromProto(ev.at.GetError()); e != nil {
			s.d.cfg.Log.Error("task manager could not apply the catalog", "task_manager", ev.id, "version", ev.at.GetVersion(), "error", e)
		}
		s.settle(ev.id, ev.at.GetError())
	case *streamCall:
		s.decide(ctx, ev)
	case callExpired:
		if i := slices.Index(s.waiting, ev.call); i >= 0 {
			s.waiting = slices.Delete(s.waiting, i, i+1)
			s.answer(ev.call, api.Errorf(api.TimedOut, "the change is durable, but task managers %v did not apply it within %s",
				slices.Sorted(maps.Keys(ev.call.need)), applyWait))
		}
	}
}

// next is a copy of the current catalog under the next version, with the
// addresses of the hosts that are attached.
func (s *streams) next() *pb.Catalog {
	c := proto.Clone(s.current.Load()).(*pb.Catalog)
	s.stamp(c)
	return c
}

func (s *streams) stamp(c *pb.Catalog) {
	c.Version = s.current.Load().GetVersion() + 1
	known := map[string]bool{}
	for _, h := range c.GetHosts() {
		h.Address = s.hosts[h.GetId()]
		known[h.GetId()] = true
	}
	for _, id := range slices.Sorted(maps.Keys(s.hosts)) {
		if !known[id] {
			c.Hosts = append(c.Hosts, &pb.ShardHost{Id: id, Address: s.hosts[id]})
		}
	}
}

// announce sends a catalog to all task managers. It is not changed afterwards.
func (s *streams) announce(c *pb.Catalog) {
	s.current.Store(c)
	s.d.control.Broadcast(&pb.JobManagerMessage{Body: &pb.JobManagerMessage_Catalog{Catalog: c}})
}

func (s *streams) decide(ctx context.Context, call *streamCall) {
	if s.d.cfg.Decide == nil {
		s.answer(call, api.Errorf(api.NotSupported, "this job manager keeps no streams"))
		return
	}
	before := s.current.Load()
	after, err := s.d.cfg.Decide(proto.Clone(before).(*pb.Catalog), call.cmd, slices.Sorted(maps.Keys(s.hosts)), s.d.Now())
	if err != nil {
		s.answer(call, err)
		return
	}
	if after == nil {
		s.answer(call, nil) // nothing to change
		return
	}
	s.stamp(after)
	err = s.d.journal.Append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_CatalogChanged{
		CatalogChanged: &pb.CatalogChanged{Catalog: after}}})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, journal.ErrLeadershipLost) {
			s.d.fail(err)
		}
		s.answer(call, err)
		return
	}
	call.version, call.need = after.GetVersion(), changedOwners(before, after)
	s.announce(after)
	for id := range call.need {
		if _, ok := s.hosts[id]; !ok {
			// It drops or opens the shards when it comes back.
			delete(call.need, id)
		}
	}
	if len(call.need) == 0 {
		s.answer(call, nil)
		return
	}
	call.stop = s.d.cfg.Clock.AfterFunc(applyWait, func() { s.events.put(callExpired{call}) })
	s.waiting = append(s.waiting, call)
}

// changedOwners are the hosts of shards of streams that differ.
func changedOwners(before, after *pb.Catalog) map[string]bool {
	owners := map[string]bool{}
	old := map[string]*pb.Stream{}
	for _, st := range before.GetStreams() {
		old[st.GetName()] = st
	}
	add := func(st *pb.Stream) {
		for _, sh := range st.GetShards() {
			owners[sh.GetOwner()] = true
		}
	}
	for _, st := range after.GetStreams() {
		if was := old[st.GetName()]; !proto.Equal(was, st) {
			add(st)
			add(was)
		}
		delete(old, st.GetName())
	}
	for _, st := range old {
		add(st)
	}
	return owners
}

// settle takes a host off the calls that wait for it.
func (s *streams) settle(id string, failure *pb.Error) {
	s.waiting = slices.DeleteFunc(s.waiting, func(c *streamCall) bool {
		if !c.need[id] || s.reached[id] < c.version {
			return false
		}
		delete(c.need, id)
		if failure == nil && len(c.need) > 0 {
			return false
		}
		c.stop()
		var err error
		if e := api.FromProto(failure); e != nil {
			err = e
		}
		s.answer(c, err)
		return true
	})
}

// lost answers the calls that wait for a host that is gone.
func (s *streams) lost(id string) {
	s.waiting = slices.DeleteFunc(s.waiting, func(c *streamCall) bool {
		if !c.need[id] {
			return false
		}
		c.stop()
		s.answer(c, api.Errorf(api.ShardUnavailable, "the change is durable, but task manager %s, which hosts shards of it, was lost meanwhile", id))
		return true
	})
}

func (s *streams) answer(c *streamCall, err error) {
	if c.reply != nil {
		c.reply <- err
		return
	}
	r := &pb.StreamReply{Id: c.id, CatalogVersion: s.current.Load().GetVersion()}
	if err != nil {
		r.Error = api.From(err).Proto()
	}
	// A caller that is gone asks again.
	_ = s.d.control.Send(c.tm, &pb.JobManagerMessage{Body: &pb.JobManagerMessage_StreamReply{StreamReply: r}})
}
