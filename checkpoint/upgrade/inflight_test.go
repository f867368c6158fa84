package upgrade

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/checkpoint"
	"github.com/millrace/millrace/checkpoint/inflight"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// fed is theJob with an input of sum.
func fed(ship pb.Ship, record string) *pb.JobGraph {
	g := theJob()
	g.Vertices[1].Inputs = []*pb.Input{{FromVertex: "v1", Ship: ship, RecordSchema: record}}
	return g
}

// withFlights is its savepoint with records in flight to an operator.
func withFlights(uid, port string, flags inflight.Flags, record string) *pb.Manifest {
	m := itsSavepoint()
	m.Graph = fed(pb.Ship_SHIP_HASH, record)
	r := inflight.Records{Flags: flags, Subtask: 1, Parallelism: 2, Schema: record}
	e := &pb.OperatorEntry{Kind: checkpoint.EntryInFlight, Key: port, Value: append(r.AppendHeader(nil), 0, 0, 0, 0)}
	m.Operators = append(m.Operators, &pb.OperatorSnapshot{Uid: uid, Subtask: 2, MaxParallelism: 128, Entries: []*pb.OperatorEntry{e, e}})
	return m
}

// What a new version cannot take up of what is in flight is refused before
// anything stops, and said as the worker would.
func TestRecordsInFlight(t *testing.T) {
	const record = "{Airport string,Delay int32}"
	now := func(change func(*pb.JobGraph)) *pb.JobGraph {
		g := fed(pb.Ship_SHIP_HASH, record)
		change(g)
		return g
	}
	sum := func(g *pb.JobGraph) *pb.Vertex { return g.Vertices[1] }
	for name, c := range map[string]struct {
		old  *pb.Manifest
		now  *pb.JobGraph
		says string // empty for what fits
	}{
		"the same": {withFlights("sum", "0", inflight.Hashed, record), now(func(*pb.JobGraph) {}), ""},
		"a field more, one wider": {withFlights("sum", "0", inflight.Hashed, record),
			fed(pb.Ship_SHIP_HASH, "{Airport string,Delay int64,At time}"), ""},
		"another type": {withFlights("sum", "0", inflight.Hashed, record),
			fed(pb.Ship_SHIP_HASH, "{Airport string,Delay string}"), "Delay was int32 and is string"},
		"no such input": {withFlights("sum", "1", inflight.Hashed, record), now(func(*pb.JobGraph) {}), "input 1, which it does not have"},
		"another key":   {withFlights("sum", "0", inflight.Hashed, record), fed(pb.Ship_SHIP_REBALANCE, record), "were partitioned by key"},
		"updates":       {withFlights("sum", "0", inflight.Hashed|inflight.Updates, record), fed(pb.Ship_SHIP_HASH, record), "were updates partitioned by key"},
		"keyed now":     {withFlights("sum", "0", 0, record), now(func(*pb.JobGraph) {}), "were spread"},
		"once each now": {withFlights("sum", "0", inflight.Broadcast, record), fed(pb.Ship_SHIP_FORWARD, record), "were broadcast"},
		"chained now":   {withFlights("write", "0", 0, record), now(func(*pb.JobGraph) {}), "chained"},
		"chained to the source": {withFlights("sum", "0", inflight.Hashed, record), now(func(g *pb.JobGraph) {
			g.Vertices[0].Operators = append(g.Vertices[0].Operators, sum(g).Operators...)
			g.Vertices = g.Vertices[:1]
		}), "chained"},
		"two inputs in one": {withFlights("sum", "0", 0, record), now(func(g *pb.JobGraph) {
			sum(g).Inputs = append(sum(g).Inputs, &pb.Input{FromVertex: "v1", Ship: pb.Ship_SHIP_FORWARD, RecordSchema: record})
		}), ""},
	} {
		r, err := Compare(Old{Graph: c.old.Graph, Manifest: c.old}, c.now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var refused *Refusal
		switch err := r.Check(true); {
		case c.says == "" && err != nil, c.says != "" && !errors.As(err, &refused):
			t.Errorf("%s: %v", name, err)
		case refused != nil && (refused.Verdict != Incompatible || !strings.Contains(refused.Text, c.says)):
			t.Errorf("%s: %v, want a refusal that says %q", name, refused, c.says)
		}
		// The savepoint with which a job stops has none of them.
		if r, err = Compare(Old{Graph: c.old.Graph, Manifest: c.old, Running: true}, c.now); err != nil || c.says != "" && strings.Contains(text(r.Check(true)), "in flight") {
			t.Errorf("%s, of a job that goes on: %v, %v", name, err, r.Check(true))
		}
	}
	broken := withFlights("sum", "0", inflight.Hashed, record)
	broken.Operators[len(broken.Operators)-1].Entries[0].Value = []byte{9}
	if _, err := Compare(Old{Graph: broken.Graph, Manifest: broken}, theJob()); !errors.Is(err, inflight.ErrCorrupt) || !strings.Contains(err.Error(), `"sum", subtask 2`) {
		t.Errorf("records that cannot be read: %v", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
