package ledger

import (
	"fmt"
	"maps"
	"slices"
)

// Checker holds committed rows against the input. Its invariants, checked at
// every commit:
//
//  1. No gap: the entries of a key are committed in the order of the input,
//     none missing before the last.
//  2. No duplicate: none comes twice, unless it is in the input twice; then the
//     second is a Repeat.
//  3. Order: as 1, within each commit too.
//  4. Conservation: each amount is that of the input, and each running sum that of
//     the input up to its entry; with 1 and 2, what came out is what went in.
//  5. Prefix: what is committed of a shard is a prefix of the shard; where there is
//     any, the shards that it was split off or merged of are committed whole.
//  6. Windows: a window comes once; its entries and those late for it are all
//     that the committed input has of it; windows of a key come in their order,
//     none left out.
//  7. Timers: each comes once, in the key's order, after its entry, none left out.
//  8. Late entries were in the input once, and not within Bound of their shard.
//  9. At the end everything that went in has come out.
//
// Where a barrier has overtaken records, these are part of the checkpoint and come
// out after it, by one path later than by another. Such a commit says nothing of
// 5 to 8, which are then held to at the next one without.
//
// The zero value is not usable. A Checker belongs to one goroutine.
type Checker struct {
	script Script
	shards map[int]*shard
	keys   map[uint64]*account
	counts Counts
	// loose: rows come in pieces; held are those that speak of others, as long as
	// it is not known that nothing is under way.
	loose bool
	held  []Row
	// touched are keys that rows came of since settle.
	touched map[uint64]bool
}

// Counts are what a Checker has seen.
type Counts struct {
	Commits, Input uint64
	// InFlight are commits of checkpoints that hold records.
	InFlight                                uint64
	Entries, Repeats, Windows, Lates, Fired uint64
	// Digest is of all rows but repeats, whatever their order.
	Digest uint64
}

// shard is one shard of the input.
type shard struct {
	// numbers are what the shard holds from position first on: everything that
	// is not committed yet.
	numbers []uint64
	first   uint64
	// done are positions beyond first that are committed.
	done map[uint64]bool
	// newest is the highest event time so far, of parents too.
	newest int64
	// parents are those that it follows and that are not committed whole; closed
	// says that it has children itself.
	parents []int
	closed  bool
}

// waiting is an entry that is in the input and not committed.
type waiting struct {
	number   uint64
	shard    int
	position uint64
	// timely: within Bound of its shard, it must not come late.
	timely bool
}

// account is what is known of a key.
type account struct {
	due     []waiting // in order of the input
	told    uint64    // the sequence number that the input has not shown yet
	shard   int       // of what it has shown last; a repeat is in the same one
	next    uint64    // the sequence number that is no repeat
	sum     int64
	windows []*window // with committed entries that have not fired, by start
	fired   map[int64]*window
	last    int64 // start of the window that fired last
	timers  []int64
}

// window is one key's window.
type window struct {
	start int64
	// in are entries that are committed, late of them those that came late.
	in, late       uint64
	inSum, lateSum int64
	count          uint64
	countSum       int64
	timely         bool // it has an entry that must not come late
	lateSeen       map[uint64]bool
}

// NewChecker returns a Checker of the job's output for an input that begins with
// shards numbered from 0.
func NewChecker(s Script, shards int) *Checker {
	c := &Checker{script: s, shards: map[int]*shard{}, keys: map[uint64]*account{}, touched: map[uint64]bool{}}
	for i := range shards {
		c.shards[i] = &shard{done: map[uint64]bool{}}
	}
	return c
}

// Child tells of a shard that was split off another or merged of two, all entries
// of which have been told. Its number is above theirs.
func (c *Checker) Child(index int, parents ...int) error {
	if c.shards[index] != nil {
		return fmt.Errorf("the input itself is wrong: shard %d begins a second time", index)
	}
	s := &shard{done: map[uint64]bool{}, parents: parents}
	for _, p := range parents {
		parent := c.shards[p]
		if parent == nil || p >= index {
			return fmt.Errorf("the input itself is wrong: shard %d follows shard %d, which has not been there", index, p)
		}
		parent.closed = true
		s.newest = max(s.newest, parent.newest)
	}
	c.shards[index] = s
	return nil
}

