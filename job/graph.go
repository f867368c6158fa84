package job

import (
	"cmp"
	"slices"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// maxKeyGroups is the most that the formats can hold.
const maxKeyGroups = 1 << 15

// Validate says what makes a graph one that no cluster could run. The error is
// an *Error that names vertex or operator.
func Validate(g *pb.JobGraph) error {
	if len(g.GetVertices()) == 0 {
		return errorf(codeGraphInvalid, "job %q has no operators", g.GetName())
	}
	vertices := map[string]*pb.Vertex{}
	operators := map[string]string{}
	sources := 0
	for _, v := range g.GetVertices() {
		if v.GetId() == "" || vertices[v.GetId()] != nil {
			return errorf(codeGraphInvalid, "vertex %q has id %q, which is empty or used twice", v.GetName(), v.GetId())
		}
		if err := validateVertex(v, vertices); err != nil {
			return err
		}
		vertices[v.GetId()] = v
		for _, o := range v.GetOperators() {
			if o.GetUid() == "" {
				return errorf(codeGraphInvalid, "operator %q has no uid", o.GetName())
			}
			if other, ok := operators[o.GetUid()]; ok {
				return errorf(codeGraphInvalid, "operators %q and %q have the same uid %q: name them differently", other, o.GetName(), o.GetUid())
			}
			operators[o.GetUid()] = o.GetName()
			if o.GetSource() {
				sources++
			}
		}
	}
	if sources == 0 {
		return errorf(codeGraphInvalid, "job %q has no source", g.GetName())
	}
	return nil
}

func validateVertex(v *pb.Vertex, before map[string]*pb.Vertex) error {
	p, groups := v.GetParallelism(), v.GetMaxParallelism()
	switch {
	case len(v.GetOperators()) == 0:
		return errorf(codeGraphInvalid, "vertex %q has no operators", v.GetName())
	case p == 0:
		return errorf(codeGraphInvalid, "vertex %q has parallelism 0", v.GetName())
	case groups == 0 || groups > maxKeyGroups:
		return errorf(codeGraphInvalid, "vertex %q has max parallelism %d, must be 1 to %d", v.GetName(), groups, maxKeyGroups)
	case p > groups:
		return errorf(codeParallelismTooLarge, "vertex %q has parallelism %d and max parallelism %d: raise the latter or lower the former", v.GetName(), p, groups)
	}
	for _, in := range v.GetInputs() {
		from := before[in.GetFromVertex()]
		if from == nil {
			return errorf(codeGraphInvalid, "vertex %q takes input from %q, which does not come before it", v.GetName(), in.GetFromVertex())
		}
		if int(in.GetFromOperator()) >= len(from.GetOperators()) {
			return errorf(codeGraphInvalid, "vertex %q takes input from operator %d of %q, which has %d", v.GetName(), in.GetFromOperator(), from.GetName(), len(from.GetOperators()))
		}
		if in.GetShip() == pb.Ship_SHIP_FORWARD && from.GetParallelism() != p {
			return errorf(codeGraphInvalid, "forward edge from %q (parallelism %d) to %q (%d)", from.GetName(), from.GetParallelism(), v.GetName(), p)
		}
	}
	return nil
}

// SlotsNeeded is the highest parallelism: slot i runs subtask i of every vertex.
func SlotsNeeded(g *pb.JobGraph) int {
	n := uint32(0)
	for _, v := range g.GetVertices() {
		n = max(n, v.GetParallelism())
	}
	return int(n)
}

// subtasks is the number of tasks of a graph.
func subtasks(g *pb.JobGraph) int {
	n := 0
	for _, v := range g.GetVertices() {
		n += int(v.GetParallelism())
	}
	return n
}

// roles are the operators of a graph that the master speaks to.
type roles struct {
	sources []string // uids
	sinks   []string // uids of transactional sinks
	// sourceSlots: slots below this one hold a subtask of a source.
	sourceSlots int
	vertexOf    map[string]*pb.Vertex // by operator uid
}

func rolesOf(g *pb.JobGraph) roles {
	r := roles{vertexOf: map[string]*pb.Vertex{}}
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			r.vertexOf[o.GetUid()] = v
			if o.GetSource() {
				r.sources = append(r.sources, o.GetUid())
				r.sourceSlots = max(r.sourceSlots, int(v.GetParallelism()))
			}
			if o.GetTransactionalSink() {
				r.sinks = append(r.sinks, o.GetUid())
			}
		}
	}
	return r
}

// keyGroups is the range of key groups of a subtask, inclusive: the inverse of
// owner = group * parallelism / groups (docs/protocols.md, key groups).
func keyGroups(subtask, parallelism, groups uint32) (first, last uint32) {
	first = (subtask*groups + parallelism - 1) / parallelism
	last = ((subtask+1)*groups - 1) / parallelism
	return first, last
}

// handlesOf are what a sink's subtasks prepared, by subtask.
func handlesOf(m *pb.Manifest, uid string) []*pb.SinkHandle {
	var handles []*pb.SinkHandle
	for _, o := range m.GetOperators() {
		if o.GetUid() != uid {
			continue
		}
		for _, e := range o.GetEntries() {
			if e.GetKind() == entryHandle {
				handles = append(handles, &pb.SinkHandle{Subtask: o.GetSubtask(), Value: e.GetValue()})
			}
		}
	}
	slices.SortStableFunc(handles, func(a, b *pb.SinkHandle) int { return cmp.Compare(a.GetSubtask(), b.GetSubtask()) })
	return handles
}
