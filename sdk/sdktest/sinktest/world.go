package sinktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/millrace/millrace/sdk"
)

// world is one history: jobs, what they wrote, and what a reader may see.
type world[T any] struct {
	ctx    context.Context
	target Target[T]
	rng    *rand.Rand
	lines  []*lineage[T]
	dead   []*attempt[T] // attempts that are over, and do not know it
	next   int           // number of the next record
	trail  []string

	// must are the records that are visible, may those that can be, because a
	// commit of them was called and did not say how it ended.
	must, may map[int]bool
}

// lineage is a chain of jobs, each the restore of the one before.
type lineage[T any] struct {
	name   string
	epoch  uint64
	nextID uint64
	at     *attempt[T]
	latest *checkpoint // completed
	saved  []*checkpoint
	// done says that the latest checkpoint is known to be committed.
	done bool
	// again are records that a failure took back: they are written once more.
	again []int
}

// attempt is one deployment of a job.
type attempt[T any] struct {
	line    *lineage[T]
	job     string
	epoch   uint64
	sink    sdk.Sink[T]
	two     sdk.Transactional
	ctx     context.Context
	end     context.CancelFunc
	writers []*writer[T]
	// last is what it commits, or would.
	last *checkpoint
	// shaken is set when the target failed during the attempt's life: what it
	// sent meanwhile may have failed, so its writers may.
	shaken bool
}

type writer[T any] struct {
	subtask  int
	w        sdk.Writer[T]
	open     []int
	prepared []*transaction
}

type transaction struct {
	id      uint64
	records []int
	finish  func(context.Context) ([]byte, error)
	done    bool
	handle  []byte
}

type checkpoint struct {
	id      uint64
	handles []sdk.Handle
	records []int // that the handles commit
	saved   bool
}

func (w *world[T]) note(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf(format, args...))
}

func (w *world[T]) story() string { return "\t" + strings.Join(w.trail, "\n\t") }

func (w *world[T]) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (a *attempt[T]) env(subtask int, target *Target[T]) sdk.SinkEnv {
	return sdk.SinkEnv{
		JobName: a.job, Operator: "to-target", UID: "to-target", Subtask: subtask, Parallelism: max(len(a.writers), 1),
		Epoch: a.epoch, Lineage: a.line.name, ShardAddress: target.ShardAddress,
		Log: slog.New(slog.DiscardHandler), Held: func() {}, Fail: func(error) {},
	}
}

func (a *attempt[T]) name() string { return fmt.Sprintf("%s@%d", a.line.name, a.epoch) }

// begin starts the next attempt of a lineage from a completed checkpoint, nil
// for an empty start: writers open beside the recovery.
func (w *world[T]) begin(l *lineage[T], from *checkpoint) error {
	for {
		done, err := w.tryBegin(l, from)
		if done || err != nil {
			return err
		}
	}
}

func (w *world[T]) tryBegin(l *lineage[T], from *checkpoint) (done bool, err error) {
	l.epoch += 1 + w.rng.Uint64N(2)
	a := &attempt[T]{line: l, job: fmt.Sprintf("job-%d", w.rng.IntN(1000)), epoch: l.epoch, sink: w.target.Sink(), last: from}
	two, ok := a.sink.(sdk.Transactional)
	if !ok {
		return false, fmt.Errorf("the sink %T is not transactional", a.sink)
	}
	a.two = two
	a.ctx, a.end = context.WithCancel(w.ctx)
	l.at = a
	a.writers = make([]*writer[T], 1+w.rng.IntN(3))
	early := w.rng.IntN(len(a.writers) + 1)
	for i := range a.writers {
		a.writers[i] = &writer[T]{subtask: i}
		if i < early {
			if err := w.open(a, i); err != nil {
				return false, err
			}
		}
	}
	if ok, err := w.recover(a, from); !ok || err != nil {
		w.bury(a)
		return false, err
	}
	for i := early; i < len(a.writers); i++ {
		if err := w.open(a, i); err != nil {
			return false, err
		}
	}
	l.latest, l.done = from, true
	return true, nil
}

