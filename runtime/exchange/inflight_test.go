package exchange

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/barrier"
	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/pace"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// TestACutHasEveryRecordOnce: whatever a receiver has taken in when the last
// barrier comes, that and what is in flight are the records before the barriers.
// Other receivers, more or fewer of them, take them up after a restore, once
// each and in order.
func TestACutHasEveryRecordOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 40 {
		ship := pb.Ship_SHIP_HASH
		if rng.IntN(3) == 0 {
			ship = pb.Ship_SHIP_REBALANCE
		}
		l := layout{ship: ship, senders: 1 + rng.IntN(3), receivers: 1 + rng.IntN(3), workers: 1 + rng.IntN(2), key: any(hashSmall),
			cold: rng.IntN(2) == 0, updates: true, park: func(<-chan struct{}) (bool, error) { return true, nil }}
		if ship == pb.Ship_SHIP_REBALANCE {
			l.key = nil
		}
		name := fmt.Sprintf("round %d: %v", round, l.ship)
		var got []small
		var flights [][]byte
		t.Run(name, func(t *testing.T) { got, flights = cutOnce(t, rng, l) })
		before := len(got)
		l.receivers = 1 + rng.IntN(4)
		t.Run(name+", restored", func(t *testing.T) {
			r := newRig[small](t, l)
			for i := range l.receivers {
				r.takers[i].take = func(b *batch.Batch[small]) error {
					got = append(got, b.Values...)
					return wantOps(b)
				}
				if err := r.gates[i].Resume(flights); err != nil {
					t.Fatal(err)
				}
				for {
					it, err := r.gates[i].Poll()
					if err != nil {
						t.Fatal(err)
					}
					if it.Kind == None {
						break
					}
				}
			}
		})
		next := map[[2]uint32]uint64{} // by sender and key
		seen := map[[2]uint64]bool{}   // by sender and number
		for _, v := range got {
			if v.Seq >= perSender {
				t.Fatalf("%s: a record from behind the barrier, %+v, is in the cut", name, v)
			}
			at := [2]uint32{v.Sender, v.Key}
			if ship == pb.Ship_SHIP_HASH && v.Seq < next[at] {
				t.Fatalf("%s: %+v came out of order (%d of %d were taken before the cut)", name, v, before, len(got))
			}
			next[at] = v.Seq + 1
			seen[[2]uint64{uint64(v.Sender), v.Seq}] = true
		}
		if len(got) != l.senders*perSender || len(seen) != len(got) {
			t.Fatalf("%s: the cut has %d records, %d were sent before the barriers, %d are different; %d were taken before", name, len(got), l.senders*perSender, len(seen), before)
		}
	}
}

const perSender = 1200

// cutOnce has every receiver take in what it likes, letting barriers overtake
// when it does not like to.
func cutOnce(t *testing.T, rng *rand.Rand, l layout) (got []small, flights [][]byte) {
	r := newRig[small](t, l)
	var rest []func()
	for s := range l.senders {
		b := &batch.Batch[small]{}
		send := func(from, to int) {
			for seq := from; seq < to; seq++ {
				v := small{Sender: uint32(s), Key: rng.Uint32N(50), Seq: uint64(seq)}
				b.AppendOp(opOf(v), v, int64(seq))
				if b.Len() == 1+rng.IntN(100) || seq == to-1 {
					if err := r.outs[s].out.Push(b); err != nil {
						t.Fatal(err)
					}
					b.Reset()
				}
			}
		}
		send(0, perSender)
		if rng.IntN(2) == 0 {
			if err := r.writers[s].Watermark(perSender); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.writers[s].Barrier(barrier.Barrier{ID: 1}); err != nil {
			t.Fatal(err)
		}
		rest = append(rest, func() {
			send(perSender, perSender+20)
			if err := r.writers[s].Flush(); err != nil {
				t.Fatal(err)
			}
		})
	}
	for i := range l.receivers {
		r.takers[i].take = func(b *batch.Batch[small]) error {
			got = append(got, b.Values...)
			return wantOps(b)
		}
		gate := r.gates[i]
		for barriers := 0; barriers < gate.Channels(); {
			if len(rest) > 0 && rng.IntN(4) == 0 {
				rest[0]()
				rest = rest[1:]
			}
			var it Item
			if rng.IntN(2) == 0 {
				if it, _ = gate.TakeBarrier(true); it.Kind == None {
					continue
				}
			} else {
				it = r.next(i)
			}
			if it.Kind == Barrier {
				barriers++
				gate.Block(it.Channel)
			}
		}
		flights = append(flights, gate.InFlight()...)
		gate.Unblock()
	}
	for _, f := range rest {
		f()
	}
	return got, flights
}

func TestATerminalBarrierOvertakesNothing(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_FORWARD, senders: 1, receivers: 1})
	push(t, r, 0, 0, 1)
	if err := r.writers[0].Barrier(barrier.Barrier{ID: 7, Terminal: true}); err != nil {
		t.Fatal(err)
	}
	if it, ok := r.gates[0].TakeBarrier(true); ok {
		t.Fatalf("%+v overtook a batch: the job would end without it", it)
	}
	r.next(0)
	gate := r.gates[0].(*gate)
	gate.resumed = []resumed{{batch: columnsOf(&batch.Batch[small]{Values: make([]small, 1), Times: make([]int64, 1)})}}
	if it, ok := r.gates[0].TakeBarrier(true); ok {
		t.Fatalf("%+v overtook a batch from before a restore: the job would end without it", it)
	}
	r.next(0)
	if it, ok := r.gates[0].TakeBarrier(true); !ok || it.Barrier.ID != 7 {
		t.Fatalf("got %v %+v, want the barrier", ok, it)
	}
}

