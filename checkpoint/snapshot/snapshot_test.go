package snapshot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/blob"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func finish(t testing.TB, w *Writer) Run {
	t.Helper()
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func open(t testing.TB, run Run, first, last int) *Reader {
	t.Helper()
	data, err := run.All()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open("test", data, first, last)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is an entry as tests compare it.
func text(e Entry) string {
	v := string(e.Value)
	if e.Delete {
		v = "(deleted)"
	}
	return fmt.Sprintf("%d %s/%d %q=%s", e.Group, e.State, e.Namespace, e.Key, v)
}

type entries interface {
	Next() bool
	Entry() Entry
	Err() error
}

func drain(t testing.TB, it entries) []string {
	t.Helper()
	var out []string
	for it.Next() {
		out = append(out, text(it.Entry()))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// small is a run with every kind of thing in it.
func small(t testing.TB) Run {
	w := NewWriter(128)
	w.Own(0, 63)
	w.Put(40, "sum", 0, []byte("bee"), []byte("12"))
	w.Put(3, "window", 1000, []byte("ant"), []byte("first"))
	w.Put(3, "window", -5, []byte("ant"), nil)
	w.Delete(3, "sum", 0, []byte("cat"))
	w.Put(3, "sum", 0, []byte("ant"), []byte("old"))
	w.Put(3, "sum", 0, []byte("ant"), []byte("7"))
	w.Drop("window", 500)
	w.Drop("window", -1)
	w.Drop("window", 500)
	return finish(t, w)
}

func TestRunIsSortedAndTheLastChangeOfAKeyCounts(t *testing.T) {
	run := small(t)
	if run.Entries != 5 || run.KeyGroupFirst != 0 || run.KeyGroupLast != 63 {
		t.Errorf("run has %d entries for key groups %d to %d", run.Entries, run.KeyGroupFirst, run.KeyGroupLast)
	}
	r := open(t, run, 0, 127)
	want := []string{
		`3 sum/0 "ant"=7`,
		`3 sum/0 "cat"=(deleted)`,
		`3 window/-5 "ant"=`,
		`3 window/1000 "ant"=first`,
		`40 sum/0 "bee"=12`,
	}
	if diff := cmp.Diff(want, drain(t, r)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Drop{{"window", -1}, {"window", 500}}, r.Drops()); diff != "" {
		t.Error(diff)
	}
}

func TestReaderOfSomeKeyGroupsReadsOnlyThose(t *testing.T) {
	run := small(t)
	if diff := cmp.Diff([]string{`40 sum/0 "bee"=12`}, drain(t, open(t, run, 4, 127))); diff != "" {
		t.Error(diff)
	}
	// Damage in another key group's block is not its business.
	run.Bytes[len(run.Bytes)-1] ^= 1
	if got := drain(t, open(t, run, 0, 39)); len(got) != 4 {
		t.Errorf("got %v", got)
	}
	if _, err := Open("test", run.Bytes, 0, 127); err == nil {
		t.Error("damage in a key group that is read was not seen")
	}
}

// The bytes of version 1 never change: runs of years ago are still read.
func TestGoldenRun(t *testing.T) {
	const file = "testdata/run-v1.hex"
	got := hex.EncodeToString(small(t).Bytes)
	var lines []string
	for ; len(got) > 64; got = got[64:] {
		lines = append(lines, got[:64])
	}
	got = strings.Join(append(lines, got), "\n") + "\n"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	run := small(t)
	for i := range len(run.Bytes) * 8 {
		bad := append([]byte(nil), run.Bytes...)
		bad[i/8] ^= 1 << (i % 8)
		_, err := Open("state/1-2-0", bad, 0, 127)
		var c *CorruptError
		if !errors.As(err, &c) {
			t.Fatalf("bit %d of byte %d flipped: got error %v", i%8, i/8, err)
		}
		if c.Object != "state/1-2-0" || c.Offset < 0 || c.Offset > int64(len(bad)) || !strings.Contains(err.Error(), "state/1-2-0") {
			t.Fatalf("byte %d: error %v does not name object and offset", i/8, err)
		}
	}
}

func TestEveryTruncationIsSeen(t *testing.T) {
	run := small(t)
	for n := range run.Bytes {
		var c *CorruptError
		if _, err := Open("x", run.Bytes[:n], 0, 127); !errors.As(err, &c) || !c.Truncated {
			t.Fatalf("%d of %d bytes: %v", n, len(run.Bytes), err)
		}
	}
	if _, err := Open("x", append(run.Bytes, 0), 0, 127); err == nil {
		t.Error("a byte too many was not seen")
	}
}

// model is the state that a chain of runs stands for, kept the plain way.
type model map[string]string

func key(group int, state string, ns int64, k []byte) string {
	return fmt.Sprintf("%d %s/%d %q", group, state, ns, k)
}

func (m model) drop(first, last int, state string, ns int64) {
	for k := range m {
		var g int
		var s string
		fmt.Sscanf(k, "%d %s", &g, &s)
		if g >= first && g <= last && s == fmt.Sprintf("%s/%d", state, ns) {
			delete(m, k)
		}
	}
}

// randomRun writes changes of the key groups first to last, to the run and to
// the model: drops reach what is older only.
func randomRun(t *testing.T, r *rand.Rand, m model, groups, first, last int) Run {
	w := NewWriter(groups)
	w.Own(first, last)
	for range r.IntN(3) {
		state, ns := fmt.Sprintf("s%d", r.IntN(3)), int64(r.IntN(3)-1)
		w.Drop(state, ns)
		m.drop(first, last, state, ns)
	}
	for range r.IntN(30) {
		g := first + r.IntN(last-first+1)
		state, ns := fmt.Sprintf("s%d", r.IntN(3)), int64(r.IntN(3)-1)
		k := []byte(fmt.Sprint(r.IntN(6)))
		if r.IntN(3) == 0 {
			w.Delete(g, state, ns, k)
			delete(m, key(g, state, ns, k))
			continue
		}
		v := []byte(fmt.Sprint(r.IntN(1000)))
		w.Put(g, state, ns, k, v)
		m[key(g, state, ns, k)] = string(v)
	}
	return finish(t, w)
}

func (m model) equal(t *testing.T, seed uint64, it entries) {
	t.Helper()
	got := model{}
	for it.Next() {
		e := it.Entry()
		got[key(e.Group, e.State, e.Namespace, e.Key)] = string(e.Value)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Fatalf("seed %d: %s", seed, diff)
	}
}

// replayed is what a replay leaves behind.
func replayed(t *testing.T, readers []*Reader) model {
	t.Helper()
	got, last := model{}, 0
	changes := NewReplay(readers)
	for changes.Next() {
		e := changes.At()
		if e.Group < last {
			t.Fatalf("key group %d comes after %d", e.Group, last)
		}
		last = e.Group
		if k := key(e.Group, e.State, e.Namespace, e.Key); e.Delete {
			delete(got, k)
		} else {
			got[k] = string(e.Value)
		}
	}
	if err := changes.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

// A chain that outlived a change of parallelism holds runs of two subtasks
// side by side, then of their successor.
func TestMergeAndReplayEqualAPlainMap(t *testing.T) {
	const groups = 8
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := model{}
		var runs []Run
		add := func(first, last int) {
			if run := randomRun(t, r, m, groups, first, last); !run.Empty() {
				runs = append(runs, run)
			}
		}
		for range r.IntN(5) {
			add(0, 3)
		}
		for range r.IntN(5) {
			add(4, 7)
		}
		for range r.IntN(5) {
			add(0, 7)
		}
		readers := func() (rs []*Reader) {
			for _, run := range runs {
				rs = append(rs, open(t, run, 0, 7))
			}
			return rs
		}
		m.equal(t, seed, Merge(readers()))
		if diff := cmp.Diff(m, replayed(t, readers())); diff != "" {
			t.Fatalf("seed %d: replay: %s", seed, diff)
		}

		var chain []*pb.RunRef
		for i, run := range runs {
			if i < len(runs)-1 {
				chain = append(chain, run.Inline())
			}
		}
		delta := Run{}
		if len(runs) > 0 {
			delta = runs[len(runs)-1]
		}
		merger := Merger{Opener: &Opener{Bucket: blob.NewMemory()}, Groups: groups, Last: 7}
		full, err := merger.Merge(context.Background(), chain, delta, true)
		if err != nil {
			t.Fatal(err)
		}
		m.equal(t, seed, open(t, full, 0, 7))
		// A full run hides whatever a chain holds before it.
		m.equal(t, seed, Merge(append(readers(), open(t, full, 0, 7))))
		if diff := cmp.Diff(m, replayed(t, append(readers(), open(t, full, 0, 7)))); diff != "" {
			t.Fatalf("seed %d: replay behind a full run: %s", seed, diff)
		}
	}
}

func TestFetchChecksAgainstTheReference(t *testing.T) {
	ctx, b := context.Background(), blob.NewMemory()
	run := small(t)
	object := append([]byte("before"), run.Bytes...)
	if _, err := b.PutIfAbsent(ctx, "jobs/j/state/1-2-0", object); err != nil {
		t.Fatal(err)
	}
	ref := run.Ref("jobs/j/state/1-2-0", 6)
	if data, err := Fetch(ctx, b, ref); err != nil || string(data) != string(run.Bytes) {
		t.Fatalf("fetch: %v", err)
	}
	object[6+80] ^= 4
	if err := b.Put(ctx, "jobs/j/state/1-2-0", strings.NewReader(string(object)), -1); err != nil {
		t.Fatal(err)
	}
	var c *CorruptError
	if _, err := Fetch(ctx, b, ref); !errors.As(err, &c) || c.Object != "jobs/j/state/1-2-0+6" {
		t.Errorf("flipped bit: %v", err)
	}
	if err := b.Put(ctx, "jobs/j/state/1-2-0", strings.NewReader(string(object[:50])), -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(ctx, b, ref); !errors.As(err, &c) || !c.Truncated {
		t.Errorf("truncated: %v", err)
	}
	if _, err := Fetch(ctx, b, &pb.RunRef{Object: "gone", Length: 1}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
}

func TestWriterCostsNoAllocationPerChange(t *testing.T) {
	keys := make([][]byte, 100_000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%d", i)
	}
	n := testing.AllocsPerRun(10, func() {
		w := NewWriter(4)
		for i, k := range keys {
			w.Put(i%4, "count", 0, k, k)
		}
		finish(t, w)
	})
	if n > 1000 {
		t.Errorf("%v allocations for %d changes", n, len(keys))
	}
}

func FuzzReader(f *testing.F) {
	f.Add(small(f).Bytes)
	w := NewWriter(1)
	w.Full()
	f.Add(finish(f, w).Bytes)
	f.Fuzz(func(t *testing.T, data []byte) {
		// A reader must hold against a head whose CRC is right.
		for _, fix := range []bool{false, true} {
			if fix && len(data) >= fixedHead {
				data = append([]byte(nil), data...)
				repair(data)
			}
			r, err := Open("fuzz", data, 0, 40)
			if err != nil {
				var c *CorruptError
				if !errors.As(err, &c) || c.Offset < 0 || c.Offset > int64(len(data)) {
					t.Fatalf("%v", err)
				}
				continue
			}
			for m := Merge([]*Reader{r}); m.Next(); {
				if e := m.Entry(); e.Group > 40 || e.Delete {
					t.Fatalf("entry %+v", e)
				}
			}
		}
	})
}

// repair sets length and head CRC to what the bytes are.
func repair(data []byte) {
	copy(data, magic)
	data[4], data[5] = 1+data[4]&1, 0
	le64(data[8:], uint64(len(data)))
	head := int(uint32(data[20]) | uint32(data[21])<<8)
	if head >= fixedHead && head <= len(data) {
		data[22], data[23] = 0, 0
		le32(data[crcOffset:], headCRC(data[:head]))
	}
}

func le32(b []byte, v uint32) {
	for i := range 4 {
		b[i] = byte(v >> (8 * i))
	}
}

func le64(b []byte, v uint64) {
	le32(b, uint32(v))
	le32(b[4:], uint32(v>>32))
}

func BenchmarkWriter(b *testing.B) {
	const n = 100_000
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%07d", (i*7919)%n)
	}
	for b.Loop() {
		w := NewWriter(1024)
		for i, k := range keys {
			w.Put(i%1024, "count", 0, k, k[:8])
		}
		if _, err := w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

func BenchmarkMerge(b *testing.B) {
	const n = 100_000
	for _, runs := range []int{1, 8} {
		b.Run(fmt.Sprintf("runs=%d", runs), func(b *testing.B) {
			var data []Run
			for j := range runs {
				w := NewWriter(1024)
				for i := range n / runs {
					w.Put(i%1024, "count", 0, fmt.Appendf(nil, "key-%07d", i*runs+j), []byte("12345678"))
				}
				data = append(data, finish(b, w))
			}
			b.ReportAllocs()
			for b.Loop() {
				var rs []*Reader
				for _, run := range data {
					rs = append(rs, open(b, run, 0, 1023))
				}
				m := Merge(rs)
				for m.Next() {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
		})
	}
}
