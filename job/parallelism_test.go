package job

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// threeVertices are a source, what it feeds by key, and a sink behind a
// forward edge that was forbidden to chain.
func threeVertices() *pb.JobGraph {
	g := testGraph(2, false)
	g.Config.DefaultParallelism = 2
	g.Vertices = append(g.Vertices, &pb.Vertex{
		Id: "v3", Name: "files", Parallelism: 2, MaxParallelism: 128, Operators: []*pb.Operator{{Uid: "files", Name: "to files"}},
		Inputs: []*pb.Input{{FromVertex: "v2", Ship: pb.Ship_SHIP_FORWARD}},
	})
	return g
}

func TestTarget(t *testing.T) {
	for name, c := range map[string]struct {
		inForce map[string]uint32
		all     int
		named   map[string]int
		want    map[string]uint32
		code    string
		names   string
	}{
		"all that set none":       {nil, 4, nil, map[string]uint32{"v1": 1, "v2": 4, "v3": 4}, "", ""},
		"named besides":           {nil, 4, map[string]int{"source": 3}, map[string]uint32{"v1": 3, "v2": 4, "v3": 4}, "", ""},
		"by id, uid and name":     {nil, 0, map[string]int{"v1": 2, "sum": 3, "to files": 3}, map[string]uint32{"v1": 2, "v2": 3, "v3": 3}, "", ""},
		"the rest as in force":    {map[string]uint32{"v2": 5, "v3": 5}, 0, map[string]int{"v1": 2}, map[string]uint32{"v1": 2, "v2": 5, "v3": 5}, "", ""},
		"two names of one vertex": {nil, 0, map[string]int{"sum": 3, "out": 3, "files": 3}, map[string]uint32{"v1": 1, "v2": 3, "v3": 3}, "", ""},
		"and they differ":         {nil, 0, map[string]int{"sum": 3, "out": 4}, nil, "parallelism-invalid", `"out" and "sum" are one vertex`},
		"one end of a forward":    {nil, 0, map[string]int{"sum": 3}, nil, "parallelism-invalid", `"sum" to "files"`},
		"more than key groups":    {nil, 0, map[string]int{"source": 129}, nil, "parallelism-too-large", `"source" has 128`},
		"far more":                {nil, 1 << 40, nil, nil, "parallelism-too-large", "128"},
		"none":                    {nil, 0, map[string]int{"source": 0}, nil, "parallelism-invalid", `"source"`},
		"less than none":          {nil, -2, nil, nil, "parallelism-invalid", "-2"},
		"nobody":                  {nil, 0, map[string]int{"sums": 1}, nil, "vertex-not-found", `"to files"`},
	} {
		got, err := Target(threeVertices(), c.inForce, c.all, c.named)
		check(t, name, err, c.code, c.names)
		if diff := cmp.Diff(c.want, got); c.code == "" && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	alone := threeVertices()
	for _, v := range alone.Vertices {
		v.Parallelism = 3
	}
	_, err := Target(alone, nil, 4, nil)
	check(t, "all set their own", err, "parallelism-invalid", `"source"=4`)
}

func TestWithParallelism(t *testing.T) {
	g := threeVertices()
	if got := WithParallelism(g, map[string]uint32{"v2": 2, "gone": 7}); got != g {
		t.Errorf("nothing differs, and yet it is another graph: %v", got)
	}
	got := WithParallelism(g, map[string]uint32{"v2": 6, "v3": 6})
	if want := map[string]uint32{"v1": 1, "v2": 6, "v3": 6}; !maps.Equal(want, ParallelismOf(got)) {
		t.Errorf("got %v, want %v", ParallelismOf(got), want)
	}
	if string(got.GetPlanHash()) != "hash" || g.Vertices[1].Parallelism != 2 {
		t.Errorf("plan hash %s; the submitted graph has %v", got.GetPlanHash(), ParallelismOf(g))
	}
}

// What stays at its task manager is as much as can be.
func TestArrange(t *testing.T) {
	for _, c := range []struct {
		before, granted, want string
		kept                  float64
	}{
		{"a", "a b", "a b", 0.5},
		{"a b", "a b c", "a c b", 2.0 / 3},
		{"b a", "a b", "b a", 1},
		{"a b c", "a c", "a c", 2.0 / 3},
		{"a a b b", "a b", "a b", 1},
		{"a", "b", "b", 0},
	} {
		before := strings.Fields(c.before)
		got := arrange(before, strings.Fields(c.granted))
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s to %s: got %v, want %s", c.before, c.granted, got, c.want)
		}
		if k := kept(before, got); k < c.kept-1e-9 || k > c.kept+1e-9 {
			t.Errorf("%s to %v keeps %.3f, want %.3f", c.before, got, k, c.kept)
		}
	}
}