// Loosen makes the checker take rows as a reader of a stream sees them: those of a
// key in order, but in pieces that are no commits. Invariant 5 is then held to at the
// end only, and so are those of windows and timers, which come by other paths than
// their entries.
func (c *Checker) Loosen() { c.loose = true }

// Input tells that a shard holds one more entry.
func (c *Checker) Input(in int, r Record) error {
	number := c.script.Number(r.Key, r.Seq)
	if want := c.script.Record(number); want != r {
		return fmt.Errorf("the input itself is wrong: shard %d holds %v, the script says %v", in, r, want)
	}
	s := c.shards[in]
	if s == nil || s.closed {
		return fmt.Errorf("the input itself is wrong: shard %d holds %v, and has not begun or has ended", in, r)
	}
	a := c.account(r.Key)
	if r.Seq > a.told {
		return fmt.Errorf("acknowledged and lost: shard %d holds entry %d of key %d, and no entry %d", in, r.Seq, r.Key, a.told)
	}
	if r.Seq < a.told && in != a.shard {
		return fmt.Errorf("the input itself is wrong: entry %d of key %d is in shard %d, and was in shard %d before", r.Seq, r.Key, in, a.shard)
	}
	a.told, a.shard = max(a.told, r.Seq+1), in
	s.newest = max(s.newest, r.Time)
	a.due = append(a.due, waiting{
		number: number, shard: in, position: s.first + uint64(len(s.numbers)),
		timely: r.Time > s.newest-Bound.Milliseconds(),
	})
	s.numbers = append(s.numbers, number)
	c.counts.Input++
	return nil
}

// Knows says whether the input that a row speaks of has been told. The reader of
// the input may be behind the job.
func (c *Checker) Knows(rows []Row) bool {
	seen := map[uint64]int{}
	for _, r := range rows {
		if r.Kind == Entry || r.Kind == Repeat {
			if seen[r.Key]++; seen[r.Key] > len(c.account(r.Key).due) {
				return false
			}
		}
	}
	return true
}

// Waiting is how many entries of the input are not committed.
func (c *Checker) Waiting() int {
	n := 0
	for _, a := range c.keys {
		n += len(a.due)
	}
	return n
}

// Told is how many different entries the input holds.
func (c *Checker) Told() uint64 {
	n := uint64(0)
	for _, a := range c.keys {
		n += a.told
	}
	return n
}

// Counts says what was seen so far.
func (c *Checker) Counts() Counts { return c.counts }

func (c *Checker) account(key uint64) *account {
	a := c.keys[key]
	if a == nil {
		a = &account{fired: map[int64]*window{}}
		c.keys[key] = a
	}
	return a
}

// Commit takes the rows that one commit made visible, those of one sink subtask
// in their order. With inFlight the checkpoint holds records that a barrier has
// overtaken.
func (c *Checker) Commit(rows []Row, inFlight bool) error {
	c.counts.Commits++
	if inFlight {
		c.counts.InFlight++
	}
	// Entries first: windows and timers of the same commit speak of them.
	for _, r := range rows {
		if r.Kind != Repeat {
			c.counts.Digest += r.digest()
		}
		var err error
		switch r.Kind {
		case Entry:
			err = c.entry(r)
		case Repeat:
			err = c.repeat(r)
		case Window, Late, Timer:
			c.held = append(c.held, r)
		default:
			err = fmt.Errorf("a row of %v", r.Kind)
		}
		if err != nil {
			return err
		}
		c.touched[r.Key] = true
	}
	if c.loose || inFlight {
		return nil
	}
	return c.settle()
}

