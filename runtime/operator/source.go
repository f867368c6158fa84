package operator

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/internal/planted"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/pace"
	"github.com/millrace/millrace/runtime/source"
	"github.com/millrace/millrace/runtime/watermark"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// KindSplit is the kind of the entries in which a source keeps its splits: the
// key is the split's id, the value a pb.Split.
const KindSplit = "split"

// Source is what a worker and a task need of a source's operator besides
// Operator, Worker, Idler and Snapshotter.
type Source interface {
	Operator
	Worker
	Idler
	Snapshotter
	// Assign opens the readers of the subtask's splits, each where it
	// stands. It may block; the task calls it once, before the first Work.
	Assign(ctx context.Context, splits []*pb.Split) error
	// Follow opens splits that follow finished ones, between two calls of Work,
	// and lets go of those whose followers are all being read, here or elsewhere.
	Follow(splits []*pb.Split, released []string) error
	// DrainTo makes every split end: at its position, or, where none is
	// given and the source is not bounded, where its reader stands.
	DrainTo(positions []*pb.DrainPosition)
	// Reached is the watermark of the source's output, as of its last Work.
	Reached() int64
	// Exhausted says that every split has ended, so that the source is at
	// the end of time.
	Exhausted() bool
	// Splits describes the splits, for people.
	Splits() []*pb.SplitMetrics
}

// openReaders bounds how many readers of a subtask are opened at once.
const openReaders = 8

// NewSource returns the operator of one subtask of a source. The strategy says
// how its records get event times and how splits turn idle.
func NewSource[T any](src source.Source[T], s watermark.Strategy[T]) Operator {
	return &sourcer[T]{src: src, strategy: s, tracker: s.Tracker(), watermark: batch.NoTime}
}

// sourcer reads the splits of one subtask, always the one furthest behind in
// event time.
type sourcer[T any] struct {
	ctx      *Context
	src      source.Source[T]
	strategy watermark.Strategy[T]
	tracker  *watermark.Tracker
	splits   []*openSplit[T]
	// woken is set while some split's woken is.
	woken     atomic.Bool
	watermark int64
	idle      bool
	// stopped is set after a terminal barrier: nothing is emitted any more.
	stopped bool
	// draining is set by DrainTo.
	draining bool

	// alarm is set while the clock is going to wake the task because a split
	// may turn idle; it never rings later than the first one does.
	alarm     atomic.Bool
	stopAlarm func() bool

	out  Output[T]
	buf  batch.Batch[T]
	pace pace.Pace
}

// stepTime is about how long one Work is to take: so long a barrier waits. The
// chain may be slow, or wait for a slow receiver.
const stepTime = 20 * time.Millisecond

type openSplit[T any] struct {
	id      string
	payload []byte
	// reader is nil for a split that had finished before.
	reader source.Reader[T]
	// followed is set from the end of a split until its followers are read.
	followed bool
	// drained is set once DrainTo has told the reader where to stop.
	drained bool
	// position is the last one of a reader that is gone.
	position []byte
	woken    atomic.Bool
}

func (s *sourcer[T]) Input(int) any         { return nil }
func (s *sourcer[T]) Output(tag string) any { return only(tag, &s.out) }

func (s *sourcer[T]) Open(ctx *Context) error {
	s.ctx = ctx
	return nil
}

