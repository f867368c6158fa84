package graph

import (
	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Vertex is a chain of operators that run together in one task, as a worker
// instantiates it. Vertices, their members, inputs and outputs are in the
// order of the JobGraph that Plan makes.
type Vertex struct {
	// Index of the vertex in the job graph.
	Index          int
	ID             string
	Name           string
	Parallelism    int
	MaxParallelism int
	// Members are the chain's operators; the first is the one that external
	// inputs reach, every other comes after its parent.
	Members []Member
	Inputs  []Input
	// Outputs are the edges that leave the vertex, in the order of their ids.
	Outputs []Output
}

// Member is one operator of a chain.
type Member struct {
	Node *Node
	// UID and Name are the node's, or the ones that the plan gave it.
	UID  string
	Name string
	// Parent is the index of the member that feeds this one through Edge, -1
	// for the first.
	Parent int
	Edge   *Edge
}

// Input is an edge that reaches the first member of a vertex from another.
type Input struct {
	// ID is the edge's in the exchange.Topology of the job graph.
	ID   int
	Edge *Edge
	// From is the index of the sending vertex, FromMember of the operator in
	// it.
	From       int
	FromMember int
	// Ship is the edge's, or rebalance where forward cannot be.
	Ship pb.Ship
}

// Output is the other end of an Input.
type Output struct {
	ID     int
	Edge   *Edge
	Member int
	// To is the index of the receiving vertex.
	To   int
	Ship pb.Ship
}

// place is where a member of the graph ended up.
type place struct {
	vertex *Vertex
	member int
}

// chain groups the nodes into vertices. Nodes are in topological order, and so
// are the first nodes of vertices: every input of a vertex comes from an
// earlier one.
func chain(r *resolved) []*Vertex {
	var vertices []*Vertex
	places := make(map[*Node]place, len(r.nodes))
	for _, m := range r.nodes {
		if joins(r, m) {
			e := m.inputs[0].edge
			p := places[e.From]
			places[m.node] = place{p.vertex, len(p.vertex.Members)}
			p.vertex.Members = append(p.vertex.Members, Member{Node: m.node, UID: m.uid, Name: m.name, Parent: p.member, Edge: e})
			p.vertex.Name += " -> " + m.name
			continue
		}
		v := &Vertex{
			Index: len(vertices), ID: vertexID(m.uid), Name: m.name,
			Parallelism: m.parallelism, MaxParallelism: m.maxParallelism,
			Members: []Member{{Node: m.node, UID: m.uid, Name: m.name, Parent: -1}},
		}
		for _, in := range m.inputs {
			p := places[in.edge.From]
			v.Inputs = append(v.Inputs, Input{Edge: in.edge, From: p.vertex.Index, FromMember: p.member, Ship: in.ship})
		}
		places[m.node] = place{v, 0}
		vertices = append(vertices, v)
	}
	id := 0
	for _, v := range vertices {
		for i := range v.Inputs {
			in := &v.Inputs[i]
			in.ID = id
			id++
			from := vertices[in.From]
			from.Outputs = append(from.Outputs, Output{ID: in.ID, Edge: in.Edge, Member: in.FromMember, To: v.Index, Ship: in.Ship})
		}
	}
	return vertices
}

// joins says whether a node runs in the vertex of its input.
func joins(r *resolved, m *member) bool {
	if len(m.inputs) != 1 || m.node.NoChain {
		return false
	}
	in := m.inputs[0]
	from := r.index[in.edge.From]
	return in.ship == pb.Ship_SHIP_FORWARD && from.parallelism == m.parallelism && from.maxParallelism == m.maxParallelism
}
