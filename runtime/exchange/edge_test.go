package exchange

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/keygroup"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// TestEveryRecordOnceInOrder sends numbered records from every sender, at
// random paces and with flushes, events and barriers among them, and checks at
// every receiver which came, in which order, and where the events were.
func TestEveryRecordOnceInOrder(t *testing.T) {
	for _, ship := range []pb.Ship{pb.Ship_SHIP_FORWARD, pb.Ship_SHIP_HASH, pb.Ship_SHIP_REBALANCE, pb.Ship_SHIP_BROADCAST} {
		for _, workers := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%v on %d", ship, workers), func(t *testing.T) { everyRecordOnce(t, ship, workers) })
		}
	}
}

// TestOneReceiverOfKeys is the short way of a hash edge.
func TestOneReceiverOfKeys(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 1, key: hashSmall})
	r.takers[0].take = func(b *batch.Batch[small]) error {
		for i, h := range b.Hashes {
			if want := uint64(b.Values[i].Key) * 0x9e3779b97f4a7c15; h != want {
				return fmt.Errorf("hash %#x of key %d, want %#x", h, b.Values[i].Key, want)
			}
		}
		return nil
	}
	var b batch.Batch[small]
	for i := range 700 {
		b.Append(small{Key: uint32(i)}, 0)
	}
	if err := r.outs[0].out.Push(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.writers[0].Flush(); err != nil {
		t.Fatal(err)
	}
	if n := r.next(0).Rows + r.next(0).Rows; n != 700 {
		t.Fatalf("%d records came", n)
	}
}

// TestChannelsAreBounded counts what goes into a channel that nobody reads.
func TestChannelsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		layout layout
		most   int
	}{
		"local, rows":  {layout{ship: pb.Ship_SHIP_FORWARD, rows: 3 * batch.Rows, bytes: 1 << 30}, 3 * batch.Rows},
		"local, bytes": {layout{ship: pb.Ship_SHIP_FORWARD, rows: 1 << 30, bytes: 2 * 32 * batch.Rows}, 2 * batch.Rows},
		"remote":       {layout{ship: pb.Ship_SHIP_HASH, workers: 2, credit: 3 * 40 * batch.Rows}, 4 * batch.Rows},
	} {
		t.Run(name, func(t *testing.T) {
			full := fmt.Errorf("no room")
			l := c.layout
			l.senders, l.receivers = 1, max(1, l.workers)
			l.park = func(<-chan struct{}) (bool, error) { return false, full }
			l.key = func(b *batch.Batch[small]) {
				for range b.Values {
					b.Hashes = append(b.Hashes, 1<<63)
				}
			}
			r := newRig[small](t, l)
			var b batch.Batch[small]
			for range batch.Rows {
				b.Append(small{}, 0)
			}
			sent, err := 0, error(nil)
			for sent < 100*batch.Rows {
				if err = r.outs[0].out.Push(&b); err != nil {
					break
				}
				sent += batch.Rows
			}
			if err != full || sent != c.most {
				t.Fatalf("%d records went in (%v), want %d", sent, err, c.most)
			}
		})
	}
}

const recordsPerSender = 20_000

