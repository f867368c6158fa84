package job

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter says which parallelism a job may have. The submitted graph and
// its plan hash never change; the parallelism in force is a map beside them.

// WithParallelism is a submitted graph with the parallelism in force, by vertex id.
// Its plan hash stays the submitted graph's. Ids that it does not have are left
// out; without any of its own, g itself is returned.
func WithParallelism(g *pb.JobGraph, parallelism map[string]uint32) *pb.JobGraph {
	other := func(v *pb.Vertex) bool {
		n, ok := parallelism[v.GetId()]
		return ok && n > 0 && n != v.GetParallelism()
	}
	if !slices.ContainsFunc(g.GetVertices(), other) {
		return g
	}
	out := proto.CloneOf(g)
	for _, v := range out.GetVertices() {
		if other(v) {
			v.Parallelism = parallelism[v.GetId()]
		}
	}
	return out
}

// ParallelismOf is the parallelism of every vertex of a graph by id.
func ParallelismOf(g *pb.JobGraph) map[string]uint32 {
	p := make(map[string]uint32, len(g.GetVertices()))
	for _, v := range g.GetVertices() {
		p[v.GetId()] = v.GetParallelism()
	}
	return p
}

// Target is the parallelism of every vertex that a user asks for. all, unless
// it is 0, is for the vertices that set none of their own when the job was
// planned; named goes by what VertexNamed finds, and before all. What neither
// names stays as it is in force. The error is an *Error that names what cannot be
// and the remedy.
func Target(submitted *pb.JobGraph, inForce map[string]uint32, all int, named map[string]int) (map[string]uint32, error) {
	if all < 0 {
		return nil, errorf(codeParallelismInvalid, "parallelism %d: it must be at least 1", all)
	}
	target := ParallelismOf(WithParallelism(submitted, inForce))
	if all > 0 {
		if err := setAll(submitted, target, all); err != nil {
			return nil, err
		}
	}
	by := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		v, err := VertexNamed(submitted, name)
		if err != nil {
			return nil, err
		}
		n := named[name]
		if n < 1 {
			return nil, errorf(codeParallelismInvalid, "parallelism %d of %q: it must be at least 1", n, name)
		}
		if other, ok := by[v.GetId()]; ok && uint32(n) != target[v.GetId()] {
			return nil, errorf(codeParallelismInvalid, "%q and %q are one vertex, %q, and cannot have parallelism %d and %d: give one",
				other, name, v.GetName(), target[v.GetId()], n)
		}
		by[v.GetId()], target[v.GetId()] = name, uint32(min(n, maxKeyGroups+1))
	}
	return target, checkTarget(submitted, target)
}

// Continued is the parallelism with which a job goes on from a checkpoint whose
// user asks for none, by vertex id, where it is not the plan's. The plan is to be
// made with the default of the checkpoint's job. A vertex of which the code says
// what it said keeps what was in force; one that is new and follows the default
// takes what all that do so had, if that was one number.
func Continued(plan *pb.JobGraph, from *pb.Manifest) map[string]uint32 {
	was := ParallelismOf(from.GetGraph())
	planned := maps.Clone(was)
	maps.Copy(planned, from.GetPlannedParallelism())
	byDefault := plan.GetConfig().GetDefaultParallelism()
	follows := func(v *pb.Vertex, n uint32) bool {
		return byDefault > 0 && n == byDefault && v.GetMaxParallelism() > 1
	}
	common := map[uint32]bool{}
	for _, v := range from.GetGraph().GetVertices() {
		if follows(v, planned[v.GetId()]) {
			common[v.GetParallelism()] = true
		}
	}
	target := ParallelismOf(plan)
	for _, v := range plan.GetVertices() {
		id := v.GetId()
		switch before, ok := planned[id]; {
		case ok && before == v.GetParallelism():
			target[id] = min(was[id], v.GetMaxParallelism())
		case !ok && follows(v, v.GetParallelism()) && len(common) == 1:
			for n := range common {
				target[id] = min(n, v.GetMaxParallelism())
			}
		}
	}
	levelForward(plan, target)
	planNow := ParallelismOf(plan)
	maps.DeleteFunc(target, func(id string, n uint32) bool { return n == planNow[id] })
	return target
}

// levelForward gives both ends of a forward edge that would differ the plan's
// parallelism, which is one.
func levelForward(plan *pb.JobGraph, target map[string]uint32) {
	planned := ParallelismOf(plan)
	for again := true; again; {
		again = false
		for _, v := range plan.GetVertices() {
			for _, in := range v.GetInputs() {
				from, to := in.GetFromVertex(), v.GetId()
				if in.GetShip() == pb.Ship_SHIP_FORWARD && target[from] != target[to] {
					target[from], target[to], again = planned[from], planned[to], true
				}
			}
		}
	}
}

