package job

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*pb.JobGraph)
		code  string
		want  string
	}{
		"sound":              {func(*pb.JobGraph) {}, "", ""},
		"empty":              {func(g *pb.JobGraph) { g.Vertices = nil }, "graph-invalid", "count"},
		"no source":          {func(g *pb.JobGraph) { g.Vertices[0].Operators[0].Source = false }, "graph-invalid", "source"},
		"one id twice":       {func(g *pb.JobGraph) { g.Vertices[1].Id = "v1" }, "graph-invalid", "sum"},
		"one uid twice":      {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].Uid = "src" }, "graph-invalid", "src"},
		"no uid":             {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].Uid = "" }, "graph-invalid", "sum"},
		"parallelism 0":      {func(g *pb.JobGraph) { g.Vertices[1].Parallelism = 0 }, "graph-invalid", "sum"},
		"too many subtasks":  {func(g *pb.JobGraph) { g.Vertices[1].Parallelism = 200 }, "parallelism-too-large", "sum"},
		"too many groups":    {func(g *pb.JobGraph) { g.Vertices[1].MaxParallelism = 1 << 20 }, "graph-invalid", "32768"},
		"unknown input":      {func(g *pb.JobGraph) { g.Vertices[1].Inputs[0].FromVertex = "v7" }, "graph-invalid", "v7"},
		"input of no output": {func(g *pb.JobGraph) { g.Vertices[1].Inputs[0].FromOperator = 3 }, "graph-invalid", "source"},
		"forward to other":   {func(g *pb.JobGraph) { g.Vertices[1].Inputs[0].Ship = pb.Ship_SHIP_FORWARD }, "graph-invalid", "forward"},
	} {
		g := testGraph(3, false)
		c.spoil(g)
		check(t, name, Validate(g), c.code, c.want)
	}
	if n := SlotsNeeded(testGraph(3, false)); n != 3 {
		t.Errorf("%d slots", n)
	}
}

func check(t *testing.T, name string, err error, code, want string) {
	t.Helper()
	var e *Error
	switch {
	case code == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case code == "":
	case !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, want):
		t.Errorf("%s: got %v, want %s naming %q", name, err, code, want)
	}
}

func TestCheckRestore(t *testing.T) {
	graph := func() *pb.JobGraph {
		g := testGraph(2, false)
		g.Vertices[1].Operators[0].States = []*pb.StateDecl{
			{Name: "total", Kind: "value", KeySchema: "string", ValueSchema: "int64"},
		}
		return g
	}
	m := &pb.Manifest{CheckpointId: 4, JobId: "old", Graph: graph(), Operators: []*pb.OperatorSnapshot{
		{Uid: "sum", MaxParallelism: 128, Runs: []*pb.RunRef{{Length: 1}}},
		{Uid: "out"}, // nothing of it was kept
	}}
	for name, c := range map[string]struct {
		change func(*pb.JobGraph)
		allow  bool
		code   string
		want   string
	}{
		"the same job":      {func(*pb.JobGraph) {}, false, "", ""},
		"other parallelism": {func(g *pb.JobGraph) { g.Vertices[1].Parallelism = 7 }, false, "", ""},
		"a sink more":       {func(g *pb.JobGraph) { g.Vertices[1].Operators[1].Uid = "other" }, false, "", ""},
		"value of its kind": {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].States[0].ValueSchema = "float64" }, true, "state-incompatible", `state "total" of operator "sum": value was int64 and is float64`},
		"operator renamed":  {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].Uid = "total" }, false, "savepoint-of-another-job", `"sum"`},
		"renamed, allowed":  {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].Uid = "total" }, true, "", ""},
		"state renamed":     {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].States[0].Name = "sums" }, false, "state-unmatched", `state "total" of operator "sum"`},
		"key of other type": {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].States[0].KeySchema = "int64" }, true, "state-incompatible", "key was string and is int64"},
		"other kind":        {func(g *pb.JobGraph) { g.Vertices[1].Operators[0].States[0].Kind = "list" }, false, "state-incompatible", "list"},
		"other key groups":  {func(g *pb.JobGraph) { g.Vertices[1].MaxParallelism = 256 }, false, "state-incompatible", "128"},
	} {
		g := graph()
		c.change(g)
		check(t, name, CheckRestore(g, m, c.allow), c.code, c.want)
	}
	two := proto.CloneOf(m)
	two.Operators = append(two.Operators, &pb.OperatorSnapshot{Uid: "gone", Entries: []*pb.OperatorEntry{{Kind: "x"}}})
	check(t, "an operator of several is gone", CheckRestore(graph(), two, false), "state-unmatched", `operator "gone"`)
}

