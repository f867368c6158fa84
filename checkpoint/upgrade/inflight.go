package upgrade

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inflight"
	"github.com/millrace/millrace/checkpoint/schema"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// This chapter judges records in flight: those that a barrier has overtaken,
// which an operator takes in first of all after a restore. Only a job that goes
// on has none for its new version, for the savepoint with which it stops waits for
// them.

// flight is a kind of records in flight to an operator.
type flight struct {
	port   string
	flags  inflight.Flags
	schema string
}

// flightsOf are the kinds of records in flight to each operator, in the order in
// which they come.
func flightsOf(m *pb.Manifest) (map[string][]flight, error) {
	all := map[string][]flight{}
	seen := map[string]map[flight]bool{}
	for _, s := range m.GetOperators() {
		for _, e := range s.GetEntries() {
			if e.GetKind() != checkpoint.EntryInFlight {
				continue
			}
			r, err := inflight.Parse(e.GetValue())
			if err != nil {
				return nil, fmt.Errorf("operator %q, subtask %d: input %s: %w", s.GetUid(), s.GetSubtask(), e.GetKey(), err)
			}
			f := flight{e.GetKey(), r.Flags, r.Schema}
			if seen[s.GetUid()] == nil {
				seen[s.GetUid()] = map[flight]bool{}
			}
			if !seen[s.GetUid()][f] {
				seen[s.GetUid()][f] = true
				all[s.GetUid()] = append(all[s.GetUid()], f)
			}
		}
	}
	return all, nil
}

// stop is what gives a savepoint without records in flight.
const stop = "a savepoint that stop takes has no records in flight"

// refuse says why an operator of the new version cannot take records up, "" if it
// can. It is what the worker that restores them would say.
func (f *flight) refuse(now placed) (string, error) {
	if len(now.inputs) == 0 || now.vertex.GetOperators()[0] != now.Operator {
		return fmt.Sprintf("records are in flight to its input %s, and in the new version it takes none from an edge, "+
			"as it is chained to what comes before it: keep that as it was; %s", f.port, stop), nil
	}
	var here, alike []*pb.Input
	for _, in := range now.inputs {
		if strconv.FormatUint(uint64(in.GetPort()), 10) != f.port {
			continue
		}
		here = append(here, in)
		if inflight.FlagsOf(in.GetShip(), in.GetUpdates()) == f.flags {
			alike = append(alike, in)
		}
	}
	switch {
	case len(here) == 0:
		return fmt.Sprintf("records are in flight to its input %s, which it does not have: keep the input; %s", f.port, stop), nil
	case len(alike) == 0:
		return fmt.Sprintf("records are in flight to its input %s that were %s, and it takes none that are: keep how it is partitioned and whether it is a stream of updates; %s", f.port, f.flags, stop), nil
	}
	changes, err := schema.Diff(f.schema, alike[0].GetRecordSchema())
	if err != nil {
		return "", fmt.Errorf("records in flight to input %s: %w", f.port, err)
	}
	var differs []string
	for _, c := range changes {
		if c.What == schema.Differs {
			differs = append(differs, c.String())
		}
	}
	if len(differs) == 0 {
		return "", nil
	}
	return fmt.Sprintf("records are in flight to its input %s of another type: %s; fields can be added, removed, renamed by tag and numbers widened, nothing else: "+
		"keep the former type; %s", f.port, strings.Join(differs, ", "), stop), nil
}