// A new version goes on at the parallelism in force where its code says what the
// old one's said.
func TestContinued(t *testing.T) {
	plan := threeVertices() // v1 sets 1, v2 and v3 follow the default, 2
	for name, c := range map[string]struct {
		inForce map[string]uint32
		change  func(*pb.JobGraph)
		want    map[string]uint32
	}{
		"never rescaled":            {nil, func(*pb.JobGraph) {}, map[string]uint32{}},
		"rescaled":                  {map[string]uint32{"v1": 3, "v2": 4, "v3": 4}, func(*pb.JobGraph) {}, map[string]uint32{"v1": 3, "v2": 4, "v3": 4}},
		"the code sets another":     {map[string]uint32{"v1": 3, "v2": 4, "v3": 4}, func(g *pb.JobGraph) { g.Vertices[0].Parallelism = 5 }, map[string]uint32{"v2": 4, "v3": 4}},
		"the code sets that":        {map[string]uint32{"v1": 3}, func(g *pb.JobGraph) { g.Vertices[0].Parallelism = 3 }, map[string]uint32{}},
		"fewer key groups":          {map[string]uint32{"v1": 8}, func(g *pb.JobGraph) { g.Vertices[0].MaxParallelism = 4 }, map[string]uint32{"v1": 4}},
		"a vertex less":             {map[string]uint32{"v2": 4, "v3": 4}, func(g *pb.JobGraph) { g.Vertices = g.Vertices[:2] }, map[string]uint32{"v2": 4}},
		"a new vertex":              {map[string]uint32{"v1": 3, "v2": 4, "v3": 4}, added(2, 128), map[string]uint32{"v1": 3, "v2": 4, "v3": 4, "v4": 4}},
		"a new vertex with its own": {map[string]uint32{"v2": 4, "v3": 4}, added(7, 128), map[string]uint32{"v2": 4, "v3": 4}},
		"a new forward edge to it": {map[string]uint32{"v2": 4, "v3": 4}, func(g *pb.JobGraph) {
			added(2, 3)(g)
			g.Vertices[3].Inputs = []*pb.Input{{FromVertex: "v3", Ship: pb.Ship_SHIP_FORWARD}}
		}, map[string]uint32{}},
	} {
		from := &pb.Manifest{Graph: WithParallelism(plan, c.inForce), PlannedParallelism: map[string]uint32{}}
		for _, v := range plan.GetVertices() {
			if n, ok := c.inForce[v.GetId()]; ok && n != v.GetParallelism() {
				from.PlannedParallelism[v.GetId()] = v.GetParallelism()
			}
		}
		now := threeVertices()
		c.change(now)
		got := Continued(now, from)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := Validate(WithParallelism(now, got)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func added(parallelism, groups uint32) func(*pb.JobGraph) {
	return func(g *pb.JobGraph) {
		g.Vertices = append(g.Vertices, &pb.Vertex{
			Id: "v4", Name: "new", Parallelism: parallelism, MaxParallelism: groups, Operators: []*pb.Operator{{Uid: "new", Name: "new"}},
			Inputs: []*pb.Input{{FromVertex: "v1", Ship: pb.Ship_SHIP_HASH}},
		})
	}
}