// settle judges what the rows say of each other, once nothing is under way.
func (c *Checker) settle() error {
	for _, r := range c.held {
		a := c.account(r.Key)
		var err error
		switch r.Kind {
		case Timer:
			err = c.timer(a, r)
		case Window:
			err = c.window(a, r)
		case Late:
			err = c.late(a, r)
		}
		if err != nil {
			return err
		}
	}
	c.held = c.held[:0]
	for key := range c.touched {
		if err := c.account(key).balance(); err != nil {
			return fmt.Errorf("windows: key %d: %w", key, err)
		}
	}
	clear(c.touched)
	return c.prefix()
}

// take is the next entry of the input that a key's row must be about.
func (c *Checker) take(r Row) (waiting, Record, *account, error) {
	a := c.account(r.Key)
	if len(a.due) == 0 {
		return waiting{}, Record{}, a, fmt.Errorf("duplicate: %v is committed, and all of the key's input was before", r)
	}
	w := a.due[0]
	want := c.script.Record(w.number)
	if r.Seq != want.Seq {
		what := "gap"
		if r.Seq < want.Seq {
			what = "duplicate"
		}
		return w, want, a, fmt.Errorf("%s: %v is committed where entry %d is due (position %d of shard %d)", what, r, want.Seq, w.position, w.shard)
	}
	if r.Amount != want.Amount || r.Time != want.Time {
		return w, want, a, fmt.Errorf("corrupted: %v is committed, the input is %v", r, want)
	}
	a.due = a.due[1:]
	s := c.shards[w.shard]
	s.done[w.position] = true
	return w, want, a, nil
}

func (c *Checker) entry(r Row) error {
	w, want, a, err := c.take(r)
	if err != nil {
		return err
	}
	if want.Seq < a.next {
		return fmt.Errorf("duplicate: %v is committed as new, the account is at %d", r, a.next)
	}
	a.next = want.Seq + 1
	a.sum += want.Amount
	if r.Sum != a.sum {
		return fmt.Errorf("state: %v is committed, the input up to it sums up to %d", r, a.sum)
	}
	if HasTimer(want, c.script.Late(w.number)) {
		a.timers = append(a.timers, want.Time+TimerDelay)
	}
	win := a.windowAt(WindowOf(want.Time))
	win.in++
	win.inSum += want.Amount
	win.timely = win.timely || w.timely
	if win.lateSeen == nil {
		win.lateSeen = map[uint64]bool{}
	}
	win.lateSeen[want.Seq] = w.timely
	c.counts.Entries++
	return nil
}

func (c *Checker) repeat(r Row) error {
	_, want, a, err := c.take(r)
	if err != nil {
		return err
	}
	if want.Seq >= a.next {
		return fmt.Errorf("gap: %v is committed as a repeat, the account is at %d", r, a.next)
	}
	c.counts.Repeats++
	return nil
}

func (a *account) windowAt(start int64) *window {
	if w := a.fired[start]; w != nil {
		return w
	}
	i, found := slices.BinarySearchFunc(a.windows, start, func(w *window, at int64) int { return int(w.start - at) })
	if !found {
		a.windows = slices.Insert(a.windows, i, &window{start: start})
	}
	return a.windows[i]
}

func (c *Checker) timer(a *account, r Row) error {
	switch {
	case len(a.timers) == 0:
		return fmt.Errorf("timers: %v fired, none is set", r)
	case r.Time < a.timers[0]:
		return fmt.Errorf("timers: %v fired again, the next is %d", r, a.timers[0])
	case r.Time > a.timers[0]:
		return fmt.Errorf("timers: %v fired, the timer at %d did not", r, a.timers[0])
	}
	a.timers = a.timers[1:]
	c.counts.Fired++
	return nil
}

