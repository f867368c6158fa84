package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/snapshot"
	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/keygroup"
	"github.com/millrace/millrace/runtime/state"
	"github.com/millrace/millrace/runtime/task"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// place is one subtask of one operator.
type place struct {
	uid     string
	subtask int
}

// collector makes one ack out of the parts of all tasks of the worker.
//
// Invariants:
//  1. chains holds, for each place, the runs that the last completed checkpoint
//     (or the restored one) named; an ack is a chain and one run more. So no
//     checkpoint refers to what another one wrote that never completed.
//  2. A part is taken together with its trigger: whichever comes first waits
//     in collecting. Checkpoints below floor were given up; nothing waits for
//     them.
//  3. The worker's goroutine never waits here, however long an upload takes:
//     it must stay able to take the command that cancels the attempt.
//  4. The upload of a checkpoint that is given up ends: nothing waits, and no
//     memory is held, for a bucket that does not answer.
//
// Its goroutine is the only one that uses the fields below orders.
type collector struct {
	a *attempt
	// events are the tasks' parts, and what a restore found before them.
	events chan func(context.Context)
	// orders are the worker's. They keep their order among themselves; events
	// may overtake them or be overtaken, see 2.
	orders chan func(context.Context)

	chains     map[place][]*pb.RunRef
	collecting map[uint64]*collecting
	floor      uint64
	merges     merges

	// mu is for what the worker's goroutine does at once, whatever the
	// collector's waits for.
	mu struct {
		sync.Mutex
		// given are the checkpoints that were given up: those below.
		given uint64
		// Of the upload under way; cancel is nil for none.
		writing uint64
		cancel  context.CancelFunc
	}
}

// collecting is a checkpoint under way.
type collecting struct {
	trigger *pb.TriggerCheckpoint
	parts   []*task.Checkpoint
	acked   bool
	// chains are what becomes of the collector's when it completes.
	chains map[place][]*pb.RunRef
}

// collectQueue bounds what waits of each kind while an object is being written.
const collectQueue = 256

func newCollector(a *attempt) *collector {
	return &collector{
		a: a, events: make(chan func(context.Context), collectQueue), orders: make(chan func(context.Context), collectQueue),
		chains: make(map[place][]*pb.RunRef), collecting: make(map[uint64]*collecting),
		merges: merges{ready: make(map[place]*merged), live: make(map[place]live)},
	}
}

