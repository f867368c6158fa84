package launch

import (
	goruntime "runtime"
	"testing"
)

var garbage []byte

// collections counts them while a process without much alive makes garbage.
func collections(megabytes int) uint32 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	for range megabytes << 10 {
		garbage = make([]byte, 1024)
	}
	goruntime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

func TestHeadroomMakesCollectionsRare(t *testing.T) {
	without := collections(512)
	h := giveHeadroom(512 << 20) // a room of 64 MiB
	goruntime.GC()               // the first cycle under it
	with := collections(512)
	h.resize(8 << 20)
	small := collections(512)
	h.end()
	restored := collections(512)
	t.Logf("collections in 512 MiB of garbage: %d, with headroom %d, with little %d, restored %d", without, with, small, restored)
	if with == 0 || with > 16 {
		t.Errorf("%d collections with a room of 64 MiB, want about 8", with)
	}
	if without < 4*with || small < 4*with || restored < 4*with {
		t.Errorf("headroom does not make a difference, or stays")
	}
}

func TestRoomIsAShareOfMemory(t *testing.T) {
	for memory, want := range map[uint64]uint64{0: 4 << 20, 64 << 20: 8 << 20, 1 << 30: 128 << 20, 1 << 40: 256 << 20} {
		if got := roomIn(memory); got != want {
			t.Errorf("a worker with %d bytes has a room of %d, want %d", memory, got, want)
		}
	}
}
