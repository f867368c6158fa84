package task

import (
	"fmt"
	"strconv"

	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// flights are the entries of the records that barriers have overtaken, by
// port.
func (t *Task) flights() []*pb.OperatorEntry {
	var out []*pb.OperatorEntry
	for _, g := range t.gates {
		for _, f := range g.InFlight() {
			out = append(out, &pb.OperatorEntry{Kind: operator.KindInFlight, Key: strconv.Itoa(g.Port()), Value: f})
		}
	}
	return out
}

// resumeFlights gives the gates what was in flight when the checkpoint was
// taken.
func (t *Task) resumeFlights(entries []*pb.OperatorEntry) error {
	byPort := make(map[string][][]byte)
	for _, e := range entries {
		if e.GetKind() == operator.KindInFlight {
			byPort[e.GetKey()] = append(byPort[e.GetKey()], e.GetValue())
		}
	}
	for _, g := range t.gates {
		port := strconv.Itoa(g.Port())
		if err := g.Resume(byPort[port]); err != nil {
			return err
		}
		delete(byPort, port)
	}
	for port, flights := range byPort {
		return fmt.Errorf("the checkpoint has %d batches of records in flight to input %s, which the operator does not have: "+
			"keep the input, or take a savepoint with stop, which waits for them", len(flights), port)
	}
	return nil
}

// refuseFlights is an error where a checkpoint has records in flight to an
// operator that takes none from an edge: in the version of the job that wrote them
// it began a chain.
func refuseFlights(entries []*pb.OperatorEntry) error {
	for _, e := range entries {
		if e.GetKind() == operator.KindInFlight {
			return fmt.Errorf("the checkpoint has records in flight to the operator, which began a chain then and does not now: " +
				"keep what comes before it as it was, or take a savepoint with stop, which waits for them")
		}
	}
	return nil
}
