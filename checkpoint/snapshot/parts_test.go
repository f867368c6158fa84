package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A rescaled subtask reads a run that speaks for more than it takes of it, once
// for each old owner. What it takes for one owner hides nothing of the other's.
func TestARunThatIsReadInPartsSpeaksForThoseOnly(t *testing.T) {
	run := func(full bool, puts ...string) Run {
		w := NewWriter(4)
		if full {
			w.Full()
		} else {
			w.Drop("s", 7)
		}
		for i, v := range puts {
			if v != "" {
				w.Put(i, "s", 7, []byte("key"), []byte(v))
			}
		}
		return finish(t, w)
	}
	base, drop, next := run(true, "a", "b", "c", "d"), run(false, "e", "", "", "f"), NewWriter(4)
	next.Own(0, 1)
	next.Put(1, "s", 7, []byte("key"), []byte("g"))
	own := finish(t, next)
	readers := func() []*Reader {
		return []*Reader{
			open(t, base, 0, 1), open(t, drop, 0, 1), open(t, own, 0, 1),
			open(t, base, 2, 3), open(t, drop, 2, 3),
		}
	}
	got := drain(t, Merge(readers()))
	want := []string{`0 s/7 "key"=e`, `1 s/7 "key"=g`, `3 s/7 "key"=f`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	state := model{key(0, "s", 7, []byte("key")): "e", key(1, "s", 7, []byte("key")): "g", key(3, "s", 7, []byte("key")): "f"}
	if d := cmp.Diff(state, replayed(t, readers())); d != "" {
		t.Error(d)
	}
}
