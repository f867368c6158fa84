package supervise

import (
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// A worker that gets another number of slots is told, and watched by them.
func TestResizedWorkerHasTheMemoryOfItsSlots(t *testing.T) {
	b := start(t, func(c *Config) { c.SlotMemory, c.Watch = 4<<20, 20*time.Millisecond })
	first := b.request("w1", "echo")
	first.Slots = 120
	b.StartWorker(b.target, first)
	b.ResizeWorker(&pb.ResizeWorker{WorkerId: "w1", Slots: 200})
	b.ResizeWorker(&pb.ResizeWorker{WorkerId: "nobody", Slots: 200})
	b.awaitStarted()
	told := func(slots uint64) {
		t.Helper()
		if r := b.next().GetFromWorker().GetReport(); r.GetEpoch() != slots<<32|slots*4 {
			t.Fatalf("the worker was told %d slots with %d MiB, want %d", r.GetEpoch()>>32, r.GetEpoch()&0xffffffff, slots)
		}
	}
	told(200)
	b.ResizeWorker(&pb.ResizeWorker{WorkerId: "w1", Slots: 190})
	told(190)

	w := b.worker("w1")
	now := time.Now()
	if got := w.allowed(now); got != 200 {
		t.Errorf("a worker that has just shrunk may use the memory of %d slots, want 200 as before", got)
	}
	if got := w.allowed(now.Add(2 * shrinks)); got != 190 {
		t.Errorf("a worker that has shrunk may use the memory of %d slots, want 190", got)
	}
	w.mu.Lock()
	w.mu.slots, w.mu.settled = 1, time.Time{} // and it gave nothing back
	w.mu.Unlock()
	x := b.awaitExited()
	if x.GetError().GetCode() != CodeMemoryExceeded || !strings.Contains(x.GetError().GetMessage(), "4 MiB of its 1 slots") {
		t.Errorf("exited: %v", x)
	}
}
