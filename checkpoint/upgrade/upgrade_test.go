package upgrade

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/checkpoint"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// theJob has a source, an operator with four states, and a transactional sink.
func theJob() *pb.JobGraph {
	state := func(name, kind, key, value string) *pb.StateDecl {
		return &pb.StateDecl{Name: name, Kind: kind, KeySchema: key, ValueSchema: value}
	}
	return &pb.JobGraph{Name: "flights", Vertices: []*pb.Vertex{
		{Id: "v1", MaxParallelism: 128, Operators: []*pb.Operator{{Uid: "read", Name: "read", Kind: "Source", Source: true}}},
		{Id: "v2", MaxParallelism: 128, Operators: []*pb.Operator{
			{Uid: "sum", Name: "sum", Kind: "Keyed Process", States: []*pb.StateDecl{
				state("last", "value", "string", "{At time,Delay int32}"),
				state("seen", "list", "{Key string,Index uint64}", "int32"), state("seen/size", "list", "string", "uint64"),
				state("timers", "timer", "string", "[]int64"),
			}},
			{Uid: "write", Name: "write", Kind: "Sink", TransactionalSink: true},
			{Uid: "print", Name: "print", Kind: "Sink"},
		}},
	}}
}

// itsSavepoint holds something of the source, of sum and of the sink.
func itsSavepoint() *pb.Manifest {
	entry := func(kind string) []*pb.OperatorEntry { return []*pb.OperatorEntry{{Kind: kind}} }
	return &pb.Manifest{Graph: theJob(), Operators: []*pb.OperatorSnapshot{
		{Uid: "read", MaxParallelism: 128, Entries: entry(checkpoint.EntrySplit)},
		{Uid: "sum", MaxParallelism: 128, Runs: []*pb.RunRef{{Length: 1}}},
		{Uid: "sum", Subtask: 1, MaxParallelism: 128},
		{Uid: "write", MaxParallelism: 128, Entries: entry(checkpoint.EntryHandle)},
		{Uid: "print"},
	}}
}

func TestCompare(t *testing.T) {
	sum := func(g *pb.JobGraph) *pb.Operator { return g.Vertices[1].Operators[0] }
	for name, c := range map[string]struct {
		change func(*pb.JobGraph)
		// what is not unchanged: operator, operator/state with verdict.
		want    string
		refused Verdict
		says    string
	}{
		"nothing":       {func(g *pb.JobGraph) {}, "", "", ""},
		"a field added": {func(g *pb.JobGraph) { sum(g).States[0].ValueSchema = "{At time,Delay int32,From string}" }, "sum migrated, sum/last migrated", "", ""},
		"a field removed, one renamed and widened": {func(g *pb.JobGraph) { sum(g).States[0].ValueSchema = "{Late(Delay) int64}" },
			"sum migrated, sum/last migrated", "", ""},
		"a field narrowed": {func(g *pb.JobGraph) { sum(g).States[0].ValueSchema = "{At time,Delay int16}" },
			"sum incompatible, sum/last incompatible", Incompatible, `state "last" of operator "sum": value.Delay was int32 and is int16`},
		"two fields of another type": {func(g *pb.JobGraph) { sum(g).States[0].ValueSchema = "{At int64,Delay string}" },
			"sum incompatible, sum/last incompatible", Incompatible, "value.At was time and is int64, value.Delay was int32 and is string"},
		"a key widened": {func(g *pb.JobGraph) { sum(g).States[1].KeySchema = "{Key string,Index uint64}" }, "", "", ""},
		"another key": {func(g *pb.JobGraph) { sum(g).States[0].KeySchema = "int64" },
			"sum incompatible, sum/last incompatible", Incompatible, "key was string and is int64"},
		"another kind": {func(g *pb.JobGraph) { sum(g).States[0].Kind = "map" },
			"sum incompatible, sum/last incompatible", Incompatible, "kind was value and is map"},
		"a kind that nobody knew": {func(g *pb.JobGraph) { sum(g).States[0].Kind = "table" }, "", "", ""},
		"a namespace": {func(g *pb.JobGraph) { sum(g).States[0].NamespaceSchema = "int64" },
			"sum incompatible, sum/last incompatible", Incompatible, "namespace was none and is int64"},
		"a time to live": {func(g *pb.JobGraph) {
			s := sum(g).States[0]
			s.Ttl, s.TtlMs, s.ValueSchema = "event", 60_000, "{At int64,Value "+s.ValueSchema+"}"
		}, "sum migrated, sum/last migrated", "", ""},
		"a time to live, and another type": {func(g *pb.JobGraph) {
			s := sum(g).States[0]
			s.Ttl, s.TtlMs, s.ValueSchema = "processing", 60_000, "{At int64,Value string}"
		}, "sum incompatible, sum/last incompatible", Incompatible, "is string"},
		"more key groups": {func(g *pb.JobGraph) { g.Vertices[1].MaxParallelism = 256 },
			"sum incompatible", Incompatible, `operator "sum": max parallelism is 256 and its state was written with 128`},
		"a state added": {func(g *pb.JobGraph) {
			sum(g).States = append(sum(g).States, &pb.StateDecl{Name: "new", Kind: "value", KeySchema: "string", ValueSchema: "bool"})
		}, "sum migrated, sum/new added", "", ""},
		"a list removed": {func(g *pb.JobGraph) { sum(g).States = append(sum(g).States[:1], sum(g).States[3]) },
			"sum removed, sum/seen removed", Removed, `nothing in job "flights" takes up state "seen" of operator "sum"`},
		"an operator removed": {func(g *pb.JobGraph) { g.Vertices[1].Operators = g.Vertices[1].Operators[1:] },
			"sum removed, sum/last removed, sum/seen removed, sum/timers removed", Removed, `operator "sum"`},
		"what keeps nothing removed": {func(g *pb.JobGraph) { g.Vertices[1].Operators = g.Vertices[1].Operators[:2] }, "", "", ""},
		"a sink that prints":         {func(g *pb.JobGraph) { g.Vertices[1].Operators[1].TransactionalSink = false }, "write incompatible", Incompatible, "never be committed"},
		"a source that maps":         {func(g *pb.JobGraph) { g.Vertices[0].Operators[0].Source = false }, "read incompatible", Incompatible, "positions would be lost"},
		"a source more": {func(g *pb.JobGraph) {
			g.Vertices[0].Operators = append(g.Vertices[0].Operators, &pb.Operator{Uid: "more", Source: true})
		}, "more added", "", ""},
	} {
		g := theJob()
		c.change(g)
		for _, old := range []Old{{Graph: theJob(), Manifest: itsSavepoint()}, {Graph: theJob(), Running: true}} {
			r, err := Compare(old, g)
			if err != nil {
				t.Fatal(name, err)
			}
			if d := cmp.Diff(c.want, differences(r)); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			refused := r.Check(false)
			var why *Refusal
			switch {
			case c.refused == "" && refused != nil, c.refused != "" && !errors.As(refused, &why):
				t.Errorf("%s: %v", name, refused)
			case why != nil && (why.Verdict != c.refused || !strings.Contains(why.Text, c.says)):
				t.Errorf("%s: %s %v, want %s that says %q", name, why.Verdict, why, c.refused, c.says)
			}
			if allowed := r.Check(true); (allowed == nil) != (c.refused != Incompatible) {
				t.Errorf("%s: with unmatched state allowed: %v", name, allowed)
			}
		}
	}
}

