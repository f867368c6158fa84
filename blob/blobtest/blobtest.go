// Package blobtest is the conformance suite of package blob: what every
// Bucket must do, whatever it stores objects in. Call Run from a test of the
// implementation; RunFaults for one behind package faulty.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"
)

// Run runs the suite. open returns an empty bucket; another handle to the
// same one comes from again, or is the same where there is only one.
func Run(t *testing.T, open func(t *testing.T) (b, again blob.Bucket)) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, blob.Bucket, blob.Bucket)
	}{
		{"ReadsBackWhatWasPut", readsBack},
		{"CutsRanges", cutsRanges},
		{"SaysNotFound", saysNotFound},
		{"PutsOnlyIfAbsent", putsIfAbsent},
		{"SwapsOnlyTheSameVersion", swaps},
		{"MixesWaysOfWriting", mixes},
		{"ListsInOrder", lists},
		{"DeletesForGood", deletes},
		{"Moves", moves},
		{"RefusesBadKeys", refusesKeys},
		{"KeepsWritesWhole", keepsWhole},
		{"ObeysTheContext", obeysContext},
		{"LetsOneCreatorWin", oneCreator},
		{"LosesNoSwap", losesNoSwap},
		{"NeverTears", neverTears},
		{"MatchesAModel", matchesModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, again := open(t)
			if again == nil {
				again = b
			}
			c.run(t, b, again)
		})
	}
}

var ctx = context.Background()

func put(t *testing.T, b blob.Bucket, key, data string) {
	t.Helper()
	if err := b.Put(ctx, key, strings.NewReader(data), int64(len(data))); err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
}

// want fails unless the object is there with these bytes.
func want(t *testing.T, b blob.Bucket, key, data string) blob.Version {
	t.Helper()
	got, v, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		t.Fatalf("Get(%s): %v", key, err)
	}
	if string(got) != data {
		t.Fatalf("Get(%s) = %.60q (%d bytes), want %.60q (%d bytes)", key, got, len(got), data, len(data))
	}
	if v == "" {
		t.Fatalf("Get(%s) returned an empty version", key)
	}
	return v
}

func wantErr(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("%s: got error %v, want %v", what, err, kind)
	}
}

func readsBack(t *testing.T, b, again blob.Bucket) {
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<15))
	for key, data := range map[string]string{"a": "x", "empty": "", "deep/er/and deeper/käse": "y", "big": big, "dots/.x/..y": "z"} {
		put(t, b, key, data)
		v := want(t, again, key, data)
		if v2 := want(t, b, key, data); v2 != v {
			t.Errorf("%s: versions %s and %s of one content", key, v, v2)
		}
		r, size, err := again.Open(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(got) != data || size != int64(len(data)) {
			t.Errorf("Open(%s): %d bytes, size %d, error %v; want %d bytes", key, len(got), size, err, len(data))
		}
	}
	if err := b.Put(ctx, "unsized", strings.NewReader("abc"), -1); err != nil {
		t.Fatal(err)
	}
	want(t, again, "unsized", "abc")
	put(t, b, "a", "replaced")
	want(t, again, "a", "replaced")
}

func cutsRanges(t *testing.T, b, _ blob.Bucket) {
	put(t, b, "r", "0123456789")
	put(t, b, "empty", "")
	whole := want(t, b, "r", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"}, {3, -1, "3456789"}, {0, 1, "0"}, {0, 4, "0123"}, {3, 4, "3456"}, {9, 1, "9"},
		{8, 100, "89"}, {0, 100, "0123456789"}, {10, -1, ""}, {10, 5, ""}, {99, 5, ""}, {5, 0, ""}, {99, 0, ""},
	} {
		got, v, err := b.Get(ctx, "r", c.offset, c.length)
		if err != nil || string(got) != c.want || v != whole {
			t.Errorf("Get(%d, %d) = %q, %s, %v; want %q, %s", c.offset, c.length, got, v, err, c.want, whole)
		}
	}
	for _, offset := range []int64{0, 7} {
		if got, _, err := b.Get(ctx, "empty", offset, 3); err != nil || len(got) != 0 {
			t.Errorf("Get(empty, %d, 3) = %q, %v", offset, got, err)
		}
	}
}