// On edges whose records belong to a subtask by its number, at another parallelism
// nobody could put what was overtaken before what came later of the same key.
func TestForwardAndBroadcastEdgesAreNotOvertaken(t *testing.T) {
	for _, ship := range []pb.Ship{pb.Ship_SHIP_FORWARD, pb.Ship_SHIP_BROADCAST} {
		r := newRig[small](t, layout{ship: ship, senders: 1, receivers: 1})
		push(t, r, 0, 0, 3)
		if err := r.writers[0].Barrier(barrier.Barrier{ID: 7}); err != nil {
			t.Fatal(err)
		}
		if it, ok := r.gates[0].TakeBarrier(true); ok {
			t.Errorf("%v: %+v overtook a batch", ship, it)
		}
		r.next(0)
		if _, ok := r.gates[0].TakeBarrier(true); !ok {
			t.Errorf("%v: no barrier behind the last batch", ship)
		}
	}
}

// A barrier need not wait for the end of a batch whose operator may be slow.
func TestABarrierIsTakenBetweenTwoPieces(t *testing.T) {
	for _, workers := range []int{1, 2} {
		l := layout{ship: pb.Ship_SHIP_HASH, senders: 2, receivers: 1, workers: workers, key: any(hashSmall), cold: true,
			park: func(<-chan struct{}) (bool, error) { return true, nil }}
		r := newRig[small](t, l)
		for s := range 2 {
			push(t, r, s, 0, 300)
			if err := r.writers[s].Barrier(barrier.Barrier{ID: 7}); err != nil {
				t.Fatal(err)
			}
		}
		first := r.next(0)
		if first.Rows > pace.First {
			t.Errorf("%d rows at once, and no pace is known", first.Rows)
		}
		barriers := 0
		for barriers < 2 {
			it, ok := r.gates[0].TakeBarrier(true)
			if !ok {
				<-r.notify[0] // the other worker's is still to come
				continue
			}
			barriers++
			r.gates[0].Block(it.Channel)
		}
		if rows := first.Rows + rowsOf(t, r.gates[0].InFlight()); rows != 600 {
			t.Errorf("%d workers: %d rows before and in the cut, want 600", workers, rows)
		}
	}
}

// rowsOf is how many records a hash edge takes up after a restore.
func rowsOf(t *testing.T, flights [][]byte) (rows int) {
	t.Helper()
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 1, key: any(hashSmall)})
	if err := r.gates[0].Resume(flights); err != nil {
		t.Fatal(err)
	}
	for {
		it, err := r.gates[0].Poll()
		if err != nil {
			t.Fatal(err)
		}
		if it.Kind == None {
			return rows
		}
		rows += it.Rows
	}
}