func differences(r *Report) string {
	var all []string
	for _, o := range r.Operators {
		if o.Verdict != Unchanged {
			all = append(all, o.UID+" "+string(o.Verdict))
		}
		for _, s := range o.States {
			if s.Verdict != Unchanged && o.Verdict != Added {
				all = append(all, o.UID+"/"+s.Name+" "+string(s.Verdict))
			}
		}
	}
	return strings.Join(all, ", ")
}

// What is declared and holds nothing binds nobody; a job that goes on may hold
// something by the time it stops.
func TestStateThatHoldsNothing(t *testing.T) {
	g := theJob()
	g.Vertices[1].Operators[0].States[0].ValueSchema = "string"
	empty := &pb.Manifest{Graph: theJob(), Operators: []*pb.OperatorSnapshot{{Uid: "sum", MaxParallelism: 128}}}
	r, err := Compare(Old{Graph: theJob(), Manifest: empty}, g)
	if err != nil || r.Check(false) != nil {
		t.Errorf("state without an entry: %v, %v", err, r.Check(false))
	}
	r, err = Compare(Old{Graph: theJob(), Manifest: empty, Running: true}, g)
	if err != nil || r.Check(false) == nil {
		t.Errorf("state of a job that runs: %v", err)
	}
}

func TestAnotherJob(t *testing.T) {
	g := theJob()
	for _, v := range g.Vertices {
		for _, o := range v.Operators {
			o.Uid += "-of-another"
		}
	}
	r, err := Compare(Old{Graph: theJob(), Manifest: itsSavepoint()}, g)
	if err != nil || r.Matches() {
		t.Errorf("another job matches: %v", err)
	}
	one := proto.CloneOf(g)
	one.Vertices[0].Operators[0].Uid = "read"
	if r, err = Compare(Old{Graph: theJob(), Manifest: itsSavepoint()}, one); err != nil || !r.Matches() {
		t.Errorf("a job with one operator of it: %v", err)
	}
	if r, err = Compare(Old{Graph: g, Manifest: &pb.Manifest{}}, theJob()); err != nil || !r.Matches() {
		t.Errorf("a savepoint that holds nothing: %v", err)
	}
}

func TestASchemaThatCannotBeRead(t *testing.T) {
	g := theJob()
	g.Vertices[1].Operators[0].States[0].ValueSchema = "{At future}"
	if _, err := Compare(Old{Graph: theJob(), Manifest: itsSavepoint()}, g); err == nil || !strings.Contains(err.Error(), `"sum"`) {
		t.Errorf("got %v", err)
	}
}