func TestRestartDelays(t *testing.T) {
	ms := func(r *restarts, ran time.Duration) int64 {
		d, ok := r.next(ran, time.Time{})
		if !ok {
			return -1
		}
		return d.Milliseconds()
	}
	for name, c := range map[string]struct {
		s    *pb.RestartStrategy
		ran  []time.Duration
		want []int64
	}{
		"default":               {nil, make([]time.Duration, 13), []int64{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000}},
		"anew after a good run": {nil, []time.Duration{0, 0, 0, time.Minute, 0}, []int64{0, 100, 200, 0, 100}},
		"fixed":                 {&pb.RestartStrategy{Kind: pb.RestartStrategy_KIND_FIXED, InitialDelayMs: 50, MaxAttempts: 2}, make([]time.Duration, 3), []int64{50, 50, -1}},
		"none":                  {&pb.RestartStrategy{Kind: pb.RestartStrategy_KIND_NONE}, make([]time.Duration, 1), []int64{-1}},
	} {
		r := &restarts{strategy: strategyOf(c.s)}
		for i, ran := range c.ran {
			if got := ms(r, ran); got != c.want[i] {
				t.Errorf("%s: restart %d after %d ms, want %d", name, i+1, got, c.want[i])
			}
		}
	}
}

// Key groups are shared out as the runtime does: contiguous, none twice.
func TestKeyGroupsOfSubtasks(t *testing.T) {
	for _, p := range []uint32{1, 2, 3, 7, 128} {
		next := uint32(0)
		for i := range p {
			first, last := keyGroups(i, p, 128)
			if first != next || last < first {
				t.Fatalf("parallelism %d: subtask %d owns %d to %d, want from %d", p, i, first, last, next)
			}
			for g := first; g <= last; g++ {
				if g*p/128 != i {
					t.Fatalf("parallelism %d: group %d is not subtask %d's", p, g, i)
				}
			}
			next = last + 1
		}
		if next != 128 {
			t.Fatalf("parallelism %d: %d groups shared out", p, next)
		}
	}
}

func TestRestoreForPicksByKeyGroup(t *testing.T) {
	m := &pb.Manifest{Operators: []*pb.OperatorSnapshot{
		{Uid: "sum", Subtask: 0, Runs: []*pb.RunRef{{KeyGroupFirst: 0, KeyGroupLast: 63}}},
		{Uid: "sum", Subtask: 1, Runs: []*pb.RunRef{{KeyGroupFirst: 64, KeyGroupLast: 127}}},
		{Uid: "src", Entries: []*pb.OperatorEntry{{Kind: "split"}}},
		{Uid: "gone", Entries: []*pb.OperatorEntry{{Kind: "x"}}},
	}}
	got := restoreFor(m, rolesOf(testGraph(4, false)).vertexOf, []int{2, 3})
	if len(got) != 2 || got[0].GetSubtask() != 1 || got[1].GetUid() != "src" {
		t.Errorf("got %v", got)
	}
}

// What a restart cannot mend is told once, not again and again.
func TestFailuresThatEndAJobAtOnce(t *testing.T) {
	for code, want := range map[string]bool{
		"stream-not-found": true, "stream-deleted": true, "record-not-decoded": true, "snapshot-corrupt": true, "plan-differs": true,
		"output-refused":       true,
		"user-function-failed": false, "source-failed": false, "worker-exited": false, "shard-unavailable": false,
	} {
		if fatal[code] != want {
			t.Errorf("%s ends a job at once: %v, want %v", code, fatal[code], want)
		}
	}
}