// Assign implements Source.
func (s *sourcer[T]) Assign(ctx context.Context, splits []*pb.Split) error {
	s.ctx.Enter()
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(openReaders)
	for _, p := range splits {
		sp := &openSplit[T]{id: p.GetId(), payload: p.GetPayload(), position: p.GetPosition()}
		s.splits = append(s.splits, sp)
		i := s.tracker.Add(p.GetWatermark())
		if p.GetFinished() {
			end := source.Ended
			if sp.followed = p.GetFollowed(); sp.followed {
				end = source.Followed
			}
			s.tracker.Report(i, end, false, s.ctx.Clock.Now())
			continue
		}
		g.Go(func() (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = &coded{codePanicked, fmt.Errorf("open split %s: panic: %v\n%s", sp.id, v, debug.Stack())}
				}
			}()
			r, err := s.src.Open(opening, s.env(sp), source.Split{ID: sp.id, Payload: sp.payload}, sp.position)
			if err != nil {
				return withCode(codeSource, fmt.Errorf("open split %s: %w", sp.id, err))
			}
			sp.reader = r
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if s.watermark, s.idle = s.tracker.Advance(s.ctx.Clock.Now()); len(s.splits) == 0 {
		s.watermark, s.idle = batch.EndOfTime, false
	}
	return nil
}

// Follow implements Source. The followers hold time back before the others let
// go of it.
func (s *sourcer[T]) Follow(splits []*pb.Split, released []string) error {
	if len(splits) > 0 {
		if err := s.Assign(s.ctx.Attempt, splits); err != nil {
			return err
		}
	}
	for i, sp := range s.splits {
		if sp.followed && slices.Contains(released, sp.id) {
			sp.followed = false
			s.tracker.Report(i, source.Ended, false, s.ctx.Clock.Now())
		}
	}
	s.ctx.Wake()
	return nil
}

// env is what a split's reader knows of its surroundings.
func (s *sourcer[T]) env(sp *openSplit[T]) source.Env {
	return source.Env{
		JobName: s.ctx.JobName, Operator: s.ctx.Name, Subtask: s.ctx.Subtask,
		ShardAddress: s.ctx.ShardAddress, Log: s.ctx.Log,
		Wake: func() {
			sp.woken.Store(true)
			s.woken.Store(true)
			s.ctx.Wake()
		},
	}
}

// Work implements Worker: one batch of one split.
func (s *sourcer[T]) Work() (more bool, watermark int64, err error) {
	if s.stopped || len(s.splits) == 0 {
		return false, s.watermark, nil
	}
	if s.woken.Load() && s.woken.Swap(false) {
		for i, sp := range s.splits {
			if sp.woken.Swap(false) {
				s.tracker.Wake(i)
			}
		}
	}
	now := s.ctx.Clock.Now()
	i, ok := s.tracker.Next()
	if !ok {
		s.watermark, s.idle = s.tracker.Advance(now)
		s.setAlarm()
		return false, s.watermark, nil
	}
	sp := s.splits[i]
	s.ctx.Enter()
	s.buf.Values, s.buf.Times = s.buf.Values[:0], s.buf.Times[:0]
	limit := pace.First
	if s.pace.Known() {
		limit = s.pace.Within(stepTime, batch.Rows)
	}
	status, err := sp.reader.Poll(&s.buf, limit)
	if err != nil {
		return false, s.watermark, withCode(codeSource, fmt.Errorf("read split %s: %w", sp.id, err))
	}
	n := len(s.buf.Values)
	if n > 0 {
		s.tracker.Observe(i, s.strategy.Stamp(&s.buf, 0))
	}
	s.tracker.Report(i, status, n > 0, now)
	if status == source.Followed {
		// The followers are found once a checkpoint holds the end: soon, then. While
		// the job drains nobody looks for them: see DrainTo.
		sp.followed = true
		s.ctx.Held()
		if s.draining {
			s.tracker.Report(i, source.Ended, n > 0, now)
		}
	}
	if n > 0 {
		s.idle = false
		s.ctx.Metrics.RecordsOut += uint64(n)
		began := time.Now()
		if err := s.out.Push(&s.buf); err != nil {
			return false, s.watermark, err
		}
		s.pace.Took(n, time.Since(began))
	}
	s.watermark, s.idle = s.tracker.Advance(now)
	return true, s.watermark, nil
}

// setAlarm makes the clock wake the task when the next split may turn idle.
func (s *sourcer[T]) setAlarm() {
	if s.alarm.Load() {
		return
	}
	wait, ok := s.tracker.NextIdle(s.ctx.Clock.Now())
	if !ok {
		return
	}
	s.alarm.Store(true)
	s.stopAlarm = s.ctx.Clock.AfterFunc(wait, func() {
		s.alarm.Store(false)
		s.ctx.Wake()
	})
}

// Idle implements Idler.
func (s *sourcer[T]) Idle() bool { return s.idle }

// Reached implements Source.
func (s *sourcer[T]) Reached() int64 { return s.watermark }

// Exhausted implements Source.
func (s *sourcer[T]) Exhausted() bool { return s.watermark == batch.EndOfTime }

// DrainTo implements Source.
func (s *sourcer[T]) DrainTo(positions []*pb.DrainPosition) {
	s.ctx.Enter()
	s.draining = true
	_, tips := s.src.(source.Tipper)
	for i, sp := range s.splits {
		if sp.followed {
			// Its followers are for the job that goes on from here.
			s.tracker.Report(i, source.Ended, false, s.ctx.Clock.Now())
			continue
		}
		if sp.reader == nil {
			continue
		}
		at, found := []byte(nil), false
		for _, p := range positions {
			if p.GetSplit() == sp.id {
				at, found = p.GetPosition(), true
				break
			}
		}
		if !found {
			if s.src.Bounded() && !tips {
				continue
			}
			at = sp.reader.Position()
		}
		sp.drained = true
		sp.reader.StopAfter(bytes.Clone(at))
		s.tracker.Wake(i)
	}
	s.ctx.Wake()
}

// Watermark implements Operator: a source has no input.
func (s *sourcer[T]) Watermark(int64) (int64, error) { return s.watermark, nil }

// Snapshot implements Snapshotter. A split that was drained has not finished:
// a job started from the savepoint of a drain reads on.
func (s *sourcer[T]) Snapshot(snap *Snapshot) error {
	for i, sp := range s.splits {
		p := &pb.Split{Id: sp.id, Payload: sp.payload, Position: sp.position, Watermark: s.tracker.Watermark(i)}
		if sp.reader != nil {
			p.Position = sp.reader.Position()
		}
		p.Finished = sp.followed || s.tracker.State(i) == watermark.Ended && !sp.drained
		p.Followed = sp.followed
		if planted.OffsetSavedLate && sp.reader != nil {
			snap.Deferred = append(snap.Deferred, lateSplit(p, sp.reader.Position))
			continue
		}
		value, err := proto.Marshal(p)
		if err != nil {
			return fmt.Errorf("snapshot split %s: %w", sp.id, err)
		}
		snap.Entries = append(snap.Entries, &Entry{Kind: KindSplit, Key: sp.id, Value: value})
	}
	s.stopped = s.stopped || snap.Terminal
	return nil
}

// lateSplit is a planted bug: the position is asked for beside the task, which reads
// on.
func lateSplit(p *pb.Split, position func() []byte) func() ([]*Entry, error) {
	return func() ([]*Entry, error) {
		time.Sleep(50 * time.Millisecond)
		p.Position = position()
		value, err := proto.Marshal(p)
		return []*Entry{{Kind: KindSplit, Key: p.GetId(), Value: value}}, err
	}
}

// Splits implements Source.
func (s *sourcer[T]) Splits() []*pb.SplitMetrics {
	out := make([]*pb.SplitMetrics, 0, len(s.splits))
	for i, sp := range s.splits {
		m := &pb.SplitMetrics{Id: sp.id, Watermark: s.tracker.Watermark(i), Idle: s.tracker.State(i) == watermark.Idle}
		if sp.reader != nil {
			millis, records := sp.reader.Lag()
			m.MillisBehind = millis
			m.PendingRecords = uint64(max(records, 0))
		}
		out = append(out, m)
	}
	return out
}

// Close implements Operator. All readers are closed, whatever the first says.
func (s *sourcer[T]) Close() error {
	if s.stopAlarm != nil {
		s.stopAlarm()
	}
	var first error
	for _, sp := range s.splits {
		if sp.reader == nil {
			continue
		}
		if err := sp.reader.Close(); err != nil && first == nil {
			first = fmt.Errorf("close split %s: %w", sp.id, err)
		}
	}
	return first
}
