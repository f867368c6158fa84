package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/blob"
	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inflight"
	"github.com/millrace/millrace/checkpoint/manifest"
	"github.com/millrace/millrace/checkpoint/schema"
	"github.com/millrace/millrace/checkpoint/snapshot"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

const (
	groups = 16
	folder = "savepoints/job-3-17"
	minute = 60_000
)

func text(s string) []byte    { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }
func i64(n int64) []byte      { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
func count(n int) []byte      { return binary.AppendUvarint(nil, uint64(n)+1) }
func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

// groupOf is where the entries of an airport lie.
func groupOf(airport string) int {
	hash, err := schema.NewHasher(&schema.Node{Kind: schema.String}).Hash(text(airport))
	if err != nil {
		panic(err)
	}
	return schema.GroupOf(hash, groups)
}

func declared() []*pb.StateDecl {
	return []*pb.StateDecl{
		{Name: "last", Kind: "value", KeySchema: "string", ValueSchema: "{At time,Delay int32,Tail(Plane) *string}"},
		{Name: "seen", Kind: "list", KeySchema: "{Key string,Index uint64}", ValueSchema: "int64"},
		{Name: "seen/size", Kind: "list", KeySchema: "string", ValueSchema: "uint64"},
		{Name: "by-day", Kind: "map", KeySchema: "{Key string,Of int64}", ValueSchema: "proto(x.Y)"},
		{Name: "by-day/size", Kind: "map", KeySchema: "string", ValueSchema: "uint64"},
		{Name: "timers", Kind: "timer", KeySchema: "string", ValueSchema: "[]int64"},
		{Name: "window", Kind: "window", KeySchema: "string", NamespaceSchema: "int64", ValueSchema: "float64"},
		{Name: "old", KeySchema: "{Key string,Index uint64}", ValueSchema: "bool"}, // of a version that said no kinds
	}
}

// rig is a savepoint of two subtasks. The first has a chain of two runs in an
// object each, the second one inline.
type rig struct {
	t      *testing.T
	bucket blob.Bucket
	m      *pb.Manifest
	key    string
}

// write makes a run of a subtask's key groups out of what put collects.
func (r *rig) write(object string, first, last int, full bool, put func(w *snapshot.Writer)) *pb.RunRef {
	r.t.Helper()
	w := snapshot.NewWriter(groups)
	w.Own(first, last)
	if full {
		w.Full()
	}
	put(w)
	run, err := w.Finish()
	if err != nil {
		r.t.Fatal(err)
	}
	if object == "" {
		return run.Inline()
	}
	if err := r.bucket.Put(r.t.Context(), object, bytes.NewReader(append([]byte("before"), run.Bytes...)), -1); err != nil {
		r.t.Fatal(err)
	}
	return run.Ref(object, 6)
}

func last(delay int32, tail string) []byte {
	v := join(i64(1_700_000_000), []byte{0, 0, 0, 0}, binary.LittleEndian.AppendUint32(nil, uint32(delay)))
	if tail == "" {
		return append(v, 0)
	}
	return join(v, []byte{1}, text(tail))
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, bucket: blob.NewMemory(), key: checkpoint.SavepointManifest(folder)}
	airports := map[bool][]string{} // by whether the first subtask has them
	for _, a := range []string{"EWR", "JFK", "LGA", "ATL", "ORD", "DTW"} {
		airports[groupOf(a) < 8] = append(airports[groupOf(a) < 8], a)
	}
	if len(airports[true]) < 2 || len(airports[false]) < 1 {
		t.Fatalf("airports of the subtasks: %v", airports)
	}
	a, b, c := airports[true][0], airports[true][1], airports[false][0]
	older := r.write(folder+"/state-0", 0, 7, true, func(w *snapshot.Writer) {
		w.Put(groupOf(a), "last", 0, text(a), last(1, ""))
		w.Put(groupOf(b), "last", 0, text(b), last(2, "N1"))
		w.Put(groupOf(a), "window", 5*minute, text(a), binary.LittleEndian.AppendUint64(nil, math.Float64bits(1.5)))
	})
	newer := r.write(folder+"/state-1", 0, 7, false, func(w *snapshot.Writer) {
		w.Put(groupOf(a), "last", 0, text(a), last(-3, "N2"))
		w.Delete(groupOf(b), "last", 0, text(b))
		w.Drop("window", 5*minute)
		w.Put(groupOf(a), "window", 6*minute, text(a), binary.LittleEndian.AppendUint64(nil, math.Float64bits(2.5)))
		w.Put(groupOf(a), "timers", 0, text(a), join(count(2), i64(7*minute), i64(8*minute)))
	})
	inline := r.write("", 8, 15, true, func(w *snapshot.Writer) {
		for i := range int64(2) {
			w.Put(groupOf(c), "seen", 0, join(text(c), i64(i)), i64(10*i))
		}
		w.Put(groupOf(c), "seen/size", 0, text(c), i64(2))
		w.Put(groupOf(c), "by-day", 0, join(text(c), i64(-1)), join(count(2), []byte{8, 1}))
		w.Put(groupOf(c), "by-day/size", 0, text(c), i64(1))
		w.Put(groupOf(c), "old", 0, join(text(c), i64(9)), []byte{1})
	})
	split, err := proto.Marshal(&pb.Split{Id: "flights/shard-0", Position: []byte("4711"), Watermark: 5 * minute})
	if err != nil {
		t.Fatal(err)
	}
	other, err := proto.Marshal(&pb.Split{Id: "flights/shard-1", Position: []byte{0, 1}, Finished: true, Watermark: math.MinInt64})
	if err != nil {
		t.Fatal(err)
	}
	r.m = &pb.Manifest{
		JobId: "job", Lineage: "first", Epoch: 3, CheckpointId: 17, TriggeredMs: 1000, CompletedMs: 1100, Savepoint: true, PlanHash: []byte{1, 2},
		Graph: &pb.JobGraph{Name: "flights", Vertices: []*pb.Vertex{
			{MaxParallelism: groups, Operators: []*pb.Operator{{Uid: "read", Name: "read", Kind: "Source"}}},
			{MaxParallelism: groups, Operators: []*pb.Operator{
				{Uid: "sum", Name: "sum", Kind: "Keyed Process", States: declared()}, {Uid: "write", Name: "write", Kind: "Sink"},
			}},
		}},
		Operators: []*pb.OperatorSnapshot{
			{Uid: "read", Parallelism: 1, MaxParallelism: groups, Entries: []*pb.OperatorEntry{
				{Kind: "split", Key: "flights/shard-0", Value: split}, {Kind: "split", Key: "flights/shard-1", Value: other},
			}},
			{Uid: "sum", Subtask: 1, Parallelism: 2, MaxParallelism: groups, Runs: []*pb.RunRef{inline}, StateBytes: 7,
				Entries: []*pb.OperatorEntry{{Kind: "watermark", Key: "in", Value: i64(4 * minute)}}},
			{Uid: "sum", Parallelism: 2, MaxParallelism: groups, Runs: []*pb.RunRef{older, newer}, StateBytes: 9,
				Entries: []*pb.OperatorEntry{{Kind: "watermark", Key: "in", Value: i64(3 * minute)}}},
			{Uid: "write", Parallelism: 1, MaxParallelism: groups, Entries: []*pb.OperatorEntry{{Kind: "handle", Value: []byte("h")}}},
		},
	}
	r.save()
	return r
}

