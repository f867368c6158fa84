package state

import (
	"fmt"
	"sync/atomic"
)

// State larger than memory. A store that was given a disk keeps pages within a
// budget; the others are on the disk, and in their places in the tree and in
// lists of changes hang stubs: heads of pages without slots. A page on its way
// out is cold first: it is as it was, but its head says that it has no slots
// either. So the path of a hit, which compares that number anyhow, finds neither,
// and nothing is asked or marked there on behalf of the disk; the slower path
// warms what is cold and reads what is a stub.
//
//	hot ──a hand passes──▶ cold ──its turn in a queue──▶ stub
//	 ▲                      │                             │
//	 ├──────── asked for ───┘                             │
//	 └──────── asked for, read from the disk ─────────────┘
//
// Nothing leaves memory while an operator works at a record: pages come in as
// they are asked for, and go out when Ease is called. So a value stays where it
// is for as long as it does without a disk.
//
// Invariants, with those of a page:
//
//  5. A page of class 0 is a stub: fresh, prefix and dirty are the PageKey of
//     its content on the disk, used is the size of that, live its entries, owned
//     a lower bound of their ages. A page
//     with groups 0 and another class is cold. Only the task's goroutine reads
//     groups and marks, and writes them; a page may be in a snapshot meanwhile.
//  6. A page of epoch 0 is in no list and is what the disk has under fresh, prefix
//     and dirty. To leave memory it needs no writing.
//  7. A page in a list of changes may be replaced there by a stub of the same
//     content, marks of dirty and fresh entries included. In a frozen list the task
//     stores, and the snapshot's goroutine loads, atomically. Nodes that a
//     snapshot reads are copied before a stub replaces a page in them, as for any
//     other change.
//  8. Content of the disk is removed once no layer is left of the epochs before
//     the one in which the task ceased to need it; at once if it was written in
//     that epoch, for then no layer knows it. A version has one key for good.
//  9. A page goes back to the spare ones only if no layer can hold it (pinned).
type tier struct {
	s      *Store
	disk   Disk
	budget *Budget
	// bytes is the part of the budget that this store uses: pages and stubs of
	// its tables, what their values point to, and retired pages.
	bytes int64
	err   *DiskError // the first one, which ends the store

	tables []*table
	hand   int    // of tables
	at     uint64 // from which hash on
	cold   queue[coldPage]
	chill  int64 // bytes of cold pages, about

	// What is to be removed, or is not counted any more, in the order of epochs.
	garbage queue[garbage]
	unknown queue[PageKey] // garbage that no layer ever knew
	retired queue[retiredPage]
	came    int // pages that came in since the last ease
	more    int // pages beyond them that the next one looks for
	leaving []leaving
	evicted uint64        // pages
	read    atomic.Uint64 // pages, by snapshots too
	counted bool          // among the stores of the budget
	buf     []byte
}

// The marks of a page.
const (
	markWarm    = 1 << iota // came in or was asked for since the hand passed
	markQueued              // in the queue of cold pages
	markLeaving             // packed
)

const (
	// eased is how many pages one call of Ease takes out beyond those that
	// came in.
	eased = 32
	// easedIdle is that number at a barrier.
	easedIdle = 128
	// swept is how many pages the hand passes for each that leaves.
	swept = 64
	// settled is how much garbage one call of Ease takes away.
	settled = 512
	// coolShare is the part of a store's bytes that is cold, when it is over
	// its budget: what is asked for again in that time stays.
	coolShare = 8
)

// PageKey names the content of a page on a disk. No two contents ever have the
// same one.
type PageKey struct {
	Table   uint64 // a Number of the disk
	Hash    uint64 // the lowest of the page
	Version uint64 // a Number of the disk
}

// Disk holds pages that are not in memory, for all stores of a process. What it
// holds need not outlive the process. Any goroutine may call it.
type Disk interface {
	// Number returns a number that it never returned before, from 1 on.
	Number() uint64
	// Read calls f with the bytes under a key, which are f's until it
	// returns. A key that has none is an error.
	Read(key PageKey, f func(b []byte) error) error
	// Batch begins a set of changes.
	Batch() DiskBatch
}

