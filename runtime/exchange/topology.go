package exchange

import (
	"fmt"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Edge is an edge of the job graph between two vertices. Every worker derives
// the same ids and channel numbers from the same graph.
type Edge struct {
	// ID counts the edges vertex by vertex, input by input.
	ID int
	// From and To are indexes of vertices.
	From, To int
	// FromOperator and Tag name the output in the sending vertex, Port the
	// input of the receiving one.
	FromOperator int
	Tag          string
	Port         int
	Ship         pb.Ship
	// Updates says that batches may have an Ops column.
	Updates bool
	// Senders and Receivers are the parallelisms of the two ends.
	Senders, Receivers int
	// KeyGroups of the receiver.
	KeyGroups int

	firstChannel uint32
}

// Channel is the number of the channel from one subtask to another.
func (e *Edge) Channel(sender, receiver int) uint32 {
	return e.firstChannel + uint32(receiver*e.Senders+sender)
}

// Reaches says whether a sending subtask has a channel to a receiving one.
func (e *Edge) Reaches(sender, receiver int) bool {
	return e.Ship != pb.Ship_SHIP_FORWARD || sender == receiver
}

// overtaken says whether barriers may overtake records on the edge.
func (e *Edge) overtaken() bool {
	return (e.Ship == pb.Ship_SHIP_HASH || e.Ship == pb.Ship_SHIP_REBALANCE) && !e.pinned()
}

// pinned says that each sender sends all to one receiver, where others spread
// records: a row that goes must not overtake the one that came.
func (e *Edge) pinned() bool { return e.Ship == pb.Ship_SHIP_REBALANCE && e.Updates }

// Topology is the edges of a job graph, numbered.
type Topology struct {
	Edges []Edge
	// channels is one more than the greatest channel number.
	channels uint32
}

// NewTopology numbers the edges and channels of a graph.
func NewTopology(g *pb.JobGraph) (*Topology, error) {
	index := make(map[string]int, len(g.GetVertices()))
	for i, v := range g.GetVertices() {
		index[v.GetId()] = i
	}
	t := &Topology{}
	var channels uint64
	for to, v := range g.GetVertices() {
		for _, in := range v.GetInputs() {
			from, ok := index[in.GetFromVertex()]
			if !ok {
				return nil, fmt.Errorf("vertex %s (%s): input from vertex %s, which the graph does not have", v.GetId(), v.GetName(), in.GetFromVertex())
			}
			e := Edge{
				ID: len(t.Edges), From: from, To: to,
				FromOperator: int(in.GetFromOperator()), Tag: in.GetTag(), Port: int(in.GetPort()), Ship: in.GetShip(),
				Updates: in.GetUpdates(),
				Senders: int(g.GetVertices()[from].GetParallelism()), Receivers: int(v.GetParallelism()),
				KeyGroups:    int(v.GetMaxParallelism()),
				firstChannel: uint32(channels),
			}
			if e.Ship == pb.Ship_SHIP_FORWARD && e.Senders != e.Receivers {
				return nil, fmt.Errorf("vertex %s (%s): forward input of %d subtasks into %d", v.GetId(), v.GetName(), e.Senders, e.Receivers)
			}
			channels += uint64(e.Senders) * uint64(e.Receivers)
			if channels > 1<<31 {
				return nil, fmt.Errorf("job graph %s has more than %d channels: lower the parallelism", g.GetName(), 1<<31)
			}
			t.Edges = append(t.Edges, e)
		}
	}
	t.channels = uint32(channels)
	return t, nil
}

// overtaken counts the channels on which barriers may overtake records.
func (t *Topology) overtaken() (channels int) {
	for i := range t.Edges {
		if e := &t.Edges[i]; e.overtaken() {
			channels += e.Senders * e.Receivers
		}
	}
	return channels
}

// Inputs returns the edges that reach one input of a vertex.
func (t *Topology) Inputs(vertex, port int) []*Edge {
	var in []*Edge
	for i := range t.Edges {
		if e := &t.Edges[i]; e.To == vertex && e.Port == port {
			in = append(in, e)
		}
	}
	return in
}

// Outputs returns the edges that leave a vertex.
func (t *Topology) Outputs(vertex int) []*Edge {
	var out []*Edge
	for i := range t.Edges {
		if e := &t.Edges[i]; e.From == vertex {
			out = append(out, e)
		}
	}
	return out
}
