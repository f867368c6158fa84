package graph

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// MaxName is the longest name or uid in bytes.
const MaxName = 256

// Plan checks the graph and returns it as the job graph that the job manager
// knows: chained, named and hashed, without code. Nodes without a parallelism
// of their own get defaultParallelism, or the job's own default where that is 0.
// The same graph gives the same plan, byte for byte. An error names the operator and what to do about it.
func Plan(g *Graph, defaultParallelism int) (*pb.JobGraph, error) {
	vertices, err := Chains(g, defaultParallelism)
	if err != nil {
		return nil, err
	}
	out := &pb.JobGraph{Name: g.Name, Config: config(g, defaultParallelism)}
	for _, v := range vertices {
		out.Vertices = append(out.Vertices, describe(v, vertices))
	}
	if out.PlanHash, err = Hash(out); err != nil {
		return nil, err
	}
	out.Warnings = append(append([]string(nil), g.Warnings...), warnings(vertices)...)
	return out, nil
}

// Hash is the plan hash of a job graph: what a worker compares before it
// deploys. It leaves out the plan_hash and the warnings of the graph.
func Hash(g *pb.JobGraph) ([]byte, error) {
	bare := proto.CloneOf(g)
	bare.PlanHash, bare.Warnings = nil, nil
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return nil, fmt.Errorf("plan hash of %s: %w", g.GetName(), err)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

// Chains checks the graph and returns its vertices, as a worker instantiates
// them. With the same arguments it agrees with Plan.
func Chains(g *Graph, defaultParallelism int) ([]*Vertex, error) {
	r, err := resolve(g, defaultParallelism)
	if err != nil {
		return nil, err
	}
	return chain(r), nil
}

// vertexID derives a vertex's id from the uid of its first operator.
func vertexID(uid string) string {
	sum := sha256.Sum256([]byte("millrace-vertex\x00" + uid))
	return hex.EncodeToString(sum[:16])
}

func config(g *Graph, defaultParallelism int) *pb.JobConfig {
	c := &pb.JobConfig{}
	if g.Config != nil {
		c = proto.CloneOf(g.Config)
	}
	c.DefaultParallelism = uint32(g.parallelism(defaultParallelism))
	return c
}

// parallelism is that of nodes that set none: what is asked for, else the job's
// own default, else 1.
func (g *Graph) parallelism(asked int) int {
	return max(1, cmp.Or(asked, int(g.Config.GetDefaultParallelism())))
}

func describe(v *Vertex, vertices []*Vertex) *pb.Vertex {
	out := &pb.Vertex{
		Id: v.ID, Name: v.Name,
		Parallelism: uint32(v.Parallelism), MaxParallelism: uint32(v.MaxParallelism),
	}
	for _, m := range v.Members {
		n := m.Node
		o := &pb.Operator{
			Uid: m.UID, Name: m.Name, Kind: n.Kind,
			Source: n.Source, TransactionalSink: n.Transactional, Bounded: n.Bounded,
		}
		for _, s := range n.States {
			o.States = append(o.States, proto.CloneOf(s))
		}
		out.Operators = append(out.Operators, o)
	}
	for _, in := range v.Inputs {
		out.Inputs = append(out.Inputs, &pb.Input{
			FromVertex: vertices[in.From].ID, FromOperator: uint32(in.FromMember), Tag: in.Edge.Tag,
			Ship: in.Ship, RecordSchema: in.Edge.Type.Schema(), Port: uint32(in.Edge.Port), Updates: in.Edge.Updates,
		})
	}
	return out
}

// warnings are for people; each names its operator.
func warnings(vertices []*Vertex) []string {
	var out []string
	for _, v := range vertices {
		for i, m := range v.Members {
			if m.Name == m.UID && m.Node.UID == "" && m.Node.Name == "" && (m.Node.Source || m.Node.Transactional) {
				out = append(out, fmt.Sprintf("%s keeps state and has no name of its own: give it one, or its state may be lost when the job changes", m.Name))
			}
			if !v.feeds(i) && !m.Node.Transactional && m.Node.Kind != "Sink" {
				out = append(out, fmt.Sprintf("%s: nothing receives its records", m.Name))
			}
		}
	}
	return out
}

func (v *Vertex) feeds(member int) bool {
	for _, m := range v.Members {
		if m.Parent == member {
			return true
		}
	}
	for _, o := range v.Outputs {
		if o.Member == member {
			return true
		}
	}
	return false
}