func saysNotFound(t *testing.T, b, _ blob.Bucket) {
	put(t, b, "folder/object", "x")
	for _, key := range []string{"nothing", "folder", "folder/nothing", "folder/object/below"} {
		_, _, err := b.Get(ctx, key, 0, -1)
		wantErr(t, "Get "+key, err, blob.ErrNotFound)
		_, _, err = b.Get(ctx, key, 0, 0)
		wantErr(t, "Get nothing of "+key, err, blob.ErrNotFound)
		_, _, err = b.Open(ctx, key)
		wantErr(t, "Open "+key, err, blob.ErrNotFound)
		_, err = b.CompareAndSwap(ctx, key, "v", []byte("x"))
		if !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrConflict) {
			t.Errorf("CompareAndSwap %s: %v", key, err)
		}
		if err := b.Delete(ctx, key); err != nil {
			t.Errorf("Delete %s: %v", key, err)
		}
	}
	want(t, b, "folder/object", "x")
}

func putsIfAbsent(t *testing.T, b, again blob.Bucket) {
	v, err := b.PutIfAbsent(ctx, "p/a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := want(t, again, "p/a", "1"); got != v {
		t.Errorf("PutIfAbsent returned version %s, Get %s", v, got)
	}
	_, err = again.PutIfAbsent(ctx, "p/a", []byte("2"))
	wantErr(t, "second PutIfAbsent", err, blob.ErrExists)
	want(t, b, "p/a", "1")
	if err := again.Delete(ctx, "p/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutIfAbsent(ctx, "p/a", nil); err != nil {
		t.Fatal(err)
	}
	want(t, again, "p/a", "")
}

