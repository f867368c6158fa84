package sinktest

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace/millrace/sdk"
)

const maxLines = 3

// play does random steps.
func (w *world[T]) play(o Options) error {
	for i := range 1 + w.rng.IntN(2) {
		l := &lineage[T]{name: fmt.Sprintf("lineage-%d", i), nextID: 1}
		w.lines = append(w.lines, l)
		if err := w.begin(l, nil); err != nil {
			return err
		}
	}
	for range o.Steps {
		l := w.lines[w.rng.IntN(len(w.lines))]
		var err error
		switch n := w.rng.IntN(100); {
		case n < 35:
			err = w.write(l.at, l)
		case n < 60:
			err = w.checkpoint(l, w.chance(20))
		case n < 70:
			err = w.commit(l)
		case n < 82:
			err = w.crash(l)
		case n < 94:
			err = w.zombie()
		case n < 97 && !o.NoRewinds:
			err = w.rewind(l)
		default:
			err = w.fork(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// oneFails takes two checkpoints and recovers from the second, while the target
// fails from its n-th operation on; what fails is done once more, well, or after
// a crash. It says whether anything failed.
func (w *world[T]) oneFails(n int) (hurt bool, err error) {
	l := &lineage[T]{name: "lineage", nextID: 1}
	w.lines = append(w.lines, l)
	if err := w.begin(l, nil); err != nil {
		return false, err
	}
	heal := w.fails(n)
	failed := func(err error) bool {
		if err != nil {
			w.note("operation %d fails: %v", n, err)
			heal()
			hurt = true
		}
		return err != nil
	}
	for range 2 {
		for _, x := range l.at.writers {
			records := []int{w.next, w.next + 1, w.next + 2}
			w.next += len(records)
			x.open = append(x.open, records...)
			if failed(x.write(&w.target, records)) {
				break
			}
		}
		if hurt {
			return hurt, w.crash(l)
		}
		if ok, err := w.collect(l, false); !ok && failed(err) {
			return hurt, w.crash(l)
		} else if err != nil {
			return hurt, err
		}
		w.mayShow(l.latest.records)
		err := l.at.two.Commit(l.at.ctx, l.at.env(0, &w.target), l.latest.id, slices.Clone(l.latest.handles))
		if !failed(err) {
			w.show(l.latest.records)
			l.done = true
		}
		if err := w.look(); err != nil {
			return hurt, err
		}
		if hurt && n%2 == 0 {
			return hurt, w.crash(l)
		} else if hurt {
			return hurt, w.commitWell(l)
		}
	}
	if !hurt {
		l.takeBack()
		w.bury(l.at)
		failed(w.begin(l, l.latest))
		if hurt {
			return hurt, w.begin(l, l.latest)
		}
	}
	heal()
	return hurt, nil
}

// settle ends every job in order, and looks for what is left.
func (w *world[T]) settle() error {
	for _, a := range w.dead {
		a.close()
	}
	w.dead = nil
	for _, l := range w.lines {
		w.note("%s comes to its end", l.name)
		l.at.close()
		l.takeBack()
		if err := w.begin(l, l.latest); err != nil {
			return err
		}
		for len(l.again) > 0 {
			if err := w.write(l.at, l); err != nil {
				return err
			}
		}
		if ok, err := w.collect(l, false); !ok || err != nil {
			return fmt.Errorf("the last checkpoint of %s: %w", l.name, err)
		}
		if err := w.commitWell(l); err != nil {
			return err
		}
		l.at.close()
	}
	if err := w.look(); err != nil {
		return err
	}
	if w.target.Garbage == nil {
		return nil
	}
	switch n, err := w.target.Garbage(w.ctx); {
	case err != nil:
		return fmt.Errorf("look for garbage: %w", err)
	case n > 0:
		return fmt.Errorf("%d things are left of transactions that are committed or aborted", n)
	}
	return nil
}

// write has a random subtask write some records.
func (w *world[T]) write(a *attempt[T], l *lineage[T]) error {
	x := a.writers[w.rng.IntN(len(a.writers))]
	var records []int
	for range 1 + w.rng.IntN(6) {
		if len(l.again) > 0 {
			records = append(records, l.again[0])
			l.again = l.again[1:]
			continue
		}
		records = append(records, w.next)
		w.next++
	}
	w.note("%s/%d writes %v", a.name(), x.subtask, records)
	err := x.write(&w.target, records)
	x.open = append(x.open, records...)
	if err == nil && w.chance(30) {
		err = x.w.Flush()
	}
	if err != nil {
		return w.broken(l, fmt.Errorf("%s writes: %w", a.name(), err))
	}
	if w.chance(20) {
		return w.look()
	}
	return nil
}

func (x *writer[T]) write(target *Target[T], records []int) error {
	b := sdk.Batch[T]{}
	for _, n := range records {
		b.Append(target.Record(n), 0)
	}
	if err := x.w.Write(&b); err != nil {
		return err
	}
	clear(b.Values) // it was borrowed for the call
	return nil
}

// broken is the end of an attempt whose writer has failed: a crash, if the
// target had a part in it.
func (w *world[T]) broken(l *lineage[T], err error) error {
	if !l.at.shaken {
		return err
	}
	w.note("%v", err)
	return w.crash(l)
}

// prepare ends the transactions of all subtasks.
func (w *world[T]) prepare(a *attempt[T], id uint64) error {
	for _, x := range a.writers {
		if err := x.w.Flush(); err != nil {
			return err
		}
		finish, err := x.w.(sdk.Preparer).Prepare(id)
		if err != nil {
			return err // its records are open still
		}
		x.prepared = append(x.prepared, &transaction{id: id, records: x.open, finish: finish})
		x.open = nil
	}
	return nil
}

// finish returns what a checkpoint of the attempt holds now. With few, only so
// many subtasks get that far.
func (w *world[T]) finish(ctx context.Context, a *attempt[T], id uint64, few int) (*checkpoint, error) {
	c := &checkpoint{id: id}
	for _, x := range a.writers[:few] {
		for _, tx := range x.prepared {
			if !tx.done {
				h, err := tx.finish(ctx)
				if err != nil {
					return nil, fmt.Errorf("subtask %d finishes checkpoint %d: %w", x.subtask, tx.id, err)
				}
				tx.handle, tx.done = h, true
				if h == nil && len(tx.records) > 0 {
					return nil, fmt.Errorf("subtask %d has no handle for checkpoint %d, for which it wrote %v", x.subtask, tx.id, tx.records)
				}
			}
			if tx.handle != nil {
				c.handles = append(c.handles, sdk.Handle{Subtask: x.subtask, Value: slices.Clone(tx.handle)})
			}
			c.records = append(c.records, tx.records...)
		}
	}
	return c, nil
}

// collect takes a checkpoint that completes.
func (w *world[T]) collect(l *lineage[T], saved bool) (ok bool, err error) {
	id := l.nextID
	l.nextID++
	a := l.at
	if err := w.prepare(a, id); err != nil {
		return false, fmt.Errorf("%s prepares checkpoint %d: %w", a.name(), id, err)
	}
	c, err := w.finish(a.ctx, a, id, len(a.writers))
	if err != nil {
		return false, fmt.Errorf("%s: %w", a.name(), err)
	}
	for _, x := range a.writers {
		x.prepared = nil
	}
	c.saved = saved
	if saved {
		l.saved = append(l.saved, c)
	}
	a.last, l.latest, l.done = c, c, false
	w.note("%s completes checkpoint %d: %d handles, records %v, savepoint %v", a.name(), id, len(c.handles), c.records, saved)
	return true, w.look()
}

// checkpoint takes one, which completes or not, and commits it or not.
func (w *world[T]) checkpoint(l *lineage[T], saved bool) error {
	if !l.done { // the next one waits for the commit of the last
		return w.commit(l)
	}
	a := l.at
	switch n := w.rng.IntN(100); {
	case n < 25: // aborted, at any point
		id := l.nextID
		l.nextID++
		few := w.rng.IntN(len(a.writers) + 1)
		w.note("%s aborts checkpoint %d after %d subtasks", a.name(), id, few)
		err := w.prepare(a, id)
		if err == nil {
			_, err = w.finish(a.ctx, a, id, few)
		}
		if err != nil {
			return w.broken(l, fmt.Errorf("%s prepares checkpoint %d: %w", a.name(), id, err))
		}
		return w.look()
	case n < 35: // the target fails while it is prepared
		if w.target.Fail == nil {
			return nil
		}
		id := l.nextID
		l.nextID++
		heal := w.fails(1 + w.rng.IntN(4))
		err := w.prepare(a, id)
		if err == nil {
			_, err = w.finish(a.ctx, a, id, len(a.writers))
		}
		heal()
		w.note("%s prepares checkpoint %d while the target fails: %v", a.name(), id, err)
		return w.crash(l)
	}
	if ok, err := w.collect(l, saved); !ok {
		return w.broken(l, err)
	} else if err != nil {
		return err
	}
	if w.chance(75) {
		return w.commit(l)
	}
	return nil
}

// commit commits the latest checkpoint, once or more, or is interrupted in it.
func (w *world[T]) commit(l *lineage[T]) error {
	if l.latest == nil {
		return nil
	}
	if w.chance(25) {
		w.mayShow(l.latest.records)
		err := w.interrupted(func(ctx context.Context) error {
			return l.at.two.Commit(ctx, l.at.env(0, &w.target), l.latest.id, slices.Clone(l.latest.handles))
		})
		w.note("%s is interrupted when it commits checkpoint %d: %v", l.at.name(), l.latest.id, err)
		if err := w.look(); err != nil {
			return err
		}
		if w.chance(50) {
			return w.crash(l)
		}
	}
	for range 1 + w.rng.IntN(2) {
		if err := w.commitWell(l); err != nil {
			return err
		}
	}
	return nil
}

func (w *world[T]) commitWell(l *lineage[T]) error {
	w.note("%s commits checkpoint %d", l.at.name(), l.latest.id)
	err := l.at.two.Commit(l.at.ctx, l.at.env(0, &w.target), l.latest.id, slices.Clone(l.latest.handles))
	if err != nil {
		return fmt.Errorf("%s commits checkpoint %d: %w", l.at.name(), l.latest.id, err)
	}
	w.show(l.latest.records)
	l.done = true
	return w.look()
}

// takeBack has the records that no completed checkpoint holds written again.
func (l *lineage[T]) takeBack() {
	var back []int
	for _, x := range l.at.writers {
		for _, tx := range x.prepared {
			back = append(back, tx.records...)
		}
		back = append(back, x.open...)
	}
	slices.Sort(back)
	l.again = append(back, l.again...)
}

// crash restores the latest checkpoint.
func (w *world[T]) crash(l *lineage[T]) error {
	l.takeBack()
	w.bury(l.at)
	if w.chance(30) { // ids above the restored one are given out again
		l.nextID = 1
		if l.latest != nil {
			l.nextID = l.latest.id + 1
		}
	}
	return w.begin(l, l.latest)
}

// rewind starts a job from a savepoint that is not the newest checkpoint. What
// comes after it there is written anew: as other records.
func (w *world[T]) rewind(l *lineage[T]) error {
	if len(l.saved) == 0 {
		return nil
	}
	from := l.saved[w.rng.IntN(len(l.saved))]
	w.note("%s goes back to savepoint %d", l.name, from.id)
	if !l.done && l.latest != from {
		// It was never committed, and now it never will be.
		l.saved = slices.DeleteFunc(l.saved, func(c *checkpoint) bool { return c == l.latest })
	}
	l.again, l.nextID = nil, from.id+1
	w.bury(l.at)
	return w.begin(l, from)
}

// fork starts a job of a lineage of its own from a savepoint of one that goes on.
func (w *world[T]) fork(l *lineage[T]) error {
	if len(l.saved) == 0 || len(w.lines) >= maxLines {
		return nil
	}
	from := l.saved[w.rng.IntN(len(l.saved))]
	f := &lineage[T]{name: fmt.Sprintf("fork-%d", len(w.lines)), nextID: from.id + 1}
	w.lines = append(w.lines, f)
	w.note("%s starts from savepoint %d of %s", f.name, from.id, l.name)
	return w.begin(f, from)
}

// zombie lets an attempt that is over do something. It may be refused or not;
// it must have no effect.
func (w *world[T]) zombie() error {
	if len(w.dead) == 0 {
		return nil
	}
	a := w.dead[w.rng.IntN(len(w.dead))]
	var err error
	did := ""
	switch w.rng.IntN(5) {
	case 4: // stopped before it had opened its writers
		did = "opens, prepares and commits"
		err = w.zombieOpens(a)
	case 0:
		did = "writes"
		if x := a.writers[w.rng.IntN(len(a.writers))]; x.w != nil {
			n := w.next
			w.next++
			if err = x.write(&w.target, []int{n}); err == nil {
				err = x.w.Flush()
			}
		}
	case 1:
		did = "prepares and commits"
		err = w.zombieCheckpoint(a)
	case 2:
		did = "commits"
		id, handles, _ := a.last.parts()
		err = a.two.Commit(a.ctx, a.env(0, &w.target), id, handles)
	case 3:
		did = "recovers"
		id, handles, _ := a.last.parts()
		err = a.two.Recover(a.ctx, a.env(0, &w.target), id, handles)
	}
	w.note("%s, which is over, %s: %v", a.name(), did, err)
	return w.look()
}

// zombieOpens lets an attempt that is over begin only now.
func (w *world[T]) zombieOpens(a *attempt[T]) error {
	x := &writer[T]{subtask: len(a.writers)}
	var err error
	if x.w, err = a.sink.Open(a.ctx, a.env(x.subtask, &w.target)); err != nil {
		return err
	}
	a.writers = append(a.writers, x)
	n := w.next
	w.next++
	if err := x.write(&w.target, []int{n}); err != nil {
		return err
	}
	return w.zombieCheckpoint(a)
}

// zombieCheckpoint commits what no checkpoint that counts holds.
func (w *world[T]) zombieCheckpoint(a *attempt[T]) error {
	id := uint64(1)
	for _, x := range a.writers {
		if x.w == nil {
			return nil
		}
		for _, tx := range x.prepared {
			id = max(id, tx.id+1)
		}
	}
	if a.last != nil {
		id = max(id, a.last.id+1)
	}
	if err := w.prepare(a, id); err != nil {
		return err
	}
	c, err := w.finish(a.ctx, a, id, len(a.writers))
	if err != nil {
		return err
	}
	return a.two.Commit(a.ctx, a.env(0, &w.target), c.id, c.handles)
}
