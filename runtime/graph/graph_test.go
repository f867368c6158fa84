package graph

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/runtime/batch"
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// relay is an operator of T with two inputs and a side output.
type relay[T any] struct {
	main, late operator.Output[T]
}

func (r *relay[T]) Push(b *batch.Batch[T]) error { return r.main.Push(b) }
func (r *relay[T]) Input(i int) any {
	if i > 1 {
		return nil
	}
	return r
}
func (r *relay[T]) Output(tag string) any {
	switch tag {
	case "":
		return &r.main
	case "late":
		return &r.late
	}
	return nil
}
func (*relay[T]) Open(*operator.Context) error     { return nil }
func (*relay[T]) Watermark(t int64) (int64, error) { return t, nil }
func (*relay[T]) Close() error                     { return nil }

func intType(t *testing.T) exchange.Type {
	t.Helper()
	typ, err := exchange.TypeOf[int]()
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// builder makes graphs of relays of int.
type builder struct {
	*Graph
	typ exchange.Type
}

func newBuilder(t *testing.T) *builder {
	return &builder{Graph: &Graph{Name: "job"}, typ: intType(t)}
}

func (b *builder) add(kind string, inputs ...*Edge) *Node {
	n := &Node{Kind: kind, Inputs: inputs, Source: kind == "Source", New: func() operator.Operator { return &relay[int]{} }}
	b.Nodes = append(b.Nodes, n)
	return n
}

func (b *builder) from(n *Node, ship pb.Ship) *Edge {
	e := &Edge{From: n, Ship: ship, Type: b.typ}
	if ship == pb.Ship_SHIP_HASH {
		e.Key = func(*batch.Batch[int]) {}
	}
	return e
}

const (
	forward   = pb.Ship_SHIP_FORWARD
	hash      = pb.Ship_SHIP_HASH
	rebalance = pb.Ship_SHIP_REBALANCE
)

// drawing writes a job graph in a line per vertex.
func drawing(g *pb.JobGraph) string {
	var out strings.Builder
	number := map[string]int{}
	for i, v := range g.GetVertices() {
		number[v.GetId()] = i
		fmt.Fprintf(&out, "%d: %s x%d/%d", i, v.GetName(), v.GetParallelism(), v.GetMaxParallelism())
		for _, in := range v.GetInputs() {
			fmt.Fprintf(&out, " <- %d.%d%s %s port %d", number[in.GetFromVertex()], in.GetFromOperator(), in.GetTag(), strings.ToLower(strings.TrimPrefix(in.GetShip().String(), "SHIP_")), in.GetPort())
		}
		out.WriteString("\n")
	}
	return out.String()
}

// spine is source → parse → (late → sink), key → window → map → sink, with a
// union into the last sink.
func spine(t *testing.T) *builder {
	b := newBuilder(t)
	src := b.add("Source")
	src.Name = "flights"
	parse := b.add("Map", b.from(src, forward))
	window := b.add("Window", b.from(parse, hash))
	window.Name, window.States = "delays", []*pb.StateDecl{{Name: "slices", Kind: "window"}}
	late := b.from(window, forward)
	late.Tag = "late"
	b.add("Sink", late)
	mapped := b.add("Map", b.from(window, forward))
	b.add("Sink", b.from(mapped, forward), b.from(parse, rebalance))
	return b
}

func TestPlanChains(t *testing.T) {
	b := spine(t)
	g, err := Plan(b.Graph, 4)
	if err != nil {
		t.Fatal(err)
	}
	want := `0: flights -> map-1 x4/1024
1: delays -> sink-3 -> map-4 x4/1024 <- 0.1 hash port 0
2: sink-5 x4/1024 <- 1.2 forward port 0 <- 0.1 rebalance port 0
`
	if diff := cmp.Diff(want, drawing(g)); diff != "" {
		t.Fatal(diff)
	}
	op := g.Vertices[1].Operators[0]
	if op.Uid != "delays" || op.States[0].Name != "slices" || g.Vertices[1].Inputs[0].RecordSchema != b.typ.Schema() {
		t.Fatalf("operator %v", op)
	}
	if g.Vertices[1].Id != vertexID("delays") || len(g.Vertices[1].Id) != 32 || g.Config.DefaultParallelism != 4 {
		t.Fatalf("id %q, default parallelism %d", g.Vertices[1].Id, g.Config.DefaultParallelism)
	}
}

func TestWhatKeepsOperatorsApart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *builder, second *Node)
		want   string
	}{
		"nothing":         {func(*builder, *Node) {}, "0: source-0 -> map-1 -> sink-2 x2/1024\n"},
		"no chain":        {func(_ *builder, n *Node) { n.NoChain = true }, "0: source-0 x2/1024\n1: map-1 -> sink-2 x2/1024 <- 0.0 forward port 0\n"},
		"parallelism":     {func(b *builder, n *Node) { n.Parallelism = 3 }, "0: source-0 x2/1024\n1: map-1 x3/1024 <- 0.0 rebalance port 0\n2: sink-2 x2/1024 <- 1.0 rebalance port 0\n"},
		"max parallelism": {func(b *builder, n *Node) { n.MaxParallelism = 8 }, "0: source-0 x2/1024\n1: map-1 x2/8 <- 0.0 forward port 0\n2: sink-2 x2/1024 <- 1.0 forward port 0\n"},
		"hash":            {func(b *builder, n *Node) { n.Inputs[0] = b.from(n.Inputs[0].From, hash) }, "0: source-0 x2/1024\n1: map-1 -> sink-2 x2/1024 <- 0.0 hash port 0\n"},
		"two inputs": {func(b *builder, n *Node) {
			n.Inputs = append(n.Inputs, b.from(n.Inputs[0].From, forward))
			n.Inputs[1].Port = 1
		}, "0: source-0 x2/1024\n1: map-1 -> sink-2 x2/1024 <- 0.0 forward port 0 <- 0.0 forward port 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t)
			n := b.add("Map", b.from(b.add("Source"), forward))
			b.add("Sink", b.from(n, forward))
			c.change(b, n)
			g, err := Plan(b.Graph, 2)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, drawing(g)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestBadGraphsNameTheOperator(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	for name, c := range map[string]struct {
		change func(b *builder, src, op, sink *Node)
		says   []string
	}{
		"empty":             {func(b *builder, _, _, _ *Node) { b.Nodes = nil }, []string{"no operators"}},
		"job name":          {func(b *builder, _, _, _ *Node) { b.Name = long }, []string{"job", "256"}},
		"long name":         {func(_ *builder, _, op, _ *Node) { op.Name = long }, []string{"name of operator map-1", "257 bytes"}},
		"long uid":          {func(_ *builder, _, op, _ *Node) { op.UID = long }, []string{"uid of operator map-1"}},
		"no UTF-8":          {func(_ *builder, _, op, _ *Node) { op.Name = "\xff" }, []string{"map-1", "UTF-8"}},
		"same uid":          {func(_ *builder, _, op, sink *Node) { op.UID, sink.Name = "a", "a" }, []string{`same uid "a"`, "map-1", "Sink"}},
		"state, no name":    {func(_ *builder, _, op, _ *Node) { op.States = []*pb.StateDecl{{Name: "count"}} }, []string{"map-1", `"count"`, "name it"}},
		"no kind":           {func(_ *builder, _, op, _ *Node) { op.Kind, op.Name = "", "a" }, []string{`"a"`, "kind"}},
		"no New":            {func(_ *builder, _, op, _ *Node) { op.New = nil }, []string{"map-1", "New"}},
		"New makes nothing": {func(_ *builder, _, op, _ *Node) { op.New = func() operator.Operator { return nil } }, []string{"map-1", "nil"}},
		"parallelism":       {func(_ *builder, _, op, _ *Node) { op.Parallelism, op.MaxParallelism = 9, 8 }, []string{"parallelism 9", "map-1", "8"}},
		"negative":          {func(_ *builder, _, op, _ *Node) { op.Parallelism = -1 }, []string{"parallelism -1", "map-1"}},
		"max parallelism":   {func(_ *builder, _, op, _ *Node) { op.MaxParallelism = 32769 }, []string{"32769", "map-1", "32768"}},
		"source with input": {func(b *builder, src, op, _ *Node) { src.Inputs = []*Edge{b.from(op, forward)} }, []string{"source-0"}},
		"no input":          {func(_ *builder, _, op, _ *Node) { op.Inputs = nil }, []string{"map-1", "no input"}},
		"nil input":         {func(_ *builder, _, op, _ *Node) { op.Inputs[0] = nil }, []string{"map-1", "nowhere"}},
		"stranger":          {func(b *builder, _, op, _ *Node) { op.Inputs[0].From = &Node{Name: "other"} }, []string{"map-1", `"other"`}},
		"no type":           {func(_ *builder, _, op, _ *Node) { op.Inputs[0].Type = nil }, []string{"source-0", "map-1", "record type"}},
		"no ship":           {func(_ *builder, _, op, _ *Node) { op.Inputs[0].Ship = 0 }, []string{"source-0", "map-1"}},
		"no key":            {func(_ *builder, _, op, _ *Node) { op.Inputs[0].Ship = hash }, []string{"source-0", "map-1", "key function"}},
		"other type":        {func(_ *builder, _, op, _ *Node) { op.New = func() operator.Operator { return &relay[string]{} } }, []string{"source-0", "map-1", "int"}},
		"no such tag":       {func(_ *builder, _, op, _ *Node) { op.Inputs[0].Tag = "early" }, []string{"source-0", "map-1", `"early"`}},
		"no such port":      {func(_ *builder, _, op, _ *Node) { op.Inputs[0].Port = 2 }, []string{"source-0", "map-1", "input 2"}},
		"cycle":             {func(b *builder, _, op, sink *Node) { op.Inputs = append(op.Inputs, b.from(sink, forward)) }, []string{"cycle", "map-1 -> sink-2 -> map-1"}},
		"unread source":     {func(b *builder, _, _, _ *Node) { b.add("Source") }, []string{"source-3", "not connected"}},
		"twice":             {func(b *builder, _, op, _ *Node) { op.Name = "a"; b.Nodes = append(b.Nodes, op) }, []string{"a", "twice"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t)
			src := b.add("Source")
			op := b.add("Map", b.from(src, forward))
			sink := b.add("Sink", b.from(op, forward))
			c.change(b, src, op, sink)
			g, err := Plan(b.Graph, 1)
			if err == nil {
				t.Fatalf("no error, but\n%s", drawing(g))
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	b := newBuilder(t)
	b.Warnings = []string{"of the builder"}
	b.add("Map", b.from(b.add("Source"), forward))
	g, err := Plan(b.Graph, 1)
	if err != nil {
		t.Fatal(err)
	}
	if w := g.Warnings; len(w) != 3 || w[0] != "of the builder" || !strings.HasPrefix(w[1], "source-0 keeps state") || !strings.HasPrefix(w[2], "map-1: nothing") {
		t.Fatalf("warnings %q", w)
	}
	b.Warnings = nil
	again, err := Plan(b.Graph, 1)
	if err != nil || !bytes.Equal(again.PlanHash, g.PlanHash) {
		t.Fatalf("warnings change the plan hash (%v)", err)
	}
}

func TestPlanHash(t *testing.T) {
	plan := func(b *builder, parallelism int) *pb.JobGraph {
		t.Helper()
		g, err := Plan(b.Graph, parallelism)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := plan(spine(t), 4)
	if again := plan(spine(t), 4); !proto.Equal(first, again) {
		t.Fatal("the same graph gives two plans")
	}
	if h, err := Hash(first); err != nil || !bytes.Equal(h, first.PlanHash) || len(h) != 32 {
		t.Fatalf("hash of a hashed plan: %x, %v", h, err)
	}
	if bytes.Equal(plan(spine(t), 5).PlanHash, first.PlanHash) {
		t.Fatal("another parallelism has the same hash")
	}
	other := spine(t)
	other.Nodes[1].Name = "parse"
	if bytes.Equal(plan(other, 4).PlanHash, first.PlanHash) {
		t.Fatal("another name has the same hash")
	}
}

// TestChainsAgreeWithPlan builds random graphs and checks that what a worker
// instantiates is what the plan says, ids of edges included.
func TestChainsAgreeWithPlan(t *testing.T) {
	for seed := range uint64(300) {
		b := randomGraph(t, seed)
		g, err := Plan(b.Graph, 3)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		vertices, err := Chains(b.Graph, 3)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		topology, err := exchange.NewTopology(g)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		agree(t, seed, g, vertices, topology)
	}
}

func randomGraph(t *testing.T, seed uint64) *builder {
	rng := rand.New(rand.NewPCG(seed, 2))
	b := newBuilder(t)
	b.add("Source")
	for range 1 + rng.IntN(12) {
		if rng.IntN(6) == 0 {
			b.add("Source")
			continue
		}
		var inputs []*Edge
		for i := range 1 + rng.IntN(2) {
			e := b.from(b.Nodes[rng.IntN(len(b.Nodes))], []pb.Ship{forward, forward, hash, rebalance}[rng.IntN(4)])
			e.Port = i * rng.IntN(2)
			inputs = append(inputs, e)
		}
		n := b.add("Map", inputs...)
		n.Parallelism, n.NoChain = rng.IntN(4), rng.IntN(5) == 0
	}
	for _, n := range b.Nodes {
		if n.Source {
			b.add("Sink", b.from(n, forward))
		}
	}
	rng.Shuffle(len(b.Nodes), func(i, j int) { b.Nodes[i], b.Nodes[j] = b.Nodes[j], b.Nodes[i] })
	return b
}

func agree(t *testing.T, seed uint64, g *pb.JobGraph, vertices []*Vertex, topology *exchange.Topology) {
	t.Helper()
	members, nodes, edges := 0, map[*Node]bool{}, 0
	for i, v := range vertices {
		p := g.Vertices[i]
		if v.ID != p.Id || v.Index != i || len(v.Members) != len(p.Operators) || len(v.Inputs) != len(p.Inputs) {
			t.Fatalf("seed %d: vertex %d is %+v, the plan has %v", seed, i, v, p)
		}
		for j, m := range v.Members {
			members++
			nodes[m.Node] = true
			if m.UID != p.Operators[j].Uid || m.Parent >= j || j > 0 && (m.Parent < 0 || v.Members[m.Parent].Node != m.Edge.From) {
				t.Fatalf("seed %d: member %d of vertex %d: %+v", seed, j, i, m)
			}
		}
		for j, in := range v.Inputs {
			e := topology.Edges[in.ID]
			if in.From >= i || e.From != in.From || e.To != i || e.Port != in.Edge.Port || e.Ship != p.Inputs[j].Ship || in.Ship != e.Ship || e.FromOperator != in.FromMember ||
				vertices[in.From].Members[in.FromMember].Node != in.Edge.From {
				t.Fatalf("seed %d: input %d of vertex %d is %+v, edge %+v", seed, j, i, in, e)
			}
		}
		for _, o := range v.Outputs {
			edges++
			e := topology.Edges[o.ID]
			if e.From != i || e.To != o.To || e.FromOperator != o.Member || v.Members[o.Member].Node != o.Edge.From {
				t.Fatalf("seed %d: output of vertex %d is %+v, edge %+v", seed, i, o, e)
			}
		}
	}
	if edges != len(topology.Edges) || members != len(nodes) {
		t.Fatalf("seed %d: %d outputs of %d edges, %d members of %d nodes", seed, edges, len(topology.Edges), members, len(nodes))
	}
}
