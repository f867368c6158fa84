package operator

import (
	"context"
	"fmt"
	"sync"

	"github.com/millrace/millrace/internal/failpoint"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/sink"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KindHandle is the kind of the entries in which a transactional sink keeps
// its handles: value is the sink's own, key "checkpoint/subtask".
const KindHandle = "handle"

// NewSink returns the operator of one subtask of a sink.
func NewSink[T any](s sink.Sink[T]) Operator {
	p, ok := s.(sink.Patient)
	patient := ok && p.Patient()
	return &sinker[T]{sink: s, patient: patient, held: patient}
}

// sinker drives a sink's writer.
//
// What was prepared for a checkpoint that never completed is not lost with it:
// the records lie before the next barrier too, so the handle is part of every
// later snapshot until a checkpoint that holds it has completed. Commit is
// idempotent, so it does no harm that a handle may be in two checkpoints.
type sinker[T any] struct {
	ctx      *Context
	sink     sink.Sink[T]
	writer   sink.Writer[T]
	preparer sink.Preparer
	// held is set when nothing more is to be said of the open transaction.
	held    bool
	patient bool
	any     bool
	// dirty is set while something written has not been flushed.
	dirty    bool
	prepared prepared
}

func (s *sinker[T]) Input(i int) any   { return sole[T](i, s) }
func (s *sinker[T]) Output(string) any { return nil }

func (s *sinker[T]) Open(ctx *Context) error {
	s.ctx = ctx
	ctx.Enter()
	w, err := s.sink.Open(ctx.Attempt, sink.Env{
		JobName: ctx.JobName, Operator: ctx.Name, UID: ctx.UID, Subtask: ctx.Subtask, Parallelism: ctx.Parallelism,
		Epoch: ctx.Epoch, Lineage: ctx.Lineage, ShardAddress: ctx.ShardAddress, Log: ctx.Log, Held: ctx.Held, Fail: ctx.Fail, Park: ctx.Park,
	})
	if err != nil {
		return withCode(codeSink, fmt.Errorf("open the sink: %w", err))
	}
	s.writer = w
	s.preparer, _ = w.(sink.Preparer)
	if _, two := s.sink.(sink.Transactional); two && s.preparer == nil {
		return fmt.Errorf("open the sink: it is transactional, but its writer %T does not prepare", w)
	}
	return nil
}

func (s *sinker[T]) Push(b *batch.Batch[T]) error {
	s.ctx.Enter()
	s.ctx.Metrics.RecordsIn += uint64(len(b.Values))
	if !s.any {
		s.any = true
		s.ctx.FirstOutput()
	}
	if !s.held && s.preparer != nil {
		s.held = true
		s.ctx.Held()
	}
	s.dirty = true
	if err := s.writer.Write(b); err != nil {
		return withCode(codeSink, err)
	}
	return nil
}

func (s *sinker[T]) Watermark(t int64) (int64, error) {
	if t == batch.EndOfTime {
		return t, s.Flush()
	}
	return t, nil
}

// Flush implements Flusher.
func (s *sinker[T]) Flush() error {
	if !s.dirty {
		return nil
	}
	s.ctx.Enter()
	if err := failpoint.Hit("commit.before-stage"); err != nil {
		return err
	}
	s.dirty = false
	return withCode(codeSink, s.writer.Flush())
}

// Snapshot implements Snapshotter. The task has called Flush before it.
func (s *sinker[T]) Snapshot(snap *Snapshot) error {
	if s.preparer == nil {
		return nil
	}
	s.ctx.Enter()
	if err := failpoint.Hit("commit.before-prepare"); err != nil {
		return err
	}
	finish, err := s.preparer.Prepare(snap.CheckpointID)
	if err != nil {
		return withCode(codeSink, fmt.Errorf("prepare checkpoint %d: %w", snap.CheckpointID, err))
	}
	s.held = s.patient
	s.prepared.add(snap.CheckpointID, finish)
	subtask, id, attempt := s.ctx.Subtask, snap.CheckpointID, s.ctx.Attempt
	snap.Deferred = append(snap.Deferred, func() ([]*pb.OperatorEntry, error) {
		return s.prepared.entries(attempt, id, subtask)
	})
	return nil
}

// CheckpointCompleted implements Completer.
func (s *sinker[T]) CheckpointCompleted(id uint64) error {
	s.prepared.completed(id)
	return nil
}

func (s *sinker[T]) Close() error {
	if s.writer == nil {
		return nil
	}
	return s.writer.Close()
}

// prepared are the transactions of one subtask that no completed checkpoint
// holds yet, oldest first. The task adds and drops; the snapshot goroutine
// finishes, one checkpoint at a time.
type prepared struct {
	mu struct {
		sync.Mutex
		all []*transaction
	}
}

type transaction struct {
	checkpoint uint64
	finish     func(context.Context) ([]byte, error)
	// done and handle are the snapshot goroutine's.
	done   bool
	handle []byte
}

func (p *prepared) add(id uint64, finish func(context.Context) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.all = append(p.mu.all, &transaction{checkpoint: id, finish: finish})
}

// completed drops what a completed checkpoint holds.
func (p *prepared) completed(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.mu.all) && p.mu.all[n].checkpoint <= id {
		n++
	}
	p.mu.all = append([]*transaction(nil), p.mu.all[n:]...)
}

// upTo returns what a checkpoint must hold.
func (p *prepared) upTo(id uint64) []*transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.mu.all) && p.mu.all[n].checkpoint <= id {
		n++
	}
	return p.mu.all[:n:n]
}

// entries finishes what checkpoint id must hold, older transactions first, and
// returns their handles.
func (p *prepared) entries(ctx context.Context, id uint64, subtask int) ([]*pb.OperatorEntry, error) {
	var out []*pb.OperatorEntry
	for _, t := range p.upTo(id) {
		if !t.done {
			h, err := t.finish(ctx)
			if err != nil {
				return nil, withCode(codeSink, fmt.Errorf("finish what was prepared for checkpoint %d: %w", t.checkpoint, err))
			}
			if err := failpoint.Hit("commit.after-prepare"); err != nil {
				return nil, err
			}
			t.handle, t.done = h, true
		}
		if t.handle != nil {
			out = append(out, &pb.OperatorEntry{
				Kind: KindHandle, Key: fmt.Sprintf("%d/%d", t.checkpoint, subtask), Value: t.handle,
			})
		}
	}
	return out, nil
}
