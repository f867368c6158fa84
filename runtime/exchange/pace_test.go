package exchange

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/pace"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// TestSlowReceiverHasLittleInFlight: a receiver that takes in 1,000 rows a
// second has about 50 rows under way, not as many as would fit: a barrier waits
// behind them all. Fast again, it gets full batches again.
func TestSlowReceiverHasLittleInFlight(t *testing.T) {
	for name, workers := range map[string]int{"local": 1, "remote": 2} {
		t.Run(name, func(t *testing.T) {
			parked, over := make(chan struct{}, 1), make(chan struct{})
			r := newRig[small](t, layout{ship: pb.Ship_SHIP_REBALANCE, senders: 2, receivers: 2, workers: workers, cold: true,
				park: func(room <-chan struct{}) (bool, error) {
					select {
					case parked <- struct{}{}:
					case <-over:
						return false, errOver
					}
					select {
					case <-room:
						return false, nil
					case <-over:
						return false, errOver
					}
				}})
			// Only the channel from subtask 0 to subtask 1, local or not.
			g, w := r.gates[1].(*gate), r.writers[0].(*writer)
			to := &w.targets[1]
			slow := false
			r.takers[1].take = func(*batch.Batch[small]) error {
				if g.pace = (pace.Pace{}); slow {
					g.pace.Took(2000, time.Second) // two channels: 50 rows each
				}
				return nil
			}

			var pushed, limit atomic.Int64 // rows, and how many may be in the open batch
			limit.Store(int64(to.limit))
			var sending sync.WaitGroup
			sending.Go(func() {
				b := &batch.Batch[small]{Values: make([]small, 1), Times: make([]int64, 1)}
				for {
					pushed.Add(1)
					if err := w.copyTo(to, columnsOf(b)); err != nil {
						return
					}
					limit.Store(int64(to.limit))
				}
			})
			defer sending.Wait()
			defer close(over)

			var taken int64
			underWay := func() int64 {
				<-parked
				n := pushed.Load() - taken
				for taken < pushed.Load()-limit.Load() || n == 0 {
					it := r.next(1)
					taken += int64(it.Rows)
					if len(parked) > 0 {
						break
					}
				}
				return n
			}
			if n := underWay(); workers == 1 && n > 2*firstRows {
				t.Errorf("%d rows under way before the receiver's pace is known", n)
			}
			for range 30 {
				underWay()
			}
			if n := underWay(); n < 1024 {
				t.Fatalf("%d rows under way before the receiver was slow, want a full channel", n)
			}
			slow = true
			for range 30 {
				underWay()
			}
			if n := underWay(); n > 150 {
				t.Errorf("%d rows under way to a receiver that takes 1,000 a second, want about 50", n)
			}
			slow = false
			for range 30 {
				underWay()
			}
			if n := underWay(); n < 1024 {
				t.Errorf("%d rows under way to a receiver that is fast again, want a full channel", n)
			}
		})
	}
}

var errOver = errors.New("the test is over")
