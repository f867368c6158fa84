package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestCRCsOfPiecesCombine(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for range 200 {
		n := rng.IntN(len(data) + 1)
		cut := rng.IntN(n + 1)
		got := combine(crc32.Checksum(data[:cut], castagnoli), crc32.Checksum(data[cut:n], castagnoli), int64(n-cut))
		if want := crc32.Checksum(data[:n], castagnoli); got != want {
			t.Fatalf("%d and %d bytes: got %08x, want %08x", cut, n-cut, got, want)
		}
	}
}

// fill writes the same random changes to any writer: large and small values,
// overwrites, deletes, drops.
func fill(w *Writer, seed uint64, changes int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	for range changes {
		g, state, ns := rng.IntN(w.groups), fmt.Sprintf("s%d", rng.IntN(3)), int64(rng.IntN(3)-1)
		k := fmt.Appendf(nil, "%d", rng.IntN(changes))
		switch rng.IntN(8) {
		case 0:
			w.Delete(g, state, ns, k)
		case 1:
			w.Put(g, state, ns, k, make([]byte, rng.IntN(3000)))
		default:
			w.Put(g, state, ns, k, fmt.Appendf(nil, "value %d", rng.IntN(1000)))
		}
	}
	w.Drop("s1", int64(rng.IntN(3)))
}