func (r *rig) save() {
	r.t.Helper()
	if err := manifest.Write(r.t.Context(), r.bucket, r.key, r.m); err != nil {
		r.t.Fatal(err)
	}
}

// rows prints what a query gives.
func (r *rig) rows(q Query) []string {
	r.t.Helper()
	var got []string
	err := Rows(r.t.Context(), r.bucket, r.m, q, func(row *Row) error {
		b, err := json.Marshal(row)
		if err != nil {
			return err
		}
		var any map[string]any
		if err := json.Unmarshal(b, &any); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", row.State, row.Key)
		if row.At != nil && len(row.At) > 0 {
			line += fmt.Sprintf(" [%s]", row.At)
		}
		if row.Namespace != nil {
			line += fmt.Sprintf(" @%d %s", *row.Namespace, row.Time)
		}
		got = append(got, fmt.Sprintf("%s = %s", line, row.Value))
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func TestRowsAreWhatWouldBeRestored(t *testing.T) {
	r := newRig(t)
	all := r.rows(Query{Operator: "sum"})
	a := strings.Fields(all[0])[1]          // the first subtask's
	c := strings.Fields(all[len(all)-1])[1] // the second one's
	at := time.Unix(1_700_000_000, 0).UTC().Format(time.RFC3339)
	want := []string{
		fmt.Sprintf(`last %s = {"At":%q,"Delay":-3,"Tail":"N2"}`, a, at),
		fmt.Sprintf(`timers %s = ["1970-01-01T00:07:00Z","1970-01-01T00:08:00Z"]`, a),
		fmt.Sprintf(`window %s @360000 1970-01-01T00:06:00Z = 2.5`, a),
		fmt.Sprintf(`by-day %s [-1] = "0x0801"`, c),
		fmt.Sprintf(`old %s [9] = true`, c),
		fmt.Sprintf(`seen %s [0] = 0`, c),
		fmt.Sprintf(`seen %s [1] = 10`, c),
	}
	if d := cmp.Diff(want, all); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff(want[2:3], r.rows(Query{Operator: "sum", State: "window"})); d != "" {
		t.Error(d)
	}
	key := strings.Trim(c, `"`)
	if d := cmp.Diff(want[3:], r.rows(Query{Operator: "sum", Key: &key})); d != "" {
		t.Error(d)
	}
	if got := r.rows(Query{Operator: "sum", State: "seen/size"}); len(got) != 1 || !strings.HasSuffix(got[0], "= 2") {
		t.Errorf("sizes that are asked for: %v", got)
	}
	n := 0
	if err := Rows(t.Context(), r.bucket, r.m, Query{Operator: "sum"}, func(*Row) error { n++; return ErrEnough }); err != nil || n != 1 {
		t.Errorf("enough after the first row: %d rows, %v", n, err)
	}
}

func TestSelect(t *testing.T) {
	m := newRig(t).m
	m.Graph.Vertices[1].Operators[0].Name = "sum/of delays"
	for text, want := range map[string]string{"sum": "sum|", "sum/last": "sum|last", "sum/seen/size": "sum|seen/size", "sum/of delays/last": "sum/of delays|last", "sum/of delays": "sum/of delays|"} {
		o, s, err := Select(m, text)
		if got := o + "|" + s; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	var none *NotFoundError
	for text, want := range map[string]string{"sums": `"sum/of delays"`, "sum/lost": `"last"`} {
		if _, _, err := Select(m, text); !errors.As(err, &none) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %s", text, err, want)
		}
	}
}

func TestSummary(t *testing.T) {
	r := newRig(t)
	s, err := Summarize(folder, r.m)
	if err != nil {
		t.Fatal(err)
	}
	if s.JobName != "flights" || s.Lineage != "first" || s.Epoch != 3 || s.Objects != 2 || len(s.Operators) != 3 || s.Entries != 13 {
		t.Errorf("summary %+v", s)
	}
	five := int64(5 * minute)
	want := []Split{{ID: "flights/shard-0", Position: "4711", Watermark: &five}, {ID: "flights/shard-1", Position: "0x0001", Finished: true}}
	if d := cmp.Diff(want, s.Operators[0].Splits); d != "" {
		t.Error(d)
	}
	sum := s.Operators[1]
	if d := cmp.Diff(State{Name: "by-day", Kind: "map", Key: "string", At: "int64", Value: "proto(x.Y)"}, sum.States[2]); d != "" {
		t.Error(d)
	}
	if len(sum.States) != 6 || len(sum.Subtasks) != 2 || sum.Subtasks[1].Runs != 2 || sum.Watermark == nil || *sum.Watermark != 3*minute {
		t.Errorf("operator %+v", sum)
	}
	if s.Operators[2].Handles != 1 {
		t.Errorf("sink %+v", s.Operators[2])
	}
}

func (r *rig) verify() *Report {
	r.t.Helper()
	rep, err := Verify(r.t.Context(), r.bucket, r.key, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestVerifyASoundSavepoint(t *testing.T) {
	r := newRig(t)
	rep := r.verify()
	if len(rep.Problems) > 0 || rep.Runs != 3 || rep.Objects != 2 || rep.Entries != 13 || rep.Path != folder {
		t.Errorf("report %+v", rep)
	}
}

// flights are records on their way to the first subtask of sum.
func flights(delays ...int32) *pb.OperatorEntry {
	head := inflight.Records{Parallelism: 2, Schema: "{From string,Delay int32}"}
	b := binary.LittleEndian.AppendUint32(head.AppendHeader(nil), uint32(len(delays)))
	for range delays {
		b = append(b, i64(minute)...)
	}
	for _, d := range delays {
		b = binary.LittleEndian.AppendUint32(append(b, text("EWR")...), uint32(d))
	}
	return &pb.OperatorEntry{Kind: checkpoint.EntryInFlight, Key: "0", Value: b}
}

// A report says how far everything could be checked.
func TestVerifySaysHowFarItSees(t *testing.T) {
	r := newRig(t)
	r.m.Operators[2].Entries = append(r.m.Operators[2].Entries, flights(3, 4, 5), flights(6))
	r.m.Graph.Vertices[1].Operators[0].States[0].ValueSchema = "{At time,Delay int32,Tail(Plane) *binary(x.Tail)}"
	r.save()
	rep := r.verify()
	want := []Checked{
		{Operator: "read", What: "split", Kind: "entry", Count: 2, How: Decoded},
		{Operator: "sum", What: "by-day", Kind: "state", Count: 1, How: Framed, Opaque: []string{"proto(x.Y)"}},
		{Operator: "sum", What: "by-day/size", Kind: "state", Count: 1, How: Decoded},
		{Operator: "sum", What: "last", Kind: "state", Count: 4, How: Framed, Opaque: []string{"binary(x.Tail)"}},
		{Operator: "sum", What: "old", Kind: "state", Count: 1, How: Decoded},
		{Operator: "sum", What: "seen", Kind: "state", Count: 2, How: Decoded},
		{Operator: "sum", What: "seen/size", Kind: "state", Count: 1, How: Decoded},
		{Operator: "sum", What: "timers", Kind: "state", Count: 1, How: Decoded},
		{Operator: "sum", What: "window", Kind: "state", Count: 2, How: Decoded},
		{Operator: "sum", What: "in-flight", Kind: "entry", Count: 4, How: Decoded},
		{Operator: "sum", What: "watermark", Kind: "entry", Count: 2, How: Decoded},
		{Operator: "write", What: "handle", Kind: "entry", Count: 1, How: Checksum},
	}
	if d := cmp.Diff(want, rep.Checked); d != "" || len(rep.Problems) > 0 {
		t.Errorf("%s\nproblems %+v", d, rep.Problems)
	}
}

// Whatever bit flips in whatever object, Verify names the object, and an offset
// in it.
func TestVerifyNamesWhatIsDamaged(t *testing.T) {
	synctest.Test(t, verifyNamesWhatIsDamaged) // bytes that do not check are read twice, with a pause
}

func verifyNamesWhatIsDamaged(t *testing.T) {
	r := newRig(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, object := range []string{folder + "/state-0", folder + "/state-1", r.key} {
		whole, _, err := r.bucket.Get(t.Context(), object, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		damage := func(what string, code string, change func([]byte) []byte) {
			bad := change(bytes.Clone(whole))
			if err := r.bucket.Put(t.Context(), object, bytes.NewReader(bad), -1); err != nil {
				t.Fatal(err)
			}
			rep, err := Verify(t.Context(), r.bucket, r.key, nil)
			if err != nil || len(rep.Problems) != 1 {
				t.Errorf("seed %d: %s of %s: %v, %+v", seed, what, object, err, rep)
				return
			}
			p := rep.Problems[0]
			if p.Object != object || p.Offset < 0 || p.Offset > int64(len(whole)) || object != r.key && (p.Code != code || p.Offset < 6 || p.Operator != "sum") {
				t.Errorf("seed %d: %s of %s: %+v", seed, what, object, p)
			}
		}
		for range 300 {
			bit := 48 + rng.IntN(8*len(whole)-48)
			if object == r.key {
				bit = rng.IntN(8 * len(whole))
			}
			damage(fmt.Sprintf("bit %d", bit), "snapshot-corrupt", func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
		}
		damage("the end", "snapshot-truncated", func(b []byte) []byte { return b[:len(b)-1] })
		if err := r.bucket.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		if object != r.key {
			if p := r.verify().Problems; len(p) != 1 || p[0].Code != "snapshot-missing" || p[0].Object != object {
				t.Errorf("%s is gone: %+v", object, p)
			}
		}
		if err := r.bucket.Put(t.Context(), object, bytes.NewReader(whole), -1); err != nil {
			t.Fatal(err)
		}
	}
}

// What a faulty writer wrote has a checksum that is right: only its schema and
// its hash tell.
func TestVerifyReadsEveryEntry(t *testing.T) {
	for what, c := range map[string]struct {
		put  func(w *snapshot.Writer)
		says string
	}{
		"a value cut off":   {func(w *snapshot.Writer) { w.Put(groupOf("EWR"), "last", 0, text("EWR"), last(1, "")[:5]) }, "is no {At time"},
		"a value with more": {func(w *snapshot.Writer) { w.Put(groupOf("EWR"), "last", 0, text("EWR"), append(last(1, ""), 0)) }, "1 bytes follow"},
		"a key with more":   {func(w *snapshot.Writer) { w.Put(groupOf("EWR"), "last", 0, append(text("EWR"), 0), last(1, "")) }, "1 bytes follow"},
		"a deleted key cut": {func(w *snapshot.Writer) { w.Delete(groupOf("EWR"), "last", 0, text("EWR")[:2]) }, "is no string"},
		"another key group": {func(w *snapshot.Writer) { w.Put((groupOf("EWR")+1)%groups, "last", 0, text("EWR"), last(1, "")) }, "its hash says"},
		"an element elsewhere": {func(w *snapshot.Writer) {
			w.Put((groupOf("EWR")+1)%groups, "seen", 0, join(text("EWR"), i64(0)), i64(1))
		}, "its hash says"},
		"no protobuf": {func(w *snapshot.Writer) {
			w.Put(groupOf("EWR"), "by-day", 0, join(text("EWR"), i64(1)), join(count(2), []byte{8, 0x80}))
		}, "no protobuf message"},
		"nobody's state": {func(w *snapshot.Writer) { w.Put(groupOf("EWR"), "lost", 0, text("EWR"), i64(1)) }, `"lost" is not declared`},
	} {
		r := newRig(t)
		r.m.Operators = r.m.Operators[:1]
		r.m.Operators = append(r.m.Operators, &pb.OperatorSnapshot{Uid: "sum", Parallelism: 1, MaxParallelism: groups,
			Runs: []*pb.RunRef{r.write("", 0, groups-1, true, c.put)}})
		r.save()
		if p := r.verify().Problems; len(p) != 1 || !strings.Contains(p[0].Detail, c.says) || p[0].Code != "snapshot-corrupt" || p[0].Offset < 60 {
			t.Errorf("%s: %+v, want a problem that says %q", what, p, c.says)
		}
	}
}

func TestVerifyReadsTheManifestItself(t *testing.T) {
	for what, c := range map[string]struct {
		change func(m *pb.Manifest)
		says   string
	}{
		"a subtask twice":     {func(m *pb.Manifest) { m.Operators[2].Subtask = 1; m.Operators[2].Runs = nil }, "there twice"},
		"a subtask too many":  {func(m *pb.Manifest) { m.Operators[3].Subtask = 5 }, "parallelism is 1"},
		"a split twice":       {func(m *pb.Manifest) { m.Operators[0].Entries[1] = m.Operators[0].Entries[0] }, "there twice"},
		"half a split":        {func(m *pb.Manifest) { m.Operators[0].Entries[1].Value = []byte{9, 9} }, "flights/shard-1"},
		"a watermark cut off": {func(m *pb.Manifest) { m.Operators[1].Entries[0].Value = []byte{1} }, "has 1 bytes"},
		"records cut off": {func(m *pb.Manifest) {
			e := flights(1)
			e.Value = e.Value[:len(e.Value)-1]
			m.Operators[2].Entries = append(m.Operators[2].Entries, e)
		}, "record 0 is no {From"},
		"records of nobody": {func(m *pb.Manifest) {
			e := flights(1)
			e.Value[2] = 2
			m.Operators[2].Entries = append(m.Operators[2].Entries, e)
		}, "subtask 2 of 2"},
		"other key groups":       {func(m *pb.Manifest) { m.Operators[1].Runs[0].KeyGroupFirst = 1 }, "speaks for the key groups 8 to 15, its manifest says 1 to 15"},
		"no key groups":          {func(m *pb.Manifest) { m.Operators[1].Runs[0].KeyGroupFirst = 99 }, "speaks for the key groups 99 to 15 of 16"},
		"other entries":          {func(m *pb.Manifest) { m.Operators[1].Runs[0].Entries++ }, "its manifest says 7"},
		"what others own":        {func(m *pb.Manifest) { m.Operators[2].Runs[0].Object = "jobs/j/state/1-1-0" }, "not in its folder"},
		"a schema of the future": {func(m *pb.Manifest) { m.Graph.Vertices[1].Operators[0].States[5].ValueSchema = "tomorrow" }, "tomorrow"},
	} {
		r := newRig(t)
		c.change(r.m)
		r.save()
		p := r.verify().Problems
		if len(p) == 0 || !strings.Contains(fmt.Sprint(p), c.says) {
			t.Errorf("%s: %+v, want a problem that says %q", what, p, c.says)
		}
	}
}

func TestABucketThatDoesNotAnswerIsNoDamage(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rep, err := Verify(ctx, r.bucket, r.key, nil); err == nil {
		t.Errorf("cancelled: %+v", rep)
	}
}