func (c *collector) run(ctx context.Context) {
	for {
		select {
		case f := <-c.events:
			f(ctx)
		case f := <-c.orders:
			f(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// order queues what the worker was told. More than fit are the checkpoints of
// hours in which nothing could be written.
func (c *collector) order(f func(context.Context)) {
	select {
	case c.orders <- f:
	default:
		c.a.fail("", 0, &pb.Error{Code: "bucket-unavailable",
			Message: fmt.Sprintf("state is written so slowly that %d orders about checkpoints wait: look at the bucket", cap(c.orders))})
	}
}

func (c *collector) post(f func(context.Context)) {
	select {
	case c.events <- f:
	case <-c.a.ctx.Done():
	}
}

// adopt takes over the chain of a restored checkpoint.
func (c *collector) adopt(p place, chain []*pb.RunRef) {
	c.post(func(context.Context) { c.chains[p] = chain })
}

func (c *collector) trigger(t *pb.TriggerCheckpoint) {
	c.order(func(ctx context.Context) {
		if k := c.at(t.GetCheckpointId()); k != nil {
			k.trigger = t
			c.assemble(ctx, k)
		}
	})
}

// part takes a task's part, from the task's second goroutine. One that could not be
// read from the disk of tiered state ends the attempt, as it does in a task:
// what is lost there is missing in all later checkpoints too.
func (c *collector) part(p *task.Checkpoint) {
	c.post(func(ctx context.Context) {
		k := c.at(p.Barrier.ID)
		if k == nil {
			return
		}
		if _, ok := errors.AsType[*state.DiskError](p.Err); ok {
			c.forget(p.Barrier.ID)
			c.a.fail(p.VertexID, p.Subtask, protoError(p.Err, codeStateDisk))
			return
		}
		if p.Err != nil {
			c.decline(p.Barrier.ID, protoError(p.Err, codeDeclined))
			return
		}
		k.parts = append(k.parts, p)
		c.assemble(ctx, k)
	})
}

// completed moves the chains on, before the tasks let go of what was frozen.
func (c *collector) completed(id uint64) {
	c.order(func(context.Context) {
		if k := c.collecting[id]; k != nil && !k.trigger.GetSavepoint() {
			for p, chain := range k.chains {
				c.chains[p] = chain
			}
		}
		c.forget(id)
		_ = failpoint.Hit("checkpoint.completed")
		for _, t := range c.a.tasks {
			t.Completed(id)
		}
		c.settleMerges()
		c.merges.last = checkpoint.ID(id)
		c.merges.rest = max(c.merges.rest-1, 0)
		c.keepCopies()
		c.beginMerge()
	})
}

func (c *collector) aborted(id uint64) {
	c.interrupt(id)
	c.order(func(context.Context) { c.forget(id) })
}

// interrupt ends the upload of a checkpoint, whether it has begun or not.
func (c *collector) interrupt(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.given = max(c.mu.given, id+1)
	if c.mu.cancel != nil && c.mu.writing < c.mu.given {
		c.mu.cancel()
	}
}

// uploading is the context of a checkpoint's upload; end frees it.
func (c *collector) uploading(ctx context.Context, id uint64) (_ context.Context, end context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.writing, c.mu.cancel = id, cancel
	if id < c.mu.given {
		cancel()
	}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.cancel = nil
		cancel()
	}
}

// forget drops a checkpoint and what is older.
func (c *collector) forget(id uint64) {
	c.floor = max(c.floor, id+1)
	for other := range c.collecting {
		if other < c.floor {
			delete(c.collecting, other)
		}
	}
}

func (c *collector) at(id uint64) *collecting {
	if id < c.floor {
		return nil
	}
	if c.collecting[id] == nil {
		c.collecting[id] = &collecting{}
	}
	return c.collecting[id]
}

func (c *collector) decline(id uint64, e *pb.Error) {
	c.forget(id)
	c.a.w.cfg.Log.Warn("checkpoint declined", "checkpoint", id, "operator", e.GetOperator(), "error", e.GetMessage())
	c.a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Declined{Declined: &pb.CheckpointDeclined{CheckpointId: id, Error: e}}})
}

// assemble acknowledges a checkpoint once everything of it is there.
func (c *collector) assemble(ctx context.Context, k *collecting) {
	if k.trigger == nil || k.acked || len(k.parts) < len(c.a.tasks) {
		return
	}
	id := k.trigger.GetCheckpointId()
	upload, end := c.uploading(ctx, id)
	defer end()
	err := failpoint.Hit("checkpoint.before-upload")
	var ack *pb.CheckpointAck
	if err == nil {
		ack, err = c.ack(upload, k)
	}
	if err == nil {
		err = failpoint.Hit("checkpoint.after-upload")
	}
	if ctx.Err() != nil {
		return
	}
	if upload.Err() != nil {
		c.forget(id) // the master has given it up, and asks for no answer
		return
	}
	if err != nil {
		c.decline(id, protoError(fmt.Errorf("checkpoint %d: %w", id, err), codeDeclined))
		return
	}
	k.acked = true
	k.parts = nil
	if failpoint.Hit("checkpoint.before-ack") != nil {
		return
	}
	c.a.report(&pb.WorkerReport{Body: &pb.WorkerReport_Ack{Ack: ack}})
	_ = failpoint.Hit("checkpoint.after-ack")
}

// piece is a run that the checkpoint itself carries: inline or in its object.
type piece struct {
	ref *pb.RunRef
	run snapshot.Run
}

func (c *collector) ack(ctx context.Context, k *collecting) (*pb.CheckpointAck, error) {
	slices.SortFunc(k.parts, func(a, b *task.Checkpoint) int {
		return cmp.Or(cmp.Compare(a.VertexID, b.VertexID), cmp.Compare(a.Subtask, b.Subtask))
	})
	ack := &pb.CheckpointAck{CheckpointId: k.trigger.GetCheckpointId()}
	k.chains = make(map[place][]*pb.RunRef)
	var pieces []piece
	for _, part := range k.parts {
		vertex := c.a.vertexOf(part)
		for i := range part.Operators {
			op := &part.Operators[i]
			s := &pb.OperatorSnapshot{
				Uid: op.UID, Subtask: uint32(part.Subtask),
				Parallelism: uint32(vertex.Parallelism), MaxParallelism: uint32(vertex.MaxParallelism),
				Entries: op.Entries, StateBytes: op.StateBytes,
			}
			at := place{op.UID, part.Subtask}
			groups := keygroup.RangeOf(part.Subtask, vertex.Parallelism, vertex.MaxParallelism)
			runs, fresh, err := c.runs(ctx, k.trigger, at, op, groups)
			if err != nil {
				return nil, fmt.Errorf("operator %s, subtask %d: %w", op.UID, part.Subtask, err)
			}
			pieces = append(pieces, fresh...)
			s.Runs, k.chains[at] = runs, runs
			ack.Operators = append(ack.Operators, s)
		}
		ack.Stats = append(ack.Stats, part.Stats)
	}
	size := int64(0)
	for _, p := range pieces {
		size += p.run.Size()
	}
	if size >= int64(c.a.w.cfg.InlineLimit) {
		return ack, c.write(ctx, k.trigger, pieces, size)
	}
	for _, p := range pieces {
		var err error
		if p.ref.Inline, err = p.run.All(); err != nil {
			return nil, err
		}
	}
	return ack, nil
}

// runs is the chain of one operator with its newest run at the end, all of its
// own, and what of it is not in an object yet.
func (c *collector) runs(ctx context.Context, t *pb.TriggerCheckpoint, at place, op *task.OperatorCheckpoint, groups keygroup.Range) (out []*pb.RunRef, fresh []piece, err error) {
	chain, run := c.chains[at], op.Run
	switch {
	case op.Full:
		chain = nil
	case t.GetFull() && len(chain) > 0:
		m := snapshot.Merger{Opener: c.a.opener(), Scratch: c.a.w.scratch(), Groups: groups.N, First: groups.First, Last: groups.Last}
		if run, err = m.Merge(ctx, chain, run, true); err != nil {
			return nil, nil, err
		}
		chain = nil
	default:
		chain, fresh = c.merges.put(at, chain)
	}
	c.merges.note(at, groups, op.StateBytes, op.Full || t.GetFull(), run)
	for _, ref := range chain {
		if len(fresh) > 0 && ref == fresh[0].ref {
			out = append(out, ref) // what was merged is its own already
			continue
		}
		ref = proto.CloneOf(ref)
		out = append(out, ref)
		if ref.GetObject() == "" {
			fresh = append(fresh, piece{ref, snapshot.Run{Bytes: ref.GetInline()}})
		}
	}
	if !run.Empty() {
		ref := run.Ref("", 0)
		ref.Checkpoint = t.GetCheckpointId()
		out = append(out, ref)
		fresh = append(fresh, piece{ref, run})
	}
	return out, fresh, nil
}

// Uploads are tried this often, with a pause that doubles.
const (
	uploadTries = 4
	uploadPause = 100 * time.Millisecond
)

// write puts the pieces into one object and turns their references to it.
func (c *collector) write(ctx context.Context, t *pb.TriggerCheckpoint, pieces []piece, size int64) error {
	key := checkpoint.StateObject(c.a.deploy.GetStatePrefix(), t.GetStatePrefix(), checkpoint.ID(t.GetCheckpointId()), c.a.deploy.GetSelf())
	offset := uint64(0)
	for _, p := range pieces {
		p.ref.Object, p.ref.Offset, p.ref.Inline = key, offset, nil
		offset += uint64(p.run.Size())
	}
	body := func() io.Reader {
		parts := make([]io.Reader, len(pieces))
		for i, p := range pieces {
			parts[i] = p.run.Open()
		}
		return io.MultiReader(parts...)
	}
	if err := c.upload(ctx, key, body, size); err != nil {
		return err
	}
	for _, p := range pieces {
		_ = p.run.Close() // a file without a name: nothing is lost
	}
	return nil
}

// keepCopies removes the copies of what no checkpoint needs: neither the last
// completed one nor one under way, nor one that is to name what is being merged.
func (c *collector) keepCopies() {
	if c.a.w.copies == nil {
		return
	}
	objects := map[string]bool{c.merges.under: true}
	name := func(chains map[place][]*pb.RunRef) {
		for _, chain := range chains {
			for _, ref := range chain {
				objects[ref.GetObject()] = true
			}
		}
	}
	name(c.chains)
	for _, k := range c.collecting {
		name(k.chains)
	}
	for _, m := range c.merges.ready {
		objects[m.ref.GetObject()] = true
	}
	c.a.w.copies.keep(objects)
}

// pause waits on the worker's clock.
func (a *attempt) pause(ctx context.Context, d time.Duration) {
	over := make(chan struct{})
	stop := a.w.cfg.Clock.AfterFunc(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
	case <-ctx.Done():
	}
}