func everyRecordOnce(t *testing.T, ship pb.Ship, workers int) {
	seed := uint64(ship)*10 + uint64(workers)
	l := layout{ship: ship, senders: 3, receivers: 4, workers: workers, rows: 600, credit: 4 << 10}
	if ship == pb.Ship_SHIP_FORWARD {
		l.receivers = 3
	}
	if ship == pb.Ship_SHIP_HASH {
		l.key = hashSmall
	}
	r := newRig[small](t, l)
	var wg sync.WaitGroup
	errs := make([]error, l.senders+l.receivers)
	for s := range l.senders {
		wg.Go(func() { errs[s] = sendNumbered(r, s, seed) })
	}
	seen := make([][][]uint64, l.receivers)
	for i := range l.receivers {
		seen[i] = make([][]uint64, l.senders)
		wg.Go(func() { errs[l.senders+i] = takeNumbered(r, i, ship, l.receivers, seen[i]) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for s := range l.senders {
		var all []uint64
		for i := range l.receivers {
			if ship == pb.Ship_SHIP_BROADCAST {
				all = seen[i][s]
				wantNumbers(t, seed, all)
				continue
			}
			all = append(all, seen[i][s]...)
		}
		slices.Sort(all)
		wantNumbers(t, seed, all)
	}
	for i, w := range r.writers {
		if got := w.Stats().Rows; got != recordsPerSender {
			t.Errorf("writer %d counted %d rows", i, got)
		}
	}
}

func wantNumbers(t *testing.T, seed uint64, all []uint64) {
	t.Helper()
	if len(all) != recordsPerSender {
		t.Fatalf("seed %d: %d records came, want %d", seed, len(all), recordsPerSender)
	}
	for i, n := range all {
		if n != uint64(i) {
			t.Fatalf("seed %d: record %d at place %d", seed, n, i)
		}
	}
}

func sendNumbered(r *rig[small], s int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, uint64(s)))
	var b batch.Batch[small]
	for sent := uint64(0); sent < recordsPerSender; {
		for range min(1+rng.Uint64N(700), recordsPerSender-sent) {
			v := small{Sender: uint32(s), Key: rng.Uint32(), Seq: sent}
			b.AppendOp(opOf(v), v, int64(sent))
			sent++
		}
		if err := r.outs[s].out.Push(&b); err != nil {
			return err
		}
		b.Reset()
		var err error
		switch rng.IntN(6) {
		case 0:
			err = r.writers[s].Flush()
		case 1:
			err = r.writers[s].Watermark(int64(sent))
		case 2:
			err = r.writers[s].Barrier(barrier.Barrier{ID: sent, TriggeredMillis: 5, Savepoint: sent%2 == 0, Terminal: sent%3 == 0, Halt: sent%5 == 0})
		}
		if err != nil {
			return err
		}
	}
	return r.writers[s].Watermark(batch.EndOfTime)
}

func takeNumbered(r *rig[small], receiver int, ship pb.Ship, receivers int, seen [][]uint64) error {
	var failure error
	fail := func(format string, args ...any) {
		if failure == nil {
			failure = fmt.Errorf("receiver %d: "+format, append([]any{receiver}, args...)...)
		}
	}
	bound := make([]uint64, len(seen))
	owned := keygroup.RangeOf(receiver, receivers, 128)
	r.takers[receiver].take = func(b *batch.Batch[small]) error {
		if err := wantOps(b); err != nil {
			fail("%w", err)
		}
		for i, v := range b.Values {
			if b.Times[i] != int64(v.Seq) {
				fail("record %d has time %d", v.Seq, b.Times[i])
			}
			if v.Seq < bound[v.Sender] {
				fail("record %d of sender %d after an event at %d", v.Seq, v.Sender, bound[v.Sender])
			}
			if n := len(seen[v.Sender]); n > 0 && seen[v.Sender][n-1] >= v.Seq {
				fail("record %d of sender %d after %d", v.Seq, v.Sender, seen[v.Sender][n-1])
			}
			seen[v.Sender] = append(seen[v.Sender], v.Seq)
		}
		if ship == pb.Ship_SHIP_HASH {
			for i, h := range b.Hashes {
				if want := uint64(b.Values[i].Key) * 0x9e3779b97f4a7c15; h != want || !owned.Contains(keygroup.Of(h, 128)) {
					fail("hash %#x of key %d, want %#x, owned %v", h, b.Values[i].Key, want, owned)
				}
			}
		}
		if ship == pb.Ship_SHIP_HASH != (len(b.Hashes) == len(b.Values)) {
			fail("%d hashes of %d records", len(b.Hashes), len(b.Values))
		}
		return nil
	}
	sender := func(it Item) int {
		if ship == pb.Ship_SHIP_FORWARD {
			return receiver
		}
		return it.Channel
	}
	err := r.collect(receiver, func(it Item) {
		switch it.Kind {
		case Watermark:
			bound[sender(it)] = uint64(min(it.Time, recordsPerSender))
		case Barrier:
			b := it.Barrier
			bound[sender(it)] = b.ID
			if b.TriggeredMillis != 5 || b.Savepoint != (b.ID%2 == 0) || b.Terminal != (b.ID%3 == 0) || b.Halt != (b.ID%5 == 0) {
				fail("barrier came as %+v", b)
			}
		}
	})
	if err != nil {
		return err
	}
	return failure
}

// push sends records with the given numbers from a sender and flushes.
func push(t *testing.T, r *rig[small], sender int, from, to int) {
	t.Helper()
	var b batch.Batch[small]
	for i := from; i < to; i++ {
		b.Append(small{Sender: uint32(sender), Seq: uint64(i)}, int64(i))
	}
	if err := r.outs[sender].out.Push(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.writers[sender].Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestBlockedChannelStaysQueued(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 2, receivers: 1})
	var got []uint32
	r.takers[0].take = func(b *batch.Batch[small]) error { got = append(got, b.Values[0].Sender); return nil }
	push(t, r, 0, 0, 1)
	r.gates[0].Block(0)
	push(t, r, 1, 0, 1)
	push(t, r, 0, 1, 2)
	r.next(0)
	if it, _ := r.gates[0].Poll(); it.Kind != None || !slices.Equal(got, []uint32{1}) {
		t.Fatalf("took %v from %v with channel 0 blocked", it, got)
	}
	r.gates[0].Unblock()
	r.next(0)
	if !slices.Equal(got, []uint32{1, 0}) {
		t.Fatalf("took batches of %v", got)
	}
}

func TestChannelsTakeTurns(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 3, receivers: 1})
	for s := range 3 {
		for n := range 3 {
			push(t, r, s, n*batch.Rows, (n+1)*batch.Rows)
		}
	}
	var order []int
	for range 9 {
		order = append(order, r.next(0).Channel)
	}
	if want := []int{0, 1, 2, 0, 1, 2, 0, 1, 2}; !slices.Equal(order, want) {
		t.Fatalf("channels in order %v, want %v", order, want)
	}
}

