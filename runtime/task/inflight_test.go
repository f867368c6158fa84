package task

import (
	"testing"

	"github.com/millrace/millrace/runtime/operator"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// An operator that is chained now never looks at what was in flight to it: that
// must be an error, not a loss.
func TestRecordsInFlightToAChainedOperator(t *testing.T) {
	entries := []*pb.OperatorEntry{{Kind: operator.KindWatermark, Key: operator.KeyInput}}
	if err := refuseFlights(entries); err != nil {
		t.Errorf("nothing in flight: %v", err)
	}
	if err := refuseFlights(append(entries, &pb.OperatorEntry{Kind: operator.KindInFlight, Key: "0"})); err == nil {
		t.Error("records in flight to a chained operator are left out without a word")
	}
}
