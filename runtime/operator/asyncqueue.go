package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/runtime/codec"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// asyncItem is a record whose result has not left yet, or a mark: a watermark
// that is behind some.
//
//	queued ──▶ called ──▶ done
//	            ▲   │
//	            └ waits (for the next attempt)
type asyncItem[T, U any] struct {
	prev, next *asyncItem[T, U]
	mark       bool
	part       uint64 // how many marks came before it
	value      T
	time       int64
	attempt    int
	phase      asyncPhase
	alarm      func() bool // stops the timeout or the delay
	result     U
	err        error
}

type asyncPhase uint8

const (
	asyncQueued asyncPhase = iota
	asyncCalled
	asyncWaits
	asyncDone
)

// asyncQueue is in the order of arrival.
type asyncQueue[T, U any] struct {
	head, tail   *asyncItem[T, U]
	items        int    // marks not counted
	part, passed uint64 // marks that came, and that went
}

func (q *asyncQueue[T, U]) push(item *asyncItem[T, U]) *asyncItem[T, U] {
	q.items++
	q.append(item)
	return item
}

func (q *asyncQueue[T, U]) append(item *asyncItem[T, U]) {
	item.part, item.prev = q.part, q.tail
	if q.tail == nil {
		q.head = item
	} else {
		q.tail.next = item
	}
	q.tail = item
}

// mark adds a watermark. Of several in a row the last one counts.
func (q *asyncQueue[T, U]) mark(t int64) {
	if q.tail.mark {
		q.tail.time = t
		return
	}
	q.append(&asyncItem[T, U]{mark: true, time: t})
	q.part++
}

// pass takes the mark away that is the head.
func (q *asyncQueue[T, U]) pass(mark *asyncItem[T, U]) {
	q.passed++
	q.unlink(mark)
}

func (q *asyncQueue[T, U]) remove(item *asyncItem[T, U]) {
	q.items--
	q.unlink(item)
}

func (q *asyncQueue[T, U]) unlink(item *asyncItem[T, U]) {
	if item.prev == nil {
		q.head = item.next
	} else {
		item.prev.next = item.next
	}
	if item.next == nil {
		q.tail = item.prev
	} else {
		item.next.prev = item.prev
	}
}

// inFront says whether no mark is before an item.
func (q *asyncQueue[T, U]) inFront(item *asyncItem[T, U]) bool { return item.part == q.passed }

// eachInFront calls f for the items before the first mark; f may remove the one
// that it gets.
func (q *asyncQueue[T, U]) eachInFront(f func(*asyncItem[T, U])) {
	for item := q.head; item != nil && !item.mark; {
		next := item.next
		f(item)
		item = next
	}
}

// asyncArrival is what comes back for an attempt: a result, an error, or, when
// its delay is over, the wish to be tried again.
type asyncArrival[T, U any] struct {
	item    *asyncItem[T, U]
	attempt int
	again   bool
	result  U
	err     error
}

// asyncInbox is where other goroutines put arrivals.
type asyncInbox[T, U any] struct {
	wake func()
	room chan struct{}
	mu   struct {
		sync.Mutex
		arrived []asyncArrival[T, U]
	}
}

func (b *asyncInbox[T, U]) put(r asyncArrival[T, U]) {
	b.mu.Lock()
	b.mu.arrived = append(b.mu.arrived, r)
	b.mu.Unlock()
	select {
	case b.room <- struct{}{}:
	default:
	}
	b.wake()
}

// take appends what has come.
func (b *asyncInbox[T, U]) take(into []asyncArrival[T, U]) []asyncArrival[T, U] {
	b.mu.Lock()
	defer b.mu.Unlock()
	into = append(into, b.mu.arrived...)
	clear(b.mu.arrived)
	b.mu.arrived = b.mu.arrived[:0]
	return into
}

// KindAsync is the kind of the entry in which a subtask of an async operator keeps
// the records whose results have not left: uvarint length and text of their
// schema, uvarint count, then of each its time, an i64, and its encoding. Its key is
// subtask/parallelism.
const KindAsync = "async"

// Snapshot implements Snapshotter. Records are immutable, so the list of them is
// all that is needed of this moment.
func (a *async[T, U]) Snapshot(s *Snapshot) error {
	if a.queue.items == 0 {
		return nil
	}
	values, times := make([]T, 0, a.queue.items), make([]int64, 0, a.queue.items)
	for item := a.queue.head; item != nil; item = item.next {
		if !item.mark {
			values, times = append(values, item.value), append(times, item.time)
		}
	}
	key := fmt.Sprintf("%d/%d", a.ctx.Subtask, a.ctx.Parallelism)
	s.Deferred = append(s.Deferred, func() (_ []*pb.OperatorEntry, err error) {
		defer func() {
			if r, ok := recover().(*codec.MarshalError); ok {
				err = r
			} else if r != nil {
				panic(r)
			}
		}()
		schema := a.codec.Schema()
		b := append(binary.AppendUvarint(nil, uint64(len(schema))), schema...)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for i := range values {
			b = binary.LittleEndian.AppendUint64(b, uint64(times[i]))
			b = a.codec.Append(b, &values[i])
		}
		return []*pb.OperatorEntry{{Kind: KindAsync, Key: key, Value: b}}, nil
	})
	return nil
}

// Restore implements Restorer: a subtask takes back what it had, or, after a
// rescale, each nth record of what all had.
func (a *async[T, U]) Restore(entries []*pb.OperatorEntry) error {
	seen := 0
	for _, e := range entries {
		if e.GetKind() != KindAsync {
			continue
		}
		var subtask, parallelism int
		if _, err := fmt.Sscanf(e.GetKey(), "%d/%d", &subtask, &parallelism); err != nil {
			return fmt.Errorf("records under way of subtask %q: %w", e.GetKey(), err)
		}
		err := a.reissue(e.GetValue(), func() bool {
			seen++
			if parallelism == a.ctx.Parallelism {
				return subtask == a.ctx.Subtask
			}
			return seen%a.ctx.Parallelism == a.ctx.Subtask
		})
		if err != nil {
			return fmt.Errorf("records under way of subtask %s: %w", e.GetKey(), err)
		}
	}
	a.begin()
	return nil
}

var errAsyncEntry = errors.New("they are not in the form that was written")

func (a *async[T, U]) reissue(b []byte, mine func() bool) error {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return errAsyncEntry
	}
	schema, b := string(b[size:size+int(n)]), b[size+int(n):]
	decode, err := codec.DecoderFor[T](schema)
	if err != nil {
		return err
	}
	count, size := binary.Uvarint(b)
	if size <= 0 {
		return errAsyncEntry
	}
	b = b[size:]
	for range count {
		if len(b) < 8 {
			return errAsyncEntry
		}
		at := int64(binary.LittleEndian.Uint64(b))
		var v T
		if b, err = decode(b[8:], &v); err != nil {
			return err
		}
		if mine() {
			a.add(v, at)
		}
	}
	if len(b) > 0 {
		return errAsyncEntry
	}
	return nil
}
