package launch

import (
	goruntime "runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// The collector begins when the heap has grown by as much as is alive. Most of
// a job's garbage is the text of records that went by, and little of its heap is
// alive for the collector to see (state is free of pointers, or on the disk): it
// would run a hundred times a second to gain a few megabytes. So a worker lets its
// heap grow by at least a share of its memory before it collects. GOMEMLIMIT
// holds all the same.

// roomShare is the share of a worker's memory that garbage may take, maxRoom and
// minRoom bound it in bytes.
const (
	roomShare = 8
	minRoom   = 4 << 20
	maxRoom   = 256 << 20
)

// roomIn is the growth to allow in a worker with so much memory.
func roomIn(memory uint64) uint64 { return min(max(memory/roomShare, minRoom), maxRoom) }

// headroom sets the collector's pace anew after each of its cycles.
type headroom struct {
	mu struct {
		sync.Mutex
		room    uint64
		percent int
		over    bool
	}
}

// giveHeadroom begins with the room for so much memory; end stops it and
// restores the pace that the process began with.
func giveHeadroom(memory uint64) *headroom {
	h := &headroom{}
	h.mu.room, h.mu.percent = roomIn(memory), 100
	h.pace()
	h.await()
	return h
}

// resize takes another amount of memory.
func (h *headroom) resize(memory uint64) {
	h.mu.Lock()
	h.mu.room = roomIn(memory)
	h.mu.Unlock()
	h.pace()
}

func (h *headroom) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.over = true
	debug.SetGCPercent(100)
}

// await has pace called after the next cycle, and so on: what nothing refers to
// is cleaned up by each of them.
func (h *headroom) await() {
	goruntime.AddCleanup(&struct{ p *headroom }{h}, func(h *headroom) {
		h.pace()
		h.mu.Lock()
		over := h.mu.over
		h.mu.Unlock()
		if !over {
			h.await()
		}
	}, h)
}

// pace sets the growth, in percent of what is alive, that comes to the room.
// Setting it stops the world for a moment, so small changes are let be.
func (h *headroom) pace() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.over {
		return
	}
	alive := max(live[0].Value.Uint64(), minRoom)
	percent := max(int(100*h.mu.room/alive), 100)
	if percent*4 < h.mu.percent*3 || percent*3 > h.mu.percent*4 || percent == 100 && h.mu.percent != 100 {
		h.mu.percent = percent
		debug.SetGCPercent(percent)
	}
}
