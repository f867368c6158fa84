package dispatch

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/api"
	"github.com/millrace/millrace/job"
	"github.com/millrace/millrace/jobmanager/journal"
	"github.com/millrace/millrace/stream/catalog"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// createWait is how long the answer to a creation waits for the hosts of its
// shards to open them.
const createWait = 10 * time.Second

// streams keeps the stream catalog. One goroutine owns all of it but current.
// Every catalog is journalled before anybody hears of it; what it says is
// decided by package catalog.
type streams struct {
	d      *Dispatcher
	events *queue[any]
	// current is the latest journalled catalog. It is not changed.
	current atomic.Pointer[pb.Catalog]

	// applied is the version that each attached task manager reported last.
	applied map[string]uint64
	// creations wait for their stream to become ACTIVE.
	creations []*streamCall
}

type (
	hostAttached struct{ reg *pb.Register }
	hostDetached struct{ id string }
	hostApplied  struct {
		id string
		at *pb.CatalogApplied
	}
	streamCall struct {
		tm  string
		id  uint64
		cmd *pb.StreamCommand
		// reply is where to answer instead of tm.
		reply chan error
		stop  func() bool
	}
	callExpired struct{ call *streamCall }
)

func newStreams(d *Dispatcher) *streams {
	s := &streams{d: d, events: newQueue[any](1 << 12), applied: map[string]uint64{}}
	c := d.journal.State().GetCatalog()
	if c == nil {
		c = &pb.Catalog{}
	}
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

func (s *streams) host(ev any) { s.events.put(ev) }

// call takes a task manager's command; it does not wait, for the task
// manager's link would.
func (s *streams) call(tm string, c *pb.StreamCall) {
	call := &streamCall{tm: tm, id: c.GetId(), cmd: c.GetCommand()}
	if !s.events.tryOffer(call) {
		s.answer(call, api.Errorf(api.TooManyRequests, "%d changes of streams wait to be decided", s.events.limit))
	}
}

func (s *streams) run(ctx context.Context) {
	// No host is here yet, whatever the journal says.
	for _, h := range s.current.Load().GetHosts() {
		if s.commit(ctx, catalog.SetHost(s.current.Load(), h.GetId(), "")) != nil {
			return
		}
	}
	for {
		select {
		case <-ctx.Done():
			for _, c := range s.creations {
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
		s.applied[ev.reg.GetId()] = 0
		next := catalog.SetHost(s.current.Load(), ev.reg.GetId(), ev.reg.GetShardAddress())
		if err := s.commit(ctx, next); err == nil && next == nil {
			// It may have a catalog of long ago, or none. One that is gone
			// again needs none.
			_ = s.d.control.Send(ev.reg.GetId(), catalogMessage(s.current.Load()))
		}
	case hostDetached:
		delete(s.applied, ev.id)
		if s.commit(ctx, catalog.SetHost(s.current.Load(), ev.id, "")) == nil {
			s.settle(ctx)
		}
	case hostApplied:
		if e := api.FromProto(ev.at.GetError()); e != nil {
			s.d.cfg.Log.Error("task manager could not apply the catalog", "task_manager", ev.id, "version", ev.at.GetVersion(), "code", e.Code, "error", e)
			return
		}
		if _, attached := s.applied[ev.id]; attached {
			s.applied[ev.id] = ev.at.GetVersion()
			if s.commit(ctx, catalog.Sealed(s.current.Load(), ev.id, ev.at.GetSealed(), s.d.Now())) == nil {
				s.settle(ctx)
			}
		}
	case *streamCall:
		s.decide(ctx, ev)
	case callExpired:
		if i := slices.Index(s.creations, ev.call); i >= 0 {
			s.creations = slices.Delete(s.creations, i, i+1)
			s.answer(ev.call, api.Errorf(api.TimedOut, "stream %s is created, but its hosts have not opened its shards within %s",
				ev.call.cmd.GetCreate().GetName(), createWait))
		}
	}
}

func (s *streams) decide(ctx context.Context, call *streamCall) {
	next, err := catalog.Decide(s.current.Load(), call.cmd, s.d.Now())
	if err == nil {
		err = s.commit(ctx, next)
	}
	if err != nil || call.cmd.GetCreate() == nil {
		s.answer(call, err)
		return
	}
	call.stop = s.d.cfg.Clock.AfterFunc(createWait, func() { s.events.put(callExpired{call}) })
	s.creations = append(s.creations, call)
}

// settle goes on with what hosts have applied, and answers creations.
func (s *streams) settle(ctx context.Context) {
	if s.commit(ctx, catalog.Settle(s.current.Load(), s.applied)) != nil {
		return
	}
	s.creations = slices.DeleteFunc(s.creations, func(c *streamCall) bool {
		st, err := catalog.Find(s.current.Load(), c.cmd.GetCreate().GetName())
		if err == nil && st.GetStatus() == pb.Stream_STATUS_CREATING {
			return false
		}
		c.stop()
		s.answer(c, err) // deleted meanwhile: not found
		return true
	})
}

// commit journals a catalog, sends it to all task managers, and tells the jobs
// what they may have waited for; nil is nothing to do.
func (s *streams) commit(ctx context.Context, next *pb.Catalog) error {
	if next == nil {
		return nil
	}
	err := s.d.journal.Append(ctx, &pb.JournalRecord{Body: &pb.JournalRecord_CatalogChanged{
		CatalogChanged: &pb.CatalogChanged{Catalog: next}}})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, journal.ErrLeadershipLost) {
			s.d.fail(err)
		}
		return err
	}
	before := s.current.Swap(next)
	s.d.control.Broadcast(catalogMessage(next))
	if usable(next, before) {
		for _, j := range s.d.Jobs() {
			j.tell(job.StreamsChanged{})
		}
	}
	return nil
}

// usable says that next has something that can be read or written and could
// not be before: a stream, or a host of shards.
func usable(next, before *pb.Catalog) bool {
	active := map[uint64]bool{}
	for _, st := range before.GetStreams() {
		active[st.GetGeneration()] = st.GetStatus() == pb.Stream_STATUS_ACTIVE
	}
	for _, st := range next.GetStreams() {
		if st.GetStatus() == pb.Stream_STATUS_ACTIVE && !active[st.GetGeneration()] {
			return true
		}
	}
	here := map[string]string{}
	for _, h := range before.GetHosts() {
		here[h.GetId()] = h.GetAddress()
	}
	for _, h := range next.GetHosts() {
		if h.GetAddress() != "" && h.GetAddress() != here[h.GetId()] {
			return true
		}
	}
	return false
}

func catalogMessage(c *pb.Catalog) *pb.JobManagerMessage {
	return &pb.JobManagerMessage{Body: &pb.JobManagerMessage_Catalog{Catalog: c}}
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