// DiskBatch is a set of changes. Its bytes are the caller's again after each
// call.
type DiskBatch interface {
	// Put writes a content, once for a key.
	Put(key PageKey, b []byte)
	// Remove removes one, which RemoveTable may have removed before.
	Remove(key PageKey)
	// RemoveTable removes those of a table whose hashes are in [first, last].
	RemoveTable(table, first, last uint64)
	// Commit makes all of the changes, which Read then sees. The batch is
	// over with it, whatever it returns.
	Commit() error
}

// Budget is the memory that stores may use together, of any goroutines.
type Budget struct {
	limit  int64
	used   atomic.Int64
	stores atomic.Int64
}

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes} }

// Used is how many bytes the stores use.
func (b *Budget) Used() int64 { return b.used.Load() }

// DiskError is a disk that failed. Get, Upsert, Delete, Scan and Ease panic with
// it, for none of them can do without the page; whoever runs operators recovers it.
// A store that had one has it again at the next Ease.
type DiskError struct {
	State string // empty when it was not about one
	Err   error
}

func (e *DiskError) Error() string {
	if e.State == "" {
		return fmt.Sprintf("state on disk: %v", e.Err)
	}
	return fmt.Sprintf("state %q on disk: %v", e.State, e.Err)
}

func (e *DiskError) Unwrap() error { return e.Err }

// ErrorCode is that of the error catalogue.
func (e *DiskError) ErrorCode() string { return "state-disk-failed" }

// UseDisk lets the store keep state on a disk, all but what the budget has room
// for. It is called before tables are made.
func (s *Store) UseDisk(d Disk, b *Budget) {
	s.tier = &tier{s: s, disk: d, budget: b, more: eased}
}

// Ease takes pages out of memory if the budget is used up, a few more than came
// in since the last call. An operator's task calls it between batches, and
// Ahead does. It is a moment between records: values got before are not valid
// after it.
func (s *Store) Ease() {
	if s.tier != nil && !s.busy && s.tier.due() {
		s.tier.ease(eased)
	}
}

// due says whether ease has something to do.
func (t *tier) due() bool {
	return t.over() || t.err != nil || t.unknown.len() >= settled ||
		t.garbage.len() >= settled && t.s.settledAt(t.garbage.front().epoch)
}

// over says whether the store is to give memory back: the budget is used up,
// and more than the store's even share of it is its own.
func (t *tier) over() bool {
	return t.budget.used.Load() > t.budget.limit && t.bytes > t.budget.limit/max(1, t.budget.stores.Load())
}

// grow counts memory that tables take, or give back.
func (t *tier) grow(n int) {
	if n != 0 {
		t.bytes += int64(n)
		t.budget.used.Add(int64(n))
	}
}

// short says that there was not enough memory once: pages that nobody uses are
// not kept then, but for a few.
func (t *tier) short() bool { return t != nil && t.evicted > 0 }

// raise ends the store with an error of the disk.
func (t *tier) raise(state string, err error) {
	if t.err == nil {
		t.err = &DiskError{state, err}
	}
	panic(t.err)
}

// caught returns an error of the disk that was raised behind it.
func (s *Store) caught(err *error) {
	if s.tier == nil {
		return
	}
	switch r := recover().(type) {
	case nil:
	case *DiskError:
		*err = r
	default:
		panic(r)
	}
}

// queue is first in, first out, and grows a chunk at a time.
type queue[E any] struct {
	chunks [][]E
	first  int // in chunks[0]
	n      int
}

const queueChunk = 256

func (q *queue[E]) len() int { return q.n }

func (q *queue[E]) push(e E) {
	if last := len(q.chunks) - 1; last < 0 || len(q.chunks[last]) == queueChunk {
		q.chunks = append(q.chunks, make([]E, 0, queueChunk))
	}
	last := len(q.chunks) - 1
	q.chunks[last] = append(q.chunks[last], e)
	q.n++
}

// front is the oldest element of a queue that has one.
func (q *queue[E]) front() *E { return &q.chunks[0][q.first] }

func (q *queue[E]) pop() E {
	first := q.chunks[0]
	e := first[q.first]
	clear(first[q.first : q.first+1]) // what it refers to is not to live on here
	q.first++
	q.n--
	switch {
	case q.n == 0:
		q.chunks[0], q.first = first[:0], 0
	case q.first == queueChunk:
		q.chunks, q.first = q.chunks[1:], 0
	}
	return e
}