// setAll rescales the vertices that follow the job's default parallelism.
func setAll(g *pb.JobGraph, target map[string]uint32, n int) error {
	follows := 0
	for _, v := range g.GetVertices() {
		byDefault := g.GetConfig().GetDefaultParallelism()
		if byDefault > 0 && v.GetParallelism() != byDefault || v.GetMaxParallelism() == 1 {
			continue
		}
		target[v.GetId()] = uint32(min(n, maxKeyGroups+1))
		follows++
	}
	if follows == 0 {
		return errorf(codeParallelismInvalid, "every operator of job %q sets a parallelism of its own: name those to change, such as %q=%d",
			g.GetName(), g.GetVertices()[0].GetName(), n)
	}
	return nil
}

func checkTarget(g *pb.JobGraph, target map[string]uint32) error {
	byID := map[string]*pb.Vertex{}
	for _, v := range g.GetVertices() {
		byID[v.GetId()] = v
		if n := target[v.GetId()]; n > v.GetMaxParallelism() {
			return errorf(codeParallelismTooLarge, "vertex %q has %d key groups, so its parallelism is at most that: the number of key groups is set when a job is first started",
				v.GetName(), v.GetMaxParallelism())
		}
	}
	for _, v := range g.GetVertices() {
		for _, in := range v.GetInputs() {
			from := byID[in.GetFromVertex()]
			if in.GetShip() != pb.Ship_SHIP_FORWARD || target[from.GetId()] == target[v.GetId()] {
				continue
			}
			return errorf(codeParallelismInvalid, "a forward edge joins %q to %q, which need one parallelism and would have %d and %d: give both the same",
				from.GetName(), v.GetName(), target[from.GetId()], target[v.GetId()])
		}
	}
	return nil
}

// VertexNamed finds what a user calls a vertex: by its id, its name, the uid of an
// operator or the name of one, in this order. The error is an *Error that names
// what there is.
func VertexNamed(g *pb.JobGraph, name string) (*pb.Vertex, error) {
	matches := []func(*pb.Vertex) bool{
		func(v *pb.Vertex) bool { return v.GetId() == strings.ToLower(name) },
		func(v *pb.Vertex) bool { return v.GetName() == name },
		func(v *pb.Vertex) bool {
			return slices.ContainsFunc(v.GetOperators(), func(o *pb.Operator) bool { return o.GetUid() == name })
		},
		func(v *pb.Vertex) bool {
			return slices.ContainsFunc(v.GetOperators(), func(o *pb.Operator) bool { return o.GetName() == name })
		},
	}
	for _, match := range matches {
		var found []*pb.Vertex
		for _, v := range g.GetVertices() {
			if match(v) {
				found = append(found, v)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			ids := make([]string, len(found))
			for i, v := range found {
				ids[i] = v.GetId()
			}
			return nil, errorf(codeParallelismInvalid, "%q means %d vertices: give the id of one (%s)", name, len(found), strings.Join(ids, ", "))
		}
	}
	var names []string
	for _, v := range g.GetVertices() {
		for _, o := range v.GetOperators() {
			names = append(names, fmt.Sprintf("%q", o.GetName()))
		}
	}
	return nil, errorf(codeVertexNotFound, "job %q has no vertex or operator %q; its operators are %s", g.GetName(), name, strings.Join(names, ", "))
}

// arrange orders granted slots so that task managers which held slots before
// keep as much of their key groups as they can: those keep their order, and each
// other is put where it costs them least. Slots of one task manager stay
// neighbours.
func arrange(before, granted []string) []string {
	count := map[string]int{}
	for _, tm := range granted {
		count[tm]++
	}
	var order []string
	for _, tm := range before {
		if count[tm] > 0 && !slices.Contains(order, tm) {
			order = append(order, tm)
		}
	}
	list := func(order []string) (slots []string) {
		for _, tm := range order {
			slots = append(slots, slices.Repeat([]string{tm}, count[tm])...)
		}
		return slots
	}
	for _, tm := range granted {
		if slices.Contains(order, tm) {
			continue
		}
		best, most := order, -1.0
		for i := len(order); i >= 0; i-- { // of equals, behind those that stay
			o := slices.Insert(slices.Clone(order), i, tm)
			if k := kept(before, list(o)); k > most+1e-9 {
				best, most = o, k
			}
		}
		order = best
	}
	return list(order)
}

// kept is the share of the key space that stays at its task manager.
func kept(before, after []string) (share float64) {
	for i, tm := range before {
		for j, to := range after {
			if tm != to {
				continue
			}
			first := max(float64(i)/float64(len(before)), float64(j)/float64(len(after)))
			last := min(float64(i+1)/float64(len(before)), float64(j+1)/float64(len(after)))
			share += max(0, last-first)
		}
	}
	return share
}