func content(t testing.TB, r Run) []byte {
	t.Helper()
	data, err := io.ReadAll(r.Open())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Whether a run was sorted in memory or in a dozen parts on disk, it has the
// same bytes, and they are in memory or in a file as the bound says.
func TestSpilledRunsHaveTheSameBytes(t *testing.T) {
	for seed := range uint64(6) {
		groups := []int{1, 3, 128}[seed%3]
		plain := NewWriter(groups)
		fill(plain, seed, 5000)
		want := finish(t, plain)
		all := content(t, want)
		for _, memory := range []int{10_000, 150_000, 1 << 30} {
			w := NewWriter(groups)
			w.Spill(Scratch{Folder: t.TempDir(), Memory: memory})
			fill(w, seed, 5000)
			parts := 0
			if w.parts != nil {
				parts = len(w.parts.list)
			}
			if (parts > 0) != (memory < 1<<30) {
				t.Fatalf("%d bytes of memory: %d parts", memory, parts)
			}
			got := finish(t, w)
			if !bytes.Equal(content(t, got), all) {
				t.Fatalf("seed %d, %d bytes of memory: another run", seed, memory)
			}
			a, b := got.Ref("x", 3), want.Ref("x", 3)
			if a.GetCrc32C() != b.GetCrc32C() || a.GetLength() != b.GetLength() || a.GetEntries() != b.GetEntries() {
				t.Fatalf("reference %v, want %v", a, b)
			}
			for range 50 {
				rng := rand.New(rand.NewPCG(seed, 9))
				p, at := make([]byte, rng.IntN(2000)), rng.IntN(len(all)-2000)
				if n, err := got.ReadAt(p, int64(at)); n != len(p) || !bytes.Equal(p, all[at:at+n]) {
					t.Fatalf("read at %d: %d bytes, %v", at, n, err)
				}
			}
			if err := got.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSpillReportsWhatTheDiskSays(t *testing.T) {
	w := NewWriter(8)
	w.Spill(Scratch{Folder: t.TempDir() + "/gone", Memory: 1000})
	fill(w, 1, 100)
	if _, err := w.Finish(); err == nil {
		t.Error("a run was made of what could not be written")
	}
}

// large is a run of a few megabytes in which key groups have several blocks.
func large(t testing.TB, groups int) Run {
	w := NewWriter(groups)
	rng := rand.New(rand.NewPCG(3, 3))
	value := make([]byte, 2000)
	for i := range 4000 {
		rng.Uint64()
		w.Put(i%groups, "s", int64(i%2), fmt.Appendf(nil, "%06d", i), value[:rng.IntN(2000)])
	}
	run := finish(t, w)
	return Run{Bytes: content(t, run), KeyGroupFirst: run.KeyGroupFirst, KeyGroupLast: run.KeyGroupLast, Entries: run.Entries}
}

func put(t testing.TB, b blob.Bucket, key string, run Run, before int) *pb.RunRef {
	t.Helper()
	body := append(make([]byte, before), content(t, run)...)
	if err := b.Put(context.Background(), key, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	return run.Ref(key, uint64(before))
}

func TestKeyGroupsGoOnInAnotherBlock(t *testing.T) {
	run := large(t, 2)
	if run.Bytes[4] != versionSplit {
		t.Fatalf("version %d", run.Bytes[4])
	}
	if r := open(t, run, 1, 1); len(r.blocks) < 2 {
		t.Errorf("%d blocks", len(r.blocks))
	} else if got := drain(t, r); len(got) != 2000 {
		t.Errorf("%d entries", len(got))
	}
	if small := large(t, 64); small.Bytes[4] != versionPlain {
		t.Errorf("a run of one block a key group has version %d", small.Bytes[4])
	}
}

// copies are Local copies in memory.
type copies struct {
	data    map[string][]byte
	spoiled []string
}

func (c *copies) Copy(object string) (io.ReaderAt, io.Closer, bool) {
	data, ok := c.data[object]
	return bytes.NewReader(data), io.NopCloser(nil), ok
}

func (c *copies) Spoiled(object string, err error) {
	if err == nil {
		panic("spoiled without a reason")
	}
	c.spoiled = append(c.spoiled, object)
}

func TestOpenerReadsWhatMemoryHolds(t *testing.T) {
	ctx, b := context.Background(), blob.NewMemory()
	for _, groups := range []int{1, 2, 64} {
		run := large(t, groups)
		ref := put(t, b, "o", run, 17)
		local := &copies{data: map[string][]byte{"o": append(make([]byte, 17), run.Bytes...)}}
		for _, part := range [][2]int{{0, groups - 1}, {groups / 2, groups / 2}, {groups / 3, groups - 1}} {
			want := drain(t, open(t, run, part[0], part[1]))
			for name, o := range map[string]*Opener{
				"bucket": {Bucket: b}, "little memory": {Bucket: b, Memory: 1}, "copy": {Bucket: b, Local: local},
			} {
				r, err := o.Open(ctx, ref, part[0], part[1])
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, drain(t, r)); diff != "" {
					t.Fatalf("%s, %d groups: %s", name, groups, diff)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(local.spoiled) > 0 {
			t.Error(local.spoiled)
		}
	}
}

// A copy with any bit flipped, or cut off anywhere, gives the bucket's bytes,
// and is reported.
func TestASpoiledCopyIsReadFromTheBucket(t *testing.T) {
	ctx, b := context.Background(), blob.NewMemory()
	run := large(t, 2)
	ref := put(t, b, "o", run, 5)
	want := drain(t, open(t, run, 0, 1))
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 24 {
		data := append(make([]byte, 5), run.Bytes...)
		what := fmt.Sprintf("cut to %d bytes", len(data)*i/24)
		if i%2 == 0 {
			data = data[:len(data)*i/24]
		} else {
			at := 5 + rng.IntN(len(run.Bytes))
			if i%4 == 1 {
				at = 5 + rng.IntN(200)
			}
			data[at] ^= 1 << rng.IntN(8)
			what = fmt.Sprintf("bit of byte %d flipped", at)
		}
		local := &copies{data: map[string][]byte{"o": data}}
		r, err := (&Opener{Bucket: b, Local: local}).Open(ctx, ref, 0, 1)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, drain(t, r)); diff != "" {
			t.Fatalf("%s: %s", what, diff)
		}
		if len(local.spoiled) != 1 {
			t.Errorf("%s: reported %d times", what, len(local.spoiled))
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An object with a flipped bit is an error that names it, whatever the bit, and
// no entry of the block that it is in comes out.
func TestAnOpenedRunSeesEveryFlippedBit(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	ctx := context.Background()
	run := large(t, 2)
	good := drain(t, open(t, run, 0, 1))
	rng := rand.New(rand.NewPCG(seed, 8))
	for i := range 150 {
		b := blob.NewMemory()
		bad := Run{Bytes: bytes.Clone(run.Bytes)}
		at := rng.IntN(len(bad.Bytes))
		if i%2 == 0 {
			at = rng.IntN(160)
		}
		bad.Bytes[at] ^= 1 << rng.IntN(8)
		put(t, b, "o", bad, 9)
		o := &Opener{Bucket: b, Pause: func(context.Context, time.Duration) {}}
		r, err := o.Open(ctx, run.Ref("o", 9), 0, 1)
		n := 0
		if err == nil {
			for ; r.Next(); n++ {
				if text(r.Entry()) != good[n] {
					t.Fatalf("byte %d: entry %d is wrong", at, n)
				}
			}
			err = r.Err()
			_ = r.Close()
		}
		var c *CorruptError
		if !errors.As(err, &c) || c.Object != "o+9" || c.Offset < 0 || c.Offset > run.Size() {
			t.Fatalf("byte %d: got %v", at, err)
		}
	}
}

func TestAnotherRunInItsPlaceIsNotTakenForIt(t *testing.T) {
	b := blob.NewMemory()
	run := large(t, 2)
	w := NewWriter(2)
	fill(w, 4, 4000)
	other := finish(t, w)
	ref := run.Ref("o", 0)
	put(t, b, "o", other, 0)
	ref.Length = uint64(other.Size())
	var c *CorruptError
	if _, err := (&Opener{Bucket: b}).Open(context.Background(), ref, 0, 1); !errors.As(err, &c) {
		t.Errorf("got %v", err)
	}
}

// Whatever runs of a chain are merged to one, in whatever order, the state
// that the chain stands for is the same.
func TestMergingAnyPartOfAChainChangesNothing(t *testing.T) {
	const groups = 8
	ctx := context.Background()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := model{}
		var chain []*pb.RunRef
		merger := Merger{Opener: &Opener{Bucket: blob.NewMemory()}, Groups: groups, Last: groups - 1}
		for range 12 {
			if run := randomRun(t, r, m, groups, 0, groups-1); !run.Empty() {
				chain = append(chain, run.Inline())
			}
			if n := len(chain); n > 1 && r.IntN(3) == 0 {
				from := r.IntN(n - 1)
				to := from + 2 + r.IntN(n-from-1)
				run, err := merger.Merge(ctx, chain[from:to], Run{}, from == 0)
				if err != nil {
					t.Fatal(err)
				}
				merged := append(append([]*pb.RunRef(nil), chain[:from]...), run.Inline())
				chain = append(merged, chain[to:]...)
			}
		}
		readers, err := merger.Opener.Chain(ctx, chain, 0, groups-1)
		if err != nil {
			t.Fatal(err)
		}
		m.equal(t, seed, Merge(readers))
		if readers, err = merger.Opener.Chain(ctx, chain, 0, groups-1); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, replayed(t, readers)); diff != "" {
			t.Fatalf("seed %d: replay: %s", seed, diff)
		}
	}
}
