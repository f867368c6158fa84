package sdk

import (
	"errors"

	pb "github.com/millrace/millrace/proto/millrace/v1"
)

// PartitionBy gives each record to the subtask of the next operator that f chooses
// among n: an index from 0 to n-1; any other fails the job, and the error names the
// operators. f must depend on its arguments alone, and is called by several
// goroutines at once. n changes when the job is rescaled, so what a subtask keeps
// must not rely on who gets which record: KeyBy is for state. Records from one
// subtask to another stay in order.
func (s DataStream[T]) PartitionBy(f func(v T, n int) int) DataStream[T] {
	if f == nil {
		s.env.fail(errors.New("PartitionBy: its function is nil"))
	}
	s.ship, s.stamp, s.partition = pb.Ship_SHIP_CUSTOM, nil, f
	return s
}