// The word that a checkpoint was given up may come after the first barrier of the
// next one, which then gives it up: what that barrier has overtaken is in flight all
// the same.
func TestABarrierThatEndsAnAlignmentKeepsWhatItHasOvertaken(t *testing.T) {
	r := newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 2, receivers: 1, key: any(hashSmall)})
	aligner := barrier.NewAligner(2)
	send := func(sender, from, to int, id uint64) {
		push(t, r, sender, from, to)
		if err := r.writers[sender].Barrier(barrier.Barrier{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	take := func() barrier.Step { // as a task does
		it, ok := r.gates[0].TakeBarrier(true)
		if !ok {
			t.Fatal("no barrier")
		}
		step := aligner.Barrier(it.Channel, it.Barrier, time.Now())
		if step.Unblock && !step.Aligned {
			r.gates[0].Unblock()
		}
		if step.Block {
			r.gates[0].Block(it.Channel)
		}
		return step
	}
	send(0, 0, 3, 1)
	take()
	send(1, 0, 3, 2)
	if step := take(); step.Aborted != 1 || !step.Block {
		t.Fatalf("%+v: the second barrier did not end the alignment of the first", step)
	}
	send(0, 3, 6, 2)
	if step := take(); !step.Aligned {
		t.Fatalf("%+v: not aligned", step)
	}
	if rows := rowsOf(t, r.gates[0].InFlight()); rows != 9 {
		t.Errorf("%d records in flight, want all 9: the others would be lost by a restore", rows)
	}
}

// What a checkpoint holds has to fit into the messages that carry it.
func TestABarrierOvertakesNoMoreThanItsShare(t *testing.T) {
	for _, workers := range []int{1, 2} {
		r := newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 2, receivers: 4, workers: workers, key: any(hashSmall)})
		g := r.gates[0].(*gate)
		if g.share != mostInFlight/8 {
			t.Fatalf("a share of %d bytes in 8 channels", g.share)
		}
		g.share = 20 << 10 // a full batch is 16 KiB
		came := make(chan struct{}, 2)
		g.mu.Lock()
		g.press = func() { came <- struct{}{} }
		g.mu.Unlock()
		for s := range 2 {
			for i := range 10 {
				push(t, r, s, 100*i, 100*(i+1)) // of one key, all to the first
			}
			if err := r.writers[s].Barrier(barrier.Barrier{ID: 7}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // a barrier that comes late finds nothing to overtake
			select {
			case <-came:
			case <-time.After(20 * time.Second):
				t.Fatal("no barrier for 20 s")
			}
		}
		rows, barriers, overtook := 0, 0, 0
		for barriers < 2 {
			it, ok := r.gates[0].TakeBarrier(true)
			if !ok {
				it = r.next(0)
			} else if g.mu.channels[it.Channel].ahead > 0 {
				overtook++
			}
			if rows += it.Rows; it.Kind == Barrier {
				barriers++
				r.gates[0].Block(it.Channel)
			}
		}
		size := 0
		flights := r.gates[0].InFlight()
		for _, f := range flights {
			size += len(f)
		}
		if size > 2*g.share || overtook == 0 {
			t.Errorf("%d workers: %d bytes in flight, of a share of %d in each of two channels; %d barriers overtook", workers, size, g.share, overtook)
		}
		if rows += rowsOf(t, flights); rows != 2000 {
			t.Errorf("%d workers: %d rows before and in the cut, want 2000", workers, rows)
		}

		// Nor does a checkpoint after a restore hold all that came with it, and more.
		r = newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 1, key: any(hashSmall)})
		g = r.gates[0].(*gate)
		g.share = size - 1
		if err := r.gates[0].Resume(flights); err != nil {
			t.Fatal(err)
		}
		if err := r.writers[0].Barrier(barrier.Barrier{ID: 8}); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.gates[0].TakeBarrier(true); ok {
			t.Errorf("a barrier overtook %d bytes that came with a restore, of a share of %d", size, g.share)
		}
		r.next(0)
		if _, ok := r.gates[0].TakeBarrier(true); !ok {
			t.Error("a barrier waits for all that came with a restore")
		}
	}
}

// wider is small after an upgrade of the job.
type wider struct {
	Sender, Key uint64
	Seq         int64
	Note        string
}

func TestInFlightRecordsFollowTheirType(t *testing.T) {
	old := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 1, receivers: 1})
	push(t, old, 0, 0, 3)
	if err := old.writers[0].Barrier(barrier.Barrier{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, ok := old.gates[0].TakeBarrier(true); !ok {
		t.Fatal("no barrier")
	}
	flights := old.gates[0].InFlight()
	now := newRig[wider](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 1, receivers: 1})
	err := now.gates[0].Resume(flights)
	if err == nil {
		t.Fatal("an unsigned number of 64 bits became a signed one without a word")
	}
	t.Log(err)
	type fits struct {
		Sender, Key uint64
		Seq         uint64
		Note        string
	}
	then := newRig[fits](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 1, receivers: 1})
	if err := then.gates[0].Resume(flights); err != nil {
		t.Fatal(err)
	}
	var got []fits
	then.takers[0].take = func(b *batch.Batch[fits]) error { got = append(got, b.Values...); return nil }
	then.next(0)
	if len(got) != 3 || got[2].Seq != 2 {
		t.Errorf("resumed %+v", got)
	}
	for cut := range len(flights[0]) {
		if err := old.gates[0].Resume([][]byte{flights[0][:cut]}); err == nil {
			t.Fatalf("%d of %d bytes were taken for in-flight records", cut, len(flights[0]))
		}
	}
}

// Records that were partitioned otherwise would be lost, or come twice, or at a
// subtask that does not own their key.
func TestInFlightRecordsKeepTheirWay(t *testing.T) {
	spread := layout{ship: pb.Ship_SHIP_REBALANCE, senders: 1, receivers: 1}
	old := newRig[small](t, spread)
	push(t, old, 0, 0, 3)
	if err := old.writers[0].Barrier(barrier.Barrier{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, ok := old.gates[0].TakeBarrier(true); !ok {
		t.Fatal("no barrier")
	}
	flights := old.gates[0].InFlight()
	hashed := newRig[small](t, layout{ship: pb.Ship_SHIP_HASH, senders: 1, receivers: 1, key: any(hashSmall)})
	broadcast := newRig[small](t, layout{ship: pb.Ship_SHIP_BROADCAST, senders: 1, receivers: 1})
	for _, r := range []*rig[small]{hashed, broadcast} {
		if err := r.gates[0].Resume(flights); err == nil {
			t.Errorf("records that were spread are taken up by an edge that is not")
		}
	}
}