// TestSmallBatchesJoinInTheQueue: a receiver that lags finds full batches.
func TestSmallBatchesJoinInTheQueue(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1})
	for i := range 2 * batch.Rows {
		push(t, r, 0, i, i+1)
	}
	if a, b := r.next(0), r.next(0); a.Rows != batch.Rows || b.Rows != batch.Rows {
		t.Fatalf("batches of %d and %d rows, want %d", a.Rows, b.Rows, batch.Rows)
	}
}

// TestOperationsJoinInTheQueue: rows with operations join those without, either
// way round.
func TestOperationsJoinInTheQueue(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1, updates: true})
	rows := 0
	r.takers[0].take = func(b *batch.Batch[small]) error {
		rows = b.Len()
		return wantOps(b)
	}
	for seq := uint64(0); seq < 450; seq += 50 {
		var b batch.Batch[small]
		for i := range uint64(50) {
			v := small{Sender: 1, Seq: seq + i}
			b.AppendOp(opOf(v), v, 0)
		}
		if err := r.outs[0].out.Push(&b); err != nil {
			t.Fatal(err)
		}
		if err := r.writers[0].Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if r.next(0); rows != 450 {
		t.Fatalf("%d rows came at once", rows)
	}
}

// TestFullChannelHoldsBackItsSenderOnly fills one of two channels: the sender
// waits, in Park; the other channel and barriers still pass; room ends the wait.
func TestFullChannelHoldsBackItsSenderOnly(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			parked := make(chan struct{}, 1)
			l := layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 2, workers: workers, key: func(b *batch.Batch[small]) {
				for _, v := range b.Values {
					b.Hashes = append(b.Hashes, uint64(v.Key)<<63)
				}
			}, park: func(room <-chan struct{}) (bool, error) {
				signal(parked)
				<-room
				return false, nil
			}}
			r := newRig[small](t, l)
			counts := make([]int, 2)
			for i := range counts {
				r.takers[i].take = func(b *batch.Batch[small]) error { counts[i] += b.Len(); return nil }
			}
			sent := make(chan error, 1)
			const rows = 40 * batch.Rows
			go func() { sent <- sendKeys(r, rows) }()
			<-parked
			// Receiver 1's channel is full; receiver 0 gets what is for it.
			for counts[0] == 0 {
				r.next(0)
			}
			for counts[1] < rows {
				r.next(1)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if r.writers[0].Stats().Blocked == 0 {
				t.Fatal("no time was counted as backpressure")
			}
		})
	}
}

// sendKeys sends one record with key 0 and then many with key 1.
func sendKeys(r *rig[small], rows int) error {
	var b batch.Batch[small]
	b.Append(small{Key: 0}, 0)
	for range batch.Rows - 1 {
		b.Append(small{Key: 1}, 0)
	}
	if err := r.outs[0].out.Push(&b); err != nil {
		return err
	}
	if err := r.writers[0].Flush(); err != nil {
		return err
	}
	b.Values[0].Key = 1
	for range rows / batch.Rows {
		if err := r.outs[0].out.Push(&b); err != nil {
			return err
		}
	}
	return r.writers[0].Flush()
}