func (w *world[T]) open(a *attempt[T], i int) (err error) {
	a.writers[i].w, err = a.sink.Open(a.ctx, a.env(i, &w.target))
	if err != nil {
		return fmt.Errorf("%s opens subtask %d: %w", a.name(), i, err)
	}
	if _, ok := a.writers[i].w.(sdk.Preparer); !ok {
		return fmt.Errorf("the writer %T does not prepare", a.writers[i].w)
	}
	return nil
}

// recover settles what came before, perhaps failing at first; false when the
// attempt does not survive that.
func (w *world[T]) recover(a *attempt[T], from *checkpoint) (ok bool, err error) {
	id, handles, records := from.parts()
	w.note("%s recovers checkpoint %d with %d handles, records %v; %d writers", a.name(), id, len(handles), records, len(a.writers))
	call := func(ctx context.Context) error {
		return a.two.Recover(ctx, a.env(0, &w.target), id, slices.Clone(handles))
	}
	w.mayShow(records)
	if w.chance(25) {
		err := w.interrupted(call)
		w.note("… interrupted: %v", err)
		if bad := w.look(); bad != nil {
			return false, bad
		}
		if err != nil && w.chance(50) {
			return false, nil
		}
	}
	for range 1 + w.rng.IntN(2) {
		if err := call(a.ctx); err != nil {
			return false, fmt.Errorf("%s recovers: %w", a.name(), err)
		}
		w.show(records)
		if err := w.look(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *checkpoint) parts() (id uint64, handles []sdk.Handle, records []int) {
	if c == nil {
		return 0, nil, nil
	}
	return c.id, c.handles, c.records
}

// interrupted calls f in a way that may fail anywhere inside it.
func (w *world[T]) interrupted(f func(context.Context) error) error {
	if w.target.Fail != nil && w.chance(75) {
		defer w.fails(1 + w.rng.IntN(12))()
		return f(w.ctx)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	return f(ctx)
}

// fails makes the target fail at its n-th operation from now on, until what it
// returns is called.
func (w *world[T]) fails(n int) (heal func()) {
	for _, l := range w.lines {
		if l.at != nil {
			l.at.shaken = true
		}
	}
	w.target.Fail(n)
	return func() { w.target.Fail(0) }
}

// mayShow notes that a commit of records is called; show that it has succeeded.
func (w *world[T]) mayShow(records []int) {
	for _, n := range records {
		if !w.must[n] {
			w.may[n] = true
		}
	}
}

func (w *world[T]) show(records []int) {
	for _, n := range records {
		w.must[n] = true
		delete(w.may, n)
	}
}

// look compares what a reader sees with the model.
func (w *world[T]) look() error {
	seen, err := w.target.Visible(w.ctx)
	if err != nil {
		return fmt.Errorf("look at the target: %w", err)
	}
	count := map[int]int{}
	for _, n := range seen {
		count[n]++
	}
	var early, twice, lost []int
	for _, n := range slices.Sorted(maps.Keys(count)) {
		if count[n] > 1 {
			twice = append(twice, n)
		}
		if !w.must[n] && !w.may[n] {
			early = append(early, n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(w.must)) {
		if count[n] == 0 {
			lost = append(lost, n)
		}
	}
	var bad []error
	if len(early) > 0 {
		bad = append(bad, fmt.Errorf("records %v are visible, and no commit of them was to have an effect", early))
	}
	if len(twice) > 0 {
		bad = append(bad, fmt.Errorf("records %v are visible more than once", twice))
	}
	if len(lost) > 0 {
		bad = append(bad, fmt.Errorf("records %v were committed and are not visible", lost))
	}
	return errors.Join(bad...)
}

// bury ends an attempt: it closes its writers, or leaves them behind as a
// process does that is stopped and goes on later.
func (w *world[T]) bury(a *attempt[T]) {
	if w.chance(50) {
		w.note("%s is stopped, and does not know that it is over", a.name())
		w.dead = append(w.dead, a)
		return
	}
	w.note("%s ends", a.name())
	a.close()
}

func (a *attempt[T]) close() {
	a.end()
	for _, x := range a.writers {
		if x.w != nil {
			_ = x.w.Close() // it gives up: what it says does not count
			x.w = nil
		}
	}
}

// leave closes all that is open.
func (w *world[T]) leave() {
	for _, a := range w.dead {
		a.close()
	}
	for _, l := range w.lines {
		if l.at != nil {
			l.at.close()
		}
	}
}
