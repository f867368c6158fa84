// Package graph is the operator graph that a job's build function makes, with
// the closures that only the job's own binary has. Plan turns it into the
// proto JobGraph (chained, hashed, without code); a worker builds the same
// graph again and takes operators from it.
package graph

import (
	"github.com/millrace/millrace/runtime/exchange"
	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// Graph is one job. It is built by one goroutine and read-only afterwards.
type Graph struct {
	Name   string
	Config *pb.JobConfig
	// MaxParallelism is the number of key groups of nodes that set none.
	MaxParallelism int
	Nodes          []*Node
	Warnings       []string
}

// Node is one operator.
type Node struct {
	// UID maps state to the operator; it is unique in the graph.
	UID  string
	Name string
	Kind string
	// Parallelism and MaxParallelism are the job's defaults where 0.
	Parallelism    int
	MaxParallelism int
	// NoChain starts a new vertex at this operator.
	NoChain bool
	Inputs  []*Edge
	States  []*pb.StateDecl
	Source  bool
	Bounded bool
	// Transactional is set for sinks of two phases.
	Transactional bool
	// New makes the operator of one subtask.
	New func() operator.Operator
	// Roles gives a worker the parts of a source or sink that run once a
	// job, not once a subtask; nil elsewhere.
	Roles any
}

// Edge is an input of a node: it takes one output of another.
type Edge struct {
	From *Node
	Tag  string
	// Port is the input of the receiving operator.
	Port int
	Ship pb.Ship
	// Type is the record type that travels here.
	Type exchange.Type
	// Updates says that rows of an update stream travel here, with an Ops column.
	Updates bool
	// Key fills the hash column, a func(*batch.Batch[T]), for SHIP_HASH; it
	// chooses the subtask of a record among some, a func(T, int) int, for
	// SHIP_CUSTOM; else nil.
	Key any
}