func swaps(t *testing.T, b, again blob.Bucket) {
	v1, err := b.PutIfAbsent(ctx, "s", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	v2, err := again.CompareAndSwap(ctx, "s", v1, []byte("2"))
	if err != nil {
		t.Fatal(err)
	}
	if got := want(t, b, "s", "2"); got != v2 {
		t.Errorf("CompareAndSwap returned version %s, Get %s", v2, got)
	}
	_, err = b.CompareAndSwap(ctx, "s", v1, []byte("x"))
	wantErr(t, "CompareAndSwap of an old version", err, blob.ErrConflict)
	_, err = b.CompareAndSwap(ctx, "s", "", []byte("x"))
	wantErr(t, "CompareAndSwap of no version", err, blob.ErrConflict)
	v := v2
	for i := range 20 {
		if v, err = b.CompareAndSwap(ctx, "s", v, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		want(t, again, "s", fmt.Sprint(i))
	}
	_, err = again.PutIfAbsent(ctx, "s", []byte("x"))
	wantErr(t, "PutIfAbsent of a swapped object", err, blob.ErrExists)
	if got, _, err := b.Get(ctx, "s", 1, 1); err != nil || string(got) != "9" {
		t.Errorf("range of a swapped object: %q, %v", got, err)
	}
	r, size, err := again.Open(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(r)
	r.Close()
	if string(got) != "19" || size != 2 {
		t.Errorf("Open of a swapped object: %q, size %d", got, size)
	}
}

func mixes(t *testing.T, b, again blob.Bucket) {
	put(t, b, "m", "1")
	v := want(t, again, "m", "1")
	v, err := b.CompareAndSwap(ctx, "m", v, []byte("2"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, again, "m", "3")
	want(t, b, "m", "3")
	_, err = b.CompareAndSwap(ctx, "m", v, []byte("x"))
	wantErr(t, "CompareAndSwap after Put", err, blob.ErrConflict)
	v = want(t, again, "m", "3")
	if v, err = b.CompareAndSwap(ctx, "m", v, []byte("4")); err != nil {
		t.Fatal(err)
	}
	if err := again.Delete(ctx, "m"); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Get(ctx, "m", 0, -1)
	wantErr(t, "Get of a deleted object", err, blob.ErrNotFound)
	_, err = b.CompareAndSwap(ctx, "m", v, []byte("x"))
	wantErr(t, "CompareAndSwap of a deleted object", err, blob.ErrNotFound)
	if _, err := b.PutIfAbsent(ctx, "m", []byte("5")); err != nil {
		t.Fatal(err)
	}
	_, err = again.CompareAndSwap(ctx, "m", v, []byte("x"))
	wantErr(t, "CompareAndSwap of a version before the deletion", err, blob.ErrConflict)
	want(t, again, "m", "5")
}

func lists(t *testing.T, b, again blob.Bucket) {
	keys := []string{"a", "a-b/x", "a.b", "b/1", "b/10", "b/2", "b/c/d", "b0", "journal/00000000000000000009", "journal/00000000000000000010", "z"}
	for i, key := range keys {
		put(t, b, key, strings.Repeat("x", i))
	}
	v := want(t, b, "b/2", strings.Repeat("x", 5))
	if _, err := b.CompareAndSwap(ctx, "b/2", v, []byte("longer than before")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "a", "a-", "b", "b/", "b/1", "b/c", "b/c/", "b/c/d", "b/c/d/", "journal/0000000000000000001", "nothing/at/all", "zz", "/", "../"} {
		var wanted, got []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				wanted = append(wanted, key)
			}
		}
		err := again.List(ctx, prefix, func(i blob.Info) error {
			got = append(got, i.Key)
			size := int64(slices.Index(keys, i.Key))
			if i.Key == "b/2" {
				size = 18
			}
			if i.Size != size || i.Modified <= 0 {
				t.Errorf("List: %+v, want size %d", i, size)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("List(%q): (-want +got)\n%s", prefix, diff)
		}
	}
	stop := errors.New("stop")
	calls := 0
	err := b.List(ctx, "b", func(blob.Info) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("List stopped with %v after %d calls, want stop after 1", err, calls)
	}
}

func deletes(t *testing.T, b, again blob.Bucket) {
	put(t, b, "d/e/f", "x")
	put(t, b, "d/g", "y")
	for range 2 {
		if err := again.Delete(ctx, "d/e/f"); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := b.Get(ctx, "d/e/f", 0, -1)
	wantErr(t, "Get of a deleted object", err, blob.ErrNotFound)
	put(t, b, "d/e", "an object where a folder was")
	want(t, again, "d/e", "an object where a folder was")
	want(t, again, "d/g", "y")
}

func moves(t *testing.T, b, again blob.Bucket) {
	put(t, b, "staged/deep/m", "moved")
	put(t, b, "staged/n", "stays")
	move := func(from, to string) {
		t.Helper()
		if err := blob.Move(ctx, again, from, to); err != nil {
			t.Fatal(err)
		}
		_, _, err := b.Get(ctx, from, 0, -1)
		wantErr(t, "Get of what was moved", err, blob.ErrNotFound)
	}
	move("staged/deep/m", "out/day/m")
	want(t, b, "out/day/m", "moved")
	wantErr(t, "Move of what is not there", blob.Move(ctx, b, "staged/deep/m", "out/day/m"), blob.ErrNotFound)
	wantErr(t, "Move of a folder", blob.Move(ctx, b, "out/day", "out/night"), blob.ErrNotFound)
	wantErr(t, "Move to a bad key", blob.Move(ctx, b, "staged/n", "a/../b"), blob.ErrInvalidKey)
	want(t, b, "out/day/m", "moved")
	move("staged/n", "out/day/m") // replaces
	old := want(t, again, "out/day/m", "stays")
	if _, err := b.CompareAndSwap(ctx, "out/day/m", old, []byte("swapped")); err != nil {
		t.Fatal(err)
	}
	move("out/day/m", "swapped")
	v := want(t, b, "swapped", "swapped")
	if _, err := again.CompareAndSwap(ctx, "swapped", v, []byte("again")); err != nil {
		t.Fatal(err)
	}
	put(t, b, "other", "other")
	move("other", "swapped") // ends the chain of swaps
	want(t, b, "swapped", "other")
}

func refusesKeys(t *testing.T, b, _ blob.Bucket) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a\x00b", "a\nb", "\xff",
		".millrace/tmp/x", strings.Repeat("x", blob.MaxSegmentBytes+1), strings.Repeat("x/", blob.MaxKeyBytes/2) + "xx",
	} {
		_, _, err := b.Get(ctx, key, 0, -1)
		wantErr(t, "Get", err, blob.ErrInvalidKey)
		_, _, err = b.Open(ctx, key)
		wantErr(t, "Open", err, blob.ErrInvalidKey)
		wantErr(t, "Put", b.Put(ctx, key, strings.NewReader("x"), 1), blob.ErrInvalidKey)
		_, err = b.PutIfAbsent(ctx, key, nil)
		wantErr(t, "PutIfAbsent", err, blob.ErrInvalidKey)
		_, err = b.CompareAndSwap(ctx, key, "v", nil)
		wantErr(t, "CompareAndSwap", err, blob.ErrInvalidKey)
		wantErr(t, "Delete", b.Delete(ctx, key), blob.ErrInvalidKey)
	}
	longest := strings.Repeat(strings.Repeat("k", blob.MaxSegmentBytes-1)+"/", 4)
	longest += strings.Repeat("k", blob.MaxKeyBytes-len(longest))
	put(t, b, longest, "long")
	want(t, b, longest, "long")
}

// breaking fails after some bytes.
type breaking struct{ left int }

var errBroken = errors.New("the source broke")

func (r *breaking) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errBroken
	}
	n := min(len(p), r.left)
	clear(p[:n])
	r.left -= n
	return n, nil
}

func keepsWhole(t *testing.T, b, _ blob.Bucket) {
	put(t, b, "w", "before")
	wantErr(t, "Put of a broken source", b.Put(ctx, "w", &breaking{100 << 10}, -1), errBroken)
	wantErr(t, "Put of a broken source of known size", b.Put(ctx, "w", &breaking{100 << 10}, 200<<10), errBroken)
	if err := b.Put(ctx, "w", strings.NewReader("short"), 50); err == nil {
		t.Error("Put took a source that was too short")
	}
	want(t, b, "w", "before")
	data := []byte("mine")
	if _, err := b.PutIfAbsent(ctx, "copy", data); err != nil {
		t.Fatal(err)
	}
	copy(data, "your")
	want(t, b, "copy", "mine")
}

func obeysContext(t *testing.T, b, _ blob.Bucket) {
	put(t, b, "c", "x")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err := b.Get(gone, "c", 0, -1)
	wantErr(t, "Get", err, context.Canceled)
	wantErr(t, "Put", b.Put(gone, "c", strings.NewReader("y"), 1), context.Canceled)
	_, err = b.PutIfAbsent(gone, "c2", nil)
	wantErr(t, "PutIfAbsent", err, context.Canceled)
	wantErr(t, "Delete", b.Delete(gone, "c"), context.Canceled)
	wantErr(t, "List", b.List(gone, "", func(blob.Info) error { return nil }), context.Canceled)
	want(t, b, "c", "x")
}

// oneCreator races writers for one key after another.
func oneCreator(t *testing.T, b, again blob.Bucket) {
	const writers, keys = 6, 20
	won := make([][]int, keys)
	var mu sync.Mutex
	var group sync.WaitGroup
	for w := range writers {
		bucket := []blob.Bucket{b, again}[w%2]
		group.Go(func() {
			for k := range keys {
				_, err := bucket.PutIfAbsent(ctx, fmt.Sprintf("race/%d/x", k), fmt.Append(nil, w))
				if err == nil {
					mu.Lock()
					won[k] = append(won[k], w)
					mu.Unlock()
				} else if !errors.Is(err, blob.ErrExists) {
					t.Errorf("PutIfAbsent: %v", err)
				}
			}
		})
	}
	group.Wait()
	for k, winners := range won {
		if len(winners) != 1 {
			t.Fatalf("key %d was created by %v, want one", k, winners)
		}
		want(t, b, fmt.Sprintf("race/%d/x", k), fmt.Sprint(winners[0]))
	}
}

// losesNoSwap counts with several writers: no increment may be lost.
func losesNoSwap(t *testing.T, b, again blob.Bucket) {
	const writers, each = 4, 25
	put(t, b, "counter", "0")
	var group sync.WaitGroup
	for w := range writers {
		bucket := []blob.Bucket{b, again}[w%2]
		group.Go(func() {
			for done := 0; done < each; {
				data, v, err := bucket.Get(ctx, "counter", 0, -1)
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				var n int
				if _, err := fmt.Sscan(string(data), &n); err != nil {
					t.Errorf("counter holds %q", data)
					return
				}
				_, err = bucket.CompareAndSwap(ctx, "counter", v, fmt.Append(nil, n+1))
				if err == nil {
					done++
				} else if !errors.Is(err, blob.ErrConflict) {
					t.Errorf("CompareAndSwap: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	want(t, again, "counter", fmt.Sprint(writers*each))
}

// neverTears reads while all ways of writing go on: each object read is
// whole, made of one byte value of the length that goes with it.
func neverTears(t *testing.T, b, again blob.Bucket) {
	const rounds = 60
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1000+i*137) }
	if err := b.Put(ctx, "t", bytes.NewReader(content(0)), -1); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(done)
		for i := 1; i < rounds; i++ {
			var err error
			if i%3 == 0 {
				err = b.Put(ctx, "t", bytes.NewReader(content(i)), int64(len(content(i))))
			} else if _, v, e := b.Get(ctx, "t", 0, 0); e != nil {
				err = e
			} else {
				_, err = b.CompareAndSwap(ctx, "t", v, content(i))
			}
			if err != nil {
				t.Errorf("write %d: %v", i, err)
			}
		}
	})
	for range 2 {
		group.Go(func() {
			last := 0
			for {
				data, _, err := again.Get(ctx, "t", 0, -1)
				if err != nil || len(data) == 0 {
					t.Errorf("Get during writes: %d bytes, %v", len(data), err)
					return
				}
				if i := int(data[0]); !bytes.Equal(data, content(i)) || i < last {
					t.Errorf("read a torn or old object: %d bytes of %d after %d", len(data), i, last)
					return
				}
				last = int(data[0])
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	group.Wait()
}

// matchesModel compares random operations with a map.
func matchesModel(t *testing.T, b, again blob.Bucket) {
	RunFaults(t, b, again, rand.Uint64(), 300)
}

// RunFaults does random operations on b, any of which may fail in any way,
// and reads back through sound, a handle without faults: after a failed write
// an object is as before or as wanted, after one that succeeded as wanted.
func RunFaults(t *testing.T, b, sound blob.Bucket, seed uint64, operations int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	type object struct {
		data    string
		version blob.Version
	}
	model := map[string]*object{}
	for n := range operations {
		key := fmt.Sprintf("model/%d/%d", random.IntN(2), random.IntN(3))
		before, data := model[key], fmt.Sprintf("%d %s", n, strings.Repeat("x", random.IntN(50)))
		var err error
		wanted, after := &data, (*string)(nil)
		op := random.IntN(5)
		switch op {
		case 0:
			err = b.Put(ctx, key, strings.NewReader(data), int64(len(data)))
		case 1:
			_, err = b.PutIfAbsent(ctx, key, []byte(data))
			if before != nil && err == nil {
				t.Fatalf("seed %d, operation %d: PutIfAbsent replaced an object", seed, n)
			}
		case 2:
			v := blob.Version("none")
			if before != nil {
				v = before.version
			}
			_, err = b.CompareAndSwap(ctx, key, v, []byte(data))
			if before == nil && err == nil {
				t.Fatalf("seed %d, operation %d: CompareAndSwap made an object", seed, n)
			}
		case 3:
			err, wanted = b.Delete(ctx, key), nil
		case 4:
			var got []byte
			got, _, err = b.Get(ctx, key, 0, -1)
			if err == nil && (before == nil || string(got) != before.data) {
				t.Fatalf("seed %d, operation %d: Get(%s) = %q, want %+v", seed, n, key, got, before)
			}
			if before != nil {
				wanted = &before.data
			} else {
				wanted = nil
			}
		}
		now, version, readErr := sound.Get(ctx, key, 0, -1)
		if readErr == nil {
			s := string(now)
			after = &s
		} else if !errors.Is(readErr, blob.ErrNotFound) {
			t.Fatalf("seed %d, operation %d: reading back: %v", seed, n, readErr)
		}
		asWanted := cmp.Equal(after, wanted)
		asBefore := before == nil && after == nil || before != nil && after != nil && *after == before.data
		if err == nil && !asWanted || !asWanted && !asBefore {
			t.Fatalf("seed %d, operation %d (kind %d) on %s: error %v; before %+v, wanted %v, after %v", seed, n, op, key, err, before, wanted, after)
		}
		if after == nil {
			delete(model, key)
		} else {
			model[key] = &object{*after, version}
		}
	}
	var keys, listed []string
	for key := range model {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if err := sound.List(ctx, "model/", func(i blob.Info) error { listed = append(listed, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys, listed); diff != "" {
		t.Fatalf("seed %d: List (-want +got)\n%s", seed, diff)
	}
}