func (c *Checker) window(a *account, r Row) error {
	if w := a.fired[r.Time]; w != nil {
		return fmt.Errorf("windows: %v fired again, before with %d entries", r, w.count)
	}
	for len(a.windows) > 0 && a.windows[0].start < r.Time {
		// One whose entries all came late never fires.
		w := a.windows[0]
		if w.timely {
			return fmt.Errorf("windows: %v fired, the window %d with %d entries did not", r, w.start, w.in)
		}
		a.fired[w.start] = w
		a.windows = a.windows[1:]
	}
	if len(a.windows) == 0 || a.windows[0].start != r.Time {
		return fmt.Errorf("windows: %v fired, the committed input has nothing of it", r)
	}
	w := a.windows[0]
	a.windows = a.windows[1:]
	w.count, w.countSum = r.Seq, r.Amount
	a.fired[r.Time] = w
	a.last = r.Time
	c.counts.Windows++
	return nil
}

func (c *Checker) late(a *account, r Row) error {
	start := WindowOf(r.Time)
	w := a.windowAt(start)
	timely, there := w.lateSeen[r.Seq]
	switch {
	case !there:
		return fmt.Errorf("late: %v is committed, and is not in the committed input or was late before", r)
	case timely:
		return fmt.Errorf("late: %v is committed, it came within %v of its shard's newest", r, Bound)
	}
	delete(w.lateSeen, r.Seq)
	w.late++
	w.lateSum += r.Amount
	c.counts.Lates++
	return nil
}

// balance: what a fired window counted and what was late for it is what the
// committed input has of it. Windows long closed are forgotten.
func (a *account) balance() error {
	for start, w := range a.fired {
		if w.count+w.late != w.in || w.countSum+w.lateSum != w.inSum {
			return fmt.Errorf("window %d counted %d entries (sum %d), %d were late (sum %d), the committed input has %d (sum %d)",
				start, w.count, w.countSum, w.late, w.lateSum, w.in, w.inSum)
		}
		if start < a.last-2*lateBy {
			// Nothing comes that late: one that fired again would be younger
			// than every window that is open, or older than last.
			delete(a.fired, start)
		}
	}
	return nil
}

// prefix forgets what is committed without a hole; a hole is a failure. Parents
// have lower numbers than their children, and come first.
func (c *Checker) prefix() error {
	for _, i := range slices.Sorted(maps.Keys(c.shards)) {
		s := c.shards[i]
		for s.done[s.first] {
			delete(s.done, s.first)
			s.first++
			s.numbers = s.numbers[1:]
		}
		if len(s.done) > 0 {
			r := c.script.Record(s.numbers[0])
			return fmt.Errorf("prefix: %d positions of shard %d are committed beyond position %d (entry %d of key %d), which is not, at commit %d",
				len(s.done), i, s.first, r.Seq, r.Key, c.counts.Commits)
		}
		s.parents = slices.DeleteFunc(s.parents, func(p int) bool { return c.shards[p].whole() })
		if s.first > 0 && len(s.parents) > 0 {
			return fmt.Errorf("prefix: %d positions of shard %d are committed, and of shard %d, which it follows, %d are not, at commit %d",
				s.first, i, s.parents[0], len(c.shards[s.parents[0]].numbers), c.counts.Commits)
		}
	}
	return nil
}

// whole says of a shard that has ended that it and all that it follows are committed.
func (s *shard) whole() bool { return len(s.numbers) == 0 && len(s.parents) == 0 }

// End is called when the job has ended with all its input read and time run out.
func (c *Checker) End() error {
	if err := c.settle(); err != nil {
		return err
	}
	for key, a := range c.keys {
		switch {
		case len(a.due) > 0:
			return fmt.Errorf("lost: %d entries of key %d never came out, the first is number %d", len(a.due), key, a.due[0].number)
		case len(a.timers) > 0:
			return fmt.Errorf("timers: %d of key %d never fired, the first at %d", len(a.timers), key, a.timers[0])
		}
		for _, w := range a.windows {
			if w.late != w.in || w.lateSum != w.inSum {
				return fmt.Errorf("windows: window %d of key %d never fired: %d entries, %d of them late", w.start, key, w.in, w.late)
			}
		}
	}
	return nil
}