// TestBarrierDoesNotWait: with every channel full, a barrier still leaves.
func TestBarrierDoesNotWait(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			full := fmt.Errorf("no room")
			// Subtask 1 of the receiver is at the other worker.
			l := layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 2, workers: workers,
				key: func(b *batch.Batch[small]) {
					for range b.Values {
						b.Hashes = append(b.Hashes, 1<<63)
					}
				},
				park: func(<-chan struct{}) (bool, error) { return false, full }}
			r := newRig[small](t, l)
			var b batch.Batch[small]
			for range 100 {
				b.Append(small{}, 0)
			}
			var err error
			for err == nil {
				err = r.outs[0].out.Push(&b)
			}
			if err != full {
				t.Fatal(err)
			}
			if err := r.writers[0].Barrier(barrier.Barrier{ID: 3}); err != nil {
				t.Fatalf("barrier into a full channel: %v", err)
			}
			if r.writers[0].Pending() {
				t.Fatal("records stayed behind the barrier")
			}
			for {
				it := r.next(1)
				if it.Kind == Barrier {
					break
				}
			}
		})
	}
}

func TestWaitEndsWithTheNetwork(t *testing.T) {
	var r *rig[small]
	r = newRig[small](t, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1, park: func(room <-chan struct{}) (bool, error) {
		r.cancel()
		return r.networks[0].park(room)
	}})
	var b batch.Batch[small]
	for range batch.Rows {
		b.Append(small{}, 0)
	}
	var err error
	for err == nil {
		err = r.outs[0].out.Push(&b)
	}
	if err != ErrEnded {
		t.Fatalf("got %v, want ErrEnded", err)
	}
}

// TestLargeRecordsMakeSmallBatches: batches are bounded in bytes.
func TestLargeRecordsMakeSmallBatches(t *testing.T) {
	for _, workers := range []int{1, 2} {
		l := layout{ship: pb.Ship_SHIP_REBALANCE, senders: 2, receivers: 1, workers: workers}
		r := newRig[text](t, l)
		largest := 0
		r.takers[0].take = func(b *batch.Batch[text]) error { largest = max(largest, b.Len()); return nil }
		body := string(make([]byte, 10<<10))
		go func() {
			var b batch.Batch[text]
			for i := range 200 {
				b.Append(text{uint64(i), body}, 0)
			}
			_ = r.outs[1].out.Push(&b)
			_ = r.writers[1].Watermark(batch.EndOfTime)
			_ = r.writers[0].Watermark(batch.EndOfTime)
		}()
		if err := r.collect(0, nil); err != nil {
			t.Fatal(err)
		}
		if largest > 4 {
			t.Fatalf("%d workers: a batch of %d records of 10 KiB", workers, largest)
		}
		r.close()
	}
}

func TestEventsKindsArrive(t *testing.T) {
	for _, workers := range []int{1, 2} {
		r := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 2, receivers: 1, workers: workers})
		w := r.writers[1]
		for _, err := range []error{w.Idle(), w.Active(), w.Watermark(42)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []Kind{Idle, Active, Watermark} {
			if it := r.next(0); it.Kind != want || it.Channel != 1 || want == Watermark && it.Time != 42 {
				t.Fatalf("%d workers: got %+v, want %v", workers, it, want)
			}
		}
	}
}

// TestUpdatesKeepToOneReceiver: where records would be spread, all rows of a
// sender come to one receiver, so that a row that goes finds the one that came.
func TestUpdatesKeepToOneReceiver(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 2, receivers: 3, updates: true})
	for s := range 2 {
		push(t, r, s, 0, 3*batch.Rows)
	}
	for i := range 3 {
		next := uint64(0)
		r.takers[i].take = func(b *batch.Batch[small]) error {
			for _, v := range b.Values {
				if v.Sender != uint32(i) || v.Seq != next {
					t.Fatalf("receiver %d got %+v, want %d of its own sender", i, v, next)
				}
				next++
			}
			return nil
		}
		for it := (Item{Kind: Data}); it.Kind != None; {
			var err error
			if it, err = r.gates[i].Poll(); err != nil {
				t.Fatal(err)
			}
		}
		if want := uint64(3 * batch.Rows); i < 2 && next != want {
			t.Errorf("receiver %d got %d rows, want %d", i, next, want)
		}
	}
}
